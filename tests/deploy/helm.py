"""Helm, as tests use it: charts rendered, linted, refused."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import programs
from tests.deploy.generated import CHART

Json = dict[str, Any]

LEAST: Json = {
    "portalUrl": "https://slipway.example.com",
    "workspaces": {"image": "registry.example.com/workspace:1"},
    "database": {"existingSecret": "database"},
    "redis": {"existingSecret": "redis"},
}
"""The least that has to be said."""
TRIAL: Json = {key: LEAST[key] for key in ("portalUrl", "workspaces")} | {"trial": {"enabled": True}}
SHARED: Json = {**LEAST, "workspaces": {**LEAST["workspaces"], "layout": "shared", "namespace": "workspaces"}}
EVERYTHING: Json = {
    **LEAST,
    "image": {"digest": f"sha256:{'a' * 64}"},
    "imagePullSecrets": [{"name": "registry"}],
    "secrets": {"existingSecret": "own"},
    "github": {"existingSecret": "github"},
    "devCluster": {
        "options": {"server": "https://dev.example.com:6443", "role": "slipway-developer", "quota": {"pods": 30}},
        "existingSecret": "dev",
        "authorityKey": "ca.crt",
    },
    "workspacePullSecret": "registry",
    "backup": {"existingSecret": "copies", "authorityKey": "ca.crt"},
    "settings": {"SLIPWAY_TRASH_DAYS": "30"},
    "workspaces": {
        "image": "registry.example.com/workspace:1",
        "instance": "other",
        "egress": "none",
        "ide_image": "registry.example.com/ide:1",
        "delivery": "auto",
        "snapshot_class": "fast",
        "backup": {"repository": "registry.example.com/copies"},
    },
    "gateway": {"trustedProxies": ["10.0.0.0/8", "fd00::1"], "agentsClusterIP": "10.96.0.77"},
    "web": {"autoscaling": {"enabled": True}},
    "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "tls", "annotations": {"a": "b"}},
    "networkPolicy": {"ingressFrom": [{"namespaceSelector": {}}]},
    "scheduling": {
        "nodeSelector": {"a": "b"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
    },
    "podLabels": {"team": "platform"},
    "podAnnotations": {"a": "b"},
    "listenAddress": "::",
    "monitoring": {"enabled": True, "labels": {"release": "prometheus"}},
}
ROUTE: Json = {**LEAST, "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]}}
DEV: Json = {**LEAST, "devCluster": {"options": {"server": "https://kubernetes.default.svc"}}}
"""Workspaces try out what they build in this very cluster."""
VALUES = {"dev": DEV, "least": LEAST, "trial": TRIAL, "shared": SHARED, "everything": EVERYTHING, "route": ROUTE}


class HelmError(Exception):
    """Helm refused; its words."""


class Helm:
    """The program, with a home of its own.

    Args:
        home: an empty folder.
    """

    def __init__(self, home: Path) -> None:
        self._home = home

    def run(self, *arguments: str, values: Json | None = None, kubeconfig: Path | None = None) -> str:
        """What it prints.

        Raises:
            HelmError: it failed.
        """
        command = [str(programs.path(programs.HELM)), *arguments]
        if values is not None:
            command += ["--values", "-"]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self._home), "KUBECONFIG": str(kubeconfig or "")}
        text = json.dumps(values)
        done = subprocess.run(command, input=text, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise HelmError(f"{done.stdout}{done.stderr}")
        return done.stdout

    def template(self, values: Json, *, name: str = "slipway", namespace: str = "slipway") -> list[Json]:
        """The chart's objects, hooks included."""
        text = self.run("template", name, str(CHART), "--namespace", namespace, values=values)
        return [found for found in yaml.safe_load_all(text) if found]


def kinds(objects: list[Json], *wanted: str) -> list[Json]:
    """Those of some kinds."""
    return [one for one in objects if one["kind"] in wanted]


def pod_of(workload: Json) -> Json | None:
    """The pod that an object makes, if it makes any: metadata and spec."""
    if workload["kind"] == "Pod":
        return workload
    found: Json | None = workload.get("spec", {}).get("template")
    return found


def pods(objects: list[Json]) -> dict[str, Json]:
    """All pods by their component."""
    found = {}
    for one in objects:
        if (pod := pod_of(one)) and "containers" in pod.get("spec", {}):
            found[pod["metadata"]["labels"]["app.kubernetes.io/component"]] = pod
    return found


def containers(pod: Json) -> list[Json]:
    """A pod's containers, those that come first included."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
