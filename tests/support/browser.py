"""Debian's Chromium, and how long it is waited for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.conftest import ROOT, chromium

__all__ = ["expect", "launched", "picture"]

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


def picture(page: Page, name: str) -> None:
    """Keep a screenshot for the docs, where SLIPWAY_TEST_SCREENSHOTS asks for it."""
    if os.environ.get("SLIPWAY_TEST_SCREENSHOTS"):
        (ROOT / "docs" / "screenshots").mkdir(parents=True, exist_ok=True)
        page.screenshot(path=ROOT / "docs" / "screenshots" / f"{name}.png")
