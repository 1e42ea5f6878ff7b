"""What a group training would take, before it is begun: steps, replies, tokens, memory. Nothing is loaded but shapes and a tokenizer.

Memory is an estimate of what the process holds at its fullest, summed over:

- weights, and as much again for the reference where all weights are trained against one (an adapter needs none: it is switched off);
- a gradient and two AdamW moments for each trained parameter (Kingma and Ba 2015: 3 x their size);
- the update: for each token of `at_once` replies with their prompts, in each layer, what autograd keeps of a Llama block with fused
  attention. Counted from its operations: two norms keep 5 x width, attention 5 x width (queries, keys and values at full width, its output
  twice), the residual 1 x width, the gated feed-forward 4 x its own width; the same way of counting as Korthikanti et al. 2022
  (arXiv:2205.05198, section 4.1), who arrive at 34 bytes x width for a GPT block at 16 bits without attention scores. Activations are
  recomputed, so a layer keeps its input, and one layer at a time all of it. Then the last layer, which TRL 1.16 goes through in tiles of up
  to 4,096 tokens by 32,768 words, over new tokens alone; on a CPU with eight more tensors of that size for the gradient (read from its
  code, and measured), on a GPU with none;
- or, where that is more, the writing of the replies: TRL writes all those of a step at once, so keys and values of every token of them in
  every layer, and the feed-forward of all prompts when they are read;
- what the libraries take themselves (`RUNTIME`, measured), and the file's own copy while weights are read.

What it leaves out: a judge in the same process, and fragments that an allocator keeps. Left out on purpose: time, which hangs on the
machine: the log of the first steps tells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from peregrm.models.planning import PlanningModel
from peregrm.records import Case, Part, Reply, Usage
from peregrm.reward.base import RewardModel
from peregrm.training.grpo.settings import GroupSettings, Pace
from peregrm.training.policies import parameter_counts
from peregrm.training.rows import PromptRow

__all__ = ["RUNTIME", "MemoryPlan", "Shape", "TrainingPlan", "plan_judging", "plan_memory", "plan_training", "shape_of"]

RUNTIME = 600_000_000
"""Bytes that torch, transformers, TRL and peft hold before there is a model: CPU build, x86_64, resident set."""

_TILE_TOKENS, _TILE_WORDS = 4096, 32768
_TILES_ON_CPU = 9
_MOST_CASES = 200
"""Cases whose judging is planned one by one; the calls of more are scaled up from these."""


class Shape(NamedTuple):
    """What of a model's architecture takes memory: parameters in all and trained, layers, widths of the residual stream, of the
    feed-forward and of keys, the size of the vocabulary, and bytes a number.
    """

    parameters: int
    trained: int
    layers: int
    width: int
    inner: int
    key_width: int
    vocabulary: int
    number: int
    adapter: bool
    device: str


class MemoryPlan(Part):
    """Bytes by what they are for; `peak` is about the most that is held at once."""

    weights: int
    reference: int
    gradients: int
    optimizer: int
    update: int
    writing: int
    reading: int
    runtime: int

    @property
    def peak(self) -> int:
        """What is held at the fullest moment: reading the weights, writing replies or updating."""
        kept = self.runtime + self.weights
        return kept + max(
            self.reading, self.reference + self.gradients + self.optimizer + max(self.update, self.writing)
        )


class TrainingPlan(Part):
    """What a training comes to. Tokens are counted by the policy's tokenizer, new ones at most; held-out ones are over all evaluations."""

    prompts: int
    steps: int
    replies: int
    prompt_tokens: int
    new_tokens: int
    held_out_cases: int
    evaluations: int
    held_out_prompt_tokens: int
    held_out_new_tokens: int
    parameters: int
    trained: int
    device: str
    memory: MemoryPlan

    def lines(self) -> list[str]:
        """Return the plan for a person."""
        memory = self.memory
        parts = {
            "weights": memory.weights,
            "reference": memory.reference,
            "gradients": memory.gradients,
            "optimizer": memory.optimizer,
            "update": memory.update,
            "or writing replies": memory.writing,
            "libraries": memory.runtime,
        }
        told = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in parts.items() if size)
        work = f"{self.replies:,} replies, {self.prompt_tokens:,} prompt tokens, at most {self.new_tokens:,} new tokens"
        lines = [f"{self.steps} steps over {self.prompts} prompts: {work}"]
        if self.evaluations:
            lines.append(
                f"{self.evaluations} held-out evaluations of {self.held_out_cases} cases: {self.held_out_prompt_tokens:,} prompt tokens, "
                f"at most {self.held_out_new_tokens:,} new tokens"
            )
        share = self.trained / self.parameters if self.parameters else 0.0
        return [
            *lines,
            f"{self.trained:,} of {self.parameters:,} parameters are trained ({share:.1%})",
            f"memory on {self.device}, about: {memory.peak / 1e9:.1f} GB at the fullest ({told})",
        ]


