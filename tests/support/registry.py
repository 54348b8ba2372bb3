"""A real registry on this machine, with or without a lock on its door, and a bad line in front of it."""

from __future__ import annotations

import base64
import contextlib
import http.client
import http.server
import json
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from tests.cluster import programs
from tests.cluster.pki import Authority
from tests.support.platform import free_port
from tests.support.waiting import eventually

USER, PASSWORD = "backup", "a long password"
# Of PASSWORD, as htpasswd writes it (bcrypt).
_HTPASSWD = "backup:$2b$04$7aZ60WOutwr4KeBoBokkkOotyz1kCnHpZMsyqWDem0QPYWVpOvHlq\n"
Lock = Literal["none", "basic", "token", "tls"]


class Registry:
    """CNCF Distribution with its files in a folder.

    Attributes:
        host: its address with the port.
        blobs: where the content of blobs lies.
        tokens: who gives tokens for it, if it wants some.
        authority: who its certificate is from, if it has one.
    """

    tokens: TokenServer

    def __init__(self, folder: Path, address: str, lock: Lock) -> None:
        self.folder = folder
        self.port = free_port()
        self.address = address
        self.host = f"{address}:{self.port}"
        self.blobs = folder / "data/docker/registry/v2/blobs/sha256"
        self._lock = lock
        self.authority = Authority("registries")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        config: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {
                "filesystem": {"rootdirectory": str(self.folder / "data")},
                "delete": {"enabled": True},
                "maintenance": {"uploadpurging": {"enabled": False}},
            },
            "http": {"addr": self.host, "relativeurls": True},
        }
        if self._lock == "basic":
            (self.folder / "htpasswd").write_text(_HTPASSWD)
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(self.folder / "htpasswd")}}
        path = self.folder / "config.json"
        if self._lock == "tls":
            (self.folder / "ca.crt").write_bytes(self.authority.pair.certificate)
            certificate, key = self.authority.issue("registry", hosts=[self.address]).write(self.folder, "registry")
            config["http"]["tls"] = {"certificate": str(certificate), "key": str(key)}
        if self._lock == "token":
            config["auth"] = self.tokens.config(self.folder)
        path.write_text(json.dumps(config))  # JSON is YAML.
        with (self.folder / "log").open("ab") as log:
            command = [str(programs.registry()), "serve", str(path)]
            environment = {"OTEL_TRACES_EXPORTER": "none"}
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        eventually(self._answers, what="the registry answers")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()
        with contextlib.suppress(OSError), socket.create_connection((self.address, self.port), timeout=1):
            return True
        return False

    def stop(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def blob(self, digest: str) -> Path:
        """The file of a blob's content."""
        name = digest.removeprefix("sha256:")
        return self.blobs / name[:2] / name / "data"


@contextmanager
def registry(lock: Lock = "none", address: str = "127.0.0.1") -> Iterator[Registry]:
    """A registry that is empty."""
    programs.ensure("registry")
    with tempfile.TemporaryDirectory(prefix="slipway-registry-") as folder:
        found = Registry(Path(folder), address, lock)
        with contextlib.ExitStack() as stack:
            if lock == "token":
                found.tokens = stack.enter_context(_serving(TokenServer()))
            try:
                found.start()
                yield found
            finally:
                found.stop()


def credentials(path: Path, host: str, password: str = PASSWORD, **entry: str) -> Path:
    """A file like Docker's config.json."""
    known = {"auth": base64.b64encode(f"{USER}:{password}".encode()).decode()}
    path.write_text(json.dumps({"auths": {host: entry or known}}))
    return path


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *arguments: Any) -> None:
        """Connections that are cut are what some tests are about."""


