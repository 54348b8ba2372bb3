"""What of the chart follows from other files: parts of its schema, and the table of its values.

`python -m tests.deploy.generated` writes both; a test compares them with what is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from config.env import VARIABLES

Json = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "chart"
SCHEMA = CHART / "values.schema.json"
OPTIONS = ROOT / "workspaces" / "runtime" / "k8s" / "options.schema.json"
DEV_OPTIONS = ROOT / "workspaces" / "runtime" / "k8s" / "devcluster" / "options.schema.json"
TABLE = ROOT / "docs" / "chart.md"

FILLED = frozenset({"kubeconfig", "gateway", "platform", "platform_url", "pull_credentials", "lease_namespace"})
"""Options of the Kubernetes runtime that the chart knows by itself."""

DEV_FILLED = frozenset({"instance", "kubeconfig", "certificate_authority"})
"""Options of the dev cluster that the chart knows by itself."""

LENT = ("credentials", "authority")
"""Options of `backup` that the chart knows by itself."""

GIVEN = frozenset(
    {
        "SLIPWAY_HOME", "SLIPWAY_PORT", "SLIPWAY_PORTAL_URL", "SLIPWAY_TRUSTED_PROXIES", "SLIPWAY_WEB_WORKERS",
        "SLIPWAY_WEB_HOSTS", "SLIPWAY_PROBES_LISTEN", "SLIPWAY_WORKER_THREADS", "SLIPWAY_AGENTS_LISTEN",
        "SLIPWAY_OPERATOR_LISTEN", "SLIPWAY_RUNTIME", "SLIPWAY_KUBERNETES_OPTIONS", "SLIPWAY_SANDBOX",
        "SLIPWAY_ALLOW_FILE_REPOSITORIES", "SLIPWAY_DEBUG", "SLIPWAY_LOG_FORMAT", "DATABASE_URL", "REDIS_URL",
        "SLIPWAY_SECRET_KEY", "SLIPWAY_INTERNAL_SECRET", "SLIPWAY_GITHUB_TOKEN", "SLIPWAY_DEV_CLUSTER_OPTIONS",
    }
)  # fmt: skip
"""Settings that the chart makes itself, that are secret, or that have no meaning in a cluster."""

_HEAD = """# Values of the chart

Made from `deploy/chart/values.schema.json` and `values.yaml` by `make schema`. Helm refuses values that the schema does
not know. The options of workspaces are those of the Kubernetes runtime.

| value | default | meaning |
| --- | --- | --- |
"""


def schema() -> Json:
    """The chart's schema, with the runtime's options and the platform's settings as they are now."""
    found: Json = json.loads(SCHEMA.read_text(encoding="utf-8"))
    options: Json = json.loads(OPTIONS.read_text(encoding="utf-8"))
    chosen = {name: option for name, option in options["properties"].items() if name not in FILLED}
    # Empty: the chart tells this release from others by itself.
    label = options["$defs"]["label"]["pattern"].removeprefix("^").removesuffix("$")
    said = chosen["instance"]["description"]
    chosen["instance"] = {"description": said, "type": "string", "pattern": f"^({label})?$", "default": ""}
    found["properties"]["workspaces"] = {
        "description": "How workspaces run.",
        "type": "object",
        "additionalProperties": False,
        "required": options["required"],
        "properties": chosen,
    }
    found["properties"]["settings"] = {
        "description": "Settings of the platform by their names in the README, as texts.",
        "type": "object",
        "propertyNames": {"enum": [name for name in VARIABLES if name not in GIVEN]},
        "additionalProperties": {"type": "string"},
    }
    found["$defs"] |= options["$defs"]
    for name in LENT:
        found["$defs"]["backup"]["properties"].pop(name)
    # Under names of their own: both have peers, and say different things of them.
    text = DEV_OPTIONS.read_text(encoding="utf-8").replace("#/$defs/", "#/$defs/dev-")
    dev: Json = json.loads(text)
    chosen = {name: option for name, option in dev["properties"].items() if name not in DEV_FILLED}
    found["$defs"] |= {f"dev-{name}": part for name, part in dev["$defs"].items()}
    found["$defs"]["dev-cluster"] = {
        "type": "object",
        "additionalProperties": False,
        "required": dev["required"],
        "properties": chosen,
    }
    return found


def defaults() -> Json:
    """The chart's `values.yaml`."""
    found: Json = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    return found


def rows(part: Json, values: Any, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Name, default and meaning of each value below a part of the schema."""
    for name, value in part["properties"].items():
        if name == "global":
            continue
        here = f"{path}{name}"
        given = values.get(name)
        if "properties" in value:
            yield from rows(value, given, f"{here}.")
        else:
            yield here, json.dumps(given, ensure_ascii=False), value["description"]


def table() -> str:
    """The page with all values."""
    lines = (f"| `{name}` | `{default}` | {meaning} |" for name, default, meaning in rows(schema(), defaults()))
    return _HEAD + "\n".join(lines).replace("|`", "| `") + "\n"


def main() -> None:
    """Write what follows from other files."""
    text = json.dumps(schema(), indent=2, ensure_ascii=False)
    SCHEMA.write_text(text + "\n", encoding="utf-8")
    TABLE.write_text(table(), encoding="utf-8")


if __name__ == "__main__":
    main()
