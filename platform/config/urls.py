"""Every address of the web process."""

from __future__ import annotations

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from django_prometheus.exports import ExportToDjangoView
from drf_spectacular.views import SpectacularAPIView

from kernel import http

urlpatterns: list[URLPattern | URLResolver] = [
    path("healthz", http.healthz),
    path("readyz", http.readyz),
    path("metrics", http.local_only(ExportToDjangoView)),
    path("admin/", admin.site.urls),
    path("api/v1/schema", SpectacularAPIView.as_view(), name="schema"),
    path("api/v1/", include("workspaces.api.urls")),
    path("api/v1/", include("accounts.api_urls")),
    path("internal/", include("workspaces.internal.urls")),
    path("", include("accounts.portal_urls")),
    path("", include("workspaces.portal_urls")),
]

handler400 = "kernel.http.bad_request"
handler403 = "kernel.http.permission_denied"
handler404 = "kernel.http.page_not_found"
handler500 = "kernel.http.server_error"
