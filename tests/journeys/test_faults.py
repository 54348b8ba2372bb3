"""What fails in the middle of things, and what must still be true afterwards."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.platform import Platform
from tests.support.processes import descendants, kill_tree, processes
from tests.support.waiting import eventually

pytestmark = [pytest.mark.ide, pytest.mark.timeout(300)]


def files_of(platform: Platform, slug: str) -> Path:
    """The checkout on disk."""
    return platform.home / "workspaces" / slug / "home" / "rocket"


def _discard(platform: Platform, workspace: dict[str, Any]) -> None:
    platform.api("DELETE", f"/workspaces/{workspace['id']}")
    platform.wait_for(workspace["id"], "deleted")
    _nothing_runs(platform, workspace)


def _nothing_runs(platform: Platform, workspace: dict[str, Any]) -> None:
    """A launch that was decided on before its owner said stop may still come, and is ended then."""
    eventually(lambda: platform.runs(workspace["slug"]) == [], what="no run is left")


STEPS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "accepted": bool,
    "starting": lambda seen: seen["state"] in {"starting", "running"},
    "container": lambda seen: _step(seen, "container") == "done",
    "content": lambda seen: _step(seen, "content") in {"running", "done"},
    "ide": lambda seen: _step(seen, "ide") in {"running", "done"},
}


def _step(workspace: dict[str, Any], name: str) -> str:
    return next((row["status"] for row in workspace["conditions"] if row["type"] == name), "")


@pytest.mark.parametrize("step", STEPS)
def test_a_worker_killed_in_a_start_costs_time_but_never_a_second_run(
    platform: Platform, rocket: str, step: str
) -> None:
    workspace = platform.create(rocket)
    reached = STEPS[step]
    eventually(
        lambda: reached(platform.api("GET", f"/workspaces/{workspace['id']}")[1]), timeout=40, every=0.01, what=step
    )
    platform.kill("worker")
    running = platform.wait_for(workspace["id"], "running", timeout=90)
    assert len(platform.runs(workspace["slug"])) == 1
    assert running["failure"] is None
    assert (files_of(platform, workspace["slug"]) / "app.py").exists()
    _discard(platform, workspace)


def test_redis_goes_and_comes_back(platform: Platform, rocket: str) -> None:
    before = platform.create(rocket, name="before")
    platform.kill("valkey")
    status, during = platform.api("POST", "/workspaces", {"repo": rocket, "name": "during"})
    assert status == 201, during
    for workspace in (before, during):
        assert platform.wait_for(workspace["id"], "running", timeout=90)["failure"] is None
        assert len(platform.runs(workspace["slug"])) == 1
        _discard(platform, workspace)


def test_web_and_gateway_die_and_the_workspace_does_not_notice(platform: Platform, rocket: str) -> None:
    workspace = platform.create(rocket)
    platform.wait_for(workspace["id"], "running")
    runs = platform.runs(workspace["slug"])
    platform.kill("web")
    platform.kill("gateway")
    eventually(lambda: _up(platform), timeout=30, what="web and gateway are back")
    assert platform.wait_for(workspace["id"], "running")["generation"] == workspace["generation"]
    assert platform.runs(workspace["slug"]) == runs
    _discard(platform, workspace)


def _up(platform: Platform) -> bool:
    try:
        return platform.api("GET", "/workspaces")[0] == 200
    except OSError:
        return False


def test_two_clicks_on_create_make_one_workspace(platform: Platform, rocket: str) -> None:
    answers: list[tuple[int, Any]] = []

    def click() -> None:
        answers.append(platform.api("POST", "/workspaces", {"repo": rocket}, Idempotency_Key="one-click"))

    _ = platform.token
    clicks = [threading.Thread(target=click) for _ in range(4)]
    for thread in clicks:
        thread.start()
    for thread in clicks:
        thread.join()
    assert [status for status, _ in answers] == [201] * 4
    assert len({workspace["id"] for _, workspace in answers}) == 1
    workspace = answers[0][1]
    platform.wait_for(workspace["id"], "running")
    assert len(platform.runs(workspace["slug"])) == 1
    _discard(platform, workspace)


@pytest.mark.parametrize("verb", ["stop", "delete"])
def test_a_start_can_be_called_off(platform: Platform, rocket: str, verb: str) -> None:
    workspace = platform.create(rocket)
    platform.wait_for(workspace["id"], "starting", "running")
    if verb == "stop":
        assert platform.api("POST", f"/workspaces/{workspace['id']}/stop")[0] == 202
        platform.wait_for(workspace["id"], "stopped")
    else:
        assert platform.api("DELETE", f"/workspaces/{workspace['id']}")[0] == 202
        platform.wait_for(workspace["id"], "deleted")
    _nothing_runs(platform, workspace)
    _discard(platform, workspace)


def test_a_killed_editor_is_started_again_and_the_owner_is_told(platform: Platform, rocket: str) -> None:
    workspace = platform.create(rocket)
    platform.wait_for(workspace["id"], "running")
    shim = platform.runs(workspace["slug"])[0]
    commands = processes()
    editor = next(pid for pid in descendants(shim) if "entry.js --config" in commands.get(pid, ""))
    os.kill(editor, signal.SIGKILL)

    def told() -> bool:
        _, answer = platform.api("GET", f"/workspaces/{workspace['id']}/events")
        return any(event["data"].get("code") == "ide_restarted" for event in answer["events"])

    eventually(told, timeout=30, every=0.2, what="a notice that the editor was restarted")
    assert platform.runs(workspace["slug"]) == [shim]
    _discard(platform, workspace)


def test_a_run_that_dies_is_started_again_with_all_files(platform: Platform, rocket: str) -> None:
    workspace = platform.create(rocket)
    first = platform.wait_for(workspace["id"], "running")
    unsaved = files_of(platform, workspace["slug"]) / "unsaved.txt"
    unsaved.write_text("never committed")
    kill_tree(platform.runs(workspace["slug"])[0])

    def again() -> bool:
        _, seen = platform.api("GET", f"/workspaces/{workspace['id']}")
        return bool(seen["state"] == "running" and seen["started_at"] > first["started_at"])

    eventually(again, timeout=150, every=0.2, what="it runs again")
    assert unsaved.read_text() == "never committed"
    assert len(platform.runs(workspace["slug"])) == 1
    _, answer = platform.api("GET", f"/workspaces/{workspace['id']}/events")
    assert any(
        event["reason"] == "interrupted" and "your files are kept" in event["text"] for event in answer["events"]
    )
    _discard(platform, workspace)


def test_workspaces_survive_the_platform_and_are_found_again(platform: Platform, rocket: str) -> None:
    workspace = platform.create(rocket)
    platform.wait_for(workspace["id"], "running")
    runs = platform.runs(workspace["slug"])
    platform.stop()
    assert platform.runs(workspace["slug"]) == runs
    assert [line for line in platform.leftovers() if "/workspaces/" not in line and "ide/" not in line] == []
    platform.start()
    assert platform.wait_for(workspace["id"], "running")["state"] == "running"
    assert platform.runs(workspace["slug"]) == runs
    _discard(platform, workspace)
    eventually(lambda: not [line for line in platform.leftovers() if workspace["slug"] in line], what="nothing is left")
