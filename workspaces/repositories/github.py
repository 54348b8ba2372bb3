"""Repositories on GitHub or GitHub Enterprise, through the REST API."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

import structlog

from kernel.errors import ClusterFault, NotFound, TooMany
from workspaces.repositories import github_json as shape
from workspaces.repositories.branch_names import is_branch_name, validate_branch
from workspaces.repositories.cache import Cache, NoCache
from workspaces.repositories.faults import empty_repository, missing_branch
from workspaces.repositories.github_http import JSON, Answer, Deadline, GitHubClient
from workspaces.repositories.port import (
    Branch,
    Credential,
    RepositoryMetadata,
    RepositoryRef,
    Resolved,
    Revision,
    Suggestion,
)

log = structlog.get_logger(__name__)

_PAGE = 100
_MAX_PAGES = 10
_SHA = "application/vnd.github.sha"


class GitHubProvider:
    """Implements `port.Provider`.

    Args:
        api_url: `https://api.github.com`, or `https://<host>/api/v3` for GitHub Enterprise Server.
        web_url: what repositories' pages and clone URLs begin with.
        token: used for the API and for git; empty for public repositories only.
        timeout: seconds for one operation with all its requests.
    """

    def __init__(
        self,
        *,
        api_url: str = "https://api.github.com",
        web_url: str = "https://github.com",
        token: str = "",
        cache: Cache | None = None,
        timeout: float = 6.0,
    ) -> None:
        self._web = web_url.rstrip("/")
        self._token = token
        self._timeout = timeout
        self._client = GitHubClient(api_url, token, cache or NoCache())

    def close(self) -> None:
        """Close idle connections."""
        self._client.close()

    def resolve(self, ref: RepositoryRef, *, branch: str | None = None) -> Resolved:
        """See `port.Provider`."""
        revision = Revision("branch", validate_branch(branch)) if branch and branch.strip() else ref.revision
        return _Lookup(self._client, Deadline(self._timeout), self._web, ref.full_name).resolve(revision)

    def branches(self, ref: RepositoryRef, *, query: str = "", limit: int = 50) -> list[Branch]:
        """See `port.Provider`. Looks at the first 1000 branches, and at all that begin with the query."""
        look = _Lookup(self._client, Deadline(self._timeout), self._web, ref.full_name)
        return look.branches(query.strip(), limit)

    def search(self, query: str, *, limit: int = 10) -> list[Suggestion]:
        """See `port.Provider`. Finds private repositories too, where the token may see them."""
        # Without colons nobody can add search qualifiers of their own.
        words = re.sub(r"[^\w./ -]", " ", query, flags=re.ASCII).strip().lstrip("/ ")[:100]
        owner, slash, name = words.partition("/")
        if not words:
            return []
        text = f"{name} user:{owner} in:name fork:true" if slash else f"{words} in:name fork:true"
        params: dict[str, str | int] = {"q": text.strip(), "per_page": max(1, min(limit, _PAGE))}
        answer = self._client.get("/search/repositories", Deadline(self._timeout), params=params)
        if answer.status != 200:
            # 422: no such owner, or one that is not ours to see. While somebody types that is no error.
            return []
        return [shape.suggestion(item) for item in shape.field(answer.json(), "items", list)][:limit]

    def credential(self, clone_url: str) -> Credential | None:
        """See `port.Provider`. Only for this GitHub itself, by its own scheme, host and port."""
        if not self._token or urlsplit(clone_url)[:2] != urlsplit(self._web)[:2]:
            return None
        return Credential("x-access-token", self._token)


class _Lookup:
    """One operation on one repository; follows its renames."""

    def __init__(self, client: GitHubClient, deadline: Deadline, web: str, asked: str) -> None:
        self._client = client
        self._deadline = deadline
        self._web = web
        self._asked = asked
        self._name = asked

    def resolve(self, revision: Revision) -> Resolved:
        facts = self._repository()
        find = {
            "default": self._default,
            "branch": self._branch,
            "commit": self._commit,
            "pull": self._pull,
            "tree_path": self._tree_path,
        }[revision.kind]
        ref, branch, commit = find(revision.value, facts)
        head = commit if branch == facts.default_branch else self._head(facts.default_branch) or ""
        moved = facts.full_name.casefold() != self._asked.casefold()
        metadata = RepositoryMetadata(
            provider="github",
            external_id=str(facts.id),
            full_name=facts.full_name,
            clone_url=f"{self._web}/{facts.full_name}.git",
            web_url=f"{self._web}/{facts.full_name}",
            default_branch=facts.default_branch,
            visibility=facts.visibility,
            description=facts.description,
            languages=self._languages(),
            size_kb=facts.size_kb,
            head_commit=head,
            moved_from=self._asked if moved else None,
        )
        return Resolved(metadata, ref, branch, commit)

    def branches(self, query: str, limit: int) -> list[Branch]:
        found, complete = self._all_branches(limit if not query else None)
        if query and not complete and is_branch_name(query.rstrip("/")):
            found += [Branch(name, commit) for name, commit in self._matching("heads", query)]
        wanted = query.casefold()
        matching = {one.name: one for one in found if wanted in one.name.casefold() and is_branch_name(one.name)}
        return sorted(matching.values(), key=lambda one: not one.name.casefold().startswith(wanted))[:limit]

    def _get(self, path: str, *, accept: str = JSON) -> Answer:
        return self._client.get(f"/repos/{quote(self._name)}{path}", self._deadline, accept=accept)

    def _repository(self) -> shape.RepositoryFacts:
        answer = self._get("")
        if answer.status != 200:
            raise self._no_repository()
        facts = shape.repository(answer.json())
        self._name = facts.full_name
        return facts

    def _no_repository(self) -> NotFound:
        return NotFound(
            "repository_not_found",
            f"{self._asked} does not exist on GitHub, or is private and not shared with this platform.",
            "Check the spelling. If it is private, ask the administrator for a GitHub token that may read it.",
            field="repo",
        )

    def _head(self, branch: str) -> str | None:
        answer = self._get(f"/git/ref/heads/{quote(branch)}")
        if answer.status == 409:
            raise empty_repository(self._name)
        document = answer.json() if answer.status == 200 else None
        # Some releases answer with all branches that begin with the name where none has it exactly.
        return shape.git_ref(document)[1] if isinstance(document, dict) else None

    def _default(self, _: str, facts: shape.RepositoryFacts) -> tuple[str, str | None, str]:
        commit = self._head(facts.default_branch)
        if commit is None:
            raise empty_repository(self._name)
        return f"refs/heads/{facts.default_branch}", facts.default_branch, commit

    def _branch(self, name: str, facts: shape.RepositoryFacts) -> tuple[str, str | None, str]:
        commit = self._head(validate_branch(name))
        if commit is None:
            raise self._no_branch(name, facts)
        return f"refs/heads/{name}", name, commit

    def _no_branch(self, name: str, facts: shape.RepositoryFacts) -> NotFound:
        names = [one.name for one in self._all_branches(3 * _PAGE)[0]]
        return missing_branch(name, names, facts.default_branch)

    def _commit(self, value: str, facts: shape.RepositoryFacts) -> tuple[str, str | None, str]:
        # The plain media type comes with every changed file of the commit; this one is the hash alone.
        answer = self._get(f"/commits/{quote(value)}", accept=_SHA)
        if answer.status == 409:
            raise empty_repository(self._name)
        if answer.status != 200:
            raise NotFound(
                "commit_not_found",
                f"{self._name} has no commit “{value[:12]}”.",
                "Check the address, or choose a branch.",
                field="repo",
            )
        commit = shape.commit(answer.body.decode("ascii", "replace").strip())
        return f"refs/heads/{facts.default_branch}", None, commit

    def _pull(self, number: str, _: shape.RepositoryFacts) -> tuple[str, str | None, str]:
        answer = self._get(f"/pulls/{quote(number, safe='')}")
        if answer.status != 200:
            raise NotFound(
                "pull_request_not_found",
                f"{self._name} has no pull request {number}.",
                "Check the number in the address.",
                field="repo",
            )
        commit = shape.commit(shape.field(shape.field(answer.json(), "head", dict), "sha", str))
        return f"refs/pull/{number}/head", None, commit

    def _tree_path(self, value: str, facts: shape.RepositoryFacts) -> tuple[str, str | None, str]:
        """The branch, tag or commit at the beginning of `value`; git allows at most one branch and one tag there."""
        first = value.split("/")[0]
        for kind in ("heads", "tags"):
            for name, commit in self._matching(kind, first):
                if f"{value}/".startswith(f"{name}/"):
                    return (f"refs/heads/{name}", name, commit) if kind == "heads" else self._tag(name, facts)
        if re.fullmatch(r"[0-9a-fA-F]{7,64}", first):
            return self._commit(first, facts)
        raise self._no_branch(value, facts)

    def _tag(self, name: str, facts: shape.RepositoryFacts) -> tuple[str, str | None, str]:
        # A tag's own object may be an annotation; the commits endpoint looks through it.
        return f"refs/tags/{name}", None, self._commit(f"tags/{name}", facts)[2]

    def _matching(self, kind: str, prefix: str) -> list[tuple[str, str]]:
        """Names, without `refs/<kind>/`, and targets of all that begin with the prefix."""
        answer = self._get(f"/git/matching-refs/{kind}/{quote(prefix)}")
        if answer.status == 409:
            raise empty_repository(self._name)
        if answer.status != 200:
            return []
        found = [shape.git_ref(item) for item in shape.items(answer.json())]
        return [(name.removeprefix(f"refs/{kind}/"), target) for name, target in found]

    def _all_branches(self, enough: int | None) -> tuple[list[Branch], bool]:
        """The first branches, and whether those are all."""
        answer = self._client.get(f"/repos/{quote(self._name)}/branches", self._deadline, params={"per_page": _PAGE})
        if answer.status != 200:
            raise self._no_repository()
        found = [shape.branch(item) for item in shape.items(answer.json())]
        for _ in range(_MAX_PAGES - 1):
            if not answer.next_url or (enough is not None and len(found) >= enough):
                break
            answer = self._client.get(answer.next_url, self._deadline)
            found += [shape.branch(item) for item in shape.items(answer.json())]
        return found, not answer.next_url

    def _languages(self) -> dict[str, int]:
        try:
            answer = self._get("/languages")
            return shape.languages(answer.json()) if answer.status == 200 else {}
        except (ClusterFault, TooMany) as failure:
            # Nice to know, but nobody should wait for a workspace because of it.
            log.info("github_languages_unknown", code=failure.code)
            return {}
