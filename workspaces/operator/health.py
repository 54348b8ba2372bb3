"""What the operator's process answers over HTTP: whether it is alive, whether it is ready, and its metrics."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

Answer = tuple[bool, str]
"""Whether all is well, and lines that say what is not."""
StartResponse = Callable[..., Any]


class _Handler(WSGIRequestHandler):
    # Seconds for which a client may say nothing.
    timeout = 5

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - The library's name.
        """Probes come every few seconds and are no news."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class Listener:
    """Answers `/healthz`, `/readyz` and `/metrics`.

    Args:
        address: host:port; an IPv6 address in brackets; port 0 for any.
        healthy, ready: say how things are, at once.
        refresh: brings the metrics up to date.

    Raises:
        OSError: nobody can listen there.
    """

    def __init__(
        self, address: str, *, healthy: Callable[[], Answer], ready: Callable[[], Answer], refresh: Callable[[], None]
    ) -> None:
        self._probes = {"/healthz": healthy, "/readyz": ready}
        self._refresh = refresh
        self._metrics = make_wsgi_app()
        host, _, port = address.rpartition(":")
        kind = _Server6 if host.startswith("[") else _Server
        self._server = make_server(host.strip("[]"), int(port), self._application, kind, _Handler)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_port)

    def start(self) -> None:
        """Answer from now on."""
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    def _application(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if environ.get("REQUEST_METHOD") != "GET":
            return _say(start_response, HTTPStatus.METHOD_NOT_ALLOWED, "GET only\n")
        if path == "/metrics":
            self._refresh()
            answer: Iterable[bytes] = self._metrics(environ, start_response)
            return answer
        if path not in self._probes:
            return _say(start_response, HTTPStatus.NOT_FOUND, "/healthz, /readyz, /metrics\n")
        good, text = self._probes[path]()
        return _say(start_response, HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE, text)


def _say(start_response: StartResponse, status: HTTPStatus, text: str) -> Iterable[bytes]:
    body = text.encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response(f"{status.value} {status.phrase}", headers)
    return [body]
