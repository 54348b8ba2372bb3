"""The gateway's own answers: small pages for people, problem+json (RFC 9457) for programs."""

from __future__ import annotations

import dataclasses
import html
import json
from http import HTTPStatus

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
{refresh}<title>{title} - Slipway</title><style>
:root{{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}}
body{{margin:0;min-height:100vh;display:grid;place-items:center;background:#f6f7f9;color:#1b2430}}
main{{max-width:32rem;margin:1.5rem;padding:2rem;border:1px solid #d5dae1;border-radius:12px;background:#fff}}
h1{{margin:0 0 .5rem;font-size:1.4rem;line-height:1.25}}p{{margin:.5rem 0}}a{{color:#0b57d0}}
small{{color:#5a6675}}
@media (prefers-color-scheme:dark){{body{{background:#12161c;color:#e6eaf0}}
main{{background:#1b2129;border-color:#323b47}}a{{color:#8ab4f8}}small{{color:#9aa7b8}}}}
</style></head><body><main><h1>{title}</h1><p>{detail}</p><p>{step}</p><p><small>Status {status}</small></p></main>
</body></html>
"""
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer.

    Args:
        status: HTTP status code.
        headers: further fields.
        body: content; its length is added by `encode`.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def encode(self, *, keep_alive: bool, head_only: bool = False) -> bytes:
        """The bytes to send."""
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines += [f"Content-Length: {len(self.body)}", "Cache-Control: no-store"]
        if not keep_alive:
            lines.append("Connection: close")
        head = "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")
        return head if head_only else head + self.body


@dataclasses.dataclass(frozen=True, slots=True)
class Trouble:
    """Something a caller has to be told.

    Args:
        status: HTTP status code.
        code: stable word for programs.
        title: what happened, as a heading.
        detail: what happened, in a sentence.
        step: what to do next, in a sentence.
        retry_after: seconds after which asking again makes sense.
        reload: whether the page asks again by itself after `retry_after` seconds.
        link: address and text of a way on.
    """

    status: int
    code: str
    title: str
    detail: str
    step: str
    retry_after: int | None = None
    reload: bool = False
    link: tuple[str, str] | None = None

    def leading(self, address: str, text: str) -> Trouble:
        """The same with a way on."""
        return dataclasses.replace(self, link=(address, text))

    def reply(self, *, page: bool, again: str = "") -> Reply:
        """As a page, or as problem+json.

        Args:
            page: which of both.
            again: where a page that reloads goes; empty for the address it was loaded from.
        """
        headers = [("X-Content-Type-Options", "nosniff")]
        if self.retry_after is not None:
            headers.append(("Retry-After", str(self.retry_after)))
        if page:
            headers += [("Content-Type", "text/html; charset=utf-8"), ("Content-Security-Policy", _PAGE_POLICY)]
            return Reply(self.status, tuple(headers), self._page(again).encode())
        headers.append(("Content-Type", "application/problem+json"))
        problem = {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            "next_step": self.step,
        }
        return Reply(self.status, tuple(headers), json.dumps(problem).encode())

    def _page(self, again: str) -> str:
        step = html.escape(self.step)
        if self.link is not None:
            step += f' <a href="{html.escape(self.link[0])}">{html.escape(self.link[1])}</a>'
        where = f"; url={html.escape(again)}" if again else ""
        refresh = f'<meta http-equiv="refresh" content="{self.retry_after}{where}">' if self.reload else ""
        return _PAGE.format(
            refresh=refresh,
            title=html.escape(self.title),
            detail=html.escape(self.detail),
            step=step,
            status=self.status,
        )


def redirect(location: str, *, status: int = 302, cookies: tuple[str, ...] = ()) -> Reply:
    """Send the browser on, setting cookies on the way."""
    return Reply(status, (("Location", location), *(("Set-Cookie", cookie) for cookie in cookies)))


def plain(status: int) -> Reply:
    """An answer to something that is no proper request, or that broke the gateway."""
    text = f"{status} {HTTPStatus(status).phrase}\n"
    return Reply(status, (("Content-Type", "text/plain; charset=utf-8"),), text.encode())


BAD_HOST = Trouble(
    404, "unknown_host", "There is no such address",
    "This address is neither the portal nor a workspace.",
    "Check it for typing errors, or open the workspace from the portal.",
)  # fmt: skip
NOT_FOUND = Trouble(
    404, "not_found", "No such workspace",
    "There is no workspace at this address, or it is not yours to see.",
    "Check the address, or open one of your workspaces from the portal.",
)  # fmt: skip
NO_PAGE = Trouble(
    404, "not_found", "There is nothing here", "This address does not exist.", "Go back, or start from the portal."
)
SIGN_IN = Trouble(
    401, "unauthenticated", "You are not signed in",
    "This address needs somebody who is signed in, or a valid token.",
    "Sign in to the portal, or send a token as `Authorization: Bearer`.",
)  # fmt: skip
STARTING = Trouble(
    503, "starting", "Slipway is starting",
    "The portal does not answer yet. This usually takes a few seconds.",
    "This page tries again by itself.", retry_after=2, reload=True,
)  # fmt: skip
NOT_RUNNING = Trouble(
    503, "not_running", "The workspace is not running",
    "The workspace is stopped, or it is still starting.",
    "Open it in the browser, or start it from the portal, then try again.", retry_after=2,
)  # fmt: skip
IDE_AWAY = Trouble(
    502, "ide_unreachable", "The editor does not answer",
    "The workspace is running, but its editor cannot be reached just now.",
    "This page tries again by itself. If it stays like this, restart the workspace from the portal.",
    retry_after=3, reload=True,
)  # fmt: skip
UPSTREAM_BROKE = Trouble(
    502, "upstream_failed", "The answer broke off",
    "The other side closed the connection without an answer.", "Try again.",
)  # fmt: skip
BODY_TOO_SLOW = Trouble(
    408, "body_too_slow", "The request took too long",
    "Not all of what was sent arrived in time.", "Check your connection, then try again.",
)  # fmt: skip
FOREIGN_ORIGIN = Trouble(
    403, "foreign_origin", "Refused to protect you",
    "Another site tried to use this workspace in your name.",
    "If that was you, open the workspace's own address instead.",
)  # fmt: skip
BAD_CODE = Trouble(
    400, "bad_code", "This sign-in link is no longer valid",
    "It was used already, is too old, or was made for another browser.",
    "Start again.",
)  # fmt: skip

TO_PORTAL = "Go to the portal."


def body_too_large(most: int) -> Trouble:
    """What to say to a request for web whose body is larger than `most` bytes."""
    return Trouble(
        413, "too_large", "The request is too large", f"More than {most} bytes cannot be sent here.",
        "Send less at once.",
    )  # fmt: skip


def port_silent(port: int) -> Trouble:
    """The page for a port that nobody has opened."""
    return Trouble(
        502, "port_silent", f"Nothing listens on port {port} yet",
        f"No program in the workspace accepts connections on port {port}.",
        "Start it in the workspace's terminal. This page tries again by itself.", retry_after=3, reload=True,
    )  # fmt: skip
