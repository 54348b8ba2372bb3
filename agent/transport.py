"""Small JSON requests over TCP, TLS or a Unix socket.

The standard library's client, called in a thread: it costs 20 ms to import, where an asynchronous one would cost more
than all the rest of the start.
"""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any
from urllib.parse import urlsplit

ANSWER_LIMIT = 1024 * 1024
"""Bytes read of an answer."""


def connect(address: str, timeout: float) -> http.client.HTTPConnection:
    """A connection to `unix:/path` or `http(s)://host:port`.

    Args:
        timeout: seconds for each step.

    Raises:
        OSError: nobody listens on the Unix socket.
    """
    if address.startswith("unix:"):
        connection = http.client.HTTPConnection("localhost", timeout=timeout)
        connection.sock = _unix_socket(address.removeprefix("unix:"), timeout)
        return connection
    parts = urlsplit(address)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=timeout)


def _unix_socket(path: str, timeout: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection


def post(address: str, path: str, body: dict[str, Any], *, token: str, timeout: float) -> tuple[int, dict[str, Any]]:
    """POST an object and return the status and the object that came back (empty where it was none).

    Raises:
        OSError, http.client.HTTPException: there was no answer.
    """
    connection = connect(address, timeout)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}", "Connection": "close"}
    try:
        connection.request("POST", path, json.dumps(body, ensure_ascii=False).encode(), headers)
        response = connection.getresponse()
        data = response.read(ANSWER_LIMIT)
    finally:
        connection.close()
    try:
        document = json.loads(data)
    except ValueError:
        document = {}
    return response.status, document if isinstance(document, dict) else {}


def get_status(address: str, path: str, *, timeout: float) -> int:
    """Status of a GET, its body read and thrown away.

    Raises:
        OSError, http.client.HTTPException: there was no answer.
    """
    connection = connect(address, timeout)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        response.read(ANSWER_LIMIT)
    finally:
        connection.close()
    return response.status
