"""People, teams, tokens and the audit log."""

from accounts.models.audit import AuditClass, AuditEntry, AuditHead
from accounts.models.teams import Membership, Team, TeamRole
from accounts.models.tokens import ApiToken, Scope
from accounts.models.users import PlatformRole, SignInLink, User

__all__ = [
    "ApiToken",
    "AuditClass",
    "AuditEntry",
    "AuditHead",
    "Membership",
    "PlatformRole",
    "Scope",
    "SignInLink",
    "Team",
    "TeamRole",
    "User",
]
