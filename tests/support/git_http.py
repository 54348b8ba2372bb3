"""A real git server over HTTP on loopback: `git http-backend` behind the standard library's threaded server.

with GitServer(tmp_path / "git") as server:
    repository = server.create_repository("team/app", {"README.md": "hello"})
    subprocess.run(["git", "clone", repository.url])
"""

from __future__ import annotations

import base64
import collections
import contextlib
import dataclasses
import os
import subprocess
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import urlsplit

from typing_extensions import override

from tests.support.git_repos import Repository, create

_CHUNK = 64 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Credentials:
    """What a private repository wants to see."""

    username: str
    password: str

    def header(self) -> str:
        """The value of a matching Authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class GitServer:
    """Serves the repositories below `root`, at an address of this machine.

    Attributes:
        requests: number of requests by service: "info/refs", "git-upload-pack", "git-receive-pack".
        authorizations: every Authorization header that came.
        bytes_sent: bytes of all answers together.
        stalled: set as soon as a transfer stands still because of `stall_after`.
        bytes_per_second: slows the packs down; None for full speed.
    """

    def __init__(self, root: Path, host: str = "127.0.0.1") -> None:
        self.root = root
        self.host = host
        self.root.mkdir(parents=True, exist_ok=True)
        self.requests: collections.Counter[str] = collections.Counter()
        self.authorizations: set[str] = set()
        self.bytes_sent = 0
        self.bytes_per_second: int | None = None
        self.stalled = threading.Event()
        self.closing = threading.Event()
        self._private: dict[str, Credentials] = {}
        self._redirects: dict[str, str] = {}
        self._stall_after: int | None = None
        self._go_on = threading.Event()
        self._failures: collections.Counter[int] = collections.Counter()
        self._lock = threading.Lock()
        server = self

        class Handler(_Handler):
            git_server = server

        self._http = ThreadingHTTPServer((host, 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Root URL without a slash at the end."""
        return f"http://{self.host}:{self._http.server_address[1]}"

    @property
    def netloc(self) -> str:
        """Host and port, as git names the host to credential helpers."""
        return urlsplit(self.url).netloc

    def create_repository(
        self,
        name: str,
        files: Mapping[str, str | bytes] | None = None,
        *,
        branches: Mapping[str, Mapping[str, str | bytes]] | None = None,
        credentials: Credentials | None = None,
    ) -> Repository:
        """Make a bare repository that can be cloned from `<url>/<name>.git`.

        Args:
            files: content of the first commit on `main`; None leaves the repository empty.
            branches: further branches, each one commit on top of main that adds these files.
            credentials: makes it private.
        """
        repository = create(self.root / f"{name}.git", files, branches=branches or {}, url=f"{self.url}/{name}.git")
        if credentials is not None:
            self._private[f"/{name}.git"] = credentials
        return repository

    def redirect(self, name: str, target: str) -> None:
        """Answer what is asked below `<url>/<name>/` with 302: to the same below `target`, or, where that ends in "#",
        to just there."""
        self._redirects[f"/{name}/"] = target

    def redirected(self, path: str) -> str | None:
        """Where this path and query are sent on to, if anywhere."""
        for start, target in self._redirects.items():
            if path.startswith(start):
                return target[:-1] if target.endswith("#") else f"{target}/{path.removeprefix(start)}"
        return None

    def stall_after(self, count: int) -> None:
        """Let each pack stand still after this many bytes, until `go_on`."""
        self._go_on.clear()
        self._stall_after = count

    def go_on(self) -> None:
        """End stalling, also of transfers under way."""
        self._stall_after = None
        self._go_on.set()

    def fail_next(self, status: int, times: int = 1) -> None:
        """Answer the next requests with this status."""
        with self._lock:
            self._failures[status] += times

    def close(self) -> None:
        """Stop serving and end transfers under way. Safe to call twice."""
        self.closing.set()
        self.go_on()
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join()
        self._http.server_close()

    def take_failure(self) -> int | None:
        """The status that this request has to fail with, if any."""
        with self._lock:
            for status in list(self._failures):
                self._failures[status] -= 1
                if self._failures[status] <= 0:
                    del self._failures[status]
                return status
        return None

    def is_allowed(self, path: str, authorization: str | None) -> bool:
        """Whether this request may see this path."""
        if authorization is not None:
            self.authorizations.add(authorization)
        wanted = next((value for prefix, value in self._private.items() if path.startswith(prefix)), None)
        return wanted is None or authorization == wanted.header()

    def count(self, service: str) -> None:
        """Note a request."""
        with self._lock:
            self.requests[service] += 1

    def send(self, target: BufferedIOBase, source: IO[bytes], *, is_pack: bool) -> None:
        """Copy an answer, stalling or slowly where that was asked for."""
        sent = 0
        while not self.closing.is_set():
            size = _CHUNK
            if is_pack and self._stall_after is not None:
                size = min(size, max(self._stall_after - sent, 0))
                if size == 0:
                    self.stalled.set()
                    self._go_on.wait()
                    continue
            if is_pack and self.bytes_per_second:
                size = min(size, max(self.bytes_per_second // 20, 1))
                self.closing.wait(size / self.bytes_per_second)
            data = source.read(size)
            if not data:
                return
            target.write(data)
            target.flush()
            sent += len(data)
            with self._lock:
                self.bytes_sent += len(data)


class _Handler(BaseHTTPRequestHandler):
    """One request, answered by git's own CGI program (git-http-backend(1))."""

    git_server: GitServer
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Tests keep standard error for themselves."""

    def _serve(self) -> None:
        server, parts = self.git_server, urlsplit(self.path)
        server.count(
            next((part for part in ("info/refs", "git-upload-pack") if part in parts.path), "git-receive-pack")
        )
        failure = server.take_failure()
        if failure is not None:
            self.send_error(failure)
        elif (target := server.redirected(self.path)) is not None:
            self.send_response(302)
            self.send_header("Location", target)
            self.end_headers()
        elif not server.is_allowed(parts.path, self.headers.get("Authorization")):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.end_headers()
        else:
            # The client may hang up at any moment: that is its right.
            with contextlib.suppress(ConnectionError):
                self._backend(parts.path, parts.query)

    def _environment(self, path: str, query: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.git_server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": self.headers.get("Content-Length", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_USER": "test" if self.headers.get("Authorization") else "",
            "REMOTE_ADDR": "127.0.0.1",
        }

    def _backend(self, path: str, query: str) -> None:
        body = self._body()
        with subprocess.Popen(
            ["git", "http-backend"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self._environment(path, query),
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(body)
                    process.stdin.close()
                self._answer(process.stdout, is_pack=self.command == "POST")
            finally:
                process.kill()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, output: IO[bytes], *, is_pack: bool) -> None:
        status, headers = 200, []
        while line := output.readline().rstrip(b"\r\n"):
            name, _, value = line.decode("latin-1").partition(": ")
            if name == "Status":
                status = int(value.split()[0])
            else:
                headers.append((name, value))
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.git_server.send(self.wfile, output, is_pack=is_pack)
