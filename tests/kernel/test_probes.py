"""Worker and beat, asked from outside whether they are alive."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from config.probes import ALIVE_WITHIN, READY_WITHIN, Pulse
from tests.support.platform import ROOT, free_port
from tests.support.queue import lists
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually

WORKER = ("worker", "--pool", "threads", "--concurrency", "1", "--queues", "control")
BEAT = ("beat", "--pidfile", "", "--max-interval", "1", "--schedule")


def _never() -> bool:
    pytest.fail("nobody asks the broker while all is well")


@pytest.mark.parametrize(
    ("age", "broker", "healthy", "ready"),
    [
        (0, None, True, True),
        (READY_WITHIN - 1, None, True, True),
        (READY_WITHIN + 1, None, True, False),
        (ALIVE_WITHIN + 1, False, True, False),
        (ALIVE_WITHIN + 1, True, False, False),
    ],
)
def test_a_loop_that_stands_still(age: float, broker: bool | None, healthy: bool, ready: bool) -> None:
    now = [1000.0]
    pulse = Pulse(lambda: now[0])
    now[0] += age
    assert pulse.healthy(_never if broker is None else lambda: broker)[0] is healthy
    assert pulse.ready()[0] is ready


def test_who_is_ending_is_alive_and_not_ready() -> None:
    now = [1000.0]
    pulse = Pulse(lambda: now[0])
    pulse.end()
    now[0] += ALIVE_WITHIN + 1
    assert pulse.healthy(_never)[0]
    assert not pulse.ready()[0]


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="slp-", dir="/tmp") as name:
        (Path(name) / "run").mkdir()
        yield Path(name)


@contextmanager
def _process(folder: Path, url: str, *command: str) -> Iterator[int]:
    """One of Celery's processes, as it runs in production; where it answers probes."""
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SLIPWAY_")},
        "PYTHONPATH": f"{ROOT / 'platform'}{os.pathsep}{ROOT}",
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "SLIPWAY_HOME": str(folder),
        "SLIPWAY_RUNTIME": "fake",
        "REDIS_URL": url,
        "SLIPWAY_PROBES_LISTEN": f"127.0.0.1:{port}",
    }
    process = subprocess.Popen([sys.executable, "-m", "celery", "-A", "config", *command], cwd=ROOT, env=environment)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def _ask(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def _age(port: int) -> int:
    found = re.search(r"loop (\d+) s ago", _ask(port, "/readyz")[1])
    return int(found[1]) if found else -1


def test_the_workers_pulse_is_that_of_the_loop_that_takes_tasks(folder: Path) -> None:
    with ValkeyServer(folder) as valkey, _process(folder, valkey.url, *WORKER) as port:
        eventually(lambda: _ask(port, "/readyz")[0] == 200, what="the worker is ready")
        assert "slipway_reconcile_runs_total" in _ask(port, "/metrics")[1]
        valkey.stop()
        eventually(lambda: _age(port) >= 4, what="without a broker the loop does not come round")
        assert _ask(port, "/healthz")[0] == 200
        valkey.start()
        eventually(lambda: 0 <= _age(port) <= 2, what="it comes round again")


def test_beat_answers(folder: Path) -> None:
    with (
        ValkeyServer(folder) as valkey,
        _process(folder, valkey.url, *BEAT, str(folder / "schedule")) as port,
        valkey.client() as queue,
    ):
        eventually(lambda: _ask(port, "/healthz")[0] == 200, what="beat is alive")
        eventually(lambda: any(queue.llen(key) for key in lists("control")), what="it ticks")
        assert _ask(port, "/readyz")[0] == 200
