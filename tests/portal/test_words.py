"""Every state, reason, step and warning has words of its own."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from workspaces.portal import words
from workspaces.portal.present import _ACTS
from workspaces.states import ConditionStatus, ConditionType, Desired, EventKind, Reason, State

ROOT = Path(__file__).resolve().parents[2]
EVERY = list(itertools.product(State, Reason, Desired))


@pytest.mark.parametrize(("state", "reason", "desired"), EVERY)
def test_every_state_says_what_it_is_why_and_what_to_do(state: State, reason: Reason, desired: Desired) -> None:
    said = words.state_words(state, reason, desired)
    assert said.title
    assert said.tone in {"good", "busy", "calm", "bad"}
    assert said.why.endswith(".")
    assert said.next_step.endswith(".")


def test_every_state_has_its_own_title_and_buttons() -> None:
    assert len({words.TITLES[state] for state in State}) == len(State)
    assert set(_ACTS) == set(State)


def test_a_failure_speaks_for_itself_until_a_start_was_asked_for() -> None:
    failure = {"text": "The host refused access.", "next_step": "Check the token.", "generation": 3}
    failed = words.state_words(State.FAILED, Reason.FAILURE, Desired.RUNNING, failure=failure, generation=3)
    assert (failed.why, failed.next_step) == ("The host refused access.", "Check the token.")
    again = words.state_words(State.FAILED, Reason.USER, Desired.RUNNING, failure=failure, generation=4)
    assert again.title == "Starting"


def test_a_click_is_seen_before_anybody_acted_on_it() -> None:
    assert words.state_words(State.RUNNING, Reason.USER, Desired.STOPPED).title == "Stopping"
    assert words.state_words(State.STOPPED, Reason.USER, Desired.RUNNING).title == "Starting"
    assert words.state_words(State.RUNNING, Reason.RESTART, Desired.RUNNING, restart=True).title == "Restarting"
    assert words.state_words(State.RUNNING, Reason.DELETED, Desired.DELETED).title == "Moving to trash"


@pytest.mark.parametrize(("kind", "status"), list(itertools.product(ConditionType, ConditionStatus)))
def test_every_step_has_words(kind: ConditionType, status: ConditionStatus) -> None:
    assert words.STEPS[kind][0]
    assert words.step_words(kind, status)
    assert words.event_words(EventKind.CONDITION, target=status, source=kind, reason="", text="")


@pytest.mark.parametrize(("state", "reason"), list(itertools.product(State, Reason)))
def test_every_event_has_words(state: State, reason: Reason) -> None:
    assert words.event_words(EventKind.STATE, target=state, source=State.PENDING, reason=reason, text="")
    assert words.event_words(EventKind.STATE, target=state, source="", reason=reason, text="") == "Created"


def test_an_undo_is_no_stop() -> None:
    said = words.event_words(EventKind.INTENT, target=Desired.STOPPED, source="", reason=Reason.RESTORED, text="")
    assert said == "Deletion called off"


@pytest.mark.parametrize("desired", list(Desired))
def test_every_intent_has_words(desired: Desired) -> None:
    assert words.event_words(EventKind.INTENT, target=desired, source="", reason=Reason.USER, text="")


def test_every_warning_of_the_adapters_has_words() -> None:
    text = (ROOT / "workspaces/runtime/local/adapter.py").read_text()
    for code in re.findall(r"\(\"(no_\w+)\",\)", text):
        assert code in words.WARNINGS
    what, cure = words.warning_words("no_sandbox")
    assert "without a sandbox" in what
    assert "bubblewrap" in cure
    assert "brand new" in words.warning_words("brand_new")[0]


def test_git_says_what_could_be_lost() -> None:
    assert words.git_notes({}) == []
    # Not "all": what is stashed is only here as well.
    nothing = {"uncommitted": 0, "unpushed": 0, "behind": 0}
    assert [note.text for note in words.git_notes(nothing)] == ["No unpushed commits"]
    notes = words.git_notes({"uncommitted": 2, "unpushed": 1, "behind": 4})
    assert [(note.text, note.tone) for note in notes] == [
        ("2 uncommitted", "warn"), ("1 unpushed", "warn"), ("4 behind", "calm"),
    ]  # fmt: skip
