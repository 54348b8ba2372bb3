"""What a look at an address that somebody typed may take along, and where it may lead."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.errors import Failure, Forbidden
from tests.support.git_http import Credentials, GitServer
from workspaces.repositories.git import GitProvider
from workspaces.repositories.parse import parse
from workspaces.repositories.port import Resolved

OPERATOR = Credentials("operator", "hunter2")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with GitServer(tmp_path / "served") as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where the provider keeps its own things; the name needs quoting."""
    return tmp_path / "data of 100%" / "git"


@pytest.fixture
def operators_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of the account that the platform runs under."""
    folder = tmp_path / "operator"
    (folder / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(folder / "agent.sock"))
    return folder


def resolve(home: Path, address: str) -> Resolved:
    return GitProvider(home=home, timeout=10.0).resolve(parse(address, allow_file=False))


def test_the_operators_netrc_is_not_used(server: GitServer, home: Path, operators_home: Path) -> None:
    (operators_home / ".netrc").write_text(f"machine 127.0.0.1 login {OPERATOR.username} password {OPERATOR.password}")
    private = server.create_repository("team/private", {"a": "b"}, credentials=OPERATOR)
    with pytest.raises(Forbidden) as refused:
        resolve(home, private.url)
    assert refused.value.code == "repository_access_denied"
    assert server.authorizations == set()
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


@pytest.fixture
def ssh_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where an ssh that connects nowhere writes what the real one makes of its arguments, and its environment."""
    programs, said = tmp_path / "programs", tmp_path / "said"
    programs.mkdir()
    git, ssh = shutil.which("git"), shutil.which("ssh")
    assert git
    assert ssh
    (programs / "git").symlink_to(git)
    stand_in = programs / "ssh"
    refusal = "echo 'Permission denied (publickey).' >&2"
    stand_in.write_text(f'#!/bin/sh\nenv > {said}.env\n{ssh} -G "$@" > {said}\n{refusal}\n')
    stand_in.chmod(0o700)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return said


@pytest.mark.parametrize("address", ["git@127.0.0.1:op/priv.git", "ssh://git@127.0.0.1:2222/op/priv.git"])
def test_ssh_knows_neither_the_operators_keys_nor_settings(
    address: str, home: Path, operators_home: Path, ssh_asked: Path
) -> None:
    with pytest.raises(Failure) as refused:
        resolve(home, address)
    assert refused.value.code == "repository_access_denied"
    assert "https" in refused.value.next_step
    settings = dict(line.split(" ", 1) for line in ssh_asked.read_text().splitlines() if " " in line)
    assert settings["identityfile"] == "none"
    assert settings["identityagent"] == "none"
    assert settings["identitiesonly"] == "yes"
    assert settings["userknownhostsfile"] == str(home / "known_hosts")
    assert settings["batchmode"] == "yes"
    # Debian's own settings for all users turn this on, so they were not read.
    assert settings["hashknownhosts"] == "no"
    environment = (ssh_asked.parent / "said.env").read_text()
    assert "SSH_AUTH_SOCK" not in environment
    assert str(operators_home) not in environment


def test_known_hosts_do_not_grow_for_ever(home: Path, ssh_asked: Path) -> None:
    home.mkdir(parents=True)
    known = home / "known_hosts"
    for size, kept in ((1000, True), (2 * 1024 * 1024, False)):
        known.write_bytes(b"#" * size)
        with pytest.raises(Failure):
            resolve(home, "git@127.0.0.1:op/priv.git")
        assert known.exists() is kept
