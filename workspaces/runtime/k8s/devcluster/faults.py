"""What goes wrong with a dev cluster, in words for those who use it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from workspaces.runtime.errors import ClusterFault, Failure, PlatformFault
from workspaces.runtime.k8s.client import Refusal
from workspaces.runtime.k8s.faults import explain

_AGAIN = "Try again in a moment."
_RIGHTS = "Ask your administrator to check the rights of Slipway's account in the dev cluster."
_TELL = "Ask your administrator to look at the platform's log."
# What the adapter for workspaces says, code by code, as it is said of a dev cluster.
_SAID = {
    "cluster_away": ("dev_cluster_away", "The dev cluster does not answer.", _AGAIN),
    "cluster_catching_up": ("dev_cluster_catching_up", "The dev cluster is still getting ready.", _AGAIN),
    "cluster_refused": ("dev_cluster_refused", "The dev cluster does not let Slipway do this.", _RIGHTS),
    "namespace_ending": (
        "dev_namespace_ending",
        "Your namespace in the dev cluster is being removed.",
        "Try again in a moment: a new one is made then.",
    ),
    "runtime_busy": ("dev_cluster_busy", "Somebody else is changing your namespace in the dev cluster.", _AGAIN),
}
_REJECTED = ("dev_cluster_rejected", "The dev cluster did not accept what Slipway asked for.", _TELL)


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise what the client raises in the block as a `Failure` about the dev cluster; the original is its cause."""
    try:
        yield
    except Refusal as refusal:
        raise _said(explain(refusal, doing)) from refusal
    except Failure as failure:
        raise _said(failure) from failure


def _said(failure: Failure) -> Failure:
    if failure.code.startswith("dev_"):
        return failure
    code, text, next_step = _SAID.get(failure.code, _REJECTED)
    kind = ClusterFault if isinstance(failure, ClusterFault) else PlatformFault
    return kind(
        code,
        text,
        next_step,
        log_text=failure.log_text,
        temporary=failure.temporary,
        retry_after=failure.retry_after,
    )


def ending(namespace: str) -> ClusterFault:
    """The namespace is being deleted; one of the same name can be made after that."""
    return ClusterFault(*_SAID["namespace_ending"], log_text=f"namespace {namespace} is terminating")


def foreign(namespace: str) -> PlatformFault:
    """A namespace of the workspace's name that is not ours: it is neither used nor changed."""
    return PlatformFault(
        "dev_namespace_taken",
        "The dev cluster has a namespace of this workspace's name that does not belong to Slipway.",
        "Ask your administrator to remove it, or to give Slipway another prefix for its namespaces.",
        log_text=f"namespace {namespace} carries no label of this installation",
    )
