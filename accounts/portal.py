"""Signing in and out."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.contrib.auth import login
from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from accounts.forms import SignInForm
from accounts.services import links


class SignIn(LoginView):
    """The sign-in form; guesses are counted by django-axes."""

    template_name = "accounts/sign_in.html"
    form_class = SignInForm
    redirect_authenticated_user = True

    def get_success_url(self) -> str:
        """Where to go afterwards; never back here, which Django takes for a mistake of ours."""
        target = super().get_success_url()
        return self.get_default_redirect_url() if urlsplit(target).path == self.request.path else target


class SignOut(LogoutView):
    """Ends the session and, through the gateways, every workspace opened with it."""

    next_page = "/sign-in"


@never_cache
@require_GET
def sign_in_link(request: HttpRequest) -> HttpResponse:
    """Redeem a one-time link and go to the portal."""
    user = links.redeem_sign_in_link(request.GET.get("key", "")[:200], now=timezone.now())
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    response = HttpResponseRedirect("/")
    response["Referrer-Policy"] = "no-referrer"
    return response
