"""What the Kubernetes adapter needs to know, and how it reads it from settings."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from workspaces.runtime.errors import PlatformFault

Layout = Literal["own", "shared"]
Delivery = Literal["auto", "image_volume", "init"]
Egress = Literal["none", "allow_list", "internet"]
Check = Literal["content", "size"]

GIB = 1024**3
# What no workspace may reach unless it is allowed by name: private and shared space, loopback, link-local (where clouds
# keep their metadata) and multicast. RFC 1918, 6598, 3927, 4193, 4291; https://www.iana.org/assignments/iana-ipv4-special-registry
CLOSED = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16",
    "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4", "::1/128", "64:ff9b::/96", "fc00::/7", "fe80::/10", "ff00::/8",
)  # fmt: skip


def _nothing(_: str) -> None:
    """Stand-in for a tracer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a connection that is allowed: pods by labels, or addresses.

    Attributes:
        namespace, pods: labels; pods of every namespace that has the first and that have the second.
        networks: CIDR blocks, for what is not a pod.
    """

    namespace: Mapping[str, str] = dataclasses.field(default_factory=dict)
    pods: Mapping[str, str] = dataclasses.field(default_factory=dict)
    networks: tuple[str, ...] = ()


KUBE_DNS = Peer(namespace={"kubernetes.io/metadata.name": "kube-system"}, pods={"k8s-app": "kube-dns"})


@dataclasses.dataclass(frozen=True, slots=True)
class Backup:
    """Where copies of volumes go, and what the jobs that carry them may use.

    Attributes:
        repository: of a registry, with its host: registry.example/backups. Each workspace has one below it.
        credentials: a file like Docker's `config.json`; None for a registry that lets anybody in.
        authority: a file with the certificates that are trusted; None: those of the image.
        insecure: speak HTTP without TLS.
        network: who the registry is, and who gives tokens for it; empty: anybody on the internet.
        image: what the jobs run in; empty: the IDE's image, or the workspaces' own.
        command: the program, as it is started there.
        level: of compression, 1 (fast) to 19 (small).
        check: how a copy is verified: by reading all of it back ("content"), or by the sizes of its parts ("size").
        seconds: longest time of one job.
        cpu, memory: of one job, in cores and bytes; less where the workspace has less.
    """

    repository: str
    credentials: Path | None = None
    authority: Path | None = None
    insecure: bool = False
    network: Peer = Peer()
    image: str = ""
    command: tuple[str, ...] = ("/opt/slipway/bin/backup",)
    level: int = 3
    check: Check = "content"
    seconds: int = 6 * 3600
    cpu: float = 1.0
    memory: int = 512 * 2**20


@dataclasses.dataclass(frozen=True, slots=True)
class K8sConfig:
    """How and where workspaces run in a cluster.

    Attributes:
        kubeconfig: its path; None: the service account of the pod that this process runs in.
        instance: tells the objects of this installation from another's in the same cluster; a DNS label.
        layout: "own" gives each workspace a namespace; "shared" puts all into `namespace`, for clusters that grant
            rights in one namespace only. Pods are apart from each other all the same, by policies.
        namespace: the shared one; empty otherwise.
        lease_namespace: where the operator's Lease is; empty: the namespace of the pod that it runs in, else the shared
            one, else `default`.
        prefix: begins the names of namespaces and objects.
        image: what workspaces run in; any image with glibc.
        pull_credentials: a file like Docker's `config.json`, given to each namespace for pulling; None: without.
        ide_image: holds the agent, its Python, Node and code-server below `/opt/slipway`; empty: `image` has them.
        delivery: how the IDE image gets into the pod: as an image volume, or copied by an init container; "auto" mounts
            it where the cluster can. With `host_users` False that is copying: containerd cannot map a mounted image's
            users.
        command: the agent, as it is started in the workspace's container.
        platform_url: where agents report, as pods reach it; empty: they do not report.
        door_port: TCP port of the agent's door, where the gateway comes in.
        gateway: who may come in.
        platform: who is reported to.
        dns: who answers names.
        dev_api, dev_api_ports: the dev cluster's API server, which every workspace may reach at these ports.
        egress: what else a workspace may reach: nothing, `allowed`, or the internet and `allowed`.
        allowed: CIDR blocks.
        closed: further CIDR blocks that "internet" leaves out: the cluster's pods, services and nodes.
        storage_class: of the volumes; empty: the cluster's default.
        volume_bytes: size of a volume. Growing it grows volumes that exist at their next start; they never shrink.
        snapshot_class: a VolumeSnapshotClass, for copies that the storage itself makes where the cluster knows such.
        backup: for copies in a registry, where the storage makes none; None: there are none.
        user: user and group id in the container, above 0.
        host_users: False gives pods a user namespace of their own; None leaves it to the cluster.
        read_only_root: the container's own files cannot be written, only home and temporary folders.
        request_share: share of the limits that is reserved, above 0 and at most 1.
        scratch_bytes: size of temporary folders, together with what the container writes.
        stop_grace: longest time a pod gets to end, in seconds.
        priority_class: of the pods; empty for none.
        node_selector: labels of nodes.
        tolerations: as in a pod's specification.
        connect_seconds, read_seconds: for one request to the API server.
        keep_logs: how many ended runs' logs are kept.
        on_step: told the name of each step of a start or a deletion, for tracing.
    """

    kubeconfig: Path | None = None
    instance: str = "slipway"
    layout: Layout = "own"
    namespace: str = ""
    lease_namespace: str = ""
    prefix: str = "ws-"
    image: str = ""
    pull_credentials: Path | None = None
    ide_image: str = ""
    delivery: Delivery = "auto"
    command: tuple[str, ...] = ("/opt/slipway/bin/agent",)
    platform_url: str = ""
    door_port: int = 7411
    gateway: Peer = Peer()
    platform: Peer = Peer()
    dns: Peer = KUBE_DNS
    dev_api: Peer = Peer()
    dev_api_ports: tuple[int, ...] = (443,)
    egress: Egress = "internet"
    allowed: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    storage_class: str = ""
    volume_bytes: int = 10 * GIB
    snapshot_class: str = ""
    backup: Backup | None = None
    user: int = 1000
    host_users: bool | None = None
    read_only_root: bool = True
    request_share: float = 0.25
    scratch_bytes: int = 4 * GIB
    stop_grace: int = 30
    priority_class: str = ""
    node_selector: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    connect_seconds: float = 3.0
    read_seconds: float = 10.0
    keep_logs: int = 3
    on_step: Callable[[str], None] = _nothing

    def __post_init__(self) -> None:
        for field, choices in (("layout", Layout), ("delivery", Delivery), ("egress", Egress)):
            if getattr(self, field) not in get_args(choices):
                raise _invalid(f"`{field}` is one of {get_args(choices)}.")
        if (self.layout == "shared") != bool(self.namespace):
            raise _invalid("`namespace` belongs to the layout `shared`, and to no other.")
        if not self.image:
            raise _invalid("`image` is missing.")
        if self.user < 1:
            raise _invalid("`user` must be above 0: workspaces never run as root.")
        if not 0 < self.request_share <= 1:
            raise _invalid("`request_share` must be above 0 and at most 1.")
        for network in self._networks():
            check_network(network)

    def _networks(self) -> list[str]:
        peers = [
            self.gateway,
            self.platform,
            self.dns,
            self.dev_api,
            *([self.backup.network] if self.backup is not None else []),
        ]
        return [*self.allowed, *self.closed, *(network for peer in peers for network in peer.networks)]


def check_network(text: str) -> None:
    """Whether this is a CIDR block.

    Raises:
        PlatformFault: it is not.
    """
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise _invalid(f"{text!r} is not a CIDR block.") from error


_SCHEMA = json.loads(Path(__file__).with_name("options.schema.json").read_text(encoding="utf-8"))
_PATHS = {"kubeconfig", "pull_credentials", "credentials", "authority"}
_TUPLES = {"command", "allowed", "closed", "tolerations", "dev_api_ports"}
_PEERS = {"gateway", "platform", "dns", "dev_api", "network"}


def read_options(options: Mapping[str, Any]) -> K8sConfig:
    """A config from plain values, as they stand in JSON or YAML; `options.schema.json` says which.

    Raises:
        PlatformFault: an option is unknown, missing or makes no sense; the log text says which.
    """
    wrong = best_match(Draft202012Validator(_SCHEMA).iter_errors(options))
    if wrong is not None:
        where = ".".join(str(step) for step in wrong.absolute_path)
        raise _invalid(f"{f'`{where}`: ' if where else ''}{wrong.message}")
    return K8sConfig(**{key: _value(key, value) for key, value in options.items()})


def _value(key: str, value: Any) -> Any:
    if key in _PATHS:
        return Path(value) if value else None
    if key in _TUPLES:
        return tuple(value)
    if key in _PEERS:
        return Peer(**{**value, "networks": tuple(value.get("networks", ()))})
    if key == "backup" and value is not None:
        return Backup(**{name: _value(name, part) for name, part in value.items()})
    return value


def _invalid(detail: str) -> PlatformFault:
    return PlatformFault(
        "runtime_misconfigured",
        "Workspaces cannot run here: the Kubernetes runtime is not set up correctly.",
        "Ask the operator to correct the runtime's settings.",
        log_text=detail,
    )