@contextmanager
def _serving(server: Any) -> Iterator[Any]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class TokenServer(_Server):
    """Trades the name and the password, or an identity token, for a token that the registry believes for a while.

    https://distribution.github.io/distribution/spec/auth/jwt/
    """

    seconds = 60
    identity = "an identity token"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _TokenHandler)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.given = 0

    def config(self, folder: Path) -> dict[str, Any]:
        """What the registry is told of it."""
        numbers = self.key.public_key().public_numbers()
        x, y = (_base64(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
        jwks = {"keys": [{"kty": "EC", "crv": "P-256", "kid": "k", "use": "sig", "alg": "ES256", "x": x, "y": y}]}
        (folder / "jwks.json").write_text(json.dumps(jwks))
        realm = f"http://127.0.0.1:{self.server_port}/token"
        return {
            "token": {"realm": realm, "service": "test", "issuer": "issuer", "jwks": str(folder / "jwks.json"),
                      "signingalgorithms": ["ES256"]}
        }  # fmt: skip

    def token(self, scope: str) -> str:
        """A signed one."""
        kind, name, actions = scope.split(":")
        now = int(time.time())
        claims = {
            "iss": "issuer", "sub": USER, "aud": "test", "exp": now + self.seconds, "nbf": now - 10, "iat": now,
            "jti": str(self.given), "access": [{"type": kind, "name": name, "actions": actions.split(",")}],
        }  # fmt: skip
        head = {"alg": "ES256", "kid": "k", "typ": "JWT"}
        signed = ".".join(_base64(json.dumps(part).encode()) for part in (head, claims))
        r, s = utils.decode_dss_signature(self.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        self.given += 1
        return f"{signed}.{_base64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


class _TokenHandler(http.server.BaseHTTPRequestHandler):
    server: TokenServer

    def do_GET(self) -> None:
        known = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        self._answer(self.headers.get("Authorization") == known, parse_qs(urlsplit(self.path).query))

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self._answer(form.get("refresh_token") == [self.server.identity], form)

    def _answer(self, may: bool, asked: dict[str, list[str]]) -> None:
        body = json.dumps({"token": self.server.token(asked["scope"][0])} if may else {}).encode()
        self.send_response(200 if may else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Not into the tests' output."""


class Fault:
    """What goes wrong with one request: an answer in its place, or a line that is cut while the request is sent.

    Args:
        method: of the request that it is for.
        status: answered in place of the registry; 0: the line is cut.
        headers: of that answer.
        after: for a line that is cut: how much of the body still gets through; None: all of it, but no answer.
    """

    def __init__(self, method: str, status: int = 0, after: int | None = 0, **headers: str) -> None:
        self.method, self.status, self.after = method, status, after
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Line(_Server):
    """Passes requests on to a registry, and brings about the faults that it was told, each once.

    Attributes:
        host: its address with the port.
        faults: still to come.
        seen: method and path of each request that came.
        added: headers that the registry's answers get on their way.
    """

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _LineHandler)
        self.target = target
        self.host = f"127.0.0.1:{self.server_port}"
        self.faults: list[Fault] = []
        self.seen: list[tuple[str, str]] = []
        self.added: dict[str, str] = {}
        self.bytes_sent = 0

    def fault(self, method: str) -> Fault | None:
        """The next one for this method."""
        found = next((fault for fault in self.faults if fault.method == method), None)
        if found is not None:
            self.faults.remove(found)
        return found


@contextmanager
def line(target: str) -> Iterator[Line]:
    """A line to a registry."""
    with _serving(Line(target)) as server:
        yield server


class _LineHandler(http.server.BaseHTTPRequestHandler):
    server: Line
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.seen.append((self.command, self.path))
        fault = self.server.fault(self.command)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if fault is not None and fault.status:
            self._answer(fault.status, fault.headers, b"")
            return
        self.server.bytes_sent += len(body)
        with contextlib.closing(http.client.HTTPConnection(self.server.target, timeout=30)) as upstream:
            # The registry sees its end of the line cut as well, in the middle of the body.
            part = fault is not None and fault.after is not None
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() != "connection":
                    upstream.putheader(name, value)
            upstream.endheaders(body[: fault.after] if fault is not None else body)
            if part:
                self._cut()
                return
            answer = upstream.getresponse()
            content = answer.read()
            if fault is not None:
                self._cut()
                return
            self._answer(answer.status, {**dict(answer.getheaders()), **self.server.added}, content)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def do_PATCH(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in {"transfer-encoding", "connection", "date", "content-length"}:
                self.send_header(name, value)
        length = headers.get("Content-Length", "") if self.command == "HEAD" else str(len(content))
        if length:
            self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(content)

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *arguments: Any) -> None:
        """Not into the tests' output."""
