"""Questions to web's internal endpoints."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from gateway.config import Config
from gateway.upstream import Address, Pool, Upstream

_SECONDS = 4.0
_MOST_BYTES = 262_144


class WebAway(Exception):
    """Web gave no answer that can be used; this says nothing about anybody's access."""


class Web:
    """A client for web.

    Args:
        config: address, secret and public name of web.
        pool: connections.
    """

    def __init__(self, config: Config, pool: Pool) -> None:
        self.address = Address(config.web)
        self._pool = pool
        self._fixed = (
            f"Host: {config.portal_netloc}\r\nX-Slipway-Internal: {config.secret}\r\nAccept: application/json\r\n"
            f"X-Forwarded-Proto: {config.scheme}\r\nContent-Type: application/json\r\n"
        )

    async def post(self, path: str, document: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Send a JSON document; returns the status, below 500, and the document in the answer.

        Raises:
            WebAway: no connection, no answer in time, a server error, or an answer that is no JSON object.
        """
        body = json.dumps(document).encode()
        head = f"POST {path} HTTP/1.1\r\n{self._fixed}Content-Length: {len(body)}\r\n\r\n"
        try:
            async with asyncio.timeout(_SECONDS):
                return await self._ask(head.encode() + body)
        except (OSError, ValueError) as error:
            raise WebAway(f"{path}: {type(error).__name__}") from error

    async def _ask(self, data: bytes) -> tuple[int, dict[str, Any]]:
        upstream = await self._pool.acquire(self.address)
        try:
            try:
                return await self._once(upstream, data)
            except ConnectionError:
                if not upstream.reused:
                    raise
                # Both endpoints may be asked twice: a code that was redeemed already is refused, nothing worse.
                self._pool.release(self.address, upstream)
                upstream = await self._pool.acquire(self.address, fresh=True)
                return await self._once(upstream, data)
        except asyncio.CancelledError:
            upstream.abort()
            raise
        finally:
            self._pool.release(self.address, upstream)

    async def _once(self, upstream: Upstream, data: bytes) -> tuple[int, dict[str, Any]]:
        message, body = await upstream.ask(data, head_request=False)
        content = bytearray()
        while chunk := await body.readany():
            content += chunk
            if len(content) > _MOST_BYTES:
                raise ValueError("the answer is too long")
        if message.code >= 500 or message.code in (401, 403):
            raise ValueError(f"status {message.code}")
        document = json.loads(content)
        if not isinstance(document, dict):
            raise ValueError("not an object")  # noqa: TRY004  # Treated like any other malformed answer.
        return message.code, document
