"""The sample is what its README says: sound, joined by id, and not to be won by length or word overlap."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from peregrm.dataset.gold import Gold, GoldCase, read_gold
from peregrm.records import Memory
from peregrm.taxonomy import labels
from peregrm.text import cjk_share, containment, tokens

EXAMPLES = Path(__file__).parent.parent / "examples"
POLICIES = ["gold personalized", "gold generic", "gold cold", "gold mismatched"]


class Part(NamedTuple):
    """The sample, or the users beside it: how many write which language, and how short a history and a session may be."""

    folder: Path
    languages: dict[str, int]
    sessions: int
    turns: int


PARTS = [Part(EXAMPLES, {"en": 10, "zh": 2}, 4, 6), Part(EXAMPLES / "more", {"en": 32, "zh": 4}, 2, 4)]


def read_histories(folder: Path) -> dict[str, dict[str, Any]]:
    paths = sorted((folder / "histories").glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


@pytest.fixture(scope="module", params=PARTS, ids=["sample", "more"])
def part(request: pytest.FixtureRequest) -> Part:
    return request.param


@pytest.fixture(scope="module")
def histories(part: Part) -> dict[str, dict[str, Any]]:
    return read_histories(part.folder)


@pytest.fixture(scope="module")
def gold(part: Part) -> Gold:
    return read_gold(part.folder / "gold.jsonl")


def test_nobody_is_in_both_parts() -> None:
    first, second = (read_histories(part.folder) for part in PARTS)
    assert not set(first) & set(second)


def test_as_many_users_of_each_language_as_the_readme_says(part: Part, histories: dict[str, dict[str, Any]]) -> None:
    assert all(history["user_id"] == name for name, history in histories.items())
    assert Counter(history["language"] for history in histories.values()) == part.languages


def test_users_write_the_language_they_are_said_to(histories: dict[str, dict[str, Any]]) -> None:
    for history in histories.values():
        text = " ".join(turn["text"] for session in history["sessions"] for turn in session["turns"])
        share = cjk_share(text)
        assert share > 0.7 if history["language"] == "zh" else share == 0


def test_dated_sessions_in_order(part: Part, histories: dict[str, dict[str, Any]]) -> None:
    every_id = [session["session_id"] for history in histories.values() for session in history["sessions"]]
    assert len(set(every_id)) == len(every_id)
    for history in histories.values():
        dates = [session["date"] for session in history["sessions"]]
        assert part.sessions <= len(dates) <= 6
        assert all(earlier < later for earlier, later in pairwise(dates))
        assert all(len(date) == 10 for date in dates)


def test_turns_that_alternate(part: Part, histories: dict[str, dict[str, Any]]) -> None:
    for history in histories.values():
        for session in history["sessions"]:
            roles = [turn["role"] for turn in session["turns"]]
            assert part.turns <= len(roles) <= 20
            assert roles == (["user", "assistant"] * 10)[: len(roles)]
            assert all(turn["text"].strip() == turn["text"] != "" for turn in session["turns"])


def test_no_turn_occurs_twice(histories: dict[str, dict[str, Any]]) -> None:
    texts = [
        turn["text"] for history in histories.values() for session in history["sessions"] for turn in session["turns"]
    ]
    repeated = {text: count for text, count in Counter(texts).items() if count > 1 and len(tokens(text)) > 5}
    assert not repeated


def test_every_curated_quote_stands_in_its_user_turn(gold: Gold, histories: dict[str, dict[str, Any]]) -> None:
    for memory in gold.memories.values():
        sessions = {session["session_id"]: session["turns"] for session in histories[memory.user_id]["sessions"]}
        assert memory.evidence
        for evidence in memory.evidence:
            turn = sessions[evidence.session_id][evidence.turn]
            assert turn["role"] == "user"
            assert evidence.quote
            assert evidence.quote in turn["text"]


def test_curated_memories_are_kept_and_labelled(part: Part, gold: Gold) -> None:
    counts = Counter(memory.user_id for memory in gold.memories.values())
    assert len(counts) == sum(part.languages.values())
    assert all(10 <= count <= 18 for count in counts.values())
    for memory in gold.memories.values():
        assert (memory.status, memory.method) == ("kept", "curated")
        assert memory.label in labels()
        assert memory.value.strip() == memory.value != ""


@pytest.mark.parametrize(("name", "kind"), [("memories.jsonl", Memory), ("gold.jsonl", GoldCase)])
def test_ids_on_file_are_those_of_the_content(part: Part, name: str, kind: type[Memory] | type[GoldCase]) -> None:
    lines = [json.loads(line) for line in (part.folder / name).read_text(encoding="utf-8").splitlines()]
    assert [line["id"] for line in lines] == [kind.model_validate(line).id for line in lines]


def test_four_cases_a_user_in_the_users_language(gold: Gold, histories: dict[str, dict[str, Any]]) -> None:
    assert Counter(case.user_id for case in gold.cases) == dict.fromkeys(histories, 4)
    assert {case.category for case in gold.cases} == {"emotional_support", "high_eq", "social_strategy"}
    for case in gold.cases:
        assert case.language == histories[case.user_id]["language"]
        for text in (case.situation, case.query, *(reply.text for reply in case.replies)):
            assert (cjk_share(text) > 0.5) == (case.language == "zh")


def test_each_case_has_four_different_replies_of_known_order(gold: Gold) -> None:
    for case in gold.cases:
        by_rank = sorted(case.replies, key=lambda reply: reply.rank)
        assert [reply.rank for reply in by_rank] == [1, 2, 3, 4]
        assert [reply.policy for reply in by_rank] == POLICIES
    texts = [reply.text for case in gold.cases for reply in case.replies]
    assert len(set(texts)) == len(texts)
    assert all(text.strip() == text != "" for text in texts)


def test_each_case_names_memories_of_its_own_user(gold: Gold) -> None:
    for case in gold.cases:
        assert 1 <= len(case.memory_ids) <= 5
        assert len(set(case.memory_ids)) == len(case.memory_ids)
        assert {gold.memories[memory_id].user_id for memory_id in case.memory_ids} == {case.user_id}


def test_the_query_is_new_and_not_copied_from_the_history(gold: Gold, histories: dict[str, dict[str, Any]]) -> None:
    for case in gold.cases:
        said = {turn["text"] for session in histories[case.user_id]["sessions"] for turn in session["turns"]}
        assert case.query not in said


def share_won(gold: Gold, score: Callable[[GoldCase, str], float]) -> list[float]:
    """Return, for each adjacent pair of ranks, how often the better reply has the higher score; ties count half."""
    shares = []
    for better, worse in pairwise(range(1, 5)):
        wins = 0.0
        for case in gold.cases:
            scores = {reply.rank: score(case, reply.text) for reply in case.replies}
            wins += 0.5 if scores[better] == scores[worse] else scores[better] > scores[worse]
        shares.append(wins / len(gold.cases))
    return shares


def test_the_longer_reply_is_no_better(gold: Gold) -> None:
    shares = share_won(gold, lambda case, text: len(tokens(text)))
    assert all(0.40 <= share <= 0.60 for share in shares), shares


def test_the_reply_that_shares_more_words_is_no_better(gold: Gold) -> None:
    known: dict[str, list[str]] = defaultdict(list)
    for memory in gold.memories.values():
        known[memory.user_id] += [memory.value, *(evidence.quote for evidence in memory.evidence)]

    def overlap(case: GoldCase, text: str) -> float:
        return containment(text, "\n".join([case.query, case.situation, *known[case.user_id]]))

    shares = share_won(gold, overlap)
    assert all(0.40 <= share <= 0.60 for share in shares), shares
