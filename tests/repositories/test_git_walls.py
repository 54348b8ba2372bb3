"""What a look at an address that somebody typed may take along, and where it may lead."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from kernel.errors import Failure, Forbidden, Invalid, TooMany
from tests.repositories.conftest import git
from tests.support.git_http import Credentials, GitServer
from workspaces.repositories.git import MOST_AT_ONCE, GitProvider
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


@pytest.fixture
def other(tmp_path: Path) -> Iterator[GitServer]:
    """A server that nobody named."""
    with GitServer(tmp_path / "elsewhere") as running:
        yield running


def test_a_redirect_is_told_and_not_followed(server: GitServer, other: GitServer, home: Path) -> None:
    moved = other.create_repository("new/app", {"a": "b"})
    server.redirect("team/app.git", moved.url)
    with pytest.raises(Invalid) as refused:
        resolve(home, f"{server.url}/team/app.git")
    assert refused.value.code == "repository_moved"
    assert moved.url in refused.value.user_text
    assert not other.requests
    assert resolve(home, moved.url).commit == moved.head()


@pytest.mark.parametrize(
    "target",
    [
        "{other}/sign-in?back=info/refs#",
        "{other}/any?query#",
        "http://169.254.169.254/latest",
        "http://ada:hunter2@127.0.0.1/a",
        "file:///etc",
        "ext::id",
        "/",
        "http://[/a",
    ],
)
def test_a_redirect_to_what_could_not_be_typed_is_not_repeated(
    target: str, server: GitServer, other: GitServer, home: Path
) -> None:
    server.redirect("team/app.git", target.format(other=other.url))
    with pytest.raises(Failure) as refused:
        resolve(home, f"{server.url}/team/app.git")
    assert refused.value.code == "repository_redirects"
    assert refused.value.next_step
    shown = refused.value.user_text + refused.value.next_step
    assert not any(word in shown for word in ("127.0.0.1", "169.254", "hunter2", "etc"))
    assert not other.requests


def test_a_missing_suffix_that_the_server_asks_for_is_added(server: GitServer, home: Path, tmp_path: Path) -> None:
    """As GitLab does: what is kept is the address that is cloned without a redirect."""
    repository = server.create_repository("team/app", {"a": "b"}, branches={"next": {"c": "d"}})
    server.redirect("team/app", repository.url)
    typed = f"{server.url}/team/app"
    found = resolve(home, typed)
    assert (found.metadata.clone_url, found.metadata.full_name) == (repository.url, "team/app")
    assert found.commit == repository.head()
    branches = GitProvider(home=home).branches(parse(typed, allow_file=False))
    assert [one.name for one in branches] == ["main", "next"]
    git(tmp_path, "-c", "http.followRedirects=false", "clone", "--quiet", found.metadata.clone_url, "copy")


def test_a_server_that_redirects_for_ever(server: GitServer, home: Path) -> None:
    server.redirect("team/app", f"{server.url}/team/app.git")
    server.redirect("team/app.git", f"{server.url}/team/app.git.git")
    with pytest.raises(Failure) as refused:
        resolve(home, f"{server.url}/team/app")
    assert refused.value.code == "repository_moved"


def test_a_name_is_as_good_as_the_addresses_it_stands_for(server: GitServer, home: Path) -> None:
    repository = server.create_repository("team/app", {"a": "b"})
    by_name = parse(repository.url.replace("127.0.0.1", "localhost"), allow_file=False)
    assert GitProvider(home=home).resolve(by_name).commit == repository.head()
    server.requests.clear()
    guarded = GitProvider(home=home, blocked_hosts=["127.*", "::1"])
    for address in (by_name.clone_url, "ssh://git@localhost/a", "git@localhost:a/b"):
        with pytest.raises(Forbidden) as refused:
            guarded.resolve(parse(address, allow_file=False))
        assert refused.value.code == "repository_host_blocked"
    assert not server.requests


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.0.7/a/b",
        "http://[fe80::1]/a/b",
        "http://[::ffff:a9fe:a9fe]/a/b",
        "http://[2002:a9fe:a9fe::1]/a/b",
        "http://[64:ff9b::a9fe:a9fe]/a/b",
        "http://0251.0376.0251.0376/a/b",
        "http://[fd20:ce::254]/a/b",
        "http://168.63.129.16/a/b",
        "git@[fe80::1]:a/b",
    ],
)
def test_link_local_and_metadata_addresses_are_refused_whatever_is_set(address: str, home: Path) -> None:
    with pytest.raises(Forbidden) as refused:
        GitProvider(home=home, blocked_hosts=[]).resolve(parse(address, allow_file=False))
    assert refused.value.code == "repository_host_blocked"


@pytest.fixture
def tarpit() -> Iterator[socket.socket]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        listening.settimeout(20)
        yield listening


def test_only_so_many_servers_are_asked_at_once(server: GitServer, tarpit: socket.socket, home: Path) -> None:
    asked = GitProvider(home=home, timeout=60.0)
    repository = server.create_repository("team/app", {"a": "b"})
    slow = parse(f"http://127.0.0.1:{tarpit.getsockname()[1]}/a/b", allow_file=False)
    fast = parse(repository.url, allow_file=False)
    with contextlib.ExitStack() as open_ones, ThreadPoolExecutor(MOST_AT_ONCE) as threads:
        waiting = [threads.submit(asked.resolve, slow) for _ in range(MOST_AT_ONCE)]
        connections = [open_ones.enter_context(tarpit.accept()[0]) for _ in waiting]
        with pytest.raises(TooMany) as refused:
            asked.resolve(fast)
        assert (refused.value.code, refused.value.temporary) == ("repositories_busy", True)
        assert refused.value.retry_after
        assert refused.value.next_step
        connections.pop().close()
        assert asked.resolve(fast).commit == repository.head()
        open_ones.close()
        for one in waiting:
            assert isinstance(one.exception(), Failure)


class _Flood(BaseHTTPRequestHandler):
    """Lists branches for as long as somebody listens, in git's own protocol (gitprotocol-pack(5))."""

    def do_GET(self) -> None:
        names = [f"{number:040x} refs/heads/{'x' * 900}{number}\n" for number in range(1000)]
        listing = "".join(f"{len(line) + 4:04x}{line}" for line in names).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-git-upload-pack-advertisement")
        self.end_headers()
        self.wfile.write(b"001e# service=git-upload-pack\n0000")
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(listing)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


def test_a_listing_without_end_ends_git_and_not_the_machine(home: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Flood) as flood:
        thread = threading.Thread(target=flood.serve_forever, args=(0.02,))
        thread.start()
        try:
            with pytest.raises(Failure) as refused:
                GitProvider(home=home, timeout=60.0).resolve(
                    parse(f"http://127.0.0.1:{flood.server_port}/a/b", allow_file=False)
                )
        finally:
            flood.shutdown()
            thread.join()
    assert refused.value.code == "repository_too_large"
    assert refused.value.next_step
