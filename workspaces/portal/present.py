"""From rows to what a template shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from urllib.parse import quote, urlencode

from django.urls import reverse

from accounts.access import Ability
from workspaces.models import Condition, Event, Workspace
from workspaces.portal import words
from workspaces.portal.shares import Share, shares
from workspaces.portal.waterfall import Waterfall, draw
from workspaces.selectors import abilities_of, shown_owner
from workspaces.services.entering import host_url, local_path
from workspaces.states import (
    ONLY_COPY,
    ConditionStatus,
    ConditionType,
    CopyPhase,
    Desired,
    EventKind,
    Reason,
    State,
)

UNDER_WAY = frozenset({State.PENDING, State.STARTING})
_DROPPED = frozenset({ConditionStatus.WAITING.value, ConditionStatus.RUNNING.value})


@dataclasses.dataclass(frozen=True, slots=True)
class Act:
    """A button: `path` for a form without scripts, `api` and `method` for one with."""

    verb: str
    label: str
    icon: str
    path: str
    api: str
    method: str = "POST"


@dataclasses.dataclass(frozen=True, slots=True)
class Link:
    """Where the first button of a workspace leads."""

    label: str
    href: str


@dataclasses.dataclass(frozen=True, slots=True)
class Shown:
    """A workspace as pages show it.

    Attributes:
        ready: whether it runs, is meant to go on with this run, and the viewer may be in it.
        doing: its buttons.
        step: where its start stands; empty unless it starts.
        may: what the viewer may do with it.
        owner: whose it is; empty where it is the viewer's own.
        kept_as_copy: its files are in a copy alone.
    """

    workspace: Workspace
    state: State
    ready: bool
    said: words.Words
    notes: list[words.Note]
    kept_as_copy: bool
    warnings: list[tuple[str, str]]
    address: str
    open: Link | None
    doing: list[Act]
    detail: str
    start: str
    step: str
    may: frozenset[Ability]
    owner: str


_ACTS: dict[State, tuple[str, ...]] = {
    State.PENDING: ("stop", "delete"),
    State.STARTING: ("stop", "delete"),
    State.RUNNING: ("stop", "restart", "delete"),
    State.STOPPING: ("start", "delete"),
    State.STOPPED: ("start", "delete"),
    State.FAILED: ("start", "delete"),
    State.DELETING: (),
    State.DELETED: ("restore",),
    State.PURGED: (),
}
_NEEDS = {"delete": Ability.CHANGE, "restore": Ability.CHANGE}
_LABELS = {
    "start": ("Start", "play"),
    "stop": ("Stop", "stop"),
    "restart": ("Restart", "restart"),
    "delete": ("Delete", "trash"),
    "restore": ("Restore", "restore"),
}


def _act(workspace: Workspace, verb: str, state: State) -> Act:
    label, icon = _LABELS[verb]
    item = reverse("workspace-item", args=[workspace.pk])
    delete = verb == "delete"
    return Act(
        verb=verb,
        label="Start again" if verb == "start" and state is State.FAILED else label,
        icon=icon,
        path=reverse("portal-act", args=[workspace.slug, verb]),
        api=item if delete else f"{item}/{verb}",
        method="DELETE" if delete else "POST",
    )


def _verbs(workspace: Workspace, state: State) -> tuple[str, ...]:
    """What can be asked for now; what was asked for already is not offered again."""
    if workspace.desired == Desired.DELETED.value and state is not State.DELETED:
        return ()
    asked = {Desired.RUNNING.value: "start", Desired.STOPPED.value: "stop"}.get(workspace.desired)
    if state is State.FAILED:
        asked = None
    return tuple(verb for verb in _ACTS[state] if verb != asked)


def _open_link(workspace: Workspace, state: State, start: str) -> Link | None:
    if workspace.desired == Desired.DELETED.value:
        return None
    if state in UNDER_WAY or (state is State.STOPPED and workspace.desired == Desired.RUNNING.value):
        return Link("Watch", start)
    # Opening a stopped one wakes it, and its start page shows how far it is.
    return Link("Open", host_url(workspace.slug)) if state in {State.RUNNING, State.STOPPED} else None


def _is_ready(workspace: Workspace) -> bool:
    going_on = workspace.desired == Desired.RUNNING.value and not workspace.restart_pending
    return workspace.state == State.RUNNING.value and going_on


def show(workspace: Workspace, steps: Sequence[Condition] = ()) -> Shown:
    """What pages say of a workspace that `selectors.visible_to` found, and offer to the viewer.

    `steps` are those of its start, for a list to say how far it is.
    """
    state = State(workspace.state)
    may = abilities_of(workspace)
    start = reverse("portal-start", args=[workspace.slug])
    return Shown(
        workspace=workspace,
        state=state,
        ready=_is_ready(workspace) and Ability.OPEN in may,
        said=words.state_words(
            state,
            Reason(workspace.reason),
            Desired(workspace.desired),
            failure=workspace.failure,
            generation=workspace.generation,
            restart=workspace.restart_pending,
        ),
        notes=words.git_notes(workspace.git),
        kept_as_copy=CopyPhase(workspace.copy_phase) in ONLY_COPY,
        warnings=[words.warning_words(code) for code in workspace.warnings],
        address=host_url(workspace.slug),
        open=_open_link(workspace, state, start) if Ability.OPEN in may else None,
        doing=[
            _act(workspace, verb, state)
            for verb in _verbs(workspace, state)
            if _NEEDS.get(verb, Ability.OPERATE) in may
        ],
        detail=reverse("portal-detail", args=[workspace.slug]),
        start=start,
        step=_current(steps) if state is State.STARTING and workspace.desired == Desired.RUNNING.value else "",
        may=may,
        owner=shown_owner(workspace),
    )


def _current(steps: Sequence[Condition]) -> str:
    running = [row for row in steps if row.status == ConditionStatus.RUNNING.value]
    if not running:
        return ""
    row = running[0]
    share = f" · {round(100 * row.progress)} %" if row.progress is not None else ""
    return (row.message or words.step_words(ConditionType(row.type), ConditionStatus.RUNNING)) + share


def waterfall(workspace: Workspace, rows: Sequence[Condition], *, now: datetime) -> Waterfall:
    """The latest start, drawn."""
    begun = [row.started_at for row in rows if row.started_at is not None]
    busy = any(row.status == ConditionStatus.RUNNING.value for row in rows)
    alive = State(workspace.state) in UNDER_WAY | {State.RUNNING}
    return draw(rows, origin=min([workspace.wanted_at, *begun]), now=now, under_way=busy and alive)


@dataclasses.dataclass(frozen=True, slots=True)
class Goal:
    """Where a start page leads once the workspace runs.

    Attributes:
        path: path with query on the host that was asked for.
        port: the port whose host that is; None for the editor's.
    """

    path: str = "/"
    port: int | None = None

    @property
    def query(self) -> str:
        """The same for an address of ours."""
        return urlencode({"next": self.path} | ({"port": self.port} if self.port is not None else {}))


def landing(workspace: Workspace, goal: Goal) -> str:
    """The address of a goal."""
    label = workspace.slug if goal.port is None else f"{goal.port}-{workspace.slug}"
    return host_url(label, quote(local_path(goal.path), safe="/?=&%:@!$'()*+,;~#-._[]"))


def visibility(workspace: Workspace) -> str:
    """Who may read the repository."""
    return words.VISIBILITIES.get(workspace.repository.visibility, words.VISIBILITIES["unknown"])


def languages(workspace: Workspace) -> list[Share]:
    """The parts of the language bar."""
    return shares(workspace.repository.languages)


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A line of the history."""

    number: int
    kind: str
    text: str
    who: str
    at: datetime


def history(rows: Sequence[Event]) -> list[Entry]:
    """The history in words; steps that only began are left to the waterfall."""
    return [
        Entry(
            row.pk,
            row.kind,
            words.event_words(
                EventKind(row.kind), target=row.target, source=row.source, reason=row.reason, text=row.text
            ),
            row.actor.shown_name if row.actor else "",
            row.created_at,
        )
        for row in rows
        if not (row.kind == EventKind.CONDITION.value and row.target in _DROPPED)
    ]


@dataclasses.dataclass(frozen=True, slots=True)
class Port:
    """A program that listens in a workspace."""

    number: int
    href: str


def ports(workspace: Workspace) -> list[Port]:
    """Links to what listens in the workspace; none while it does not run."""
    if workspace.state != State.RUNNING.value:
        return []
    return [Port(number, host_url(f"{number}-{workspace.slug}")) for number in workspace.ports]
