"""Small files that survive a crash at any instant, locks that survive nothing, and deletion that follows no link."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import stat
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class UnreadableError(Exception):
    """A state file is there but does not hold what it should."""


def write_json(path: Path, document: Mapping[str, Any], *, mode: int = 0o600) -> None:
    """Replace `path` as a whole and durably: a reader sees the old document or the new one, also after a power cut."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(document, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def read_json(path: Path) -> dict[str, Any] | None:
    """The document in `path`, or None where there is no such file.

    Raises:
        UnreadableError: it is not a JSON object, or it cannot be opened.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UnreadableError(f"{path.name}: {error}") from error
    if not isinstance(document, dict):
        raise UnreadableError(f"{path.name}: not an object")
    return document


def sync_folder(folder: Path) -> None:
    """Make renames and deletions inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the exclusive lock on `path`, against other threads as well as other processes.

    The file is never deleted: a lock on a deleted file would exclude nobody.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


# struct flock of fcntl(2): type, whence, start, length, pid.
_FLOCK = "hhqqi4x"


def try_life_lock(path: Path) -> int | None:
    """Take the lock that tells a supervisor lives; returns the descriptor holding it, or None when one lives.

    An open file description lock (fcntl(2)) is inherited by a child with the descriptor, so it passes from the
    starter to the supervisor with no instant at which nobody holds it, and the kernel frees it at death.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except (BlockingIOError, PermissionError):
        os.close(descriptor)
        return None
    return descriptor


def life_lock_held(path: Path) -> bool:
    """Whether somebody holds the life lock; only asks, so a look never disturbs a start."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, question))
    finally:
        os.close(descriptor)
    return bool(answer[0] != fcntl.F_UNLCK)


def remove_tree(path: Path) -> None:
    """Delete `path` with all in it, following no symbolic link; already gone is fine.

    Folders which their owner made unreadable are opened up first. Nothing may be running in there.
    """
    if path.is_symlink():
        path.unlink()
        return
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        if path.exists():
            raise
    except PermissionError:
        _open_up(path)
        shutil.rmtree(path)


def _open_up(path: Path) -> None:
    path.chmod(0o700)
    for _, folders, _, descriptor in os.fwalk(path):
        for name in folders:
            if stat.S_ISDIR(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                os.chmod(name, 0o700, dir_fd=descriptor)


def read_tail(path: Path, limit: int) -> bytes:
    """The last `limit` bytes of a file, starting at a whole line where it was cut; empty when there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit))
            text = file.read(limit)
    except FileNotFoundError:
        return b""
    if size <= limit:
        return text
    return text[text.find(b"\n") + 1 :]
