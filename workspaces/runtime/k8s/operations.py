"""The operator's side of the adapter: its watches, its lead, and what is left of workspaces that are no more."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from pathlib import Path

import structlog

from workspaces.runtime.k8s.client import Cluster, Object, Refusal, Timeouts
from workspaces.runtime.k8s.concerns import is_busy_job, workspace_of
from workspaces.runtime.k8s.config import K8sConfig
from workspaces.runtime.k8s.lease import Leadership
from workspaces.runtime.k8s.leftovers import Keeper, Leftovers
from workspaces.runtime.k8s.names import INSTANCE, selector
from workspaces.runtime.k8s.watching import DEAF_AFTER, SILENCE, RelistReason, Selection, Watch
from workspaces.runtime.operating import Found, Told, WatchState

log = structlog.get_logger(__name__)

# Where a pod reads which namespace it is in.
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
# Shorter than for other work: a renewal that hangs must end before the lead is another's.
_LEASE_TIMEOUTS = Timeouts(2, 4)
_STOP_SECONDS = 3.0


@dataclasses.dataclass(frozen=True, slots=True)
class Patience:
    """How long a watch may hear nothing, in seconds: until its stream counts as broken, and until it counts as deaf."""

    silence: float = SILENCE
    deaf_after: float = DEAF_AFTER


class K8sOperations:
    """See `workspaces.runtime.operating.Operations`.

    Args:
        config: where and whose.
        runtime: the adapter.
        identity: of this process.
        told: is told of changes, once everything was listed for the first time: what is found then is no news.
        patience: with a silent server.
    """

    def __init__(
        self, config: K8sConfig, runtime: Keeper, identity: str, told: Told, *, patience: Patience | None = None
    ) -> None:
        self._config = config
        self._told = told
        cluster = Cluster(config.kubeconfig, Timeouts(config.connect_seconds, config.read_seconds))
        self._leftovers = Leftovers(cluster, config, runtime)
        self._leadership = Leadership(
            Cluster(config.kubeconfig, _LEASE_TIMEOUTS),
            lease_namespace(config),
            f"{config.instance}-operator",
            identity,
        )
        self.lease_refused = ""
        chosen = patience or Patience()
        self._watches = {
            selection.kind: Watch(
                cluster,
                selection,
                self,
                concerns=_Concern(config, selection.kind),
                silence=chosen.silence,
                deaf_after=chosen.deaf_after,
            )
            for selection in selections(config)
        }
        self._threads = {
            kind: threading.Thread(target=watch.run, name=f"watch-{kind}", daemon=True)
            for kind, watch in self._watches.items()
        }

    @property
    def leads(self) -> bool:
        """See `Operations`."""
        return self._leadership.leads

    def start(self) -> None:
        """See `Operations`."""
        for thread in self._threads.values():
            thread.start()

    def stop(self) -> None:
        """See `Operations`."""
        for watch in self._watches.values():
            watch.stop()
        for thread in self._threads.values():
            thread.join(_STOP_SECONDS)

    def watches(self) -> Sequence[WatchState]:
        """See `Operations`."""
        return [
            WatchState(
                kind,
                synced=watch.synced.is_set(),
                alive=self._threads[kind].is_alive(),
                deaf=watch.deaf,
                age=watch.age,
                refused=watch.refused,
            )
            for kind, watch in self._watches.items()
        ]

    def hold(self) -> bool:
        """See `Operations`."""
        try:
            self._leadership.hold()
            self.lease_refused = ""
        except Refusal as refusal:
            self.lease_refused = str(refusal)
            log.error("lease_refused", detail=self.lease_refused)  # noqa: TRY400 - The words say it all.
        return self.leads

    def release(self) -> None:
        """See `Operations`."""
        self._leadership.release()

    def survey(self) -> list[Found]:
        """See `Operations`."""
        return self._leftovers.survey()

    def mark(self, name: str, seconds: float | None) -> None:
        """See `Operations`."""
        self._leftovers.mark(name, seconds)

    def clear(self, name: str) -> bool:
        """See `Operations`."""
        return self._leftovers.clear(name)

    def changed(self, kind: str, found: Object) -> None:
        """A watch's word; see `watching.Ears`."""
        name = workspace_of(self._config, kind, found)
        if name is None or not self._watches[kind].synced.is_set():
            return
        if kind == "Event":
            self._told.said(name)
        else:
            self._told.changed(name)

    def listed(self, kind: str, reason: RelistReason, count: int) -> None:
        """A watch's word; see `watching.Ears`."""
        self._told.listed(kind, reason, count)

    def heard(self, kind: str, age: float) -> None:
        """A watch's word; see `watching.Ears`."""
        self._told.heard(kind, age)


@dataclasses.dataclass(frozen=True, slots=True)
class _Concern:
    """Whether an object of a kind is about a workspace, and says something that its worker may wait for."""

    config: K8sConfig
    kind: str

    def __call__(self, found: Object) -> bool:
        return workspace_of(self.config, self.kind, found) is not None and not is_busy_job(self.kind, found)


def selections(config: K8sConfig) -> list[Selection]:
    """What is watched. A shared namespace is its admin's, and not looked at itself."""
    ours = selector(config)
    chosen = [
        # Jobs too, which have another label in the place of the workspace's.
        Selection("Pod", config.namespace, labels=f"{INSTANCE}={config.instance}"),
        Selection("PersistentVolumeClaim", config.namespace, labels=ours),
        Selection("Event", config.namespace),
    ]
    return chosen if config.layout == "shared" else [*chosen, Selection("Namespace", labels=ours)]


def lease_namespace(config: K8sConfig) -> str:
    """Where the Lease is: as configured, else in this pod's namespace, else in the shared one, else in `default`."""
    if config.lease_namespace:
        return config.lease_namespace
    if config.kubeconfig is None and _OWN_NAMESPACE.is_file():
        return _OWN_NAMESPACE.read_text(encoding="utf-8").strip()
    return config.namespace or "default"
