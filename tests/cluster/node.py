"""A real node on this machine: kubelet, containerd, runc, pod network, Services, policies and volumes. Needs root."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from tests.cluster import attach, cgroups, images, names, network, node_files, volumes
from tests.cluster.api import Api
from tests.cluster.children import OUR_MODULES, Child, ClusterError, run_folder
from tests.cluster.control_plane import ControlPlane
from tests.cluster.namespaces import Namespaces
from tests.cluster.programs import COREDNS, path
from tests.support.waiting import eventually

LOCK = Path("/run/slipway-node.lock")
PATIENCE = 600.0
NAME = "node"
_ours = threading.Lock()


class Node:
    """The one node of a control plane. Addresses are those of `network`; its pods can be reached from this machine.

    Args:
        control_plane: what it joins.
        folder: of its own, for everything that it writes, its logs included.
    """

    def __init__(self, control_plane: ControlPlane, folder: Path) -> None:
        self.control_plane = control_plane
        self.folder = folder
        self._namespaces = Namespaces(folder, path("pause"))
        self._children: list[Child] = []

    @classmethod
    @contextmanager
    def run(cls, control_plane: ControlPlane) -> Iterator[Node]:
        """The machine's only node, ready. It ends with the block, and also when the test process is killed.

        Raises:
            AssertionError: another test run's node did not go away within ten minutes.
            ClusterError: a part did not come up.
        """
        with _alone(), run_folder("slipway-node-") as folder:
            cgroups.remove()
            node = cls(control_plane, folder)
            try:
                node.start()
                yield node
            finally:
                node.stop()

    def start(self) -> None:
        """Start everything, and wait until pods can run."""
        self.folder.chmod(0o711)  # Pods with users of their own (`hostUsers: false`) must get through to their files.
        self._namespaces.start()
        network.connect(self._namespaces)
        cgroups.create()
        self._write_files()
        self._help("relay", network.MACHINE, str(self.control_plane.port))
        self._start_containerd()
        self._start_kubelet()
        self._help("enforcer", str(self._kubeconfig), str(self.folder / "notes"), inside=True)
        self.control_plane.apply(volumes.STORAGE_CLASS)
        self._help("volumes", str(self.control_plane.kubeconfig), str(self.folder / "volumes"), NAME)
        with Api(self.control_plane.kubeconfig) as api:
            self.kubelet.until(lambda: _is_ready(api), what="the node is ready")
            self._start_names(api)

    def stop(self) -> None:
        """End everything at once, and wait until nothing of it is left on the machine."""
        self._namespaces.stop()
        for child in self._children:
            child.stop()
        eventually(lambda: not Path("/sys/class/net", network.LINK).exists(), what="the node's link is gone")
        cgroups.remove()

    def check(self) -> None:
        """Raise a ClusterError if a part ended that nobody stopped, the control plane included."""
        self.control_plane.check()
        for child in self._children:
            child.check()

    def load_image(self, archive: Path) -> None:
        """Put an image of `images` (or of `docker save`) onto the node; pods name it with `imagePullPolicy: Never`."""
        self._ctr("-n", "k8s.io", "images", "import", "--local", str(archive))

    def add_registry(self, host: str, url: str) -> None:
        """Pull images that begin with `host/` from this address; by default nothing is pulled from anywhere."""
        folder = self.folder / "registries" / host
        folder.mkdir(exist_ok=True)
        (folder / "hosts.toml").write_text(f'server = "{url}"\n', encoding="utf-8")

    def add_outside(self, address: str) -> None:
        """Let this machine answer at one more address (IPv4), which pods reach as any host out there."""
        network.answer_at(address)

    def _write_files(self) -> None:
        folder, control_plane = self.folder, self.control_plane
        user = f"system:node:{NAME}"
        control_plane.issue(user, groups=["system:nodes"], hosts=[network.NODE]).write(folder, "node")
        (folder / "ca.crt").write_bytes(control_plane.authority)
        server = f"https://{network.MACHINE}:{control_plane.port}"
        self._kubeconfig = control_plane.kubeconfig_for("enforcer", groups=["system:masters"], server=server)
        kubelet = control_plane.kubeconfig_for(user, groups=["system:nodes"], server=server)
        proxy = control_plane.kubeconfig_for("system:kube-proxy", server=server)
        for name in ("cni", "plugins", "notes", "registries/_default", "pod-logs", "volume-plugins", "volumes"):
            (folder / name).mkdir(parents=True)
        files = {
            "kubelet.json": json.dumps(node_files.kubelet(folder)),
            "kubelet.kubeconfig": kubelet.read_text(encoding="utf-8"),
            "kube-proxy.json": json.dumps(node_files.kube_proxy(proxy)),
            "containerd.toml": node_files.containerd(folder),
            "cni/pods.conflist": json.dumps(node_files.pod_network(folder)),
            # Nobody answers there: a name or an image from outside fails at once instead of after a time limit.
            "resolv.conf": f"nameserver {network.MACHINE}\n",
            "registries/_default/hosts.toml": f'server = "http://{network.MACHINE}:1"\n',
        }
        for name, content in files.items():
            (folder / name).write_text(content, encoding="utf-8")
        (folder / "notes" / attach.LOADED).touch()
        plugin = folder / "plugins" / attach.NAME
        plugin.write_text(f"#!/bin/sh\nexec {sys.executable} -I {attach.__file__}\n", encoding="utf-8")
        plugin.chmod(0o755)

    def _start_containerd(self) -> None:
        environment = {"PATH": f"{path('runc').parent}:{os.environ['PATH']}"}  # Its shim is looked up there.
        command = [str(path("containerd")), "--log-level", "warn", "--config", str(self.folder / "containerd.toml")]
        self.containerd = self._run_inside("containerd", *command, environment=environment)

        def answers() -> bool:
            with suppress(ClusterError):
                return bool(self._ctr("version"))
            return False

        self.containerd.until(answers, what="containerd answers")
        self.load_image(images.pause(path("pause"), self.folder / "pause.tar"))

    def _ctr(self, *arguments: str) -> str:
        return self._namespaces.run(str(path("ctr")), "-a", str(self.folder / "containerd.sock"), *arguments)

    def _start_kubelet(self) -> None:
        folder = self.folder
        options = [f"--config={folder}/kubelet.json", f"--kubeconfig={folder}/kubelet.kubeconfig"]
        options += [f"--hostname-override={NAME}", f"--node-ip={network.NODE}"]
        options += [f"--root-dir={folder}/kubelet", f"--cert-dir={folder}/kubelet-pki"]
        self.kubelet = self._run_inside("kubelet", str(path("kubelet")), *options)
        proxy = [str(path("kube-proxy")), f"--config={folder}/kube-proxy.json", f"--hostname-override={NAME}"]
        self.proxy = self._run_inside("kube-proxy", *proxy)

    def _start_names(self, api: Api) -> None:
        """Let pods ask for names, and wait until they are answered."""
        self.load_image(names.archive(path(COREDNS), self.folder / "coredns.tar"))
        self.control_plane.apply(*names.objects())
        where = f"/apis/apps/v1/namespaces/{names.SPACE}/deployments/{names.NAME}"
        self.kubelet.until(lambda: _has_replicas(api, where), what="names are answered")

    def _run_inside(self, name: str, *command: str, environment: Mapping[str, str] | None = None) -> Child:
        return self._started(self._namespaces.child(name, *command, environment=environment))

    def _help(self, module: str, *arguments: str, inside: bool = False) -> None:
        """Start one of our own programs; those that change the node's network run in it."""
        command = [sys.executable, "-m", f"tests.cluster.{module}", *arguments]
        if inside:
            command = self._namespaces.inside(*command, only_network=True)
        self._started(Child(module, command, self.folder, OUR_MODULES))

    def _started(self, child: Child) -> Child:
        self._children.append(child)
        return child.start()


def _is_ready(api: Api) -> bool:
    with suppress(httpx.HTTPError):
        conditions = api.get(f"/api/v1/nodes/{NAME}").json()["status"].get("conditions", [])
        return any(found["type"] == "Ready" and found["status"] == "True" for found in conditions)
    return False


def _has_replicas(api: Api, where: str) -> bool:
    with suppress(httpx.HTTPError):
        return bool(api.get(where).json().get("status", {}).get("readyReplicas"))
    return False


@contextmanager
def _alone() -> Iterator[None]:
    """One node at a time on a machine: what it has there has fixed names."""
    if _ours.locked():
        raise ClusterError("this process has a node already: import the fixture in one place only")
    with _ours, LOCK.open("a") as lock:

        def free() -> bool:
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            return False

        eventually(free, timeout=PATIENCE, every=0.5, what="another test run's node has ended")
        yield
