"""GitHub's bad days: rate limits, errors, silence and nonsense."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from kernel.errors import ClusterFault, Failure, TooMany
from tests.support.github import Fault, GitHubServer
from workspaces.repositories.github import GitHubProvider
from workspaces.repositories.port import RepositoryRef, Revision

A, B = "a" * 40, "b" * 40
HELLO = RepositoryRef("github", "https://github.com/octocat/hello.git", "octocat/hello")


class DictCache:
    """A cache that keeps everything for the length of a test, except what is forgotten on purpose."""

    def __init__(self) -> None:
        self.values: dict[str, tuple[bytes, float]] = {}

    def get(self, key: str) -> bytes | None:
        value = self.values.get(key)
        return value[0] if value else None

    def set(self, key: str, value: bytes, ttl: float) -> None:
        self.values[key] = (value, ttl)


@pytest.fixture
def cache() -> DictCache:
    return DictCache()


@pytest.fixture
def make(github: GitHubServer, cache: DictCache) -> Iterator[Callable[..., GitHubProvider]]:
    made: list[GitHubProvider] = []

    def provider(timeout: float = 3.0, token: str = "") -> GitHubProvider:
        made.append(
            GitHubProvider(api_url=github.api_url, web_url=github.url, token=token, cache=cache, timeout=timeout)
        )
        return made[-1]

    yield provider
    for one in made:
        one.close()


Make = Callable[..., GitHubProvider]


def resolve_fails(provider: GitHubProvider, expected: type[Failure]) -> Failure:
    with pytest.raises(expected) as caught:
        provider.resolve(HELLO)
    assert caught.value.next_step
    return caught.value


def test_unchanged_answers_cost_nothing(github: GitHubServer, make: Make) -> None:
    repo = github.add("octocat/hello", branches={"main": A}, languages={"C": 1})
    first = make().resolve(HELLO)
    left = github.remaining
    assert make().resolve(HELLO) == first
    assert github.remaining == left
    assert [one.status for one in github.seen] == [200, 200, 200, 304, 304, 304]
    repo.branches["main"] = B
    assert make().resolve(HELLO).commit == B


def test_answers_are_not_shared_between_tokens(github: GitHubServer, make: Make) -> None:
    github.add("octocat/hello", private=True, branches={"main": A})
    make(token=github.add_token("one")).resolve(HELLO)
    github.exhaust()
    assert resolve_fails(make(), Failure).code == "github_rate_limited"


def test_primary_limit_is_told_remembered_and_bridged_by_the_cache(
    github: GitHubServer, make: Make, cache: DictCache
) -> None:
    github.add("octocat/hello", branches={"main": A})
    github.add("octocat/other", branches={"main": B})
    before = make().resolve(HELLO)
    github.exhaust(seconds=1800)
    other = RepositoryRef("github", "https://github.com/octocat/other.git", "octocat/other")
    with pytest.raises(TooMany) as caught:
        make().resolve(other)
    assert caught.value.code == "github_rate_limited"
    assert caught.value.retry_after == pytest.approx(1800, abs=5)
    assert "30 minutes" in caught.value.next_step
    asked = len(github.seen)
    assert make().resolve(HELLO) == before
    with pytest.raises(TooMany):
        make().resolve(other)
    assert len(github.seen) == asked
    limits = [ttl for key, (_, ttl) in cache.values.items() if key.startswith("limit:")]
    assert limits == [pytest.approx(1800, abs=5)]


def test_last_request_before_the_limit_is_still_answered(github: GitHubServer, make: Make) -> None:
    github.add("octocat/hello", branches={"main": A})
    github.remaining = 3
    assert make().resolve(HELLO).commit == A
    github.recover()
    # The answer itself said that it was the last one, so nothing more is sent before the reset.
    asked = len(github.seen)
    make().resolve(HELLO)
    assert len(github.seen) == asked


def test_secondary_limit_says_when_to_come_back(github: GitHubServer, make: Make) -> None:
    github.add("octocat/hello", branches={"main": A})
    github.secondary_limit(retry_after=17)
    failure = resolve_fails(make(), TooMany)
    assert (failure.code, failure.retry_after) == ("github_rate_limited", 17)


def test_a_passing_fault_is_not_noticed(github: GitHubServer, make: Make) -> None:
    github.add("octocat/hello", branches={"main": A})
    faults: tuple[Fault, ...] = ("error", "unavailable", "drop")
    for fault in faults:
        github.fail(fault, times=2)
        assert make().resolve(HELLO).commit == A


@pytest.mark.parametrize("fault", ["error", "unavailable", "drop", "stall"])
def test_a_lasting_fault_ends_in_time_and_is_not_absence(fault: Fault, github: GitHubServer, make: Make) -> None:
    github.add("octocat/hello", branches={"main": A})
    github.fail(fault)
    started = time.monotonic()
    failure = resolve_fails(make(), ClusterFault)
    assert (failure.code, failure.temporary) == ("github_unavailable", True)
    assert time.monotonic() - started < 20
    assert len(github.seen) >= 2


def test_server_that_is_not_there() -> None:
    provider = GitHubProvider(api_url="http://127.0.0.1:1/api/v3", timeout=0.5)
    assert resolve_fails(provider, ClusterFault).code == "github_unavailable"
    provider.close()


@pytest.mark.parametrize("fault", ["garbage", "wrong_shape", "huge", "deep"])
def test_nonsense_is_reported_as_such(fault: Fault, github: GitHubServer, make: Make) -> None:
    github.add("octocat/hello", branches={"main": A})
    github.fail(fault)
    provider = make()
    assert resolve_fails(provider, ClusterFault).code == "github_answer_unexpected"
    with pytest.raises(ClusterFault):
        provider.branches(HELLO)
    with pytest.raises(ClusterFault):
        provider.search("hello")


@pytest.mark.parametrize("path", ["/git/ref", "/commits"])
def test_nonsense_later_on_is_reported_too(path: str, github: GitHubServer, make: Make) -> None:
    github.add("octocat/hello", branches={"main": A})
    github.fail("wrong_shape", path=path)
    commit = RepositoryRef("github", HELLO.clone_url, HELLO.full_name, Revision("commit", "aaaaaaa"))
    with pytest.raises(ClusterFault) as caught:
        make().resolve(commit if path == "/commits" else HELLO)
    assert caught.value.code == "github_answer_unexpected"


def test_damaged_cache_is_ignored(github: GitHubServer, make: Make, cache: DictCache) -> None:
    github.add("octocat/hello", branches={"main": A})
    make().resolve(HELLO)
    for key in cache.values:
        cache.set(key, b'{"etag": 1}\n<html>', 60)
    assert make().resolve(HELLO).commit == A
