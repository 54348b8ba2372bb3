"""The house rules, as functions from a syntax tree to the lines that break them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
Rule = Callable[[ast.AST], Iterator[int]]

LONGEST_FUNCTION = 60
LONGEST_FILE = 400


def _calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    """Each call, with the last part of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            yield node, name


def _targets(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Assign):
        return node.targets
    if isinstance(node, ast.AugAssign | ast.AnnAssign):
        return [node.target]
    return []


def writes_state(tree: ast.AST) -> Iterator[int]:
    """Assigns to `.state` (of anything but `self`), or passes `state=` to a queryset's `update`."""
    for node in ast.walk(tree):
        for target in _targets(node):
            if isinstance(target, ast.Attribute) and target.attr == "state" and not _is_self(target.value):
                yield target.lineno
    for call, name in _calls(tree):
        if name in {"update", "aupdate"} and any(keyword.arg == "state" for keyword in call.keywords):
            yield call.lineno


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def sends_jobs(tree: ast.AST) -> Iterator[int]:
    """Calls Celery's own ways to send a task."""
    for call, name in _calls(tree):
        if name in {"delay", "apply_async", "send_task"}:
            yield call.lineno


def queries(tree: ast.AST) -> Iterator[int]:
    """Reaches for a model's manager."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in {"objects", "_default_manager"}:
            yield node.lineno


def reads_environment(tree: ast.AST) -> Iterator[int]:
    """Reads or writes the process's environment."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "putenv"}:
            if isinstance(node.value, ast.Name) and node.value.id == "os":
                yield node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from (node.lineno for alias in node.names if alias.name in {"environ", "getenv", "putenv"})


def sleeps(tree: ast.AST) -> Iterator[int]:
    """Waits for a guessed time; `sleep(0)` only lets others have their turn."""
    for call, name in _calls(tree):
        if len(call.args) == 1 and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0:
            continue
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        named = isinstance(owner, ast.Name) and owner.id in {"time", "asyncio"}
        if name == "sleep" and (named or owner is None):
            yield call.lineno


def saves_all_columns(tree: ast.AST) -> Iterator[int]:
    """Calls `save()` without `update_fields`: it would overwrite what another process wrote."""
    for call, name in _calls(tree):
        bare = isinstance(call.func, ast.Attribute) and not call.args
        if name == "save" and bare and not any(keyword.arg == "update_fields" for keyword in call.keywords):
            yield call.lineno


def marks_safe(tree: ast.AST) -> Iterator[int]:
    """Puts text into a page unescaped, or builds SQL from text."""
    for call, name in _calls(tree):
        if name in {"mark_safe", "raw"} or (
            name == "execute" and call.args and isinstance(call.args[0], ast.JoinedStr)
        ):
            yield call.lineno


def long_functions(tree: ast.AST) -> Iterator[int]:
    """Functions of more than sixty lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > LONGEST_FUNCTION:
                yield node.lineno


def sources(*folders: str) -> list[Path]:
    """Our Python files below these folders, without migrations."""
    found = (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return [path for path in found if "migrations" not in path.parts]


def broken(rule: Rule, files: list[Path], *, but: frozenset[str] = frozenset()) -> list[str]:
    """`file:line` of all that breaks a rule, outside the files that may."""
    found: list[str] = []
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        if name not in but:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found += [f"{name}:{line}" for line in rule(tree)]
    return found
