"""Records: ids follow from content alone, and a record cannot hold what makes no sense."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import peregrm.records as module
from peregrm.records import (
    Bystander,
    Case,
    Criterion,
    Evidence,
    Failure,
    History,
    Judgement,
    Memory,
    Query,
    Record,
    Reply,
    Reward,
    Session,
    Trait,
    Turn,
    Usage,
    content_id,
)

TEXT = st.text(max_size=30)
FAILURE = Failure(stage="judge", kind="unparsable", reason="no JSON in the answer")
POINTS = Bystander(content=10, structure=10, efficiency=10, objectivity=10, accuracy=10)
SCORES = (("resonation", (4.0, 3.5)),)


def history(**fields: object) -> History:
    usual = {
        "user_id": "ada",
        "language": "en",
        "sessions": (Session(session_id="s1", turns=(Turn(role="user", text="hello"),)),),
    }
    return History.model_validate({**usual, **fields})


def judgement(**fields: object) -> Judgement:
    usual = {"case_id": "c", "reply_id": "r", "criteria_id": "k", "judge": "j", "aspect": "dimensions", "trial": 0}
    return Judgement.model_validate({**usual, **fields})


@given(TEXT, TEXT, TEXT)
def test_equal_content_gives_the_equal_id_and_other_content_another(user: str, situation: str, text: str) -> None:
    one = Query(user_id=user, situation_id=situation, text=text, method="m")
    two = Query(method="m", text=text, situation_id=situation, user_id=user)
    assert one.id == two.id
    assert re.fullmatch(r"qry-[0-9a-f]{16}", one.id)
    other = Query(user_id=user, situation_id=situation, text=text + "!", method="m")
    assert other.id != one.id


@given(TEXT, TEXT)
def test_moving_text_between_fields_changes_the_id(a: str, b: str) -> None:
    one = Query(user_id="u", situation_id=a, text=b, method="m")
    two = Query(user_id="u", situation_id=b, text=a, method="m")
    assert (one.id == two.id) == (a == b)


def test_the_id_is_the_same_on_every_machine() -> None:
    assert content_id("x", {"b": 1, "a": "é"}) == content_id("x", {"a": "é", "b": 1}) == "x-aa58fba8483623be"


def test_lone_surrogates_do_not_break_the_hash() -> None:
    assert content_id("x", "\ud83d") != content_id("x", "\ud83e")


def test_a_stored_id_is_ignored_and_recomputed(make_memory: Callable[..., Memory]) -> None:
    memory = make_memory()
    stored = json.loads(memory.model_dump_json())
    assert stored["id"] == memory.id
    assert Memory.model_validate({**stored, "id": "mem-0000000000000000"}).id == memory.id
    edited = Memory.model_validate_json(json.dumps({**stored, "value": "has a sister"}))
    assert edited.id == make_memory("has a sister").id != memory.id


def test_an_id_cannot_be_given_to_the_constructor() -> None:
    given_one = Query(user_id="u", situation_id="s", text="t", method="m", id="qry-mine")  # type: ignore[call-arg]
    assert given_one.id == Query(user_id="u", situation_id="s", text="t", method="m").id


def test_a_copy_with_changes_has_a_new_id(make_memory: Callable[..., Memory]) -> None:
    memory = make_memory()
    before = memory.id
    rejected = memory.model_copy(update={"status": "rejected", "reason": "no evidence"})
    assert rejected.id != before
    assert rejected.id == Memory.model_validate_json(rejected.model_dump_json()).id
    assert memory.id == before
    assert memory.model_copy().id == before
    assert rejected.model_copy(update={"status": "kept", "reason": None}).id == before


def test_asking_for_the_id_does_not_make_a_record_unequal(make_memory: Callable[..., Memory]) -> None:
    asked, unasked = make_memory(), make_memory()
    assert asked.id
    assert asked == unasked
    assert hash(asked) == hash(unasked)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (history(source="a.json", notes={"empty turn": 2}), history(source="b.json")),
        (Reply(case_id="c", policy="p", text="t", thinking="hm"), Reply(case_id="c", policy="p", text="t")),
        (
            Reply(case_id="c", policy="p", text="t", usage=Usage(calls=1)),
            Reply(case_id="c", policy="p", text="t", usage=Usage(calls=2)),
        ),
        (
            judgement(item_scores=SCORES, usage=Usage(calls=1, output_tokens=9)),
            judgement(item_scores=SCORES),
        ),
    ],
)
def test_excluded_fields_do_not_matter(one: Record, two: Record) -> None:
    assert one != two
    assert one.id == two.id


def test_every_other_field_matters() -> None:
    base = history()
    changes: dict[str, object] = {"user_id": "bob", "language": "zh", "sessions": (), "intents": ("advice",)}
    ids = {base.id} | {history(**{name: value}).id for name, value in changes.items()}
    assert len(ids) == 1 + len(changes)


@given(st.builds(Turn, role=st.sampled_from(["user", "assistant"]), text=TEXT, time=st.none() | TEXT))
def test_a_round_trip_through_json_keeps_record_and_id(turn: Turn) -> None:
    record = history(sessions=(Session(session_id="s1", turns=(turn,)),))
    again = History.model_validate_json(record.model_dump_json())
    assert again == record
    assert again.id == record.id


def test_a_round_trip_keeps_nested_records(case: Case) -> None:
    again = Case.model_validate_json(case.model_dump_json())
    assert again.id == case.id
    assert [memory.id for memory in again.memories] == [memory.id for memory in case.memories]
    assert again.persona.id == case.persona.id


def test_a_change_deep_inside_changes_the_id(case: Case, make_memory: Callable[..., Memory]) -> None:
    changed = case.model_copy(update={"memories": (make_memory("has a brother called Tim"), *case.memories[1:])})
    assert changed.id != case.id


def test_integers_and_floats_of_one_value_are_one_id() -> None:
    assert judgement(item_scores=(("d", (4, 3)),)).id == judgement(item_scores=(("d", (4.0, 3.0)),)).id


def test_records_are_frozen_and_know_their_fields(make_memory: Callable[..., Memory]) -> None:
    memory = make_memory()
    with pytest.raises(ValidationError):
        memory.value = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        make_memory(values="misspelt")


def test_every_kind_of_record_has_its_own_prefix() -> None:
    kinds = [kind for _, kind in inspect.getmembers(module, inspect.isclass) if issubclass(kind, Record)]
    prefixes = [kind.id_prefix for kind in kinds]
    assert len(kinds) > 10
    assert len(set(prefixes)) == len(prefixes)
    for kind in kinds:
        assert kind.id_excludes <= kind.model_fields.keys()


VALUES = {"item_scores": SCORES, "bystander": POINTS, "failure": FAILURE}


@pytest.mark.parametrize(
    ("aspect", "held"),
    [
        ("dimensions", ["item_scores"]),
        ("dimensions", ["failure"]),
        ("bystander", ["bystander"]),
        ("bystander", ["failure"]),
    ],
)
def test_a_judgement_holds_a_value_or_a_failure(aspect: str, held: list[str]) -> None:
    record = judgement(aspect=aspect, **{name: VALUES[name] for name in held})
    assert (record.failure is None) == (held != ["failure"])


@pytest.mark.parametrize(
    ("aspect", "held"),
    [
        ("dimensions", []),
        ("dimensions", ["bystander"]),
        ("dimensions", ["item_scores", "failure"]),
        ("dimensions", ["item_scores", "bystander"]),
        ("dimensions", ["bystander", "failure"]),
        ("dimensions", ["item_scores", "bystander", "failure"]),
        ("bystander", []),
        ("bystander", ["item_scores"]),
        ("bystander", ["bystander", "failure"]),
        ("bystander", ["item_scores", "failure"]),
        ("bystander", ["item_scores", "bystander"]),
    ],
)
def test_a_judgement_holds_neither_both_nor_none_nor_the_other_aspect(aspect: str, held: list[str]) -> None:
    with pytest.raises(ValidationError, match=r"either scores or a failure|does not hold"):
        judgement(aspect=aspect, **{name: VALUES[name] for name in held})


@pytest.mark.parametrize("points", [-0.1, 20.1, float("nan")])
def test_bystander_points_are_in_range(points: float) -> None:
    with pytest.raises(ValidationError):
        Bystander(content=points, structure=0, efficiency=0, objectivity=0, accuracy=0)


def test_parts_are_in_range() -> None:
    with pytest.raises(ValidationError):
        Criterion(text="names the feeling", weight=0)
    with pytest.raises(ValidationError):
        Evidence(session_id="s", turn=-1, quote="q")
    with pytest.raises(ValidationError):
        Trait(text="likes tea", memory_ids=())
    with pytest.raises(ValidationError):
        judgement(item_scores=SCORES, trial=-1)


@given(st.lists(st.builds(Usage, calls=st.integers(0, 9), input_tokens=st.integers(0, 999)), max_size=5))
def test_usage_adds_up(parts: list[Usage]) -> None:
    total = sum(parts, Usage())
    assert total.calls == sum(part.calls for part in parts)
    assert total.input_tokens == sum(part.input_tokens for part in parts)
    assert total.output_tokens == total.cached_tokens == 0


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("field", ["scores", "empathy", "bystander", "total", "penalty"])
def test_a_reward_holds_finite_numbers(field: str, number: float) -> None:
    held = {"scores": (("taste", 0.4),), "empathy": 0.4, "bystander": 0.5, "total": 0.1, "penalty": 0.0}
    names = {"case_id": "c", "reply_id": "r", "policy": "p", "judge": "j", "coverage": 1, "judgement_ids": ()}
    Reward.model_validate({**names, **held})
    with pytest.raises(ValidationError, match=r"finite|greater"):
        Reward.model_validate({**names, **held, field: (("taste", number),) if field == "scores" else number})
