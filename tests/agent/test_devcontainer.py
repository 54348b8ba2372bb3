"""What a devcontainer.json means."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import devcontainer
from agent.devcontainer import DevContainer, Step
from agent.problems import Problem

FOLDER = Path("/home/dev/app")
ENV = {"HOME": "/home/dev", "PATH": "/usr/bin"}


def parse(text: str | bytes) -> DevContainer:
    data = text.encode() if isinstance(text, str) else text
    return devcontainer.parse(data, folder=FOLDER, env=ENV, workspace_id="w-1")


def test_comments_and_trailing_commas() -> None:
    found = parse('\ufeff// top\n{ /* in */ "postStartCommand": "a // b", "remoteEnv": {"A": "1",}, }')
    assert found.commands == {"postStartCommand": (Step("", "a // b"),)}
    assert found.remote_env == {"A": "1"}


@pytest.mark.parametrize(
    ("value", "steps"),
    [
        ('"make"', (Step("", "make"),)),
        ('["make", "a b"]', (Step("", ("make", "a b")),)),
        ('{"one": "x", "two": ["y", "z"]}', (Step("one", "x"), Step("two", ("y", "z")))),
    ],
)
def test_forms_of_a_command(value: str, steps: tuple[Step, ...]) -> None:
    assert parse(f'{{"onCreateCommand": {value}}}').commands == {"onCreateCommand": steps}


@pytest.mark.parametrize("value", ['""', "null", "{}", "[]"])
def test_an_empty_command_is_none(value: str) -> None:
    assert parse(f'{{"onCreateCommand": {value}}}').commands == {}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("${localEnv:HOME}", "/home/dev"),
        ("${localEnv:NONE}", ""),
        ("${localEnv:NONE:http://x:1}", "http://x:1"),
        ("${containerEnv:FOO}:${containerEnv:PATH}", "foo-/home/dev:/usr/bin"),
        ("${localWorkspaceFolder}|${containerWorkspaceFolder}", "/home/dev/app|/home/dev/app"),
        ("${localWorkspaceFolderBasename}", "app"),
        ("${unknown} $HOME ${", "${unknown} $HOME ${"),
    ],
)
def test_variables(text: str, filled: str) -> None:
    document = {"containerEnv": {"FOO": "foo-${localEnv:HOME}"}, "remoteEnv": {"A": text}}
    found = parse(json.dumps(document))
    assert found.remote_env == {"A": filled}


def test_the_identifier_is_stable_and_differs() -> None:
    text = b'{"remoteEnv": {"A": "${devcontainerId}"}}'
    first, again = parse(text), parse(text)
    other = devcontainer.parse(text, folder=FOLDER, env=ENV, workspace_id="w-2")
    assert first.remote_env == again.remote_env != other.remote_env
    assert len(first.remote_env["A"] or "") == 52


def test_environment_takes_away_what_is_null() -> None:
    found = parse('{"containerEnv": {"A": "1", "B": "2"}, "remoteEnv": {"A": null, "PATH": "x:${containerEnv:PATH}"}}')
    assert found.environment(ENV) == {"HOME": "/home/dev", "PATH": "x:/usr/bin", "B": "2"}


def test_editor_customizations_and_what_is_ignored() -> None:
    found = parse(
        '{"image": "x", "features": {}, "mounts": [], "name": "n", "customizations":'
        ' {"vscode": {"settings": {"a.b": "${localEnv:HOME}"}, "extensions": ["x.y", "x.y", "e/z.vsix"]}}}'
    )
    assert found.settings == {"a.b": "/home/dev"}
    assert found.extensions == ("x.y", "e/z.vsix")
    assert found.ignored == ("image", "features", "mounts")


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "null",
        "",
        "{",
        '{"remoteEnv": []}',
        '{"remoteEnv": {"A": 1}}',
        '{"postStartCommand": [1]}',
        '{"postStartCommand": {"a": {"b": "c"}}}',
        '{"postStartCommand": true}',
        '{"customizations": {"vscode": {"extensions": "x"}}}',
        '{"customizations": {"vscode": []}}',
        b"\xff\xfe",
    ],
)
def test_what_is_wrong_is_named(text: str | bytes) -> None:
    with pytest.raises(Problem) as caught:
        parse(text)
    assert caught.value.code == "devcontainer_invalid"
    assert caught.value.message.startswith("devcontainer.json ")
    assert caught.value.next_step


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_nonsense_is_never_more_than_a_problem(data: bytes) -> None:
    with contextlib.suppress(Problem):
        assert isinstance(parse(data), DevContainer)


def test_the_order_of_places(tmp_path: Path) -> None:
    def make(name: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
        return path

    found: list[Any] = [devcontainer.find(tmp_path)]
    for name in (".devcontainer/b/devcontainer.json", ".devcontainer.json", ".devcontainer/devcontainer.json"):
        expected = make(name)
        found.append(devcontainer.find(tmp_path) == expected)
    assert found == [None, True, True, True]
