"""`manage.py operator` where there is nothing to watch, and what its port answers."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from django.core.management import CommandError, call_command

from workspaces.operator.health import Listener
from workspaces.operator.process import identity


def test_without_a_cluster_nothing_is_to_be_watched() -> None:
    with pytest.raises(CommandError, match="SLIPWAY_RUNTIME is fake: nothing is to be watched there"):
        call_command("operator")


def test_no_two_processes_have_the_same_name() -> None:
    assert len({identity() for _ in range(100)}) == 100


class Probes:
    """A listener and what it is to say."""

    def __init__(self) -> None:
        self.healthy, self.refreshed = True, 0
        self.listener = Listener(
            "127.0.0.1:0",
            healthy=lambda: (self.healthy, "Pod: deaf\n"),
            ready=lambda: (True, "Pod: synced\n"),
            refresh=self._refresh,
        )

    def _refresh(self) -> None:
        self.refreshed += 1

    def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.listener.port}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read().decode()


@pytest.fixture
def probes() -> Iterator[Probes]:
    found = Probes()
    found.listener.start()
    yield found
    found.listener.stop()


def test_probes_say_how_it_is(probes: Probes) -> None:
    assert probes.get("/healthz") == (200, "Pod: deaf\n")
    probes.healthy = False
    assert probes.get("/healthz") == (503, "Pod: deaf\n")
    assert probes.get("/readyz") == (200, "Pod: synced\n")


def test_metrics_are_of_now(probes: Probes) -> None:
    status, text = probes.get("/metrics")
    assert status == 200
    assert "# TYPE slipway_operator_nudges_total counter" in text
    assert probes.refreshed == 1


@pytest.mark.parametrize(("path", "method", "status"), [("/", "GET", 404), ("/healthz", "POST", 405)])
def test_there_is_nothing_else(probes: Probes, path: str, method: str, status: int) -> None:
    assert probes.get(path, method)[0] == status
