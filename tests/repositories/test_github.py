from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from kernel.errors import ClusterFault, Forbidden, Invalid, NotFound, UserFault
from tests.support.github import Fault, GitHubServer, Pull
from workspaces.repositories.github import GitHubProvider
from workspaces.repositories.parse import parse
from workspaces.repositories.port import Branch, RepositoryRef, Resolved, Suggestion

A, B, C = "a" * 40, "b" * 40, "c" * 40


@pytest.fixture
def provider(github: GitHubServer) -> Iterator[GitHubProvider]:
    made = GitHubProvider(api_url=github.api_url, web_url=github.url, timeout=3)
    yield made
    made.close()


@pytest.fixture
def with_token(github: GitHubServer) -> Iterator[GitHubProvider]:
    made = GitHubProvider(api_url=github.api_url, web_url=github.url, token=github.add_token("s3cret"), timeout=3)
    yield made
    made.close()


@pytest.fixture
def ref(github: GitHubServer) -> Callable[[str], RepositoryRef]:
    """A reference as the user would give it, with the fake's address for github.com."""
    return lambda text: parse(text.replace("https://github.com", github.url), github_url=github.url, allow_file=False)


Ref = Callable[[str], RepositoryRef]


def test_default_branch_and_metadata(github: GitHubServer, provider: GitHubProvider, ref: Ref) -> None:
    github.add(
        "Octocat/Hello",
        branches={"main": A, "next": B},
        languages={"Python": 900, "C": 100},
        description="My first",
        size=321,
    )
    found = provider.resolve(ref("octocat/hello"))
    meta = found.metadata
    assert (found.ref, found.branch, found.commit) == ("refs/heads/main", "main", A)
    assert (meta.provider, meta.full_name, meta.moved_from) == ("github", "Octocat/Hello", None)
    assert (meta.clone_url, meta.web_url) == (f"{github.url}/Octocat/Hello.git", f"{github.url}/Octocat/Hello")
    assert (meta.default_branch, meta.head_commit, meta.visibility) == ("main", A, "public")
    assert (meta.description, meta.languages, meta.size_kb) == ("My first", {"Python": 900, "C": 100}, 321)
    assert {one.headers["X-GitHub-Api-Version"] for one in github.seen} == {"2022-11-28"}


def test_named_branch_wins_over_the_address(github: GitHubServer, provider: GitHubProvider, ref: Ref) -> None:
    github.add("octocat/hello", branches={"main": A, "feature/été#1": B})
    found = provider.resolve(ref("https://github.com/octocat/hello/tree/main"), branch=" feature/été#1 ")
    assert (found.ref, found.branch, found.commit) == ("refs/heads/feature/été#1", "feature/été#1", B)
    assert found.metadata.head_commit == A
    assert provider.resolve(ref("octocat/hello"), branch=" ").branch == "main"


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("tree/feature/x/y", ("refs/heads/feature/x/y", "feature/x/y", B)),
        ("blob/feature/x/y/src/app.py", ("refs/heads/feature/x/y", "feature/x/y", B)),
        ("tree/feature/x/yes", ("refs/heads/feature/x/yes", "feature/x/yes", C)),
        ("tree/v1.0/docs", ("refs/tags/v1.0", None, C)),
        (f"blob/{B}/README.md", ("refs/heads/main", None, B)),
        ("commit/ccccccc", ("refs/heads/main", None, C)),
        ("pull/5/files", ("refs/pull/5/head", None, "d" * 40)),
        ("pull/6", ("refs/pull/6/head", None, "e" * 40)),
    ],
)
def test_addresses_of_pages(
    page: str, expected: tuple[str, str | None, str], github: GitHubServer, provider: GitHubProvider, ref: Ref
) -> None:
    pulls = [Pull(5, "d" * 40, from_fork=True), Pull(6, "e" * 40, state="closed")]
    branches = {"main": A, "feature/x/y": B, "feature/x/yes": C, "feature-2": C}
    github.add("octocat/hello", branches=branches, tags={"v1.0": C}, pulls=pulls)
    found = provider.resolve(ref(f"https://github.com/octocat/hello/{page}"))
    assert (found.ref, found.branch, found.commit) == expected
    assert found.metadata.head_commit == A


