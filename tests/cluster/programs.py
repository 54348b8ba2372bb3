"""The programs of the cluster, in a cache.

`python -m tests.cluster.programs PART` gets what a part needs; `missing` says what stands in the way of that part.
"""

from __future__ import annotations

import argparse
import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster import builds, images

PLUGINS = Path("/usr/lib/cni")

# What each part is for, and what its first making takes, on two cores and with Go's caches empty.
PARTS = {
    "control-plane": "the Kubernetes API with its controllers: about 6 minutes, 4 GB of disk",
    "node": "a real node, its workspace image included: about 11 minutes, 7 GB of disk",
    "scale": "thousands of simulated nodes and pods: about 7 minutes, 5 GB of disk",
    "chart": "Helm, and the API with what a chart may make in it: about 7 minutes, 5 GB of disk",
    "registry": "a registry for images and backups: about 2 minutes, 1 GB of disk",
}
# Their versions are in their names, so that another one leaves the rest of the cache as it is.
HELM = f"helm-{builds.HELM}"
COREDNS = f"coredns-{builds.COREDNS}"
RESOURCES = f"resources-{builds.GATEWAY_API}-{builds.PROMETHEUS_OPERATOR}.yaml"
PROGRAMS: dict[str, dict[str, builds.Make]] = {
    "control-plane": {
        "etcd": builds.etcd,
        "kube-apiserver": builds.kubernetes("kube-apiserver"),
        "kube-controller-manager": builds.kubernetes("kube-controller-manager"),
        "kube-scheduler": builds.kubernetes("kube-scheduler"),
        "kubectl": builds.kubernetes("kubectl"),
    },
    "node": {
        "kubelet": builds.kubernetes("kubelet"),
        "kube-proxy": builds.kubernetes("kube-proxy"),
        "containerd": builds.containerd("containerd"),
        "containerd-shim-runc-v2": builds.containerd("containerd-shim-runc-v2"),
        "ctr": builds.containerd("ctr"),
        "runc": builds.runc,
        "pause": builds.pause,
        COREDNS: builds.module("github.com/coredns/coredns", builds.COREDNS, static=True),
    },
    "scale": {
        "kwok": builds.module("sigs.k8s.io/kwok/cmd/kwok", builds.KWOK),
        "kwok.yaml": builds.stages,
    },
    "chart": {HELM: builds.helm, RESOURCES: builds.resources},
}
REGISTRY = builds.module("github.com/distribution/distribution/v3/cmd/registry", builds.DISTRIBUTION)


def cache_folder() -> Path:
    """Where everything is kept that takes long to make: `$SLIPWAY_TEST_CACHE`, else in the home directory."""
    return Path(os.environ.get("SLIPWAY_TEST_CACHE") or Path.home() / ".cache/slipway") / "cluster"


@functools.cache
def folder() -> Path:
    """Where the programs of exactly these versions are."""
    return cache_folder() / hashlib.sha256(builds.pins()).hexdigest()[:12]


def path(name: str) -> Path:
    """A program in the cache."""
    return folder() / name


def registry() -> Path:
    """The registry. It has a place of its own, because the cluster's programs do not depend on its version."""
    return cache_folder() / f"registry-{builds.DISTRIBUTION}"


def _absent(part: str) -> dict[Path, builds.Make]:
    """What a part still needs, and how it is made; every part but the registry needs the control plane."""
    if part == "registry":
        return {} if registry().exists() else {registry(): REGISTRY}
    makes = {path(name): make for name, make in {**PROGRAMS["control-plane"], **PROGRAMS[part]}.items()}
    if part == "node":
        makes[images.workspace_archive(cache_folder())] = images.make_workspace
    return {target: make for target, make in makes.items() if not target.exists()}


def _obstacles(part: str) -> Iterator[str]:
    """What this machine lacks to run a part."""
    if part != "node":
        return
    if os.geteuid() != 0:
        yield "run the tests as root"
    elif subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], check=False).returncode:
        yield "allow namespaces and mounts, in a container by `--privileged`"
    programs = {"ip": "iproute2", "nft": "nftables", "unshare": "util-linux", "nsenter": "util-linux"}
    programs |= {"buildah": "buildah", "debootstrap": "debootstrap"}
    packages = {package for program, package in programs.items() if not shutil.which(program)}
    if not (PLUGINS / "ptp").exists():
        packages.add("containernetworking-plugins")
    if packages:
        yield f"apt-get install {' '.join(sorted(packages))}"
    if not any(os.access(mount, os.W_OK) for mount in ("/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/memory")):
        yield "make /sys/fs/cgroup writable"


def _build_obstacles(absent: set[str]) -> Iterator[str]:
    """What this machine lacks to make the files of these names."""
    if absent - {"etcd", "pause"} and not shutil.which("go"):
        yield "install Go 1.24 or newer"
    packages = set()
    if "pause" in absent and not shutil.which("gcc"):
        packages |= {"gcc", "libc6-dev"}
    if "runc" in absent and not (shutil.which("pkg-config") and _has_seccomp()):
        packages |= {"libseccomp-dev", "pkg-config"}
    if any(name.startswith("workspace") for name in absent) and not shutil.which("debootstrap"):
        packages.add("debootstrap")
    if packages:
        yield f"apt-get install {' '.join(sorted(packages))}"
    if "etcd" in absent and not (shutil.which("etcd") or shutil.which("apt-get")):
        yield "install etcd 3.4 or newer"


def _has_seccomp() -> bool:
    return subprocess.run(["pkg-config", "--exists", "libseccomp"], check=False).returncode == 0


@functools.cache
def missing(part: str, *, may_build: bool = False) -> str | None:
    """What stands in the way of a part, as one line that says what to do; None when it can be used.

    Args:
        part: one of `PARTS`.
        may_build: programs that are not there yet are no obstacle, as long as they can be made: `ensure` makes them.
    """
    absent = {target.name for target in _absent(part)}
    obstacles = [*_obstacles(part), *_build_obstacles(absent)]
    if absent and not may_build:
        obstacles.append(f"python -m tests.cluster.programs {part}")
    return ", then ".join(obstacles) or None


@contextmanager
def _alone() -> Iterator[None]:
    """One builder at a time; others wait, and then find everything there. What a killed one left behind goes away."""
    folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in cache_folder().rglob("making-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield


def ensure(part: str, *, say: Callable[[str], object] = lambda _: None) -> None:
    """Make what a part still needs; does nothing when all is there."""
    if not _absent(part):
        return
    with _alone():
        absent = _absent(part)
        say(f"{part}: {PARTS[part]}; to make: {', '.join(target.name for target in absent)}")
        for target, make in absent.items():
            begin = time.monotonic()
            new = target.with_name(f".{target.name}.new")
            new.unlink(missing_ok=True)
            make(new)
            new.replace(target)
            size = target.stat().st_size / 1e6
            say(f"{target.name}: {time.monotonic() - begin:.0f} s, {size:.0f} MB")


def main() -> None:
    """Get a part, with a line for each program."""
    parser = argparse.ArgumentParser(description="Get the programs of the tests' cluster.")
    parser.add_argument("part", choices=PARTS)
    part: str = parser.parse_args().part
    if obstacle := missing(part, may_build=True):
        sys.exit(f"{part}: {obstacle}")
    ensure(part, say=lambda line: sys.stdout.write(line + "\n") and sys.stdout.flush())
    sys.stdout.write(f"{part}: ready in {folder()}\n")


if __name__ == "__main__":
    main()
