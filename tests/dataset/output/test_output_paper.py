from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrm.dataset.output.paper_export import criteria_rows, final_rows, prediction_rows
from peregrm.dataset.output.paper_files import json_text
from peregrm.dataset.output.paper_folder import export_paper, import_paper
from peregrm.dataset.output.paper_import import read_criteria_file, read_final, read_predictions
from peregrm.errors import ArtifactError, InputError
from peregrm.histories import read_histories
from peregrm.records import Case, Criteria, Evidence, Memory, Persona, Reply, Trait
from peregrm.store import read_records


def test_folder_to_paper_and_back_gives_the_same(
    build: Any, make_criteria: Callable, make_reply: Callable, tmp_path: Path
) -> None:
    criteria = [make_criteria(case) for case in build.cases]
    replies = [
        make_reply(case, policy, fails=n == 2) for n, case in enumerate(build.cases) for policy in ("a/b", "mine")
    ]
    build.workspace.write("criteria.jsonl", criteria)
    build.workspace.write("replies.jsonl", replies)
    out = tmp_path / "paper"
    files = export_paper(build.workspace, out)
    policies = {
        name.removeprefix("predictions_en_").removesuffix(".json")
        for name in files
        if name.startswith("predictions_en")
    }
    cases: list[Case] = []
    for language in ("en", "zh"):
        known = read_final(out / f"final_{language}.json")
        cases += [place.case for place in known.places]
        assert known.notes == {}
        own = {place.case.id for place in known.places}
        assert {c.id for c in read_criteria_file(out / f"criteria_{language}.json", known)} == {
            c.id for c in criteria if c.case_id in own
        }
        for policy in policies:
            name = "mine" if policy == "mine" else "a/b"
            back = read_predictions(out / f"predictions_{language}_{policy}.json", known, policy=name)
            assert {r.id for r in back} == {r.id for r in replies if r.case_id in own and r.policy == name}
    assert {case.id: case for case in cases} == {case.id: case for case in build.cases}
    assert len(policies) == 2


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@st.composite
def random_cases(draw: st.DrawFn) -> list[Case]:
    cases: dict[str, Case] = {}
    for _ in range(draw(st.integers(1, 4))):
        user = draw(st.sampled_from(["a", "a#2", "b"]))
        memories = {
            memory.id: memory
            for memory in draw(
                st.lists(
                    st.builds(
                        Memory,
                        user_id=st.just(user),
                        label=TEXT,
                        type=st.sampled_from(["direct", "indirect"]),
                        value=TEXT,
                        evidence=st.lists(
                            st.builds(Evidence, session_id=TEXT, turn=st.integers(0, 9), quote=TEXT), max_size=2
                        ).map(tuple),
                        confidence=st.one_of(st.none(), st.floats(0, 1)),
                        time_scope=st.one_of(st.none(), TEXT),
                        reason=st.one_of(st.none(), TEXT),
                        method=TEXT,
                    ),
                    max_size=4,
                )
            )
        }
        persona = Persona(
            user_id=user,
            history_id=draw(TEXT),
            profile=draw(TEXT),
            traits=tuple(Trait(text=draw(TEXT), memory_ids=(one,)) for one in list(memories)[:2]),
            topics=tuple(draw(st.lists(TEXT, max_size=2))),
            is_deep=draw(st.booleans()),
            gate_reason=draw(TEXT),
            method=draw(TEXT),
        )
        case = Case(
            user_id=user,
            language=draw(st.sampled_from(["en", "zh"])),
            category=draw(st.sampled_from(["emotional_support", "high_eq", "social_strategy"])),
            persona=persona,
            memories=tuple(memories.values()),
            relevant_memory_ids=tuple(draw(st.permutations(list(memories)))[:2]),
            situation=draw(TEXT),
            query=draw(TEXT),
            query_id=draw(st.one_of(st.none(), TEXT)),
            origin=draw(st.sampled_from(["generated", "gold"])),
        )
        cases[case.id] = case
    return list(cases.values())


@given(random_cases())
def test_any_cases_survive_the_paper_format(tmp_path_factory: pytest.TempPathFactory, cases: list[Case]) -> None:
    rows, _ = final_rows(cases)
    path = tmp_path_factory.getbasetemp() / "random.json"
    path.write_text(json_text(rows), encoding="utf-8")
    back = [place.case for place in read_final(path).places]
    assert {case.id: case for case in back} == {case.id: case for case in cases}


def test_shape_is_the_paper_s(build: Any) -> None:
    rows, places = final_rows(build.cases)
    row = rows[0]
    assert {
        "source_file",
        "original_sid",
        "session_id",
        "persona",
        "queries",
        "conversation",
        "extracted_memory",
    } <= row.keys()
    assert row["persona"].keys() == {"is_deep_persona", "gate_reason", "topics", "persona_profile"}
    query = row["queries"][0]
    assert {"query_id", "category", "situation_id", "query", "relevant_mem", "reasoning", "situation"} <= query.keys()
    assert query["situation"].keys() == {"id", "category", "topic", "relevant_mem", "situation"}
    assert query["category"] == "Emotional Support"
    cited = [row["extracted_memory"][position - 1]["memory_id"] for position in query["relevant_mem"]]
    assert tuple(cited) == build.cases[0].relevant_memory_ids
    assert len({place.session_id for place in places}) == len(rows)


