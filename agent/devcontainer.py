"""Reads devcontainer.json: what it says, checked, with its variables filled in.

Semantics follow the Development Containers specification (https://containers.dev/implementors/json_reference/). This
runtime has no images to build, so whatever describes the container itself is named in `ignored` and left alone.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agent import jsonc
from agent.problems import Problem

SIZE_LIMIT = 256 * 1024
"""Bytes of the file."""
DEPTH_LIMIT = 100
"""Levels of objects and lists within each other."""

COMMANDS = ("onCreateCommand", "updateContentCommand", "postCreateCommand", "postStartCommand")
"""Lifecycle commands in the order in which they run."""

IMAGE_KEYS = frozenset({"image", "build", "dockerFile", "dockerComposeFile", "features"})
_OTHER_IGNORED = frozenset(
    {"initializeCommand", "postAttachCommand", "mounts", "runArgs", "workspaceMount", "workspaceFolder", "appPort"}
)
_VARIABLE = re.compile(r"\$\{([^{}]+)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NEXT_STEP = "Correct the file, commit it if you like, and restart the workspace."

Run = str | tuple[str, ...]
"""A shell line, or a program with its arguments."""


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One process of a command. `name` is empty unless the command is an object of named ones, which run together."""

    name: str
    run: Run


@dataclasses.dataclass(frozen=True, slots=True)
class DevContainer:
    """The part of devcontainer.json that is acted on.

    Attributes:
        commands: lifecycle command -> its steps, which run at the same time.
        container_env, remote_env: for the user's processes; None in `remote_env` takes a variable away.
        settings: for VS Code's machine settings.
        extensions: gallery ids, and paths of .vsix files relative to the repository.
        ignored: top-level names that this runtime cannot honour.
    """

    commands: Mapping[str, tuple[Step, ...]] = dataclasses.field(default_factory=dict)
    container_env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    remote_env: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    extensions: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """`base` with this file's variables applied."""
        merged: dict[str, str | None] = {**base, **self.container_env, **self.remote_env}
        return {name: value for name, value in merged.items() if value is not None}


def find(folder: Path) -> Path | None:
    """The file that counts, in the specification's order; None when there is none."""
    for candidate in (folder / ".devcontainer" / "devcontainer.json", folder / ".devcontainer.json"):
        if candidate.is_file():
            return candidate
    below = sorted((folder / ".devcontainer").glob("*/devcontainer.json"))
    return next((path for path in below if path.is_file()), None)


def load(folder: Path, env: Mapping[str, str], workspace_id: str) -> DevContainer | None:
    """Find, read and check the file of a checkout; None when there is none.

    Raises:
        Problem: `devcontainer_invalid`, naming the field at fault.
    """
    try:
        path = find(folder)
        if path is None:
            return None
        with path.open("rb") as file:
            data = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise _invalid(f"cannot be read ({error.strerror})") from error
    return parse(data, folder=folder, env=env, workspace_id=workspace_id)


def parse(data: bytes, *, folder: Path, env: Mapping[str, str], workspace_id: str) -> DevContainer:
    """Check a document and fill in its variables.

    Args:
        env: of the user's processes; what `localEnv` and `containerEnv` refer to.

    Raises:
        Problem: `devcontainer_invalid`, naming the field at fault.
    """
    document = _decode(data)
    raw_env = _string_map(document, "containerEnv")
    container_env = {key: _fill(value, _lookup(folder, env, env, workspace_id)) for key, value in raw_env.items()}
    lookup = _lookup(folder, env, {**env, **container_env}, workspace_id)
    filled = _fill_all(document, lookup)
    vscode = _object(_object(filled, "customizations"), "vscode", "customizations.vscode")
    return DevContainer(
        commands={name: _steps(name, filled[name]) for name in COMMANDS if filled.get(name)},
        container_env=container_env,
        remote_env=_remote_env(filled),
        settings=_object(vscode, "settings", "customizations.vscode.settings"),
        extensions=_extensions(vscode),
        ignored=tuple(name for name in document if name in IMAGE_KEYS or name in _OTHER_IGNORED),
    )


def _invalid(problem: str) -> Problem:
    return Problem("devcontainer_invalid", f"devcontainer.json {problem}.", _NEXT_STEP)


