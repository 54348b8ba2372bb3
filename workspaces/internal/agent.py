"""What agents send. They prove themselves by the token of their run."""

from __future__ import annotations

import math
from typing import Any

from django.core.cache.backends.locmem import LocMemCache
from django.utils import timezone
from rest_framework import serializers
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView

from kernel.errors import NotFound
from workspaces.models import Workspace
from workspaces.services import devclusters, report
from workspaces.services.repositories import credential_for
from workspaces.states import ConditionStatus, ConditionType

# An agent tells progress twice a second at most, and other changes as they come.
REPORTS_PER_MINUTE = 240
# A credential is kept for a minute in the workspace; where there is none, each kubectl asks five times.
CLUSTER_CREDENTIALS_PER_MINUTE = 60


class Number(serializers.FloatField):
    """A number that is one: Python's `float` also takes "nan" and "inf", which neither times nor JSON have."""

    def to_internal_value(self, data: Any) -> float:
        """See the base class."""
        value = super().to_internal_value(data)
        if not math.isfinite(value):
            self.fail("invalid")
        return value


class SaidCondition(serializers.Serializer[Any]):
    """A step as the agent tells it; times are seconds ago, so that clocks need not agree."""

    type = serializers.ChoiceField([kind.value for kind in ConditionType])
    status = serializers.ChoiceField([status.value for status in ConditionStatus])
    code = serializers.CharField(max_length=60, allow_blank=True, default="")
    message = serializers.CharField(max_length=2000, allow_blank=True, default="")
    next_step = serializers.CharField(max_length=2000, allow_blank=True, default="")
    progress = Number(min_value=0, max_value=1, allow_null=True, default=None)
    started_ago = Number(min_value=0, max_value=10**9, allow_null=True, default=None)
    finished_ago = Number(min_value=0, max_value=10**9, allow_null=True, default=None)


class SaidGit(serializers.Serializer[Any]):
    """Where the checkout stands."""

    branch = serializers.CharField(max_length=400, allow_blank=True, allow_null=True, default=None)
    head = serializers.CharField(max_length=64, allow_blank=True, allow_null=True, default=None)
    ahead = serializers.IntegerField(min_value=0, max_value=2**31, allow_null=True, default=None)
    behind = serializers.IntegerField(min_value=0, max_value=2**31, allow_null=True, default=None)
    uncommitted = serializers.IntegerField(min_value=0, max_value=2**31, allow_null=True, default=None)
    unpushed = serializers.IntegerField(min_value=0, max_value=2**31, allow_null=True, default=None)


class SaidNotice(serializers.Serializer[Any]):
    """Something its owner should know."""

    id = serializers.CharField(max_length=80)
    code = serializers.CharField(max_length=60)
    message = serializers.CharField(max_length=2000)


class Report(serializers.Serializer[Any]):
    """The full state of a run, as its agent sees it; which run it is, the token says."""

    conditions = serializers.ListField(child=SaidCondition(), max_length=16)
    git = SaidGit(allow_null=True, default=None)
    activity = serializers.DictField(
        child=Number(min_value=0, max_value=10**9, allow_null=True), allow_empty=True, default=dict
    )
    ports = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=65535), max_length=64, default=list
    )
    notices = serializers.ListField(child=SaidNotice(), max_length=100, default=list)


class CredentialQuestion(serializers.Serializer[Any]):
    """What git's credential helper asks for."""

    protocol = serializers.CharField(max_length=20)
    host = serializers.CharField(max_length=260)
    path = serializers.CharField(max_length=2048, allow_blank=True, default="")


class Nothing(serializers.Serializer[Any]):
    """A question that says all by its address and its token."""


class Anonymous(BaseAuthentication):
    """No session or API token is looked at; the header only makes a refusal a 401."""

    def authenticate(self, request: Request) -> None:
        """Nobody."""

    def authenticate_header(self, request: Request) -> str:
        """What a 401 asks for."""
        return "Bearer"


class AnyRun(BasePermission):
    """The service checks the run's token against the body."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Go on."""
        return True


def _token(request: Request) -> str:
    scheme, _, token = get_authorization_header(request).partition(b" ")
    return token.decode("latin-1").strip() if scheme.lower() == b"bearer" else ""


class AgentView(APIView):
    """Shared by what agents send."""

    authentication_classes = (Anonymous,)
    permission_classes = (AnyRun,)
    schema = None

    def run_of(self, request: Request, rate: type[RunRate]) -> Workspace:
        """The workspace whose living run asks.

        Raises:
            Unauthenticated, Conflict: see `report.workspace_of_run`.
            Throttled: it asks too often.
        """
        workspace = report.workspace_of_run(_token(request))
        request.auth = f"{workspace.pk}.{workspace.run}"
        counter = rate()
        if not counter.allow_request(request, self):
            self.throttled(request, counter.wait() or 1.0)
        return workspace


class RunRate(SimpleRateThrottle):
    """How often one run may ask: code in a workspace has its token.

    Counted in this process. Redis may be away, which must not refuse an agent, and is a journey that no report needs;
    with several web workers a run gets as many times more, which does no harm.
    """

    def get_cache_key(self, request: Request, view: APIView) -> str:
        """By run; the token has been checked."""
        return str(request.auth)


class ReportRate(RunRate):
    """Each report may be a write."""

    rate = f"{REPORTS_PER_MINUTE}/min"
    cache = LocMemCache("reports", {"OPTIONS": {"MAX_ENTRIES": 20_000}})


class ClusterCredentialRate(RunRate):
    """Each credential is some requests to the dev cluster."""

    rate = f"{CLUSTER_CREDENTIALS_PER_MINUTE}/min"
    cache = LocMemCache("cluster-credentials", {"OPTIONS": {"MAX_ENTRIES": 20_000}})


class ReportView(AgentView):
    """Takes in a report."""

    def post(self, request: Request) -> Response:
        """Full state each time: a lost report costs nothing."""
        workspace = self.run_of(request, ReportRate)
        said = Report(data=request.data)
        said.is_valid(raise_exception=True)
        report.apply(workspace, said.validated_data, now=timezone.now())
        return Response({"interval": report.REPORT_INTERVAL})


class CredentialView(AgentView):
    """Lends a credential for the workspace's own repository."""

    def post(self, request: Request) -> Response:
        """User name and password for git, or 404 where there are none."""
        workspace = report.workspace_of_run(_token(request))
        asked = CredentialQuestion(data=request.data)
        asked.is_valid(raise_exception=True)
        question = asked.validated_data
        credential = credential_for(workspace, question["protocol"], question["host"], question["path"])
        if credential is None:
            raise NotFound("credential_unknown", "There is no credential for this repository.")
        return Response({"username": credential.username, "password": credential.password})


class KubernetesCredentialView(AgentView):
    """Lends a token for the workspace's own namespace in the dev cluster."""

    def post(self, request: Request) -> Response:
        """The token, and for how many seconds it is good; 404 where no dev cluster is connected."""
        workspace = self.run_of(request, ClusterCredentialRate)
        Nothing(data=request.data).is_valid(raise_exception=True)
        token = devclusters.lend(workspace)
        return Response({"token": token.text, "expires_in": token.seconds}, headers={"Cache-Control": "no-store"})
