"""Name service for pods: CoreDNS in `kube-system`, under the labels and at the kind of address that every cluster has.

Names outside of the cluster do not exist.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.cluster import images, network

IMAGE = "slipway.test/coredns:1"
SPACE = "kube-system"
NAME = "kube-dns"
DOMAIN = "cluster.local"
_CHOSEN = {"k8s-app": NAME}
_READY = 8181
_COREFILE = f"""
{DOMAIN}:53 in-addr.arpa:53 {{
  errors
  kubernetes {DOMAIN} in-addr.arpa {{
    pods insecure
    ttl 5
  }}
  ready :{_READY}
}}
.:53 {{
  template ANY ANY {{
    rcode NXDOMAIN
  }}
}}
"""

Json = dict[str, Any]


def archive(program: Path, target: Path) -> Path:
    """CoreDNS's image, made of its program."""
    return images.write_image(target, IMAGE, images.from_files({"/coredns": program}), Entrypoint=["/coredns"])


def objects() -> list[Json]:
    """All that it needs in the cluster; its Service has the address that the kubelet writes into pods."""
    here = {"name": NAME, "namespace": SPACE}
    reads = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME}
    ports = [{"name": name.lower(), "port": 53, "protocol": name} for name in ("UDP", "TCP")]
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": here},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": NAME},
            "rules": reads,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": NAME},
            "roleRef": role,
            "subjects": [{"kind": "ServiceAccount", **here}],
        },
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": here, "data": {"Corefile": _COREFILE}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": here,
            "spec": {"clusterIP": network.NAME_SERVICE, "selector": _CHOSEN, "ports": ports},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": here,
            "spec": {
                "selector": {"matchLabels": _CHOSEN},
                "template": {"metadata": {"labels": _CHOSEN}, "spec": _pod()},
            },
        },
    ]


def _pod() -> Json:
    container = {
        "name": "coredns",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": _READY}, "periodSeconds": 1},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns"}],
    }
    return {
        "serviceAccountName": NAME,
        "dnsPolicy": "Default",
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": NAME}}],
    }
