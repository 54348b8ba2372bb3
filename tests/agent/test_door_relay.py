"""What passes the door is whole, keeps to the pace of whoever reads, and ends as either side ends it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import socket
import threading
from pathlib import Path

import pytest

from tests.agent.harness import Agent
from tests.agent.visits import MEGA, pair, read, rest, rest_of, tear
from tests.support.waiting import eventually

# What sockets and relays between two programs may hold together; what comes to rest above it is held by the agent.
BUFFERED = 24 * MEGA


def test_much_is_carried_both_ways_at_once(home: Agent) -> None:
    data = os.urandom(24 * MEGA)
    with pair(home) as (here, there):
        senders = [threading.Thread(target=each.sendall, args=(data,)) for each in (here, there)]
        found: list[bytes] = []
        readers = [threading.Thread(target=lambda s=each: found.append(read(s, len(data)))) for each in (here, there)]
        for thread in (*senders, *readers):
            thread.start()
        for thread in (*senders, *readers):
            thread.join(60)
        assert [hashlib.sha256(each).digest() for each in found] == [hashlib.sha256(data).digest()] * 2


@pytest.mark.parametrize("inwards", [True, False])
def test_who_does_not_read_holds_the_other_back(home: Agent, inwards: bool) -> None:
    with pair(home) as (here, there):
        sender, reader = (here, there) if inwards else (there, here)
        sent = fill(sender)
        assert sent < BUFFERED
        assert len(read(reader, sent)) == sent
        # The way is free again.
        sender.settimeout(10)
        sender.sendall(b"more")
        assert read(reader, 4) == b"more"


def fill(sender: socket.socket) -> int:
    """Send until nothing more is taken for a second; returns how much was."""
    sent, piece = 0, bytes(MEGA)
    sender.settimeout(1)
    with contextlib.suppress(TimeoutError):
        while sent < 4 * BUFFERED:
            sent += sender.send(piece)
    return sent


@pytest.mark.parametrize("inwards", [True, False])
def test_who_has_nothing_more_to_say_still_hears_the_answer(home: Agent, inwards: bool) -> None:
    data = b"abc" * MEGA
    before = descriptors(home)
    with pair(home) as (here, there):
        first, second = (here, there) if inwards else (there, here)
        first.sendall(b"question")
        first.shutdown(socket.SHUT_WR)
        assert rest_of(second) == b"question"
        answer = threading.Thread(target=say_all, args=(second, data))
        answer.start()
        assert rest_of(first) == data
        answer.join(10)
        eventually(lambda: descriptors(home) <= before)


def descriptors(agent: Agent) -> int:
    """How many files and sockets the agent holds open."""
    assert agent.process is not None
    return len(list(Path(f"/proc/{agent.process.pid}/fd").iterdir()))


def say_all(connection: socket.socket, data: bytes) -> None:
    connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


def test_a_visitor_that_is_torn_away_leaves_nothing_behind(home: Agent) -> None:
    with pair(home) as (here, there):
        tear(here)
        eventually(lambda: hung_up(there))


def test_a_program_that_goes_ends_the_visit(home: Agent) -> None:
    with pair(home) as (here, there):
        there.sendall(b"last words")
        there.close()
        assert rest(here) == b"last words"


def hung_up(connection: socket.socket) -> bool:
    """Whether the other end is closed altogether, and not for one direction alone."""
    poll = select.poll()
    poll.register(connection, 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))
