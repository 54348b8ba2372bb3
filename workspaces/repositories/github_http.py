"""GitHub's REST API over HTTP: time limit, retries, conditional requests and rate limits.

Knows nothing of repositories. The rules come from https://docs.github.com/rest/using-the-rest-api, the pages about best
practices and about rate limits.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import random
import ssl
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import httpx
import structlog

from kernel.errors import ClusterFault
from workspaces.repositories import github_errors
from workspaces.repositories.cache import Cache

log = structlog.get_logger(__name__)

API_VERSION = "2022-11-28"
JSON = "application/vnd.github+json"
MAX_BYTES = 2 * 1024 * 1024
"""Of one answer, unpacked."""

_CACHE_SECONDS = 24 * 3600.0
_MAX_REDIRECTS = 4
_MAX_TRIES = 4
_FIRST_PAUSE = 0.1
_REDIRECTS = frozenset({301, 302, 307, 308})
_KNOWN = frozenset({200, 404, 409, 422})


@functools.cache
def _certificates() -> ssl.SSLContext:
    # Reading the trusted certificates takes some 40 ms, as long as a request.
    return httpx.create_ssl_context()


class Deadline:
    """When an operation, with all its requests, must be over."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds; never less than 0."""
        return max(0.0, self._end - time.monotonic())


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What GitHub said.

    Attributes:
        status: 200, 404, 409 or 422; everything else is raised as a failure.
        next_url: the next page, where there is one.
        stale: from the cache, because the rate limit kept us from asking.
    """

    status: int
    body: bytes
    next_url: str = ""
    stale: bool = False

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ClusterFault: `github_answer_unexpected`.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise github_errors.unexpected("body is not JSON") from error


@dataclasses.dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    headers: httpx.Headers
    body: bytes


class GitHubClient:
    """GET requests to one GitHub, with one token or none. Safe to use from several threads.

    Args:
        api_url: such as `https://api.github.com` or `https://ghe.example.com/api/v3`.
        token: empty for anonymous access.
    """

    def __init__(self, api_url: str, token: str, cache: Cache) -> None:
        self._api = api_url.rstrip("/")
        self._token = token
        self._cache = cache
        # The same address has other answers for another token, and a digest may stand in a cache's key.
        self._identity = hashlib.sha256(f"{self._api} {token}".encode()).hexdigest()[:16]
        self._http = httpx.Client(verify=_certificates(), follow_redirects=False, headers={"User-Agent": "slipway"})

    def close(self) -> None:
        """Close idle connections."""
        self._http.close()

    def get(
        self, path: str, deadline: Deadline, *, params: Mapping[str, str | int] | None = None, accept: str = JSON
    ) -> Answer:
        """Ask for a path below the API's address, or for an address that an earlier answer named.

        Raises:
            Forbidden, TooMany, ClusterFault: see `github_errors`.
        """
        url = path if path.startswith("http") else f"{self._api}{path}"
        if params:
            url = f"{url}?{urlencode(params)}"
        for _ in range(_MAX_REDIRECTS + 1):
            answer = self._conditional(url, accept, deadline)
            if isinstance(answer, Answer):
                return answer
            url = self._own(urljoin(url, answer))
        raise github_errors.unexpected("too many redirects")

    def _own(self, url: str) -> str:
        """The address, if it belongs to the API: the token must not go anywhere else."""
        try:
            same = urlsplit(url)[:2] == urlsplit(self._api)[:2]
        except ValueError:
            same = False
        if not same:
            raise github_errors.unexpected("refers to another server")
        return url

    def _conditional(self, url: str, accept: str, deadline: Deadline) -> Answer | str:
        """The answer, or where it has gone."""
        key = f"answer:{self._identity}:{hashlib.sha256(f'{accept} {url}'.encode()).hexdigest()}"
        etag, cached = self._remembered(key)
        resource = "search" if urlsplit(url).path.startswith(f"{urlsplit(self._api).path}/search/") else "core"
        wait = self._limited(resource)
        if wait > 0:
            return self._stale_or(cached, github_errors.limited(wait))
        reply = self._send(url, self._headers(accept, etag), deadline)
        if wait := github_errors.wait_of(reply.status, reply.headers, reply.body, now=time.time()):
            self._cache.set(f"limit:{self._identity}:{resource}", str(time.time() + wait).encode(), wait)
        if reply.status == 304 and cached:
            return cached
        if reply.status in _REDIRECTS:
            return str(reply.headers.get("location", ""))
        if reply.status in _KNOWN:
            return self._remember(key, reply)
        return self._stale_or(cached if wait else None, github_errors.failure(reply.status, wait))

    def _stale_or(self, cached: Answer | None, failure: Exception) -> Answer:
        if cached is None:
            raise failure
        log.info("github_answered_from_cache", reason="rate_limited")
        return dataclasses.replace(cached, stale=True)

    def _headers(self, accept: str, etag: str) -> dict[str, str]:
        headers = {"Accept": accept, "X-GitHub-Api-Version": API_VERSION}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if etag:
            headers["If-None-Match"] = etag
        return headers

    def _remember(self, key: str, reply: _Reply) -> Answer:
        next_url = _next_page(reply.headers)
        etag = reply.headers.get("etag", "")
        if reply.status == 200 and etag:
            head = json.dumps({"etag": etag, "next": next_url}).encode()
            self._cache.set(key, head + b"\n" + reply.body, _CACHE_SECONDS)
        return Answer(reply.status, reply.body, self._own(next_url) if next_url else "")

    def _remembered(self, key: str) -> tuple[str, Answer | None]:
        head, _, body = (self._cache.get(key) or b"").partition(b"\n")
        try:
            known = json.loads(head)
            return str(known["etag"]), Answer(200, body, str(known["next"]))
        except (ValueError, KeyError, TypeError):
            return "", None

    def _limited(self, resource: str) -> float:
        """Seconds until GitHub wants to hear from us again; 0 for now."""
        try:
            return float(self._cache.get(f"limit:{self._identity}:{resource}") or b"0") - time.time()
        except ValueError:
            return 0.0

    def _send(self, url: str, headers: dict[str, str], deadline: Deadline) -> _Reply:
        """One request, repeated after network faults and server errors while there is time."""
        problem = ""
        for attempt in range(_MAX_TRIES):
            pause = _FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, guards nothing
            try:
                reply = self._once(url, headers, deadline)
            except httpx.InvalidURL as error:
                raise github_errors.unexpected("refers to no valid address") from error
            except httpx.HTTPError as error:
                problem = type(error).__name__
            else:
                if reply.status < 500:
                    return reply
                problem = f"HTTP {reply.status}"
            if deadline.left() <= pause:
                break
            time.sleep(pause)
        log.warning("github_unavailable", problem=problem)
        raise ClusterFault(
            "github_unavailable",
            "GitHub did not answer.",
            "Try again in a minute.",
            log_text=f"GitHub did not answer: {problem}",
            retry_after=30,
        )

    def _once(self, url: str, headers: dict[str, str], deadline: Deadline) -> _Reply:
        # Half of the time at most, so that one lost packet leaves room for a second try.
        timeout = max(0.05, min(deadline.left(), deadline.seconds / 2))
        body = bytearray()
        with self._http.stream("GET", url, headers=headers, timeout=timeout) as response:
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise github_errors.unexpected(f"answer of more than {MAX_BYTES} bytes")
                if not deadline.left():
                    raise httpx.ReadTimeout("answer comes too slowly")
        return _Reply(response.status_code, response.headers, bytes(body))


def _next_page(headers: httpx.Headers) -> str:
    for link in httpx.Response(200, headers={"link": headers.get("link", "")}).links.values():
        if link.get("rel") == "next":
            return link.get("url", "")
    return ""