def _decode(data: bytes) -> dict[str, Any]:
    if len(data) > SIZE_LIMIT:
        raise _invalid(f"is larger than {SIZE_LIMIT // 1024} KiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _invalid("is not UTF-8 text") from error
    try:
        document = jsonc.loads(text)
    except ValueError as error:
        raise _invalid(f"is not valid: {str(error).splitlines()[0][:200]}") from error
    except RecursionError as error:
        raise _invalid("is nested too deeply") from error
    if not isinstance(document, dict):
        raise _invalid("must hold one object")
    return document


def _object(parent: Mapping[str, Any], name: str, path: str = "") -> dict[str, Any]:
    value = parent.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _invalid(f"has a {path or name} that is not an object")
    return value


def _string_map(parent: Mapping[str, Any], name: str) -> dict[str, str]:
    values = _object(parent, name)
    for key, value in values.items():
        if not _NAME.fullmatch(key) or not isinstance(value, str) or "\0" in value:
            raise _invalid(
                f"has a {name} with a bad entry “{key[:50]}”: names are letters, digits and _, values are text"
            )
    return values


def _remote_env(document: Mapping[str, Any]) -> dict[str, str | None]:
    values = _object(document, "remoteEnv")
    given = {key: value for key, value in values.items() if value is not None}
    checked = _string_map({"remoteEnv": given}, "remoteEnv")
    return {key: checked.get(key) for key in values}


def _extensions(vscode: Mapping[str, Any]) -> tuple[str, ...]:
    value = vscode.get("extensions", [])
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise _invalid("has customizations.vscode.extensions that are not a list of names")
    return tuple(dict.fromkeys(value))


def _run(name: str, value: Any) -> Run:
    if isinstance(value, str) and value and "\0" not in value:
        return value
    if isinstance(value, list) and value and all(isinstance(part, str) and "\0" not in part for part in value):
        return tuple(value)
    raise _invalid(f"has a {name} that is neither text, nor a list of texts, nor an object of these")


def _steps(name: str, value: Any) -> tuple[Step, ...]:
    if isinstance(value, dict):
        return tuple(Step(key, _run(f"{name}.{key[:50]}", part)) for key, part in value.items() if part)
    return (Step("", _run(name, value)),)


def _lookup(
    folder: Path, local: Mapping[str, str], container: Mapping[str, str], workspace_id: str
) -> Callable[[str], str | None]:
    """A function from the inside of `${…}` to its value, None for a variable that nobody knows."""
    places = {
        "localWorkspaceFolder": str(folder),
        "containerWorkspaceFolder": str(folder),
        "localWorkspaceFolderBasename": folder.name,
        "containerWorkspaceFolderBasename": folder.name,
        "devcontainerId": _identifier(workspace_id),
    }
    environments = {"localEnv": local, "env": local, "containerEnv": container}

    def lookup(expression: str) -> str | None:
        kind, _, rest = expression.partition(":")
        if kind in environments:
            name, _, default = rest.partition(":")
            return environments[kind].get(name, default)
        return places.get(expression)

    return lookup


def _identifier(workspace_id: str) -> str:
    """Stable and unique, 52 characters: https://containers.dev/implementors/spec/ ("devcontainerId")."""
    digest = hashlib.sha256(workspace_id.encode()).digest()
    return base64.b32hexencode(digest).decode().lower().rstrip("=").rjust(52, "0")


def _fill(text: str, lookup: Callable[[str], str | None]) -> str:
    def replace(match: re.Match[str]) -> str:
        value = lookup(match.group(1))
        return match.group(0) if value is None else value

    return _VARIABLE.sub(replace, text)


def _fill_all(value: Any, lookup: Callable[[str], str | None], level: int = 1) -> Any:
    if isinstance(value, str):
        return _fill(value, lookup)
    if not isinstance(value, (list, dict)):
        return value
    if level > DEPTH_LIMIT:
        raise _invalid("is nested too deeply")
    if isinstance(value, list):
        return [_fill_all(entry, lookup, level + 1) for entry in value]
    return {key: _fill_all(entry, lookup, level + 1) for key, entry in value.items()}
