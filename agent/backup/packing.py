"""A folder as a tar archive, written from beginning to end in bounded memory.

Kept: names of any bytes, content, modes, times to the nanosecond, symbolic and hard links. Not kept: owners (all of a
workspace's files are its user's), extended attributes and access control lists; sockets, pipes and devices.
https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13_03
"""

from __future__ import annotations

import dataclasses
import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from agent.backup.parts import Cutter
from agent.problems import Problem

LEFT_OUT = frozenset({"lost+found", ".slipway-restore"})
"""What the storage and a restore keep at the root of a volume."""

_BLOCK = 1024 * 1024
_TYPES = ((stat.S_ISDIR, tarfile.DIRTYPE), (stat.S_ISREG, tarfile.REGTYPE), (stat.S_ISLNK, tarfile.SYMTYPE))


@dataclasses.dataclass(slots=True)
class Count:
    """What an archive holds.

    Attributes:
        entries: files, folders and links.
        size: bytes of the files' content.
        skipped: sockets, pipes and devices, which are not in it.
    """

    entries: int = 0
    size: int = 0
    skipped: int = 0


def pack(root: Path, target: Cutter) -> Count:
    """Write all below a folder; the same files make the same bytes. Links are never followed.

    Raises:
        Problem: something cannot be read, or changed meanwhile. An archive is of everything, or there is none.
    """
    packer = _Packer(target)
    with _reading("."):
        top = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        packer.folder(top)
    finally:
        os.close(top)
    packer.end()
    return packer.count


class _Packer:
    def __init__(self, target: Cutter) -> None:
        self.count = Count()
        # Stream mode: never seeks, and so needs only a `write`.
        self._tar = tarfile.open(  # noqa: SIM115 - closed by `end`, and only where the archive is whole.
            fileobj=cast("IO[bytes]", target),
            mode="w|",
            format=tarfile.PAX_FORMAT,
            encoding="utf-8",
            errors="surrogateescape",
            bufsize=_BLOCK,
        )
        self._tar.copybufsize = _BLOCK  # type: ignore[attr-defined]
        self._target = target
        # Of files with several names: the first, until all of them were met.
        self._names: dict[tuple[int, int], tuple[str, int]] = {}

    def end(self) -> None:
        self._tar.close()
        self._target.end()

    def folder(self, top: int) -> None:
        """All below an open folder, depth first. One descriptor for each level, so that no path is ever too long."""
        # The root itself is the storage's, not the workspace's.
        stack: list[tuple[int, str, Iterator[str]]] = [(top, "", iter(sorted(set(_names(top, ".")) - LEFT_OUT)))]
        try:
            while stack:
                above, path, names = stack[-1]
                name = next(names, None)
                if name is None:
                    _leave(stack)
                elif (below := self._entry(above, name, f"{path}{name}")) is not None:
                    stack.append((below, f"{path}{name}/", iter(sorted(_names(below, f"{path}{name}")))))
        finally:
            while stack:
                _leave(stack)

    def _entry(self, above: int, name: str, path: str) -> int | None:
        """One entry; a descriptor if it is a folder."""
        with _reading(path):
            found = os.stat(name, dir_fd=above, follow_symlinks=False)
            kind = next((kind for is_kind, kind in _TYPES if is_kind(found.st_mode)), None)
            if kind is None:
                self.count.skipped += 1
                return None
            info = _info(path, kind, found)
            if kind == tarfile.SYMTYPE:
                info.linkname = os.readlink(name, dir_fd=above)
            if kind == tarfile.REGTYPE:
                self._file(above, name, info, found)
                return None
            self._add(info)
            if kind == tarfile.DIRTYPE:
                return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
        return None

    def _file(self, above: int, name: str, info: tarfile.TarInfo, found: os.stat_result) -> None:
        if first := self._first_name(info.name, found):
            info.type, info.linkname = tarfile.LNKTYPE, first
            self._add(info)
            return
        # Not blocking: what was a file a moment ago may be a pipe now.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        with os.fdopen(os.open(name, flags, dir_fd=above), "rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            info.size = before.st_size
            try:
                self._tar.addfile(info, file)
            except OSError as error:
                if error.errno is not None:
                    raise
                raise _changed(info.name) from error
            after = os.fstat(file.fileno())
        self._tar.members.clear()  # type: ignore[attr-defined]
        if _moment(before) != _moment(after) or _moment(before) != _moment(found):
            raise _changed(info.name)
        self.count.entries += 1
        self.count.size += info.size

    def _first_name(self, path: str, found: os.stat_result) -> str:
        if found.st_nlink < 2:
            return ""
        inode = (found.st_dev, found.st_ino)
        first, left = self._names.pop(inode, ("", found.st_nlink))
        if left > 1:
            self._names[inode] = (first or path, left - 1)
        return first

    def _add(self, info: tarfile.TarInfo) -> None:
        self._tar.addfile(info)
        # The library remembers every entry, and a workspace may have millions.
        self._tar.members.clear()  # type: ignore[attr-defined]
        self.count.entries += 1


def _info(path: str, kind: bytes, found: os.stat_result) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    seconds, nanoseconds = divmod(found.st_mtime_ns, 1_000_000_000)
    info.type, info.mode, info.mtime = kind, stat.S_IMODE(found.st_mode), seconds
    if seconds >= 0:
        # As text: a float loses the nanoseconds.
        info.pax_headers = {"mtime": f"{seconds}.{nanoseconds:09d}"}
    return info


def _names(folder: int, path: str) -> list[str]:
    with _reading(path):
        return os.listdir(folder)


def _leave(stack: list[tuple[int, str, Iterator[str]]]) -> None:
    descriptor, path, _ = stack.pop()
    if path:
        os.close(descriptor)


def _moment(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns


@contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        shown = path.encode("utf-8", "replace").decode()[-300:]
        raise Problem(
            "volume_unreadable",
            f"“{shown}” cannot be read ({error.strerror}), so there would be a gap in the backup.",
            "Make it readable for its owner, or remove it, and try again.",
        ) from error


def _changed(path: str) -> Problem:
    shown = path.encode("utf-8", "replace").decode()[-300:]
    return Problem("volume_changed", f"“{shown}” changed while it was read.", "Stop the workspace, and try again.",
                   temporary=True)  # fmt: skip
