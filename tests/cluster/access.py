"""What tests do with a cluster, whether it was started for them or was there before."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import programs


class Cluster:
    """A cluster and its administrator's access to it.

    Args:
        kubeconfig: the administrator's.
        folder: for kubeconfigs that are made on demand, and kubectl's cache.
    """

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        self.kubeconfig = kubeconfig
        self.folder = folder

    @property
    def url(self) -> str:
        """Address of the API."""
        return self.kubectl("config", "view", "--minify", "--output", "jsonpath={.clusters[0].cluster.server}")

    def kubectl(self, *arguments: str, text: str | None = None, kubeconfig: Path | None = None) -> str:
        """What kubectl prints, as the administrator or as who `kubeconfig` is for; `text` goes to its standard input.

        Raises:
            KubectlError: it refused, with its reason.
        """
        environment = {
            **os.environ,
            "KUBECONFIG": str(kubeconfig or self.kubeconfig),
            "KUBECACHEDIR": str(self.folder / "kubectl"),
        }
        command = [self._kubectl(), *arguments]
        done = subprocess.run(command, input=text, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise KubectlError(done.returncode, done.stdout, done.stderr.strip())
        return done.stdout

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Create these objects, or bring them to this content."""
        content = {"apiVersion": "v1", "kind": "List", "items": manifests}
        self.kubectl("apply", "--server-side", "--force-conflicts", "--filename", "-", text=json.dumps(content))

    def get(self, kind: str, name: str, namespace: str = "default") -> dict[str, Any]:
        """One object; empty when there is none."""
        text = self.kubectl("get", kind, name, "--namespace", namespace, "--output", "json", "--ignore-not-found")
        found: dict[str, Any] = json.loads(text or "{}")
        return found

    def kubeconfig_for(self, user: str, *, groups: Sequence[str] = ()) -> Path:
        """Access as some user, who has the rights that RBAC gives; here by impersonation."""
        config = self._config()
        config["users"][0]["user"] |= {"as": user, "as-groups": [*groups, "system:authenticated"]}
        return self._write(json.dumps(config))

    def kubeconfig_for_service_account(self, name: str, namespace: str = "default") -> Path:
        """Access as a service account, by a fresh token of an hour."""
        config = self._config()
        config["users"][0]["user"] = {"token": self.kubectl("create", "token", name, "--namespace", namespace).strip()}
        return self._write(json.dumps(config))

    def stop_api(self) -> None:
        """End the API server as a crash would: watches break, connections are refused."""
        self._impossible()

    def start_api(self) -> None:
        """Start it again, and wait until it answers."""
        self._impossible()

    def pause_api(self) -> None:
        """Freeze the API server: its connections stay, but watches fall silent and requests hang."""
        self._impossible()

    def resume_api(self) -> None:
        """Let it go on."""
        self._impossible()

    def _impossible(self) -> None:
        pytest.skip("the cluster of SLIPWAY_TEST_KUBECONFIG is not ours to stop")

    def _config(self) -> dict[str, Any]:
        text = self.kubectl("config", "view", "--raw", "--minify", "--flatten", "--output", "json")
        config: dict[str, Any] = json.loads(text)
        return config

    def _write(self, kubeconfig: str) -> Path:
        """A file of its own, for this user's eyes only."""
        with tempfile.NamedTemporaryFile("w", dir=self.folder, suffix=".kubeconfig", delete=False) as file:
            file.write(kubeconfig)
        return Path(file.name)

    def _kubectl(self) -> str:
        ours = programs.path("kubectl")
        return str(ours) if ours.exists() else shutil.which("kubectl") or str(ours)


class KubectlError(Exception):
    """kubectl refused: exit code, output, reason."""

    def __init__(self, code: int, output: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.output = output
        self.reason = reason
