"""Internal addresses."""

from django.urls import path

from workspaces.internal import agent, gateway

urlpatterns = [
    path("authorize", gateway.authorize),
    path("redeem", gateway.redeem),
    path("agent/report", agent.ReportView.as_view()),
    path("agent/credential", agent.CredentialView.as_view()),
    path("agent/kubernetes-credential", agent.KubernetesCredentialView.as_view()),
]