@pytest.mark.parametrize(
    ("page", "code"),
    [
        ("tree/missing/path", "branch_not_found"),
        ("commit/abcdef0123", "commit_not_found"),
        ("tree/abcdef0123", "commit_not_found"),
        ("pull/99", "pull_request_not_found"),
    ],
)
def test_pages_that_are_gone(page: str, code: str, github: GitHubServer, provider: GitHubProvider, ref: Ref) -> None:
    github.add("octocat/hello", branches={"main": A})
    with pytest.raises(NotFound) as caught:
        provider.resolve(ref(f"https://github.com/octocat/hello/{page}"))
    assert caught.value.code == code
    assert caught.value.next_step


def test_missing_branch_suggests_close_names(github: GitHubServer, provider: GitHubProvider, ref: Ref) -> None:
    github.add("octocat/hello", branches={"main": A, "feature/login": B, "release": C})
    with pytest.raises(NotFound) as caught:
        provider.resolve(ref("octocat/hello"), branch="feature/logni")
    assert caught.value.code == "branch_not_found"
    assert caught.value.field == "branch"
    assert "“feature/login”" in caught.value.next_step
    assert "“release”" not in caught.value.next_step


@pytest.mark.parametrize("branch", ["-x", "a b", "a..b", "../../user", "a\nb", "ext::sh"])
def test_branch_that_git_would_refuse_is_never_asked_for(
    branch: str, github: GitHubServer, provider: GitHubProvider, ref: Ref
) -> None:
    with pytest.raises(Invalid) as caught:
        provider.resolve(ref("octocat/hello"), branch=branch)
    assert caught.value.code == "branch_invalid"
    assert not github.seen


def test_missing_and_private_repositories_look_the_same(
    github: GitHubServer, provider: GitHubProvider, with_token: GitHubProvider, ref: Ref
) -> None:
    github.add("octocat/secret", private=True, branches={"main": A})
    for name in ("octocat/secret", "octocat/missing"):
        with pytest.raises(NotFound) as caught:
            provider.resolve(ref(name))
        assert caught.value.code == "repository_not_found"
        assert "private" in caught.value.user_text
        with pytest.raises(NotFound):
            provider.branches(ref(name))
    found = with_token.resolve(ref("octocat/secret"))
    assert (found.metadata.visibility, found.commit) == ("private", A)


def test_empty_repository(github: GitHubServer, provider: GitHubProvider, ref: Ref) -> None:
    github.add("octocat/empty")
    for text in ("octocat/empty", "https://github.com/octocat/empty/tree/main"):
        with pytest.raises(UserFault) as caught:
            provider.resolve(ref(text))
        assert caught.value.code == "repository_empty"
    assert provider.branches(ref("octocat/empty")) == []


def test_default_branch_that_does_not_exist_counts_as_empty(
    github: GitHubServer, provider: GitHubProvider, ref: Ref
) -> None:
    github.add("octocat/odd", default_branch="main", branches={"other": A})
    with pytest.raises(UserFault) as caught:
        provider.resolve(ref("octocat/odd"))
    assert caught.value.code == "repository_empty"
    assert provider.resolve(ref("octocat/odd"), branch="other").metadata.head_commit == ""


def test_renamed_repository_is_followed_and_reported(github: GitHubServer, provider: GitHubProvider, ref: Ref) -> None:
    github.add("octocat/old", branches={"main": A, "next": B})
    github.rename("octocat/old", "octocat/new")
    found = provider.resolve(ref("octocat/old"), branch="next")
    assert (found.metadata.full_name, found.metadata.moved_from) == ("octocat/new", "octocat/old")
    assert found.metadata.clone_url == f"{github.url}/octocat/new.git"
    assert found.commit == B
    assert provider.branches(ref("octocat/old"), query="ne") == [Branch("next", B)]
    github.add("octocat/old", branches={"main": C})
    assert provider.resolve(ref("octocat/old")).commit == C


