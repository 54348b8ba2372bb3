"""The sandbox: bubblewrap's command line, built purely, and the one probe that tells whether it works here.

A workspace sees the machine's programs read-only, its own folders, and nothing else: no other workspace, no process
but its own, none of the platform's files. See bwrap(1).
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from workspaces.runtime.local.config import LocalConfig
from workspaces.runtime.local.layout import give

INFO_FD = 100
"""Where bubblewrap reports the number of the sandbox's first process."""

HOME = "/home/dev"
STATE = "/home/.slipway"
RUN = "/run/slipway"
HANDED = "/run/agent"
PLATFORM = "/run/platform"
CODE = "/opt/slipway"
_USER_INSIDE = 1000
_FIRST_WORDS = ("--info-fd", str(INFO_FD))

_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ETC = (
    "alternatives",
    "bash.bashrc",
    "bash_completion.d",
    "ca-certificates",
    "ca-certificates.conf",
    "debian_version",
    "fonts",
    "host.conf",
    "hosts",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "pki",
    "profile",
    "profile.d",
    "protocols",
    "resolv.conf",
    "services",
    "ssl",
    "terminfo",
    "timezone",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Box:
    """What differs between two sandboxes.

    Attributes:
        name: becomes the host name.
        home, state, sockets, handed, accounts: folders on the machine.
        owner: user id to run as; None keeps Slipway's own, which is then called 1000 inside.
        readable: paths of the machine that this run may read, at the same place.
    """

    name: str
    home: Path
    state: Path
    sockets: Path
    handed: Path
    accounts: Path
    owner: int | None
    readable: tuple[Path, ...] = ()


def command_line(config: LocalConfig, box: Box, command: Iterable[str], environment: Mapping[str, str]) -> list[str]:
    """The whole command line that runs `command` in `box`."""
    arguments = [config.tool(config.bwrap) or config.bwrap, *_FIRST_WORDS]
    arguments += ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    arguments += ["--new-session", "--hostname", box.name]
    if box.owner is None:
        arguments += ["--unshare-user", "--uid", str(_USER_INSIDE), "--gid", str(_USER_INSIDE)]
    if config.network == "none":
        arguments += ["--unshare-net"]
    arguments += _mounts(config, box)
    arguments += ["--clearenv"]
    for name, value in environment.items():
        arguments += ["--setenv", name, value]
    arguments += ["--chdir", CODE, "--remount-ro", "/", "--"]
    return [*arguments, *unprivileged(config, box.owner), *command]


def is_sandbox_of(words: Sequence[str], home: Path) -> bool:
    """Whether this is the command line of a sandbox made by `command_line` around the home at `home`.

    The program's name says nothing, as the operator may have chosen another: its first words and the mount do.
    """
    if tuple(words[1:3]) != _FIRST_WORDS:
        return False
    mount = ("--bind", str(home), HOME)
    return any(tuple(words[at : at + 3]) == mount for at in range(3, len(words)))


def unprivileged(config: LocalConfig, owner: int | None) -> list[str]:
    """The words that drop root's rights before a command: nothing to drop, no words."""
    if owner is None:
        return []
    words = [config.tool(config.setpriv) or config.setpriv, "--reuid", str(owner), "--regid", str(owner)]
    words += ["--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"]
    return [*words, "--"]


def _mounts(config: LocalConfig, box: Box) -> list[str]:
    arguments = ["--ro-bind", "/usr", "/usr"]
    for name in _MERGED:
        path = Path("/") / name
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            arguments += ["--ro-bind", str(path), str(path)]
    arguments += ["--proc", "/proc", "--dev", "/dev"]
    for folder in ("/dev/shm", "/tmp", "/var/tmp"):  # noqa: S108 - inside, and the sandbox's own
        arguments += [*_parents([folder]), "--perms", "1777", "--tmpfs", folder]
    bindings = _read_only(config, box)
    writable = [(box.home, HOME), (box.state, STATE), (box.sockets, RUN)]
    # Made first, as bubblewrap would give a parent the mode of what is mounted below it, and shut the user out.
    arguments += _parents([*(target for _, target in bindings), *(target for _, target in writable), f"{CODE}/x"])
    # The read-only ones last: a checkout below /home/dev must not vanish behind the user's home.
    for source, target in writable:
        arguments += ["--bind", str(source), target]
    for source, target in bindings:
        arguments += ["--ro-bind", str(source), target]
    return arguments


def _read_only(config: LocalConfig, box: Box) -> list[tuple[Path, str]]:
    found = [(Path("/etc") / name, f"/etc/{name}") for name in _ETC if (Path("/etc") / name).exists()]
    found += [(box.accounts / name, f"/etc/{name}") for name in ("passwd", "group")]
    found += [(path, str(path)) for path in _programs(config, box)]
    found += [(box.handed, HANDED)]
    if config.agent_root.exists():
        found += [(config.agent_root, f"{CODE}/{config.agent_root.name}")]
    if config.platform_socket_dir is not None:
        found += [(config.platform_socket_dir, PLATFORM)]
    return found


def _programs(config: LocalConfig, box: Box) -> list[Path]:
    """Python, Node, the IDE and what else was named: outermost folders only, none that is visible anyway."""
    wanted = {Path(sys.base_prefix), Path(sys.prefix), *config.readable, *box.readable}
    if config.node is not None:
        wanted.add(config.node.resolve())
    if config.ide_entry is not None:
        wanted.add(ide_folder(config.ide_entry))
    visible = {path for path in wanted if not path.is_relative_to("/usr")}
    return sorted(path for path in visible if visible.isdisjoint(path.parents))


def ide_folder(entry: Path) -> Path:
    """The folder that holds the IDE and all it loads: the outermost `node_modules` around its entry."""
    entry = entry.resolve()
    parts = entry.parts
    if "node_modules" in parts:
        return Path(*parts[: parts.index("node_modules") + 1])
    return entry.parents[2]


def _parents(targets: Iterable[str]) -> list[str]:
    """Arguments that make the folders in which these targets lie, open to everybody."""
    folders = {str(parent) for target in targets for parent in Path(target).parents} - {"/", "/usr", "/dev", "/proc"}
    arguments: list[str] = []
    for folder in sorted(folders):
        arguments += ["--perms", "0755", "--dir", folder]
    return arguments


def write_accounts(folder: Path, owner: int | None, shell: str) -> None:
    """The sandbox's own passwd(5) and group(5): root, dev, nobody."""
    uid = _USER_INSIDE if owner is None else owner
    (folder / "passwd").write_text(
        f"root:x:0:0:root:/root:/usr/sbin/nologin\ndev:x:{uid}:{uid}:dev:{HOME}:{shell}\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        encoding="ascii",
    )
    (folder / "group").write_text(f"root:x:0:\ndev:x:{uid}:\nnogroup:x:65534:\n", encoding="ascii")


def usable(config: LocalConfig, owner: int | None) -> bool:
    """Whether bubblewrap is installed and really runs a command with the flags a workspace gets."""
    if config.tool(config.bwrap) is None:
        return False
    with tempfile.TemporaryDirectory(prefix="slipway-probe-") as name:
        folder = Path(name)
        write_accounts(folder, owner, config.shell)
        inner = folder / "home"
        inner.mkdir()
        give(inner, owner)
        box = Box("probe", home=inner, state=inner, sockets=inner, handed=inner, accounts=folder, owner=owner)
        arguments = command_line(config, box, ["/bin/sh", "-c", f": > {HOME}/probe"], {})
        # Nobody reads the report of the probe.
        arguments[2] = "1"
        try:
            done = subprocess.run(arguments, capture_output=True, timeout=20, check=False, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0
