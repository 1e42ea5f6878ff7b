"""What a policy of the setting `retrieved` gets to see: what a store found among the memories of that very case."""

from __future__ import annotations

from peregrm.mapping import NoProgress
from peregrm.memory.factory import open_store
from peregrm.models.base import Completion, Request
from peregrm.models.planning import PlanningModel
from peregrm.pipeline.replying import Policy, write_policy
from peregrm.records import Case


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
