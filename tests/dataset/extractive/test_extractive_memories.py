from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from peregrm.dataset.extractive import extract_memories, limits
from peregrm.dataset.extractive.labels import words_of
from peregrm.dataset.extractive.limits import MAX_KEPT
from peregrm.errors import DependencyError
from peregrm.models.embeddings import Embedder
from peregrm.records import History, Memory, Session, Turn
from peregrm.taxonomy import UNMAPPED, labels

TALK = "Preferences/Interaction_Preferences"


class HashedWords:
    """A deterministic stand-in for sentence embeddings: a unit vector of hashed words."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float64]:
        rows = np.zeros((len(texts), 64))
        for row, text in zip(rows, texts, strict=True):
            for word in words_of(text):
                row[sum(map(ord, word)) % 64] += 1.0
            row[0] += 1e-6
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def extracted(given: History, embedder: HashedWords | Embedder | None = None) -> list[Memory]:
    return extract_memories(given, embedder).kept


def history(*sessions: Sequence[str] | str, language: str = "en") -> History:
    """Sessions of user turns, each answered by a neutral assistant turn."""
    made = []
    for number, turns in enumerate(sessions):
        texts = [turns] if isinstance(turns, str) else turns
        pairs = [(Turn(role="user", text=text), Turn(role="assistant", text="Noted.")) for text in texts]
        made.append(Session(session_id=f"s{number}", turns=tuple(turn for pair in pairs for turn in pair)))
    return History(user_id="u", language=language, sessions=tuple(made))


def kept(*sessions: Sequence[str] | str) -> list[Memory]:
    return [memory for memory in extracted(history(*sessions)) if memory.status == "kept"]


def rejected(*sessions: Sequence[str] | str) -> list[Memory]:
    return [memory for memory in extracted(history(*sessions)) if memory.status == "rejected"]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("I've been a nurse for nine years.", "Personal_Background/Occupation"),
        ("im a retired bus driver btw", "Personal_Background/Occupation"),
        ("I'm in the second year of my master's in geology.", "Personal_Background/Education"),
        ("We moved to Leeds last spring.", "Personal_Background/Location"),
        ("I'm 34 and still afraid of the dentist.", "Personal_Background/Identity"),
        ("My sister and I haven't spoken since the wedding.", "Social_Relationships/Family"),
        ("My husband works offshore.", "Social_Relationships/Partners"),
        ("My boss takes me aside every Friday.", "Social_Relationships/Colleagues"),
        ("The floor manager keeps undermining me in meetings.", "Social_Relationships/Adversarial"),
        ("My dog is called Biscuit.", "Possessions/Pet"),
        ("I drive a 1998 Volvo.", "Possessions/Car"),
        ("I still wear my grandfather's watch.", "Possessions/Important_Items"),
        ("I'm allergic to penicillin.", "States_Experiences/Physical_State"),
        ("I feel lonely on Sundays.", "States_Experiences/Mental_State"),
        ("My father died two years ago.", "Social_Relationships/Family"),
        ("When I was nine we lost the farm.", "States_Experiences/Past_Experience"),
        ("I don't eat meat.", "Preferences/Food"),
        ("I can't stand jazz music.", "Preferences/Music"),
        ("I love mystery novels.", "Preferences/Reading"),
        ("I've always wondered how bees find home.", "Thoughts/Curiosity"),
        ("One day I want to open my own bakery.", "Thoughts/Goals/Long_Term"),
        ("I promised my niece I'd be at her recital.", "Social_Relationships/Family"),
        ("I'm flying to Oslo next Tuesday.", "Plans/Schedule"),
        ("Just tell me straight, no sugar-coating.", TALK),
        ("Don't give me a pep talk.", TALK),
        ("I hate it when people tell me to calm down.", TALK),
        ("Please don't call me sweetie.", TALK),
        ("I don't want advice, I just need to vent.", TALK),
        ("no platitudes please", TALK),
        ("I need people to be direct with me.", TALK),
        ("Could you just be on my side for a minute?", TALK),
        ("I don't want to talk about my ex.", "Constraints_and_Boundaries/Disliked_Topics"),
        ("My accent is a sore subject.", "Constraints_and_Boundaries/Sensitive_Topics"),
        ("我是一名小学老师。", "Personal_Background/Occupation"),
        ("我在苏州住了八年了。", "Personal_Background/Location"),
        ("我今年四十二岁。", "Personal_Background/Identity"),
        ("我妈一直不同意我离婚。", "Social_Relationships/Family"),
        ("我家养了一只橘猫。", "Possessions/Pet"),
        ("我对花生过敏。", "States_Experiences/Physical_State"),
        ("我最近压力很大，老失眠。", "States_Experiences/Mental_State"),
        ("我不吃香菜。", "Preferences/Food"),
        ("我特别喜欢听民谣。", "Preferences/Music"),
        ("别跟我讲大道理。", TALK),
        ("有话直说，别灌鸡汤。", TALK),
        ("我最讨厌别人劝我想开点。", TALK),
        ("别再提我前夫了。", "Constraints_and_Boundaries/Disliked_Topics"),
        ("我打算明年回老家。", "Plans/Schedule"),
        ("我想开一家自己的花店。", "Thoughts/Goals/Long_Term"),
    ],
)
def test_a_stated_fact_is_kept_with_its_label(text: str, label: str) -> None:
    (memory,) = kept(text)
    assert memory.label == label
    assert memory.evidence[0].quote in text
    assert memory.method == "extractive"
    assert memory.type == "direct"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Would I get a visa if I live in Portugal?", "question"),
        ("If I were married I would move to Rome, I live in hope.", "hypothetical"),
        ("Let's say I work as a pilot.", "hypothetical"),
        ("I need this table, I want you to sort it.", None),
        ("I need this table in alphabetical order.", None),
        ("My roommate hates cilantro.", "somebody else"),
        ("My neighbour is allergic to peanuts.", "somebody else"),
        ("Write a story where I work as a spy. I live in a castle with my wife.", "role-play"),
        ("Pretend you are my landlord. My rent is late because I lost my job.", "role-play"),
        ("Please proofread this:\nI have worked as a nurse for nine years.", "pasted"),
        ("Subject: Leave\nDear Sam,\nI've been a nurse for nine years.\nBest regards,\nLu", "pasted"),
        ('He answered "I\'ve been a nurse for nine years" and laughed.', None),
        ("> I've been a nurse for nine years", "pasted"),
        ("```\nI am a nurse and I live in Leeds\n```", "pasted"),
        ("要是我是医生就好了。", "hypothetical"),
        ("帮我润色：我在医院工作了九年。", "pasted"),
        ("我同事对花生过敏。", "somebody else"),
        ("写一篇小说，我是一名医生，我住在海边。", "role-play"),
        ("我想要你把这个表格排序。", None),
    ],
)
def test_what_only_looks_like_a_fact_is_not_kept(text: str, reason: str | None) -> None:
    assert kept(text) == []
    reasons = [memory.reason or "" for memory in rejected(text)]
    if reason is None:
        assert all("user asked" not in text for text in reasons)
    else:
        assert reasons
        assert any(reason in given for given in reasons)


@pytest.mark.parametrize(
    "text",
    [
        "Thanks, that worked.",
        "Make it shorter and more formal.",
        "Convert 30 miles to km.",
        "What is the capital of Peru?",
        "I like the second version better.",
        "I have a function that returns a list.",
        "def f(x):\n    return my_sister",
        "谢谢，这个可以。",
        "把第二段改短一点。",
        "おはようございます、私は学生です。",
        "",
        "...",
    ],
)
def test_task_talk_leaves_no_record(text: str) -> None:
    assert extracted(history(text)) == []


def test_the_assistant_and_the_system_are_never_read() -> None:
    turns = (
        Turn(role="system", text="I've been a nurse for nine years."),
        Turn(role="user", text="Hello."),
        Turn(role="assistant", text="My sister lives in Leeds and I hate pep talks."),
    )
    assert extracted(History(user_id="u", language="en", sessions=(Session(session_id="s", turns=turns),))) == []


def test_a_fact_beside_a_question_or_a_task_is_found() -> None:
    (memory,) = kept("I'm a night-shift nurse, can you plan three cheap dinners?")
    assert memory.evidence[0].quote == "I'm a night-shift nurse"
    (memory,) = kept("Sort this by date. I've been a beekeeper's wife and a nurse for nine years. Then print it.")
    assert memory.value.startswith("I've been a beekeeper's wife")


def test_role_play_lasts_until_the_user_steps_out_of_it() -> None:
    session = [
        "Let's role-play. You be my boss.",
        "I have two kids and I work nights.",
        "OK stop. I have a cat called Mo.",
    ]
    (memory,) = kept(session)
    assert memory.label == "Possessions/Pet"
    assert kept(session[:2], ["I work nights."])[0].evidence[0].session_id == "s1"


@pytest.mark.parametrize(
    ("turns", "secret"),
    [
        (["I earn little. My brother is in prison. Don't save that, please."], "prison"),
        (["Between us, my brother is in prison."], "prison"),
        (["My brother is in prison.", "Forget I said that."], "prison"),
        (["This is off the record. My brother is in prison."], "prison"),
        (["我弟弟坐牢了。这事别记。"], "坐牢"),
        (["我弟弟坐牢了。", "当我没说。"], "坐牢"),
    ],
)
def test_what_must_not_be_remembered_is_withheld_everywhere(turns: list[str], secret: str) -> None:
    found = extracted(history(turns))
    (request,) = [memory for memory in found if memory.label == "Constraints_and_Boundaries/Do_Not_Remember"]
    assert request.status == "rejected"
    assert request.reason is not None
    assert "asked not to keep" in request.reason
    assert not any(secret in memory.model_dump_json() for memory in found)


def test_a_restatement_of_a_withheld_fact_is_withheld_too() -> None:
    found = extracted(history("My brother is in prison. Don't save that.", "My brother is in prison."))
    assert not any("prison" in memory.value for memory in found)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("I live in Leeds with two friends.", "I moved to Bristol in May."),
        ("I live above a bar.", "I do not live above the bar now."),
        ("I work as a nurse at the county hospital.", "I quit my job last week."),
        ("I'm the assistant coach.", "I'm the head coach now."),
        ("I love steak.", "I stopped eating meat in June."),
        ("I'm a vegetarian.", "I eat meat again."),
        ("My sister and I don't talk.", "My sister and I made up."),
        ("I fell out with Joss over money.", "Joss and I are talking again."),
        ("My boyfriend cooks for me.", "My boyfriend and I broke up."),
        ("I drive an old Volvo.", "I sold the Volvo."),
        ("I play squash every Monday.", "I stopped playing squash."),
        ("我在西丽跟室友合租，住在西丽。", "我搬到龙华了。"),
        ("我在医院当护士。", "我辞职了。"),
        ("我最爱吃火锅。", "我吃素了。"),
        ("我跟我姐冷战半年了。", "我跟我姐和好了。"),
    ],
)
def test_a_later_contradiction_supersedes(earlier: str, later: str) -> None:
    old, new = extracted(history(earlier, later))
    assert (old.status, new.status) == ("superseded", "kept")
    assert old.superseded_by == new.id
    assert old.reason is not None
    assert "later" in old.reason


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("My sister and I made up.", "My brother and I don't talk."),
        ("I live in Leeds.", "I live in Leeds, near the park."),
        ("I love steak.", "I stopped smoking."),
        ("I drive an old Volvo.", "I sold the piano."),
        ("I'm a nurse.", "My husband quit his job."),
        ("I grew up in Cork.", "I moved to Bristol."),
        ("My sister lives in Leeds.", "I finally visited my sister."),
        ("我在医院当护士。", "我老公辞职了。"),
    ],
)
def test_facts_that_can_both_be_true_stay(earlier: str, later: str) -> None:
    assert [memory.status for memory in extracted(history(earlier, later))] == ["kept", "kept"]


def test_a_chain_of_moves_points_from_each_to_the_next() -> None:
    first, second, third = extracted(history("I live in Leeds.", "I moved to Bristol.", "I moved to Cardiff."))
    assert first.superseded_by == second.id
    assert second.superseded_by == third.id
    assert third.status == "kept"


def test_duplicates_become_one_memory_with_all_the_evidence() -> None:
    (memory,) = kept("I don't eat mushrooms.", "Remember, I don't eat mushrooms!")
    assert [item.session_id for item in memory.evidence] == ["s0", "s1"]
    assert len(kept("I eat mushrooms every day.", "I never eat mushrooms.")) == 2


@pytest.mark.parametrize("other", [None, HashedWords()])
@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("I'm allergic to peanuts.", "I'm allergic to shellfish."),
        ("My son is three years old and goes to nursery.", "My daughter is three years old and goes to nursery."),
        ("My sister lives in Leeds and works as a nurse.", "My brother lives in Leeds and works as a nurse."),
        ("My dog has been with us for 3 long years.", "My dog has been with us for 4 long years."),
        ("我女儿三岁了，每天上幼儿园。", "我儿子三岁了，每天上幼儿园。"),
    ],
)
def test_facts_that_differ_in_a_word_or_number_stay_apart(one: str, two: str, other: HashedWords | None) -> None:
    found = extracted(history(one, two), other)
    assert [memory.status for memory in found] == ["kept", "kept"]
    assert [len(memory.evidence) for memory in found] == [1, 1]


def test_many_facts_in_one_frame_are_as_many_memories() -> None:
    foods = ["pears", "apples", "plums", "figs", "dates", "kiwis", "grapes", "lemons", "limes", "melons", "mangoes"]
    said = history(*[f"I love eating {food} for breakfast on Sundays." for food in foods])
    assert len(extracted(said, HashedWords())) == len(foods)


@pytest.mark.parametrize("turned", [False, True])
def test_of_duplicates_the_wording_that_says_more_stays(turned: bool) -> None:
    said = ["I'm allergic to peanuts.", "I'm allergic to peanuts and shellfish."]
    (memory,) = kept(*(reversed(said) if turned else said))
    assert memory.value == "I'm allergic to peanuts and shellfish."
    assert [item.session_id for item in memory.evidence] == ["s0", "s1"]


def test_a_fact_said_again_after_it_was_replaced_keeps_its_links() -> None:
    found = extracted(history("I moved to Bristol.", "I live in Leeds.", "I moved to Bristol."))
    by_id = {memory.id: memory for memory in found}
    assert all(memory.superseded_by in by_id for memory in found if memory.status == "superseded")


def test_a_superseded_fact_names_the_day_of_the_later_one() -> None:
    said = history("I live in Leeds.", "I moved to Bristol.", "I moved to Cardiff.")
    first, second, third = said.sessions
    turns = tuple(turn.model_copy(update={"time": "2026-03-04T10:00:00+00:00"}) for turn in second.turns)
    second = second.model_copy(update={"date": "2026-03-01", "turns": turns})
    old, newer, _ = extracted(said.model_copy(update={"sessions": (first, second, third)}))
    assert old.reason == "superseded: the user said otherwise later (2026-03-04, home)"
    assert newer.reason == "superseded: the user said otherwise later (home)"


def many(n: int) -> list[str]:
    words = [f"{a}{b}{c}{d}o" for a in "bdfgk" for b in "aeiou" for c in "lmnpr" for d in "aeiou"][:n]
    return [f"I collect {word} stamps from {word}land. What if I had a {word} dog?" for word in words]


def test_order_follows_the_conversation_and_the_latest_of_equals_are_kept() -> None:
    said = history(*many(MAX_KEPT + 30))
    outcome = extract_memories(said)
    stays = [memory for memory in outcome.kept if memory.status == "kept"]
    places = [int(memory.evidence[0].session_id[1:]) for memory in stays]
    assert places == list(range(30, MAX_KEPT + 30))
    assert sum(memory.status == "rejected" for memory in outcome.kept) == MAX_KEPT + 30


def test_what_is_over_the_limit_is_a_drop_with_its_words_and_reason() -> None:
    said = history(*many(MAX_KEPT + 3))
    dropped = extract_memories(said).dropped
    assert [drop.text for drop in dropped] == [text.split(".")[0] + "." for text in many(3)]
    assert len({drop.id for drop in dropped}) == 3
    for drop in dropped:
        assert (drop.stage, drop.kind, drop.subject, drop.failed) == ("memories", "over the limit", said.id, False)
        assert str(MAX_KEPT) in drop.reason


def test_what_was_said_in_more_sessions_outlasts_what_was_said_once() -> None:
    said = history(*many(1), *many(MAX_KEPT + 1))
    dropped = extract_memories(said).dropped
    assert [drop.text for drop in dropped] == [many(2)[1].split(".")[0] + "."]


def test_statements_beyond_what_is_compared_are_dropped_by_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_COMPARED", 2)
    outcome = extract_memories(history(*many(3)))
    assert [drop.text for drop in outcome.dropped] == ["session s0, turn 0"]
    assert [m.evidence[0].session_id for m in outcome.kept if m.status == "kept"] == ["s1", "s2"]


def test_a_weak_statement_counts_only_where_something_can_let_it_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_COMPARED", 1)
    said = history("I'm a nurse.", "I walked around some more.")
    assert extract_memories(said).dropped == []
    assert [drop.text for drop in extract_memories(said, HashedWords()).dropped] == ["session s1, turn 0"]


def test_the_reason_of_a_drop_is_the_rule_by_which_it_went(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_KEPT", 1)
    outcome = extract_memories(history("I live in Leeds.", "I moved to Bristol.", "I'm a nurse.", "I'm a nurse."))
    reasons = {drop.text: drop.reason for drop in outcome.dropped}
    assert "what replaced it in the end is not among the 1 statements" in reasons["I live in Leeds."]
    assert "the surest, of those about as sure the ones said in more sessions" in reasons["I moved to Bristol."]


def test_very_long_turns_are_read_at_both_ends_only() -> None:
    filler = "The committee met and the minutes were read aloud. " * 4000
    text = (
        "I've been a nurse for nine years.\n" + filler + "My sister lives in Leeds.\n" + filler + "\nI hate pep talks."
    )
    assert len(text) > 200_000
    assert [memory.value for memory in kept(text)] == ["I've been a nurse for nine years.", "I hate pep talks."]


@pytest.mark.parametrize(
    "text", ["'" * 50_000, "i really " * 30_000, "我" * 200_000, "_" * 200_000, "\n" * 200_000, ': "' * 50_000]
)
def test_hostile_turns_are_harmless(text: str) -> None:
    assert len(extracted(history(text))) <= MAX_KEPT


_PIECES = st.sampled_from(
    [
        "I've been a nurse for nine years",
        "my sister lives in Leeds",
        "我妈最讨厌吵架",
        "don’t give me a pep talk",
        "别跟我讲大道理",
        "Write a poem",
        "forget I said that",
        '"quoted words that run on"',
        "```code",
        "I moved to Bristol",
        "if I were you",
        "Dear Sam,\n",
        "😀",
        "\ud83d",
        "...",
        "?",
        "\n\n",
        " , ",
        "。",
    ]
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(_PIECES, max_size=8).map(" ".join), min_size=1, max_size=5))
def test_evidence_is_exact_and_records_are_consistent(turns: list[str]) -> None:
    given_history = history(turns, turns)
    found = extracted(given_history, HashedWords())
    assert found == extracted(given_history, HashedWords())
    ids = {memory.id for memory in found}
    assert len(ids) == len(found)
    for memory in found:
        assert memory.label in (*labels(), UNMAPPED)
        assert memory.value.strip()
        assert memory.evidence
        for item in memory.evidence:
            session = next(s for s in given_history.sessions if s.session_id == item.session_id)
            assert session.turns[item.turn].role == "user"
            assert item.quote
            assert item.quote in session.turns[item.turn].text
        assert (memory.reason is None) == (memory.status == "kept")
        assert (memory.superseded_by in ids) == (memory.status == "superseded")


def test_with_real_embeddings_near_sentences_join_and_weak_ones_need_a_likeness() -> None:
    try:
        embedder = Embedder()
    except DependencyError as missing:
        pytest.skip(str(missing))
    found = extracted(
        history(
            "I'm scared of flying in planes.",
            "I used the second formula and got 14.",
            "I am so scared of flying in a plane these days.",
            "I am afraid of flying in a plane.",
        ),
        embedder,
    )
    joined, paraphrase = [memory for memory in found if memory.status == "kept"]
    assert joined.label == paraphrase.label == "States_Experiences/Mental_State"
    assert [len(joined.evidence), len(paraphrase.evidence)] == [2, 1]
