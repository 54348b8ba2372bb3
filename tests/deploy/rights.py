"""The rights that the chart gives to an account, and those that the API server saw it use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Right = tuple[str, str, str]
"""Verb, API group, and resource with its subresource."""


def granted(objects: list[Json], account: str) -> set[Right]:
    """What roles give to a service account that bindings name."""
    roles = {one["metadata"]["name"]: one for one in objects if one["kind"] in {"Role", "ClusterRole"}}
    bound = [
        roles[one["roleRef"]["name"]]
        for one in objects
        if one["kind"] in {"RoleBinding", "ClusterRoleBinding"}
        and account in [subject["name"] for subject in one["subjects"]]
    ]
    return {
        (verb, group, resource)
        for role in bound
        for rule in role["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def _entries(audit_log: Path, user: str) -> Iterator[Json]:
    with audit_log.open(encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            if entry["user"]["username"] == user and "objectRef" in entry and entry["stage"] != "RequestReceived":
                yield entry


def used(audit_log: Path, user: str) -> tuple[set[Right], set[Right]]:
    """What a user did, and what RBAC refused it, as the API server wrote down."""
    done: set[Right] = set()
    refused: set[Right] = set()
    for entry in _entries(audit_log, user):
        about = entry["objectRef"]
        resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
        right = (entry["verb"], about.get("apiGroup", ""), resource)
        allowed = entry.get("annotations", {}).get("authorization.k8s.io/decision") == "allow"
        (done if allowed else refused).add(right)
        # Applying something that is not there yet makes it, and takes the right to do so.
        if right[0] == "patch" and entry.get("responseStatus", {}).get("code") == 201:
            done.add(("create", *right[1:]))
    return done, refused
