"""Every word that the portal has for a state, a reason, a step or a warning. Pure; a test goes through all of them."""

from __future__ import annotations

import dataclasses
from typing import Any

from workspaces.states import ConditionStatus, ConditionType, Desired, EventKind, Reason, State

TITLES: dict[State, str] = {
    State.PENDING: "Waiting to start",
    State.STARTING: "Starting",
    State.RUNNING: "Running",
    State.STOPPING: "Stopping",
    State.STOPPED: "Stopped",
    State.FAILED: "Failed",
    State.DELETING: "Moving to trash",
    State.DELETED: "In the trash",
    State.PURGED: "Deleted for good",
}
# How a state looks: the class of its dot and label.
TONES: dict[State, str] = {
    State.PENDING: "busy",
    State.STARTING: "busy",
    State.RUNNING: "good",
    State.STOPPING: "busy",
    State.STOPPED: "calm",
    State.FAILED: "bad",
    State.DELETING: "busy",
    State.DELETED: "calm",
    State.PURGED: "calm",
}
_WHY: dict[State, str] = {
    State.PENDING: "It starts as soon as there is room.",
    State.STARTING: "The editor opens when all steps are done.",
    State.RUNNING: "The editor is ready.",
    State.STOPPING: "Its processes are being ended. Your files are kept.",
    State.STOPPED: "Nothing runs. Your files are kept.",
    State.FAILED: "It could not go on.",
    State.DELETING: "It is stopped first, then kept in the trash for a while.",
    State.DELETED: "You can restore it, with all its files.",
    State.PURGED: "Its files are gone and cannot be restored.",
}
_WHY_BECAUSE: dict[tuple[State, Reason], str] = {
    (State.PENDING, Reason.CREATED): "New; it starts as soon as there is room.",
    (State.STARTING, Reason.CREATED): "First start: the repository is being fetched.",
    (State.STARTING, Reason.URL_OPENED): "Somebody opened its address, so it wakes up.",
    (State.STARTING, Reason.RESTART): "Restarting with a fresh run.",
    (State.STARTING, Reason.INTERRUPTED): "It ended unexpectedly and is being started again. Your files are kept.",
    (State.STOPPING, Reason.USER): "You asked it to stop. Your files are kept.",
    (State.STOPPING, Reason.IDLE): "Nobody used it for a while. Your files are kept.",
    (State.STOPPING, Reason.RESTART): "It stops, then starts afresh.",
    (State.STOPPING, Reason.DELETED): "It is stopped before it goes to the trash.",
    (State.STOPPING, Reason.OWNER_DISABLED): "Its owner's account was disabled. The files are kept.",
    (State.STOPPED, Reason.OWNER_DISABLED): "Its owner's account was disabled. The files are kept.",
    (State.STOPPED, Reason.USER): "You stopped it. Your files are kept.",
    (State.STOPPED, Reason.IDLE): "Nobody used it for a while. Opening it wakes it up.",
    (State.STOPPED, Reason.RESTORED): "Back from the trash, with all its files.",
    (State.STOPPED, Reason.RESTART): "Stopped for a restart.",
    (State.STOPPED, Reason.DELETED): "Stopped; it goes to the trash next.",
}
_NEXT: dict[State, str] = {
    State.PENDING: "Wait, or watch it start.",
    State.STARTING: "Wait, or watch it start.",
    State.RUNNING: "Open it.",
    State.STOPPING: "Wait until it has stopped, or ask for a start now: it follows.",
    State.STOPPED: "Open it: that starts it.",
    State.FAILED: "Look at the log, then start it again.",
    State.DELETING: "Nothing to do. It can be restored from the trash.",
    State.DELETED: "Restore it if you still need it.",
    State.PURGED: "Create a new workspace.",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Words:
    """What is said of a workspace.

    Attributes:
        title: the state in two or three words; `tone` is its class: good, busy, calm or bad.
        why: one sentence on how it came to be so.
        next_step: one sentence on what can be done.
    """

    title: str
    tone: str
    why: str
    next_step: str


# What a click has asked for and nobody has begun yet, so that it is seen at once.
_WISHES: dict[tuple[State, Desired], Words] = {
    (State.STOPPED, Desired.RUNNING): Words("Starting", "busy", "It starts in a moment.", "Wait, or watch it start."),
    (State.STOPPING, Desired.RUNNING): Words(
        "Stopping", "busy", "It stops, then starts afresh.", "Wait, or watch it start."
    ),
    (State.RUNNING, Desired.STOPPED): Words("Stopping", "busy", "It stops in a moment.", "Your files are kept."),
    (State.STARTING, Desired.STOPPED): Words("Stopping", "busy", "It stops in a moment.", "Your files are kept."),
    (State.PENDING, Desired.STOPPED): Words("Stopping", "busy", "It will not be started.", "Your files are kept."),
} | {
    (state, Desired.DELETED): Words(TITLES[State.DELETING], "busy", _WHY[State.DELETING], _NEXT[State.DELETING])
    for state in (State.PENDING, State.STARTING, State.RUNNING, State.STOPPING, State.STOPPED, State.FAILED)
}
_RESTARTS = Words("Restarting", "busy", "It stops, then starts afresh.", "Wait, or watch it start.")
_STARTS_AGAIN = Words("Starting", "busy", "It is started again in a moment.", "Wait, or watch it start.")


def state_words(
    state: State,
    reason: Reason,
    desired: Desired,
    *,
    failure: dict[str, Any] | None = None,
    generation: int = 0,
    restart: bool = False,
) -> Words:
    """What is said of a workspace in this state.

    Args:
        state: where it stands.
        reason: why.
        desired: what its owner wants.
        failure: the workspace's, with the generation that it ended.
        generation: number of the latest intent.
        restart: whether a restart was asked for that has not begun.
    """
    wish = _WISHES.get((state, desired))
    if wish is not None:
        return wish
    if restart and state is State.RUNNING:
        return _RESTARTS
    if state is State.FAILED and failure:
        if desired is Desired.RUNNING and generation > failure.get("generation", generation):
            return _STARTS_AGAIN
        return Words(
            TITLES[state], TONES[state], failure.get("text", _WHY[state]), failure.get("next_step", _NEXT[state])
        )
    return Words(TITLES[state], TONES[state], _WHY_BECAUSE.get((state, reason), _WHY[state]), _NEXT[state])


# Label, what is said while it runs, and what is said once it is done.
STEPS: dict[ConditionType, tuple[str, str, str]] = {
    ConditionType.QUEUED: ("Queue", "Waiting for its turn", "It was its turn"),
    ConditionType.SCHEDULED: ("Machine", "Looking for a machine with room", "A machine has room for it"),
    ConditionType.VOLUME: ("Storage", "Making room for your files", "Your files have a place"),
    ConditionType.IMAGE: ("Image", "Fetching the image that it runs in", "The image is there"),
    ConditionType.CONTAINER: ("Sandbox", "Starting an isolated place to run in", "The sandbox runs"),
    ConditionType.CONTENT: ("Repository", "Fetching the repository", "The files are there"),
    ConditionType.IDE: ("Editor", "Starting VS Code", "VS Code answers"),
    ConditionType.EXTENSIONS: ("Extensions", "Installing extensions", "Extensions are installed"),
    ConditionType.COMMANDS: ("Setup", "Running the repository's setup commands", "Setup commands have ended"),
}
STATUSES: dict[ConditionStatus, str] = {
    ConditionStatus.WAITING: "Not begun",
    ConditionStatus.RUNNING: "Under way",
    ConditionStatus.DONE: "Done",
    ConditionStatus.FAILED: "Failed",
}


def step_words(kind: ConditionType, status: ConditionStatus) -> str:
    """What a step says when its own message is empty."""
    if status is ConditionStatus.RUNNING:
        return STEPS[kind][1]
    return STEPS[kind][2] if status is ConditionStatus.DONE else STATUSES[status]


# Code -> what is so, what to do.
WARNINGS: dict[str, tuple[str, str]] = {
    "no_sandbox": (
        "Runs without a sandbox: its programs can read what Slipway's account on this machine can.",
        "Install bubblewrap, then restart it.",
    ),
    "no_limits": (
        "Runs without limits on memory and processes.",
        "Give Slipway a writable cgroup, then restart it.",
    ),
    "restart_to_apply": (
        "Was started with settings that your administrator has changed since.",
        "Restart it to apply them, when it suits you.",
    ),
    "node_lost": (
        "The machine it runs on does not answer, so nobody can tell how it is.",
        "Wait: it goes on when the machine is back. If it stays away, ask your administrator. Your files are kept.",
    ),
}


def warning_words(code: str) -> tuple[str, str]:
    """What is so and what to do, for a warning of a runtime."""
    return WARNINGS.get(code, (f"The machine it runs on reports: {code.replace('_', ' ')}.", "Ask your administrator."))


REASONS: dict[Reason, str] = {
    Reason.CREATED: "",
    Reason.USER: "",
    Reason.URL_OPENED: "its address was opened",
    Reason.IDLE: "nobody used it",
    Reason.RESTART: "restart",
    Reason.DELETED: "deleted",
    Reason.RESTORED: "restored from the trash",
    Reason.EXPIRED: "its time in the trash was over",
    Reason.INTERRUPTED: "it ended unexpectedly",
    Reason.FAILURE: "",
    Reason.OWNER_DISABLED: "its owner was disabled",
}
_INTENTS: dict[Desired, str] = {
    Desired.RUNNING: "Start asked for",
    Desired.STOPPED: "Stop asked for",
    Desired.DELETED: "Deletion asked for",
}
_INTENTS_BECAUSE: dict[str, str] = {
    Reason.RESTART.value: "Restart asked for",
    Reason.RESTORED.value: "Deletion called off",
}


def event_words(kind: EventKind, *, target: str, source: str, reason: str, text: str) -> str:
    """A line of the history."""
    if kind is EventKind.INTENT:
        return _INTENTS_BECAUSE.get(reason) or _INTENTS[Desired(target)]
    if kind is EventKind.STATE:
        if not source:
            return "Created"
        because = REASONS[Reason(reason)] if reason in set(Reason) else ""
        said = TITLES[State(target)] + (f": {because}" if because else "")
        return f"{said}. {text}" if text else said
    if kind is EventKind.CONDITION:
        step, status = ConditionType(source), ConditionStatus(target)
        return f"{STEPS[step][0]}: {text or step_words(step, status)}"
    return text


# What the host said of who may read the repository.
VISIBILITIES = {"public": "Public", "private": "Private", "internal": "Internal", "unknown": "Visibility unknown"}


@dataclasses.dataclass(frozen=True, slots=True)
class Note:
    """A short remark; `tone` is warn where somebody could lose work, else calm."""

    text: str
    tone: str = "calm"


def git_notes(git: dict[str, Any]) -> list[Note]:
    """What is not safe in the remote repository yet; empty while nothing is known."""
    if not git:
        return []
    found = [
        Note(f"{git[key]} {word}", tone)
        for key, word, tone in (
            ("uncommitted", "uncommitted", "warn"),
            ("unpushed", "unpushed", "warn"),
            ("behind", "behind", "calm"),
        )
        if git.get(key)
    ]
    return found or [Note("No unpushed commits")]
