"""What the gateway asks. It proves itself by a secret that it shares with web."""

from __future__ import annotations

import functools
import hmac
import json
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from kernel.errors import Failure, Invalid, NotFound
from kernel.http import problem_response
from workspaces.services import entering

Answer = Callable[[dict[str, Any]], dict[str, Any]]


def _for_gateway(view: Answer) -> Callable[[HttpRequest], JsonResponse]:
    """JSON in, JSON out, for whoever knows the secret; everybody else finds nothing here."""

    @csrf_exempt
    @require_POST
    @functools.wraps(view)
    def guarded(request: HttpRequest) -> JsonResponse:
        given = request.headers.get("X-Slipway-Internal", "")
        if not hmac.compare_digest(given.encode(), settings.ENVIRONMENT.internal_secret.encode()):
            return problem_response(NotFound("not_found", "There is nothing here."), request)
        try:
            return JsonResponse(view(_document(request)))
        except (ValueError, KeyError, TypeError, RecursionError):
            return problem_response(Invalid("invalid_request", "This is not what a gateway sends."), request)
        except Failure as failure:
            return problem_response(failure, request)

    return guarded


def _document(request: HttpRequest) -> dict[str, Any]:
    body = json.loads(request.body)
    if not isinstance(body, dict):
        raise TypeError("not an object")
    return body


def _text(body: dict[str, Any], key: str) -> str | None:
    value = body.get(key)
    if value is not None and not isinstance(value, str):
        raise TypeError(key)
    return value


@_for_gateway
def authorize(body: dict[str, Any]) -> dict[str, Any]:
    """May this request go to this workspace?"""
    port = body.get("port")
    if port is not None and not (type(port) is int and 0 < port < 65536):
        raise ValueError("port")
    return entering.authorize(
        slug=str(body["slug"]),
        port=port,
        cookie=_text(body, "cookie"),
        bearer=_text(body, "bearer"),
        wake=body.get("wake") is True,
        now=timezone.now(),
    )


@_for_gateway
def redeem(body: dict[str, Any]) -> dict[str, Any]:
    """A one-time code for a cookie."""
    cookie, age = entering.redeem(code=str(body["code"]), label=str(body["label"]), nonce=str(body["nonce"]))
    return {"cookie": cookie, "max_age": age}
