from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.github import GitHubServer
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually
from workspaces.repositories.cache import NoCache, RedisCache
from workspaces.repositories.registry import RepositoryConfig, build_providers


@pytest.fixture
def valkey() -> Iterator[ValkeyServer]:
    # Paths of sockets are limited to about 100 bytes, which pytest's own folders may exceed.
    with tempfile.TemporaryDirectory(prefix="slipway-") as folder, ValkeyServer(Path(folder)) as server:
        yield server


@pytest.fixture
def cache(valkey: ValkeyServer) -> Iterator[RedisCache]:
    made = RedisCache.from_url(valkey.url, timeout=10, pause=0.05)
    yield made
    made.close()


def test_values_are_kept_for_a_while(cache: RedisCache, valkey: ValkeyServer) -> None:
    cache.set("key", b"\x00value\xff", 60)
    cache.set("brief", b"x", 0.001)
    assert cache.get("key") == b"\x00value\xff"
    assert cache.get("missing") is None
    with redis.Redis(unix_socket_path=str(valkey.socket)) as client:
        assert 0 < int(client.ttl("slipway:repositories:key")) <= 60
    eventually(lambda: cache.get("brief") is None)


def test_a_server_that_is_away_is_done_without(cache: RedisCache, valkey: ValkeyServer) -> None:
    valkey.stop()
    cache.set("key", b"value", 60)
    assert cache.get("key") is None
    valkey.start()

    def kept() -> bool:
        cache.set("key", b"value", 60)
        return cache.get("key") == b"value"

    eventually(kept, what="the cache is used again")


def test_providers_do_without_a_cache_that_is_away(
    cache: RedisCache, valkey: ValkeyServer, github: GitHubServer, tmp_path: Path
) -> None:
    github.add("octocat/hello", branches={"main": "a" * 40})
    providers = build_providers(
        RepositoryConfig(git_home=tmp_path, github_api_url=github.api_url, github_url=github.url), cache
    )
    valkey.stop()
    assert providers.resolve("octocat/hello").branch == "main"
    providers.close()


def test_answers_and_the_rate_limit_are_known_to_other_processes(
    cache: RedisCache, valkey: ValkeyServer, github: GitHubServer, tmp_path: Path
) -> None:
    repo = github.add("octocat/hello", branches={"main": "a" * 40})
    config = RepositoryConfig(git_home=tmp_path, github_api_url=github.api_url, github_url=github.url)
    second_cache = RedisCache.from_url(valkey.url)
    one, other = build_providers(config, cache), build_providers(config, second_cache)
    found = one.resolve("octocat/hello")
    repo.branches["main"] = "b" * 40
    github.exhaust()
    assert one.resolve("octocat/hello") == found
    asked = len(github.seen)
    assert other.resolve("octocat/hello") == found
    assert len(github.seen) == asked
    for open_one in (one, other, second_cache):
        open_one.close()


def test_no_cache_forgets() -> None:
    cache = NoCache()
    cache.set("key", b"value", 60)
    assert cache.get("key") is None
