"""How the API knows who calls, and what a token may do."""

from __future__ import annotations

from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from accounts import access, selectors
from accounts.models import ApiToken, Scope, User
from accounts.services import tokens
from kernel import origin


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer slp_…` (RFC 6750)."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        """The user and token of a bearer header; None when there is no such header."""
        scheme, _, secret = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        now = timezone.now()
        token = selectors.valid_token(secret.decode("latin-1").strip(), now=now)
        if token is None:
            raise AuthenticationFailed("This token is not valid: unknown, expired or revoked.")
        tokens.note_token_use(token, now=now)
        origin.proved(f"token:{token.pk}")
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        """What a 401 says about how to sign in."""
        return 'Bearer realm="slipway"'


def signed_in(request: Request) -> User:
    """The caller of a view that only lets known users in."""
    user = request.user
    if not isinstance(user, User):
        raise NotAuthenticated
    return user


class HasScope(BasePermission):
    """Signed in; and with a token, of a scope that covers what is asked.

    A view's `writes_with` says which scope its writes need; where it says none, that of workspaces.
    """

    message = "This token's scope does not cover that."

    def has_permission(self, request: Request, view: object) -> bool:
        """Whether the request may go on."""
        if not request.user.is_authenticated:
            return False
        if isinstance(request.auth, ApiToken):
            writes: Scope = getattr(view, "writes_with", Scope.WORKSPACES)
            needed = Scope.READ if request.method in SAFE_METHODS else writes
            return access.allows(request.auth.scopes, needed=needed)
        return True
