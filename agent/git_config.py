"""Git's settings for the user: identity, credentials and trust, kept apart from the user's own file.

They live in a file of ours on the volume. The user's `~/.gitconfig` only gets an include of it, at the very top, so
that whatever the user says there wins and stays.
"""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit

from agent import programs
from agent.environment import Environment
from agent.files import write_atomically
from agent.spec import Spec

FILE = "gitconfig"


def quote(value: str) -> str:
    """A value as git's configuration files want it (git-config(1), "Syntax")."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def helper_command(environment: Environment) -> str:
    """The credential helper, as a shell line. Holds no secret: it reads the token from its file each time."""
    handed = (environment.platform or "", str(environment.secrets_path or ""))
    command, added = programs.command("agent.credential", *handed)
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in added.items())
    return f"!{variables} {shlex.join(command)}"


def render(environment: Environment, spec: Spec, folder: Path) -> str:
    """The text of our file."""
    lines = ["# Written by Slipway at each start. Your own settings belong in ~/.gitconfig and win over these."]
    if spec.author_name and spec.author_email:
        lines += ["[user]", f"\tname = {quote(spec.author_name)}", f"\temail = {quote(spec.author_email)}"]
    if environment.platform and environment.secrets_path:
        lines += ["[credential]", f"\thelper = {quote(helper_command(environment))}", "\tuseHttpPath = true"]
    lines += ["[safe]", *(f"\tdirectory = {quote(path)}" for path in _trusted(spec, folder))]
    lines += ['[protocol "ext"]', "\tallow = never"]
    return "\n".join(lines) + "\n"


def _trusted(spec: Spec, folder: Path) -> list[str]:
    """Folders in which git works though they are another account's: the checkout, and the folder it is cloned from."""
    if not spec.repository.is_local:
        return [str(folder)]
    origin = unquote(urlsplit(spec.repository.clone_url).path)
    return [str(folder), origin, f"{origin.rstrip('/')}/.git"]


def install(environment: Environment, spec: Spec, folder: Path) -> None:
    """Write our file and include it from the user's.

    Raises:
        OSError, RuntimeError, ValueError: one of them cannot be read or written; `RuntimeError` is `Path.resolve`'s
            word for links that lead in a circle.
    """
    ours = environment.state_dir / FILE
    write_atomically(ours, render(environment, spec, folder))
    theirs = (environment.home / ".gitconfig").resolve()
    include = f"[include]\n\tpath = {quote(str(ours))}\n"
    text = theirs.read_text(encoding="utf-8", errors="surrogateescape") if theirs.exists() else ""
    if include not in text:
        temporary = theirs.with_name(f"{theirs.name}.slipway-new")
        try:
            temporary.write_text(include + text, encoding="utf-8", errors="surrogateescape")
            temporary.replace(theirs)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
