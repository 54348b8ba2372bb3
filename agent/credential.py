"""Git's credential helper: `python -m agent.credential PLATFORM SECRETS get`, asked by git, answered by the platform.

Protocol: git-credential(1). No answer at all lets git go on to its next helper.
"""

from __future__ import annotations

import http.client
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from agent import files, transport

PATH = "/internal/agent/credential"
_TIMEOUT = 20.0


def _read_request(source: TextIO) -> dict[str, str]:
    request: dict[str, str] = {}
    for line in source:
        name, found, value = line.rstrip("\n").partition("=")
        if not found:
            break
        request[name] = value
    return request


def main(arguments: Sequence[str], source: TextIO, target: TextIO) -> int:
    """Answer one request of git. Only `get` does anything: nothing is stored here."""
    platform, secrets, operation = (*arguments, "", "", "")[:3]
    request = _read_request(source)
    if operation != "get" or request.get("protocol") not in {"http", "https"}:
        return 0
    token = files.read_json(Path(secrets)).get("run_token", "")
    body = {name: request.get(name, "") for name in ("protocol", "host", "path")}
    try:
        status, answer = transport.post(platform, PATH, body, token=str(token), timeout=_TIMEOUT)
    except (OSError, http.client.HTTPException):
        return 0
    values = [str(answer.get(name, "")) for name in ("username", "password")]
    # A line end in a value would smuggle in further attributes.
    if status != 200 or not values[1] or any(set(value) & set("\r\n\0") for value in values):
        return 0
    target.write(f"username={values[0]}\npassword={values[1]}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdin, sys.stdout))
