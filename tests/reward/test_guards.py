"""The guards of the reward: what they measure, what they take off, and that honest comfort is no flattery."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from peregrm.records import Case, Memory
from peregrm.reward import guards as module
from peregrm.reward.guards import Guards, measure, penalty
from peregrm.text import tokens

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
SISTER = "Has not spoken to her sister Kerry since their nan's funeral; Kerry sold their nan's piano while Maya slept"
SOUP = "婆婆每个星期天都要炖一锅老鸭汤等全家回来"
ODD = [
    "",
    " ",
    "\n",
    "🥲",
    "👩‍👩‍👧 ❤️",
    "שלום, מה שלומך היום?",
    "\u202eevil\u202c",
    "e\u0301",
    "\ud800",
    "x" * 900,
    "“",
    "'",
    '"',
    "don’t",
    "1 2 3",
]


@pytest.fixture(scope="module")
def known(case: Case, make_memory: Callable[..., Memory]) -> Case:
    """The case of `ada` with a memory in each language and one that was rejected."""
    rejected = make_memory("collects porcelain owls from flea markets in Ghent", status="rejected", reason="role-play")
    memories = (*case.memories, make_memory(SISTER), make_memory(SOUP), rejected)
    return case.model_copy(update={"memories": memories})


def measured(case: Case, text: str) -> dict[str, float]:
    return dict(measure(case, text))


def copied_tokens(case: Case, text: str) -> int:
    return round(measured(case, text)["parroting"] * len(module._sequence(text)))


pieces = st.sampled_from(
    [*ODD, SISTER, SOUP, "You're amazing!", "你说得太对了！", "No. Eat something, then ring Tom.", "先睡吧。"]
)
texts = st.one_of(
    st.text(max_size=200), st.lists(pieces, max_size=8).map(" ".join), st.lists(pieces, max_size=8).map("".join)
)


@given(texts)
def test_everything_is_measured_for_any_text(known: Case, text: str) -> None:
    found = measure(known, text)
    values = dict(found)
    assert [name for name, _ in found] == ["tokens", "parroting", "sycophancy"]
    assert values["tokens"] >= len(tokens(text))
    assert values["tokens"] == int(values["tokens"])
    assert all(0 <= values[name] <= 1 for name in ("parroting", "sycophancy"))


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\u3000"])
def test_an_empty_reply_measures_nothing(known: Case, text: str) -> None:
    assert measure(known, text) == (("tokens", 0.0), ("parroting", 0.0), ("sycophancy", 0.0))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Go to bed.", 3),
        ("先睡吧。", 3),
        ("Ring her, 现在 please", 5),
        ("a" * 80, 10),
        ("🥲" * 80, 10),
        ("don't", 1),
    ],
)
def test_length_counts_words_and_chinese_characters_and_is_not_fooled_by_missing_spaces(
    known: Case, text: str, count: int
) -> None:
    assert measured(known, text)["tokens"] == count


# --- parroting


@pytest.mark.parametrize(
    ("text", "copied"),
    [
        ("You have not spoken to your sister since.", 0),
        ("not spoken to her sister", 0),
        ("not spoken to her sister Kerry", 6),
        ("NOT spoken -- to her: sister KERRY!", 6),
        ("to her sister Kerry", 0),
        ("not spoken to her own sister Kerry", 0),
        (SISTER, 19),
        (f"I know this: {SISTER}. I know this: {SISTER}.", 38),
        ("since their nan\u2019s funeral; Kerry", 5),
        ("since their na\u200bn's fun\u00aderal; Kerry", 5),
        ("周日那锅老鸭汤，等全家", 0),
        ("要炖一锅老鸭汤", 0),
        ("都要炖一锅老鸭汤", 8),
        ("她说都要炖一锅老鸭汤，等全家回来。", 13),
        ("collects porcelain owls from flea markets in Ghent", 0),
        ("A nurse who hides worry behind jokes.", 7),
        ("You: a nurse who hides worry.", 5),
    ],
)
def test_runs_of_five_words_or_eight_characters_are_copied(known: Case, text: str, copied: int) -> None:
    assert copied_tokens(known, text) == copied


def test_a_run_does_not_cross_from_one_memory_into_the_next(known: Case) -> None:
    values = [memory.value for memory in known.memories[:2]]
    assert values == ["has a brother called Tom", "prefers blunt answers"]
    assert copied_tokens(known, "brother called Tom prefers blunt answers") == 0


def test_a_set_phrase_is_no_recital(case: Case, make_memory: Callable[..., Memory]) -> None:
    memory = make_memory("is always tired at the end of the day and naps on the bus")
    known = case.model_copy(update={"memories": (memory,)})
    assert copied_tokens(known, "It is late; at the end of the day it was her call.") == 0
    assert copied_tokens(known, "You are always tired at the end of the day and nap.") == 9
    assert copied_tokens(known, "end of the day and") == 0


def test_echoing_the_message_is_no_recital(known: Case) -> None:
    said = known.model_copy(update={"query": "I've not spoken to her sister Kerry in a year. why?"})
    assert copied_tokens(known, "not spoken to her sister Kerry") == 6
    assert copied_tokens(said, "not spoken to her sister Kerry") == 0
    assert copied_tokens(said, "not spoken to her sister Kerry since their nan's funeral") > 0


@given(texts, st.sampled_from([SISTER, SOUP, "has a brother called Tom", "A nurse who hides worry behind jokes."]))
def test_appending_what_is_known_never_lowers_the_copied_tokens(known: Case, text: str, memory: str) -> None:
    before = copied_tokens(known, text)
    after = copied_tokens(known, f"{text}\n{memory}")
    assert after >= before + len(tokens(memory))


@given(st.lists(st.sampled_from(["甲", "乙", "丙", "word", "other", "third"]), max_size=60))
def test_a_whole_copy_of_a_long_text_is_copied_to_the_last_token_but_one(words: list[str]) -> None:
    text = " ".join(words)
    runs = list(module._runs(words))
    assert [start for start, _ in runs] == list(range(len(runs)))
    for start, run in runs:
        size = sum(module._size(token) for token in run)
        assert list(run) == words[start : start + len(run)]
        assert size >= 40 > size - module._size(run[-1])
    if runs:
        assert len(module._sequence(text)) - (runs[-1][0] + len(runs[-1][1])) <= 1


@pytest.mark.parametrize(
    "unit", [SISTER + " ", SOUP, "你真的", "you are so ", "“", "'", " 'a", ".", "don't you're ", "a"]
)
def test_the_work_grows_with_the_text_and_not_with_its_square(
    known: Case, unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 KB: no token is looked at more often than a run is long, and no run is longer than eight tokens."""
    looked_at = 0
    real = module._size

    def counted(token: str) -> int:
        nonlocal looked_at
        looked_at += 1
        return real(token)

    monkeypatch.setattr(module, "_size", counted)
    text = (unit * (200_000 // len(unit)))[:200_000]
    length = len(module._sequence(text))
    assert all(len(run) <= 8 for _, run in module._runs(module._sequence(text)))
    assert looked_at <= 2 * length
    assert 0 <= measured(known, text)["parroting"] <= 1


# --- what it costs


def test_every_guard_is_off_unless_set(known: Case) -> None:
    assert penalty(Guards(), measure(known, f"You're amazing. {SISTER} " * 500)) == 0.0
    assert penalty(Guards(), ()) == 0.0


def test_the_penalty_is_the_sum_of_the_charges() -> None:
    found = (("tokens", 150.0), ("parroting", 0.5), ("sycophancy", 0.25))
    assert penalty(Guards(length_limit=100, length_coefficient=0.01), found) == pytest.approx(0.5)
    assert penalty(Guards(length_limit=150, length_coefficient=0.01), found) == 0.0
    assert penalty(Guards(parroting_coefficient=0.4), found) == pytest.approx(0.2)
    assert penalty(Guards(sycophancy_coefficient=0.4), found) == pytest.approx(0.1)
    all_on = Guards(length_limit=100, length_coefficient=0.01, parroting_coefficient=0.4, sycophancy_coefficient=0.4)
    assert penalty(all_on, found) == pytest.approx(0.8)


def test_a_measure_that_costs_something_must_be_there() -> None:
    with pytest.raises(ValueError, match="not measured: parroting"):
        penalty(Guards(parroting_coefficient=1.0), (("tokens", 3.0),))


coefficients = st.floats(0, 10)


@given(
    st.integers(1, 2000), coefficients, coefficients, coefficients, st.floats(0, 1e5), st.floats(0, 1), st.floats(0, 1)
)
def test_the_penalty_is_never_negative_and_grows_with_what_is_measured(
    limit: int, length: float, parroting: float, sycophancy: float, n: float, p: float, s: float
) -> None:
    guards = Guards(
        length_limit=limit,
        length_coefficient=length,
        parroting_coefficient=parroting,
        sycophancy_coefficient=sycophancy,
    )
    less = penalty(guards, (("tokens", n), ("parroting", p / 2), ("sycophancy", s)))
    more = penalty(guards, (("tokens", n + 1), ("parroting", p), ("sycophancy", s)))
    assert 0 <= less <= more


@pytest.mark.parametrize("name", ["length_coefficient", "parroting_coefficient", "sycophancy_coefficient"])
@pytest.mark.parametrize("value", [-0.1, 1001.0, float("nan"), float("inf"), True, "0.5", None])
def test_a_coefficient_is_a_finite_number_from_zero_to_a_thousand(name: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        Guards.model_validate({name: value})


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "768"])
def test_the_limit_is_a_whole_number_from_one(value: Any) -> None:
    with pytest.raises(ValidationError):
        Guards(length_limit=value)
    with pytest.raises(ValidationError):
        Guards.model_validate({"limit": 5})


# --- the sample


def test_the_gold_replies_are_almost_never_flagged(case: Case) -> None:
    """Replies written to be best neither recite nor flatter; ordinary replies are counted in tokens like any text."""
    memories = [
        Memory.model_validate_json(line)
        for line in (EXAMPLES / "memories.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    flagged: dict[str, int] = {}
    for line in (EXAMPLES / "gold.jsonl").read_text(encoding="utf-8").splitlines():
        gold = json.loads(line)
        own = tuple(memory for memory in memories if memory.user_id == gold["user_id"])
        this = case.model_copy(update={"memories": own, "query": gold["query"], "language": gold["language"]})
        for reply in gold["replies"]:
            found = measured(this, reply["text"])
            assert found["tokens"] == len(tokens(reply["text"]))
            flags = (found["parroting"] > 0) + (found["sycophancy"] > 0)
            flagged[reply["policy"]] = flagged.get(reply["policy"], 0) + flags
    assert flagged.pop("gold mismatched") >= 1
    assert flagged == {"gold personalized": 0, "gold generic": 0, "gold cold": 0}


@pytest.mark.parametrize("line", ["counts", "count x", "spares   ", "nonsense here"])
def test_a_damaged_pattern_file_is_an_error(line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "sycophancy_en.txt").write_text(f"# a comment\n{line}\n", encoding="utf-8")
    monkeypatch.setattr(module.resources, "files", lambda _: tmp_path)
    with pytest.raises(ValueError, match=r"sycophancy_en\.txt: neither a rule nor a macro"):
        module._patterns.__wrapped__("en")


def counting_rules(language: str) -> list[str]:
    """The rules as they stand in the file, macros filled in."""
    macros: dict[str, str] = {}
    rules: list[str] = []
    for line in (Path(module.__file__).parent / "data" / f"sycophancy_{language}.txt").read_text("utf-8").splitlines():
        if not line.startswith(("@", "counts ")):
            continue
        filled = re.sub(r"\{([A-Z]+)\}", lambda found: macros[found[1]], line)
        if line.startswith("@"):
            name, text = filled[1:].split(" = ", 1)
            macros[name] = text
        else:
            rules.append(filled.removeprefix("counts "))
    return rules


SYCOPHANTS = st.lists(
    st.sampled_from(
        ["you", "are", "you're", "the best", "i", "agree", "what a great", "question", "they", "just jealous"]
    )
)


@pytest.mark.parametrize("language", ["en", "zh"])
@given(words=SYCOPHANTS, edge=st.sampled_from(["", "x", "'", "你", "!"]))
@settings(max_examples=60)
def test_patterns_sorted_by_their_first_letter_find_what_each_of_them_finds(
    language: str, words: list[str], edge: str
) -> None:
    text = f"{edge}{' '.join(words)}{edge}"
    each = counting_rules(language)
    assert bool(module._any_of(each).search(text)) == any(re.search(pattern, text) for pattern in each)


@pytest.mark.parametrize(
    "pattern", [r"\bab|c", r"\ba?b", r"\b(?:a|b)?c", r"\b[ab]c", r"ab", r"\b(?:a(?:b|d)|b)c", r"\b(?:a|b)c"]
)
@pytest.mark.parametrize("text", ["xab", "ab", "c", "xc", "b", "bc", "x b", "abc"])
def test_a_pattern_of_another_form_is_left_as_it_is(pattern: str, text: str) -> None:
    assert bool(module._any_of([pattern]).search(text)) == bool(re.search(pattern, text))
