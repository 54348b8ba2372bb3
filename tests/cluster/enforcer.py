"""`python -m tests.cluster.enforcer KUBECONFIG NOTES`: keeps the rules of `policies` loaded, in the node's network.

A pod's address is known from the note that `attach` leaves before the pod starts; the API shows it some time after.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from tests.cluster import attach, network
from tests.cluster.api import Api
from tests.cluster.policies import ruleset

EVERY = 0.25


def read_notes(folder: Path) -> dict[str, list[str]]:
    """Addresses by the uid of the pod."""
    found = {}
    for path in folder.iterdir():
        if path.name == attach.LOADED or path.name.startswith("."):
            continue
        with suppress(FileNotFoundError):  # The pod went this very moment.
            note = json.loads(path.read_text(encoding="utf-8"))
            found[note["uid"]] = note["addresses"]
    return found


def with_addresses(pods: list[dict[str, Any]], notes: dict[str, list[str]]) -> list[dict[str, Any]]:
    """The pods with the addresses that they really have, where there is a note."""
    for pod in pods:
        if addresses := notes.get(pod["metadata"]["uid"]):
            pod.setdefault("status", {})["podIPs"] = [{"ip": address} for address in addresses]
    return pods


class Enforcer:
    """Loads the rules when they change, and says which pods they cover."""

    def __init__(self, api: Api, notes: Path) -> None:
        self._api = api
        self._notes = notes
        self._loaded = ""

    def look(self, notes: dict[str, list[str]]) -> None:
        """Look at everything once."""
        pods = with_addresses(self._api.items("/api/v1/pods"), notes)
        namespaces = self._api.items("/api/v1/namespaces")
        policies = self._api.items("/apis/networking.k8s.io/v1/networkpolicies")
        rules = ruleset(pods, namespaces, policies, network=network.PODS)
        if rules != self._loaded:
            subprocess.run(["nft", "--file", "-"], input=rules, text=True, check=True)
            self._loaded = rules
        covered = {pod["metadata"]["uid"] for pod in pods} & notes.keys()
        new = self._notes / f".{attach.LOADED}"
        new.write_text("\n".join(sorted(covered)), encoding="utf-8")
        new.rename(self._notes / attach.LOADED)


def main() -> None:
    """Look several times a second, and at once when a pod is new; without an API the rules stay."""
    folder, pause = Path(sys.argv[2]), threading.Event()
    seen: dict[str, list[str]] = {}
    last = 0.0
    with Api(Path(sys.argv[1])) as api:
        enforcer = Enforcer(api, folder)
        while not pause.wait(0.03):
            notes = read_notes(folder)
            if notes == seen and time.monotonic() - last < EVERY:
                continue
            try:
                enforcer.look(notes)
            except httpx.HTTPError as error:
                sys.stdout.write(f"{error}\n")
                continue
            seen, last = notes, time.monotonic()


if __name__ == "__main__":
    main()
