"""Which of several processes leads: held in a Lease, judged by what this process saw change, not by anybody's clock.

The client library's own election cannot be ended in order, and compares wall clocks; hence this one.
https://kubernetes.io/docs/concepts/architecture/leases/
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from workspaces.runtime.errors import ClusterFault
from workspaces.runtime.k8s.client import Cluster, Object, Refusal

log = structlog.get_logger(__name__)

DURATION = 15.0
"""Seconds after its last renewal for which a leader is left in peace."""


class Leadership:
    """One candidate. Call `hold` every few seconds.

    Args:
        cluster, namespace, name: where the Lease is.
        identity: of this process; no two may have the same.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        name: str,
        identity: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._clock = clock
        self._seen_version = ""
        self._seen_at = 0.0
        self._renewed_at: float | None = None

    @property
    def leads(self) -> bool:
        """Whether this process may still call itself the leader.

        It stops doing so well before anybody else may start: what takes long asks again on the way.
        """
        return self._renewed_at is not None and self._clock() - self._renewed_at < DURATION * 2 / 3

    def hold(self) -> bool:
        """Take the lead if it is free, or keep it. Says whether this process leads."""
        asked = self._clock()
        try:
            if self._try():
                # Counted from before the question, as the others count from when they saw the answer.
                self._renewed_at = asked
        except Refusal as refusal:
            # Somebody else changed or made it between our look and our word.
            log.info("lease_lost_race", reason=refusal.reason)
            if refusal.status in {401, 403}:
                raise
        except ClusterFault as fault:
            log.warning("lease_unknown", detail=fault.log_text)
        return self.leads

    def release(self) -> None:
        """Step down, so that nobody has to wait for the time to run out."""
        was_leading, self._renewed_at = self.leads, None
        if not was_leading:
            return
        try:
            found = self._cluster.get("Lease", self._namespace, self._name)
            if found is not None and found["spec"].get("holderIdentity") == self._identity:
                found["spec"]["holderIdentity"] = ""
                self._cluster.replace(found)
        except (Refusal, ClusterFault) as error:
            log.warning("lease_not_released", detail=str(error))

    def _try(self) -> bool:
        found = self._cluster.get("Lease", self._namespace, self._name)
        if found is None:
            self._cluster.create(self._lease({}, transitions=0))
            log.info("lease_taken", identity=self._identity)
            return True
        holder = found["spec"].get("holderIdentity") or ""
        if holder == self._identity:
            self._cluster.replace(self._lease(found, transitions=int(found["spec"].get("leaseTransitions") or 0)))
            return True
        if holder and not self._is_abandoned(found):
            return False
        self._cluster.replace(self._lease(found, transitions=int(found["spec"].get("leaseTransitions") or 0) + 1))
        log.info("lease_taken", identity=self._identity, from_whom=holder)
        return True

    def _is_abandoned(self, found: Object) -> bool:
        """Whether nobody renewed it for its whole duration, as measured here since it was last seen to change."""
        version, now = found["metadata"]["resourceVersion"], self._clock()
        if version != self._seen_version:
            self._seen_version, self._seen_at = version, now
        return now - self._seen_at > float(found["spec"].get("leaseDurationSeconds") or DURATION)

    def _lease(self, found: Object, *, transitions: int) -> Object:
        """The Lease with our name on it; with the version that was read, so that of two who write only one wins."""
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        old = found.get("spec", {})
        ours = old.get("holderIdentity") == self._identity
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(DURATION),
            "acquireTime": old["acquireTime"] if ours and "acquireTime" in old else now,
            "renewTime": now,
            "leaseTransitions": transitions,
        }
        meta = {"name": self._name, "namespace": self._namespace}
        if found:
            meta["resourceVersion"] = found["metadata"]["resourceVersion"]
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
