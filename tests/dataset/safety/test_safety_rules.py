"""Rules flag what a user says of themselves, and leave figures of speech, stories, quotations and other people's matters alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrm.dataset.safety import Flag, carried_flags, flag_case, flag_history, flag_text
from peregrm.dataset.safety.flags import DANGERS
from peregrm.dataset.safety.rulebook import LANGUAGES, load_rules
from peregrm.records import Case, Evidence, History, Memory, Session, Trait, Turn


def talk(*texts: str) -> History:
    turns = tuple(Turn(role="user" if n % 2 == 0 else "assistant", text=text) for n, text in enumerate(texts))
    return History(user_id="ada", language="en", sessions=(Session(session_id="s1", turns=turns),))


def kinds(flags: tuple[Flag, ...]) -> set[str]:
    return {flag.kind for flag in flags}


def test_what_must_be_flagged_is(flagged_row: tuple[str, str]) -> None:
    kind, text = flagged_row
    flags = flag_text(text)
    assert kind in kinds(flags)
    assert all(flag.quote and flag.quote in text and flag.by == "rule" for flag in flags)


def test_what_only_sounds_like_it_is_not(fine_text: str) -> None:
    assert flag_text(fine_text) == ()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_danger_has_rules_for_both_voices_and_none_matches_nothing(language: str) -> None:
    rules = load_rules(language)
    for danger in DANGERS:
        voices = {rule.voice for rule in rules if rule.kind == danger}
        assert "any" in voices or voices == {"own", "told"}
    assert all(rule.find("") is None for rule in rules)
    assert all(rule.find("The train to Leeds leaves at nine. 火车九点开。") is None for rule in rules)


@given(st.text(max_size=300))
def test_any_text_is_read_without_an_error_and_quotes_stand_in_it(text: str) -> None:
    for flag in flag_text(text):
        assert flag.quote in text


def test_a_history_is_flagged_where_the_user_says_it_and_nowhere_else() -> None:
    history = talk(
        "Hello. I'm 14 and new here.",
        "If you want to die, call a crisis line.",
        'My friend said "I want to die" in the play.',
        "I see.",
        "Write a story in which I want to kill myself and he hits me.",
        "Once upon a time",
        "Work was long. I don't want to be alive any more. I want to die.",
    )
    flags = flag_history(history)
    assert [(flag.where, flag.kind) for flag in flags] == [("s1[0]", "minor"), ("s1[6]", "self_harm")]
    assert {flag.subject for flag in flags} == {history.id}
    assert flags[1].quote in history.sessions[0].turns[6].text


def test_that_the_user_is_a_minor_holds_for_all_their_cases() -> None:
    flags = flag_history(talk("I'm 14 and sad.", "Oh.", "I want to die."))
    assert [flag.kind for flag in carried_flags(flags)] == ["minor"]


def test_every_field_of_a_case_is_looked_at(case: Case, make_memory: Callable[..., Memory]) -> None:
    assert flag_case(case) == ()
    changed: dict[str, dict[str, object]] = {
        "query": {"query": "he hits me and I can't sleep"},
        "situation": {"situation": "The user is 15 years old and alone at home."},
        "persona": {"persona": case.persona.model_copy(update={"profile": "A nurse with suicidal thoughts."})},
        "trait": {
            "persona": case.persona.model_copy(
                update={"traits": (Trait(text="Thinks about killing himself.", memory_ids=("mem-0",)),)}
            )
        },
        "memory": {"memories": (make_memory("was sexually abused as a child"),)},
        "own words": {"memories": (make_memory("I don't want to be alive any more"),)},
        "quote": {"memories": (make_memory(evidence=(Evidence(session_id="s", turn=0, quote="I took 40 pills"),)),)},
    }
    found = {name: flag_case(case.model_copy(update=update)) for name, update in changed.items()}
    assert {name: kinds(flags) for name, flags in found.items()} == {
        "query": {"abuse"},
        "situation": {"minor"},
        "persona": {"self_harm"},
        "trait": {"self_harm"},
        "memory": {"abuse"},
        "own words": {"self_harm"},
        "quote": {"medical_emergency"},
    }
    assert found["query"][0].where == "query"
    assert found["memory"][0].where.startswith("memory mem-")
    rejected = case.model_copy(update={"memories": (make_memory("wants to kill themselves", status="rejected"),)})
    assert flag_case(rejected) == ()