def shape_of(model: Any, *, device: str) -> Shape:
    """Return the shape of a model of transformers, with or without an adapter, on whatever device it lies; `device` will train it."""
    config = model.config.get_text_config()
    parameters, trained = parameter_counts(model)
    heads = config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    return Shape(
        parameters=parameters,
        trained=trained,
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        inner=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        key_width=head * (getattr(config, "num_key_value_heads", None) or heads),
        vocabulary=config.vocab_size,
        number=4 if device == "cpu" else 2,
        adapter=hasattr(model, "peft_config"),
        device=device,
    )


def plan_memory(shape: Shape, settings: GroupSettings, *, prompt_tokens: int, from_gguf: bool = False) -> MemoryPlan:
    """Return about what a training holds in memory; `prompt_tokens` is the length of its longest prompts."""
    whole = prompt_tokens + settings.max_new_tokens
    tokens = settings.at_once * whole
    block = 11 * shape.width + 4 * shape.inner
    kept = shape.layers * shape.width + block
    scored = settings.at_once * settings.max_new_tokens
    tile = min(scored, _TILE_TOKENS) * min(shape.vocabulary, _TILE_WORDS) * shape.number
    head = tile * (_TILES_ON_CPU if shape.device == "cpu" else 1)
    cache = settings.replies * whole * shape.layers * 2 * shape.key_width
    read = settings.replies * prompt_tokens * (2 * shape.width + 3 * shape.inner)
    needs_reference = settings.kl > 0 and not shape.adapter
    frozen = (shape.parameters - shape.trained) * shape.number
    own = shape.trained * max(shape.number, 4)
    return MemoryPlan(
        weights=frozen + own,
        reference=frozen + own if needs_reference else 0,
        gradients=own,
        optimizer=2 * own,
        update=tokens * kept * shape.number + head,
        writing=(cache + read) * shape.number,
        reading=shape.parameters * 4 if from_gguf else 0,
        runtime=RUNTIME,
    )


def plan_training(
    shape: Shape,
    rows: Sequence[PromptRow],
    held_out: Sequence[PromptRow],
    settings: GroupSettings,
    pace: Pace,
    *,
    from_gguf: bool = False,
) -> TrainingPlan:
    """Return what a training on these prompts comes to, with held-out evaluations where there are rows for them."""
    steps = pace.max_steps or settings.steps(len(rows))
    prompts = steps * settings.batch
    evaluations = 1 + math.ceil(steps / pace.eval_every) if held_out else 0
    mean = sum(row.tokens for row in rows) / len(rows)
    longest = max(row.tokens for row in (*rows, *held_out))
    return TrainingPlan(
        prompts=len(rows),
        steps=steps,
        replies=prompts * settings.rollouts,
        prompt_tokens=round(prompts * settings.rollouts * mean),
        new_tokens=prompts * settings.rollouts * settings.max_new_tokens,
        held_out_cases=len(held_out),
        evaluations=evaluations,
        held_out_prompt_tokens=evaluations * sum(row.tokens for row in held_out),
        held_out_new_tokens=evaluations * len(held_out) * settings.max_new_tokens,
        parameters=shape.parameters,
        trained=shape.trained,
        device=shape.device,
        memory=plan_memory(shape, settings, prompt_tokens=longest, from_gguf=from_gguf),
    )


async def plan_judging(
    reward: RewardModel,
    judges: Sequence[PlanningModel],
    cases: Sequence[Case],
    *,
    replies: int,
    visits: float,
    reply_tokens: int,
) -> None:
    """Have `judges`, which `reward` asks, count what they would be asked at most; found in their `planned`.

    Each case is judged `visits` times with `replies` replies of `reply_tokens` tokens. What a first visit asks and others do not (criteria)
    is counted once a case. Of more than 200 cases the first 200 are planned, and scaled up.
    """
    if not cases or visits <= 0:
        return
    some = cases[:_MOST_CASES]
    first = await _asked(reward, judges, some, replies, reply_tokens)
    again = await _asked(reward, judges, some, replies, reply_tokens)
    scale = len(cases) / len(some)
    for judge, once, later in zip(judges, first, again, strict=True):
        for purpose, usage in once.items():
            more = later.get(purpose, Usage())
            whole = [_scaled(usage, min(1.0, visits)), _scaled(more, max(0.0, visits - 1))]
            judge.planned[purpose] = _scaled(whole[0] + whole[1], scale)


async def _asked(
    reward: RewardModel, judges: Sequence[PlanningModel], cases: Sequence[Case], replies: int, reply_tokens: int
) -> list[dict[str, Usage]]:
    """Return what each judge is asked by one visit to each case."""
    for judge in judges:
        judge.planned.clear()
    for case in cases:
        # four characters a token, as the plan counts them
        texts = [f"reply {n} ".ljust(4 * reply_tokens, "x")[: max(8, 4 * reply_tokens)] for n in range(replies)]
        await reward.score(
            case, [Reply(case_id=case.id, policy=f"plan-{n}", text=text) for n, text in enumerate(texts)]
        )
    return [dict(judge.planned) for judge in judges]


def _scaled(usage: Usage, by: float) -> Usage:
    return Usage(
        calls=math.ceil(usage.calls * by),
        input_tokens=math.ceil(usage.input_tokens * by),
        output_tokens=math.ceil(usage.output_tokens * by),
    )
