"""The only module that speaks to the API server: the official client's connection, and plain JSON through it.

What the server says no to is a `Refusal`; when it says nothing, or cannot answer now, that is a `ClusterFault`.
https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import urllib3
from kubernetes import config as kubernetes_config
from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException
from prometheus_client import Histogram

from workspaces.runtime.errors import ClusterFault, PlatformFault

Object = dict[str, Any]
FIELD_MANAGER = "slipway"
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_LONGEST_MESSAGE = 2_000
_PAGE = 500
# Here and not with the other metrics, which know Django.
_REQUESTS = Histogram(
    "slipway_kubernetes_request_seconds",
    "Requests to the API server until its answer begins; of a watch, until the stream begins.",
    ["method", "kind", "answer"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
# Where each kind lives: the group's path, the plural, and whether it is in a namespace.
_KINDS = {
    "Namespace": ("/api/v1", "namespaces", False),
    "Node": ("/api/v1", "nodes", False),
    "Pod": ("/api/v1", "pods", True),
    "PersistentVolumeClaim": ("/api/v1", "persistentvolumeclaims", True),
    "Secret": ("/api/v1", "secrets", True),
    "ConfigMap": ("/api/v1", "configmaps", True),
    "ServiceAccount": ("/api/v1", "serviceaccounts", True),
    "ResourceQuota": ("/api/v1", "resourcequotas", True),
    "LimitRange": ("/api/v1", "limitranges", True),
    "Event": ("/api/v1", "events", True),
    "Role": ("/apis/rbac.authorization.k8s.io/v1", "roles", True),
    "RoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "rolebindings", True),
    "NetworkPolicy": ("/apis/networking.k8s.io/v1", "networkpolicies", True),
    "VolumeSnapshot": ("/apis/snapshot.storage.k8s.io/v1", "volumesnapshots", True),
    "Lease": ("/apis/coordination.k8s.io/v1", "leases", True),
}
_PLURALS = {plural: kind for kind, (_, plural, _) in _KINDS.items()}


class Refusal(Exception):
    """The API server understood and said no.

    Attributes:
        status: HTTP status, 400 to 499 but 408 and 429.
        reason: the server's own word, such as "NotFound", "AlreadyExists", "Forbidden", "Expired".
        message: its sentence.
        causes: further words, such as "NamespaceTerminating".
    """

    def __init__(self, status: int, reason: str, message: str, causes: tuple[str, ...] = ()) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.causes = causes

    @property
    def not_found(self) -> bool:
        """There is no such object."""
        return self.status == 404

    @property
    def already_exists(self) -> bool:
        """An object of this name is there."""
        return self.reason == "AlreadyExists"


def _ignore(_: Callable[[], None]) -> None:
    """For who never cuts a stream off."""


def path_of(kind: str, namespace: str = "", name: str = "") -> str:
    """The address of an object, or of a collection: all namespaces' when none is named."""
    group, plural, namespaced = _KINDS[kind]
    parts = [group]
    if namespaced and namespace:
        parts += ["namespaces", quote(namespace, safe="")]
    parts.append(plural)
    if name:
        parts.append(quote(name, safe=""))
    return "/".join(parts)


def kind_at(path: str) -> str:
    """What an address is about: one of the kinds above, or "other"."""
    parts = path.strip("/").split("/")
    after = parts[2 if parts[0] == "api" else 3 :]
    plural = after[2] if len(after) > 2 and after[0] == "namespaces" else "".join(after[:1])
    return _PLURALS.get(plural, "other")


