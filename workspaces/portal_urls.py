"""Portal addresses of workspaces."""

from django.urls import URLPattern, path, re_path
from django.views.generic import RedirectView

from workspaces.portal import acts, new, pages, sharing, stream

urlpatterns: list[URLPattern] = [
    path("", pages.index, name="portal-index"),
    path("live", stream.live, name="portal-live"),
    path("new", new.new, name="portal-new"),
    path("trash", pages.trash, name="portal-trash"),
    path("gateway/enter", pages.enter, name="portal-enter"),
    path("workspaces", RedirectView.as_view(pattern_name="portal-index")),
    path("workspaces/<slug:slug>", pages.detail, name="portal-detail"),
    re_path(
        r"^workspaces/(?P<slug>[-\w]+)/live/(?P<view>detail|start)$",
        stream.live_workspace,
        name="portal-live-workspace",
    ),
    path("workspaces/<slug:slug>/start", pages.start, name="portal-start"),
    path("workspaces/<slug:slug>/log", pages.log, name="portal-log"),
    path("workspaces/<slug:slug>/share", sharing.share, name="portal-share"),
    path("workspaces/<slug:slug>/share/<int:share_id>/end", sharing.unshare, name="portal-unshare"),
    re_path(
        rf"^workspaces/(?P<slug>[-\w]+)/do/(?P<verb>{'|'.join(acts.VERBS)})$",
        acts.act,
        name="portal-act",
    ),
]