def test_token_never_follows_to_another_server(github: GitHubServer, with_token: GitHubProvider, ref: Ref) -> None:
    github.add("octocat/hello", branches={"main": A})
    faults: tuple[Fault, ...] = ("elsewhere", "loop")
    for fault in faults:
        github.fail(fault)
        with pytest.raises(ClusterFault) as caught:
            with_token.resolve(ref("octocat/hello"))
        assert caught.value.code == "github_answer_unexpected"


@pytest.mark.parametrize(("status", "code"), [(403, "repository_forbidden"), (451, "repository_blocked")])
def test_blocked_repository(status: int, code: str, github: GitHubServer, provider: GitHubProvider, ref: Ref) -> None:
    github.add("octocat/hello", branches={"main": A}, blocked=status)
    with pytest.raises(Forbidden) as caught:
        provider.resolve(ref("octocat/hello"))
    assert caught.value.code == code


def test_token_that_github_refuses_is_the_platforms_problem(github: GitHubServer, ref: Ref) -> None:
    provider = GitHubProvider(api_url=github.api_url, web_url=github.url, token="expired-t0ken")
    with pytest.raises(ClusterFault) as caught:
        provider.resolve(ref("octocat/hello"))
    provider.close()
    assert (caught.value.code, caught.value.temporary) == ("github_token_refused", False)
    assert "t0ken" not in f"{caught.value} {caught.value.user_text} {caught.value.next_step}"


def test_branches_are_searched_and_paged(github: GitHubServer, provider: GitHubProvider, ref: Ref) -> None:
    many = {f"topic-{number:04}": A for number in range(1150)}
    github.add("octocat/hello", branches={"main": A, "my-topic": B, "zebra/1": C, **many})
    hello = ref("octocat/hello")
    assert len(provider.branches(hello, limit=20)) == 20
    assert len(github.seen) == 1
    assert [one.name for one in provider.branches(hello, query="TOPIC-00", limit=2)] == ["topic-0000", "topic-0001"]
    assert provider.branches(hello, query="y-top", limit=5) == [Branch("my-topic", B)]
    github.seen.clear()
    # Beyond the last page that is looked at, beginnings are still found.
    assert provider.branches(hello, query="zebra/") == [Branch("zebra/1", C)]
    assert len(github.seen) == 11
    assert provider.branches(hello, query="no such: branch") == []


def test_search(github: GitHubServer, provider: GitHubProvider, with_token: GitHubProvider) -> None:
    github.add("octocat/hello-world", branches={"main": A}, description="Hi")
    github.add("other/hello", branches={"main": A})
    github.add("octocat/hello-secret", private=True, branches={"main": A})
    expected = [Suggestion("octocat/hello-world", "Hi", private=False), Suggestion("other/hello", "", private=False)]
    assert provider.search("hello") == expected
    assert [one.full_name for one in provider.search("octocat/hel")] == ["octocat/hello-world"]
    assert [one.full_name for one in with_token.search("octocat/")] == ["octocat/hello-world", "octocat/hello-secret"]
    assert provider.search("hello", limit=1) == expected[:1]
    for nonsense in ("", "  ", "::", "nobody/x", "🦊", "/"):
        assert provider.search(nonsense) == []


def test_credential_is_for_this_github_only(github: GitHubServer) -> None:
    provider = GitHubProvider(web_url="https://github.com", token="s3cret")
    credential = provider.credential("https://github.com/octocat/hello.git")
    assert credential is not None
    assert (credential.username, credential.password) == ("x-access-token", "s3cret")
    assert "s3cret" not in repr(credential)
    for other in (
        "http://github.com/a/b",
        "https://github.com.evil.example/a",
        "https://github.com:8443/a",
        "git@github.com:a/b",
    ):
        assert provider.credential(other) is None
    provider.close()
    anonymous = GitHubProvider()
    assert anonymous.credential("https://github.com/octocat/hello.git") is None
    anonymous.close()


def test_languages_that_cannot_be_had_stop_nobody(github: GitHubServer, provider: GitHubProvider, ref: Ref) -> None:
    github.add("octocat/hello", branches={"main": A}, languages={"C": 1})
    github.fail("wrong_shape", path="/languages", times=1)
    github.fail("error", path="/languages")
    found: Resolved = provider.resolve(ref("octocat/hello"))
    assert (found.commit, found.metadata.languages) == (A, {})
