"""Requests to web: the portal on the public listener, and the agents' own listener."""

from __future__ import annotations

from gateway.config import Config
from gateway.downstream import Downstream, Request
from gateway.forward import Forwarder, Route, Unreachable
from gateway.hosts import place
from gateway.pages import BAD_HOST, NO_PAGE, STARTING, TO_PORTAL, plain
from gateway.paths import is_agent, is_internal
from gateway.upstream import Address
from gateway.workspace import Workspaces


class Public:
    """The handler of the public listener.

    Args:
        config: settings.
        forwarder: carries requests.
        workspaces: handles those for workspaces.
    """

    def __init__(self, config: Config, forwarder: Forwarder, workspaces: Workspaces) -> None:
        self._domain = config.domain
        self._host = config.portal_netloc
        self._forwarder = forwarder
        self._workspaces = workspaces
        self._route = Route("web", Address(config.web), whole=True)
        self._bad_host, self._no_page = (
            trouble.leading(f"{config.portal_url}/", TO_PORTAL) for trouble in (BAD_HOST, NO_PAGE)
        )

    async def __call__(self, client: Downstream, request: Request) -> None:
        """Answer one request by its host."""
        status = _unsupported(request)
        if status:
            client.keep_alive = False
            client.reply(plain(status))
            return
        request.host = request.host or self._host
        where = place(request.host, self._domain)
        if where.kind == "web":
            await self._portal(client, request)
        elif where.kind == "bad":
            client.reply(self._bad_host.reply(page=request.page))
        else:
            await self._workspaces.handle(client, request, where)

    async def _portal(self, client: Downstream, request: Request) -> None:
        if is_internal(request.target):
            client.reply(self._no_page.reply(page=request.page))
            return
        try:
            await self._forwarder.forward(client, request, self._route)
        except Unreachable:
            client.reply(STARTING.reply(page=request.page))


class Agents:
    """The handler of the agents' listener: passes what agents may ask, and nothing else.

    Args:
        config: settings.
        forwarder: carries requests.
    """

    def __init__(self, config: Config, forwarder: Forwarder) -> None:
        self._forwarder = forwarder
        self._route = Route("agent", Address(config.web), whole=True, host=config.portal_netloc)

    async def __call__(self, client: Downstream, request: Request) -> None:
        """Answer one request."""
        if _unsupported(request) or request.message.upgrade or not is_agent(request.target):
            client.keep_alive = False
            client.reply(NO_PAGE.reply(page=False))
            return
        request.host = self._route.host
        try:
            await self._forwarder.forward(client, request, self._route)
        except Unreachable:
            client.reply(STARTING.reply(page=False))


def _has_body(request: Request) -> bool:
    # A body would reach the upstream after a head that does not announce it, and be taken for the next request.
    return request.message.chunked or request.message.headers.get("Content-Length", "0").strip("0") != ""


def _unsupported(request: Request) -> int:
    """Status for a request that cannot be forwarded as it is, or 0."""
    headers = request.message.headers
    if request.method == "CONNECT" or (request.websocket and request.method != "GET"):
        return 405
    if not request.target.startswith("/") or (request.websocket and _has_body(request)):
        return 400
    if "Expect" in headers and headers["Expect"].lower() != "100-continue":
        return 417
    # Any coding but `chunked` would have to be undone here (RFC 9112, section 6.1).
    if headers.get("Transfer-Encoding", "chunked").lower() != "chunked":
        return 501
    return 0
