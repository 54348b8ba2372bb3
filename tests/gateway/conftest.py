from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from tests.gateway.stage import Stage, staged
from tests.support.valkey import ValkeyServer


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that the gateway runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """pytest's own folders are too long for the names of sockets."""
    folder = Path(tempfile.mkdtemp(prefix="gw-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def stage(short_folder: Path) -> AsyncIterator[Stage]:
    async with staged(short_folder) as running:
        yield running


@pytest.fixture
def valkey(short_folder: Path) -> Iterator[ValkeyServer]:
    with ValkeyServer(short_folder) as server:
        yield server
