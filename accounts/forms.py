"""The sign-in forms."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.forms import AuthenticationForm

from accounts.models import User


class SignInForm(AuthenticationForm):
    """Django's own, but a name that is longer than any can be is never looked up or counted: its column is shorter."""

    def clean(self) -> dict[str, Any]:
        """See the base class."""
        longest = User._meta.get_field("username").max_length or 0
        if len(self.cleaned_data.get("username", "")) > longest:
            raise self.get_invalid_login_error()
        return super().clean()


class AdminSignInForm(SignInForm, AdminAuthenticationForm):
    """The same for Django's admin, which lets in administrators only."""
