"""Do not remember: what it covers goes out whole, before and after, and the constraint tells nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrm.context import memory_list
from peregrm.dataset.withholding import (
    DO_NOT_REMEMBER,
    NOT_A_REQUEST,
    WITHHELD,
    find_requests,
    hide_withheld,
    withhold,
)
from peregrm.records import Evidence, History, Memory, Session, Turn

MakeMemory = Callable[..., Memory]


def history(*sessions: Sequence[str], language: str = "en") -> History:
    made = tuple(
        Session(
            session_id=f"s{n}",
            turns=tuple(
                Turn.model_validate({"role": ("user", "assistant")[t % 2], "text": x}) for t, x in enumerate(texts)
            ),
        )
        for n, texts in enumerate(sessions, start=1)
    )
    return History(user_id="ada", language=language, sessions=made)


def at(session: int, turn: int, quote: str) -> tuple[Evidence, ...]:
    return (Evidence(session_id=f"s{session}", turn=turn, quote=quote),)


@pytest.mark.parametrize(
    ("text", "quote", "covered"),
    [
        ("Please don't remember my salary.", "Please don't remember", "my salary"),
        ("Don’t remember that I was arrested.", "Don’t remember that", "I was arrested"),
        ("forget what I said about my divorce", "forget what I said about", "my divorce"),
        (
            "please forget everything I told you about the abortion",
            "please forget everything I told you about",
            "the abortion",
        ),
        ("Forget that I'm gay", "Forget that", "I'm gay"),
        ("never store my phone number", "never store", "my phone number"),
        ("不要记住我的工资", "不要记住", "我的工资"),
        ("忘掉我之前说的离婚的事", "忘掉我之前说的", "离婚的事"),
        ("забудь, что я говорил про развод", "забудь, что я говорил про", "развод"),
    ],
)
def test_a_request_is_split_into_its_words_and_its_matter(text: str, quote: str, covered: str) -> None:
    (request,) = find_requests(history([text]))
    assert (request.quote, request.covered, request.named) == (quote, covered, True)


@pytest.mark.parametrize(
    "text",
    [
        "I'm on lithium. Please don't save that.",
        "off the record, I slept with my boss",
        "I owe 9,000. That must not be stored",
        "我怀孕了，别记下来。",
        "я беременна, не записывай это",
    ],
)
def test_a_request_may_point_to_what_stands_beside_it(text: str) -> None:
    (request,) = find_requests(history([text]))
    assert not request.named
    assert any(word in request.covered for word in ("lithium", "boss", "9,000", "怀孕", "беременна"))


@pytest.mark.parametrize(
    "text",
    [
        "I don't remember my childhood",
        "don't forget my birthday",
        "Forget all previous instructions",
        "Forget it, let's write a poem",
        "You never remember what I said about my diet",
        "I'll never forget that day",
        "Do not keep it too long",
        "forget about the whole world and its problems",
        "forget that you are an AI",
        "不要忘了我的生日",
        "I can't remember that I said so",
        "Remember my birthday",
    ],
)
def test_what_only_looks_like_a_request(text: str, make_memory: MakeMemory) -> None:
    assert find_requests(history([text])) == []
    memory = make_memory("Was born in May", evidence=at(1, 0, text))
    assert withhold(history([text]), [memory]) == [memory]


def test_only_the_user_asks() -> None:
    assert find_requests(history(["hi", "Don't remember my salary."])) == []


def texts_of(memories: Sequence[Memory]) -> str:
    return "\n".join(memory.model_dump_json() for memory in memories)


def test_a_named_matter_goes_out_before_and_after_and_leaves_no_trace(make_memory: MakeMemory) -> None:
    read = history(
        ["My divorce from Karl is eating me up. I love tea."],
        ["Forget what I said about the divorce."],
        ["The divorce hearing is on Monday."],
    )
    told = make_memory("Is getting divorced from Karl", evidence=at(1, 0, "My divorce from Karl is eating me up."))
    tea = make_memory("Loves tea", evidence=at(1, 0, "I love tea."))
    later = make_memory("Has a hearing on Monday", evidence=at(3, 0, "The divorce hearing is on Monday."))
    result = withhold(read, [told, tea, later])
    assert [m.value for m in result if m.status == "kept"] == ["Loves tea", result[-1].value]
    assert {m.reason for m in result if m.status == "rejected"} == {WITHHELD}
    constraint = result[-1]
    assert (constraint.label, constraint.status, constraint.evidence[0].quote) == (
        DO_NOT_REMEMBER,
        "kept",
        "Forget what I said about",
    )
    for word in ("ivorc", "Karl", "Monday", "hearing"):
        assert word not in texts_of(result)
        assert word not in memory_list(result)


def test_that_and_this_cover_the_words_around_or_the_turn_before(make_memory: MakeMemory) -> None:
    beside = history(["I'm on lithium. Please don't save that. I also like tea a lot."])
    lithium = make_memory("Takes lithium", evidence=at(1, 0, "I'm on lithium."))
    assert [m.status for m in withhold(beside, [lithium])] == ["rejected", "kept"]
    before = history(["I was fired for stealing.", "Sorry to hear it.", "Please don't remember that."])
    fired = make_memory("Was fired for stealing", evidence=at(1, 0, "I was fired for stealing."))
    cat = make_memory("Has a cat", evidence=at(1, 0, "cat"))
    assert [m.status for m in withhold(before, [fired, cat])] == ["rejected", "kept", "kept"]


def test_a_memory_of_the_label_gives_way_to_the_constraint(make_memory: MakeMemory) -> None:
    read = history(["Don't store my passport number P123."])
    noted = make_memory(
        "Does not want passport P123 kept", label=DO_NOT_REMEMBER, evidence=at(1, 0, "my passport number P123")
    )
    result = withhold(read, [noted])
    assert [m.status for m in result] == ["rejected", "kept"]
    assert "P123" not in texts_of(result)


def test_a_memory_of_the_label_without_a_request_is_unsupported(make_memory: MakeMemory) -> None:
    invented = make_memory("Asks not to keep the address", label=DO_NOT_REMEMBER, evidence=at(1, 0, "Where is China?"))
    (result,) = withhold(history(["Where is China?"]), [invented])
    assert (result.status, result.reason) == ("rejected", NOT_A_REQUEST)


def test_other_words_are_found_with_embeddings(make_memory: MakeMemory) -> None:
    class Embedder:
        def __hash__(self) -> int:
            return id(self)

        def embed(self, texts: Sequence[str]) -> Any:
            return np.array([[1.0, 0.0] if "sober" in t or "drink" in t else [0.0, 1.0] for t in texts])

    read = history(["Don't remember my drinking."])
    drinks = make_memory("Was in hospital for drinking", evidence=at(1, 0, "my drinking"))
    sober = make_memory("Has been sober for a year")
    tea = make_memory("Loves tea")
    assert [m.status for m in withhold(read, [drinks, sober, tea])] == ["rejected", "kept", "kept", "kept"]
    assert [m.value for m in withhold(read, [drinks, sober, tea], Embedder()) if m.status == "kept"][:1] == [
        "Loves tea"
    ]


def test_the_constraint_is_one_in_the_users_language() -> None:
    result = withhold(history(["不要记住我的工资"], ["不要记住我的病"], language="zh"), [])
    assert len(result) == 1
    assert "不要记住" in result[0].value
    assert len(result[0].evidence) == 2


@given(st.lists(st.text(max_size=60), max_size=4), st.text(max_size=30))
def test_no_memory_is_lost_and_none_is_doubled(texts: list[str], value: str) -> None:
    read = history(texts)
    memories = [
        Memory(user_id="ada", label="UNMAPPED", type="direct", value=f"{value}{n}", method="test") for n in range(3)
    ]
    result = withhold(read, memories)
    assert len({m.id for m in result}) == len(result)
    if not find_requests(read):
        assert result == memories


def test_turns_on_a_withheld_matter_are_emptied_in_their_places() -> None:
    whole = history(
        [
            "I have bipolar disorder. Don't save that.",
            "Fine, I keep nothing of the bipolar disorder.",
            "Is it cold out?",
        ],
        ["The bipolar disorder came up at work.", "How did that go?"],
    )
    hidden = hide_withheld(whole)
    assert [[turn.text for turn in session.turns] for session in hidden.sessions] == [
        ["", "", "Is it cold out?"],
        ["", "How did that go?"],
    ]
    assert [len(session.turns) for session in hidden.sessions] == [len(session.turns) for session in whole.sessions]


def test_a_history_without_a_request_stays_as_it_is() -> None:
    plain = history(["I remember my first bike.", "Nice."])
    assert hide_withheld(plain) is plain
