"""What the local adapter needs to know, and how it reads it from settings."""

from __future__ import annotations

import dataclasses
import pwd
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from workspaces.runtime.errors import PlatformFault

Sandbox = Literal["auto", "bwrap", "none"]
Network = Literal["host", "none"]

SOCKET_LIMIT = 100
"""Longest path of a socket in bytes; the kernel's own end is 107 (unix(7))."""

LONGEST_SLUG = 40
_LONGEST_SOCKET = "/ports/65535.sock"


def _nothing(_: str) -> None:
    """Stand-in for a tracer."""


def socket_length(run_dir: Path, name: str) -> int:
    """Bytes of the longest socket path of workspace `name` below `run_dir`."""
    return len(f"{run_dir}/w/{name}{_LONGEST_SOCKET}".encode())


def run_dir_fits(run_dir: Path) -> bool:
    """Whether the sockets of every workspace, however long its slug, have short enough paths below `run_dir`."""
    return socket_length(run_dir, "x" * LONGEST_SLUG) < SOCKET_LIMIT


@dataclasses.dataclass(frozen=True, slots=True)
class LocalConfig:
    """How and where workspaces run on this machine. All paths are absolute.

    Attributes:
        home: data folder; workspaces live in `<home>/workspaces/<name>`.
        run_dir: sockets live in `<run_dir>/w/<name>`; must be short, see `run_dir_fits`.
        platform_socket_dir: the folder with `platform.sock`, to which agents report; None: they do not report.
        node: the Node binary for the IDE.
        ide_entry: code-server's `out/node/entry.js`.
        command: the agent, started with `agent_root`'s parent as its working directory.
        agent_root: the agent's package, the only part of the checkout that a workspace sees.
        sandbox: "bwrap" insists on bubblewrap, "none" does without, "auto" takes it where it works.
        network: "host" shares the machine's network, "none" leaves only a loopback of its own (bubblewrap only).
        readable: further paths that a workspace may read, at the same place.
        environment: further variables for the agent, such as a proxy's address; never overrides Slipway's own.
        shell: the user's shell.
        path: the user's PATH.
        bwrap, setpriv: names or paths of these tools; empty or missing means not installed.
        cgroup_root: where control groups are mounted.
        uid_base, uid_count: the user ids handed out to workspaces when Slipway runs as root.
        keep_logs: how many runs' logs are kept.
        on_step: told the name of each step of a start or a deletion, for tracing.
    """

    home: Path
    run_dir: Path
    platform_socket_dir: Path | None = None
    node: Path | None = None
    ide_entry: Path | None = None
    command: tuple[str, ...] = (sys.executable, "-m", "agent")
    agent_root: Path = Path(__file__).resolve().parents[3] / "agent"
    sandbox: Sandbox = "auto"
    network: Network = "host"
    readable: tuple[Path, ...] = ()
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    shell: str = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
    path: str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    bwrap: str = "bwrap"
    setpriv: str = "setpriv"
    cgroup_root: Path = Path("/sys/fs/cgroup")
    uid_base: int = 70_000
    uid_count: int = 20_000
    keep_logs: int = 5
    on_step: Callable[[str], None] = _nothing

    def __post_init__(self) -> None:
        for field in ("home", "run_dir", "platform_socket_dir", "node", "ide_entry", "agent_root", "cgroup_root"):
            value = getattr(self, field)
            if value is not None and not value.is_absolute():
                raise _invalid(f"`{field}` must be an absolute path, not {value}.")
        if self.sandbox not in get_args(Sandbox) or self.network not in get_args(Network):
            raise _invalid(f"`sandbox` is one of {get_args(Sandbox)}, `network` one of {get_args(Network)}.")
        if not self.command:
            raise _invalid("`command` must not be empty.")
        if not run_dir_fits(self.run_dir):
            raise _invalid(
                f"`run_dir` is too long for Unix sockets ({len(str(self.run_dir))} bytes): {self.run_dir}. "
                "Choose a shorter folder, such as one in /tmp."
            )

    def tool(self, name: str) -> str | None:
        """Where a tool is installed, None where it is not."""
        return shutil.which(name) if name else None


_PATHS = {"home", "run_dir", "platform_socket_dir", "node", "ide_entry", "agent_root", "cgroup_root"}


def read_options(options: Mapping[str, Any]) -> LocalConfig:
    """A config from plain values: paths as strings, lists for tuples; names as in `LocalConfig`.

    Raises:
        PlatformFault: an option is unknown, missing or makes no sense.
    """
    values: dict[str, Any] = {}
    known = {field.name for field in dataclasses.fields(LocalConfig)}
    for key, value in options.items():
        if key not in known:
            raise _invalid(f"There is no option `{key}`; known are: {', '.join(sorted(known))}.")
        if key in _PATHS:
            values[key] = Path(value) if value else None
        elif key == "readable":
            values[key] = tuple(Path(path) for path in value)
        elif key == "command":
            values[key] = tuple(value)
        else:
            values[key] = value
    for required in ("home", "run_dir"):
        if not values.get(required):
            raise _invalid(f"`{required}` is missing.")
    return LocalConfig(**values)


def own_name(uid: int) -> str:
    """The account's name for a plain process; "dev" where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return "dev"


def _invalid(detail: str) -> PlatformFault:
    return PlatformFault(
        "runtime_misconfigured",
        "Workspaces cannot run here: the local runtime is not set up correctly.",
        "Ask the operator to correct the runtime's settings.",
        log_text=detail,
    )
