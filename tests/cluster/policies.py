"""NetworkPolicies of a node with routed pods, as rules of nftables: pure functions of what the API says.

The node itself always reaches its pods, for their probes; this machine is somebody from outside. A pod that the rules
do not know reaches nobody, and nobody it. Connections that stand are not cut by a new policy.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

TABLE = "inet slipway_policies"
Labels = dict[str, str]
Json = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """What policies look at: a pod on the pod network, with its addresses."""

    namespace: str
    labels: Labels
    addresses: tuple[str, ...]
    ports: tuple[tuple[str, str, int], ...]  # Name, protocol, number.

    @classmethod
    def read(cls, found: Json) -> Pod | None:
        """None for one that has no address, not any more, or the node's."""
        spec, status, metadata = found["spec"], found.get("status", {}), found["metadata"]
        addresses = tuple(entry["ip"] for entry in status.get("podIPs") or [])
        if not addresses or spec.get("hostNetwork") or status.get("phase") in {"Succeeded", "Failed"}:
            return None
        ports = tuple(
            (port["name"], port.get("protocol", "TCP"), port["containerPort"])
            for container in spec["containers"] + spec.get("initContainers", [])
            for port in container.get("ports") or []
            if "name" in port
        )
        return cls(metadata["namespace"], metadata.get("labels") or {}, addresses, ports)


@dataclass(frozen=True)
class Direction:
    """One of both ways, in the words of the API and of nftables."""

    name: str
    peers: str
    mine: str
    theirs: str


DIRECTIONS = (Direction("ingress", "from", "daddr", "saddr"), Direction("egress", "to", "saddr", "daddr"))


