from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings

from kernel.errors import ClusterFault, Failure, Forbidden, Invalid, NotFound, UserFault
from tests.repositories.conftest import git
from tests.support.github import GitHubServer
from workspaces.repositories import git as git_module
from workspaces.repositories.git import GitProvider
from workspaces.repositories.git_errors import failure
from workspaces.repositories.parse import parse
from workspaces.repositories.port import RepositoryRef, Revision

Make = Callable[..., Path]


def ref(text: str | Path) -> RepositoryRef:
    return parse(str(text), allow_file=True)


def provider(timeout: float = 10.0, **options: object) -> GitProvider:
    home = settings.ENVIRONMENT.home / "git"
    return GitProvider(home=home, timeout=timeout, **{"allow_file": True, **options})  # type: ignore[arg-type]  # its own options


def refused(text: str, expected: type[Failure], branch: str | None = None, **options: object) -> Failure:
    with pytest.raises(expected) as caught:
        provider(**options).resolve(ref(text), branch=branch)  # type: ignore[arg-type]  # see `provider`
    assert caught.value.next_step
    return caught.value


@pytest.fixture
def web(github: GitHubServer, make_repository: Make) -> str:
    """A git server over HTTP, with a public and a private repository."""
    github.add("team/open", git_dir=make_repository("open.git", "next"))
    github.add("team/secret", git_dir=make_repository("secret.git"), private=True)
    return github.url


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        server.settimeout(30)
        yield server


@pytest.mark.parametrize("name", ["plain.git", "with space", 'it\'s "quoted"', "🦊.git", "100%", "a#b?c=d"])
def test_folder_with_any_legal_name(name: str, make_repository: Make) -> None:
    folder = make_repository(name, "feature/été", "release")
    head = git(folder, "rev-parse", "main")
    found = provider().resolve(ref(folder))
    assert (found.ref, found.branch, found.commit) == ("refs/heads/main", "main", head)
    meta = found.metadata
    assert (meta.provider, meta.default_branch, meta.head_commit) == ("git", "main", head)
    assert (meta.visibility, meta.languages, meta.size_kb, meta.web_url) == ("unknown", {}, None, "")
    assert meta.full_name.rsplit("/", 1)[-1] == name.removesuffix(".git")
    assert provider().resolve(ref(folder), branch="feature/été").ref == "refs/heads/feature/été"


def test_over_http(web: str, make_repository: Make) -> None:
    found = provider().resolve(ref(f"{web}/team/open.git"))
    assert (found.branch, found.metadata.web_url) == ("main", f"{web}/team/open")
    assert [one.name for one in provider().branches(ref(f"{web}/team/open.git"))] == ["main", "next"]


def test_default_branch_is_what_head_says(make_repository: Make) -> None:
    folder = make_repository("a.git", "aardvark", "trunk")
    git(folder, "symbolic-ref", "HEAD", "refs/heads/trunk")
    assert provider().resolve(ref(folder)).branch == "trunk"
    git(folder, "symbolic-ref", "HEAD", "refs/heads/gone")
    assert provider().resolve(ref(folder)).branch == "main"
    git(folder, "update-ref", "--no-deref", "HEAD", git(folder, "rev-parse", "aardvark"))
    assert provider().resolve(ref(folder)).branch in {"aardvark", "main", "trunk"}


def test_branches_are_filtered_default_first(make_repository: Make) -> None:
    folder = ref(make_repository("a.git", "a-main-b", "feature/login", "logout"))
    assert [one.name for one in provider().branches(folder)] == ["main", "a-main-b", "feature/login", "logout"]
    assert [one.name for one in provider().branches(folder, query="LOG")] == ["logout", "feature/login"]
    assert [one.name for one in provider().branches(folder, limit=1)] == ["main"]


