"""HTTP's edge: problem+json (RFC 9457), health, and answers for faults that no view expects."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import redis
import structlog
from django.core.exceptions import RequestDataTooBig
from django.db import OperationalError, connection
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from rest_framework import exceptions as drf
from rest_framework.response import Response
from rest_framework.views import set_rollback

from kernel import database, errors
from kernel.redis import client

log = structlog.get_logger(__name__)
R = TypeVar("R", bound=HttpResponseBase)
PROBLEM = "application/problem+json"
UNEXPECTED = errors.PlatformFault(
    "internal_error",
    "Something went wrong on our side.",
    "Try again. If it stays, give your administrator the request id.",
)
NOT_FOUND = errors.NotFound("not_found", "There is nothing here.", "Check the address, or go back to your workspaces.")


def problem(failure: errors.Failure, request_id: str = "") -> dict[str, Any]:
    """The problem document of a failure."""
    document: dict[str, Any] = {
        "type": f"urn:slipway:problem:{failure.code}",
        "title": failure.user_text,
        "status": failure.status,
        "code": failure.code,
        "detail": failure.user_text,
        "next_step": failure.next_step,
        "responsible": failure.responsible,
        "temporary": failure.temporary,
    }
    if failure.field:
        document["field"] = failure.field
    if request_id:
        document["request_id"] = request_id
    return document


def _with_wait(response: R, failure: errors.Failure) -> R:
    """The response, with the time after which to try again where that is known."""
    if failure.retry_after is not None:
        response["Retry-After"] = str(math.ceil(failure.retry_after))
    return response


def problem_response(failure: errors.Failure, request: HttpRequest) -> JsonResponse:
    """The failure as an answer outside of the REST framework."""
    document = problem(failure, request.META.get("slipway.request_id", ""))
    return _with_wait(JsonResponse(document, status=failure.status, content_type=PROBLEM), failure)


def _first_message(detail: Any, field: str = "") -> tuple[str, str]:
    """The first message in the REST framework's nested error detail, and the field that it belongs to."""
    if isinstance(detail, dict):
        key, value = next(iter(detail.items()), ("", "Invalid."))
        return _first_message(value, "" if key == "non_field_errors" else str(key))
    if isinstance(detail, list):
        return _first_message(detail[0] if detail else "Invalid.", field)
    return str(detail), field


_NEXT_STEPS = {
    401: "Sign in, or send a valid token as `Authorization: Bearer …`.",
    403: "Ask for the right to do this, or use a token with a wider scope.",
    404: "Check the address and the id.",
    405: "See the schema at /api/v1/schema for what this address takes.",
    406: "Ask for application/json.",
    415: "Send JSON with `Content-Type: application/json`.",
    429: "Wait a little, then try again.",
}


def from_framework(error: drf.APIException) -> errors.Failure:
    """An error of the REST framework in our own words and tree."""
    text, field = _first_message(error.detail)
    code = {400: "invalid_request", 401: "unauthenticated", 403: "forbidden"}.get(
        error.status_code, error.default_code or "error"
    )
    step = (
        f"Correct `{field}` and send it again."
        if field
        else _NEXT_STEPS.get(error.status_code, "Correct it and send it again.")
    )
    failure = errors.UserFault(code, text, step, field=field, retry_after=getattr(error, "wait", None))
    failure.status = error.status_code  # type: ignore[misc]  # An instance may be more precise than its class.
    return failure


def translate(error: BaseException) -> errors.Failure | None:
    """The failure that an exception stands for, or None when it is a bug."""
    if isinstance(error, errors.Failure):
        return error
    if isinstance(error, Http404):
        return NOT_FOUND
    if isinstance(error, RequestDataTooBig):
        failure = errors.Invalid("too_large", "The request is larger than 64 KiB.", "Send less at once.")
        failure.status = 413  # type: ignore[misc]  # An instance may be more precise than its class.
        return failure
    if isinstance(error, drf.APIException):
        return from_framework(error)
    return database.fault(error)


def _log(failure: errors.Failure, error: BaseException) -> None:
    """A failure that is not the caller's; at a higher level where it stays until somebody does something."""
    if failure.status >= 500:
        say = log.warning if failure.temporary else log.error
        say("request_failed", problem_code=failure.code, detail=str(error), responsible=failure.responsible)


def problem_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """The REST framework's exception handler: every error leaves as problem+json."""
    failure = translate(error)
    if failure is None:
        return None
    set_rollback()
    request: HttpRequest = context["request"]
    _log(failure, error)
    document = problem(failure, request.META.get("slipway.request_id", ""))
    response = _with_wait(Response(document, status=failure.status, content_type=PROBLEM), failure)
    if failure.status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="slipway"'
    return response


def _wants_json(request: HttpRequest) -> bool:
    return request.path.startswith(("/api/", "/internal/", "/webhooks/"))


def failure_page(request: HttpRequest, failure: errors.Failure) -> HttpResponse:
    """The failure as a page for people, or as problem+json below the API's addresses."""
    if _wants_json(request):
        return problem_response(failure, request)
    context = {"failure": failure, "request_id": request.META.get("slipway.request_id", "")}
    return _with_wait(render(request, "problem.html", context, status=failure.status), failure)


def page_not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:  # noqa: ARG001 - Django's signature.
    """Django's handler404."""
    return failure_page(request, NOT_FOUND)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Django's handler400."""
    failure = (translate(exception) if exception else None) or errors.Invalid(
        "invalid_request", "The request cannot be understood.", "Go back and try again."
    )
    return failure_page(request, failure)


def permission_denied(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:  # noqa: ARG001 - Django's signature.
    """Django's handler403."""
    return failure_page(request, errors.Forbidden("forbidden", "You may not do this.", "Go back to your workspaces."))


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500: no stack trace, but an id to ask for."""
    return failure_page(request, UNEXPECTED)


class BusyDatabaseMiddleware:
    """Turns failures that a view let through, a locked database above all, into pages that say what to do."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer one request."""
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Django asks here before it would answer 500."""
        failure = translate(exception)
        if failure is None or isinstance(exception, Http404):
            return None
        _log(failure, exception)
        return failure_page(request, failure)


class OneThreadMiddleware:
    """Innermost, lets all middleware of a request run in the thread of its view.

    Under ASGI Django takes each middleware of the libraries to a thread and back for itself, which costs more than a
    short view. One that knows nothing of asyncio makes the whole stack synchronous: it changes the thread once.
    """

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer one request."""
        return self.get_response(request)


def healthz(request: HttpRequest) -> JsonResponse:  # noqa: ARG001 - Django's signature.
    """The process answers."""
    return JsonResponse({"status": "ok"})


def readyz(request: HttpRequest) -> JsonResponse:  # noqa: ARG001 - Django's signature.
    """The process can work: 503 while the database does not answer. Redis is reported, but its absence is survived."""
    found = {"database": "ok", "redis": "ok"}
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except OperationalError:
        found["database"] = "away"
    try:
        client().ping()
    except redis.RedisError:
        found["redis"] = "away"
    return JsonResponse(found, status=200 if found["database"] == "ok" else 503)


def local_only(view: Callable[[HttpRequest], R]) -> Callable[[HttpRequest], R]:
    """Keep a view from the world: what came through the gateway carries a forwarded address and gets 404."""

    @functools.wraps(view)
    def guarded(request: HttpRequest) -> R:
        if "X-Forwarded-For" in request.headers:
            raise Http404
        return view(request)

    return guarded
