from __future__ import annotations

import pytest

from peregrm.dataset.extractive import extract_memories, group_persona
from peregrm.dataset.extractive.persona import PER_TRAIT
from peregrm.errors import ArtifactError
from peregrm.records import History, Memory, Session, Turn
from peregrm.taxonomy import labels


def memory(label: str, value: str, *, status: str = "kept", user: str = "u", confidence: float = 0.9) -> Memory:
    return Memory(
        user_id=user,
        label=label,
        type="direct",
        value=value,
        status=status,
        reason=None if status == "kept" else "no",
        confidence=confidence,
        method="extractive",
    )


def history(language: str = "en", *texts: str) -> History:
    turns = tuple(Turn(role="user", text=text) for text in texts)
    return History(user_id="u", language=language, sessions=(Session(session_id="s", turns=turns),))


DEEP = [
    memory("Preferences/Interaction_Preferences", "Just tell me straight."),
    memory("Social_Relationships/Family", "My sister and I don't talk."),
    memory("Personal_Background/Occupation", "I've been a nurse for nine years."),
    memory("Preferences/Food", "I don't eat meat."),
]


def test_every_line_cites_kept_memories_and_says_what_they_say() -> None:
    gone = memory("Preferences/Food", "I eat meat.", status="superseded")
    persona = group_persona(history(), [*DEEP, gone])
    assert persona.is_deep
    assert "4 kept memories" in persona.gate_reason
    assert [trait.text for trait in persona.traits] == [
        "How they want to be spoken to: Just tell me straight",
        "Family: My sister and I don't talk",
        "Work and study: I've been a nurse for nine years",
        "Tastes and habits: I don't eat meat",
    ]
    assert {i for trait in persona.traits for i in trait.memory_ids} == {m.id for m in DEEP}
    assert persona.profile == "\n".join(trait.text for trait in persona.traits)
    assert set(persona.topics) == {"how to talk to them", "family", "work", "food"}
    assert persona.history_id == history().id


@pytest.mark.parametrize(
    ("memories", "reason"),
    [
        ([], "only 0"),
        (DEEP[:3], "only 3"),
        ([memory("Social_Relationships/Family", f"My aunt {n}") for n in "abcd"], "cover only 1"),
        (
            [
                memory(label, "x")
                for label in ("Possessions/Car", "Possessions/Pet", "Preferences/Food", "Personal_Background/Location")
            ],
            "none of the 4",
        ),
    ],
)
def test_the_gate_says_why_a_persona_is_shallow(memories: list[Memory], reason: str) -> None:
    persona = group_persona(history(), memories)
    assert not persona.is_deep
    assert reason in persona.gate_reason


def test_headings_are_in_the_users_language() -> None:
    persona = group_persona(history("zh"), [memory("Preferences/Interaction_Preferences", "别跟我讲大道理。")])
    assert persona.traits[0].text == "希望别人怎么和自己说话：别跟我讲大道理"
    assert "至少需要4条" in persona.gate_reason


@pytest.mark.parametrize("label", [*labels(), "UNMAPPED", "Something/Else"])
def test_every_label_finds_a_heading(label: str) -> None:
    (trait,) = group_persona(history(), [memory(label, "A statement.")]).traits
    assert trait.text.endswith(": A statement")


def test_a_trait_quotes_the_surest_few_in_order_and_shortens_the_long() -> None:
    many = [memory("Preferences/Food", f"I eat dish {n} " + "very " * 60, confidence=n / 10) for n in range(10)]
    (trait,) = group_persona(history(), many).traits
    assert trait.memory_ids == tuple(m.id for m in many[-PER_TRAIT:])
    assert trait.text.count("…") == PER_TRAIT


def test_memories_of_another_user_are_an_error() -> None:
    with pytest.raises(ArtifactError, match="of user v"):
        group_persona(history(), [memory("Preferences/Food", "x", user="v")])


def test_from_history_to_persona() -> None:
    told = history(
        "en",
        "I've been a nurse for nine years. My sister and I haven't spoken since the funeral.",
        "Please just tell me straight, no pep talks. I don't eat meat.",
        "I feel lonely when I come home.",
    )
    persona = group_persona(told, extract_memories(told).kept)
    assert persona.is_deep
    assert "tell me straight" in persona.profile
