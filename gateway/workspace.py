"""Requests to workspaces: who may pass, and where to."""

from __future__ import annotations

import functools
from urllib.parse import parse_qs, quote, urlsplit

from gateway import hosts
from gateway.access import Access, Authorizer, Grant, Key
from gateway.activity import Activity
from gateway.config import Config
from gateway.cookies import CookieRules, cookie, workspace_cookie
from gateway.downstream import Downstream, Request
from gateway.forward import Forwarder, Route, Unreachable
from gateway.headers import bearer
from gateway.hosts import Place
from gateway.pages import (
    FOREIGN_ORIGIN,
    IDE_AWAY,
    NO_PAGE,
    NOT_FOUND,
    NOT_RUNNING,
    SIGN_IN,
    STARTING,
    TO_PORTAL,
    Reply,
    port_silent,
    redirect,
)
from gateway.paths import AGAIN_PATH, ENTER_PATH, OWN_PATH, again, onward
from gateway.signin import SignIn
from gateway.web import WebAway

_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
# An answer younger than this is not doubted when the upstream refuses.
_YOUNG_SECONDS = 2.0


class Workspaces:
    """Handles requests whose host names a workspace.

    Args:
        config: settings.
        authorizer: decides.
        forwarder: carries what may pass.
        sign_in: handles those who are not signed in.
        activity: counts real use.
    """

    def __init__(
        self, config: Config, authorizer: Authorizer, forwarder: Forwarder, sign_in: SignIn, activity: Activity
    ) -> None:
        self._config = config
        self._authorizer = authorizer
        self._forwarder = forwarder
        self._sign_in = sign_in
        self._activity = activity
        self._cookies = CookieRules(config.protected_cookies, config.domain)
        self._cookie = workspace_cookie(config.scheme)
        self._no_page, self._not_found, self._ide_away = (
            trouble.leading(f"{config.portal_url}/", TO_PORTAL) for trouble in (NO_PAGE, NOT_FOUND, IDE_AWAY)
        )

    async def handle(self, client: Downstream, request: Request, place: Place) -> None:
        """Answer one request."""
        if request.target.startswith(OWN_PATH):
            client.reply(await self._own(request, place))
            return
        key = self._key(request, place)
        if not key.bearer and self._is_foreign(request, place):
            client.reply(FOREIGN_ORIGIN.reply(page=request.page))
            return
        refusal = await self._pass(client, request, place, key)
        if refusal is not None:
            client.access = None
            client.reply(refusal)

    async def _pass(self, client: Downstream, request: Request, place: Place, key: Key) -> Reply | None:
        """Forward the request if it may pass, else return what to say instead."""
        try:
            access = await self._authorizer.get(key, wake=request.page)
            if access.grant.decision == "allow":
                if await self._try(client, request, place, access):
                    return None
                # Allowed but not there: perhaps it was stopped a moment ago.
                if client.loop.time() - access.asked > _YOUNG_SECONDS:
                    self._authorizer.drop(key)
                    access = await self._authorizer.get(key, wake=request.page)
                    if access.grant.decision == "allow" and await self._try(client, request, place, access):
                        return None
        except WebAway:
            return STARTING.reply(page=request.page, again=again(request.target))
        return self._refusal(request, place, access.grant, request.target)

    async def _own(self, request: Request, place: Place) -> Reply:
        """The answer at a path that is reserved for the gateway."""
        parts = urlsplit(request.target)
        query = parse_qs(parts.query)
        if request.method == "GET" and parts.path == ENTER_PATH:
            return await self._sign_in.enter(request, place, query)
        if request.method == "GET" and parts.path == AGAIN_PATH:
            return await self._again(request, place, onward(query.get("next", ["/"])[0]))
        return self._no_page.reply(page=request.page)

    async def _again(self, request: Request, place: Place, target: str) -> Reply:
        """What a page gets that reloads by itself, perhaps in a tab that nobody looks at any more.

        So it wakes nothing, and leads back to `target`, which does, only when something is there to answer.
        """
        page = request.page
        try:
            access = await self._authorizer.get(self._key(request, place), wake=False)
        except WebAway:
            return STARTING.reply(page=page, again=again(target))
        grant = access.grant
        if grant.decision == "sign_in":
            return SIGN_IN.leading(target, "Sign in.").reply(page=page)
        if grant.decision == "not_running":
            return NOT_RUNNING.leading(target, "Open it.").reply(page=page)
        if grant.decision == "allow" and await self._forwarder.listens(grant.address(place.port)):
            return redirect(target)
        return self._refusal(request, place, grant, target)

    async def _try(self, client: Downstream, request: Request, place: Place, access: Access) -> bool:
        """Forward; False when nothing listens there."""
        grant = access.grant
        client.access = access
        on_answer = on_input = None
        if place.port is not None:
            on_answer = functools.partial(self._activity.touch, grant.workspace)
        if request.websocket:
            on_input = self._activity.typing(grant.workspace)
        address = grant.address(place.port)
        route = Route(place.kind, address, self._cookies, on_answer=on_answer, on_input=on_input)
        try:
            await self._forwarder.forward(client, request, route)
        except Unreachable:
            return False
        return True

    def _refusal(self, request: Request, place: Place, grant: Grant, target: str) -> Reply:
        """What to say instead of an answer from `target`."""
        page = request.page
        if grant.decision == "sign_in":
            return self._sign_in.begin(request, place) if page else SIGN_IN.reply(page=False)
        if grant.decision == "not_found":
            return self._not_found.reply(page=page)
        if grant.decision == "not_running":
            if page and grant.start_page:
                port = f"port={place.port}&" if place.port is not None else ""
                joint = "&" if "?" in grant.start_page else "?"
                return redirect(f"{grant.start_page}{joint}{port}next={quote(target, safe='')}")
            return NOT_RUNNING.reply(page=page)
        return (port_silent(place.port) if place.port is not None else self._ide_away).reply(
            page=page, again=again(target)
        )

    def _is_foreign(self, request: Request, place: Place) -> bool:
        """Whether another site may be acting with this browser's cookie.

        A WebSocket handshake is not held back by the same-origin rule, so its Origin must be ours. A form of another
        site may post to any address; for the editor that is refused too, programs on ports are left to decide, but for
        what comes from another workspace.
        """
        headers = request.message.headers
        origin = headers.get("Origin")
        if not request.websocket:
            if request.method in _SAFE:
                return False
            if place.kind == "port":
                return self._is_neighbour(origin, headers.get("Sec-Fetch-Site"), place)
        if origin is None:
            return request.websocket or headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
        return origin.lower() != f"{self._config.scheme}://{request.host}".lower()

    def _is_neighbour(self, origin: str | None, site: str | None, place: Place) -> bool:
        """Whether a page of another workspace asks. It is of the same site, so the browser adds this one's cookie.

        A page may have its origin hidden; then the browser only says that it is of this site.
        """
        if origin == "null":
            return site == "same-site"
        asker = hosts.place((origin or "").partition("://")[2], self._config.domain)
        return asker.kind in ("ide", "port") and asker.slug != place.slug

    def _key(self, request: Request, place: Place) -> Key:
        headers = request.message.headers
        if "Authorization" in headers:
            token = bearer(headers.getall("Authorization"))
            if token is not None:
                return Key(place.slug, place.port, bearer=True, credential=token)
        value = cookie(headers.getall("Cookie", ()), self._cookie)
        return Key(place.slug, place.port, bearer=False, credential=value or "")
