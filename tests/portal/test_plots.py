"""The waterfall and the language bar: plain arithmetic."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from workspaces.portal.shares import shares
from workspaces.portal.waterfall import draw, lasted

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclasses.dataclass
class Row:
    type: str
    status: str
    started_at: datetime | None
    finished_at: datetime | None
    message: str
    next_step: str = ""
    progress: float | None = None
    code: str = ""


def row(
    kind: str,
    status: str,
    begin: float | None = None,
    end: float | None = None,
    message: str = "",
    progress: float | None = None,
) -> Row:
    def at(after: float | None) -> datetime | None:
        return None if after is None else START + timedelta(seconds=after)

    return Row(kind, status, at(begin), at(end), message, progress=progress)


def test_steps_without_a_row_are_drawn_as_not_begun() -> None:
    plot = draw([], origin=START, now=START, under_way=False)
    assert [step.kind for step in plot.steps] == ["queued", "volume", "container", "content", "ide"]
    assert {step.status for step in plot.steps} == {"waiting"}
    assert all(step.width == 0 for step in plot.steps)


def test_bars_lie_where_their_time_was() -> None:
    rows = [row("queued", "done", 0, 5), row("content", "done", 5, 10)]
    plot = draw(rows, origin=START, now=START + timedelta(hours=1), under_way=False)
    queued, content = plot.steps[0], plot.steps[3]
    assert queued.x == 0
    assert queued.width == pytest.approx(content.width)
    assert content.x == pytest.approx(queued.width, abs=0.02)
    assert content.x + content.width < 100
    assert (plot.total, plot.elapsed) == ("10 s", 0.0)


def test_a_step_under_way_reaches_until_now() -> None:
    rows = [row("content", "running", 2, None, "Cloning", progress=0.42)]
    plot = draw(rows, origin=START, now=START + timedelta(seconds=12), under_way=True)
    step = plot.steps[3]
    assert (plot.elapsed, plot.current, step.lasted, step.progress) == (12.0, "Cloning", "10 s", 42)
    assert step.x + step.width == pytest.approx(100 / 1.04, abs=0.1)
    assert (step.status_words, plot.steps[0].status_words) == ("Under way", "Not begun")


@pytest.mark.parametrize("seconds", [0, 0.2, 3, 59, 61, 600, 86_400])
def test_an_axis_has_few_marks_and_none_beyond_its_end(seconds: float) -> None:
    plot = draw([row("queued", "done", 0, seconds)], origin=START, now=START, under_way=False)
    assert 2 <= len(plot.ticks) <= 7
    assert plot.ticks[0].x == 0
    assert all(tick.x <= 100 for tick in plot.ticks)


def test_a_clock_that_went_back_draws_nothing_outside() -> None:
    plot = draw([row("queued", "running", -5)], origin=START, now=START - timedelta(seconds=3), under_way=True)
    assert plot.steps[0].x == 0
    assert plot.steps[0].width <= 100


@pytest.mark.parametrize(("seconds", "text"), [(-1, "0.0 s"), (0.25, "0.2 s"), (12.4, "12 s"), (125, "2 min 5 s")])
def test_lengths_of_time_read_well(seconds: float, text: str) -> None:
    assert lasted(seconds) == text


def test_shares_add_up_and_small_ones_are_put_together() -> None:
    found = shares({name: 2**rank for rank, name in enumerate("abcdefgh")})
    assert [part.name for part in found] == ["h", "g", "f", "e", "d", "Other"]
    assert found[-1].x + found[-1].width == pytest.approx(100, abs=0.05)
    assert [part.rank for part in found] == list(range(6))


@pytest.mark.parametrize("languages", [{}, {"Python": 0}, {"Python": -3}])
def test_no_languages_no_bar(languages: dict[str, int]) -> None:
    assert shares(languages) == []
