"""The whole platform, started as a newcomer starts it, in a data folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from tests.support.processes import command_of, processes
from tests.support.waiting import eventually

_OURS = ("SLIPWAY_", "DJANGO_", "DATABASE_URL", "REDIS_URL")
ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    """A port on which nobody listens right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Platform:
    """`manage.py up` with its data in a short temporary folder; the editor is the checkout's."""

    def __init__(self, **environment: str) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="slp-"))
        # Workspaces run under accounts of their own and must be able to walk through.
        self.home.chmod(0o755)
        (self.home / "ide").symlink_to(ROOT / "var" / "ide")
        self.port = free_port()
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(_OURS)},
            "SLIPWAY_HOME": str(self.home),
            "SLIPWAY_PORT": str(self.port),
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._token = ""
        self.link = ""

    @property
    def url(self) -> str:
        """The portal."""
        return f"http://localhost:{self.port}"

    def begin(self) -> None:
        """Start it, and wait for nothing."""
        with (self.home / "up.out").open("wb") as out, (self.home / "up.err").open("ab") as err:
            self._process = subprocess.Popen(
                [sys.executable, "manage.py", "up"], cwd=ROOT, env=self._environment, stdout=out, stderr=err
            )

    def start(self) -> float:
        """Start it and wait for the sign-in link; returns how long that took, in seconds."""
        began = time.monotonic()
        self.begin()
        self.link = eventually(self._link, timeout=90, what="the platform comes up")
        return time.monotonic() - began

    @property
    def said(self) -> str:
        """What it told the person who started it."""
        return (self.home / "up.err").read_text()

    def _link(self) -> str:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"manage.py up ended:\n{self.said}")
        return (self.home / "up.out").read_text().strip()

    def stop(self) -> None:
        """Ctrl-C."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(60)
        self._process = None

    def manage(self, *arguments: str) -> str:
        """What a management command prints."""
        return self.python("manage.py", *arguments)

    def python(self, *arguments: str) -> str:
        """What a program prints that has the platform's settings."""
        paths = os.pathsep.join([str(ROOT / "platform"), str(ROOT)])
        environment = {**self._environment, "PYTHONPATH": paths, "DJANGO_SETTINGS_MODULE": "config.settings"}
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    @property
    def token(self) -> str:
        """A token of the owner's."""
        self._token = self._token or self.manage("create_token", "admin", "--scopes", "workspaces")
        return self._token

    def api(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Call the API through the gateway; status and JSON."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/v1{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Host": f"localhost:{self.port}",
                "Authorization": f"Bearer {self.token}",
                "Content-Type": "application/json",
                **{key.replace("_", "-"): value for key, value in headers.items()},
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refusal:
            return refusal.code, json.load(refusal)

    def create(self, repo: str, **fields: Any) -> dict[str, Any]:
        """A new workspace."""
        status, workspace = self.api("POST", "/workspaces", {"repo": repo, **fields})
        assert status == 201, workspace
        return dict(workspace)

    def wait_for(self, workspace_id: str, *states: str, timeout: float = 60) -> dict[str, Any]:
        """The workspace once it is in one of `states`."""

        def look() -> dict[str, Any] | None:
            status, workspace = self.api("GET", f"/workspaces/{workspace_id}")
            return workspace if status == 200 and workspace["state"] in states else None

        found = eventually(look, timeout=timeout, every=0.1, what=f"{workspace_id} is {states}")
        assert found is not None
        return found

    def pid_of(self, service: str) -> int:
        """The process of a service: the child of `manage.py up` whose command line names it."""
        assert self._process is not None
        parent = psutil.Process(self._process.pid)
        words = {
            "worker": "worker --pool",
            "beat": "beat ",
            "operator": "manage.py operator",
            "web": "gunicorn",
            "gateway": "-m gateway",
            "valkey": "valkey-server",
        }[service]

        def look() -> int | None:
            return next((child.pid for child in parent.children() if words in command_of(child.pid)), None)

        found = eventually(look, what=f"{service} runs")
        assert found is not None
        return found

    def kill(self, service: str) -> None:
        """kill -9 of a service; the supervisor starts it again."""
        os.kill(self.pid_of(service), signal.SIGKILL)

    def runs(self, slug: str) -> list[int]:
        """The runs of a workspace that are alive, by the process id of their supervisor: what `ps` would show."""
        mark = f"{self.home}/workspaces/{slug}/run/launch.json"
        return [pid for pid, command in processes().items() if mark in command]

    def leftovers(self) -> list[str]:
        """Everything that still runs and has to do with this data folder."""
        return [command for command in processes().values() if str(self.home) in command]

    def __enter__(self) -> Platform:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every workspace, then the platform, then forget its data."""
        try:
            if self._process is not None and self._process.poll() is None:
                _, page = self.api("GET", "/workspaces?limit=200")
                for workspace in page["results"]:
                    self.api("DELETE", f"/workspaces/{workspace['id']}")
                for workspace in page["results"]:
                    self.wait_for(workspace["id"], "deleted", timeout=40)
        finally:
            self.stop()
            shutil.rmtree(self.home, ignore_errors=True)
