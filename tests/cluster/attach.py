"""A CNI plugin that runs after the one that connects a pod: it holds the pod until its policies are loaded.

It leaves a note about the pod for `policies`, which answers by naming the pod in the file `loaded`. Should that not
happen in time, the pod starts without a network, which the rules deny to every pod that they do not know.
https://www.cni.dev/docs/spec/
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

NAME = "slipway-attach"
LOADED = "loaded"
PATIENCE = 10.0


def note_of(arguments: str, result: dict[str, Any]) -> dict[str, Any]:
    """What is noted: whose addresses these are. The arguments are `NAME=VALUE;…`, as the runtime gives them."""
    values = dict(part.split("=", 1) for part in arguments.split(";") if "=" in part)
    addresses = [entry["address"].partition("/")[0] for entry in result["ips"]]
    return {"uid": values.get("K8S_POD_UID", ""), "addresses": addresses}


def add(notes: Path, container: str, note: dict[str, Any]) -> None:
    """Leave the note, and wait until the rules know the pod."""
    new = notes / f".{container}"
    new.write_text(json.dumps(note), encoding="utf-8")
    new.rename(notes / container)
    deadline, pause = time.monotonic() + PATIENCE, threading.Event()
    while time.monotonic() < deadline and not pause.wait(0.02):
        if note["uid"] in (notes / LOADED).read_text(encoding="utf-8").split():
            return


def main() -> None:
    """One call of the protocol: a command in the environment, a configuration on standard input."""
    command, config = os.environ["CNI_COMMAND"], json.load(sys.stdin)
    if command == "VERSION":
        json.dump({"cniVersion": config["cniVersion"], "supportedVersions": ["0.4.0", "1.0.0"]}, sys.stdout)
        return
    notes, container = Path(config["notes"]), os.environ.get("CNI_CONTAINERID", "")
    if command == "ADD":
        add(notes, container, note_of(os.environ.get("CNI_ARGS", ""), config["prevResult"]))
        json.dump(config["prevResult"], sys.stdout)
    elif command == "DEL":
        (notes / container).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
