"""The web process alone, in a data folder of its own: for browsers, and for what only a real server shows."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.support.platform import free_port
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
# The workspace that `tests.portal.stage` makes.
SLUG = "rocket-bcdfg"


class Portal:
    """The web process alone, with a data folder of its own."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="slq-")
        self.port = free_port()
        self.url = f"http://localhost:{self.port}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLIPWAY_", "DJANGO_"))}
        self._environment = {
            **kept,
            "SLIPWAY_HOME": self._folder.name,
            "SLIPWAY_PORT": str(self.port),
            "SLIPWAY_RUNTIME": "fake",
            "SLIPWAY_ALLOW_FILE_REPOSITORIES": "true",
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "PYTHONPATH": f"{ROOT / 'platform'}{os.pathsep}{ROOT}",
            "DATABASE_URL": "",
            "REDIS_URL": "",
        }
        run = Path(self._folder.name) / "run"
        run.mkdir()
        self._valkey = ValkeyServer(run)
        self._tokens: dict[str, str] = {}
        self._cookies: dict[str, str] = {}

    def _python(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT, env=self._environment, check=True, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout.strip()

    def stage(self, what: str) -> None:
        """See `tests.portal.stage`."""
        self._python("-m", "tests.portal.stage", what)

    def bearer(self, user: str) -> dict[str, str]:
        """The header of a program of theirs."""
        if user not in self._tokens:
            self._tokens[user] = self._python("manage.py", "create_token", user, "--scopes", "workspaces")
        return {"Authorization": f"Bearer {self._tokens[user]}"}

    def cookie(self, user: str) -> str:
        """The header of a browser of theirs."""
        if user not in self._cookies:
            link = urlsplit(self._python("manage.py", "sign_in_link", user))
            with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
                connection.request("GET", f"{link.path}?{link.query}")
                fields = connection.getresponse().headers.get_all("Set-Cookie", [])
            self._cookies[user] = next(field.partition(";")[0] for field in fields if "session" in field)
        return self._cookies[user]

    def workspaces(self, user: str) -> list[dict[str, Any]]:
        """Theirs, as the API lists them."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/api/v1/workspaces", headers=self.bearer(user))
        with urllib.request.urlopen(request, timeout=10) as answer:
            return list(json.load(answer)["results"])

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def __enter__(self) -> Portal:
        self._valkey.start()
        self._python("manage.py", "migrate", "-v0")
        command = [sys.executable, "-m", "uvicorn", "config.asgi:application", "--port", str(self.port)]
        self._process = subprocess.Popen(
            [*command, "--timeout-graceful-shutdown", "1"],
            cwd=ROOT, env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        eventually(self._answers, timeout=30, what="the portal answers")
        return self

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._valkey.stop()
        self._folder.cleanup()
