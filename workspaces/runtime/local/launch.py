"""From a specification to a supervisor that runs: what the agent is handed, its environment, its command line."""

from __future__ import annotations

import compileall
import os
import select
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from workspaces.runtime.errors import ClusterFault
from workspaces.runtime.local import bubblewrap, files, processes
from workspaces.runtime.local.cgroups import Groups
from workspaces.runtime.local.config import LocalConfig, own_name
from workspaces.runtime.local.faults import fault_for
from workspaces.runtime.local.layout import Place, give
from workspaces.runtime.port import RunSpec

_SHIM = Path(__file__).with_name("shim.py")
_ISOLATED = ("-I", "-S")
_SUPERVISOR_WORDS = 6
_ANSWER_TIMEOUT = 20.0


def hand_over(place: Place, spec: RunSpec, owner: int | None) -> None:
    """Write what the agent reads: the specification for reading only, the secrets for nobody else."""
    files.remove_tree(place.handed)
    place.handed.mkdir(mode=0o700)
    files.write_json(place.handed / "spec.json", spec.agent, mode=0o400)
    files.write_json(place.handed / "secrets.json", spec.secrets, mode=0o600)
    for path in (place.handed / "spec.json", place.handed / "secrets.json", place.handed):
        give(path, owner)


def compile_agent(config: LocalConfig) -> None:
    """Compile the agent ahead: a workspace may not write beside its source, and would compile it at each start."""
    if config.agent_root.is_dir():
        compileall.compile_dir(config.agent_root, quiet=2)


def environment(config: LocalConfig, place: Place, *, sandboxed: bool) -> dict[str, str]:
    """Everything the agent finds in its environment."""
    folders = (
        (bubblewrap.HOME, bubblewrap.STATE, bubblewrap.RUN, bubblewrap.HANDED, "/tmp")  # noqa: S108 - its own
        if sandboxed
        else (place.home, place.state, place.sockets, place.handed, place.sockets / "tmp")
    )
    home, state, run, handed, temporary = map(str, folders)
    user = "dev" if sandboxed or os.geteuid() == 0 else own_name(os.geteuid())
    values = {
        **config.environment,
        "HOME": home,
        "USER": user,
        "LOGNAME": user,
        "SHELL": config.shell,
        "LANG": "C.UTF-8",
        "PATH": config.path,
        "TMPDIR": temporary,
        "SLIPWAY_AGENT_SPEC": f"{handed}/spec.json",
        "SLIPWAY_AGENT_SECRETS": f"{handed}/secrets.json",
        "SLIPWAY_RUN_DIR": run,
        "SLIPWAY_STATE_DIR": state,
    }
    if config.platform_socket_dir is not None:
        folder = bubblewrap.PLATFORM if sandboxed else config.platform_socket_dir
        values["SLIPWAY_PLATFORM"] = f"unix:{folder}/platform.sock"
    if config.node is not None:
        values["SLIPWAY_NODE"] = str(config.node.resolve())
    if config.ide_entry is not None:
        values["SLIPWAY_IDE"] = str(config.ide_entry.resolve())
    return values


def plan(
    config: LocalConfig, place: Place, spec: RunSpec, groups: Groups, *, owner: int | None, sandboxed: bool
) -> dict[str, Any]:
    """The document for the supervisor; see `shim`."""
    variables = environment(config, place, sandboxed=sandboxed)
    if sandboxed:
        bubblewrap.write_accounts(place.run, owner, config.shell)
        box = bubblewrap.Box(
            spec.name,
            home=place.home,
            state=place.state,
            sockets=place.sockets,
            handed=place.handed,
            accounts=place.run,
            owner=owner,
            readable=tuple(path for path in map(Path, spec.readable) if path.is_absolute() and path.exists()),
        )
        argv = bubblewrap.command_line(config, box, config.command, variables)
    else:
        (place.sockets / "tmp").mkdir(mode=0o700)
        give(place.sockets / "tmp", owner)
        argv = [*bubblewrap.unprivileged(config, owner), *config.command]
        _check_reach(config, owner)
    return {
        "run": spec.run,
        "boot_id": processes.boot_id(),
        "argv": argv,
        "env": variables,
        "cwd": "/" if sandboxed else str(config.agent_root.parent),
        "log": str(place.log / f"run-{spec.run}.jsonl"),
        "procs": [str(folder / "cgroup.procs") for folder in groups.folders],
        "process": str(place.run / "process.json"),
        "exit": str(place.run / "exit.json"),
        "info_fd": bubblewrap.INFO_FD if sandboxed else None,
    }


def _check_reach(config: LocalConfig, owner: int | None) -> None:
    """Without a sandbox, a root-run Slipway gives the agent an account of its own, which must reach its program."""
    if owner is None:
        return
    program = config.tool(config.command[0]) or config.command[0]
    folder = str(config.agent_root.parent)
    words = [*bubblewrap.unprivileged(config, owner), "test", "-x", program, "-a", "-r", folder, "-a", "-x", folder]
    if subprocess.run(words, capture_output=True, timeout=20, check=False).returncode != 0:
        raise ClusterFault(
            "agent_unreachable",
            "Workspaces cannot run here: Slipway runs as root and there is no usable sandbox.",
            "Ask the operator to install bubblewrap, or to run Slipway as an ordinary user.",
            log_text=f"an unprivileged user cannot run {config.command[0]}",
            temporary=False,
        )


def start(place: Place, document: dict[str, Any], life: int, on_step: Callable[[str], None]) -> None:
    """Start the supervisor and hear from it that the run's process is noted.

    Args:
        place: of the workspace.
        document: from `plan`.
        life: descriptor that holds the life lock; the supervisor inherits it.
        on_step: told "spawned" once nothing of this process is needed any more.
    """
    files.write_json(_document(place), document)
    with subprocess.Popen(
        [sys.executable, *_ISOLATED, str(_SHIM), str(_document(place)), str(life)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=(life,),
        start_new_session=True,
        cwd="/",
        env={},
        bufsize=0,
    ) as starter:
        on_step("spawned")
        word = _answer(starter)
    if word.startswith("error "):
        error = OSError(int(word.split()[1]), os.strerror(int(word.split()[1])))
        raise fault_for(error, "supervisor") from error
    if word != "ok":
        raise ClusterFault(
            "supervisor_failed",
            "The machine could not start the workspace.",
            "Try again in a minute.",
            log_text=f"supervisor answered {word!r}",
        )


def is_supervisor_of(words: Sequence[str], place: Place) -> bool:
    """Whether this is the command line of a supervisor made by `start`, here or from another checkout."""
    if len(words) < _SUPERVISOR_WORDS or tuple(words[1:3]) != _ISOLATED:
        return False
    return Path(words[3]).name == _SHIM.name and words[4] == str(_document(place)) and words[5].isdecimal()


def _document(place: Place) -> Path:
    return place.run / "launch.json"


def _answer(starter: subprocess.Popen[bytes]) -> str:
    """What the supervisor says; bounded, as it only forks and writes two small files before it answers."""
    if starter.stdout is None or not select.select([starter.stdout], [], [], _ANSWER_TIMEOUT)[0]:
        return ""
    return starter.stdout.read(64).decode(errors="replace")
