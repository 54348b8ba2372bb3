"""Tokens and sealed values."""

from __future__ import annotations

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from kernel import crypto


def test_a_token_knows_its_own_kind() -> None:
    token = crypto.new_token("slp_")
    assert crypto.looks_like_token(token, "slp_")
    assert not crypto.looks_like_token(token, "slk_")
    assert crypto.new_token("slp_") != token


@given(st.integers(0, 37), st.characters(codec="ascii", categories=["L", "N"]))
def test_a_mistyped_token_is_seen(place: int, letter: str) -> None:
    token = crypto.new_token("slp_")
    changed = token[: 4 + place] + letter + token[5 + place :]
    assert crypto.looks_like_token(changed, "slp_") == (changed == token)


@given(st.text(max_size=60))
def test_any_text_can_be_asked_about(text: str) -> None:
    assert not crypto.looks_like_token(text, "slp_")
    assert not crypto.looks_like_token("slp_" + text[:32].ljust(38, "é"), "slp_")


def test_a_sealed_value_can_neither_be_read_nor_changed() -> None:
    sealed = crypto.seal({"user": 7, "label": "secret-label"})
    assert "label" not in sealed
    assert crypto.unseal(sealed, max_age=60) == {"user": 7, "label": "secret-label"}
    assert crypto.unseal(sealed[:20] + ("y" if sealed[20] == "x" else "x") + sealed[21:], max_age=60) is None
    assert crypto.seal({"user": 7}) != crypto.seal({"user": 7})


def test_a_sealed_value_ages() -> None:
    with time_machine.travel("2026-11-23T12:00:00Z", tick=False) as clock:
        sealed = crypto.seal({"a": 1})
        clock.shift(60)
        assert crypto.unseal(sealed, max_age=60) == {"a": 1}
        clock.shift(1)
        assert crypto.unseal(sealed, max_age=60) is None


@pytest.mark.parametrize("text", ["", "x", "é", "\ud800", "gAAAAA==", "a" * 10_000])
def test_what_was_never_sealed(text: str) -> None:
    assert crypto.unseal(text, max_age=60) is None


def test_a_seal_of_another_secret_is_void(settings: object) -> None:
    sealed = crypto.seal({"a": 1})
    settings.SECRET_KEY = "another"  # type: ignore[attr-defined]  # pytest-django's fixture.
    assert crypto.unseal(sealed, max_age=60) is None
