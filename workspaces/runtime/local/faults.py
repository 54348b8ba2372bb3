"""What the operating system says, in words for people: the edge where `OSError` becomes `kernel.errors`."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from workspaces.runtime.errors import ClusterFault

_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM}


def fault_for(error: OSError, doing: str) -> ClusterFault:
    """The failure to raise for an error of the system; `doing` says for the log what was tried."""
    log_text = f"{doing}: {error}"
    if error.errno in _FULL:
        return ClusterFault(
            "disk_full",
            "The disk that holds the workspaces is full.",
            "Delete workspaces or files that are no longer needed, or ask the operator for more space, then try again.",
            log_text=log_text,
        )
    if error.errno in _REFUSED:
        return ClusterFault(
            "folder_refused",
            "The machine did not let Slipway use the workspace's folder.",
            "Ask the operator to check who owns Slipway's data folder.",
            log_text=log_text,
            temporary=False,
        )
    if error.errno in _EXHAUSTED:
        return ClusterFault(
            "machine_exhausted",
            "The machine has no room for another workspace right now.",
            "Stop a workspace that is not needed, or try again in a minute.",
            log_text=log_text,
        )
    return ClusterFault(
        "machine_error",
        "The machine could not do what the workspace needs.",
        "Try again; if it happens again, ask the operator to look at the log.",
        log_text=log_text,
    )


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise every `OSError` of the block as a `ClusterFault`, with the original as its cause."""
    try:
        yield
    except OSError as error:
        raise fault_for(error, doing) from error


def state_unreadable(name: str, detail: str) -> ClusterFault:
    """The notes about a run cannot be read, so nothing is known and nothing may be done on a guess."""
    return ClusterFault(
        "state_unreadable",
        "Slipway cannot tell whether this workspace is running.",
        f"Ask your administrator to run `manage.py clear_run {name}`: that ends what is left of its run by force, and"
        " keeps its files.",
        log_text=f"{name}: {detail}",
        temporary=False,
    )


def runtime_busy(name: str, lock: str) -> ClusterFault:
    """Somebody else is at work on the workspace; who gives up at once leaves its thread to others."""
    return ClusterFault(
        "runtime_busy",
        "Slipway is still busy with another step of this workspace.",
        "Wait a moment; Slipway tries again by itself.",
        log_text=f"{name}: {lock} is held by somebody else",
        retry_after=2,
    )
