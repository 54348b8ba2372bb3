"""Who may reach which workspace: asks web, remembers for seconds, forgets on revocation."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Literal

from gateway import door, metrics
from gateway.config import Config
from gateway.upstream import Address
from gateway.web import Web, WebAway

Decision = Literal["allow", "sign_in", "not_found", "not_running"]
_DECISIONS: tuple[Decision, ...] = ("allow", "sign_in", "not_found", "not_running")
_MOST_REVOCATIONS = 1_000
_NEGATIVE_SECONDS = 2.0
_LONGEST_SECONDS = 60.0
_AWAY_SECONDS = 3.0
_STALE_SECONDS = 1.0
_ATTEMPTS = 5
_hit = metrics.cache.labels("hit").inc


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """Who asks for what. The credential is a secret: never log a key.

    Args:
        slug: the workspace's name.
        port: port in the workspace, None for the IDE.
        bearer: whether the credential is a token rather than a cookie.
        credential: the token or cookie; empty for nobody.
    """

    slug: str
    port: int | None
    bearer: bool
    credential: str = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Grant:
    """Web's answer, see the contract of `POST /internal/authorize`. The key is a secret of one run."""

    decision: Decision
    workspace: str
    user: str
    session: str
    ide: str
    ports: str
    key: str = dataclasses.field(repr=False)
    ttl: float
    start_page: str

    def address(self, port: int | None) -> Address:
        """Where requests for the IDE, or for a port, go."""
        url, name = (self.ide, "ide") if port is None else (self.ports, f"port/{port}")
        if url.startswith(door.SCHEME):
            return Address(url, name=name, key=self.key)
        return Address(url, 1) if port is None else Address(f"{url}/{port}.sock", 2)

    def concerns(self, scope: str, value: str) -> bool:
        """Whether a revocation of this scope (`session`, `user`, `workspace` or `all`) is about this answer."""
        if scope == "all":
            return True
        mine = {"session": self.session, "user": self.user, "workspace": self.workspace}.get(scope)
        return mine == value


@dataclasses.dataclass(slots=True)
class Access:
    """A decision, and until when it may be used.

    Args:
        key: who asked for what.
        grant: the answer.
        asked: when web gave it, on the loop's clock.
        expires: until when it is used without asking again.
    """

    key: Key
    grant: Grant
    asked: float
    expires: float