@dataclasses.dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for connecting, and for each silence while reading."""

    connect: float
    read: float


class Cluster:
    """A connection to one API server. Safe to use from several threads.

    Args:
        kubeconfig: its path; None: the service account of the pod that this process runs in.
        timeouts: for one request.
    """

    def __init__(self, kubeconfig: Path | None, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        settings = Configuration()
        try:
            if kubeconfig is None:
                kubernetes_config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
            else:
                kubernetes_config.load_kube_config(str(kubeconfig), client_configuration=settings)  # type: ignore[no-untyped-call]
        except kubernetes_config.ConfigException as error:
            raise PlatformFault(
                "runtime_misconfigured",
                "Workspaces cannot run here: Slipway does not know its cluster.",
                "Ask the operator to correct the runtime's settings.",
                log_text=f"kubeconfig: {error}",
            ) from error
        # Whether to try again is decided above, where it is known what the request meant.
        settings.retries = urllib3.Retry(0, redirect=0)
        settings.connection_pool_maxsize = 16
        self._api = ApiClient(settings)

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """The object; None when it is not there."""
        try:
            return self._json("GET", path_of(kind, namespace, name))
        except Refusal as refusal:
            if refusal.not_found:
                return None
            raise

    def page(self, kind: str, namespace: str = "", **query: str | int) -> Object:
        """A collection as the server gives it, with `items` and `metadata`.

        Args:
            query: such as labelSelector, fieldSelector, resourceVersion, limit.
        """
        return self._json("GET", path_of(kind, namespace), query=query)

    def all(self, kind: str, namespace: str = "", **query: str | int) -> Iterator[Object]:
        """Every object of a collection, page by page: no answer is larger than a page."""
        more = ""
        while True:
            page = self.page(kind, namespace, limit=_PAGE, **query, **({"continue": more} if more else {}))
            yield from page["items"]
            more = page["metadata"].get("continue", "")
            if not more:
                return

    def create(self, manifest: Object, *, trial: bool = False) -> Object:
        """A new object; for trial, what it would be, and nothing is kept.

        Raises:
            Refusal: `already_exists`, or something else is wrong with it.
        """
        address = path_of(manifest["kind"], manifest["metadata"].get("namespace", ""))
        query = {"fieldManager": FIELD_MANAGER, **({"dryRun": "All"} if trial else {})}
        return self._json("POST", address, body=manifest, query=query)

    def apply(self, manifest: Object) -> Object:
        """Make an object have these fields, whether it exists or not (server-side apply).

        Fields that others have set stay, unless these are the same ones: then ours win.
        """
        meta = manifest["metadata"]
        address = path_of(manifest["kind"], meta.get("namespace", ""), meta["name"])
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return self._json("PATCH", address, body=manifest, query=query, content_type=_APPLY)

    def patch(self, kind: str, namespace: str, name: str, change: Object) -> Object:
        """Change some fields (RFC 7396); with `metadata.resourceVersion` only if nobody else changed the object."""
        return self._json("PATCH", path_of(kind, namespace, name), body=change, content_type=_MERGE)

    def replace(self, manifest: Object) -> Object:
        """Put an object in the place of the one whose `metadata.resourceVersion` it carries."""
        meta = manifest["metadata"]
        return self._json("PUT", path_of(manifest["kind"], meta.get("namespace", ""), meta["name"]), body=manifest)

    def delete(
        self, kind: str, namespace: str, name: str, *, uid: str, grace: int | None = None, forget: bool = False
    ) -> None:
        """Ask for the deletion of exactly this object; already gone, or replaced by another, is fine.

        Args:
            uid: of the object that was looked at.
            grace: seconds that a pod gets to end, at least 1; its own when None.
            forget: do not wait for a pod's machine to say that it ended. It may still run there, and write.
        """
        options: Object = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        if grace is not None:
            options["gracePeriodSeconds"] = max(1, grace)
        if forget:
            options["gracePeriodSeconds"] = 0
        try:
            self._json("DELETE", path_of(kind, namespace, name), body=options)
        except Refusal as refusal:
            if not refusal.not_found and refusal.status != 409:
                raise

    def delete_all(self, kind: str, namespace: str, *, labels: str) -> None:
        """Ask for the deletion of all objects of a kind in a namespace that have these labels, unread."""
        self._json("DELETE", path_of(kind, namespace), query={"labelSelector": labels}, body={})

    def issue_token(self, namespace: str, account: str, *, seconds: int, audiences: Sequence[str] = ()) -> Object:
        """A TokenRequest for a service account, answered: `status.token`, good for `spec.expirationSeconds`.

        Args:
            seconds: asked for, at least 600; the server may decide otherwise.
            audiences: whom it is for; none: the API server itself.
        """
        spec = {"expirationSeconds": seconds, **({"audiences": list(audiences)} if audiences else {})}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        return self._json("POST", f"{path_of('ServiceAccount', namespace, account)}/token", body=body)

    def logs(self, namespace: str, pod: str, container: str, *, limit: int) -> bytes:
        """The last bytes of what a container wrote; empty when it has not begun, or is gone."""
        # The server counts `limitBytes` from the beginning of what it sends, so the tail is cut here.
        query: dict[str, str | int] = {"container": container, "tailLines": 20_000}
        try:
            answer = self._request("GET", f"{path_of('Pod', namespace, pod)}/log", query=query)
        except Refusal as refusal:
            if refusal.status in {400, 404}:
                return b""
            raise
        kept = b""
        for piece in answer.response.stream(65_536):
            kept = (kept + piece)[-limit - 1 :]
        return kept if len(kept) <= limit else kept[kept.find(b"\n") + 1 :]

    def watch(
        self,
        kind: str,
        namespace: str = "",
        *,
        version: str,
        seconds: int,
        silence: float,
        opened: Callable[[Callable[[], None]], None] = _ignore,
        **query: str,
    ) -> Iterator[Object]:
        """Changes since a version, as `{"type", "object"}`; ends by itself after `seconds`.

        Args:
            opened: is given what cuts the stream off from another thread; the one that reads then gets a ClusterFault.

        Raises:
            Refusal: "Expired" or "Gone": list again.
            ClusterFault: nothing came for `silence` seconds, not even a bookmark, or the connection broke.
        """
        bounds: dict[str, str | int] = {"resourceVersion": version, "timeoutSeconds": seconds}
        all_query = {"watch": "true", "allowWatchBookmarks": "true", **bounds, **query}
        answer = self._request("GET", path_of(kind, namespace), query=all_query, silence=silence)
        opened(answer.response.shutdown)
        buffer = b""
        try:
            for piece in answer.response.stream(65_536):
                *lines, buffer = (buffer + piece).split(b"\n")
                for line in lines:
                    yield _event(json.loads(line))
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _away("watch", repr(error)) from error
        finally:
            answer.response.close()

    def knows(self, kind: str) -> bool:
        """Whether the cluster has this kind at all; some are added by who provides storage, say."""
        group, plural, _ = _KINDS[kind]
        try:
            found = self._json("GET", group)
        except Refusal as refusal:
            if refusal.not_found:
                return False
            raise
        return any(one.get("name") == plural for one in found.get("resources", []))

    def raw(self, path: str) -> Object:
        """GET of any address, such as `/version`."""
        return self._json("GET", path)

    def _json(
        self,
        method: str,
        path: str,
        *,
        body: Object | None = None,
        query: Mapping[str, str | int] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        answer = self._request(method, path, body=body, query=query, content_type=content_type)
        try:
            document: Object = json.loads(answer.read())
        except (ValueError, urllib3.exceptions.HTTPError, OSError) as error:
            raise _away(f"{method} {path}", repr(error)) from error
        return document

    def _request(
        self,
        method: str,
        path: str,
        *,
        body: Object | None = None,
        query: Mapping[str, str | int] | None = None,
        content_type: str = "application/json",
        silence: float | None = None,
    ) -> Any:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type
        doing, kind = f"{method} {path}", kind_at(path)
        began = time.monotonic()
        try:
            prepared = self._api.param_serialize(
                method=method,
                resource_path=path,
                query_params=list((query or {}).items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            timeout = (self._timeouts.connect, silence or self._timeouts.read)
            answer = self._api.call_api(*prepared, _request_timeout=timeout)
        except (ApiException, urllib3.exceptions.HTTPError, OSError) as error:
            _REQUESTS.labels(method, kind, "none").observe(time.monotonic() - began)
            raise _away(doing, repr(error)) from error
        _REQUESTS.labels(method, kind, f"{answer.status // 100}xx").observe(time.monotonic() - began)
        if answer.status >= 400:
            raise _refused(doing, answer)
        return answer


def _event(document: Object) -> Object:
    if document.get("type") == "ERROR":
        status = document.get("object", {})
        raise Refusal(int(status.get("code", 0)), str(status.get("reason", "")), str(status.get("message", "")))
    return document


def _refused(doing: str, answer: Any) -> Exception:
    try:
        status = json.loads(answer.read())
    except (ValueError, urllib3.exceptions.HTTPError, OSError):
        status = {}
    message = str(status.get("message", ""))[:_LONGEST_MESSAGE]
    if answer.status in {408, 429} or answer.status >= 500:
        return _away(doing, f"{answer.status} {message}", _seconds(answer.getheader("Retry-After")))
    causes = tuple(str(cause.get("reason", "")) for cause in (status.get("details") or {}).get("causes") or ())
    return Refusal(answer.status, str(status.get("reason", "")), message, causes)


def _seconds(text: str | None) -> float | None:
    return min(float(text), 300.0) if text and text.isdigit() else None


def _away(doing: str, detail: str, retry_after: float | None = None) -> ClusterFault:
    return ClusterFault(
        "cluster_away",
        "The cluster that runs workspaces does not answer.",
        "Wait a moment; Slipway tries again by itself. Nothing is stopped or lost meanwhile.",
        log_text=f"{doing}: {detail}",
        retry_after=retry_after,
    )
