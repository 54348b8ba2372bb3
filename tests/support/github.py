"""A GitHub on loopback: the REST protocol of the real one, git over HTTP, and switches for its bad days.

    with GitHubServer() as github:
        github.add("octocat/hello", branches={"main": "a" * 40})
        GitHubProvider(api_url=github.api_url, web_url=github.url)

With `git_dir=` a repository has the refs of a real one, and `<url>/<owner>/<name>.git` can be cloned.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from tests.support import github_answers as answers
from tests.support.github_answers import Pull, Repository
from tests.support.github_transport import PREFIX, Fault, Listener, Reply, Seen, encode


class GitHubServer:
    """Serves `api_url` and `url` from threads of this process until `stop`.

    Attributes:
        seen: requests to the API so far; only to be read.
        remaining: requests until the primary rate limit is reached; 304s cost nothing.
    """

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.remaining = 5000
        self.reset_at = int(time.time()) + 3600
        self._secondary = 0
        self._repositories: list[Repository] = []
        self._renamed: dict[str, int] = {}
        self._tokens: set[str] = set()
        self._fault: tuple[Fault, str, int] | None = None
        self._released = threading.Event()
        self._server = Listener(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def api_url(self) -> str:
        return f"{self.url}{PREFIX}"

    def start(self) -> GitHubServer:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.close_connections()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> GitHubServer:
        return self.start()

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    # What is there

    def add(self, full_name: str, *, pulls: list[Pull] | None = None, **fields: Any) -> Repository:
        """Create a repository; `fields` are those of `Repository`. Without branches it is empty."""
        repo = Repository(id=1000 + len(self._repositories), full_name=full_name, **fields)
        repo.pulls = {pull.number: pull for pull in pulls or []}
        self._repositories.append(repo)
        return repo

    def rename(self, old: str, new: str) -> None:
        """Give a repository another name; the old one redirects."""
        repo = self.find(old)
        assert repo is not None
        repo.full_name = new
        self._renamed[old.casefold()] = repo.id

    def add_token(self, token: str) -> str:
        """Make a token valid. It may see everything."""
        self._tokens.add(token)
        return token

    # Bad days

    def fail(self, fault: Fault, *, path: str = "", times: int = 1_000_000) -> None:
        """Let the next requests whose path contains `path` go wrong."""
        self._fault = (fault, path, times)

    def recover(self) -> None:
        """End faults and limits."""
        self._fault = None
        self._released.set()
        self.remaining, self._secondary = 5000, 0

    def exhaust(self, *, seconds: int = 1800) -> None:
        """Reach the primary rate limit, which ends in so many seconds."""
        self.remaining, self.reset_at = 0, int(time.time()) + seconds

    def secondary_limit(self, retry_after: int) -> None:
        """Reach a secondary rate limit."""
        self._secondary = retry_after

    # Serving

    def find(self, full_name: str) -> Repository | None:
        wanted = full_name.casefold()
        return next((repo for repo in self._repositories if repo.full_name.casefold() == wanted), None)

    def token_is_valid(self, token: str) -> bool:
        return token in self._tokens

    def take_fault(self, path: str) -> Fault | None:
        if self._fault is None or self._fault[1] not in path or self._fault[2] <= 0:
            return None
        fault, part, times = self._fault
        self._fault = (fault, part, times - 1)
        return fault

    def stall(self) -> None:
        """Hold a request until `recover` or `stop`."""
        self._released.wait(60)

    def api(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        """Answer a GET of the API."""
        token = headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self._tokens:
            return self._error(401, "Bad credentials")
        if self._secondary:
            wait = {"Retry-After": str(self._secondary)}
            return Reply(403, answers.error(403, "You have exceeded a secondary rate limit."), wait)
        if self.remaining <= 0:
            return self._error(403, "API rate limit exceeded for 127.0.0.1.")
        reply = self._route(path, query, headers, token)
        reply.headers.setdefault("ETag", f'"{hashlib.sha256(encode(reply.body)).hexdigest()}"')
        if reply.status == 200 and headers.get("If-None-Match") == reply.headers["ETag"]:
            return Reply(304, None, reply.headers)
        self.remaining -= 1
        return reply

    def limit_headers(self) -> dict[str, str]:
        return {
            "X-RateLimit-Limit": "5000",
            "X-RateLimit-Remaining": str(max(0, self.remaining)),
            "X-RateLimit-Reset": str(self.reset_at),
            "X-RateLimit-Resource": "core",
        }

    def _error(self, status: int, message: str) -> Reply:
        return Reply(status, answers.error(status, message))

    def _route(self, path: str, query: Mapping[str, str], headers: Mapping[str, str], token: str) -> Reply:
        if path == "/search/repositories":
            return self._search(query, token)
        if by_id := re.fullmatch(r"/repositories/(\d+)(/.*)?", path):
            repo = next((one for one in self._repositories if one.id == int(by_id[1])), None)
            return self._repository(repo, by_id[2] or "", query, headers, token)
        named = re.fullmatch(r"/repos/([^/]+/[^/]+)(/.*)?", path)
        if not named:
            return self._error(404, "Not Found")
        identity = self._renamed.get(named[1].casefold())
        repo = self.find(named[1])
        if repo is None and identity is not None:
            moved = next(one for one in self._repositories if one.id == identity)
            if not moved.private or token:
                target = f"{self.api_url}/repositories/{identity}{named[2] or ''}"
                return Reply(
                    301, answers.moved(target), {"Location": target + (f"?{urlencode(query)}" if query else "")}
                )
        return self._repository(repo, named[2] or "", query, headers, token)

    def _repository(
        self, repo: Repository | None, rest: str, query: Mapping[str, str], headers: Mapping[str, str], token: str
    ) -> Reply:
        if repo is None or (repo.private and not token):
            return self._error(404, "Not Found")
        if repo.blocked:
            return self._error(repo.blocked, "Repository access blocked")
        routes: list[tuple[str, Callable[[str], Reply]]] = [
            (r"()", lambda _: Reply(200, answers.repository(repo, api=self.api_url, web=self.url))),
            (r"/languages()", lambda _: Reply(200, repo.languages)),
            (r"/branches()", lambda _: self._branches(repo, query)),
            (r"/git/ref/(.+)", lambda ref: self._ref(repo, ref)),
            (r"/git/matching-refs/(.+)", lambda ref: self._matching(repo, ref)),
            (r"/commits/(.+)", lambda name: self._commit(repo, name, headers.get("Accept", ""))),
            (r"/pulls/(\d+)", lambda number: self._pull(repo, int(number))),
        ]
        for pattern, answer in routes:
            if match := re.fullmatch(pattern, rest):
                return answer(match[1])
        return self._error(404, "Not Found")

    def _ref(self, repo: Repository, ref: str) -> Reply:
        kind, _, name = ref.partition("/")
        refs = repo.refs(kind)
        if not repo.refs("heads"):
            return self._error(409, "Git Repository is empty.")
        if name not in refs:
            return self._error(404, "Not Found")
        return Reply(200, answers.git_ref(repo, f"refs/{ref}", refs[name], api=self.api_url))

    def _matching(self, repo: Repository, ref: str) -> Reply:
        kind, _, prefix = ref.partition("/")
        if not repo.refs("heads"):
            return self._error(409, "Git Repository is empty.")
        found = [(name, sha) for name, sha in repo.refs(kind).items() if name.startswith(prefix)]
        return Reply(200, [answers.git_ref(repo, f"refs/{kind}/{name}", sha, api=self.api_url) for name, sha in found])

    def _branches(self, repo: Repository, query: Mapping[str, str]) -> Reply:
        size, page = min(100, int(query.get("per_page", "30"))), int(query.get("page", "1"))
        everything = list(repo.refs("heads").items())
        part = everything[(page - 1) * size : page * size]
        headers = {}
        if page * size < len(everything):
            more = urlencode({"per_page": size, "page": page + 1})
            headers["Link"] = f'<{self.api_url}/repositories/{repo.id}/branches?{more}>; rel="next"'
        return Reply(200, [answers.short_branch(repo, name, sha, api=self.api_url) for name, sha in part], headers)

    def _commit(self, repo: Repository, name: str, accept: str) -> Reply:
        if not repo.refs("heads"):
            return self._error(409, "Git Repository is empty.")
        sha = repo.commit(name)
        if sha is None:
            return self._error(422, f"No commit found for SHA: {name}")
        if "vnd.github.sha" in accept:
            return Reply(200, sha, {"Content-Type": "application/vnd.github.sha; charset=utf-8"})
        return Reply(200, {"sha": sha, "url": f"{self.api_url}/repos/{repo.full_name}/commits/{sha}"})

    def _pull(self, repo: Repository, number: int) -> Reply:
        if number not in repo.pulls:
            return self._error(404, "Not Found")
        return Reply(200, answers.pull(repo, repo.pulls[number], api=self.api_url))

    def _search(self, query: Mapping[str, str], token: str) -> Reply:
        words = query.get("q", "").split()
        names = [word.casefold() for word in words if ":" not in word]
        owner = next((word[5:].casefold() for word in words if word.startswith("user:")), "")
        owners = {repo.full_name.split("/")[0].casefold() for repo in self._repositories}
        if owner and owner not in owners:
            return self._error(422, "Validation Failed")
        visible = [repo for repo in self._repositories if token or not repo.private]
        found = [repo for repo in visible if all(name in repo.full_name.split("/")[1].casefold() for name in names)]
        found = [repo for repo in found if not owner or repo.full_name.split("/")[0].casefold() == owner]
        size = int(query.get("per_page", "30"))
        return Reply(
            200, answers.search([answers.repository(repo, api=self.api_url, web=self.url) for repo in found[:size]])
        )


__all__ = ["Fault", "GitHubServer", "Pull", "Repository", "Seen"]