def test_exported_conversations_are_histories_again(build: Any, tmp_path: Path) -> None:
    export_paper(build.workspace, tmp_path / "paper")
    found = {
        history.user_id: history
        for history in read_histories(tmp_path / "paper" / "final_en.json", format="personaemp")
    }
    assert {session.session_id for session in found["user-0"].sessions} == {"s1", "s2"}
    assert found["user-0"].memories[0].evidence[0].quote in found["user-0"].sessions[0].turns[0].text


FOREIGN: dict[str, Any] = {
    "source_file": "x.json",
    "original_sid": "o1",
    "session_id": "s1",
    "persona": {"is_deep_persona": "true", "gate_reason": "r", "topics": ["t"], "persona_profile": "# Nurse"},
    "queries": [
        {
            "query_id": "q1",
            "category": "High-EQ Interaction",
            "situation_id": "x",
            "query": "what do I say?",
            "relevant_mem": [1, 2, "3", 9],
            "situation": {"id": "x", "category": "High-EQ Interaction", "topic": "t", "relevant_mem": [1], "situation": "Tom is late."},
        },
        {"query_id": "q2", "category": "emotional support", "query": "again?", "situation": "He is later still."},
    ],
    "conversation": [{"role": "user", "text": "My brother Tom is late and I am tired of it."}],
    "extracted_memory": [
        {"label": "Social_Relationships/Family", "type": "direct", "value": "has a brother",
         "evidence": {"session_id": "o1", "utterance_index": 0, "text": "My brother Tom"}},
        {"label": "Thoughts", "type": "implied", "value": "[ERROR: not about the user] likes tea"},
        "is tired",
    ],
}  # fmt: skip


def foreign(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "final.json"
    path.write_text(json.dumps([{**FOREIGN, **changes}]), encoding="utf-8")
    return path


def test_the_paper_s_own_file(tmp_path: Path) -> None:
    known = read_final(foreign(tmp_path))
    first, second = (place.case for place in known.places)
    assert [memory.value for memory in first.memories] == ["has a brother", "is tired"]
    assert first.memories[0].evidence[0].quote == "My brother Tom"
    assert first.relevant_memory_ids == tuple(memory.id for memory in first.memories)
    assert (first.category, second.category) == ("high_eq", "emotional_support")
    assert (first.query_id, first.language, first.persona.is_deep) == ("s1/q1", "en", True)
    assert second.situation == "He is later still."
    assert known.notes["relevant_memory_rejected"] == known.notes["relevant_memory_not_there"] == 1


def test_quotes_of_a_file_without_its_conversation_are_not_looked_for(tmp_path: Path) -> None:
    known = read_final(foreign(tmp_path, conversation=None))
    memories = known.places[0].case.memories
    assert [(memory.value, memory.evidence) for memory in memories] == [("has a brother", ()), ("is tired", ())]
    assert known.notes["evidence_unchecked"] == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"queries": [{**FOREIGN["queries"][0], "category": "Sales"}]}, "none of Emotional Support"),
        ({"queries": [FOREIGN["queries"][1]] * 2}, "comes twice"),
        ({"queries": [{**FOREIGN["queries"][0], "relevant_mem": ["one"]}]}, "not a position"),
        ({"queries": [{"query_id": "q"}]}, "category"),
        ({"queries": ["q"]}, "must be an object"),
        ({"session_id": None, "original_sid": None}, "original_sid"),
        ({"extracted_memory": {}}, "extracted_memory must be a list"),
        ({"persona": 4}, "persona must be an object"),
        ({"peregrm": {"persona": {}}, "user_id": "u", "language": "en"}, "extracted_memory"),
    ],
)
def test_wrong_final_files_name_the_record(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=r"final\.json: record 1") as raised:
        read_final(foreign(tmp_path, **changes))
    assert said in str(raised.value)


@pytest.mark.parametrize("text", ["", "{}", "[1]", "[", '["\\ud800"]', "[" * 100_000])
def test_files_that_are_no_list_of_objects(tmp_path: Path, text: str) -> None:
    (tmp_path / "final.json").write_text(text)
    with pytest.raises(InputError, match=r"final\.json"):
        read_final(tmp_path / "final.json")


def test_the_paper_s_criteria(tmp_path: Path) -> None:
    known = read_final(foreign(tmp_path))
    text = "Specific Criteria:\n1. **Tone** (60%): plain words\nand short ones\n2. Depth (40 %): sees it"
    path = tmp_path / "criteria.json"
    path.write_text(
        json.dumps([{"session_id": "s1", "criterias": [{"query_id": "q2", "resonation": text}, {"query_id": "q1"}]}])
    )
    (found,) = read_criteria_file(path, known)
    assert found.case_id == known.places[1].case.id
    assert [(one.weight, one.text) for one in found.items[0][1]] == [
        (60, "Tone: plain words and short ones"),
        (40, "Depth: sees it"),
    ]


