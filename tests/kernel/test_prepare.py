"""What the chart starts beside the long-lived processes, and what it tells them: the real commands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.platform import ROOT


def _prepare(home: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return _manage(home, "prepare", *options, **environment)


def _manage(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    ours = ("SLIPWAY_", "DATABASE_", "DJANGO_", "REDIS_")
    given = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment = {**given, "SLIPWAY_HOME": str(home), **environment}
    command = [sys.executable, str(ROOT / "manage.py"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_who_waits_gets_through_once_the_tables_are_made(tmp_path: Path) -> None:
    waits = _prepare(tmp_path, "--only-wait", "--seconds", "0")
    assert waits.returncode == 1
    assert "migrations are still to come" in waits.stderr
    # The runtime is not asked for: this account has no rights in the cluster.
    options = tmp_path / "options.yaml"
    options.write_text("image: registry.example.com/workspace:1\n")
    made = _prepare(tmp_path, SLIPWAY_RUNTIME="k8s", SLIPWAY_KUBERNETES_OPTIONS=str(options))
    assert made.returncode == 0, made.stderr
    assert _prepare(tmp_path, "--only-wait", "--seconds", "0").returncode == 0
    assert "/sign-in/link?key=" in _manage(tmp_path, "sign_in_link", SLIPWAY_RUNTIME="fake").stdout


def test_a_database_that_is_away_is_waited_for(tmp_path: Path) -> None:
    away = _prepare(tmp_path, "--seconds", "0", DATABASE_URL=f"sqlite:///{tmp_path}/nowhere/slipway.sqlite3")
    assert away.returncode == 1
    assert "the database does not answer" in away.stderr


def test_web_answers_to_the_addresses_that_it_is_told_of(tmp_path: Path) -> None:
    ask = "from django.http.request import validate_host; from django.conf import settings; "
    ask += "print([validate_host(host, settings.ALLOWED_HOSTS) for host in ('10.1.2.3', '[fd00::7]', '10.1.2.4')])"
    told = _manage(tmp_path, "shell", "--command", ask, SLIPWAY_WEB_HOSTS="10.1.2.3,fd00::7", SLIPWAY_RUNTIME="fake")
    assert "[True, True, False]" in told.stdout, told.stderr
