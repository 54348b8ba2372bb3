"""Brings a session from the portal to a workspace's own host by a one-time code.

The portal's cookie never reaches workspace hosts. Instead the browser is sent to the portal with the hash of a nonce
that only it holds; the portal answers with a code, bound to host and nonce, which the gateway redeems for a cookie of
this host. A code that leaked, or that somebody else tries to plant, is useless without the nonce.
"""

from __future__ import annotations

import hashlib
import re
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
_NONCE_BYTES = 32
_NONCE = re.compile(r"[A-Za-z0-9_-]{43}")


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
        """Send the browser to the portal, and remember a nonce in it: one for all tabs that are on their way."""
        nonce = self._nonce(request)
        if not _NONCE.fullmatch(nonce):
            nonce = secrets.token_urlsafe(_NONCE_BYTES)
        query = urlencode({
            "label": place.label,
            "state": _state(nonce),
            "next": onward(request.target),
        })  # fmt: skip
        return redirect(
            f"{self._config.portal_url}/gateway/enter?{query}",
            cookies=(self._cookie(self._nonce_name, nonce, _NONCE_SECONDS),),
        )

    async def enter(self, request: Request, place: Place, query: dict[str, list[str]]) -> Reply:
        """Trade the code in the query for this host's cookie, and send the browser on to where it wanted to go."""
        target = onward(query.get("next", ["/"])[0])
        state = query.get("state", [""])[0]
        nonce = self._nonce(request)
        code = query.get("code", [""])[0]
        if not nonce or not code:
            return self._refused(request, target, state)
        try:
            status, answer = await self._web.post(
                "/internal/redeem", {"code": code, "label": place.label, "nonce": nonce}
            )
        except WebAway:
            return STARTING.reply(page=request.page)
        value = answer.get("cookie")
        if status != 200 or not isinstance(value, str) or not _is_cookie_value(value):
            return self._refused(request, target, state)
        kept = self._cookie(self._workspace_name, value, int(answer.get("max_age") or 0))
        return redirect(target, status=303, cookies=(kept, self._cookie(self._nonce_name, "", 0)))

    def _refused(self, request: Request, target: str, state: str) -> Reply:
        """What to say to a code that is worth nothing.

        Another tab may be to blame, and then the browser is sent on: it has signed in with the nonce of both, or begun
        with one of its own, which the next try shares. Each leads to a state in which the same cannot happen again.
        """
        nonce = self._nonce(request)
        signed_in = cookie(request.message.headers.getall("Cookie", []), self._workspace_name)
        if (state and state != _state(nonce)) if nonce else signed_in:
            return redirect(target, status=303)
        return BAD_CODE.leading(target, "Open it again.").reply(page=request.page)

    def _nonce(self, request: Request) -> str:
        return cookie(request.message.headers.getall("Cookie", []), self._nonce_name) or ""

    def _cookie(self, name: str, value: str, seconds: int) -> str:
        secure = "; Secure" if self._config.scheme == "https" else ""
        return f"{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"


def _state(nonce: str) -> str:
    """What the portal is told of a nonce."""
    return hashlib.sha256(nonce.encode("utf-8", "surrogateescape")).hexdigest()


def _is_cookie_value(value: str) -> bool:
    """RFC 6265, section 4.1.1: no separators, spaces or control characters."""
    return bool(value) and all("!" <= char <= "~" and char not in '",;\\' for char in value)
