"""What is reported, when, and what becomes of a report that does not arrive."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import spec
from agent.board import Board
from agent.environment import Timing
from agent.logs import Log
from agent.problems import Problem
from agent.report import Reporter
from tests.agent.harness import WORKSPACE, Platform
from tests.support.waiting import eventually_async

BAD = "a\ud800b\x00c\x1b\x85d\ne\tf"
DOCUMENT = spec.Spec(
    workspace_id=WORKSPACE,
    slug="app",
    run=1,
    repository=spec.Repository("https://example.invalid/x.git", "team/app", "HEAD", None, None),
    author_name="",
    author_email="",
    workspace_url="",
    port_url="",
    report_interval=60,
)


class Desk:
    """A board with its reporter, and the platform they report to."""

    def __init__(self, folder: Path, platform: Platform, log: Log, *, gather: float = 0.05) -> None:
        self.board, self.platform, self._log_path = Board(), platform, folder / "log"
        timing = Timing(report_timeout=5.0, report_retry=0.05, report_gather=gather)
        self.reporter = Reporter(f"unix:{platform.path}", "token-1", DOCUMENT, self.board, timing, log)

    def said(self, event: str) -> list[str]:
        return [line for line in self._log_path.read_text().splitlines() if event in line]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.reporter.run())
        try:
            yield
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    platform = Platform(tmp_path / "p.sock")
    platform.open()
    with (tmp_path / "log").open("wb") as file:
        yield Desk(tmp_path, platform, Log(file.fileno()))
    platform.close()


async def test_any_text_can_be_reported(desk: Desk) -> None:
    desk.board.start("content", BAD)
    desk.board.fail("commands", Problem("c" * 100, "m" * 5_000, BAD + "n" * 5_000))
    desk.board.notice(BAD, "🐎" * 5_000)
    desk.board.notice("", "\x00")
    desk.board.set_git({"branch": "b" * 401, "head": "h" * 65, "ahead": 0, "behind": 0, "uncommitted": 0})
    desk.board.set_ports(list(range(1, 200)))

    assert await desk.reporter.send(5) == 200

    [body] = desk.platform.reports
    content, _, commands, _ = body["conditions"]
    assert content["message"] == "a?bcd\ne\tf"
    assert [len(commands[name]) for name in ("code", "message", "next_step")] == [60, 2_000, 2_000]
    assert [notice["message"] for notice in body["notices"]] == ["🐎" * 2_000]
    assert (body["git"]["branch"], body["git"]["head"]) == (None, None)
    assert body["ports"] == list(range(1, 65))


async def test_a_branch_keeps_its_name_up_to_the_limit(desk: Desk) -> None:
    desk.board.set_git({"branch": "ü" * 400, "head": "h" * 64})
    await desk.reporter.send(5)
    assert desk.platform.reports[0]["git"] == {"branch": "ü" * 400, "head": "h" * 64}


async def test_a_report_that_cannot_be_made_is_no_end(desk: Desk) -> None:
    git: dict[str, Any] = {"branch": "main", "head": None, "other": "\ud800"}
    desk.board.set_git(git)
    async with desk.running():
        await eventually_async(lambda: desk.said("report_failed"))
        desk.board.set_git(None)
        await eventually_async(lambda: desk.platform.reports)
    assert len(desk.said("report_failed")) == 1


async def test_a_refused_report_is_logged_once_with_its_reason(desk: Desk) -> None:
    desk.board.set_git({"branch": "main", "head": None, "ahead": -1})
    async with desk.running():
        await eventually_async(lambda: len(desk.platform.refused) >= 3)
    [line] = desk.said("report_failed")
    assert "status 400" in line
    assert "greater than or equal to 0" in line


async def test_an_open_editor_is_told_without_delay(desk: Desk, tmp_path: Path) -> None:
    with (tmp_path / "patient").open("wb") as file:
        patient = Desk(tmp_path, desk.platform, Log(file.fileno()), gather=3600)
        async with patient.running():
            await eventually_async(lambda: len(desk.platform.reports) == 1)
            # This change would wait an hour for others.
            patient.board.start("ide", "Starting")
            await asyncio.sleep(0)
            patient.board.done("ide", "Open")
            await eventually_async(lambda: len(desk.platform.reports) == 2)
    assert desk.platform.reports[-1]["conditions"][1]["status"] == "done"


async def test_other_changes_are_gathered(desk: Desk, tmp_path: Path) -> None:
    with (tmp_path / "gathering").open("wb") as file:
        gathering = Desk(tmp_path, desk.platform, Log(file.fileno()), gather=0.5)
        async with gathering.running():
            await eventually_async(lambda: len(desk.platform.reports) == 1)
            for number in range(20):
                gathering.board.start("commands", str(number))
                await asyncio.sleep(0)
            await eventually_async(lambda: desk.platform.reports[-1]["conditions"][2]["message"] == "19")
    # One, or two where the changes came while half a second passed.
    assert len(desk.platform.reports) <= 3
