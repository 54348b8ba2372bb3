"""No file breaks the house rules; and each rule can be broken."""

from __future__ import annotations

import ast

import pytest

from tests.architecture import rules

PRODUCT = ("platform", "accounts", "workspaces", "gateway", "agent")
# Each place has its reason: the settings, the start of other processes, and processes of their own.
READS_ENVIRONMENT = frozenset(
    {
        "platform/config/env.py",
        "platform/config/processes.py",
        "platform/config/ide.py",
        "platform/config/asgi.py",
        "platform/config/celery.py",
        "platform/config/management/commands/up.py",
        "gateway/config.py",
        "agent/environment.py",
    }
)


def test_only_transition_writes_a_state() -> None:
    files = rules.sources("accounts", "workspaces", "platform")
    assert rules.broken(rules.writes_state, files, but=frozenset({"workspaces/services/transition.py"})) == []


def test_jobs_have_one_door() -> None:
    assert rules.broken(rules.sends_jobs, rules.sources(*PRODUCT), but=frozenset({"platform/kernel/jobs.py"})) == []


def test_faces_do_not_query() -> None:
    faces = ("workspaces/api", "workspaces/portal", "workspaces/internal")
    files = [*rules.sources(*faces), rules.ROOT / "accounts/api.py", rules.ROOT / "accounts/portal.py"]
    # The stream reads beside the event loop what the selectors give for one workspace.
    assert rules.broken(rules.queries, files, but=frozenset({"workspaces/api/stream.py"})) == []


def test_the_environment_is_read_in_one_place() -> None:
    assert rules.broken(rules.reads_environment, rules.sources(*PRODUCT), but=READS_ENVIRONMENT) == []


def test_tests_wait_for_what_they_want_not_for_time() -> None:
    but = frozenset({"tests/support/waiting.py"})
    assert rules.broken(rules.sleeps, rules.sources("tests"), but=but) == []


def test_rows_are_saved_by_column() -> None:
    assert rules.broken(rules.saves_all_columns, rules.sources("accounts", "workspaces")) == []


def test_pages_and_queries_are_never_glued() -> None:
    assert rules.broken(rules.marks_safe, rules.sources(*PRODUCT)) == []


def test_functions_are_short() -> None:
    assert rules.broken(rules.long_functions, rules.sources(*PRODUCT, "tests", "bench")) == []


def test_files_are_short() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in rules.sources(*PRODUCT, "tests")}
    long = {path.relative_to(rules.ROOT).as_posix(): lines for path, lines in lengths.items()}
    assert {name: lines for name, lines in long.items() if lines > rules.LONGEST_FILE} == {}


EXAMPLES: list[tuple[rules.Rule, str]] = [
    (rules.writes_state, "workspace.state = 'running'"),
    (rules.writes_state, "workspace.state: str = 'running'"),
    (rules.writes_state, "Workspace.objects.filter(pk=1).update(state='running')"),
    (rules.sends_jobs, "reconcile.delay(1)"),
    (rules.sends_jobs, "reconcile.apply_async(args=(1,))"),
    (rules.sends_jobs, "app.send_task('x')"),
    (rules.queries, "Workspace.objects.get(pk=1)"),
    (rules.reads_environment, "import os\nos.environ['HOME']"),
    (rules.reads_environment, "import os\nos.getenv('HOME')"),
    (rules.reads_environment, "from os import environ"),
    (rules.sleeps, "import time\ntime.sleep(1)"),
    (rules.sleeps, "async def f():\n    await asyncio.sleep(1)"),
    (rules.sleeps, "from time import sleep\nsleep(1)"),
    (rules.saves_all_columns, "row.save()"),
    (rules.marks_safe, "mark_safe(text)"),
    (rules.marks_safe, "cursor.execute(f'SELECT {name}')"),
    (rules.long_functions, "def f():\n" + "    x = 1\n" * 60),
]
FINE: list[tuple[rules.Rule, str]] = [
    (rules.writes_state, "self.state = 1\nrows.filter(state='running').update(name='x')"),
    (rules.sends_jobs, "jobs.enqueue('x')"),
    (rules.reads_environment, "settings.ENVIRONMENT.home"),
    (rules.sleeps, "eventually(lambda: True)"),
    (rules.saves_all_columns, "row.save(update_fields=['name'])"),
    (rules.marks_safe, "cursor.execute('SELECT %s', [name])"),
    (rules.long_functions, "def f():\n" + "    x = 1\n" * 59),
]


@pytest.mark.parametrize(("rule", "code"), EXAMPLES)
def test_each_rule_can_be_broken(rule: rules.Rule, code: str) -> None:
    assert list(rule(ast.parse(code)))


@pytest.mark.parametrize(("rule", "code"), FINE)
def test_each_rule_can_be_kept(rule: rules.Rule, code: str) -> None:
    assert not list(rule(ast.parse(code)))
