"""A client of the door: what a gateway says, and what strangers do."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

from tests.agent.harness import Agent

KEY = "sld_" + "0123456789abcdef" * 4
MEGA = 1 << 20


def call(agent: Agent, line: bytes, host: str = "127.0.0.1") -> socket.socket:
    """A connection to the door on which this was sent first."""
    connection = socket.create_connection((host, agent.door_port()), timeout=10)
    connection.sendall(line)
    return connection


def visit(agent: Agent, name: str, *, key: str = KEY, host: str = "127.0.0.1") -> socket.socket:
    """A connection that said its line as it should be."""
    return call(agent, f"SLIPWAY/1 {key} {name}\n".encode(), host)


def let_in(agent: Agent, name: str) -> socket.socket:
    connection = visit(agent, name)
    assert read(connection, 3) == b"OK\n"
    return connection


def read(connection: socket.socket, size: int) -> bytes:
    """So many bytes, or all there are before the end, or before the connection breaks."""
    found = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while len(found) < size and (data := connection.recv(min(size - len(found), MEGA))):
            found += data
    return bytes(found)


def rest(connection: socket.socket) -> bytes:
    """All that comes; the connection is closed then."""
    with connection:
        return rest_of(connection)


def rest_of(connection: socket.socket) -> bytes:
    """All that comes; the connection stays open for the other direction."""
    return read(connection, 1 << 62)


def tear(connection: socket.socket) -> None:
    """Close as nobody does who has manners: with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@contextlib.contextmanager
def program(agent: Agent, port: int) -> Iterator[socket.socket]:
    """A socket in the place of that of a port."""
    path = agent.run_dir / "ports" / f"{port}.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(2048)
        listener.settimeout(10)
        try:
            yield listener
        finally:
            path.unlink()


@contextlib.contextmanager
def pair(agent: Agent) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A visitor, and the program that they were let in to."""
    with program(agent, 4000) as listener, let_in(agent, "port/4000") as here:
        there, _ = listener.accept()
        there.settimeout(10)
        with there:
            yield here, there
