"""API addresses of accounts."""

from django.urls import path

from accounts import api, api_tokens

urlpatterns = [
    path("me", api.MeView.as_view(), name="me"),
    path("tokens", api_tokens.TokensView.as_view(), name="tokens"),
    path("tokens/<int:token_id>", api_tokens.TokenView.as_view(), name="token"),
    path("teams", api.TeamsView.as_view(), name="teams"),
    path("teams/<slug:slug>", api.TeamView.as_view(), name="team"),
    path("teams/<slug:slug>/members", api.MembersView.as_view(), name="members"),
    path("teams/<slug:slug>/members/<str:username>", api.MemberView.as_view(), name="member"),
]
