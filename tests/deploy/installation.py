"""The chart installed by Helm on a real node, as an operator of Slipway does it, and how people reach it there."""

from __future__ import annotations

import base64
import json
import secrets
from typing import Any

import httpx
from typing_extensions import override

from deploy.images import build
from tests.cluster import images, network
from tests.cluster.node import Node
from tests.deploy.generated import CHART
from tests.deploy.helm import Helm
from tests.support.waiting import eventually

Json = dict[str, Any]

DOMAIN = "slipway.test"
RELEASE = "slipway"
SOCKET_SECONDS = 60


class Installation:
    """One release in a namespace of its own, under `restricted`.

    Args:
        node: where.
        helm: who installs it.
        database: address of PostgreSQL, as pods reach it.
        redis: the same of Redis.
        ports: where this machine serves what the platform needs: the git server, PostgreSQL, Redis.
    """

    def __init__(self, node: Node, helm: Helm, *, database: str, redis: str, ports: dict[str, int]) -> None:
        self.cluster = node.control_plane
        self.namespace = f"t{secrets.token_hex(4)}"
        self._helm = helm
        self._addresses = {"database": database, "redis": redis}
        here = {"ipBlock": {"cidr": f"{network.MACHINE}/32"}}
        self.values: Json = {
            "portalUrl": f"http://{DOMAIN}",
            "image": {"repository": build.reference("platform").rpartition(":")[0], "tag": "built"},
            "database": {"existingSecret": "addresses", "key": "database"},
            "redis": {"existingSecret": "addresses", "key": "redis"},
            "workspaces": {
                "image": images.WORKSPACE,
                "ide_image": images.IDE,
                "prefix": f"{self.namespace}-",
                "allowed": [f"{network.MACHINE}/32"],
                "closed": [network.PODS, network.SERVICES],
                "volume_bytes": 2**30,
            },
            "networkPolicy": {
                "repositoryPorts": [ports["git"]],
                "database": {"ports": [ports["database"]], "to": [here]},
                "redis": {"ports": [ports["redis"]], "to": [here]},
                "cluster": {"ports": [node.control_plane.port], "to": [here]},
            },
        }
        # Room for the pods of an upgrade beside those that are there, on a node of two cores: without it the platform's
        # pods would push the workspace out.
        for component in ("gateway", "web", "worker", "operator", "migration"):
            self.values[component] = {"resources": {"requests": {"cpu": "20m"}}}
        self.values["gateway"]["drainSocketSeconds"] = SOCKET_SECONDS
        self._token = ""

    def install(self, **changes: Any) -> None:
        """`helm install`, or `helm upgrade` with other values, until everything is ready."""
        if not self._token:
            labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
            secret = {name: base64.b64encode(value.encode()).decode() for name, value in self._addresses.items()}
            self.cluster.apply(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}},
                {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {"name": "addresses", "namespace": self.namespace},
                    "data": secret,
                },
            )
        values = {**self.values, **changes}
        options = ("--namespace", self.namespace, "--wait", "--timeout", "5m")
        command = ("upgrade", "--install", RELEASE, str(CHART), *options)
        self._helm.run(*command, values=values, kubeconfig=self.cluster.kubeconfig)

    def test(self) -> None:
        """`helm test`."""
        self._helm.run("test", RELEASE, "--namespace", self.namespace, kubeconfig=self.cluster.kubeconfig)

    def uninstall(self) -> None:
        """Remove the release, its namespace and its workspaces."""
        self._helm.run(
            *("uninstall", RELEASE, "--namespace", self.namespace, "--ignore-not-found"),
            kubeconfig=self.cluster.kubeconfig,
        )
        self.kubectl("delete", "namespace", self.namespace, "--wait=false")
        chosen = f"slipway.dev/instance={self.namespace}-{RELEASE}"
        self.kubectl("delete", "namespace", "--selector", chosen, "--wait=false")

    def kubectl(self, *arguments: str) -> str:
        """What kubectl prints in the release's namespace."""
        return self.cluster.kubectl("--namespace", self.namespace, *arguments)

    def manage(self, *arguments: str) -> str:
        """What a management command prints, run as the documents tell."""
        web = f"deployment/{RELEASE}-web"
        command = ("exec", web, "--container", "web", "--", "python", "manage.py", *arguments)
        return self.kubectl(*command).strip()

    @property
    def address(self) -> str:
        """The Service to which an ingress would lead."""
        return str(self.cluster.get("service", f"{RELEASE}-gateway", self.namespace)["spec"]["clusterIP"])

    def pods(self, component: str = "") -> list[Json]:
        """The platform's pods."""
        chosen = f"app.kubernetes.io/component={component}" if component else ""
        return list(json.loads(self.kubectl("get", "pods", "--selector", chosen, "--output", "json"))["items"])

    def workspace_pods(self) -> list[Json]:
        """The pods of its workspaces, in all namespaces."""
        chosen = f"slipway.dev/instance={self.namespace}-{RELEASE}"
        found = self.cluster.kubectl("get", "pods", "--all-namespaces", "--selector", chosen, "--output", "json")
        return list(json.loads(found)["items"])

    @property
    def token(self) -> str:
        """A token of the owner's."""
        self._token = self._token or self.manage("create_token", "admin", "--scopes", "workspaces")
        return self._token

    def api(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Call the API through the gateway."""
        headers = {"Host": DOMAIN, "Authorization": f"Bearer {self.token}"}
        url = f"http://{self.address}/api/v1{path}"
        return httpx.request(method, url, json=body, headers=headers, timeout=30, trust_env=False)

    def create(self, repository: str) -> Json:
        """A new workspace, once it runs."""
        created = self.api("POST", "/workspaces", {"repo": repository})
        assert created.status_code == 201, created.text
        key = created.json()["id"]

        def look() -> Json | None:
            found: Json = self.api("GET", f"/workspaces/{key}").json()
            return found if found["state"] in {"running", "failed"} else None

        found = eventually(look, timeout=180, every=0.3, what="the workspace runs")
        assert found
        assert found["state"] == "running", found
        return found

    def feed(self, slug: str, command: str, text: str) -> None:
        """A shell in the workspace's pod with this on its standard input."""
        name = f"{self.namespace}-{slug}"
        self.cluster.kubectl("exec", "--stdin", name, "--namespace", name, "--", "sh", "-c", command, text=text)

    def signed_in(self, *hosts: str) -> dict[str, str]:
        """The cookies, as a header, of a browser that came by the sign-in link and opened these hosts' pages."""
        accept = {"Accept": "text/html"}
        with httpx.Client(transport=_Led(self.address), follow_redirects=True, timeout=30) as client:
            for url in (self.manage("sign_in_link"), *(f"http://{host}/" for host in hosts)):
                answer = client.get(url, headers=accept)
                assert answer.is_success, f"{answer.url}: {answer.status_code} {answer.text[:500]}"
            return {host: client.build_request("GET", f"http://{host}/").headers["cookie"] for host in hosts}


class _Led(httpx.HTTPTransport):
    """As if all names had one address."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address

    @override
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url.copy_with(host=self._address)
        # A new one: from the old one the client learns whose the answer's cookies are.
        led = httpx.Request(request.method, url, headers=request.headers, stream=request.stream)
        led.extensions = request.extensions
        return super().handle_request(led)
