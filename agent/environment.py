"""What the runtime hands to the agent: the only place that reads environment variables."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from agent.problems import Problem

MARKER = "SLIPWAY_AGENT_SPEC"
"""Stays in the environment of everything the workspace runs, so that its processes can be told from others."""

# The agent's own interpreter settings would mislead the user's Python.
_OWN_PYTHON = frozenset({"PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV"})

_DOOR = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<four>[0-9.]+)):(?P<port>[0-9]{1,5})")
_OPERATOR = "This is a fault of the platform: tell its operator."


@dataclasses.dataclass(frozen=True, slots=True)
class Timing:
    """Durations in seconds. Each can be set by `SLIPWAY_AGENT_<NAME>`.

    Attributes:
        stall: a transfer that shows no sign of life for this long is given up.
        retry: pause before the first repetition of a transfer; doubles each time.
        command_grace: between the polite and the forced end of a lifecycle command.
        ide_grace: the same for code-server.
        report_timeout: for one report to be answered.
        report_gather: how long a change waits for others, to be told with them.
        report_retry: longest pause between attempts while the platform is away.
        git_status: between two looks at the state of the checkout.
        door_line: for whoever comes to the door to say what they want.
    """

    stall: float = 60.0
    retry: float = 1.0
    command_grace: float = 3.0
    ide_grace: float = 4.0
    report_timeout: float = 10.0
    report_gather: float = 0.05
    report_retry: float = 10.0
    git_status: float = 10.0
    door_line: float = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class Environment:
    """Contract between runtime and agent. Paths are absolute.

    Attributes:
        spec_path, secrets_path: JSON documents.
        run_dir: sockets of this run; empty at start, not kept.
        state_dir: markers that outlive stops.
        platform: `unix:/path` or `http(s)://host:port`; None when nobody wants reports.
        door: IP address and TCP port (0: any) where the gateway comes in; None where it uses the sockets in `run_dir`.
        node, ide: Node's binary and code-server's entry script.
        home: the user's home folder, on the volume.
        variables: for whatever runs on the user's behalf: without the agent's own, and with the programs of the folder
            SLIPWAY_TOOLS for those who have none of that name.
    """

    spec_path: Path
    secrets_path: Path | None
    run_dir: Path
    state_dir: Path
    platform: str | None
    door: tuple[str, int] | None
    node: str
    ide: str
    home: Path
    variables: Mapping[str, str]
    timing: Timing = Timing()


def _timing(source: Mapping[str, str]) -> Timing:
    values: dict[str, float] = {}
    for field in dataclasses.fields(Timing):
        name = f"SLIPWAY_AGENT_{field.name.upper()}"
        if name in source:
            try:
                values[field.name] = float(source[name])
            except ValueError as error:
                raise Problem("environment_invalid", f"{name} is not a number.") from error
    return Timing(**values)


def _door(text: str) -> tuple[str, int] | None:
    if not text:
        return None
    found = _DOOR.fullmatch(text)
    if found is not None and int(found["port"]) < 65536:
        with contextlib.suppress(ValueError):
            return str(ipaddress.ip_address(found["six"] or found["four"])), int(found["port"])
    raise Problem("environment_invalid", "SLIPWAY_DOOR is not of the form address:port.", _OPERATOR)


def _for_children(source: Mapping[str, str]) -> Mapping[str, str]:
    kept = {
        name: value
        for name, value in source.items()
        if name == MARKER or (not name.startswith("SLIPWAY_") and name not in _OWN_PYTHON)
    }
    if tools := source.get("SLIPWAY_TOOLS"):
        # Last: what the user's image brings of the same name is what they mean.
        kept["PATH"] = f"{kept.get('PATH', os.defpath)}:{tools}/bin"
    return MappingProxyType(kept)


def read(source: Mapping[str, str] | None = None) -> Environment:
    """Read and check the variables.

    Raises:
        Problem: `environment_invalid`, naming the variable.
    """
    source = os.environ if source is None else source

    def required(name: str) -> str:
        if not source.get(name):
            raise Problem("environment_invalid", f"{name} is not set.", _OPERATOR)
        return source[name]

    secrets = source.get("SLIPWAY_AGENT_SECRETS")
    return Environment(
        spec_path=Path(required(MARKER)),
        secrets_path=Path(secrets) if secrets else None,
        run_dir=Path(required("SLIPWAY_RUN_DIR")),
        state_dir=Path(required("SLIPWAY_STATE_DIR")),
        platform=source.get("SLIPWAY_PLATFORM") or None,
        door=_door(source.get("SLIPWAY_DOOR", "")),
        node=required("SLIPWAY_NODE"),
        ide=required("SLIPWAY_IDE"),
        home=Path(required("HOME")),
        variables=_for_children(source),
        timing=_timing(source),
    )
