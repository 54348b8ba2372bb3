"""The words of a workspace's life, and which may follow which. Pure."""

from __future__ import annotations

import enum


class State(enum.StrEnum):
    """Where a workspace stands."""

    PENDING = "pending"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    DELETING = "deleting"
    DELETED = "deleted"
    PURGED = "purged"


class Desired(enum.StrEnum):
    """What its owner wants."""

    RUNNING = "running"
    STOPPED = "stopped"
    DELETED = "deleted"


# Each resting state is left only by an intent, by what happens to its run, or by time.
RESTING = frozenset({State.RUNNING, State.STOPPED, State.FAILED, State.DELETED, State.PURGED})
GONE = frozenset({State.DELETED, State.PURGED})
# In these its present run may be alive, and its agent is believed.
WITH_RUN = frozenset({State.STARTING, State.RUNNING, State.STOPPING})

TRANSITIONS: dict[State, frozenset[State]] = {
    State.PENDING: frozenset({State.STARTING, State.STOPPED, State.DELETING, State.FAILED}),
    State.STARTING: frozenset({State.RUNNING, State.STOPPING, State.STARTING, State.FAILED}),
    State.RUNNING: frozenset({State.STOPPING, State.STARTING, State.FAILED}),
    State.STOPPING: frozenset({State.STOPPED, State.FAILED}),
    State.STOPPED: frozenset({State.STARTING, State.DELETING, State.FAILED}),
    State.FAILED: frozenset({State.STARTING, State.STOPPED, State.DELETING, State.FAILED}),
    State.DELETING: frozenset({State.DELETED, State.STOPPED, State.FAILED}),
    State.DELETED: frozenset({State.STOPPED, State.PURGED}),
    State.PURGED: frozenset(),
}


class Reason(enum.StrEnum):
    """Why a state was entered; shown with the state."""

    CREATED = "created"
    USER = "user"
    URL_OPENED = "url_opened"
    IDLE = "idle"
    RESTART = "restart"
    DELETED = "deleted"
    RESTORED = "restored"
    EXPIRED = "expired"
    INTERRUPTED = "interrupted"
    FAILURE = "failure"
    OWNER_DISABLED = "owner_disabled"


class ConditionType(enum.StrEnum):
    """The steps of a start, in the order in which the waterfall draws them."""

    QUEUED = "queued"
    SCHEDULED = "scheduled"
    VOLUME = "volume"
    IMAGE = "image"
    CONTAINER = "container"
    CONTENT = "content"
    IDE = "ide"
    EXTENSIONS = "extensions"
    COMMANDS = "commands"


# What the place where it runs can tell of; the queue is the operator's own.
RUNTIME_CONDITIONS = frozenset(
    {ConditionType.SCHEDULED, ConditionType.VOLUME, ConditionType.IMAGE, ConditionType.CONTAINER}
)
# The agent speaks of these.
AGENT_CONDITIONS = frozenset(
    {ConditionType.CONTENT, ConditionType.IDE, ConditionType.EXTENSIONS, ConditionType.COMMANDS}
)


class ConditionStatus(enum.StrEnum):
    """How far a step is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


OVER = frozenset({ConditionStatus.DONE, ConditionStatus.FAILED})
# The code of a step that was under way when its workspace was stopped, or its start failed elsewhere.
CALLED_OFF = "called_off"


class CopyPhase(enum.StrEnum):
    """What became of a workspace's volume in the trash; see `operator.copies`."""

    NONE = ""  # The volume is all there is.
    SAVING = "saving"  # A copy is being made. The volume is untouched.
    STALLED = "stalled"  # That failed, and waits for another attempt.
    FREEING = "freeing"  # There is a whole copy, which counts from here on; the volume is being deleted.
    KEPT = "kept"  # The copy is all there is.
    RESTORED = "restored"  # There is a volume made from the copy, which may still be filled from it.
    SPENT = "spent"  # Nobody needs the copy any more; it is being forgotten.


# The files of a workspace are in its copy alone.
ONLY_COPY = frozenset({CopyPhase.FREEING, CopyPhase.KEPT})


class EventKind(enum.StrEnum):
    """What an entry in a workspace's history is about."""

    STATE = "state"
    INTENT = "intent"
    CONDITION = "condition"
    NOTICE = "notice"
    CHANGE = "change"
