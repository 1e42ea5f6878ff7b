"""What the tests of group training share: users with a topic of their own, a reward for mentioning it, and runs of a tiny policy."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peregrm.records import Case, Failure, Persona, Reply, Reward, Trait
from peregrm.reward.base import RewardModel, Scored, as_replies
from peregrm.training.grpo.gate import Gate
from peregrm.training.grpo.looped import Looped, OwnLoop
from peregrm.training.grpo.settings import GroupSettings, Pace
from peregrm.training.grpo.trainer import GroupRun
from peregrm.training.policies import load_policy
from peregrm.training.rows import prompt_rows

TOPICS = ("garden", "boats")
WORDS = [*TOPICS, "you", "and", "so", "well", "the", "is", "a", "tell", "me", "of", "my", "?", "today"]

TINY = GroupSettings(
    rollouts=4,
    batch=2,
    at_once=8,
    learning_rate=5e-3,
    kl=0.01,
    max_new_tokens=6,
    setting="generic",
    lora=None,
    seed=3,
)


def topic_cases(make_memory: Callable[..., Any], count: int = 8) -> list[Case]:
    """Return cases of as many users, each with one of `TOPICS`."""
    made = []
    for n in range(count):
        user, topic = f"user{n}", TOPICS[n % len(TOPICS)]
        memory = make_memory(f"the {topic} is my {topic}", user_id=user, evidence=())
        persona = Persona(
            user_id=user,
            history_id=f"his-{n}",
            profile=f"so {topic}",
            traits=(Trait(text=f"well {topic}", memory_ids=(memory.id,)),),
            is_deep=True,
            gate_reason="the topic is known",
            method="test",
        )
        made.append(
            Case(
                user_id=user,
                language="en",
                category="emotional_support",
                persona=persona,
                memories=(memory,),
                relevant_memory_ids=(memory.id,),
                situation=f"the {topic} today",
                query=f"{topic} {topic} {topic} ? tell me of my {topic} today",
            )
        )
    return made


@dataclass
class TopicReward:
    """Gives the share of a reply's words that are its user's topic, 0 to 1; `fail` may say why a group is not judged this time."""

    fail: Callable[[Case], Failure | None] = lambda case: None
    method: str = "topic"
    totals: list[float] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    async def score(self, case: Case, replies: Sequence[Reply | str]) -> list[Scored]:
        failure = self.fail(case)
        return [self._scored(case, reply, failure) for reply in as_replies(case, replies)]

    def _scored(self, case: Case, reply: Reply, failure: Failure | None) -> Scored:
        topic = next(one for one in TOPICS if one in case.query)
        words = reply.text.split()
        total = words.count(topic) / len(words) if words else 0.0
        self.texts.append(reply.text)
        if failure is None:
            self.totals.append(total)
        values = {"case_id": case.id, "reply_id": reply.id, "policy": reply.policy, "judge": "simulated"}
        return Scored(
            reply,
            Reward(
                **values,
                method=self.method,
                scores=(("topic", None if failure else total),),
                empathy=None,
                bystander=None,
                total=None if failure else total,
                coverage=float(failure is None),
                judgement_ids=(),
                failure=failure,
            ),
        )

    async def aclose(self) -> None:
        """There is nothing to free."""


class Logs:
    """Collects what a trainer logs."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def callback(self) -> Any:
        from transformers import TrainerCallback

        rows = self.rows

        class Collect(TrainerCallback):  # type: ignore[misc]
            def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
                rows.append({**logs, "step": state.global_step})

        return Collect()


@contextmanager
def warnings_of(logger: str) -> Iterator[list[str]]:
    """Collect what a logger of a library says, whoever else hears it."""
    said: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    handler = Collect(logging.WARNING)
    logging.getLogger(logger).addHandler(handler)
    try:
        yield said
    finally:
        logging.getLogger(logger).removeHandler(handler)


def gone(kind: str = "unavailable") -> Failure:
    """Return what a reward says of a judge that is not there."""
    return Failure(stage="judge", kind=kind, reason="nobody answers")


def train(
    folder: Path,
    policy: Path | str,
    cases: Sequence[Case],
    reward: RewardModel,
    settings: GroupSettings = TINY,
    **pace: Any,
) -> Path:
    """Run a group training with a gate before its reward and return the last checkpoint; `pace` may hold `callbacks` and `made`."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(settings.seed)
    around = {name: pace.pop(name) for name in ("callbacks", "made", "say", "pauses_s") if name in pace}
    say = around.pop("say", lambda line: None)
    pauses_s = around.pop("pauses_s", (0.001, 0.01))
    loaded = load_policy(str(policy), lora=settings.lora)
    rows = prompt_rows(cases, loaded.tokenizer, setting=settings.setting, room=400)
    asked = Pace(**pace)
    gate = Gate(
        reward,
        wait_s=asked.wait_s,
        budget=asked.failure_budget,
        window=2 * settings.replies,
        say=say,
        pauses_s=pauses_s,
    )
    with OwnLoop() as loop:
        run = GroupRun(
            loaded, rows.rows, Looped(gate, loop), settings, asked, folder, check=gate.check, say=say, **around
        )
        steps = run.train()
    return folder / "checkpoints" / f"checkpoint-{steps}"


def weights(checkpoint: Path) -> dict[str, Any]:
    """Return the tensors of a checkpoint by name."""
    from safetensors.torch import load_file

    (path,) = [*checkpoint.glob("model.safetensors"), *checkpoint.glob("adapter_model.safetensors")]
    return dict(load_file(path))


def same_weights(one: Path, other: Path) -> bool:
    """Tell whether two checkpoints hold the same numbers, bit by bit."""
    left, right = weights(one), weights(other)
    return left.keys() == right.keys() and all(left[name].equal(right[name]) for name in left)
