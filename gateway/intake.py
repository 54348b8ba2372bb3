"""Takes in the bodies of requests: whole and within limits for web, piece by piece for workspaces.

Web writes a body to disk before it looks at who sent it, and gives each request a place of its own until it is done.
So it hears of a request only when its body is here, is not too large, and did not take too long.
"""

from __future__ import annotations

import asyncio

from aiohttp.http_exceptions import HttpProcessingError

from gateway.config import Config
from gateway.downstream import Downstream, Request
from gateway.pages import BODY_TOO_SLOW, Reply, body_too_large, plain

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Refused(Exception):
    """The body cannot be accepted.

    Args:
        reply: what to tell the client, whose connection is to be closed then (RFC 9110, section 15.5.14).
    """

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


async def whole(client: Downstream, request: Request, config: Config) -> bytes:
    """The whole body of a request for web.

    Raises:
        Refused: it is larger than `max_web_body_bytes`, not there after `body_seconds`, or malformed.
        ConnectionError: the client has gone.
    """
    body, most = request.body, config.max_web_body_bytes
    if body.is_eof():
        content = body.read_nowait()
        if len(content) > most:
            raise Refused(body_too_large(most).reply(page=_person(request)))
        return content
    if int(request.message.headers.get("Content-Length", 0)) > most:
        raise Refused(body_too_large(most).reply(page=_person(request)))
    if request.message.headers.get("Expect"):
        client.write(CONTINUE)
    try:
        async with asyncio.timeout(config.body_seconds):
            return await _gather(request, most)
    except TimeoutError as error:
        raise Refused(too_slow(request)) from error
    except (ValueError, HttpProcessingError) as error:
        raise Refused(plain(400)) from error


async def _gather(request: Request, most: int) -> bytes:
    content = bytearray()
    while chunk := await request.body.readany():
        content += chunk
        if len(content) > most:
            raise Refused(body_too_large(most).reply(page=_person(request)))
    return bytes(content)


async def piece(client: Downstream, request: Request, idle_seconds: float) -> bytes:
    """The next piece of a body for a workspace; empty at its end.

    Once the answer has begun the workspace is no longer waiting, and the client may be silent for as long as it likes.

    Raises:
        TimeoutError: there was no answer and not a byte for `idle_seconds`.
        ConnectionError: the client has gone.
        ValueError: the body is malformed.
    """
    body = request.body
    if (chunk := body.read_nowait()) or body.is_eof():
        return chunk
    while True:
        try:
            async with asyncio.timeout(idle_seconds):
                return await body.readany()
        except TimeoutError:
            if not client.replied:
                raise


def too_slow(request: Request) -> Reply:
    """What to say to a client whose body did not come."""
    return BODY_TOO_SLOW.reply(page=_person(request))


def _person(request: Request) -> bool:
    """Whether a browser shows the answer; unlike page loads, this covers forms that are sent."""
    return "text/html" in request.message.headers.get("Accept", "")
