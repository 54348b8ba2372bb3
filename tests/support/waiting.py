"""Waiting for something to become true, without guessing how long it takes."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(look: Callable[[], T], *, timeout: float = 30.0, every: float = 0.02, what: str = "") -> T:
    """Call `look` until it returns something true, and return that.

    Raises:
        AssertionError: it stayed false for `timeout` seconds; says what was seen last.
    """
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or inspect.getsource(look).strip()} (last: {seen!r})")
        pause.wait(every)


async def eventually_async(
    look: Callable[[], T | Awaitable[T]], *, timeout: float = 30.0, every: float = 0.02, what: str = ""
) -> T:
    """The same for code that runs in an event loop; `look` may be a coroutine function."""
    deadline = time.monotonic() + timeout
    while True:
        answer = look()
        seen: T = await answer if inspect.isawaitable(answer) else answer
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or inspect.getsource(look).strip()} (last: {seen!r})")
        await asyncio.sleep(every)
