"""Seeing what happens: structured logs with ids, and every metric of the server.

Metrics are named `slipway_<noun>_<what>_<unit or total>`; label values come from enums, never from users.
"""

from __future__ import annotations

import logging
import re
import sys
import uuid
from collections.abc import Callable

import structlog
from django.http import HttpRequest, HttpResponseBase
from prometheus_client import Counter, Gauge, Histogram

from kernel import origin

TRANSITIONS = Counter("slipway_workspace_transitions_total", "State changes of workspaces.", ["source", "target"])
FAILURES = Counter("slipway_workspace_failures_total", "Workspaces that failed.", ["responsible"])
START_SECONDS = Histogram(
    "slipway_workspace_start_seconds",
    "From the intent to start until the editor answers.",
    buckets=(0.5, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377),
)
RECONCILES = Counter("slipway_reconcile_runs_total", "Looks of the operator at one workspace.", ["action"])
BACKLOG = Gauge(
    "slipway_reconcile_overdue_workspaces", "Workspaces that the sweep found overdue.", multiprocess_mode="mostrecent"
)
ORPHANS = Gauge(
    "slipway_runtime_orphans_count",
    "Runs and volumes in the runtime that no workspace owns.",
    multiprocess_mode="mostrecent",
)
DEV_CLUSTER = Counter(
    "slipway_dev_cluster_operations_total", "What was asked of the dev cluster.", ["operation", "outcome"]
)
COPIES = Counter(
    "slipway_copies_total", "Steps of keeping the trash as copies, and what came of them.", ["operation", "outcome"]
)
COPY_SECONDS = Histogram(
    "slipway_copy_duration_seconds",
    "From the first ask until a copy was made (save) or a volume was made from it (restore).",
    ["operation"],
    buckets=(1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600),
)
ORPHANS_CLEARED = Counter(
    "slipway_runtime_orphans_cleared_total", "Workspaces that nobody owned of which all but the volume was removed."
)
LAST_EVENT_AGE = Gauge(
    "slipway_operator_last_event_age_seconds",
    "Since the cluster last said a word about this kind of object.",
    ["kind"],
    multiprocess_mode="mostrecent",
)
RELISTS = Counter("slipway_operator_relists_total", "Listings of all objects of a kind, and why.", ["kind", "reason"])
EVENT_LAG = Histogram(
    "slipway_operator_event_lag_seconds",
    "From hearing of a change until the worker was asked to look.",
    buckets=(0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30, 60),
)
LEADER = Gauge(
    "slipway_operator_leader", "1 in the operator process that leads, else 0.", multiprocess_mode="mostrecent"
)
NUDGES = Counter("slipway_operator_nudges_total", "Workspaces that the worker was asked to look at.")
NUDGES_DROPPED = Counter(
    "slipway_operator_nudges_dropped_total", "Changes left to the sweep, because too many were waiting."
)
NUDGES_WAITING = Gauge(
    "slipway_operator_waiting_workspaces",
    "Workspaces of which a change was heard and not yet passed on.",
    multiprocess_mode="mostrecent",
)
ENQUEUE_FAILURES = Counter("slipway_jobs_enqueue_failures_total", "Jobs that the broker did not take.")

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECRET_KEYS = frozenset({"password", "token", "secret", "authorization", "cookie", "code", "credential"})


def _scrub(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Last line of defence: a field with a secret's name never reaches a log."""
    for key in event:
        if key.lower() in _SECRET_KEYS:
            event[key] = "***"
    return event


def configure(style: str) -> None:
    """Send every log record of the process, ours and the libraries', to stderr as `console` or `json` lines."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        _scrub,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    as_json = style == "json"
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *([structlog.processors.format_exc_info] if as_json else []),
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for noisy in ("httpx", "celery.app.trace", "celery.worker.strategy", "celery.beat", "uvicorn.access", "axes"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class RequestContextMiddleware:
    """Gives each request an id, binds it to every log line of that request, and returns it as X-Request-ID."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer one request."""
        given = request.headers.get("X-Request-ID", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        request.META["slipway.request_id"] = request_id
        origin.begin(address=request.META.get("REMOTE_ADDR", ""), request_id=request_id)
        response = self.get_response(request)
        response["X-Request-ID"] = request_id
        return response