def test_commit_is_taken_in_full_only(make_repository: Make) -> None:
    folder = ref(make_repository())
    commit = RepositoryRef("git", folder.clone_url, folder.full_name, Revision("commit", "a" * 40))
    found = provider().resolve(commit)
    assert (found.ref, found.branch, found.commit) == ("refs/heads/main", None, "a" * 40)
    with pytest.raises(Invalid) as caught:
        provider().resolve(RepositoryRef("git", folder.clone_url, folder.full_name, Revision("pull", "5")))
    assert caught.value.code == "revision_unsupported"


def test_missing_branch(make_repository: Make) -> None:
    caught = refused(str(make_repository("a.git", "feature/login")), NotFound, branch="feature/logni")
    assert caught.code == "branch_not_found"
    assert "“feature/login”" in caught.next_step


@pytest.mark.parametrize("branch", ["--upload-pack=reboot", "a b", "a\x00b", "refs/../x"])
def test_branch_that_git_would_refuse(branch: str, make_repository: Make) -> None:
    assert refused(str(make_repository()), Invalid, branch=branch).code == "branch_invalid"


def test_empty_repository(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--bare")
    assert refused(str(tmp_path), UserFault).code == "repository_empty"
    assert provider().branches(ref(tmp_path)) == []


def test_missing_folder(tmp_path: Path) -> None:
    assert refused(str(tmp_path / "missing"), NotFound).code == "repository_not_found"


def test_folder_that_is_no_repository(tmp_path: Path) -> None:
    assert refused(str(tmp_path), NotFound).code == "repository_not_found"


def test_missing_private_and_wrong_pages_over_http(web: str) -> None:
    assert refused(f"{web}/team/missing.git", NotFound).code == "repository_not_found"
    assert refused(f"{web}/team/secret.git", Forbidden).code == "repository_access_denied"
    assert refused(f"{web}/api/v3/search/repositories", Failure).code == "repository_not_found"


def test_unreachable_servers() -> None:
    assert refused("http://127.0.0.1:1/a/openssl", ClusterFault).code == "repository_unreachable"
    assert refused("ssh://git@127.0.0.1:1/a", ClusterFault).code == "repository_unreachable"


def test_server_name_that_does_not_exist() -> None:
    # RFC 6761 reserves .invalid, so no resolver knows it.
    caught = refused("https://slipway.invalid/a", UserFault)
    assert (caught.code, caught.temporary) == ("repository_host_unknown", True)


def test_server_without_tls(web: str) -> None:
    caught = refused(f"{web.replace('http:', 'https:')}/team/open.git", ClusterFault)
    assert (caught.code, caught.temporary) == ("repository_tls", False)


@pytest.mark.parametrize(
    ("address", "code"),
    # ssh has a time limit of its own, a second shorter than ours.
    [
        ("http://127.0.0.1:{port}/a/b", "repository_timeout"),
        ("ssh://git@127.0.0.1:{port}/a/b", "repository_unreachable"),
    ],
)
def test_silent_server_is_given_up_and_nothing_is_left_behind(address: str, code: str, silent: socket.socket) -> None:
    started = time.monotonic()
    caught = refused(address.format(port=silent.getsockname()[1]), ClusterFault, timeout=3)
    assert caught.code in {code, "repository_timeout"}
    assert time.monotonic() - started < 20
    connection, _ = silent.accept()
    with connection:
        connection.settimeout(30)
        # Ends, because the process at the other end has: git's helper or ssh, not only git itself.
        while connection.recv(4096):
            pass


def test_server_that_never_stops_talking() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)

        def talk() -> None:
            with contextlib.suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    connection.settimeout(30)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n")
                    while True:
                        connection.sendall(b"<p>welcome</p>" * 1000)

        talker = threading.Thread(target=talk)
        talker.start()
        caught = refused(f"http://127.0.0.1:{server.getsockname()[1]}/a", Failure, timeout=1.5)
        talker.join()
    assert caught.code in {"repository_timeout", "repository_not_a_repository", "repository_too_large"}


def test_file_addresses_need_permission_from_git_as_well(make_repository: Make) -> None:
    """Even a reference that did not come from `parse` reads no folder where that is not allowed."""
    assert refused(str(make_repository()), Invalid, allow_file=False).code == "repository_transport_refused"


