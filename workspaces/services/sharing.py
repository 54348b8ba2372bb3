"""Letting others into a workspace: what its owner shares, and what a platform admin takes in an emergency."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from django.db import transaction

from accounts.access import Level
from accounts.models import AuditClass, PlatformRole, Team, User
from accounts.services import audit
from kernel import redis
from kernel.errors import Forbidden, Invalid, TooMany
from workspaces.models import Grant, Workspace
from workspaces.services import events

MOST_GRANTS = 100
LONGEST_EMERGENCY = timedelta(hours=8)
SHORTEST_REASON, LONGEST_REASON = 10, 500


def share(
    workspace: Workspace, *, to: User | Team, level: Level, expires_at: datetime | None, actor: User, now: datetime
) -> Grant:
    """Let somebody, or a team, in at a level until a time; for ever without one. Sharing again changes both.

    Raises:
        Invalid: it is their own, or the time is past.
        TooMany: it is shared with as many as can be.
    """
    if to == workspace.owner:
        raise Invalid("share_with_owner", "This workspace is theirs.", "Choose somebody else.", field="user")
    if expires_at is not None and expires_at <= now:
        raise Invalid("expiry_past", "That time is past.", "Choose a later one.", field="expires_at")
    whom = {"team": to} if isinstance(to, Team) else {"user": to, "emergency": False}
    with transaction.atomic():
        # One change of a workspace's grants after the other, so that two cannot pass the limit together.
        Workspace.objects.select_for_update(no_key=True).get(pk=workspace.pk)
        before = Grant.objects.filter(workspace=workspace, **whom).first()
        if before is None and Grant.objects.filter(workspace=workspace).count() >= MOST_GRANTS:
            raise TooMany(
                "too_many_shares",
                f"A workspace is shared with {MOST_GRANTS} at most.",
                "Share it with a team.",
                temporary=False,
            )
        grant, _ = Grant.objects.update_or_create(
            workspace=workspace, **whom, defaults={"level": level, "expires_at": expires_at, "granted_by": actor}
        )
        difference = {
            "level": (before.level if before else None, level.value),
            "expires_at": (before.expires_at if before else None, expires_at),
        }
        _tell(workspace, f"Shared with {to} to {level}", "workspace.share", actor, difference)
    return grant


def unshare(workspace: Workspace, grant: Grant, *, actor: User) -> None:
    """Take back what was shared; whoever is in through it is put out at once."""
    with transaction.atomic():
        if not Grant.objects.filter(pk=grant.pk, workspace=workspace).delete()[0]:
            return
        whom = grant.team or grant.user
        difference = {"level": (grant.level, None)}
        _tell(workspace, f"No longer shared with {whom}", "workspace.unshare", actor, difference)


def break_glass(workspace: Workspace, *, reason: str, life: timedelta, actor: User, now: datetime) -> Grant:
    """Let a platform admin use somebody's workspace for a while. Its owner sees who, why and until when.

    Raises:
        Forbidden: the actor is no platform admin.
        Invalid: no reason to speak of, or too long a time.
    """
    if actor.platform_role is not PlatformRole.ADMIN:
        raise Forbidden("admin_needed", "Only platform admins can do that.", "Ask its owner to share it with you.")
    reason = " ".join(reason.split())
    if not SHORTEST_REASON <= len(reason) <= LONGEST_REASON or not reason.isprintable():
        raise Invalid(
            "reason_missing",
            f"Give a reason of {SHORTEST_REASON} to {LONGEST_REASON} characters; its owner will read it.",
            "Say what for.",
            field="reason",
        )
    if not timedelta(0) < life <= LONGEST_EMERGENCY:
        hours = LONGEST_EMERGENCY // timedelta(hours=1)
        raise Invalid("emergency_life", f"At most {hours} hours.", "Choose a shorter time.", field="minutes")
    ends = now + life
    with transaction.atomic():
        values = {"level": Level.USE.value, "reason": reason, "expires_at": ends, "granted_by": actor}
        grant, _ = Grant.objects.update_or_create(workspace=workspace, user=actor, emergency=True, defaults=values)
        text = f"{actor.shown_name} took access as an administrator until {ends:%Y-%m-%d %H:%M} UTC: {reason}"
        _tell(workspace, text, "workspace.break_glass", actor, {"until": (None, ends)}, reason)
    return grant


def _tell(
    workspace: Workspace,
    text: str,
    action: str,
    actor: User,
    difference: Mapping[str, tuple[object, object]],
    reason: str = "",
) -> None:
    """In its history, where the owner sees it; in the audit log; and to the gateways, which ask again."""
    events.note(workspace, text, actor=actor)
    audit.record(
        action,
        events.subject_of(workspace),
        actor=actor,
        kind=AuditClass.SECURITY,
        difference=difference,
        reason=reason,
    )
    message = {"workspace": str(workspace.pk)}
    transaction.on_commit(lambda: redis.publish(redis.REVOCATIONS, message))
