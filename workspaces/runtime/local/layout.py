"""Where everything of a workspace lies, and whose it is.

<home>/locks/<name>.lock              one caller at a time
<home>/locks/<name>.trash.lock        one who deletes at a time
<home>/workspaces/<name>/home         the user's home        ┐ the volume
<home>/workspaces/<name>/state        the agent's markers    ┘
<home>/workspaces/<name>/owner.json   the user id it runs as
<home>/workspaces/<name>/log/run-<n>.jsonl
<home>/workspaces/<name>/run/         notes about the run that is there; the workspace cannot see them
<home>/workspaces/<name>/run/agent/   what the agent is handed: spec.json, secrets.json
<run_dir>/w/<name>/                   sockets; emptied for each run
<home>/workspaces/.<name>.<random>    a folder on its way out, beside where it was: renaming it is one step
<run_dir>/w/.<name>.<random>          the same
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import secrets
from pathlib import Path

from workspaces.runtime.errors import ClusterFault, PlatformFault
from workspaces.runtime.local import files
from workspaces.runtime.local.config import SOCKET_LIMIT, LocalConfig, socket_length
from workspaces.runtime.names import checked

_OWNERS_WAIT = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """The paths of one workspace."""

    root: Path
    sockets: Path

    @property
    def home(self) -> Path:
        """The user's home."""
        return self.root / "home"

    @property
    def state(self) -> Path:
        """The agent's markers."""
        return self.root / "state"

    @property
    def log(self) -> Path:
        """The logs of its runs."""
        return self.root / "log"

    @property
    def run(self) -> Path:
        """Notes about the run that is there."""
        return self.root / "run"

    @property
    def handed(self) -> Path:
        """What the agent may read."""
        return self.run / "agent"

    @property
    def life(self) -> Path:
        """The lock which the supervisor holds as long as it lives."""
        return self.root / "life.lock"

    def has_volume(self) -> bool:
        """Whether there is storage."""
        return self.home.is_dir()


class Layout:
    """All places of one adapter."""

    def __init__(self, config: LocalConfig) -> None:
        self._config = config
        self.workspaces = config.home / "workspaces"
        self._sockets = config.run_dir / "w"
        self._locks = config.home / "locks"

    def place(self, name: str) -> Place:
        """The paths of `name`, whether or not anything is there."""
        return Place(self.workspaces / checked(name), self._sockets / name)

    def prepare(self) -> None:
        """Make the folders that all workspaces share."""
        for folder in (self._config.home, self._config.run_dir, self._sockets):
            folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.workspaces.mkdir(mode=0o711, exist_ok=True)
        self._locks.mkdir(mode=0o700, exist_ok=True)

    def lock(self, name: str) -> Path:
        """The lock under which a workspace is changed."""
        return self._locks / f"{checked(name)}.lock"

    def make_volume(self, name: str) -> None:
        """Make the folders of a workspace that are missing."""
        place = self.place(name)
        place.root.mkdir(mode=0o711, exist_ok=True)
        owner = self._own(name)
        for folder in (place.log, place.run):
            folder.mkdir(mode=0o711 if folder == place.run else 0o700, exist_ok=True)
        for folder in (place.state, place.home):
            folder.mkdir(mode=0o700, exist_ok=True)
            give(folder, owner)
        files.sync_folder(place.root)

    def fresh_sockets(self, name: str) -> Path:
        """An empty folder for the sockets of a new run.

        Raises:
            PlatformFault: the paths in it would be too long.
        """
        place = self.place(name)
        if socket_length(self._config.run_dir, name) >= SOCKET_LIMIT:
            raise PlatformFault(
                "socket_path_too_long",
                "This workspace's name is too long for this machine.",
                "Create it again under a shorter name, or ask the operator for a shorter run folder.",
                log_text=f"{place.sockets} leaves no room for sockets",
            )
        files.remove_tree(place.sockets)
        place.sockets.mkdir(mode=0o700)
        for folder in (place.sockets / "ports", place.sockets):
            folder.mkdir(mode=0o700, exist_ok=True)
            give(folder, self.owner(name))
        return place.sockets

    def set_aside(self, name: str, folder: Path) -> None:
        """Take a folder of a workspace out of the way, in one step, to be deleted by `empty_trash`."""
        try:
            folder.rename(folder.with_name(f".{checked(name)}.{secrets.token_hex(6)}"))
        except FileNotFoundError:
            return
        files.sync_folder(folder.parent)

    def empty_trash(self, name: str, *, wait: float) -> None:
        """Delete what was set aside of a workspace, now or by somebody who was killed meanwhile.

        To be called without the workspace's lock: it may take minutes.

        Args:
            name: of the workspace.
            wait: seconds to wait for somebody else who does the same.

        Raises:
            files.BusyError: somebody else is at it.
        """
        if not self._trash(name):
            return
        with files.locked(self._locks / f"{name}.trash.lock", wait=wait):
            while found := self._trash(name):
                for remains in found:
                    files.remove_tree(remains)

    def _trash(self, name: str) -> list[Path]:
        return [path for folder in (self.workspaces, self._sockets) for path in folder.glob(f".{checked(name)}.*")]

    def names(self) -> set[str]:
        """Every workspace with a folder, without those on their way out."""
        return {entry.name for entry in _entries(self.workspaces) if not entry.name.startswith(".")}

    def owner(self, name: str) -> int | None:
        """The user id a workspace runs as; None for Slipway's own, when that is not root's."""
        if os.geteuid() != 0:
            return None
        document = files.read_json(self.place(name).root / "owner.json") or {}
        uid = document.get("uid")
        if not isinstance(uid, int) or uid <= 0:
            raise files.UnreadableError("owner.json: no user id")
        return uid

    def _own(self, name: str) -> int | None:
        """The same, chosen now if it was not before: stable from the name, and nobody else's."""
        path = self.place(name).root / "owner.json"
        if os.geteuid() != 0 or path.exists():
            return self.owner(name)
        with files.locked(self._locks / ".owners", wait=_OWNERS_WAIT):
            # Those on their way out count: no user id is given to somebody else while files of it are left.
            taken = {self._taken(entry) for entry in _entries(self.workspaces)}
            start = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
            for offset in range(self._config.uid_count):
                uid = self._config.uid_base + (start + offset) % self._config.uid_count
                if uid not in taken:
                    files.write_json(path, {"uid": uid})
                    return uid
        raise ClusterFault(
            "no_user_ids",
            "This machine cannot hold another workspace.",
            "Delete workspaces that are no longer needed.",
            log_text="every user id of the range is taken",
            temporary=False,
        )

    def _taken(self, folder: Path) -> int | None:
        document = files.read_json(folder / "owner.json") or {}
        uid = document.get("uid")
        return uid if isinstance(uid, int) else None


def give(path: Path, owner: int | None) -> None:
    """Make `owner` the owner of a folder or file; None leaves it to Slipway's own user."""
    if owner is not None:
        os.chown(path, owner, owner, follow_symlinks=False)


def _entries(folder: Path) -> list[Path]:
    try:
        return [entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink()]
    except FileNotFoundError:
        return []
