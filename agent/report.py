"""Tells the platform how the workspace is: the full state each time, so that a lost report costs nothing."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import random
from typing import Any

from agent import transport
from agent.board import Board
from agent.environment import Timing
from agent.logs import Log
from agent.spec import Spec
from agent.texts import clean

PATH = "/internal/agent/report"
BODY_LIMIT = 64 * 1024
"""Bytes of one report."""

_PROGRESS_PAUSE = 0.5
_NOT_UNDERSTOOD = 400
_DETAIL_LIMIT = 500
# Not wanted any more (401, 409): the workspace goes on, and asks now and then whether that has changed.
_REFUSED_PAUSE = 30.0


class Reporter:
    """Sends reports until it is cancelled."""

    def __init__(self, address: str, token: str, spec: Spec, board: Board, timing: Timing, log: Log) -> None:
        self._address = address
        self._token = token
        self._spec = spec
        self._board = board
        self._timing = timing
        self._log = log
        self._sequence = 0
        self._interval = spec.report_interval
        self._failures = 0
        self._refusal = ""

    async def run(self) -> None:
        """Report on every change and at least every interval."""
        while True:
            answered = await self.send(self._timing.report_timeout)
            await self._pause(answered)

    async def send(self, timeout: float) -> int | None:
        """Send one report now. Returns the status of the answer, None when there was none. Never raises for that."""
        for event in (self._board.changed, self._board.progressed, self._board.urgent):
            event.clear()
        try:
            body = self._body()
            status, answer = await asyncio.to_thread(
                transport.post, self._address, PATH, body, token=self._token, timeout=timeout
            )
        except (OSError, http.client.HTTPException) as error:
            self._note_failure(f"no answer ({type(error).__name__})")
            return None
        except ValueError as error:
            # A text that UTF-8 cannot hold, or a header that HTTP cannot: the next report may be without it.
            self._note_failure(f"it cannot be written ({error})")
            return None
        if status != 200:
            self._note_refusal(status, answer)
            return status
        self._failures = 0
        self._board.delivered({notice["id"] for notice in body["notices"]})
        interval = answer.get("interval")
        if isinstance(interval, (int, float)) and not isinstance(interval, bool):
            self._interval = min(max(float(interval), 1.0), 300.0)
        return status

    def _body(self) -> dict[str, Any]:
        self._sequence += 1
        body = {
            "workspace": self._spec.workspace_id,
            "run": self._spec.run,
            "sequence": self._sequence,
            **self._board.document(),
        }
        while body["notices"] and len(json.dumps(body, ensure_ascii=False).encode()) > BODY_LIMIT:
            body["notices"] = body["notices"][:-1]
        return body

    def _note_failure(self, what: str) -> None:
        self._failures += 1
        # Once is enough: a platform that is away for an hour must not fill the log.
        if self._failures == 1:
            self._log.write("agent", f"A report did not arrive: {what}.", level="warning", event="report_failed")

    def _note_refusal(self, status: int, answer: dict[str, Any]) -> None:
        if status != _NOT_UNDERSTOOD:
            self._note_failure(f"status {status}")
            return
        # Unlike the others this is a fault of ours, which only the platform's words explain.
        words = clean(json.dumps(answer.get("errors") or answer.get("detail") or answer), _DETAIL_LIMIT)
        if words != self._refusal:
            self._refusal, self._failures = words, 0
        self._note_failure(f"status {status}, {words}")

    async def _pause(self, status: int | None) -> None:
        if status in {401, 409}:
            await asyncio.sleep(_REFUSED_PAUSE)
        elif status != 200:
            longest = min(0.2 * 2 ** min(self._failures, 10), self._timing.report_retry)
            await asyncio.sleep(longest * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, guards nothing.
        else:
            await self._until_due()

    async def _until_due(self) -> None:
        waits = {
            asyncio.create_task(self._board.changed.wait()),
            asyncio.create_task(self._progress_due()),
        }
        try:
            await asyncio.wait(waits, timeout=self._interval, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._board.urgent.wait(), self._timing.report_gather)

    async def _progress_due(self) -> None:
        await self._board.progressed.wait()
        await asyncio.sleep(_PROGRESS_PAUSE)
