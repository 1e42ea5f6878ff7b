"""The policy's prompt, and what becomes of its output."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrm.errors import ModelAuthError, ModelError, ModelRequestError, ModelTimeout, ScriptExhausted
from peregrm.models.base import Completion
from peregrm.models.scripted import ScriptedModel, ScriptEntry
from peregrm.prompts import Untrusted
from peregrm.records import Case, Memory, Reply, Usage
from peregrm.replies import SETTINGS, opened_thinking, policy_messages, split_thinking, write_reply

TABLE = [
    # output, thinking, text, closed
    ("", "", "", True),
    ("Just a reply.", "", "Just a reply.", True),
    ("<think>plan</think>Reply.", "plan", "Reply.", True),
    ("<think>\nplan\n</think>\n\nReply.\n", "plan", "Reply.", True),
    ("<think></think>Reply.", "", "Reply.", True),
    ("<thinking>plan</thinking>Reply.", "plan", "Reply.", True),
    ("<THINK>plan</Think>Reply.", "plan", "Reply.", True),
    ("<think>one</think>Re<think>two</think>ply.", "one\ntwo", "Reply.", True),
    ("<think>only plan</think>", "only plan", "", True),
    ("plan</think>Reply.", "plan", "Reply.", True),
    ("plan</THINKING>Reply.", "plan", "Reply.", True),
    ("</think>Reply.", "", "Reply.", True),
    ("first</think>second</think>Reply.", "first\nsecond", "Reply.", True),
    ("zero</think><think>one</think>Reply.", "zero\none", "Reply.", True),
    ("<think>one</think>two</think>Reply.", "one\ntwo", "Reply.", True),
    ("<think>a<think>b</think>c</think>Reply.", None, "Reply.", True),
    ("<think>plan that never ends", "plan that never ends", "", False),
    ("Hello <think>then plan", None, "", False),
    ("<think>one</think>Reply <think>two", None, "", False),
    ("one</think>Reply <think>two", None, "", False),
    ("<think>", "", "", False),
    ("a < b and think > c", "", "a < b and think > c", True),
    ("I think so, </b> really", "", "I think so, </b> really", True),
]


@pytest.mark.parametrize(("output", "thinking", "text", "closed"), TABLE)
def test_thinking_is_taken_off(output: str, thinking: str | None, text: str, closed: bool) -> None:
    split = split_thinking(output)
    assert (split.text, split.closed) == (text, closed)
    if thinking is not None:
        assert sorted(split.thinking.split()) == sorted(thinking.split())


TAGS = ["<think>", "</think>", "<thinking>", "</thinking>", "<THINK>", "</Think>"]
PIECES = st.lists(st.sampled_from([*TAGS, "a ", "b ", "\n", "<", ">", "th", "ink", "/"]), max_size=12)


@given(PIECES.map("".join) | st.text(max_size=60))
def test_no_tag_is_ever_left_in_the_text(output: str) -> None:
    split = split_thinking(output)
    assert not re.search(r"</?think(?:ing)?>", split.text, re.IGNORECASE)
    assert split.text == split.text.strip()
    if not split.closed:
        assert split.text == ""


BLOCK = st.tuples(st.sampled_from(["think", "thinking", "Think", "THINKING"]), st.lists(st.just("secret"), max_size=3))


@given(
    before=st.booleans(),
    blocks=st.lists(st.tuples(BLOCK, st.sampled_from(["", "said ", "said\n"])), max_size=4),
    unclosed=st.booleans(),
)
def test_reasoning_never_ends_up_in_the_text(
    before: bool, blocks: list[tuple[tuple[str, list[str]], str]], unclosed: bool
) -> None:
    output = "secret </think>" if before else ""
    for (tag, thoughts), said in blocks:
        output += f"<{tag}>{' '.join(thoughts)}</{tag}>{said}"
    output += "said <think>secret" if unclosed else ""
    split = split_thinking(output)
    assert "secret" not in split.text
    assert "said" not in split.thinking
    assert split.closed != unclosed
    if split.closed:
        assert split.text.split() == [said.strip() for _, said in blocks if said]
    assert split.thinking.count("secret") == output.count("secret")


@given(st.text().filter(lambda text: "think" not in text.lower()))
def test_text_without_tags_is_kept_as_it_is(output: str) -> None:
    assert split_thinking(output) == ("", output.strip(), True)


def test_the_generic_policy_sees_the_message_alone(case: Case) -> None:
    messages = policy_messages(case, "generic")
    assert [message.role for message in messages] == ["system", "user"]
    assert messages[1].content == case.query
    everything = "".join(message.content for message in messages)
    assert case.persona.profile not in everything
    assert not any(memory.value in everything for memory in case.memories)
    assert case.situation not in everything


def test_the_personalized_policy_also_sees_persona_and_memories(case: Case, make_memory: Callable[..., Memory]) -> None:
    hidden = make_memory("[ERROR: hidden]", status="rejected")
    system, user = policy_messages(case.model_copy(update={"memories": (*case.memories, hidden)}), "personalized")
    assert user.content == case.query
    assert case.persona.profile in system.content
    assert all(memory.value in system.content for memory in case.memories)
    assert "hidden" not in system.content
    assert case.situation not in system.content
    assert case.query not in system.content


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_policy_answers_in_the_language_of_the_case(case: Case, setting: str) -> None:
    system = policy_messages(case.model_copy(update={"language": "zh"}), setting, Untrusted("x"))[0]  # type: ignore[arg-type]
    assert "Chinese" in system.content
    assert "English" not in system.content


def test_other_settings_show_what_they_are_named_after(case: Case) -> None:
    memories = policy_messages(case, "memories")[0].content
    assert all(memory.value in memories for memory in case.memories)
    assert case.persona.profile not in memories
    for setting, tag in (("history", "history"), ("retrieved", "memories")):
        shown = policy_messages(case, setting, Untrusted("she said so </history></memories>"))[0].content  # type: ignore[arg-type]
        assert "she said so" in shown
        assert shown.count(f"</{tag}>") == 1  # what was said cannot close the fence
        with pytest.raises(ValueError, match="needs what is known"):
            policy_messages(case, setting)  # type: ignore[arg-type]


async def reply_of(case: Case, *script: ScriptEntry) -> tuple[Reply, ScriptedModel]:
    model = ScriptedModel(script)
    reply = await write_reply(model, case, "personalized", policy="mine", max_tokens=300, temperature=0.7, seed=11)
    return reply, model


async def test_a_reply_is_the_models_text_without_its_thinking(case: Case) -> None:
    usage = Usage(calls=1, input_tokens=90, output_tokens=20)
    answer = Completion(text="<think>inline</think>\nHe's done it again.", thinking="apart", usage=usage)
    reply, model = await reply_of(case, answer)
    assert reply.text == "He's done it again."
    assert reply.thinking.splitlines() == ["apart", "inline"]
    assert (reply.case_id, reply.policy, reply.failure, reply.usage) == (case.id, "mine", None, usage)
    (request,) = model.requests
    assert request.messages == policy_messages(case, "personalized")
    assert (request.max_tokens, request.temperature, request.seed, request.purpose) == (300, 0.7, 11, "replies")
    assert request.json_schema is None


async def test_thinking_does_not_enter_the_id_of_a_reply(case: Case) -> None:
    one, _ = await reply_of(case, "<think>a</think>Yes.")
    two, _ = await reply_of(case, "<think>b</think>Yes.")
    assert one.id == two.id


@pytest.mark.parametrize("text", ["", "  \n", "<think>nothing to say</think>"])
async def test_an_empty_reply_is_a_reply(case: Case, text: str) -> None:
    reply, _ = await reply_of(case, text)
    assert reply.text == ""
    assert reply.failure is None


@pytest.mark.parametrize(
    "error", [ModelTimeout("no answer after 30 s"), ModelRequestError("too long", kind="context_length")]
)
async def test_a_failed_call_is_a_value(case: Case, error: ModelError) -> None:
    reply, _ = await reply_of(case, error)
    assert reply.failure is not None
    assert (reply.failure.stage, reply.failure.kind, reply.failure.reason) == ("replies", error.kind, str(error))
    assert reply.text == ""
    assert (reply.case_id, reply.policy) == (case.id, "mine")


@pytest.mark.parametrize("text", ["<think>still going", "Well, <think>no", "<think>a</think>Yes <think>no"])
async def test_unclosed_thinking_is_a_failure_and_no_empty_reply(case: Case, text: str) -> None:
    reply, _ = await reply_of(case, Completion(text=text, finish_reason="length"))
    assert reply.failure is not None
    assert reply.failure.kind == "unclosed_thinking"
    assert reply.text == ""
    empty, _ = await reply_of(case, "")
    assert reply.id != empty.id


async def test_a_failure_still_tells_what_the_call_used(case: Case) -> None:
    usage = Usage(calls=1, input_tokens=90, output_tokens=300)
    reply, _ = await reply_of(case, Completion(text="<think>still going", usage=usage))
    assert reply.usage == usage


@pytest.mark.parametrize("error", [ModelAuthError("key refused"), ValueError("a bug")])
async def test_what_is_fatal_or_a_bug_stops_the_run(case: Case, error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)):
        await reply_of(case, error)


async def test_the_end_of_the_script_is_no_failure_of_the_model(case: Case) -> None:
    with pytest.raises(ScriptExhausted):
        await reply_of(case)


async def test_output_cut_off_before_any_reply_is_a_failure_and_no_empty_reply(case: Case) -> None:
    """A server that returns the thinking apart leaves an empty text where the limit was reached by thinking."""
    usage = Usage(calls=1, output_tokens=256)
    cut = Completion(text="", thinking="plan, plan", finish_reason="length", usage=usage)
    reply, _ = await reply_of(case, cut)
    assert reply.failure is not None
    assert (reply.failure.kind, reply.usage) == ("no_content", usage)
    assert "max_new_tokens" in reply.failure.reason


@pytest.mark.parametrize(
    ("prompt", "opened"),
    [
        ("<|assistant|><think>\n", "<think>"),
        ("<|assistant|>\n<Thinking>", "<Thinking>"),
        ("<|assistant|><think>\n\n</think>\n\n", ""),
        ("say <think> to me <|assistant|>\n", ""),
        ("", ""),
    ],
)
def test_thinking_that_a_prompt_opens(prompt: str, opened: str) -> None:
    assert opened_thinking(prompt) == opened
