from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.errors import Invalid
from workspaces.repositories.branch_names import is_branch_name, validate_branch


@pytest.mark.parametrize(
    "name", ["main", "feature/x/y", "fix#12", "v1.0", "été", "🦊", "a@b", "@/x", "it's", 'say"hi"', "a-"]
)
def test_names_that_git_takes(name: str) -> None:
    assert validate_branch(f" {name}\n") == name


@pytest.mark.parametrize(
    "name",
    ["", " ", "-x", "--upload-pack=reboot", "a b", "a..b", "a~1", "a^", "a:b", "a?", "a*", "a[b", "a\\b", "a\x07"],
)
def test_names_that_git_refuses_for_a_character(name: str) -> None:
    refuse(name)


@pytest.mark.parametrize(
    "name",
    ["/a", "a/", "a//b", ".a", "a/.b", "a.lock", "a.lock/b", "a.", "@", "a@{1}", "HEAD", "a\nb", "\udcff", "é" * 128],
)
def test_names_that_git_refuses_for_their_form(name: str) -> None:
    refuse(name)


def refuse(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        validate_branch(name)
    assert (caught.value.code, caught.value.field) == ("branch_invalid", "branch")


@settings(max_examples=150)
@given(st.text(alphabet=st.sampled_from("ab.-/@{~^: ?*[\\\x01\x7flock-HEAD é🦊"), min_size=1, max_size=12))
def test_agrees_with_git_itself(name: str) -> None:
    said = subprocess.run(["git", "check-ref-format", "--branch", name], capture_output=True, cwd="/", check=False)
    # "@{-1}" and the like are expanded by git before they are checked, and are no names.
    # A branch "@" can exist, but every command takes that for HEAD, so it is refused here.
    expected = said.returncode == 0 and said.stdout.decode().rstrip("\n") == name and name != "@"
    assert is_branch_name(name) == expected
