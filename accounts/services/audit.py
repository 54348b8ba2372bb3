"""Writing the audit log.

Each service that changes something, or lets somebody in, records it in its own transaction: either both are there or
neither is. Who asked is told by the caller; from where, by `kernel.origin`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC
from typing import Any

from django.utils import timezone

from accounts.models import AuditClass, AuditEntry, User
from kernel import origin


@dataclasses.dataclass(frozen=True, slots=True)
class Subject:
    """What an entry is about.

    Attributes:
        type: `workspace`, `team`, `user`, `token`, …
        id: its primary key.
        name: what people call it now; the entry outlives it.
        team_id: the team that it belongs to, whose admins may read the entry.
    """

    type: str
    id: object
    name: str = ""
    team_id: int | None = None


_SECRET = frozenset({"password", "token", "secret", "authorization", "cookie", "code", "credential", "value", "digest"})
HIDDEN = "***"
LONGEST_VALUE = 500


def record(
    action: str,
    subject: Subject,
    *,
    actor: User | None,
    kind: AuditClass = AuditClass.CHANGE,
    difference: Mapping[str, tuple[Any, Any]] | None = None,
    reason: str = "",
) -> AuditEntry:
    """Write one entry.

    Args:
        action: what was done, as `object.verb`: `workspace.stop`, `team.member_removed`.
        subject: what it was done to.
        actor: who did it; None for the platform itself.
        kind: decides how long the entry is kept.
        difference: what changed, as `{field: (before, after)}`. Fields with a secret's name are hidden here.
        reason: what the actor gave as a reason.
    """
    now = origin.current()
    entry = AuditEntry(
        at=timezone.now(),
        kind=kind,
        action=action,
        actor_id=actor.pk if actor else None,
        actor=actor.username if actor else "",
        via=now.via,
        object_type=subject.type,
        object_id=str(subject.id),
        object_name=subject.name[:200],
        team_id=subject.team_id,
        difference={name: [_shown(name, side) for side in sides] for name, sides in (difference or {}).items()},
        reason=reason[:500],
        address=now.address,
        request_id=now.request_id,
    )
    entry.digest = digest_of(entry)
    return AuditEntry.objects.bulk_create([entry])[0]


def content_of(entry: AuditEntry) -> dict[str, Any]:
    """All that an entry tells, as JSON has it: what its digest is made of, and what is exported."""
    return {
        "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "kind": str(entry.kind),
        "action": entry.action,
        "actor_id": entry.actor_id,
        "actor": entry.actor,
        "via": entry.via,
        "object_type": entry.object_type,
        "object_id": entry.object_id,
        "object_name": entry.object_name,
        "team_id": entry.team_id,
        "difference": entry.difference,
        "reason": entry.reason,
        "address": entry.address,
        "request_id": entry.request_id,
    }


def digest_of(entry: AuditEntry) -> str:
    """Hex SHA-256 of an entry's content, in one way of writing it."""
    return hashlib.sha256(json.dumps(content_of(entry), sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def _shown(name: str, value: Any) -> Any:
    """A value as the log may keep it."""
    if value not in (None, "") and _SECRET & set(name.lower().split("_")):
        return HIDDEN
    return value if isinstance(value, bool | int | float | None) else str(value)[:LONGEST_VALUE]
