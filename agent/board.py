"""What is known about the workspace right now: conditions, notices, ports, activity, git. Reports are made from it."""

from __future__ import annotations

import asyncio
import dataclasses
import time
import uuid
from collections.abc import Callable
from typing import Any, Literal

from agent.problems import Problem
from agent.texts import clean

Status = Literal["waiting", "running", "done", "failed"]
Part = Literal["content", "ide", "commands", "extensions"]

_PARTS: tuple[Part, ...] = ("content", "ide", "commands", "extensions")
# Longer ones are refused by the platform, and a refused report tells nothing at all.
_TEXT_LIMIT = 2000
_CODE_LIMIT = 60
_BRANCH_LIMIT = 400
_HEAD_LIMIT = 64
_PORT_LIMIT = 64
_NOTICE_LIMIT = 30


@dataclasses.dataclass(slots=True)
class Condition:
    """How far one part of the start is. Times are on the board's clock."""

    type: Part
    status: Status = "waiting"
    code: str = ""
    message: str = ""
    next_step: str = ""
    progress: float | None = None
    started: float | None = None
    finished: float | None = None

    def document(self, now: float) -> dict[str, Any]:
        """The condition as it is reported."""
        return {
            "type": self.type,
            "status": self.status,
            "code": self.code,
            "message": self.message,
            "next_step": self.next_step,
            "progress": self.progress,
            "started_ago": None if self.started is None else round(max(now - self.started, 0.0), 3),
            "finished_ago": None if self.finished is None else round(max(now - self.finished, 0.0), 3),
        }


def _name(text: str | None, limit: int) -> str | None:
    """A name in full or not at all: half of one would be another name."""
    return clean(text, limit) if text is not None and len(text) <= limit else None


class Board:
    """Written by the parts, read by the reporter. All texts are cleaned as they come in: many are a repository's.

    Attributes:
        changed: set when something changed that should be reported soon.
        urgent: set, with `changed`, when somebody waits for just this.
        progressed: set when only a percentage moved: may wait for a moment.
        activity: name of a signal -> when it was last seen, on the board's clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._conditions = {part: Condition(part) for part in _PARTS}
        self._notices: dict[str, dict[str, str]] = {}
        self._git: dict[str, Any] | None = None
        self._ports: list[int] = []
        self.activity: dict[str, float] = {}
        self.changed = asyncio.Event()
        self.urgent = asyncio.Event()
        self.progressed = asyncio.Event()

    def condition(self, part: Part) -> Condition:
        """The condition itself, to look at."""
        return self._conditions[part]

    def start(self, part: Part, message: str) -> None:
        """A part has begun, or begun anew."""
        known = self._conditions[part]
        started = known.started if known.status == "running" else self._clock()
        self._conditions[part] = Condition(part, "running", message=clean(message, _TEXT_LIMIT), started=started)
        self.changed.set()

    def progress(self, part: Part, value: float) -> None:
        """A part has come this far, 0 to 1. Never goes back."""
        condition = self._conditions[part]
        value = round(min(value, 1.0), 3)
        if condition.progress is None or value > condition.progress:
            condition.progress = value
            self.progressed.set()

    def done(self, part: Part, message: str = "") -> None:
        """A part is complete."""
        started = self._conditions[part].started
        now = self._clock()
        self._conditions[part] = Condition(
            part,
            "done",
            message=clean(message, _TEXT_LIMIT),
            started=now if started is None else started,
            finished=now,
        )
        if part == "ide":
            self.urgent.set()
        self.changed.set()

    def fail(self, part: Part, problem: Problem) -> None:
        """A part failed; the problem's words are shown to the owner."""
        started = self._conditions[part].started
        now = self._clock()
        self._conditions[part] = Condition(
            part,
            "failed",
            clean(problem.code, _CODE_LIMIT),
            clean(problem.message, _TEXT_LIMIT),
            clean(problem.next_step, _TEXT_LIMIT),
            started=now if started is None else started,
            finished=now,
        )
        self.changed.set()

    def notice(self, code: str, message: str) -> None:
        """Tell the owner something once. The oldest gives way when too many wait to be delivered."""
        code, message = clean(code, _CODE_LIMIT), clean(message, _TEXT_LIMIT)
        if not code.strip() or not message.strip():
            return
        while len(self._notices) >= _NOTICE_LIMIT:
            self._notices.pop(next(iter(self._notices)))
        key = uuid.uuid4().hex
        self._notices[key] = {"id": key, "code": code, "message": message}
        self.changed.set()

    def delivered(self, ids: set[str]) -> None:
        """These notices have arrived."""
        for key in ids:
            self._notices.pop(key, None)

    def set_ports(self, ports: list[int]) -> None:
        """Ports that can be reached now; the first 64 of them are reported."""
        ports = ports[:_PORT_LIMIT]
        if ports != self._ports:
            self._ports = ports
            self.changed.set()

    def set_git(self, status: dict[str, Any] | None) -> None:
        """State of the checkout; None when it is not known. A name that is too long to report is None as well."""
        if status is not None:
            names = {
                "branch": _name(status.get("branch"), _BRANCH_LIMIT),
                "head": _name(status.get("head"), _HEAD_LIMIT),
            }
            status = {**status, **names}
        if status != self._git:
            self._git = status
            self.changed.set()

    def seen(self, signal: str, ago: float = 0.0) -> None:
        """Activity of some kind took place, `ago` seconds before now."""
        when = self._clock() - max(ago, 0.0)
        self.activity[signal] = max(when, self.activity.get(signal, when))

    def document(self) -> dict[str, Any]:
        """The full state, as the body of a report wants it."""
        now = self._clock()
        signals = ("editor", "terminal", "processes", "ports")
        return {
            "conditions": [condition.document(now) for condition in self._conditions.values()],
            "git": self._git,
            "activity": {
                name: round(now - self.activity[name], 1) if name in self.activity else None for name in signals
            },
            "ports": self._ports,
            "notices": list(self._notices.values()),
        }
