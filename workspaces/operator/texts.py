"""Why a workspace failed, in words for its owner: code -> (what happened, what to do, who is responsible)."""

from __future__ import annotations

INTERRUPTED = "The workspace's processes ended unexpectedly. It is being started again; your files are kept."
# Worth telling when a run that ended of it is started again.
TOLD = frozenset({"oom_killed", "evicted"})
RETRY = "Start the workspace again. Your files are kept."

FAILURES: dict[str, tuple[str, str, str]] = {
    "content_failed": (
        "The repository could not be fetched.",
        "Look at the log for the reason, then start the workspace again.",
        "user",
    ),
    "start_timeout": (
        "The workspace made no progress for too long while starting.",
        "Look at the log for the last step, then start it again. Your files are kept.",
        "cluster",
    ),
    "stop_timeout": (
        "The workspace did not end when asked, and is still being ended.",
        "Nothing to do: what you asked for follows once it is gone. Your files are kept.",
        "cluster",
    ),
    "runtime_silent": (
        "Slipway cannot tell whether this workspace is running: the place where workspaces run does not say.",
        "Try again in a few minutes. If it stays so, ask your administrator to look at the worker's log and, where only"
        " this workspace is concerned, to run `manage.py clear_run` with its name. Your files are kept.",
        "cluster",
    ),
    "oom_killed": (
        "The workspace used more memory than it is allowed and was ended.",
        "Start it again and run less at once, or ask your administrator for more memory. Your files are kept.",
        "user",
    ),
    "evicted": (
        "The cluster needed its machine for something else, or took it away, and ended the workspace.",
        "Start it again. Your files are kept.",
        "cluster",
    ),
    "node_lost": (
        "The machine that it ran on does not answer. Whether it still runs there, nobody can tell.",
        "It can be started again once the machine is back. If it is gone for good, ask your administrator to make sure"
        " that it is off and to run `manage.py clear_run --machine-is-off` with its name. Your files are kept.",
        "cluster",
    ),
    "image_missing": (
        "The workspace's image does not exist.",
        "Ask your administrator to correct the name of the image, or to push it, then start the workspace again.",
        "user",
    ),
    "image_refused": (
        "The registry does not let the cluster have the workspace's image.",
        "Ask your administrator to give the cluster access to the registry, then start the workspace again.",
        "user",
    ),
    "image_invalid": (
        "The name of the workspace's image is not valid.",
        "Ask your administrator to correct it, then start the workspace again.",
        "user",
    ),
    "pod_refused": (
        "The cluster cannot make the workspace's container.",
        "Tell your administrator: the start's steps say why. Your files are kept.",
        "platform",
    ),
    "not_started": (
        "The workspace's agent could not be started in its container.",
        "Tell your administrator: the start's steps say why. Your files are kept.",
        "platform",
    ),
    "run_refused": (
        "The workspace's agent does not accept what it was told to do.",
        "Tell your administrator: the log says what is not valid. Your files are kept.",
        "platform",
    ),
    "run_ended": ("The workspace's processes ended unexpectedly, several times in a row.", RETRY, "platform"),
}


def failure_of(code: str) -> tuple[str, str, str]:
    """Text, next step and responsible party for a code; codes we have no words for are the platform's."""
    return FAILURES.get(code, ("The workspace ended unexpectedly.", RETRY, "platform"))
