"""How `kubectl` finds the dev cluster: a file of ours, made anew for each run, beside the user's own.

The user's `~/.kube/config` comes first in `KUBECONFIG`, so that what they choose there wins, and what kubectl is told
to keep is kept in it. Ours holds no secret: a token is asked for by whoever uses it, when it is used.
https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

from agent import files, programs
from agent.environment import Environment
from agent.spec import DevCluster

VARIABLE = "KUBECONFIG"
NAME = "slipway"
_CREDENTIAL_API = "client.authentication.k8s.io/v1"
_EMPTY = {"apiVersion": "v1", "kind": "Config"}
_NO_PYTHON = "The workspace's own programs are missing: restart the workspace."


def path(environment: Environment) -> Path:
    """Where our file is."""
    return environment.run_dir / "kubeconfig"


def variables(environment: Environment) -> Mapping[str, str]:
    """What has to be added to the user's environment. Whoever made the image may have named files of their own."""
    theirs = environment.variables.get(VARIABLE) or str(_users_own(environment))
    return {VARIABLE: f"{theirs}:{path(environment)}"}


def _users_own(environment: Environment) -> Path:
    return environment.home / ".kube" / "config"


def render(environment: Environment, cluster: DevCluster) -> str:
    """The text of our file. JSON, which is YAML."""
    command, added = programs.command(
        "agent.kubernetes_credential",
        environment.platform or "",
        str(environment.secrets_path or ""),
        str(environment.run_dir / "kubernetes-credential.json"),
    )
    server = {"server": cluster.server}
    if cluster.certificate_authority:
        server["certificate-authority-data"] = base64.b64encode(cluster.certificate_authority.encode()).decode()
    plugin = {
        "apiVersion": _CREDENTIAL_API,
        "command": command[0],
        "args": command[1:],
        "env": [{"name": name, "value": value} for name, value in added.items()],
        "interactiveMode": "Never",
        "installHint": _NO_PYTHON,
    }
    context = {"cluster": NAME, "user": NAME, "namespace": cluster.namespace}
    document = {
        **_EMPTY,
        "clusters": [{"name": NAME, "cluster": server}],
        "users": [{"name": NAME, "user": {"exec": plugin}}],
        "contexts": [{"name": NAME, "context": context}],
        "current-context": NAME,
    }
    return json.dumps(document, indent=2) + "\n"


def install(environment: Environment, cluster: DevCluster) -> None:
    """Write our file, and an empty one of the user's where there is none: kubectl writes into the first that exists.

    Raises:
        OSError: one of them cannot be written.
    """
    files.write_atomically(path(environment), render(environment, cluster))
    theirs = _users_own(environment)
    theirs.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with theirs.open("x", encoding="utf-8") as file:
            json.dump(_EMPTY, file)
    except FileExistsError:
        return
    theirs.chmod(0o600)
