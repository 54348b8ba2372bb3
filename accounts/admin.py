"""Accounts in Django's admin."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.http import HttpRequest

from accounts.forms import AdminSignInForm
from accounts.models import ApiToken, AuditEntry, User
from kernel.admin import ReadOnly

admin.site.login_form = AdminSignInForm
admin.site.register(User, UserAdmin)


@admin.register(ApiToken)
class ApiTokenAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # Generic only in the stubs.
    """Tokens can be looked at and deleted; their secrets cannot be seen."""

    list_display = ["name", "user", "scopes", "created_at", "expires_at", "last_used_at", "revoked_at"]
    list_select_related = ["user"]
    exclude = ["digest"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Never: a token's secret is made and shown by `manage.py create_token`."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: ApiToken | None = None) -> bool:
        """Never."""
        return False


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnly):
    """The audit log can be read; what need not be kept is forgotten by `services.sealing`."""

    list_display = ["at", "actor", "action", "object_type", "object_name", "address", "reason"]
    list_filter = ["kind", "object_type"]
    search_fields = ["actor", "object_name", "action", "request_id"]
    show_full_result_count = False
