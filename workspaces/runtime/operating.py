"""What a runtime on other machines offers to the operator's process, beside the port: it can be watched.

A runtime offers this or it does not; one whose runs are processes of this machine has nothing to be watched. Nothing in
here answers a question about a workspace: who is told that one changed asks the port.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from workspaces.runtime.port import Listed


class Told(Protocol):
    """Is told what is heard, from several threads at once; must not wait."""

    def changed(self, name: str) -> None:
        """Look at this workspace now. The same change may be told more than once, and of names that nobody knows."""
        ...

    def said(self, name: str) -> None:
        """Something was said about this workspace that tells what its start waits for; nothing of it changed."""
        ...

    def heard(self, kind: str, age: float) -> None:
        """A word about this kind of object came, `age` seconds after the one before."""
        ...

    def listed(self, kind: str, reason: str, count: int) -> None:
        """All objects of a kind were listed: at the "start", or because what was known had "expired"."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class WatchState:
    """How one kind's watch is.

    Attributes:
        kind: of object; a handful of words.
        synced: whether everything was listed once.
        alive: whether its thread is there.
        deaf: whether nothing was heard for so long that this process is of no use.
        age: seconds since the last word.
        refused: the cluster's words while it does not let this process watch; empty otherwise.
    """

    kind: str
    synced: bool
    alive: bool
    deaf: bool
    age: float
    refused: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Found(Listed):
    """What the runtime has of a workspace, with what was noted on it.

    Attributes:
        orphan_seconds: for how long it was seen to belong to nobody, as noted; None where nothing is noted.
        markable: whether there is something to note that on. What cannot be marked is never cleared away.
    """

    orphan_seconds: float | None = None
    markable: bool = False


class Operations(Protocol):
    """One operator process's view of a runtime. Of several processes one leads, and only that one acts."""

    @property
    def leads(self) -> bool:
        """Whether this process may act. Becomes False by itself, well before another one may start."""
        ...

    @property
    def lease_refused(self) -> str:
        """The cluster's words while it does not let this process try for the lead; empty otherwise."""
        ...

    def start(self) -> None:
        """Begin to watch, in threads of its own."""
        ...

    def stop(self) -> None:
        """End the watching, within seconds."""
        ...

    def watches(self) -> Sequence[WatchState]:
        """How the watches are, one for each kind."""
        ...

    def hold(self) -> bool:
        """Take or keep the lead, and say whether this process has it. Call it every `RENEW_EVERY` seconds."""
        ...

    def release(self) -> None:
        """Give the lead away, so that the next one need not wait."""
        ...

    def survey(self) -> list[Found]:
        """Everything of this installation that the runtime has.

        Raises:
            Failure: it could not tell all of it.
        """
        ...

    def mark(self, name: str, seconds: float | None) -> None:
        """Note for how long a workspace's objects were seen to belong to nobody; None takes the note away.

        Raises:
            Failure: it could not be noted; or somebody else changed them meanwhile, which is temporary.
        """
        ...

    def clear(self, name: str) -> bool:
        """One step towards having nothing left of a workspace but its volume, and what the volume lies in.

        Never deletes a volume. Says True when there is nothing more to do.

        Raises:
            Failure: it could not be done; temporary where the next try may succeed.
        """
        ...


RENEW_EVERY = 3.0
"""Seconds between two calls of `Operations.hold`."""


@runtime_checkable
class Operable(Protocol):
    """A runtime that wants an operator process."""

    def operations(self, identity: str, told: Told) -> Operations:
        """What the process of this name works with; no two may have the same."""
        ...
