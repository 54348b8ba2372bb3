"""Sockets with the users' code on the other side: who it is, and connecting to what it offers.

A workspace can write to the folder in which it offers its sockets. A symbolic link there could lead to the socket of
another workspace, or to that of web. So the last steps of the path are walked without following links, and the inode
that was checked is the one that is connected to.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

NOBODY = -1
_CREDENTIALS = struct.Struct("3i")


# A browser that loses its network says no goodbye, and an open editor without typing sends nothing that would show it.
# It is given up after two minutes: rather more than a network needs to come back, and far less than the two hours after
# which the system would ask for the first time.
_ASK_AFTER_SECONDS = 60
_ASK_EVERY_SECONDS = 15
_MOST_QUESTIONS = 4
# The same for a peer that owes an answer to data, for which the system would otherwise wait a quarter of an hour.
_UNANSWERED_SECONDS = 120


def watch_peers(watched: socket.socket) -> None:
    """Let the system notice when a peer has vanished; connections inherit this from their listening TCP socket.

    Args:
        watched: a TCP socket, be it a listening or a connected one.
    """
    watched.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", _ASK_AFTER_SECONDS),
        ("TCP_KEEPINTVL", _ASK_EVERY_SECONDS),
        ("TCP_KEEPCNT", _MOST_QUESTIONS),
        ("TCP_USER_TIMEOUT", _UNANSWERED_SECONDS * 1000),
    ):
        # Not every system has them all.
        if hasattr(socket, name):
            watched.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def user_of(transport: asyncio.BaseTransport) -> int:
    """The account that connected to a Unix socket of ours; `NOBODY` where the system does not tell."""
    connection = transport.get_extra_info("socket")
    if connection is None or connection.family != socket.AF_UNIX or not hasattr(socket, "SO_PEERCRED"):
        return NOBODY
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(told)
    return int(user)


@contextlib.contextmanager
def pinned(path: str, *, depth: int) -> Iterator[str]:
    """Give a path that leads to exactly the socket found at `path`, as long as the block runs.

    Args:
        path: absolute path of the socket.
        depth: how many last components the workspace controls, 1 or 2.

    Raises:
        OSError: it does not exist, is no socket, or a link is in the way.
    """
    target = Path(path)
    if not hasattr(os, "O_PATH"):
        # Without O_PATH (not Linux) the check and the connection are two steps, which is the best there is.
        _check([*target.parents[: depth - 1], target])
        yield path
        return
    folder = os.open(target.parents[depth - 1], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in target.parts[-depth:-1]:
            inner = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = inner
        found = os.open(target.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        if not stat.S_ISSOCK(os.fstat(found).st_mode):
            raise ConnectionRefusedError(f"not a socket: {path}")
        yield f"/proc/self/fd/{found}"
    finally:
        os.close(found)


def _check(paths: list[Path]) -> None:
    for path in paths:
        if path.is_symlink():
            raise ConnectionRefusedError(f"a symbolic link is in the way: {path}")
