"""Small files that survive a crash at any instant, locks that survive nothing, and deletion that follows no link."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import stat
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class UnreadableError(Exception):
    """A state file is there but does not hold what it should."""


class BusyError(Exception):
    """Somebody else holds a lock, and did not let go of it in time."""


# A kernel's wait for a lock cannot be bounded, so it is asked for again after this many seconds.
_RETRY = 0.02


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
def locked(path: Path, *, wait: float) -> Iterator[None]:
    """Hold the exclusive lock on `path`, against other threads as well as other processes.

    The file is never deleted: a lock on a deleted file would exclude nobody.

    Args:
        path: of the file, made where it is missing.
        wait: seconds to wait for somebody else to let go of it.

    Raises:
        BusyError: that was not enough.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        until = time.monotonic() + wait
        while not _try_lock(descriptor):
            if time.monotonic() >= until:
                raise BusyError(path.name)
            time.sleep(_RETRY)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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


# A tree is walked down this far, with two descriptors for each level; what lies deeper is moved up first.
_LEVELS = 32
_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: Path) -> None:
    """Delete `path` with all in it, at any depth, following no symbolic link; already gone is fine.

    Folders which their owner made unreadable are opened up first. Every step is relative to an open folder, so that
    who swaps folders for links meanwhile leads it nowhere. May be repeated after it was cut short.

    Raises:
        OSError: something cannot be deleted, another file system that is mounted inside included (EBUSY).
    """
    try:
        outside = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    levels = [_Level("", outside)]
    try:
        _enter(levels, path.name)
        while len(levels) > 1:
            _step(levels)
    finally:
        while levels:
            levels.pop().close()


class _Level:
    """An open folder on the way down, and how far it has been read."""

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        self.descriptor = descriptor
        self.entries = os.scandir(descriptor)
        self.empty = True

    def close(self) -> None:
        """Let go of it."""
        self.entries.close()
        os.close(self.descriptor)


def _step(levels: list[_Level]) -> None:
    """Delete the next entry of the innermost folder, or go into it; at the folder's end, delete that."""
    level = levels[-1]
    entry = next(level.entries, None)
    if entry is None:
        _leave(levels)
        return
    level.empty = False
    if entry.is_dir(follow_symlinks=False):
        _enter(levels, entry.name)
    else:
        _unlink(entry.name, level.descriptor)


def _enter(levels: list[_Level], name: str) -> None:
    """Go on with what is called `name` in the innermost folder: into it, or, when it is none, delete it."""
    level = levels[-1]
    try:
        descriptor = _open_up(name, level.descriptor)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        _unlink(name, level.descriptor)
        return
    if len(levels) <= _LEVELS:
        if len(levels) > 1 and os.fstat(descriptor).st_dev != os.fstat(level.descriptor).st_dev:
            os.close(descriptor)
            raise OSError(errno.EBUSY, "another file system is mounted there", name)
        levels.append(_Level(name, descriptor))
        return
    os.close(descriptor)
    with contextlib.suppress(FileNotFoundError):
        os.rename(name, secrets.token_hex(16), src_dir_fd=level.descriptor, dst_dir_fd=levels[1].descriptor)


def _leave(levels: list[_Level]) -> None:
    """Delete the innermost folder, which has been read to its end."""
    level = levels.pop()
    level.close()
    try:
        os.rmdir(level.name, dir_fd=levels[-1].descriptor)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        _unlink(level.name, levels[-1].descriptor)
    except OSError as error:
        # Something came in while it was read, if only from below; but what shows nothing will not get emptier.
        if error.errno != errno.ENOTEMPTY or level.empty:
            raise
        _enter(levels, level.name)


def _unlink(name: str, folder: int) -> None:
    # One that turned into a folder meanwhile is found when its parent turns out not to be empty.
    with contextlib.suppress(FileNotFoundError, IsADirectoryError):
        os.unlink(name, dir_fd=folder)


def _open_up(name: str, folder: int) -> int:
    """Open a folder for reading, whatever its mode is; a link or a file is a NotADirectoryError."""
    found = os.open(name, os.O_PATH | _FOLDER, dir_fd=folder)
    try:
        mode = stat.S_IMODE(os.fstat(found).st_mode)
        if mode & stat.S_IRWXU != stat.S_IRWXU:
            with contextlib.suppress(PermissionError):
                # By its descriptor, as chmod(2) by name would follow a link. open(2) describes the path.
                Path(f"/proc/self/fd/{found}").chmod(mode | stat.S_IRWXU)
        return os.open(".", os.O_RDONLY | _FOLDER, dir_fd=found)
    finally:
        os.close(found)


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
