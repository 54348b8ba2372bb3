"""The agents of simulated pods: `python -m bench.lib_fleet_agents KUBECONFIG INSTANCE SOCKET`, until it is ended.

No program runs in a simulated pod. So this waits until the cluster says that one is ready, takes from its Secret what
its agent would have been handed, and reports once, as an agent does whose clone is done and whose editor answers. Each
report is told on stdout: `{"slug", "seen", "ready", "reported"}`, times in seconds since the epoch, by this machine's
clock.
"""

from __future__ import annotations

import base64
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from tests.cluster.api import Api

_THREADS = 8
_PATH = "/internal/agent/report"
_READY = {"conditions": [{"type": "content", "status": "done"}, {"type": "ide", "status": "done"}]}
_PATIENCE = 60.0


class Agents:
    """Watches the pods of one installation."""

    def __init__(self, kubeconfig: Path, instance: str, socket: str) -> None:
        self._api = Api(kubeconfig)
        self._chosen = {"labelSelector": f"slipway.dev/instance={instance}"}
        self._web = httpx.Client(
            transport=httpx.HTTPTransport(uds=socket, limits=httpx.Limits(max_connections=_THREADS)),
            base_url="http://platform",
            timeout=30,
        )
        self._seen: dict[str, float] = {}
        self._reported: set[str] = set()
        self._saying = threading.Lock()
        self._pool = ThreadPoolExecutor(_THREADS)

    def run(self) -> None:
        """List and watch for ever; what breaks off is begun again."""
        while True:
            listed = self._api.get("/api/v1/pods", params=self._chosen).json()
            for pod in listed["items"]:
                self._look(pod)
            version = listed["metadata"]["resourceVersion"]
            query = {**self._chosen, "watch": "true", "resourceVersion": version, "timeoutSeconds": "600"}
            try:
                with self._api.stream("GET", "/api/v1/pods", params=query, timeout=httpx.Timeout(10, read=620)) as said:
                    for line in said.iter_lines():
                        event = json.loads(line)
                        if event["type"] in {"ADDED", "MODIFIED"}:
                            self._look(event["object"])
            except httpx.HTTPError as error:
                print(f"watch broke off: {error!r}", file=sys.stderr)

    def _look(self, pod: dict[str, Any]) -> None:
        uid, now = pod["metadata"]["uid"], time.time()
        seen = self._seen.setdefault(uid, now)
        ready = any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", ()))
        if ready and uid not in self._reported:
            self._reported.add(uid)
            self._pool.submit(self._report, pod, seen, now)

    def _report(self, pod: dict[str, Any], seen: float, ready: float) -> None:
        namespace = pod["metadata"]["namespace"]
        handed = next(volume["secret"]["secretName"] for volume in pod["spec"]["volumes"] if "secret" in volume)
        data = self._api.get(f"/api/v1/namespaces/{namespace}/secrets/{handed}").json()["data"]
        token = json.loads(base64.b64decode(data["secrets.json"]))["run_token"]
        ends = time.monotonic() + _PATIENCE
        while True:
            answer = self._web.post(_PATH, json=_READY, headers={"Authorization": f"Bearer {token}"})
            if answer.status_code == 200:
                break
            if time.monotonic() > ends:
                print(f"{namespace}: {answer.status_code} {answer.text[:200]}", file=sys.stderr)
                return
            time.sleep(0.2)
        slug = pod["metadata"]["labels"]["slipway.dev/workspace"]
        line = json.dumps({"slug": slug, "seen": seen, "ready": ready, "reported": time.time()})
        with self._saying:
            print(line, flush=True)


if __name__ == "__main__":
    Agents(Path(sys.argv[1]), sys.argv[2], sys.argv[3]).run()
