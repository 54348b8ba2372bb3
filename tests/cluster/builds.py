"""How each program of the cluster is made: by Go from pinned sources, or from Debian's package.

Each maker takes the path at which its file shall be. What it needs on the way is beside that, in folders `making-*`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

HERE = Path(__file__).parent
KUBERNETES = HERE / "go" / "kubernetes"
CONTAINERD = "v2.2.1"
RUNC = "v1.3.4"
KWOK = "v0.8.0"
HELM = "v3.19.5"
COREDNS = "v1.13.1"
GATEWAY_API = "v1.4.0"
PROMETHEUS_OPERATOR = "v0.85.0"
DISTRIBUTION = "v3.1.2"
Make = Callable[[Path], object]

_STAGES = (
    "node/fast/node-initialize",
    "node/heartbeat-with-lease/node-heartbeat-with-lease",
    "pod/fast/pod-ready",
    "pod/fast/pod-complete",
    "pod/fast/pod-delete",
    "volume/fast/pvc-provision",
    "volume/fast/pv-bind",
    "volume/fast/pvc-delete",
    "volume/fast/pv-delete",
)


def pins() -> bytes:
    """Everything that decides what is made."""
    files = (KUBERNETES / "go.mod", KUBERNETES / "go.sum", HERE / "pause.c")
    versions = " ".join((CONTAINERD, RUNC, KWOK, *_STAGES)).encode()
    return b"\0".join([versions, *(file.read_bytes() for file in files)])


def kubernetes_version() -> str:
    """As go.mod pins it: `v1.34.4`."""
    found = re.search(r"k8s\.io/kubernetes (v\S+)", (KUBERNETES / "go.mod").read_text(encoding="utf-8"))
    assert found, "go.mod requires k8s.io/kubernetes"
    return found[1]


def _go(*arguments: str, folder: Path, environment: Mapping[str, str]) -> None:
    command = ["go", arguments[0], "-trimpath", "-buildvcs=false", *arguments[1:]]
    subprocess.run(command, cwd=folder, env={**os.environ, "GOWORK": "off", **environment}, check=True)


def kubernetes(name: str) -> Make:
    """A command of Kubernetes, through a module of our own: theirs cannot be installed by name."""

    def make(target: Path) -> None:
        version = kubernetes_version()
        major, minor = version.removeprefix("v").split(".")[:2]
        stamps = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
        flags = " ".join(f"-X k8s.io/component-base/version.{key}={value}" for key, value in stamps.items())
        what = ["-ldflags", f"-s -w {flags}", "-o", str(target), f"k8s.io/kubernetes/cmd/{name}"]
        _go("build", "-mod=readonly", *what, folder=KUBERNETES, environment={"CGO_ENABLED": "0"})

    return make


def module(package: str, version: str, *, static: bool = False) -> Make:
    """A command that Go installs by name; a static one needs no other file, not even in an empty image."""

    def make(target: Path) -> None:
        _install(target, f"{package}@{version}", {"CGO_ENABLED": "0"} if static else {})

    return make


def containerd(name: str) -> Make:
    """A command of containerd."""
    return module(f"github.com/containerd/containerd/v2/cmd/{name}", CONTAINERD)


def runc(target: Path) -> None:
    """With seccomp, which takes a C library: the profile `RuntimeDefault` needs it."""
    _install(target, f"github.com/opencontainers/runc@{RUNC}", {"CGO_ENABLED": "1"}, "-tags", "seccomp")


def helm(target: Path) -> None:
    """Helm; it asks a stamp of its build which Kubernetes a chart that is only rendered is for."""
    major, minor = kubernetes_version().removeprefix("v").split(".")[:2]
    stamps = (f"-X helm.sh/helm/v3/pkg/{where}.k8sVersion" for where in ("chartutil", "lint/rules"))
    flags = " ".join(f"{stamp}Major={major} {stamp}Minor={minor}" for stamp in stamps)
    _install(target, f"helm.sh/helm/v3/cmd/helm@{HELM}", {"CGO_ENABLED": "0"}, flags=flags)


def _install(target: Path, what: str, environment: Mapping[str, str], *options: str, flags: str = "") -> None:
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="making-") as folder:
        command = ["install", *options, "-ldflags", f"-s -w {flags}".strip(), what]
        _go(*command, folder=Path(folder), environment={"GOBIN": folder, **environment})
        next(Path(folder).iterdir()).rename(target)


def etcd(target: Path) -> None:
    """The installed one; else Debian's, unpacked without installing its service."""
    if found := shutil.which("etcd"):
        target.symlink_to(found)
        return
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="making-") as folder:
        # As root apt would hand the download to a user who may not enter this folder.
        command = ["apt-get", "-o", "APT::Sandbox::User=root", "-qq", "download", "etcd-server"]
        subprocess.run(command, cwd=folder, check=True)
        package = next(Path(folder).glob("*.deb"))
        subprocess.run(["dpkg-deb", "-x", package.name, "."], cwd=folder, check=True)
        (Path(folder) / "usr/bin/etcd").rename(target)


def pause(target: Path) -> None:
    """Our own, in C."""
    subprocess.run(["gcc", "-Os", "-static", "-s", "-o", str(target), str(HERE / "pause.c")], check=True)


def _module_folder(module: str, where: Path) -> Path:
    """Where a module's files are; downloaded where they are not there yet."""
    command = ["go", "mod", "download", "-json", module]
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=True)
    return Path(json.loads(done.stdout)["Dir"])


def stages(target: Path) -> None:
    """How kwok simulates nodes, pods and volumes: its program knows nothing of it, but its module has these files."""
    folder = _module_folder(f"sigs.k8s.io/kwok@{KWOK}", target.parent) / "kustomize" / "stage"
    _join(target, [folder / f"{name}.yaml" for name in _STAGES])


def resources(target: Path) -> None:
    """The definitions of HTTPRoute and ServiceMonitor, which a chart may make where a cluster has them."""
    routes = _module_folder(f"sigs.k8s.io/gateway-api@{GATEWAY_API}", target.parent) / "config/crd/standard"
    operator = f"github.com/prometheus-operator/prometheus-operator@{PROMETHEUS_OPERATOR}"
    monitors = _module_folder(operator, target.parent) / "example/prometheus-operator-crd"
    names = ("gateway.networking.k8s.io_httproutes.yaml", "monitoring.coreos.com_servicemonitors.yaml")
    _join(target, [routes / names[0], monitors / names[1]])


def _join(target: Path, files: list[Path]) -> None:
    """One file of YAML documents out of several."""
    texts = [file.read_text(encoding="utf-8").strip().removeprefix("---") for file in files]
    target.write_text("\n---\n".join(texts) + "\n", encoding="utf-8")
