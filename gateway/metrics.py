"""Every metric of the gateway. Names are `slipway_gateway_<noun>_<unit>`; label values come from fixed sets only."""

from __future__ import annotations

import functools

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

REGISTRY = CollectorRegistry()
ProcessCollector(namespace="slipway_gateway", registry=REGISTRY)

KINDS = ("ide", "port", "web", "agent")
CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx", "none")
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

_requests = Counter(
    "slipway_gateway_requests",
    "Requests answered; `none` when the client left first, or the status is none of HTTP's",
    ("kind", "code"),
    registry=REGISTRY,
)
_seconds = Histogram(
    "slipway_gateway_request_seconds", "Time to a whole answer", ("kind",), buckets=_BUCKETS, registry=REGISTRY
)
_sockets = Gauge("slipway_gateway_open_sockets", "WebSockets open now", ("kind",), registry=REGISTRY)
_bytes = Counter(
    "slipway_gateway_relayed_bytes", "Bytes of bodies and WebSockets", ("kind", "direction"), registry=REGISTRY
)
connections = Gauge("slipway_gateway_connections", "Client connections open now", registry=REGISTRY)
authorize = Counter("slipway_gateway_authorize_calls", "Questions to web by outcome", ("outcome",), registry=REGISTRY)
cache = Counter(
    "slipway_gateway_access_cache", "Access decisions by where they came from", ("result",), registry=REGISTRY
)
revocations = Counter("slipway_gateway_revocations", "Revocations received", ("scope",), registry=REGISTRY)
closed = Counter(
    "slipway_gateway_access_cuts", "Sockets and streams ended by the gateway", ("cause",), registry=REGISTRY
)
upstream_errors = Counter("slipway_gateway_upstream_errors", "Upstream failures", ("kind", "cause"), registry=REGISTRY)
redis_up = Gauge("slipway_gateway_redis_up", "Whether revocations are being received", registry=REGISTRY)
activity_failures = Counter(
    "slipway_gateway_activity_failures", "Activity that could not be written", registry=REGISTRY
)

OUTCOMES = ("allow", "sign_in", "not_found", "not_running", "unavailable")
for _outcome in OUTCOMES:
    authorize.labels(_outcome)
for _result in ("hit", "miss", "shared", "stale"):
    cache.labels(_result)
for _scope in ("session", "user", "workspace", "all"):
    revocations.labels(_scope)
for _cause in ("revoked", "unverified", "drain"):
    closed.labels(_cause)
for _kind in KINDS:
    for _cause in ("connect", "broke"):
        upstream_errors.labels(_kind, _cause)


class Meter:
    """The counters of one kind, looked up once."""

    def __init__(self, kind: str) -> None:
        self.requests = [_requests.labels(kind, name) for name in CLASSES]
        self._observe = _seconds.labels(kind).observe
        self._received = _bytes.labels(kind, "received")
        self._sent = _bytes.labels(kind, "sent")
        self.sockets = SocketMeter(kind)

    def answered(self, status: int, seconds: float, received: int, sent: int) -> None:
        """One request is over; status 0 stands for a client that left first."""
        self.requests[status // 100 - 1 if 100 <= status < 600 else -1].inc()
        self._observe(seconds)
        if received:
            self._received.inc(received)
        if sent:
            self._sent.inc(sent)


class SocketMeter:
    """Counts the WebSockets of one kind and their bytes."""

    def __init__(self, kind: str) -> None:
        self._open = _sockets.labels(kind)
        self._received = _bytes.labels(kind, "received")
        self._sent = _bytes.labels(kind, "sent")

    def opened(self) -> None:
        """One more is open."""
        self._open.inc()

    def closed(self) -> None:
        """One less is open."""
        self._open.dec()

    def relayed(self, received: int, sent: int) -> None:
        """Bytes from and to the client; call it for many at a time."""
        self._received.inc(received)
        self._sent.inc(sent)


@functools.cache
def meter(kind: str) -> Meter:
    """The counters of a kind, one of `KINDS`."""
    return Meter(kind)
