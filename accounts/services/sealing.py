"""The chain that shows whether the audit log was altered.

Entries are written by many transactions at once; a chain that each of them had to lengthen would make them wait for one
another. So they are written with a digest of their content, and sealed within a minute, in the order in which they are
found: `seal(n) = SHA-256(seal(n-1), n, digest(n))`. Whoever alters, removes or inserts an entry afterwards must make
all later seals anew; the last one is told to the log of the process each time, which is kept elsewhere.
"""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q

from accounts.models import AuditClass, AuditEntry, AuditHead
from accounts.services.audit import digest_of

log = structlog.get_logger(__name__)
AT_ONCE = 500
_HEAD = 1


def link(before: str, sequence: int, digest: str) -> str:
    """The seal of the entry with this number and digest, behind the seal `before` (empty for the first)."""
    return hashlib.sha256(f"{before}\n{sequence}\n{digest}".encode()).hexdigest()


def seal() -> int:
    """Seal up to 500 entries that are not yet; how many were. Who comes second finds nothing to do."""
    AuditHead.objects.get_or_create(pk=_HEAD)
    with transaction.atomic():
        head = AuditHead.objects.select_for_update().get(pk=_HEAD)
        rows = list(AuditEntry.objects.filter(sequence=None).order_by("id")[:AT_ONCE])
        for row in rows:
            head.sequence += 1
            row.digest = row.digest or digest_of(row)
            row.sequence, row.seal = head.sequence, link(head.seal, head.sequence, row.digest)
            head.seal = row.seal
        AuditEntry.objects.bulk_update(rows, ["digest", "sequence", "seal"])
        AuditHead.objects.filter(pk=_HEAD).update(sequence=head.sequence, seal=head.seal)
    if rows:
        log.info("audit_sealed", entries=len(rows), sequence=head.sequence, seal=head.seal)
    return len(rows)


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What a look at the whole chain found.

    Attributes:
        sealed: how many entries hang in it.
        waiting: how many are not sealed yet.
        seal: that of the last one.
        broken_at: number of the first entry that does not fit; None where all do.
        problem: what is wrong with it.
    """

    sealed: int
    waiting: int
    seal: str
    broken_at: int | None = None
    problem: str = ""


def verify() -> Verdict:
    """Look whether each sealed entry is there, unaltered and in its place."""
    waiting = AuditEntry.objects.filter(sequence=None).count()
    head = AuditHead.objects.filter(pk=_HEAD).first() or AuditHead()
    before, number = "", 0
    for row in AuditEntry.objects.exclude(sequence=None).order_by("sequence").iterator(AT_ONCE):
        number += 1
        if problem := _problem(row, before, number):
            return Verdict(number - 1, waiting, before, number, problem)
        before = row.seal
    if (head.sequence, head.seal) != (number, before):
        return Verdict(number, waiting, before, number + 1, "entries at the end are missing")
    return Verdict(number, waiting, before)


def _problem(row: AuditEntry, before: str, number: int) -> str:
    if row.sequence != number:
        return "an entry is missing"
    if not row.forgotten and digest_of(row) != row.digest:
        return "its content was altered"
    return "" if link(before, number, row.digest) == row.seal else "its seal was altered"


def forget(*, now: datetime) -> int:
    """Blank the content of sealed entries that are older than their class is kept; how many were."""
    environment = settings.ENVIRONMENT
    kept = Q(at__lt=now - timedelta(days=environment.audit_days))
    access = Q(kind=AuditClass.ACCESS, at__lt=now - timedelta(days=environment.audit_access_days))
    old = AuditEntry.objects.filter(kept | access, forgotten=False).exclude(sequence=None)
    return old.update(
        forgotten=True,
        actor_id=None,
        actor="",
        via="",
        object_id="",
        object_name="",
        team_id=None,
        difference={},
        reason="",
        address=None,
        request_id="",
    )
