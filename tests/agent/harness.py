"""Runs the real agent as a process, with a real platform endpoint for it to report to."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from typing_extensions import override

from tests.support.git_repos import Repository
from tests.support.waiting import eventually
from workspaces.internal.agent import Report

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = Path(__file__).with_name("stand_in_ide.py")
WORKSPACE = "6f1f7f0e-3a0c-4c8e-9a54-0f3f2f1d9b11"


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    platform: Platform

    @override
    def get_request(self) -> tuple[Any, Any]:
        request, _ = super().get_request()
        return request, ("local", 0)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, answer = self.server.platform.answer(self.path, body, self.headers.get("Authorization", ""))
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        # The agent may have been killed while it waited.
        with contextlib.suppress(BrokenPipeError):
            self.wfile.write(data)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


class Platform:
    """The platform's endpoints for agents, on a Unix socket. Can go away and come back.

    Reports are checked as the platform itself checks them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reports: list[dict[str, Any]] = []
        self.refused: list[dict[str, Any]] = []
        self.credentials: dict[str, tuple[str, str]] = {}
        self.asked: list[dict[str, Any]] = []
        self.cluster_answers: list[tuple[int, dict[str, Any]]] = []
        self.cluster_asked = 0
        self.cluster_open = threading.Event()
        self.cluster_open.set()
        self.status = 200
        self.hangs = threading.Event()
        self._server: _Server | None = None

    def open(self) -> None:
        self.path.unlink(missing_ok=True)
        self._server = _Server(str(self.path), _Handler)
        self._server.platform = self
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self.path.unlink(missing_ok=True)
            self._server = None

    def answer(self, path: str, body: dict[str, Any], authorization: str) -> tuple[int, dict[str, Any]]:
        if authorization != "Bearer token-1":
            return 401, {}
        if path == "/internal/agent/credential":
            self.asked.append(body)
            known = self.credentials.get(body["host"])
            return (200, {"username": known[0], "password": known[1]}) if known else (404, {})
        if path == "/internal/agent/kubernetes-credential":
            self.cluster_asked += 1
            self.cluster_open.wait(30)
            return self.cluster_answers[min(self.cluster_asked, len(self.cluster_answers)) - 1]
        said = Report(data=body)
        if not said.is_valid():
            self.refused.append(body)
            return 400, {"detail": f"Not valid: {dict(said.errors)}"}
        self.reports.append(body)
        if self.hangs.is_set():
            threading.Event().wait(60)
        return self.status, {"interval": 1}

    @property
    def notices(self) -> list[str]:
        """Codes of all notices that ever arrived, each once."""
        found = {notice["id"]: notice["code"] for report in self.reports for notice in report["notices"]}
        return list(found.values())

    def condition(self, part: str) -> dict[str, Any]:
        """A condition as it was reported last."""
        if not self.reports:
            return {"status": "unknown"}
        return next(item for item in self.reports[-1]["conditions"] if item["type"] == part)


