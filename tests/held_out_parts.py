"""A judge that counts one word, and prompts of small cases: what the tests of training's watching share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peregrm.models.base import Message
from peregrm.records import Case, Failure, Reply, Reward
from peregrm.reward.base import Scored, as_replies
from peregrm.training.rows import PromptRow

__all__ = ["WORDS", "WordJudge", "rows_of", "watched_policy"]

WORDS = ["dog", "cat", "calm", "storm", "what", "now", "you", "are", "not", "daft", "yes", "no", "a", "the", "good"]


@dataclass
class WordJudge:
    """Scores a reply by the share of one word in it; `broken` may raise, or fail a case."""

    word: str = "dog"
    name: str = "counter"
    method: str = "counting"
    broken: Callable[[Case], Failure | None] = lambda case: None
    asked: list[str] = field(default_factory=list)
    closed: int = 0

    async def score(self, case: Case, replies: Sequence[Reply | str]) -> list[Scored]:
        self.asked.append(case.id)
        return [self._scored(case, reply) for reply in as_replies(case, replies)]

    def _scored(self, case: Case, reply: Reply) -> Scored:
        failure = reply.failure or self.broken(case)
        words = reply.text.split()
        total = None if failure else words.count(self.word) / max(1, len(words))
        reward = Reward(
            case_id=case.id,
            reply_id=reply.id,
            policy=reply.policy,
            judge=self.name,
            method=self.method,
            scores=(("resonation", total),),
            empathy=total,
            bystander=None,
            total=total,
            coverage=0.0 if failure else 1.0,
            judgement_ids=(),
            failure=failure,
        )
        return Scored(reply, reward)

    async def aclose(self) -> None:
        self.closed += 1


def rows_of(cases: Sequence[Case]) -> list[PromptRow]:
    """Return a prompt for each case: its query alone."""
    return [PromptRow(case, (Message(role="user", content=case.query),), 8) for case in cases]


def watched_policy(folder: Path, **options: Any) -> Any:
    """Return a loaded policy of random weights, large ones, so that it does not say one word for ever."""
    import torch

    from peregrm.training.policies import load_policy
    from training.conftest import tiny_policy

    torch.set_num_threads(1)
    policy = load_policy(str(tiny_policy(folder, WORDS)), device="cpu", **options)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weights in policy.model.named_parameters():
            if weights.dim() > 1 and "embed" not in name and "lm_head" not in name and "lora" not in name:
                weights.normal_(std=1.0)
    return policy
