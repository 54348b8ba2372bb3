"""What docs/kubernetes.md says is shown by a test is shown by one."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT

_CELLS = re.findall(r"^\|.*\|.*\| (?P<shown>.*`.*) \|$", (ROOT / "docs" / "kubernetes.md").read_text(), re.MULTILINE)
_NAMED = [name for cell in _CELLS if "test" in cell for name in re.findall(r"`([^`]+)`", cell)]
_FILES = {str(path.relative_to(ROOT)): path.read_text() for path in (ROOT / "tests").rglob("*.py")}


def test_the_table_is_found() -> None:
    assert len(_NAMED) > 40


@pytest.mark.parametrize("named", _NAMED)
def test_it_is_there(named: str) -> None:
    file, _, function = named.rpartition(": ")
    if (named.startswith("test_") and named.endswith(".py")) or not function.startswith("test_"):
        file, function = named, ""
    found = [text for path, text in _FILES.items() if file in path]
    assert found, f"no file {file}"
    if function:
        assert any(f"def {function.rstrip('…')}" in text for text in found), f"no {function} in {file}"
