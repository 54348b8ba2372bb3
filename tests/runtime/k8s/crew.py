"""Operators at work: in threads of the test, or as processes of their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from django.conf import settings
from django.db import connection

from tests.cluster.access import Cluster
from tests.cluster.control_plane import free_ports
from tests.runtime.k8s.conftest import Stage
from tests.support.platform import ROOT
from tests.support.queue import empty
from tests.support.waiting import eventually
from workspaces.operator.process import Operator
from workspaces.runtime.k8s import K8sConfig
from workspaces.runtime.k8s.operations import K8sOperations, Patience


def get(port: int, path: str) -> tuple[int, str]:
    """Status and text of a probe; 0 when nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()
    except OSError:
        return 0, ""


class Threaded:
    """An operator in threads of the test.

    Args:
        stage: its cluster and instance.
        patience: with a silent server.
        changes: of the runtime's options.
    """

    def __init__(self, stage: Stage, *, patience: Patience | None = None, **changes: Any) -> None:
        config = K8sConfig(**{**stage.values, "connect_seconds": 1, "read_seconds": 3, **changes})
        runtime = stage.runtime(**changes)
        self.operator = Operator(
            lambda identity, told: K8sOperations(config, runtime, identity, told, patience=patience),
            listen="127.0.0.1:0",
            grace=0,
        )
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self.operator.run, args=(self._ended.wait,))

    def start(self) -> Threaded:
        """Start it, and wait for nothing."""
        self._thread.start()
        return self

    def settle(self) -> Threaded:
        """Wait until it leads and knows what there is."""
        eventually(lambda: self.ready == 200 and self.operator.operations.leads, timeout=60)
        return self

    def quiet(self) -> Threaded:
        """Wait until all that it heard was passed on, and forget that."""
        waiting = self.operator.waiting
        # It passes on one batch after the other: when it takes the second of these, the first one's batch is done.
        for name in ("nobody", "nobody-else"):
            waiting.add(name)
            eventually(lambda: not waiting)
        empty()
        return self

    @property
    def healthy(self) -> int:
        """What its liveness probe gets."""
        return get(self.operator.listener.port, "/healthz")[0]

    @property
    def ready(self) -> int:
        """What its readiness probe gets."""
        return get(self.operator.listener.port, "/readyz")[0]

    @property
    def words(self) -> str:
        """What it says with that."""
        return get(self.operator.listener.port, "/readyz")[1]

    @property
    def metrics(self) -> str:
        """Its numbers."""
        return get(self.operator.listener.port, "/metrics")[1]

    def end(self) -> None:
        """As SIGTERM would."""
        if self._thread.is_alive():
            self._ended.set()
            self._thread.join(30)
            assert not self._thread.is_alive()


class Process:
    """`manage.py operator`, on the test's database and broker."""

    def __init__(self, stage: Stage, folder: Path, name: str) -> None:
        self.port = free_ports(1)[0]
        options = folder / f"{name}.yaml"
        values = {**stage.values, "kubeconfig": str(stage.values["kubeconfig"])}
        for peer in ("gateway", "platform"):
            values[peer] = {"networks": ["10.9.9.9/32"]}
        options.write_text(json.dumps(values), encoding="utf-8")
        self.log = folder / f"{name}.log"
        environment = {
            **os.environ,
            "SLIPWAY_HOME": str(folder / name),
            "SLIPWAY_RUNTIME": "k8s",
            "SLIPWAY_KUBERNETES_OPTIONS": str(options),
            "SLIPWAY_OPERATOR_LISTEN": f"127.0.0.1:{self.port}",
            "DATABASE_URL": database_url(),
            "REDIS_URL": settings.REDIS_URL,
            "DJANGO_SETTINGS_MODULE": "config.settings",
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "operator"], cwd=ROOT, env=environment, stdout=log, stderr=log
            )

    @property
    def words(self) -> str:
        """What it says to a readiness probe; empty while it is not ready."""
        status, text = get(self.port, "/readyz")
        return text if status == 200 else ""

    def settle(self) -> Process:
        """Wait until it knows what there is."""
        eventually(lambda: self.words or self._fallen(), timeout=60, what="the operator is ready")
        return self

    def _fallen(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return False

    @property
    def leads(self) -> bool:
        """Whether it says that it leads."""
        return " leads\n" in self.words

    def kill(self) -> None:
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def end(self) -> int:
        """SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)


def database_url() -> str:
    """The test's database, as another process finds it."""
    given = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{given['NAME']}"
    return urlunsplit(urlsplit(settings.ENVIRONMENT.database_url)._replace(path=f"/{quote(str(given['NAME']))}"))


class Relay:
    """Everything between an operator and its API server goes through here, and can be cut.

    Args:
        cluster: where to.
        folder: for a kubeconfig that leads through here.
    """

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._target = str(urlsplit(cluster.url).port)
        self._port = str(free_ports(1)[0])
        self.kubeconfig = folder / "relayed.kubeconfig"
        direct = cluster.kubeconfig.read_text(encoding="utf-8")
        self.kubeconfig.write_text(direct.replace(f":{self._target}", f":{self._port}"), encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        """Let connections through."""
        command = [sys.executable, "-m", "tests.cluster.relay", "127.0.0.1", self._port, self._target]
        self._process = subprocess.Popen(command, cwd=ROOT)
        eventually(self._answers)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", int(self._port))) == 0

    def cut(self) -> None:
        """Break all connections, and take no new ones."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None
