"""kubectl's credential plugin: `python -m agent.kubernetes_credential PLATFORM SECRETS CACHE`.

The platform answers. Every call of kubectl runs this anew, so a token is used again for a minute: from a file that ends
with the run.
https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from agent import files, transport

PATH = "/internal/agent/kubernetes-credential"
_TIMEOUT = 30.0
# Short, because a token may be worthless before its time: somebody deleted the namespace, and a new one was made.
_KEEP = 60.0
# A request that is on its way, and clocks that differ a little.
_MARGIN = 60.0
_UNREACHABLE = "Slipway does not answer. Try again in a moment."
_UNEXPECTED = "Slipway gave no token. Try again; if it stays so, tell your administrator."


class _Refused(Exception):
    """There is no token; the text says why, for the user."""


def _ask(platform: str, secrets: Path, now: float) -> dict[str, Any]:
    """A new token: `token`, `expires` (Unix time), `asked`.

    Raises:
        _Refused: there is none.
    """
    run_token = str(files.read_json(secrets).get("run_token", ""))
    try:
        status, answer = transport.post(platform, PATH, {}, token=run_token, timeout=_TIMEOUT)
    except (OSError, http.client.HTTPException) as error:
        raise _Refused(_UNREACHABLE) from error
    if status != 200:
        said = " ".join(str(answer[key]) for key in ("detail", "next_step") if answer.get(key))
        raise _Refused(said or _UNEXPECTED)
    token, seconds = answer.get("token"), answer.get("expires_in")
    if not isinstance(token, str) or not token or not isinstance(seconds, (int, float)) or not 0 < seconds < 10**7:
        raise _Refused(_UNEXPECTED)
    return {"token": token, "expires": now + max(seconds - _MARGIN, seconds / 2), "asked": now}


def _usable(kept: dict[str, Any], now: float) -> bool:
    token, expires, asked = (kept.get(key) for key in ("token", "expires", "asked"))
    if not isinstance(token, str) or not isinstance(expires, float) or not isinstance(asked, float):
        return False
    # A clock that was set back must not make it last.
    return asked <= now < min(expires, asked + _KEEP)


def _keep(cache: Path, credential: dict[str, Any]) -> None:
    """For this user's eyes only; where it cannot be kept it is asked for again next time."""
    temporary = cache.with_name(f".{cache.name}.{os.getpid()}.new")
    with contextlib.suppress(OSError):
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "w") as file:
                json.dump(credential, file)
            temporary.replace(cache)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _one_at_a_time(cache: Path) -> Iterator[None]:
    """Scripts run kubectl side by side: the first one asks, and the others find what it kept."""
    try:
        lock = os.open(cache.with_name(f"{cache.name}.lock"), os.O_WRONLY | os.O_CREAT, 0o600)
    except OSError:
        yield
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _credential(platform: str, secrets: Path, cache: Path, clock: Callable[[], float]) -> dict[str, Any]:
    kept = files.read_json(cache)
    if _usable(kept, clock()):
        return kept
    with _one_at_a_time(cache):
        kept = files.read_json(cache)
        if not _usable(kept, clock()):
            kept = _ask(platform, secrets, clock())
            _keep(cache, kept)
    return kept


def main(arguments: Sequence[str], target: TextIO, errors: TextIO, clock: Callable[[], float] = time.time) -> int:
    """Print a credential, or say why there is none and return 1."""
    platform, secrets, cache = (*arguments, "", "", "")[:3]
    try:
        credential = _credential(platform, Path(secrets), Path(cache), clock)
    except _Refused as refused:
        errors.write(f"slipway: {refused}\n")
        return 1
    expires = datetime.fromtimestamp(credential["expires"], UTC)
    status = {"token": credential["token"], "expirationTimestamp": expires.strftime("%Y-%m-%dT%H:%M:%SZ")}
    document = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    target.write(json.dumps(document))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdout, sys.stderr))
