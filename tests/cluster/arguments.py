"""Command lines of the control plane's programs; their files are in one folder, as `ControlPlane` names them."""

from __future__ import annotations

from pathlib import Path

from tests.cluster import network
from tests.cluster.programs import path

LOOPBACK = "127.0.0.1"
PLUGINS = ("NodeRestriction", "PodSecurity", "ResourceQuota", "LimitRanger", "ValidatingAdmissionPolicy")
# The usual limits of these clients, 20 to 50 requests a second, would be what a test with many pods measures.
_UNHURRIED = {"kube-api-qps": "200", "kube-api-burst": "400"}


def _command(program: str, options: dict[str, str | Path]) -> list[str]:
    return [str(path(program)), *(f"--{name}={value}" for name, value in options.items())]


def etcd(folder: Path, *, port: int, peer_port: int) -> list[str]:
    """Storage that need not survive a power cut, for clients with a certificate only."""
    client, peer = f"https://{LOOPBACK}:{port}", f"http://{LOOPBACK}:{peer_port}"
    options: dict[str, str | Path] = {
        "name": "test",
        "data-dir": folder / "etcd",
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"test={peer}",
        "cert-file": folder / "etcd.crt",
        "key-file": folder / "etcd.key",
        "trusted-ca-file": folder / "etcd-ca.crt",
        "client-cert-auth": "true",
        "unsafe-no-fsync": "true",
    }
    return _command("etcd", options)


def api_server(folder: Path, *, port: int, etcd_port: int, gates: str) -> list[str]:
    """The API: on loopback; known to pods by the address at which a node's relay stands, should there be one."""
    options: dict[str, str | Path] = {
        "bind-address": LOOPBACK,
        "secure-port": str(port),
        "advertise-address": network.MACHINE,
        "tls-cert-file": folder / "kube-apiserver.crt",
        "tls-private-key-file": folder / "kube-apiserver.key",
        "client-ca-file": folder / "ca.crt",
        "anonymous-auth": "false",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": ",".join(PLUGINS),
        "allow-privileged": "true",
        "feature-gates": gates,
        "service-cluster-ip-range": network.SERVICES,
        "profiling": "false",
        "audit-policy-file": folder / "audit.json",
        "audit-log-path": folder / "audit.log",
        **_storage(folder, etcd_port),
        **_tokens(folder),
        **_kubelets(folder),
        **_aggregation(folder),
    }
    return _command("kube-apiserver", options)


def _storage(folder: Path, port: int) -> dict[str, str | Path]:
    return {
        "etcd-servers": f"https://{LOOPBACK}:{port}",
        "etcd-cafile": folder / "etcd-ca.crt",
        "etcd-certfile": folder / "etcd-client.crt",
        "etcd-keyfile": folder / "etcd-client.key",
    }


def _tokens(folder: Path) -> dict[str, str | Path]:
    return {
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-account-key-file": folder / "tokens.pub",
        "service-account-signing-key-file": folder / "tokens.key",
    }


def _kubelets(folder: Path) -> dict[str, str | Path]:
    """For logs and exec; a node's name means nothing to this machine's resolver."""
    return {
        "kubelet-client-certificate": folder / "kubelet-client.crt",
        "kubelet-client-key": folder / "kubelet-client.key",
        "kubelet-certificate-authority": folder / "ca.crt",
        "kubelet-preferred-address-types": "InternalIP",
    }


def _aggregation(folder: Path) -> dict[str, str | Path]:
    """For APIs that other servers answer, and that an APIService names."""
    return {
        "requestheader-client-ca-file": folder / "front-proxy-ca.crt",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "proxy-client-cert-file": folder / "front-proxy-client.crt",
        "proxy-client-key-file": folder / "front-proxy-client.key",
    }


def controller_manager(folder: Path, kubeconfig: Path) -> list[str]:
    """The controllers, without a port of their own."""
    options: dict[str, str | Path] = {
        "kubeconfig": kubeconfig,
        "leader-elect": "false",
        "secure-port": "0",
        "use-service-account-credentials": "true",
        "service-account-private-key-file": folder / "tokens.key",
        "root-ca-file": folder / "ca.crt",
        "cluster-signing-cert-file": folder / "ca.crt",
        "cluster-signing-key-file": folder / "ca.key",
        **_UNHURRIED,
    }
    return _command("kube-controller-manager", options)


def scheduler(kubeconfig: Path) -> list[str]:
    """The scheduler, without a port of its own."""
    options: dict[str, str | Path] = {
        "kubeconfig": kubeconfig,
        "leader-elect": "false",
        "secure-port": "0",
        **_UNHURRIED,
    }
    return _command("kube-scheduler", options)
