"""Debian's Chromium, and how long it is waited for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from playwright.sync_api import Browser, expect, sync_playwright

from tests.conftest import chromium

__all__ = ["expect", "launched"]

# As long as Playwright waits for everything else: its own five seconds are few for a machine that is busy.
expect.set_options(timeout=30_000)
_ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@contextlib.contextmanager
def launched() -> Iterator[Browser]:
    """A browser without a window."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium(), args=_ARGUMENTS)
        yield running
        running.close()
