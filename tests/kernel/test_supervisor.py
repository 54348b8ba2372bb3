"""The folders that the platform trusts, the lock on them, and its services: logs, crashes, new starts."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from config.processes import Service
from config.supervisor import CannotStart, Running, only_one, own_folder
from tests.support.waiting import eventually


def test_a_folder_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    own_folder(tmp_path / "mine", 0o711)
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o711
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    (tmp_path / "theirs").mkdir()
    if os.geteuid() == 0:
        os.chown(tmp_path / "theirs", 12345, 12345)
        with pytest.raises(CannotStart, match="not a folder of this account"):
            own_folder(tmp_path / "theirs", 0o711)
    with pytest.raises(CannotStart, match="not a folder of this account"):
        own_folder(tmp_path / "link", 0o711)


def test_a_data_folder_is_used_once(tmp_path: Path) -> None:
    with only_one(tmp_path), pytest.raises(CannotStart, match="already runs"):
        only_one(tmp_path)
    only_one(tmp_path).close()


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "up.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="Too many levels"):
        only_one(tmp_path)
    assert (tmp_path / "precious").read_text() == "kept"


LIMIT = 100_000


@contextmanager
def _running(folder: Path, code: str) -> Iterator[Running]:
    service = Service("talker", (sys.executable, "-c", code), lambda: True, 1)
    running = Running(service, dict(os.environ), folder, folder, longest_log=LIMIT)
    running.start()
    try:
        yield running
    finally:
        running.stop()


def test_the_log_of_a_service_that_stays_up_is_bounded(tmp_path: Path) -> None:
    code = "import time\nfor n in range(10**9): print(n, 'x' * 2000, flush=True); time.sleep(0.0005)"
    log, older = tmp_path / "talker.log", tmp_path / "talker.log.1"
    with _running(tmp_path, code) as running:
        seen: list[int] = []
        said: list[str] = []
        ticks = itertools.count()

        def look() -> bool:
            running.tend(float(next(ticks)), said.append)
            seen.append(log.stat().st_size)
            # It was made short three times, and is still being written.
            return sum(later < before for before, later in itertools.pairwise(seen)) >= 3 and log.stat().st_size > 0

        eventually(look, timeout=20)
        assert max(seen) < 10 * LIMIT
        assert older.stat().st_size < 10 * LIMIT
        assert said == []


def test_the_last_words_of_a_service_are_kept_where_they_are_looked_for(tmp_path: Path) -> None:
    said: list[str] = []
    with _running(tmp_path, f"print('x' * {LIMIT}); raise SystemExit('what went wrong')") as running:
        eventually(lambda: not running.alive)
        running.tend(1.0, said.append)
        running.tend(100.0, said.append)
        eventually(lambda: not running.alive)
    named = Path(said[0].rpartition("See ")[2])
    assert "what went wrong" in named.read_text()


def _pause_after_a_crash(running: Running, at: float) -> float:
    """Seconds from the look that finds it ended, at this monotonic time, to its next start."""
    eventually(lambda: not running.alive)
    ended = running.process

    def started(pause: float) -> bool:
        running.tend(at + pause, lambda _: None)
        return running.process is not ended

    assert not started(0)
    return next(pause for pause in (0.5, 1, 2, 4, 8, 16, 30) if started(pause))


def test_pauses_between_crashes_grow_until_it_ran_for_a_while(tmp_path: Path) -> None:
    service = Service("brief", (sys.executable, "-S", "-c", ""), ready=lambda: True)
    running = Running(service, dict(os.environ), tmp_path, tmp_path)
    running.start()
    now = time.monotonic()
    assert [_pause_after_a_crash(running, now) for _ in range(3)] == [0.5, 1, 2]
    assert [_pause_after_a_crash(running, now + 600), _pause_after_a_crash(running, now)] == [0.5, 1]
    running.stop()
