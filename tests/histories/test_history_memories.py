"""Memory items of a source: evidence, rejection, confidence, doubles."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrm.histories import read_histories
from peregrm.histories.memories import EVIDENCE_NOT_FOUND

TURNS = [
    {"role": "user", "text": "Hello there"},
    {"role": "assistant", "text": "What do you do?"},
    {"role": "user", "text": "  "},
    {"role": "tool", "text": "lookup"},
    {"role": "user", "text": "I’m a nurse,\nand I work nights. My brother helps"},
    {"role": "assistant", "text": "Nights are hard"},
    {"role": "user", "text": "我住在奥斯陆，很想家"},
]


def read(tmp_path, *items, sessions=None):
    record = {
        "user_id": "u",
        "sessions": sessions or [{"session_id": "s", "turns": TURNS}],
        "memory_items": list(items),
    }
    path = tmp_path / "f.jsonl"
    path.write_text(json.dumps(record), encoding="utf-8")
    (history,) = read_histories(path)
    texts = {session.session_id: session.turns for session in history.sessions}
    for memory in history.memories:
        for evidence in memory.evidence:
            assert evidence.quote in texts[evidence.session_id][evidence.turn].text
    return history


def mends(history):
    """The notes about memories alone; those of the turns above are the same everywhere."""
    return {key: count for key, count in history.notes.items() if not key.endswith("_turn")}


def item(**changes):
    base = {"type": "direct", "label": "Personal_Background/Occupation", "value": "Is a nurse", "confidence": 0.9}
    return {**base, **changes}


def evidence(index, text, session="s"):
    return {"session_id": session, "utterance_index": index, "text": text}


NOT_FOUND = {"evidence_not_found": 1}
MENDED = {"evidence_index_mended": 1}
CASES = {
    # source index 4 is turn 2 once the empty turn and the tool's are gone
    "right": (evidence(4, "I work nights"), [(2, "I work nights")], {}),
    "other case, space and quotes": (evidence(4, "i'm a NURSE, and"), [(2, "I’m a nurse,\nand")], {}),
    "wrong index": (evidence(0, "I work nights"), [(2, "I work nights")], MENDED),
    "index out of range": (evidence(99, "I work nights"), [(2, "I work nights")], MENDED),
    "negative index": (evidence(-1, "很想家"), [(4, "很想家")], MENDED),
    "index of an empty turn": (evidence(2, "Hello"), [(0, "Hello")], MENDED),
    "index as text": (evidence("4", "I work nights"), [(2, "I work nights")], {}),
    "no index": (evidence(None, "I work nights"), [(2, "I work nights")], MENDED),
    "true as index": (evidence(True, "Hello"), [(0, "Hello")], MENDED),
    "several indices": (evidence([0, 4], "I work nights"), [(2, "I work nights")], {}),
    "several quotes": (evidence([0, 4], ["Hello", "My brother"]), [(0, "Hello"), (2, "My brother")], {}),
    "shortened": (evidence(4, "a nurse... My brother"), [(2, "a nurse"), (2, "My brother")], {}),
    "shortened over turns": (evidence([0, 4], "Hello [...] work nights"), [(0, "Hello"), (2, "work nights")], {}),
    "a piece is lost": (evidence(4, "a nurse … my sister"), [(2, "a nurse")], {"evidence_partly_found": 1}),
    "in an assistant's turn, as said": (evidence(5, "Nights are hard"), [(3, "Nights are hard")], {}),
    "only in another assistant's turn": (evidence(0, "Nights are hard"), [], NOT_FOUND),
    "invented": (evidence(0, "I am a pilot"), [], NOT_FOUND),
    "only dots": (evidence(0, "..."), [], NOT_FOUND),
    "null text": (evidence(0, None), [], {}),
    "blank text": (evidence(0, " "), [], {}),
    "no evidence": (None, [], {}),
    "bare text": ("My brother", [(2, "My brother")], MENDED),
    "list of evidence": ([evidence(0, "Hello"), evidence(4, "My brother")], [(0, "Hello"), (2, "My brother")], {}),
    "unknown session": (evidence(4, "My brother", "other"), [(2, "My brother")], {}),
}


@pytest.mark.parametrize("case", CASES)
def test_evidence(tmp_path, case):
    raw, expected, notes = CASES[case]
    history = read(tmp_path, item(evidence=raw))
    (memory,) = history.memories
    assert [(each.turn, each.quote) for each in memory.evidence] == expected
    expected_reason = EVIDENCE_NOT_FOUND if notes == NOT_FOUND else None
    assert (memory.status, memory.reason) == ("rejected" if expected_reason else "kept", expected_reason)
    ours = {key: count for key, count in history.notes.items() if key.startswith("evidence")}
    assert ours == notes


def test_evidence_follows_a_session_whose_id_was_doubled(tmp_path):
    sessions = [
        {"session_id": "s", "turns": [{"role": "user", "text": "first"}]},
        {"session_id": "s", "turns": [{"role": "user", "text": "second"}]},
    ]
    history = read(tmp_path, item(evidence=evidence(0, "second")), sessions=sessions)
    assert history.memories[0].evidence[0].session_id == "s#2"


@pytest.mark.parametrize(
    ("changes", "value", "reason"),
    [
        ({"value": "Is a nurse [ERROR: Role-play]"}, "Is a nurse", "Role-play"),
        ({"value": "[error: not about the user] Is a nurse"}, "Is a nurse", "not about the user"),
        ({"value": "Is a nurse [ERROR: cut off"}, "Is a nurse", "cut off"),
        ({"value": "Is a nurse [ERROR]"}, "Is a nurse", "marked as an error by the source"),
        ({"value": "[ERROR: all of it]"}, "[ERROR: all of it]", "all of it"),
        ({"reasoning": "[ERROR: third party]"}, "Is a nurse", "third party"),
        ({"extra": {"deep": ["[ERROR: deep]"]}}, "Is a nurse", "deep"),
    ],
)
def test_what_the_source_marks_as_wrong_is_rejected(tmp_path, changes, value, reason):
    history = read(tmp_path, item(**changes))
    (memory,) = history.memories
    assert (memory.status, memory.value, memory.reason) == ("rejected", value, reason)
    assert mends(history) == {"rejected_memory": 1}


def test_a_user_who_quotes_an_error_is_not_rejected(tmp_path):
    turns = [{"role": "user", "text": "The log says [ERROR: disk full]"}]
    quoting = item(evidence=evidence(0, "[ERROR: disk full]"))
    history = read(tmp_path, quoting, sessions=[{"session_id": "s", "turns": turns}])
    assert history.memories[0].status == "kept"


@pytest.mark.parametrize(
    "confidence", [-0.1, 1.1, 95, True, "high", [1], float("nan"), float("inf"), pytest.param(10**400, id="huge")]
)
def test_unusable_confidence_is_none_and_counted(tmp_path, confidence):
    history = read(tmp_path, item(confidence=confidence))
    assert history.memories[0].confidence is None
    assert mends(history) == {"confidence_dropped": 1}


@pytest.mark.parametrize(("confidence", "expected"), [(0, 0.0), (1, 1.0), (0.25, 0.25), (None, None)])
def test_usable_confidence(tmp_path, confidence, expected):
    history = read(tmp_path, item(confidence=confidence))
    assert history.memories[0].confidence == expected
    assert mends(history) == {}


def test_doubles_and_empty_values_are_dropped_and_counted(tmp_path):
    history = read(tmp_path, item(), item(memory_id="m2"), item(value=" "), item(value="Likes tea"))
    assert [memory.value for memory in history.memories] == ["Is a nurse", "Likes tea"]
    assert mends(history) == {"duplicate_memory": 1, "empty_memory": 1}


def test_an_unknown_type_is_the_weaker_one_and_counted(tmp_path):
    history = read(tmp_path, item(type="guess"))
    assert history.memories[0].type == "indirect"
    assert mends(history) == {"memory_type_unknown": 1}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ODD_EVIDENCE = st.fixed_dictionaries(
    {}, optional={"session_id": st.none() | st.text(max_size=3), "utterance_index": JSON, "text": JSON}
)


@given(
    st.dictionaries(st.sampled_from(["label", "label_suggestion", "confidence", "time_scope", "emotion"]), JSON),
    ODD_EVIDENCE | st.lists(ODD_EVIDENCE, max_size=2),
)
def test_no_odd_field_breaks_the_reading(tmp_path_factory, fields, odd):
    history = read(tmp_path_factory.mktemp("odd"), item(evidence=odd, **{"confidence": None, **fields}))
    assert len(history.memories) == 1