class Authorizer:
    """Answers from its memory where it can.

    Args:
        web: who decides.
        config: settings.
        most_entries: how many answers are remembered; the one not used for longest is forgotten first.
    """

    def __init__(self, web: Web, config: Config, *, most_entries: int = 10_000) -> None:
        self._web = web
        self._most_entries = most_entries
        self._grace = config.grace_seconds
        self._loop = asyncio.get_running_loop()
        self._entries: OrderedDict[Key, Access] = OrderedDict()
        self._flights: dict[tuple[Key, bool, int], asyncio.Task[Access]] = {}
        self._revoked: deque[tuple[int, str, str]] = deque(maxlen=_MOST_REVOCATIONS)
        self._sequence = 0
        self.redis_away: Callable[[], bool] = lambda: False

    async def get(self, key: Key, *, wake: bool, fresh: bool = False) -> Access:
        """Decide.

        Args:
            key: who asks for what.
            wake: whether a stopped workspace shall start.
            fresh: ask even when an answer is remembered.

        Raises:
            WebAway: web cannot be asked, and nothing is remembered that may still be used.
        """
        entry = self._entries.get(key)
        if entry is not None and not fresh and self._usable(entry, wake=wake):
            self._entries.move_to_end(key)
            _hit()
            return entry
        for _ in range(_ATTEMPTS):
            before = self._sequence
            entry = await self._fly(key, wake=wake)
            # Whatever was revoked while web was thinking may have come too late for its answer.
            if not self._revoked_since(before, entry.grant):
                return entry
            self.drop(key)
        raise WebAway("access changes faster than it can be asked for")

    def _usable(self, entry: Access, *, wake: bool) -> bool:
        # A page load asks anew. A start takes less time than an answer is remembered: the start page that sent the
        # browser here a moment ago would get it back, again and again. And web must hear of it to call off a stop.
        return not wake and self._loop.time() < entry.expires

    async def _fly(self, key: Key, *, wake: bool) -> Access:
        """One question at a time for each key; it goes on when the first who asked has left.

        A question from before the last revocation is not waited for, because its answer may be out of date.
        """
        name = (key, wake, self._sequence)
        flight = self._flights.get(name)
        if flight is None:
            metrics.cache.labels("miss").inc()
            flight = self._loop.create_task(self._ask(key, wake=wake))
            self._flights[name] = flight
            flight.add_done_callback(lambda task: self._landed(name, task))
        else:
            metrics.cache.labels("shared").inc()
        return await asyncio.shield(flight)

    def _landed(self, name: tuple[Key, bool, int], task: asyncio.Task[Access]) -> None:
        del self._flights[name]
        if not task.cancelled():
            # Reading it here keeps asyncio from complaining when everybody who asked has left.
            task.exception()

    async def _ask(self, key: Key, *, wake: bool) -> Access:
        before = self._sequence
        question = {
            "slug": key.slug,
            "port": key.port,
            "cookie": None if key.bearer else key.credential or None,
            "bearer": key.credential if key.bearer else None,
            "wake": wake,
        }
        try:
            status, document = await self._web.post("/internal/authorize", question)
            grant = _parse(status, document)
        except WebAway as error:
            metrics.authorize.labels("unavailable").inc()
            return self._stale(key, error)
        metrics.authorize.labels(grant.decision).inc()
        now = self._loop.time()
        entry = Access(key, grant, now, now + self._ttl(grant))
        if not self._revoked_since(before, grant):
            self._remember(entry)
        return entry

    def _ttl(self, grant: Grant) -> float:
        if grant.decision != "allow":
            return min(grant.ttl, _NEGATIVE_SECONDS)
        return min(grant.ttl, _AWAY_SECONDS if self.redis_away() else _LONGEST_SECONDS)

    def _stale(self, key: Key, error: WebAway) -> Access:
        """Unknown is not revoked: what was allowed a short while ago stays so while web is away."""
        entry = self._entries.get(key)
        now = self._loop.time()
        if entry is None or entry.grant.decision != "allow" or now >= entry.asked + entry.grant.ttl + self._grace:
            raise error
        metrics.cache.labels("stale").inc()
        entry.expires = min(now + _STALE_SECONDS, entry.asked + entry.grant.ttl + self._grace)
        return entry

    def _remember(self, entry: Access) -> None:
        self._entries[entry.key] = entry
        self._entries.move_to_end(entry.key)
        if len(self._entries) > self._most_entries:
            self._entries.popitem(last=False)

    def drop(self, key: Key) -> None:
        """Forget one decision."""
        self._entries.pop(key, None)

    def revoke(self, scope: str, value: str) -> None:
        """Forget what is about a `session`, `user` or `workspace`, or everything for scope `all`."""
        self._sequence += 1
        self._revoked.append((self._sequence, scope, value))
        for key in [key for key, entry in self._entries.items() if entry.grant.concerns(scope, value)]:
            del self._entries[key]

    def expire(self) -> None:
        """Ask again for everything, but keep what is known for the case that web is away."""
        for entry in self._entries.values():
            entry.expires = 0.0

    def _revoked_since(self, sequence: int, grant: Grant) -> bool:
        if sequence == self._sequence:
            return False
        if self._revoked[0][0] > sequence + 1:
            return True
        return any(number > sequence and grant.concerns(scope, value) for number, scope, value in self._revoked)


def _parse(status: int, document: dict[str, Any]) -> Grant:
    decision = document.get("decision")
    upstream = document.get("upstream") or {}
    ttl = document.get("ttl", 0)
    if (
        status != 200
        or decision not in _DECISIONS
        or not isinstance(upstream, dict)
        or not isinstance(ttl, int | float)
    ):
        raise WebAway("authorize gave an answer that cannot be understood")

    def text(source: dict[str, Any], name: str) -> str:
        value = source.get(name)
        return "" if value is None else str(value)

    grant = Grant(
        decision,
        text(document, "workspace"),
        text(document, "user"),
        text(document, "session"),
        text(upstream, "ide"),
        text(upstream, "ports"),
        text(upstream, "key"),
        float(ttl),
        text(document, "start_page"),
    )
    _check_doors(grant)
    return grant


def _check_doors(grant: Grant) -> None:
    try:
        for url in (grant.ide, grant.ports):
            if url.startswith(door.SCHEME):
                door.target(url)
                door.check(grant.key)
    except ValueError as error:
        raise WebAway(f"authorize gave an address that cannot be used: {error}") from error
