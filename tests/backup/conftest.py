"""The backup program, run as the job runs it, with a registry of each test's own."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.registry import Registry, registry

ROOT = Path(__file__).resolve().parents[2]
# Says at the end how much memory it had at most, in kB. What `resource` says would count who started it as well.
MEASURED = """
import re, sys
from agent.backup.main import run
code = run(sys.argv[2:])
open(sys.argv[1], "w").write(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
sys.exit(code)
"""


@dataclasses.dataclass
class Job:
    """What one run of the program left."""

    code: int
    result: dict[str, Any]
    log: str
    memory: int


@dataclasses.dataclass
class Jobs:
    """Runs the program; `host` is the registry's address, or that of a line to it."""

    folder: Path
    host: str
    options: tuple[str, ...] = ("--insecure", "--patience", "20")

    @property
    def volume(self) -> Path:
        """What is saved."""
        return self.folder / "volume"

    def command(self, *arguments: str) -> list[str]:
        result = ("--result", str(self.folder / "result.json"))
        return [sys.executable, "-c", MEASURED, str(self.folder / "memory"), *self.options, *result, *arguments]

    def run(self, *arguments: str) -> Job:
        result, memory = self.folder / "result.json", self.folder / "memory"
        result.unlink(missing_ok=True)
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, check=False, timeout=100, env=environment()
        )
        found = json.loads(result.read_text()) if result.exists() else {}
        return Job(done.returncode, found, done.stdout + done.stderr, int(memory.read_text()))

    def saving(self, *more: str, key: str = "one") -> list[str]:
        about = ("--workspace", "demo", "--key", key, "--created", "2026-11-24T10:00:00Z")
        return ["save", "--repository", f"{self.host}/backups/demo", *about, "--root", str(self.volume), *more]

    def save(self, *more: str, key: str = "one") -> Job:
        return self.run(*self.saving(*more, key=key))

    def restore(self, reference: str, into: Path) -> Job:
        into.mkdir(exist_ok=True)
        return self.run("restore", "--reference", reference, "--root", str(into))


def environment() -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT), "LANG": "C.UTF-8", "PATH": os.environ["PATH"]}


@pytest.fixture
def store() -> Iterator[Registry]:
    with registry() as found:
        yield found


@pytest.fixture
def jobs(store: Registry, tmp_path: Path) -> Jobs:
    (tmp_path / "volume").mkdir()
    return Jobs(tmp_path, store.host)