def matches(selector: Json, labels: Labels) -> bool:
    """Whether a LabelSelector selects these labels; the empty one selects all."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(wanted, labels) for wanted in selector.get("matchExpressions") or [])


def _holds(wanted: Json, labels: Labels) -> bool:
    key, values = wanted["key"], wanted.get("values") or []
    match wanted["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case _:
            return key not in labels


def _family(address: str) -> str:
    return "ip6" if ipaddress.ip_network(address, strict=False).version == 6 else "ip"


def _addresses(pods: Iterable[Pod], end: str) -> list[str]:
    """Matches for the addresses of pods at one end: at most one for each family."""
    families: dict[str, set[str]] = {}
    for address in (address for pod in pods for address in pod.addresses):
        families.setdefault(_family(address), set()).add(address)
    return [f"{family} {end} {{ {', '.join(sorted(found))} }}" for family, found in sorted(families.items())]


class _Rules:
    """The rules of one direction."""

    def __init__(self, direction: Direction, pods: list[Pod], namespaces: dict[str, Labels]) -> None:
        self.direction = direction
        self._pods = pods
        self._namespaces = namespaces
        self.isolated: list[Pod] = []
        self.lines: list[str] = []

    def add(self, policy: Json) -> None:
        """Isolate what a policy selects, except for what it allows."""
        spec, namespace = policy["spec"], policy["metadata"]["namespace"]
        name = self.direction.name
        types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]
        if name.capitalize() not in types:
            return
        selector = spec.get("podSelector") or {}
        selected = [pod for pod in self._pods if pod.namespace == namespace and matches(selector, pod.labels)]
        self.isolated += selected
        for rule in spec.get(name) or []:
            for peer in self._peers(rule, namespace):
                for port in rule.get("ports") or [{}]:
                    for mine, where in self._ports(port, selected):
                        self.lines += [_line(own, peer, where) for own in mine if _same_family(own, peer, where)]

    def _peers(self, rule: Json, namespace: str) -> Iterator[str]:
        """Matches for who is at the other end; the empty one for everybody."""
        if not rule.get(self.direction.peers):
            yield ""
        for peer in rule.get(self.direction.peers) or []:
            if block := peer.get("ipBlock"):
                end = f"{_family(block['cidr'])} {self.direction.theirs}"
                yield " ".join([f"{end} {block['cidr']}", *(f"{end} != {cidr}" for cidr in block.get("except") or [])])
            else:
                yield from _addresses(self._selected(peer, namespace), self.direction.theirs)

    def _selected(self, peer: Json, namespace: str) -> list[Pod]:
        spaces = {namespace}
        if "namespaceSelector" in peer:
            selector = peer["namespaceSelector"]
            spaces = {name for name, labels in self._namespaces.items() if matches(selector, labels)}
        selector = peer.get("podSelector") or {}
        return [pod for pod in self._pods if pod.namespace in spaces and matches(selector, pod.labels)]

    def _ports(self, port: Json, selected: list[Pod]) -> Iterator[tuple[list[str], str]]:
        """Matches for our end, each with one for the port; a named port may differ from pod to pod."""
        mine, protocol, wanted = (
            _addresses(selected, self.direction.mine),
            port.get("protocol", "TCP"),
            port.get("port"),
        )
        if not port:
            yield mine, ""
        elif wanted is None:
            yield mine, f"meta l4proto {protocol.lower()}"
        elif isinstance(wanted, int):
            last = f"-{port['endPort']}" if "endPort" in port else ""
            yield mine, f"{protocol.lower()} dport {wanted}{last}"
        else:
            yield from self._named_port(wanted, protocol, selected)

    def _named_port(self, wanted: str, protocol: str, selected: list[Pod]) -> Iterator[tuple[list[str], str]]:
        ingress = self.direction.name == "ingress"
        for pod in selected if ingress else self._pods:
            numbers = [number for name, used, number in pod.ports if (name, used) == (wanted, protocol)]
            for number, its in ((number, its) for number in numbers for its in _addresses([pod], "daddr")):
                where = f"{protocol.lower()} dport {number}"
                yield ([its], where) if ingress else (_addresses(selected, self.direction.mine), f"{its} {where}")

    def jumps(self) -> list[str]:
        """Sends the traffic of isolated pods through the chain."""
        return [f"{match} jump {self.direction.name}" for match in _addresses(self.isolated, self.direction.mine)]

    def chain(self) -> str:
        """Returns what is allowed, and drops the rest."""
        allowed = [f"{line} return" for line in dict.fromkeys(self.lines)]
        return _chain(self.direction.name, [*allowed, "drop"])


def _same_family(*parts: str) -> bool:
    return len({word for part in parts for word in part.split() if word in {"ip", "ip6"}}) == 1


def _line(*parts: str) -> str:
    return " ".join(filter(None, parts))


def _chain(name: str, lines: Iterable[str]) -> str:
    return "\n".join([f"  chain {name} {{", *(f"    {line}" for line in lines), "  }"])


def _unknown(pods: list[Pod], network: str, end: str) -> str:
    """Drops what is of the pods' network and of no pod that is known."""
    family = _family(network)
    known = sorted({address for pod in pods for address in pod.addresses if _family(address) == family})
    others = f" {family} {end} != {{ {', '.join(known)} }}" if known else ""
    return f"{family} {end} {network}{others} drop"


def ruleset(pods: list[Json], namespaces: list[Json], policies: list[Json], *, network: str) -> str:
    """The whole table for nft; it replaces the one that is loaded, in one transaction.

    Args:
        pods: as the API lists them.
        namespaces: the same.
        policies: the same.
        network: where pods have their addresses.
    """
    labels = {found["metadata"]["name"]: found["metadata"].get("labels") or {} for found in namespaces}
    known = [pod for pod in map(Pod.read, pods) if pod]
    ingress, egress = (_Rules(direction, known, labels) for direction in DIRECTIONS)
    for policy in policies:
        ingress.add(policy)
        egress.add(policy)
    to, by = (_unknown(known, network, end) for end in ("daddr", "saddr"))
    standing = "ct state established,related accept"
    discovery = ["icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"]
    hook = "type filter hook {} priority filter - 5; policy accept;"
    chains = [
        ingress.chain(),
        egress.chain(),
        _chain("through", [hook.format("forward"), by, to, standing, *egress.jumps(), *ingress.jumps()]),
        _chain("to_node", [hook.format("input"), by, standing, *discovery, *egress.jumps()]),
    ]
    return "\n".join([f"table {TABLE}", f"delete table {TABLE}", f"table {TABLE} {{", *chains, "}", ""])
