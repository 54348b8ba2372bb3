"""VS Code's settings: a preset that the user may change, and the repository's own on top of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent import files, jsonc

PRESET: Mapping[str, Any] = {
    # Without these, each editor takes some 190 MiB more and asks for services that are not there.
    "chat.disableAIFeatures": True,
    "telemetry.telemetryLevel": "off",
    "extensions.autoCheckUpdates": False,
    "extensions.autoUpdate": False,
    "update.mode": "none",
    "workbench.startupEditor": "none",
    "workbench.secondarySideBar.defaultVisibility": "hidden",
    "git.openRepositoryInParentFolders": "never",
}

TERMINAL_ENV = "terminal.integrated.env.linux"
_APPLIED = "applied-settings.json"


def write_preset(data_dir: Path) -> None:
    """Write the user settings, unless there are some: they are the user's from then on."""
    path = data_dir / "User" / "settings.json"
    if not path.exists():
        files.write_json(path, dict(PRESET))


def merge(current: Mapping[str, Any], wanted: Mapping[str, Any], applied: Mapping[str, Any]) -> dict[str, Any]:
    """Machine settings after a start: pure.

    Args:
        current: what the file holds now.
        wanted: what the repository asks for now.
        applied: what was written for it last time. A key that differs from it was changed by the user, and stays.
    """
    changed = {key for key in applied if current.get(key) != applied[key]}
    foreign = current.keys() - applied.keys()
    kept = {key: value for key, value in current.items() if key in foreign or key in changed}
    return {**{key: value for key, value in wanted.items() if key not in changed}, **kept}


def apply_machine(data_dir: Path, wanted: Mapping[str, Any], terminal_env: Mapping[str, str | None]) -> bool:
    """Bring the repository's settings and variables into the machine settings.

    To be called in a thread: the file is the user's, and one with comments takes seconds where it is long.

    Returns:
        Whether it was done: a file that the user wrote and that cannot be read is left alone.
    """
    path = data_dir / "Machine" / "settings.json"
    current: Any = {}
    if path.exists():
        try:
            current = jsonc.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return False
    if not isinstance(current, dict):
        return False
    own_env = wanted.get(TERMINAL_ENV)
    everything = dict(wanted)
    if terminal_env or isinstance(own_env, dict):
        everything[TERMINAL_ENV] = {**terminal_env, **(own_env if isinstance(own_env, dict) else {})}
    applied = files.read_json(data_dir / _APPLIED)
    merged = merge(current, everything, applied)
    if merged != current:
        files.write_json(path, merged)
    files.write_json(data_dir / _APPLIED, everything)
    return True
