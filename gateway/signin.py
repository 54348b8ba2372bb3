"""Brings a session from the portal to a workspace's own host by a one-time code.

The portal's cookie never reaches workspace hosts. Instead the browser is sent to the portal with the hash of a nonce
that only it holds; the portal answers with a code, bound to host and nonce, which the gateway redeems for a cookie of
this host. A code that leaked, or that somebody else tries to plant, is useless without the nonce.
"""

from __future__ import annotations

import hashlib
import secrets
from urllib.parse import urlencode

from gateway.config import Config
from gateway.cookies import cookie, nonce_cookie, workspace_cookie
from gateway.downstream import Request
from gateway.hosts import Place
from gateway.pages import BAD_CODE, STARTING, Reply, redirect
from gateway.paths import onward
from gateway.web import Web, WebAway

_NONCE_SECONDS = 600


class SignIn:
    """The gateway's half of the flow.

    Args:
        config: settings.
        web: redeems codes.
    """

    def __init__(self, config: Config, web: Web) -> None:
        self._config = config
        self._web = web
        self._nonce_name = nonce_cookie(config.scheme)
        self._workspace_name = workspace_cookie(config.scheme)

    def begin(self, request: Request, place: Place) -> Reply:
        """Send the browser to the portal, and remember a nonce in it."""
        nonce = secrets.token_urlsafe(32)
        query = urlencode({
            "label": place.label,
            "state": hashlib.sha256(nonce.encode()).hexdigest(),
            "next": onward(request.target),
        })  # fmt: skip
        return redirect(
            f"{self._config.portal_url}/gateway/enter?{query}",
            cookies=(self._cookie(self._nonce_name, nonce, _NONCE_SECONDS),),
        )

    async def enter(self, request: Request, place: Place, query: dict[str, list[str]]) -> Reply:
        """Trade the code in the query for this host's cookie, and send the browser on to where it wanted to go."""
        target = onward(query.get("next", ["/"])[0])
        nonce = cookie(request.message.headers.getall("Cookie", []), self._nonce_name)
        code = query.get("code", [""])[0]
        refused = BAD_CODE.reply(page=request.page)
        if not nonce or not code:
            return refused
        try:
            status, answer = await self._web.post(
                "/internal/redeem", {"code": code, "label": place.label, "nonce": nonce}
            )
        except WebAway:
            return STARTING.reply(page=request.page)
        value = answer.get("cookie")
        if status != 200 or not isinstance(value, str) or not _is_cookie_value(value):
            return refused
        kept = self._cookie(self._workspace_name, value, int(answer.get("max_age") or 0))
        return redirect(target, status=303, cookies=(kept, self._cookie(self._nonce_name, "", 0)))

    def _cookie(self, name: str, value: str, seconds: int) -> str:
        secure = "; Secure" if self._config.scheme == "https" else ""
        return f"{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"


def _is_cookie_value(value: str) -> bool:
    """RFC 6265, section 4.1.1: no separators, spaces or control characters."""
    return bool(value) and all("!" <= char <= "~" and char not in '",;\\' for char in value)