@pytest.mark.parametrize("address", ["ext::touch {mark}", "--upload-pack=touch {mark}", "fd::0"])
def test_no_command_is_run_even_past_the_parser(address: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    crafted = RepositoryRef("git", address.format(mark=mark), "x")
    with pytest.raises(Failure):
        provider().resolve(crafted)
    assert not mark.exists()


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://2852039166/latest",
        "http://0xa9.254.0xa9fe/latest",
        "http://metadata.google.internal/a",
        "http://METADATA.google.internal./a",
        "http://[::ffff:169.254.169.254]/a",
        "http://[fd00:ec2::254]/a",
        "git@169.254.169.254:a",
        "ssh://git@169.254.1.1/a",
    ],
)
def test_cloud_metadata_is_never_asked(address: str) -> None:
    assert refused(address, Forbidden).code == "repository_host_blocked"


def test_blocked_hosts_are_a_setting(web: str) -> None:
    assert refused(f"{web}/team/open.git", Forbidden, blocked_hosts=["127.*"]).code == "repository_host_blocked"


def test_more_branches_than_are_looked_at(make_repository: Make) -> None:
    folder = make_repository()
    head = git(folder, "rev-parse", "main")
    count = git_module.MAX_REFS + 100
    packed = "".join(f"{head} refs/heads/b{number:06}\n" for number in range(count))
    (folder / "packed-refs").write_text(
        f"# pack-refs with: peeled fully-peeled sorted \n{packed}{head} refs/heads/main\n"
    )
    (folder / "refs/heads/main").unlink()
    last = f"b{count - 1:06}"
    assert len(provider().branches(ref(folder), limit=10**6)) <= git_module.MAX_REFS
    assert provider().resolve(ref(folder), branch=last).commit == head
    assert refused(str(folder), NotFound, branch="missing").code == "branch_not_found"


def test_settings_of_the_machine_are_not_used(
    make_repository: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A credential helper or a rewritten address in somebody's git settings has no say."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(f'[url "file://{tmp_path}/elsewhere"]\n\tinsteadOf = file://{tmp_path}/a.git\n')
    folder = make_repository("a.git")
    for name, value in {"HOME": str(home), "GIT_ALLOW_PROTOCOL": "ext", "LC_ALL": "de_DE.UTF-8"}.items():
        monkeypatch.setenv(name, value)
    assert provider().resolve(ref(folder)).branch == "main"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("repository_access_denied", "git@example.com: Permission denied (publickey).\nfatal: Could not read"),
        ("repository_access_denied", "fatal: could not open '/srv/a': Permission denied"),
        ("repository_access_denied", "fatal: could not read Username for 'https://x': terminal prompts disabled"),
        ("repository_access_denied", "fatal: detected dubious ownership in repository at '/srv/a'"),
        ("repository_not_found", "ERROR: Repository not found.\nfatal: Could not read from remote repository."),
        ("repository_not_found", "fatal: '/a/tls/b' does not appear to be a git repository"),
        ("repository_host_key", "Host key verification failed.\nfatal: Could not read from remote repository."),
        ("repository_host_unknown", "ssh: Could not resolve hostname nowhere: Name or service not known"),
        ("repository_unreachable", "ssh: connect to host 10.1.1.1 port 22: No route to host"),
        ("repository_unreachable", "fatal: unable to access 'https://x/ssl': The requested URL returned error: 502"),
        ("repository_tls", "fatal: unable to access 'https://x/': SSL certificate problem: self-signed certificate"),
        ("repository_not_a_repository", "fatal: https://x/info/refs not valid: is this a git repository?"),
        ("repository_failed", "fatal: something new"),
    ],
)
def test_words_of_git_that_need_a_server_to_be_heard(code: str, words: str) -> None:
    assert failure(words).code == code


def test_nothing_is_found_or_given_away() -> None:
    assert provider().search("anything") == []
    assert provider().credential("https://example.com/a") is None
    assert os.environ.get("GIT_ASKPASS") is None
