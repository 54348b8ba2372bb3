"""A small client of the cluster's API, for the harness's own controllers."""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
from pathlib import Path
from typing import Any

import httpx


class Api(httpx.Client):
    """HTTP as the user of one of our kubeconfigs (with a certificate); an answer that is no success raises."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text(encoding="utf-8"))
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        trust = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile(
            dir=kubeconfig.parent
        ) as file:  # The library takes a client's key from files only.
            file.write(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
            file.flush()
            trust.load_cert_chain(file.name)
        hooks = {"response": [httpx.Response.raise_for_status]}
        super().__init__(base_url=cluster["server"], verify=trust, timeout=10, trust_env=False, event_hooks=hooks)

    def items(self, path: str) -> list[dict[str, Any]]:
        """All objects of a collection, as far as the server has them in memory."""
        found: list[dict[str, Any]] = self.get(path, params={"resourceVersion": "0"}).json()["items"]
        return found
