"""Namespaces and tokens in a dev cluster: each operation a few requests to its API server that may be repeated."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from workspaces.runtime.devcluster import Grant, Terms, Token
from workspaces.runtime.errors import Failure
from workspaces.runtime.k8s.client import Cluster, Object, Timeouts
from workspaces.runtime.k8s.devcluster import faults, manifests
from workspaces.runtime.k8s.devcluster.config import DevConfig, invalid
from workspaces.runtime.k8s.devcluster.manifests import DIGEST, INSTANCE, RUN, WORKSPACE, DevPlace

log = structlog.get_logger(__name__)

# The binding first: without rights at once, however long a server remembers that it knows a token.
_ACCESS = ("RoleBinding", "ServiceAccount")


class K8sDevCluster:
    """The port's `DevCluster`; see `DevConfig`. Safe to use from threads and processes at once.

    Nothing is remembered here: the names of all objects follow from the workspace's, and labels say whose they are.

    Raises:
        PlatformFault: "dev_cluster_misconfigured".
    """

    def __init__(self, config: DevConfig) -> None:
        self._config = config
        self._trusted = config.trusted()
        try:
            self._cluster = Cluster(config.kubeconfig, Timeouts(config.connect_seconds, config.read_seconds))
        except Failure as failure:
            raise invalid(failure.log_text) from failure

    def terms(self, name: str) -> Terms:
        """See the port."""
        return Terms(self._config.server, self._trusted, manifests.place(self._config, name).namespace)

    def issue_token(self, name: str, run: int) -> Token:
        """See the port.

        Most of the time everything is there, and three requests do: a workspace asks again and again.
        """
        at = manifests.place(self._config, name)
        with faults.translated(f"issue_token {name} {run}"):
            found = self._namespace(at)
            if found is None or not self._is_complete(at, run):
                self._make(at, run)
            given = self._cluster.issue_token(
                at.namespace, at.run_name(run), seconds=self._config.token_seconds, audiences=self._config.audiences
            )
        # The server's word: it may give less than was asked for, or more.
        return Token(given["status"]["token"], int(given["spec"]["expirationSeconds"]))

    def revoke(self, name: str, *, through: int) -> None:
        """See the port."""
        at = manifests.place(self._config, name)
        with faults.translated(f"revoke {name} {through}"):
            if self._is_ours(self._cluster.get("Namespace", "", at.namespace), at):
                self._end_access(at, lambda run: run <= through)

    def destroy(self, name: str) -> None:
        """See the port."""
        at = manifests.place(self._config, name)
        with faults.translated(f"destroy {name}"):
            found = self._cluster.get("Namespace", "", at.namespace)
            if found is None or not self._is_ours(found, at) or "deletionTimestamp" in found["metadata"]:
                return
            self._cluster.delete("Namespace", "", at.namespace, uid=found["metadata"]["uid"])
            log.info("dev_namespace_deleted", workspace=name, namespace=at.namespace)

    def grants(self) -> list[Grant]:
        """See the port."""
        chosen = f"{manifests.selector(self._config)},{RUN}"
        with faults.translated("grants"):
            found = {
                Grant(_workspace_of(owned), run)
                for kind in _ACCESS
                for owned in self._cluster.all(kind, labelSelector=chosen)
                if (run := _run_of(owned)) is not None and self._is_in_place(owned)
            }
        return sorted(found, key=lambda grant: (grant.workspace, grant.run))

    def namespaces(self) -> list[str]:
        """See the port."""
        with faults.translated("namespaces"):
            found = self._cluster.all("Namespace", labelSelector=manifests.selector(self._config))
            return sorted(_workspace_of(one) for one in found if "deletionTimestamp" not in one["metadata"])

    def _namespace(self, at: DevPlace) -> Object | None:
        found = self._cluster.get("Namespace", "", at.namespace)
        if found is not None and not self._is_ours(found, at):
            raise faults.foreign(at.namespace)
        if found is not None and "deletionTimestamp" in found["metadata"]:
            raise faults.ending(at.namespace)
        return found

    def _is_ours(self, found: Object | None, at: DevPlace) -> bool:
        labels = found["metadata"].get("labels", {}) if found is not None else {}
        return bool(labels.get(INSTANCE) == at.instance and labels.get(WORKSPACE) == at.workspace)

    def _is_in_place(self, owned: Object) -> bool:
        """Whether it is where objects of its workspace are: developers may label what they make as they like."""
        return str(owned["metadata"]["namespace"]) == f"{self._config.prefix}{_workspace_of(owned)}"

    def _is_complete(self, at: DevPlace, run: int) -> bool:
        """Whether all that the settings ask for was made for this run."""
        found = self._cluster.get("ServiceAccount", at.namespace, at.run_name(run))
        annotations = found["metadata"].get("annotations", {}) if found is not None else {}
        return bool(annotations.get(DIGEST) == manifests.digest(self._config, at))

    def _make(self, at: DevPlace, run: int) -> None:
        """Walls first, the account last: nobody has access before all of them stand."""
        self._cluster.apply(manifests.namespace(self._config, at))
        self._end_access(at, lambda other: other < run)
        wanted = manifests.walls(self._config, at)
        for manifest in wanted:
            self._cluster.apply(manifest)
        self._forget_others(at, wanted)
        self._bind(at, run)
        self._cluster.apply(manifests.account(self._config, at, run))
        log.info("dev_namespace_made", workspace=at.workspace, namespace=at.namespace, run=run)

    def _bind(self, at: DevPlace, run: int) -> None:
        """A binding cannot be changed to another role: one that was made under other settings gives way."""
        wanted = manifests.binding(self._config, at, run)
        there = self._cluster.get("RoleBinding", at.namespace, at.run_name(run))
        if there is not None and there["roleRef"] != wanted["roleRef"]:
            self._cluster.delete("RoleBinding", at.namespace, at.run_name(run), uid=there["metadata"]["uid"])
        self._cluster.apply(wanted)

    def _forget_others(self, at: DevPlace, wanted: list[Object]) -> None:
        """Take away what the settings asked for once and do not any more."""
        kept = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in wanted}
        for kind in ("NetworkPolicy", "ResourceQuota", "LimitRange"):
            for old in self._cluster.all(kind, at.namespace, labelSelector=manifests.selector(self._config)):
                meta = old["metadata"]
                if (kind, meta["name"]) not in kept:
                    self._cluster.delete(kind, at.namespace, meta["name"], uid=meta["uid"])

    def _end_access(self, at: DevPlace, over: Callable[[int], bool]) -> None:
        chosen = f"{manifests.selector(self._config)},{RUN}"
        for kind in _ACCESS:
            for owned in self._cluster.all(kind, at.namespace, labelSelector=chosen):
                run, meta = _run_of(owned), owned["metadata"]
                if run is None or over(run):
                    self._cluster.delete(kind, at.namespace, meta["name"], uid=meta["uid"])
                    log.info("dev_access_ended", workspace=at.workspace, run=run, kind=kind)


def _workspace_of(owned: Object) -> str:
    return str(owned["metadata"]["labels"][WORKSPACE])


def _run_of(owned: Object) -> int | None:
    text = owned["metadata"].get("labels", {}).get(RUN, "")
    return int(text) if text.isdecimal() and len(text) < 12 else None