@pytest.mark.parametrize(
    ("session", "query", "text", "said"),
    [
        ("s9", "q1", "1. a (100%): b", "no query"),
        ("s1", "q1", "1. a (70%): b", "not to 100"),
        ("s1", "q1", "be kind", "no numbered criteria"),
        ("s1", "q1", "1. a (0%): b", "weight"),
    ],
)
def test_wrong_criteria_files(tmp_path: Path, session: str, query: str, text: str, said: str) -> None:
    known = read_final(foreign(tmp_path))
    path = tmp_path / "criteria.json"
    path.write_text(json.dumps([{"session_id": session, "criterias": [{"query_id": query, "resonation": text}]}]))
    with pytest.raises(InputError, match="record 1") as raised:
        read_criteria_file(path, known)
    assert said in str(raised.value)


def predictions(tmp_path: Path, *responses: Any) -> Path:
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps([{"responses": list(responses)}]))
    return path


def test_predictions_are_read_by_order_with_thinking_off(tmp_path: Path) -> None:
    known = read_final(foreign(tmp_path))
    first, second = read_predictions(
        predictions(tmp_path, {"response": "<think>x</think> hello"}, {"response": None}), known, policy="p"
    )
    assert (first.text, first.case_id) == ("hello", known.places[0].case.id)
    assert second.failure is not None
    assert second.failure.kind == "missing"


@pytest.mark.parametrize(
    ("responses", "said"),
    [
        ([{"response": "a"}], "1 responses, but the final file has 2"),
        ([{"response": "a"}] * 3, "3 responses"),
        ([{"response": "a", "query_id": "q2"}, {"response": "b", "query_id": "q1"}], "is for query 'q2', but 'q1'"),
        ([{"response": 4}, {"response": "b"}], "response must be a text"),
        ([{"response": None, "failure": {"kind": "x"}}, {"response": "b"}], "failure"),
    ],
)
def test_predictions_that_do_not_fit_are_an_error(tmp_path: Path, responses: list[Any], said: str) -> None:
    with pytest.raises(InputError, match="record 1") as raised:
        read_predictions(predictions(tmp_path, *responses), read_final(foreign(tmp_path)), policy="p")
    assert said in str(raised.value)


def test_predictions_of_another_number_of_records(tmp_path: Path) -> None:
    path = tmp_path / "predictions.json"
    path.write_text("[]")
    with pytest.raises(InputError, match="0 records, but the final file has 1"):
        read_predictions(path, read_final(foreign(tmp_path)), policy="p")


def test_a_missing_reply_keeps_its_place(build: Any, make_reply: Callable, make_criteria: Callable) -> None:
    _, places = final_rows(build.cases)
    first, second = (place.case for place in places if place.record == 0)
    rows = prediction_rows(places, {second.id: make_reply(second)})
    assert [one["response"] is None for one in rows[0]["responses"]] == [True, False]
    rows = criteria_rows(places, {second.id: make_criteria(second)})
    assert [one.keys() > {"query_id"} for one in rows[0]["criterias"]] == [False, True]
    assert rows[0]["criterias"][0] == {"query_id": first.id}


def test_a_case_that_rests_on_strangers_is_not_written(build: Any) -> None:
    with pytest.raises(ArtifactError, match="mem-nowhere"):
        final_rows([build.cases[0].model_copy(update={"relevant_memory_ids": ("mem-nowhere",)})])


def test_import_into_a_folder_once(tmp_path: Path) -> None:
    out = tmp_path / "in"
    files = predictions(tmp_path, {"response": "a"}, {"response": "b"})
    counts, notes = import_paper(foreign(tmp_path), out, predictions=[("p", files), ("q", files)])
    assert counts == {"cases.jsonl": 2, "replies.jsonl": 4}
    assert notes
    assert [reply.policy for reply in read_records(out / "replies.jsonl", Reply)] == ["p", "q", "p", "q"]
    assert not (out / "criteria.jsonl").exists()
    with pytest.raises(InputError, match="holds cases already"):
        import_paper(foreign(tmp_path), out)
    with pytest.raises(InputError, match="two files"):
        import_paper(foreign(tmp_path), tmp_path / "else", predictions=[("p", files), ("p", files)])


def test_failed_criteria_come_back_as_none(build: Any, tmp_path: Path) -> None:
    case = build.cases[0]
    failed = Criteria.model_validate(
        {"case_id": case.id, "method": "model", "failure": {"stage": "criteria", "kind": "x", "reason": "y"}}
    )
    rows, places = final_rows([case])
    (tmp_path / "final.json").write_text(json_text(rows))
    (tmp_path / "criteria.json").write_text(json_text(criteria_rows(places, {case.id: failed})))
    assert read_criteria_file(tmp_path / "criteria.json", read_final(tmp_path / "final.json")) == []
