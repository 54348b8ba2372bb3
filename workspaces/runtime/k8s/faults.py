"""What the API server says no to, in words for people: the edge where a `Refusal` becomes `kernel.errors`."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from workspaces.runtime.errors import ClusterFault, Failure, PlatformFault, UserFault
from workspaces.runtime.k8s.client import Refusal

_WAIT = "Wait a moment; Slipway tries again by itself."
_TELL = "Ask the operator to look at the log."
# "exceeded quota: NAME, requested: pods=1, used: pods=1, limited: pods=1"; each part may list several resources.
_QUOTA = re.compile(
    r"exceeded quota: (?P<quota>[^,]+), requested: (?P<asked>.+), used: (?P<used>.+), limited: (?P<limit>.+)"
)
# Said for a moment after a namespace, a quota or an account was made: the server's own caches are behind.
_NOT_YET = ("status unknown for quota", "error looking up service account", "no API token found for service account")


def explain(refusal: Refusal, doing: str) -> Failure:
    """The failure to raise for a refusal; `doing` says for the log what was tried."""
    log_text = f"{doing}: {refusal}"
    if "NamespaceTerminating" in refusal.causes or "is being terminated" in refusal.message:
        return namespace_ending(log_text)
    if any(words in refusal.message for words in _NOT_YET):
        return catching_up(log_text)
    if found := _QUOTA.search(refusal.message):
        return quota_used_up(found, log_text)
    if refusal.status == 403 and "violates PodSecurity" in refusal.message:
        return PlatformFault(
            "pod_refused", "The cluster's security rules refuse this workspace.", _TELL, log_text=log_text
        )
    if refusal.status in {401, 403}:
        return ClusterFault(
            "cluster_refused",
            "The cluster does not let Slipway do this.",
            "Ask the operator to check the rights of Slipway's account in the cluster.",
            log_text=log_text,
            temporary=False,
        )
    if refusal.status == 409:
        return ClusterFault("runtime_busy", "Somebody else is changing this workspace.", _WAIT, log_text=log_text)
    return PlatformFault(
        "cluster_rejected", "The cluster did not accept what Slipway asked for.", _TELL, log_text=log_text
    )


def quota_used_up(found: re.Match[str], log_text: str) -> UserFault:
    """A quota is used up: which one, asked, used and limit, in the cluster's own numbers."""
    return UserFault(
        "quota_exceeded",
        f"The quota “{found['quota']}” is used up:"
        f" asked {found['asked']}, used {found['used']}, limit {found['limit']}.",
        "Stop something that is not needed, or ask your administrator for more, then start the workspace again.",
        log_text=log_text,
    )


def is_about_quota(refusal: Refusal, name: str) -> bool:
    """Whether it says that the quota of this name is used up."""
    found = _QUOTA.search(refusal.message)
    return found is not None and found["quota"] == name


def catching_up(log_text: str) -> ClusterFault:
    """The cluster's own parts do not know yet of what was just made or removed."""
    return ClusterFault("cluster_catching_up", "The cluster is still getting ready for it.", _WAIT, log_text=log_text)


def namespace_ending(log_text: str) -> ClusterFault:
    """The namespace is being deleted, with all that is in it; one of the same name can be made after that."""
    return ClusterFault("namespace_ending", "What was here before is still being removed.", _WAIT, log_text=log_text)


def not_grown(refusal: Refusal) -> ClusterFault:
    """The storage does not let a volume grow; in the cluster's own words."""
    return ClusterFault(
        "volume_not_grown",
        f"The workspace's storage cannot be made larger: {refusal.message}",
        "Ask the operator for a storage class that allows expansion; the files stay as they are.",
        log_text=str(refusal),
        temporary=False,
    )


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise every `Refusal` of the block as a `Failure`, with the original as its cause."""
    try:
        yield
    except Refusal as refusal:
        raise explain(refusal, doing) from refusal


def foreign(namespace: str, kind: str) -> PlatformFault:
    """An object of our name that is not ours: it is neither used nor changed."""
    return PlatformFault(
        "name_taken",
        "The cluster has something of this workspace's name that does not belong to Slipway.",
        "Ask the operator to remove or rename it, or to give Slipway another prefix.",
        log_text=f"{kind} in {namespace} carries no label of this installation",
    )


def volume_ending(name: str) -> ClusterFault:
    """The storage is being deleted by somebody. No second one is made beside it."""
    return ClusterFault(
        "volume_ending",
        "The workspace's storage is being deleted by somebody.",
        "Ask your administrator what happened to it.",
        log_text=f"the claim of {name} has a deletion timestamp",
    )


def machine_answers(name: str) -> UserFault:
    """Nothing is forgotten of which somebody can tell how it is."""
    return UserFault(
        "machine_answers",
        "The machine that the workspace runs on answers.",
        "Let the machine end it: run `manage.py clear_run` without --machine-is-off.",
        log_text=f"the node of the pod of {name} is not lost",
    )


def still_ending(name: str) -> ClusterFault:
    """The run has been told to end, and its node has not said yet that it has."""
    return ClusterFault(
        "still_ending",
        "The workspace's processes are still ending.",
        _WAIT,
        log_text=f"the pod of {name} is still there",
        retry_after=1,
    )
