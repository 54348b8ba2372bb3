"""Steps of a start as rows: written by several at once, each is there once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from tests.services.stage import together
from workspaces.models import Condition, Workspace
from workspaces.services import conditions
from workspaces.states import ConditionStatus, ConditionType

Factory = Callable[..., Workspace]
pytestmark = pytest.mark.django_db(transaction=True)


def test_a_step_told_by_many_at_once_is_one_row(owner: User, workspace_factory: Factory) -> None:
    row = workspace_factory(owner, run=1)

    def tell(number: int) -> bool:
        return conditions.put(
            row, ConditionType.IMAGE, ConditionStatus.RUNNING, now=timezone.now(), message=f"{number} %"
        )

    assert together([partial(tell, number) for number in range(4)]) == [True] * 4
    found = Condition.objects.get(workspace=row)
    assert (found.type, found.status, found.message[-2:]) == ("image", "running", " %")


@pytest.mark.parametrize("known", [False, True])
def test_a_step_is_written_by_one_statement(owner: User, workspace_factory: Factory, known: bool) -> None:
    row, now = workspace_factory(owner, run=1), timezone.now()
    if known:
        conditions.put(row, ConditionType.IMAGE, ConditionStatus.RUNNING, now=now)
    with CaptureQueriesContext(connection) as queries:
        assert conditions.put(row, ConditionType.IMAGE, ConditionStatus.DONE, now=now)
    about = [query["sql"] for query in queries if "workspaces_condition" in query["sql"]]
    assert [sql.split()[0] for sql in about] == ["SELECT", "INSERT"]
    found = Condition.objects.get(workspace=row)
    assert (found.status, found.started_at, found.finished_at) == ("done", now, now)
