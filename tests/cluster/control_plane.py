"""Kubernetes' control plane on loopback: etcd, API server, controllers, scheduler. Needs no root."""

from __future__ import annotations

import json
import secrets
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from tests.cluster import arguments, network
from tests.cluster.access import Cluster
from tests.cluster.api import Api
from tests.cluster.children import Child, ClusterError, run_folder
from tests.cluster.pki import Authority, Pair, kubeconfig, new_key, pem, private_pem

LOOPBACK = "127.0.0.1"
API_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")


def free_ports(count: int) -> list[int]:
    """Free ports outside the range from which the kernel takes those of outgoing connections: they stay free.

    So an API server that is stopped for a while finds its port again.
    """
    found: list[int] = []
    for port in secrets.SystemRandom().sample(range(20000, 30000), 1000):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((LOOPBACK, port))
            found.append(port)
        if len(found) == count:
            return found
    raise ClusterError("no free ports from 20000 to 29999")


class ControlPlane(Cluster):
    """A whole control plane with empty storage; several can run at once.

    Args:
        folder: of its own, for everything that it writes, its logs included.
        gates: features of the API server. Without `ImageVolume` here, too, that field is dropped, and the pod silently
            gets an empty folder.
    """

    def __init__(self, folder: Path, gates: str = "ImageVolume=true") -> None:
        super().__init__(folder / "admin.kubeconfig", folder)
        self.port, self._etcd_port, self._peer_port = free_ports(3)
        self.audit_log = (
            folder / "audit.log"
        )  # One JSON object per answered request: who, what, whether it was allowed.
        self._gates = gates
        self._authority = Authority("kubernetes")
        self._children: list[Child] = []
        self._followers: list[Child] = []

    @classmethod
    @contextmanager
    def run(cls, gates: str = "ImageVolume=true") -> Iterator[ControlPlane]:
        """A fresh one that answers. It ends with the block, and also when the test process is killed."""
        with run_folder("slipway-cluster-") as folder:
            control_plane = cls(folder, gates)
            try:
                control_plane.start()
                yield control_plane
            finally:
                control_plane.stop()

    @property
    def url(self) -> str:
        return f"https://{LOOPBACK}:{self.port}"

    @property
    def authority(self) -> bytes:
        """The certificate of who signs the certificates of clients and kubelets."""
        return self._authority.pair.certificate

    def issue(self, name: str, *, groups: Sequence[str] = (), hosts: Sequence[str] = ()) -> Pair:
        """A certificate that the API accepts from a client, and others from a server with these names."""
        return self._authority.issue(name, groups=groups, hosts=hosts)

    def kubeconfig_for(self, user: str, *, groups: Sequence[str] = (), server: str = "") -> Path:
        """Access as some user, by a certificate; inside a node the server has another address."""
        return self._write(kubeconfig(server or self.url, self.authority, self.issue(user, groups=groups)))

    def start(self) -> None:
        """Start everything, and wait until pods can be created.

        Raises:
            ClusterError: a part did not come up.
        """
        self._write_files()
        self._run("etcd", arguments.etcd(self.folder, port=self._etcd_port, peer_port=self._peer_port))
        command = arguments.api_server(self.folder, port=self.port, etcd_port=self._etcd_port, gates=self._gates)
        self._api_server = self._run("kube-apiserver", command)
        self.start_api()
        user = self.kubeconfig_for("system:kube-controller-manager")
        controllers = self._run("kube-controller-manager", arguments.controller_manager(self.folder, user))
        scheduler = self._run("kube-scheduler", arguments.scheduler(self.kubeconfig_for("system:kube-scheduler")))
        self._followers = [controllers, scheduler]
        with Api(self.kubeconfig) as api:
            account = "/api/v1/namespaces/default/serviceaccounts/default"
            controllers.until(lambda: _answers(api, account), what="the default service account is there")

    def stop(self) -> None:
        """End everything at once; nothing of it is used again."""
        for child in reversed(self._children):
            child.stop()

    def check(self) -> None:
        """Raise a ClusterError if a part ended that nobody stopped."""
        for child in self._children:
            child.check()

    def stop_api(self) -> None:
        # On SIGTERM it would wait for the watches of others, longer than a minute.
        self._api_server.stop()

    def start_api(self) -> None:
        if not self._api_server.pid:
            self._api_server.start()
        with Api(self.kubeconfig) as api:
            self._api_server.until(lambda: _answers(api, "/readyz"), what="the API is ready")
        # By themselves they would come back kind by kind, each after up to half a minute.
        for follower in self._followers:
            follower.stop()
            follower.start()

    def pause_api(self) -> None:
        self._api_server.send(signal.SIGSTOP)

    def resume_api(self) -> None:
        self._api_server.send(signal.SIGCONT)

    def _run(self, name: str, command: Sequence[str]) -> Child:
        child = Child(name, command, self.folder)
        self._children.append(child)
        return child.start()

    def _write_files(self) -> None:
        """Certificates, kubeconfigs and configuration, where the programs look for them."""
        folder, storage, front = self.folder, Authority("etcd"), Authority("front-proxy")
        for name, authority in (("ca", self._authority), ("etcd-ca", storage), ("front-proxy-ca", front)):
            authority.pair.write(folder, name)
        storage.issue("etcd", hosts=[LOOPBACK]).write(folder, "etcd")
        storage.issue("kube-apiserver").write(folder, "etcd-client")
        front.issue("front-proxy-client").write(folder, "front-proxy-client")
        hosts = [LOOPBACK, network.MACHINE, network.API_SERVICE, *API_NAMES]
        self.issue("kube-apiserver", hosts=hosts).write(folder, "kube-apiserver")
        self.issue("kube-apiserver", groups=["system:masters"]).write(folder, "kubelet-client")
        tokens = new_key()
        (folder / "tokens.key").write_bytes(private_pem(tokens))
        (folder / "tokens.pub").write_bytes(pem(tokens.public_key()))
        policy = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}
        (folder / "audit.json").write_text(json.dumps(policy), encoding="utf-8")
        (folder / "etcd").mkdir(mode=0o700)
        self.kubeconfig_for("admin", groups=["system:masters"]).rename(self.kubeconfig)


def _answers(api: Api, path: str) -> bool:
    try:
        return api.get(path).is_success
    except httpx.HTTPError:
        return False
