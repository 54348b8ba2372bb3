"""What an owner shares, and what a platform admin takes: bounds, history, audit log, gateways."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.access import Level
from accounts.models import AuditEntry, Team, User
from kernel.errors import Forbidden, Invalid, TooMany
from tests.support.revocations import Listener
from workspaces.models import Event, Grant, Workspace
from workspaces.services import sharing

Factory = Callable[..., Workspace]


@pytest.fixture
def workspace(owner: User, workspace_factory: Factory) -> Workspace:
    return workspace_factory(owner)


def share(workspace: Workspace, to: User | Team, level: Level = Level.USE, **ends: float) -> Grant:
    now = timezone.now()
    expires_at = now + timedelta(**ends) if ends else None
    return sharing.share(workspace, to=to, level=level, expires_at=expires_at, actor=workspace.owner, now=now)


def test_sharing_again_changes_what_is_shared(member: User, workspace: Workspace) -> None:
    share(workspace, member)
    share(workspace, member, Level.VIEW, days=1)
    grant = Grant.objects.get()
    assert (grant.level, grant.expires_at is not None) == ("view", True)
    assert [entry.action for entry in AuditEntry.objects.all()] == ["workspace.share"] * 2
    assert AuditEntry.objects.latest("id").difference["level"] == ["use", "view"]
    assert [event.text for event in Event.objects.all()] == ["Shared with member to use", "Shared with member to view"]


def test_a_share_for_its_owner_or_in_the_past_is_none(owner: User, member: User, workspace: Workspace) -> None:
    with pytest.raises(Invalid, match="theirs"):
        share(workspace, owner)
    with pytest.raises(Invalid, match="past"):
        share(workspace, member, seconds=-1)
    assert not Grant.objects.exists()


def test_there_is_a_limit(member: User, outsider: User, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "MOST_GRANTS", 1)
    share(workspace, member)
    share(workspace, member, Level.VIEW)
    with pytest.raises(TooMany, match="1 at most"):
        share(workspace, outsider)


@pytest.mark.django_db(transaction=True)
def test_gateways_ask_again_when_a_share_ends(member: User, workspace: Workspace, listener: Listener) -> None:
    grant = share(workspace, member)
    assert listener.next() == {"workspace": str(workspace.pk)}
    sharing.unshare(workspace, grant, actor=workspace.owner)
    assert listener.next() == {"workspace": str(workspace.pk)}
    sharing.unshare(workspace, grant, actor=workspace.owner)
    assert [entry.action for entry in AuditEntry.objects.all()] == ["workspace.share", "workspace.unshare"]


def test_broken_glass_is_shown_to_the_owner_and_ends(admin: User, workspace: Workspace) -> None:
    now = timezone.now()
    reason = "The build farm needs its last log"
    grant = sharing.break_glass(workspace, reason=reason, life=timedelta(hours=1), actor=admin, now=now)
    assert (grant.level, grant.emergency, grant.expires_at) == ("use", True, now + timedelta(hours=1))
    told = Event.objects.get()
    assert told.actor == admin
    assert reason in told.text
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.kind, entry.reason) == ("workspace.break_glass", "security", reason)


@pytest.mark.parametrize(
    ("reason", "minutes"), [("", 60), ("because   ", 60), ("x" * 501, 60), ("a good reason", 0), ("a good reason", 481)]
)
def test_an_emergency_needs_a_reason_and_an_end(admin: User, workspace: Workspace, reason: str, minutes: int) -> None:
    life = timedelta(minutes=minutes)
    with pytest.raises(Invalid):
        sharing.break_glass(workspace, reason=reason, life=life, actor=admin, now=timezone.now())
    assert not Grant.objects.exists()


def test_only_admins_break_glass(member: User, workspace: Workspace) -> None:
    member.is_staff = True
    with pytest.raises(Forbidden):
        sharing.break_glass(
            workspace, reason="a good reason", life=timedelta(hours=1), actor=member, now=timezone.now()
        )
    assert not Grant.objects.exists()
