"""Teams and who is in them."""

from __future__ import annotations

from django.db import models

from accounts.models.users import User


class TeamRole(models.TextChoices):
    """What a member of a team may do in it, the strongest first."""

    OWNER = "owner", "Owner: everything, deleting the team too"
    ADMIN = "admin", "Admin: people, and what becomes of the team's workspaces"
    MEMBER = "member", "Member: workspaces of their own, and a look at the others'"
    VIEWER = "viewer", "Viewer: a look at the team's workspaces"


class Team(models.Model):
    """People who work together: they share quotas, policies and secrets, and see each other's workspaces.

    A team with workspaces, those in the trash included, cannot be deleted: the database protects it.
    """

    slug = models.CharField(max_length=40, unique=True)
    name = models.CharField(max_length=100)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class Membership(models.Model):
    """One person's role in one team. What the identity provider gave (`from_claims`) it takes back at a sign-in."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=TeamRole.choices)
    from_claims = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "user"], name="membership_once")]
        indexes = [models.Index(fields=["user", "role", "team"], name="membership_of_user")]

    def __str__(self) -> str:
        return f"{self.user_id} is {self.role} of {self.team_id}"
