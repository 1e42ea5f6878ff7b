"""What every prompt says of one user: the same memories in the same words, all of them, and none that was rejected."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import peregrm.prompts as prompts
from peregrm.context import memory_list
from peregrm.dataset.bigfive import infer_big_five
from peregrm.dataset.cases import memories_of
from peregrm.dataset.inspection import inspect_query
from peregrm.dataset.persona import infer_persona_with_model
from peregrm.dataset.queries import write_query
from peregrm.dataset.situations import write_situations
from peregrm.dimensions import BYSTANDER_PARTS, EMPATHY
from peregrm.models.base import Request
from peregrm.models.scripted import ScriptedModel
from peregrm.prompts import prompt_text
from peregrm.records import Case, History, Memory, Query, Reply, Session, Situation, Turn
from peregrm.replies import Setting, write_reply
from peregrm.reward.composed import compose_criteria
from peregrm.reward.criteria import write_criteria
from peregrm.reward.peregrm import PereGRM

MakeMemory = Callable[..., Memory]

HISTORY = History(
    user_id="ada",
    language="en",
    sessions=(Session(session_id="s1", turns=(Turn(role="user", text="honestly I just want a quiet evening"),)),),
)
OF_THE_CASE: tuple[Setting, ...] = ("generic", "memories", "personalized")
SHOWS_MEMORIES = ("persona", "situations", "inspection", "criteria", "judge", "replies")


async def requests_of_a_run(case: Case, memories: list[Memory]) -> dict[str, list[Request]]:
    """Ask every stage that follows the memories for one user, and return what the model was asked, by purpose."""
    model = ScriptedModel(lambda request: "no")
    case = case.model_copy(update={"memories": tuple(memories)})
    situation = Situation(
        user_id="ada",
        persona_id=case.persona.id,
        category=case.category,
        topic="dinner",
        text=case.situation,
        memory_ids=case.relevant_memory_ids,
        method="test",
    )
    query = Query(user_id="ada", situation_id=situation.id, text=case.query, method="test")
    await infer_persona_with_model(model, HISTORY, memories)
    await infer_big_five(model, HISTORY, memories)
    await write_situations(model, case.persona, memories, "en", 3)
    await write_query(model, HISTORY, case.persona, situation)
    await inspect_query(model, query, situation, case.persona, memories)
    await write_criteria(model, case)
    for setting in OF_THE_CASE:
        await write_reply(model, case, setting, policy=setting, max_tokens=9, temperature=0.0, seed=0)
    reply = Reply(case_id=case.id, policy="mine", text="No.")
    await PereGRM(model).judge_group(case, compose_criteria(case), [reply])
    asked: dict[str, list[Request]] = {}
    for request in model.requests:
        asked.setdefault(request.purpose, []).append(request)
    assert set(asked) == {*SHOWS_MEMORIES, "queries", "bystander"}
    return asked


def whole(request: Request) -> str:
    return "\n".join(message.content for message in request.messages)


@pytest.mark.parametrize("status", ["rejected", "superseded"])
async def test_memories_that_were_not_kept_appear_in_no_prompt(
    case: Case, make_memory: MakeMemory, status: str
) -> None:
    labels = ("Social_Relationships/Family", "Preferences/Interaction_Preferences", "States_Experiences/Mental_State")
    hidden = [make_memory("[ERROR: role-play] is a pirate", label=label, status=status) for label in labels]
    marked = case.model_copy(update={"relevant_memory_ids": tuple(memory.id for memory in [*hidden, *case.memories])})
    asked = await requests_of_a_run(marked, [*hidden, *case.memories])
    for purpose, requests in asked.items():
        for request in requests:
            assert "pirate" not in whole(request), purpose
            assert "ERROR" not in whole(request), purpose


async def test_memories_are_rendered_in_one_way_in_every_prompt(case: Case) -> None:
    asked = await requests_of_a_run(case, list(case.memories))
    shown = memory_list(case.memories)
    for purpose in SHOWS_MEMORIES:
        blocks = [
            block
            for request in asked[purpose]
            for block in re.findall(r"<(memories-\w+)>\n(.*?)\n</\1>", whole(request), re.DOTALL)
        ]
        assert {content for _, content in blocks} == {str(shown)}, purpose


async def test_policy_judge_and_criteria_see_the_same_of_a_user(case: Case, make_memory: MakeMemory) -> None:
    """Where the persona quotes memories as well: nothing is lost, and nobody knows more than the others."""
    memories = [*case.memories, make_memory("sings in a choir"), make_memory("has a cat")]
    persona = case.persona.model_copy(update={"profile": "Sings in a choir. Thinks in categories."})
    asked = await requests_of_a_run(case.model_copy(update={"persona": persona}), memories)
    blocks = set()
    for purpose in ("criteria", "judge", "replies"):
        match = re.search(r"<persona-.*</memories-\w+>", whole(asked[purpose][-1]), re.DOTALL)
        assert match, purpose
        blocks.add(match[0])
    (shown,) = blocks
    for memory in memories:
        assert re.search(rf"\b{re.escape(memory.value)}\b", shown, re.IGNORECASE)


@pytest.mark.parametrize(
    ("value", "profile"),
    [("has a cat", "He has a category for everything."), ("tea", "Leads a team."), ("is kind", "Nobody is kinder.")],
)
async def test_a_part_of_a_word_in_the_persona_hides_no_memory(
    case: Case, make_memory: MakeMemory, value: str, profile: str
) -> None:
    persona = case.persona.model_copy(update={"profile": profile, "traits": ()})
    asked = await requests_of_a_run(case.model_copy(update={"persona": persona}), [make_memory(value)])
    for purpose in SHOWS_MEMORIES:
        assert f". {value}\n" in whole(asked[purpose][-1]), purpose


async def test_users_with_the_longest_memory_are_shown_whole(case: Case, make_memory: MakeMemory) -> None:
    """No prompt limit drops a user or the end of what is known of them."""
    many = [make_memory(f"fact {n} of many: " + "a long story " * 20) for n in range(400)]
    asked = await requests_of_a_run(case, many)
    for purpose in SHOWS_MEMORIES:
        prompt = whole(asked[purpose][-1])
        assert all(f"\n{n + 1}. fact {n} of many: " in prompt for n in range(400)), purpose


def test_released_records_hold_no_rejected_memory(make_memory: MakeMemory) -> None:
    hidden, kept = make_memory("[ERROR: x]", status="rejected"), make_memory("likes tea")
    assert memories_of("ada", [hidden, kept]) == (kept,)


def test_each_dimension_is_worded_once() -> None:
    """No prompt file names or words a dimension; all get it from one place.

    But for the rival whose fixed anchors are its method, and a benchmark that has a dimension of the same name.
    """
    files = sorted(Path(prompts.__file__).parent.glob("*.txt"))
    assert files
    for file in files:
        text = prompt_text(file.stem).lower()
        for dimension in EMPATHY:
            assert dimension.name not in text or file.stem in ("rival_perm", "esc_eval_judge"), file.name
            assert dimension.measures.lower() not in text, file.name
        for _, wording in BYSTANDER_PARTS:
            assert wording.lower() not in text, file.name
