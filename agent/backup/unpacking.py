"""An archive back into an empty folder. What it says is not trusted: nothing of it can reach outside that folder.

Every step on the way to an entry is opened by itself and follows no link, so that neither names nor links of the
archive lead anywhere else, whatever they say. Links may point anywhere: they are the workspace's own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from agent.backup.packing import LEFT_OUT, Count
from agent.backup.parts import Joiner
from agent.backup.registry import damaged
from agent.problems import Problem

_BLOCK = 1024 * 1024
# Holes are made of whole blocks of zeros, as file systems keep them.
_HOLE = 64 * 1024
_ZEROS = bytes(_HOLE)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


def is_empty(root: Path) -> bool:
    """Whether nothing but the storage's own is in there."""
    return not set(os.listdir(root)) - LEFT_OUT  # noqa: PTH208 - names are all that is wanted.


def clear(root: Path) -> None:
    """Remove everything but the storage's own, however deep, and whatever its modes say."""
    stack = [(os.open(root, _FOLDER), "", iter(set(os.listdir(root)) - LEFT_OUT))]  # noqa: PTH208
    while stack:
        folder, _, names = stack[-1]
        name = next(names, None)
        if name is None:
            _, path, _ = stack.pop()
            os.close(folder)
            if stack:
                os.rmdir(path, dir_fd=stack[-1][0])
        elif stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            os.chmod(name, 0o700, dir_fd=folder)
            below = os.open(name, _FOLDER, dir_fd=folder)
            stack.append((below, name, iter(os.listdir(below))))  # noqa: PTH208
        else:
            os.unlink(name, dir_fd=folder)


def unpack(source: Joiner, root: Path) -> Count:
    """Unpack an archive into a folder that is empty.

    Raises:
        Problem: it is no whole archive, names what is outside, or does not fit on the disk.
    """
    count = Count()
    folders = _Folders(root)
    try:
        with contextlib.closing(folders), _archive(source) as tar:
            while (info := tar.next()) is not None:
                # The library remembers every entry, and a workspace may have millions.
                tar.members.clear()  # type: ignore[attr-defined]
                with _writing():
                    _entry(tar, info, folders)
                count.entries += 1
                count.size += info.size if info.isreg() else 0
    except tarfile.TarError as error:
        raise damaged(f"the archive cannot be read ({error})") from error
    if source.read(1):
        raise damaged("there is something behind the archive's end")
    return count


@contextmanager
def _archive(source: Joiner) -> Iterator[tarfile.TarFile]:
    stream = cast("IO[bytes]", source)
    with tarfile.open(
        fileobj=stream, mode="r|", bufsize=_BLOCK, encoding="utf-8", errors="surrogateescape", errorlevel=2
    ) as tar:
        yield tar


def _entry(tar: tarfile.TarFile, info: tarfile.TarInfo, folders: _Folders) -> None:
    *above, name = _steps(info.name)
    folder = folders.enter(above)
    time = _time(info)
    mode = stat.S_IMODE(info.mode)
    if info.isdir():
        os.mkdir(name, 0o700, dir_fd=folder)
        folders.enter([*above, name], leave=(mode, time))
    elif info.issym():
        os.symlink(info.linkname, name, dir_fd=folder)
        os.utime(name, ns=(time, time), dir_fd=folder, follow_symlinks=False)
    elif info.islnk():
        *way, target = _steps(info.linkname)
        with folders.look(way) as source:
            os.link(target, name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
    elif info.isreg():
        with os.fdopen(os.open(name, _NEW, 0o600, dir_fd=folder), "wb", buffering=0) as file:
            _content(cast("IO[bytes]", tar.extractfile(info)), file.fileno(), info.size)
            os.fchmod(file.fileno(), mode)
            os.utime(file.fileno(), ns=(time, time))
    else:
        raise damaged("there is something in it that no backup holds")


class _Folders:
    """The way from the root to where entries are made, a descriptor for each step.

    Modes and times of folders are set when they are left: before that, making entries would change or forbid it.
    """

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, _FOLDER)
        self._way: list[tuple[str, int, tuple[int, int] | None]] = []

    def enter(self, way: list[str], leave: tuple[int, int] | None = None) -> int:
        """A descriptor of the folder; it stays open until another way is taken.

        Args:
            way: names of folders that are there.
            leave: mode and time (nanoseconds) of the last one, to be set in the end.
        """
        same = 0
        while same < min(len(way), len(self._way)) and self._way[same][0] == way[same]:
            same += 1
        self._leave(same)
        for name in way[same:]:
            here = self._way[-1][1] if self._way else self._root
            self._way.append((name, os.open(name, _FOLDER, dir_fd=here), None))
        if leave is not None:
            name, descriptor, _ = self._way[-1]
            self._way[-1] = (name, descriptor, leave)
        return self._way[-1][1] if self._way else self._root

    @contextmanager
    def look(self, way: list[str]) -> Iterator[int]:
        """A descriptor of a folder elsewhere, for a moment."""
        found = os.dup(self._root)
        try:
            for name in way:
                below = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=found)
                os.close(found)
                found = below
            yield found
        finally:
            os.close(found)

    def close(self) -> None:
        """Leave all folders."""
        self._leave(0)
        os.close(self._root)

    def _leave(self, keep: int) -> None:
        while len(self._way) > keep:
            _, descriptor, leave = self._way.pop()
            if leave is not None:
                mode, time = leave
                os.fchmod(descriptor, mode)
                os.utime(descriptor, ns=(time, time))
            os.close(descriptor)


def _steps(path: str) -> list[str]:
    """A path's parts, each a name and nothing else."""
    steps = path.rstrip("/").split("/")
    if any(step in {"", ".", ".."} or "\0" in step for step in steps) or steps[0] in LEFT_OUT:
        raise damaged("it names something outside of the workspace")
    return steps


def _time(info: tarfile.TarInfo) -> int:
    """Nanoseconds; exactly where the archive says so."""
    seconds, _, fraction = info.pax_headers.get("mtime", "").partition(".")
    if seconds.isascii() and seconds.isdigit() and (fraction.isdigit() or not fraction) and len(seconds) < 12:
        return int(seconds) * 1_000_000_000 + int(fraction[:9].ljust(9, "0"))
    return int(info.mtime) * 1_000_000_000


def _content(source: IO[bytes], target: int, size: int) -> None:
    """Copy a file's content; long runs of zeros become holes."""
    done = 0
    while done < size:
        block = source.read(min(_HOLE, size - done))
        if not block:
            raise damaged("a file in it ends too early")
        if block != _ZEROS[: len(block)]:
            _write(target, block, done)
        done += len(block)
    os.ftruncate(target, size)


def _write(target: int, block: bytes, offset: int) -> None:
    written = 0
    while written < len(block):
        written += os.pwrite(target, block[written:], offset + written)


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise Problem(
                "disk_full",
                "The workspace's storage is too small for what is in the backup.",
                "Ask the operator for larger volumes, and try again.",
            ) from error
        raise damaged(f"an entry cannot be made ({error.strerror})") from error