class Agent:
    """One workspace: its folders stay over several starts. `prefix` is put before the agent's command."""

    def __init__(self, base: Path, *, node: str = sys.executable, ide: Path = STAND_IN) -> None:
        # Sockets have short paths, pytest's folders have not.
        self.short = Path(tempfile.mkdtemp(prefix="sa-"))
        self.run_dir = self.short / "run"
        self.home, self.state = base / "home", base / "state"
        self.log_path = base / "agent.log"
        for folder in (self.run_dir, self.home, self.state):
            folder.mkdir(parents=True, exist_ok=True)
        self.platform = Platform(self.short / "p.sock")
        self.platform.open()
        self._base = base
        self.prefix: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.secrets = {"run_token": "token-1"}
        self.dev_cluster: dict[str, str] | None = None
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "USER": "dev",
            "SHELL": "/bin/bash",
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.short),
            "PYTHONPATH": str(ROOT),
            "SLIPWAY_AGENT_SPEC": str(base / "spec.json"),
            "SLIPWAY_AGENT_SECRETS": str(base / "secrets.json"),
            "SLIPWAY_RUN_DIR": str(self.run_dir),
            "SLIPWAY_STATE_DIR": str(self.state),
            "SLIPWAY_PLATFORM": f"unix:{self.platform.path}",
            "SLIPWAY_NODE": node,
            "SLIPWAY_IDE": str(ide),
            "SLIPWAY_AGENT_RETRY": "0.05",
            "SLIPWAY_AGENT_REPORT_RETRY": "0.2",
            "SLIPWAY_AGENT_GIT_STATUS": "0.2",
        }

    def start(self, repository: Repository | str, **fields: Any) -> None:
        """Start the agent. Fields replace those of the document's repository."""
        url = repository if isinstance(repository, str) else repository.url
        wanted = {"clone_url": url, "full_name": "team/app", "ref": "refs/heads/main", "branch": "main", "commit": None}
        document = {
            "workspace": {"id": WORKSPACE, "slug": "app-x1y2"},
            "run": 1,
            "repository": {**wanted, **fields},
            "identity": {"name": "Ada Lövelace", "email": "ada@example.com"},
            "urls": {"workspace": "http://app-x1y2.localhost/", "port": "http://{{port}}-app-x1y2.localhost/"},
            "report_interval": 5,
        }
        if self.dev_cluster is not None:
            document["dev_cluster"] = self.dev_cluster
        (self._base / "spec.json").write_text(json.dumps(document))
        (self._base / "secrets.json").write_text(json.dumps(self.secrets))
        with self.log_path.open("ab") as log:
            command = [*self.prefix, sys.executable, "-m", "agent"]
            self.process = subprocess.Popen(
                command, env=self.env, stdout=log, stderr=log, cwd=self.home, start_new_session=True
            )

    def has_door(self, key: str, address: str = "127.0.0.1:0") -> None:
        """Have the next start open a door with this key."""
        self.secrets["door_key"] = key
        self.env["SLIPWAY_DOOR"] = address

    def door_port(self) -> int:
        """The port that the door was opened on."""
        opened = self.wait(lambda: [record for record in self.log() if record.get("event") == "door_open"])
        return int(opened[-1]["text"].rstrip(".").rpartition(" ")[2])

    @property
    def folder(self) -> Path:
        return self.home / "app"

    def log(self, source: str | None = None) -> list[dict[str, Any]]:
        """The log's records. Fails on a line that is no JSON: nothing else may ever be written."""
        text = self.log_path.read_text(encoding="utf-8", errors="strict") if self.log_path.exists() else ""
        complete = text[: text.rfind("\n") + 1]
        records = [json.loads(line) for line in complete.splitlines()]
        return [record for record in records if source is None or record["source"] == source]

    def text(self, source: str | None = None) -> str:
        return "\n".join(record["text"] for record in self.log(source))

    def wait(self, look: Callable[[], Any], timeout: float = 20.0) -> Any:
        """Wait for something, and show the log where it does not come."""
        try:
            return eventually(look, timeout=timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n--- log ---\n{self.text()}") from None

    def wait_condition(self, part: str, status: str, timeout: float = 20.0) -> dict[str, Any]:
        """Wait until a condition was reported with this status."""
        self.wait(lambda: self.platform.condition(part)["status"] == status, timeout)
        return self.platform.condition(part)

    def stop(self, timeout: float = 30.0) -> int:
        """Stop it as the runtime does, and return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def processes(self) -> list[int]:
        """Processes that carry this workspace's mark, the agent included."""
        needle = f"SLIPWAY_AGENT_SPEC={self.env['SLIPWAY_AGENT_SPEC']}".encode()
        found = []
        for path in Path("/proc").iterdir():
            if path.name.isdigit():
                with contextlib.suppress(OSError):
                    if needle in (path / "environ").read_bytes().split(b"\0") and path.name != str(os.getpid()):
                        found.append(int(path.name))
        return found

    def close_processes(self) -> None:
        """End whatever is left, by force."""
        if self.process is not None:
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait(30)

    def close(self) -> None:
        """End whatever is left, and remove the short folder."""
        self.close_processes()
        self.platform.close()
        shutil.rmtree(self.short, ignore_errors=True)
