"""The supervisor of one run: a tiny process between the platform, which may die, and the workspace, which shall not.

Run as a script, `python -I -S shim.py <launch.json> <descriptor of the life lock>`, and never imported by the
platform: it stands on the standard library alone, so that it starts in milliseconds, stays small, and needs neither the
checkout nor the virtual environment.

It leaves the starter's session, notes the process's number before that process becomes anything, answers one line
("ok" or "error <errno>") on its standard output, waits, ends what the run left behind, and notes how it ended. As long
as it lives it holds the life lock, which it got from the starter.
"""

import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import sys
import time
from datetime import UTC, datetime
from typing import Any, NoReturn

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
_INFO_TIMEOUT = 10.0
_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def main() -> None:
    """Become a process of one's own, then supervise."""
    with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123 - pathlib would double the time to start
        launch: dict[str, Any] = json.load(file)
    lock = int(sys.argv[2])
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    fcntl.fcntl(lock, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    answer = os.dup(1)
    os.dup2(2, 1)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    # What the run's processes leave behind becomes this process's child instead of init's, and is found at the end.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        run = _Run(launch)
        run.start()
    except OSError as error:
        _answer(answer, f"error {error.errno}")
        os._exit(1)
    _answer(answer, "ok")
    run.finish()
    os._exit(0)


class _Run:
    """The one child."""

    def __init__(self, launch: dict[str, Any]) -> None:
        self.launch = launch
        self.pid = 0
        self.error: int | None = None
        self.notes: dict[str, Any] = {
            "boot_id": launch["boot_id"],
            "run": launch["run"],
            "shim": _identity(os.getpid()),
            "init": None,
        }

    def start(self) -> None:
        """Fork, note, and only then let the child go on."""
        log = os.open(self.launch["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        go, failed, info = os.pipe(), os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(go[1])
            _become(self.launch, log, go[0], failed[1], info[1])
        for descriptor in (log, go[0], failed[1], info[1]):
            os.close(descriptor)
        self.notes["main"] = _identity(self.pid)
        self.notes["started_at"] = datetime.now(UTC).isoformat()
        # Dying before this line closes the pipe, and the child ends without having become anything.
        _write(self.launch["process"], self.notes)
        os.write(go[1], b"g")
        os.close(go[1])
        if word := os.read(failed[0], 16):
            self.error = int(word)
        elif self.launch["info_fd"] is not None:
            self._note_init(info[0])
        os.close(failed[0])
        os.close(info[0])

    def _note_init(self, info: int) -> None:
        text = b""
        deadline = time.monotonic() + _INFO_TIMEOUT
        while select.select([info], [], [], max(0.0, deadline - time.monotonic()))[0]:
            piece = os.read(info, 4096)
            text += piece
            if not piece or b"}" in piece:
                break
        try:
            self.notes["init"] = _identity(json.loads(text)["child-pid"])
            _write(self.launch["process"], self.notes)
        except (OSError, ValueError):
            return  # The sandbox ended at once; its exit code and the log tell why.

    def finish(self) -> None:
        """Wait for the end, clear up behind it, note it."""
        status = 0
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid == self.pid:
                break
        code = os.waitstatus_to_exitcode(status)
        if self.launch["info_fd"] is not None and 128 < code <= 128 + 64:
            code = 128 - code  # bubblewrap passes a signal on as 128 + its number.
        self._end_children()
        document = {"run": self.launch["run"], "code": code, "errno": self.error}
        try:
            _write(self.launch["exit"], document)
        except OSError:
            return  # A full disk: the end itself is still seen, only its code is lost.

    def _end_children(self) -> None:
        while True:
            for pid in _children():
                os.kill(pid, signal.SIGKILL)
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return


def _become(launch: dict[str, Any], log: int, go: int, failed: int, info: int) -> NoReturn:
    """In the child: wait for the word, then turn into the command."""
    try:
        os.setsid()
        for number in _IGNORED:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        _join(launch["procs"])
        if not os.read(go, 1):
            os._exit(126)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if launch["info_fd"] is not None:
            os.dup2(info, launch["info_fd"])
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.umask(0o022)
        os.chdir(launch["cwd"])
        os.execvpe(launch["argv"][0], launch["argv"], launch["env"])  # noqa: S606 - no shell is wanted
    except OSError as error:
        os.write(failed, str(error.errno).encode())
    finally:
        os._exit(127)


def _join(procs: list[str]) -> None:
    for path in procs:
        try:
            descriptor = os.open(path, os.O_WRONLY)
        except OSError:
            continue  # The group went away or is not ours; limits are a help, not a condition.
        try:
            os.write(descriptor, b"0")
        except OSError:
            pass
        finally:
            os.close(descriptor)


def _children() -> list[int]:
    own = os.getpid()
    found = []
    for entry in os.listdir("/proc"):  # noqa: PTH208 - as above
        fields = _stat(entry) if entry.isdigit() else []
        if fields and int(fields[1]) == own and fields[0] != "Z":
            found.append(int(entry))
    return found


def _identity(pid: int) -> dict[str, int]:
    fields = _stat(str(pid))
    if not fields:
        raise ProcessLookupError
    return {"pid": pid, "start": int(fields[19])}


def _stat(pid: str) -> list[str]:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - as above
            text = file.read()
    except OSError:
        return []
    return text[text.rindex(")") + 2 :].split()


def _write(path: str, document: dict[str, Any]) -> None:
    temporary = f"{path}.new"
    with open(temporary, "w", encoding="utf-8") as file:  # noqa: PTH123 - as above
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)  # noqa: PTH105 - as above


def _answer(descriptor: int, word: str) -> None:
    try:
        os.write(descriptor, word.encode())
        os.close(descriptor)
    except OSError:
        return  # The starter is gone, and the run goes on without it.


if __name__ == "__main__":
    main()
