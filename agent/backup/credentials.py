"""Who we are to a registry, as a file like Docker's `config.json` says. Pure but for reading that file."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
from pathlib import Path
from typing import Any

from agent.problems import Problem


@dataclasses.dataclass(frozen=True, slots=True)
class Credentials:
    """A name and a password, or a token that is traded for others; all empty for anybody."""

    user: str = ""
    password: str = dataclasses.field(default="", repr=False)
    identity_token: str = dataclasses.field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of an `Authorization` header (RFC 7617); empty where there is no name."""
        if not self.user:
            return ""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode("ascii")


ANYBODY = Credentials()


def read(path: Path | None, host: str, repository: str) -> Credentials:
    """What the file says about a registry; of several entries the one that names most of the repository's path.

    Args:
        path: the file; None: there is none.
        host: of the registry, with its port.
        repository: its path in there.

    Raises:
        Problem: the file cannot be read. Helper programs, which it may name, are not used.
    """
    if path is None:
        return ANYBODY
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["auths"]
        matching = [name for name in entries if f"{host}/{repository}/".startswith(f"{_plain(name)}/")]
        return _entry(entries[max(matching, key=len)]) if matching else ANYBODY
    except (OSError, ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        # Its content stays out of the message: the error's type is all that may be told.
        raise Problem(
            "credentials_unusable",
            f"The credentials for the registry cannot be read ({type(error).__name__}).",
            "Ask the operator to correct them.",
        ) from None


def _plain(name: str) -> str:
    name = name.removeprefix("https://").removeprefix("http://").rstrip("/")
    return name.removesuffix("/v1").removesuffix("/v2")


def _entry(entry: dict[str, Any]) -> Credentials:
    if token := entry.get("identitytoken"):
        return Credentials(identity_token=str(token))
    if entry.get("auth"):
        user, _, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
        return Credentials(user, password)
    return Credentials(str(entry.get("username", "")), str(entry.get("password", "")))
