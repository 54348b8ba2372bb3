"""A node leaves nothing behind on the machine, however it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.cluster import cgroups, images, manifests, network, programs
from tests.cluster.children import OUR_MODULES
from tests.cluster.control_plane import ControlPlane
from tests.cluster.node import Node
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(900)

# Starts a pod, says where the run's folders are, and waits to be killed.
RUN = """
import sys
from tests.cluster import test_traces
test_traces.run_until_killed()
"""


def run_until_killed() -> None:
    """In a process of its own: a node with a pod, until that process ends."""
    with ControlPlane.run() as cluster, Node.run(cluster) as node:
        run_pod(node)
        sys.stdout.write(f"{cluster.folder} {node.folder}\n")
        sys.stdout.flush()
        sys.stdin.read()


def run_pod(node: Node) -> None:
    """A pod with a volume, Ready: it has processes, mounts, control groups and a network."""
    node.load_image(images.workspace_archive(programs.cache_folder()))
    cluster = node.control_plane
    pod = manifests.pod("traces", "traces", volumes={"/data": manifests.claimed("data")})
    cluster.apply(manifests.namespace("traces"), manifests.claim("data", "traces"), pod)
    eventually(
        lambda: manifests.is_ready(cluster.get("pod", "traces", "traces")), timeout=60, every=0.1, what="it is ready"
    )


def traces(*folders: Path) -> list[str]:
    """What of a run is on the machine: processes, mounts, links, routes, tables, network namespaces."""
    names = [str(folder) for folder in folders]
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        found += [command for name in names if name in command]
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8")
    found += [line for line in mounts.splitlines() for name in names if name in line]
    found += [line for line in _printed("ip", "route") if network.LINK in line]
    found += [line for line in _printed("ip", "-oneline", "link") if network.LINK in line]
    found += [line for line in _printed("nft", "list", "tables") if "slipway" in line or "kube-proxy" in line]
    return found + [line for line in _printed("ip", "netns") if line.startswith("cni-")]


def _printed(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def _control_groups() -> list[Path]:
    return [path for path in cgroups.ROOT.glob(f"**/{cgroups.NAME}") if path.is_dir()]


@pytest.mark.node
def test_nothing_is_left_behind() -> None:
    forwarding = Path("/proc/sys/net/ipv4/ip_forward")
    before = forwarding.read_text(encoding="ascii")
    with ControlPlane.run() as cluster, Node.run(cluster) as node:
        run_pod(node)
        folders = cluster.folder, node.folder
        assert traces(*folders), "there is something to look for"
        assert _control_groups()
    assert traces(*folders) == []
    assert _control_groups() == []
    assert not any(folder.exists() for folder in folders)
    assert forwarding.read_text(encoding="ascii") == before


@pytest.mark.node
def test_a_killed_run_takes_everything_with_it_and_the_next_one_clears_its_files() -> None:
    command = [sys.executable, "-c", RUN]
    child = subprocess.Popen(
        command, env={**os.environ, **OUR_MODULES}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    assert child.stdout
    folders = [Path(name) for name in child.stdout.readline().split()]
    assert len(folders) == 2
    assert traces(*folders), "there is something to look for"
    child.kill()
    child.communicate()
    eventually(lambda: traces(*folders) == [], what="all that ran is gone")
    with ControlPlane.run() as cluster, Node.run(cluster) as node:
        assert node.kubelet.pid
        assert not any(folder.exists() for folder in folders)
    assert _control_groups() == []
