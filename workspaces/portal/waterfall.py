"""The steps of a start as bars on a time axis. Pure: rows and `now` in, percentages out.

`static/js/waterfall.js` lets the bars of a start that is under way grow by the same arithmetic.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from workspaces.portal.words import STATUSES, STEPS, step_words
from workspaces.states import CALLED_OFF, ConditionStatus, ConditionType

# Drawn before they begin; the others happen behind an open editor, and only where a repository asks for them.
ALWAYS = (
    ConditionType.QUEUED,
    ConditionType.VOLUME,
    ConditionType.CONTAINER,
    ConditionType.CONTENT,
    ConditionType.IDE,
)
# A step that is over, or has not begun, says enough by its mark.
_SAID = frozenset({ConditionStatus.RUNNING, ConditionStatus.FAILED})
SHORTEST_AXIS = 4.0
MOST_TICKS = 5
TICK_STEPS = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)


class Row(Protocol):
    """What is drawn of a `Condition`."""

    type: str
    status: str
    code: str
    message: str
    next_step: str
    progress: float | None
    started_at: datetime | None
    finished_at: datetime | None


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One bar. Times are seconds after the start of the axis, `x` and `width` percent of it."""

    kind: str
    label: str
    status: str
    text: str
    next_step: str
    begin: float | None
    end: float | None
    x: float
    width: float
    lasted: str
    progress: int | None

    @property
    def status_words(self) -> str:
        """What the mark of the step shows, for whoever does not see it."""
        return STATUSES[ConditionStatus(self.status)]


@dataclasses.dataclass(frozen=True, slots=True)
class Tick:
    """A mark of the axis."""

    x: float
    label: str


@dataclasses.dataclass(frozen=True, slots=True)
class Waterfall:
    """The whole plot; `elapsed` is `now` in seconds after the axis' start, `current` the step under way in words."""

    steps: list[Step]
    ticks: list[Tick]
    elapsed: float
    total: str
    current: str


def lasted(seconds: float) -> str:
    """A length of time for people: `0.3 s`, `12 s`, `2 min 5 s`."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


def _ticks(length: float) -> list[Tick]:
    every = next((step for step in TICK_STEPS if length / step <= MOST_TICKS), length / MOST_TICKS)
    marks = range(int(length / every) + 1)
    return [Tick(round(100 * mark * every / length, 2), _tick_label(mark * every)) for mark in marks]


def _tick_label(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:g} s"
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"


def draw(rows: Iterable[Row], *, origin: datetime, now: datetime, under_way: bool) -> Waterfall:
    """Bars for these conditions; steps without a row yet are shown as not begun.

    Args:
        origin: when somebody asked for the start; the axis begins there.
        under_way: bars without an end go on until `now`.
    """
    known = {ConditionType(row.type): row for row in rows}
    kinds = [kind for kind in ConditionType if kind in ALWAYS or kind in known]
    spans = {kind: _span(row, origin) for kind, row in known.items()}
    elapsed = max((now - origin).total_seconds(), 0.0) if under_way else 0.0
    last = max([elapsed, *(end or begin or 0.0 for begin, end in spans.values())], default=0.0)
    length = max(last * 1.04, SHORTEST_AXIS)
    steps = [_step(kind, known.get(kind), spans.get(kind, (None, None)), last, length) for kind in kinds]
    current = next((step.text for step in steps if step.status == ConditionStatus.RUNNING), "")
    return Waterfall(steps, _ticks(length), round(elapsed, 2), lasted(last), current)


def _span(row: Row, origin: datetime) -> tuple[float | None, float | None]:
    def after(moment: datetime | None) -> float | None:
        return None if moment is None else max(round((moment - origin).total_seconds(), 2), 0.0)

    return after(row.started_at), after(row.finished_at)


def _step(
    kind: ConditionType, row: Row | None, span: tuple[float | None, float | None], last: float, length: float
) -> Step:
    status = ConditionStatus(row.status) if row else ConditionStatus.WAITING
    said = status in _SAID
    if row and row.code == CALLED_OFF:
        # Nothing went wrong with it, so it must not look as if.
        status = ConditionStatus.WAITING
    begin, end = span
    until = last if end is None else end
    drawn = begin is not None
    took = until - (begin or 0.0)
    return Step(
        kind=kind.value,
        label=STEPS[kind][0],
        status=status.value,
        text=(row.message if row else "") or (step_words(kind, status) if said else ""),
        next_step=row.next_step if row else "",
        begin=begin,
        end=end,
        x=round(100 * (begin or 0.0) / length, 2),
        width=max(round(100 * took / length, 2), 0.6) if drawn else 0.0,
        lasted=lasted(took) if drawn else "",
        progress=round(100 * row.progress) if row and row.progress is not None else None,
    )
