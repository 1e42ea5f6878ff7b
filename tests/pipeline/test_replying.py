"""What a policy of the setting `retrieved` gets to see: what a store found among the memories of that very case."""

from __future__ import annotations

from peregrm.mapping import NoProgress
from peregrm.memory.factory import open_store
from peregrm.models.base import Completion, Request
from peregrm.models.planning import PlanningModel
from peregrm.pipeline.replying import Policy, write_policy
from peregrm.records import Case, History, Session, Turn


class Listening(PlanningModel):
    """Keeps what it is asked."""

    def __init__(self) -> None:
        super().__init__("listening")
        self.heard: list[str] = []

    async def complete(self, request: Request) -> Completion:
        self.heard.append("\n".join(message.content for message in request.messages))
        return await super().complete(request)


async def test_cases_of_one_user_with_other_memories_are_answered_from_their_own(case: Case) -> None:
    own = case.memories[0].model_copy(update={"value": "Plays the ocarina in a quartet"})
    first = case.model_copy(update={"query": "Which ocarina should I take?"})
    second = first.model_copy(update={"query": "Is the ocarina too loud?", "memories": (*case.memories, own)})
    third = first.model_copy(update={"query": "Ocarina or not?"})
    model, store = Listening(), open_store("bm25")
    policy = Policy(model=model, setting="retrieved", store=store)
    replies = await write_policy(policy, [first, second, third], {}, progress=NoProgress())
    await store.aclose()
    assert [reply.case_id for reply in replies] == [first.id, second.id, third.id]
    assert {
        one.id: "quartet" in text for text in model.heard for one in (first, second, third) if one.query in text
    } == {
        first.id: False,
        second.id: True,
        third.id: False,
    }


async def test_a_policy_does_not_see_what_was_to_be_forgotten(case: Case) -> None:
    turns = (
        Turn(role="user", text="Please don't remember that I was arrested in Leeds."),
        Turn(role="assistant", text="The arrest in Leeds where you were arrested is gone."),
        Turn(role="user", text="The slipper is gone too."),
    )
    history = History(user_id=case.user_id, language="en", sessions=(Session(session_id="s1", turns=turns),))
    model = Listening()
    await write_policy(Policy(model=model, setting="history"), [case], {case.user_id: history}, progress=NoProgress())
    assert all("slipper" in text and "arrested" not in text for text in model.heard)
    assert model.heard
