"""The evaluation as tasks for Inspect (`inspect-ai`, extra `eval`), for its log viewer and its model providers.

```
inspect eval peregrm/personalized_empathy -T dataset=out -T setting=personalized -T judge=SPEC --model PROVIDER/MODEL
inspect eval peregrm/recorded -T dataset=out -T replies=mine.jsonl -T judge=SPEC --model none/none
inspect score LOG --scorer peregrm/reward -S dataset=out -S judge=ANOTHER
```

A sample is a case, its score what `peregrm evaluate` gives the same reply, to the last bit; so are the means and their intervals. What
cannot be scored has no value and a reason, and `coverage` is the share of samples that have a total. Replies to flagged cases have a
scorer of their own, for they are judged by safe guidance, on another scale. The judge is asked by peregrm's own client.

This is the one module that imports Inspect, and nothing but its entry point imports this module.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import HeadlineMetric
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    ContentReasoning,
    GenerateConfig,
    ModelOutput,
)
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.scorer import stderr as inspect_stderr
from inspect_ai.solver import Generate, Solver, TaskState, generate, solver

from peregrm.dimension_files import load_dimensions
from peregrm.errors import SettingsError
from peregrm.evaluation.evaluate import measure_names, value_of
from peregrm.evaluation.inference.intervals import bootstrap_mean
from peregrm.evaluation.statistics import clustered_mean
from peregrm.models.base import Message
from peregrm.pipeline.asked import reward_options
from peregrm.pipeline.inspect_scoring import (
    Judged,
    Judging,
    case_facts,
    explanation,
    policy_requests,
    replies_of_policy,
    score_facts,
    setting_and_store,
    shared_judging,
)
from peregrm.pipeline.replying import policy_name
from peregrm.records import Case, Failure, Reply
from peregrm.replies import reply_from_output
from peregrm.reward.base import GUIDANCE
from peregrm.settings import Settings, load_settings

__all__ = [
    "COVERAGE",
    "ci95",
    "mean",
    "open_judge",
    "personalized_empathy",
    "recorded",
    "replay",
    "reward",
    "safe_guidance",
    "stderr",
]

COVERAGE = "coverage"
_GUIDANCE_COVERAGE = "guidance_coverage"


@task
def personalized_empathy(
    dataset: str,
    setting: str = "generic",
    judge: str | None = None,
    samples: int | None = None,
    criteria: str | None = None,
    dimensions: str = "empathy",
    seed: int | None = None,
    config: str | None = None,
) -> Task:
    """Let the model answer the cases of a dataset and score its replies.

    Args:
        dataset: The folder of a run or build, or a file of cases.
        setting: What the policy sees: `generic`, `history`, `memories`, `personalized` or `retrieved:STORE`.
        judge: As `--judge` takes it. None: that of the run, or of the settings.
        samples: Trials a reply.
        criteria: Where criteria come from that are not kept with the dataset yet.
        dimensions: A shipped set of dimensions or a file that defines one.
        seed: Of the judge's and the policy's calls and of the intervals.
        config: A settings file. None: `peregrm.toml`, if there is one.
    """
    asked = _asked(dataset, judge, samples, criteria, dimensions, seed, config)
    settings, judging = _settings(asked), _judging(asked)
    judging.refresh()
    name, store = setting_and_store(setting)
    cases = list(judging.dataset.cases.values())
    requests = policy_requests(Path(dataset), cases, name, store, settings)
    run = settings.run
    return _task(
        asked,
        [
            Sample(
                id=case.id,
                input=[_chat(message) for message in request.messages],
                metadata={**case_facts(case), "setting": setting},
            )
            for case, request in zip(cases, requests, strict=True)
        ],
        generate(),
        config=GenerateConfig(max_tokens=run.max_new_tokens, temperature=run.temperature, seed=run.seed),
    )


@task
def recorded(
    dataset: str,
    replies: str,
    policy: str | None = None,
    judge: str | None = None,
    samples: int | None = None,
    criteria: str | None = None,
    dimensions: str = "empathy",
    seed: int | None = None,
    config: str | None = None,
) -> Task:
    """Score the replies of one policy in the JSONL file `replies`, which is as `peregrm evaluate` takes it; no model is asked for any.

    `policy` may be left out where the file has one only; the rest is as in `personalized_empathy`. A case without a reply has no score and
    counts as not covered.
    """
    asked = _asked(dataset, judge, samples, criteria, dimensions, seed, config)
    judging = _judging(asked)
    judging.refresh()
    name, by_case = replies_of_policy(Path(replies), policy, judging.dataset)
    there = {case_id: reply.model_dump(mode="json") for case_id, reply in by_case.items()}
    return _task(
        asked,
        [
            Sample(
                id=case.id, input=case.query, metadata={**case_facts(case), "policy": name, "reply": there.get(case.id)}
            )
            for case in judging.dataset.cases.values()
        ],
        replay(),
    )


def _asked(
    dataset: str,
    judge: str | None,
    samples: int | None,
    criteria: str | None,
    dimensions: str,
    seed: int | None,
    config: str | None,
) -> dict[str, Any]:
    """Return what a task was told as plain values, so that its log holds what its scorers are made from again."""
    if not isinstance(judge, str | None):
        raise SettingsError("a task has one judge: give each further judge a run of its own")
    return {
        "dataset": dataset,
        "judge": judge,
        "samples": samples,
        "criteria": criteria,
        "dimensions": dimensions,
        "seed": seed,
        "config": config,
    }


def _settings(asked: Mapping[str, Any]) -> Settings:
    flags = {name: asked[name] for name in ("samples", "criteria", "seed")}
    return load_settings(None if asked["config"] is None else Path(asked["config"]), flags)


def _judging(asked: Mapping[str, Any]) -> Judging:
    path, settings = Path(asked["dataset"]), _settings(asked)
    judges = None if asked["judge"] is None else [asked["judge"]]
    options = reward_options(settings, judges, "shared", path)
    return shared_judging(path, options.model_copy(update={"dimensions": asked["dimensions"]}), settings)


def _task(asked: dict[str, Any], samples: list[Sample], answer: Solver, **more: Any) -> Task:
    judging = _judging(asked)
    options = judging.options
    scorers = [reward(**asked)]
    if any(case.flags for case in judging.dataset.cases.values()):
        scorers.append(safe_guidance(**asked))
    measured = [mean(), stderr(), ci95(options.seed)]

    async def end(state: TaskState) -> None:
        await judging.end(state.uuid)

    return Task(
        dataset=MemoryDataset(samples, name=Path(asked["dataset"]).name),
        setup=open_judge(asked),
        solver=answer,
        cleanup=end,
        scorer=scorers,
        metrics={
            **dict.fromkeys(_measures(options.dimensions), measured),
            COVERAGE: [mean()],
            GUIDANCE: measured,
            _GUIDANCE_COVERAGE: [mean()],
        },
        score_on_error=True,  # a sample whose reply failed has no score, and is counted as such
        fail_on_error=_settings(asked).run.failure_budget,
        metadata={"judge": judging.judge_name, "samples": options.samples, "dimensions": options.dimensions},
        headline_metric=HeadlineMetric(scorer="reward", score="total", metric="peregrm/mean"),
        **more,
    )


def _measures(dimensions: str) -> tuple[str, ...]:
    return (*(dimension.name for dimension in load_dimensions(dimensions)), *measure_names([]))


def _chat(message: Message) -> ChatMessage:
    kinds = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}
    return kinds[message.role](content=message.content)


@solver
def open_judge(asked: dict[str, Any]) -> Solver:
    """Say that a sample is under way; the judge is closed when none is."""
    judging = _judging(asked)

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        judging.begin(state.uuid)
        return state

    return solve


@solver
def replay() -> Solver:
    """Put the recorded reply of a sample where a model's output would stand; a case without one has none."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        recorded = state.metadata.get("reply")
        if recorded is not None and recorded["failure"] is None:
            state.output = ModelOutput.from_content(recorded["policy"], recorded["text"])
            state.messages.append(state.output.message)
        return state

    return solve


@metric
def mean() -> Metric:
    """The mean over samples as `peregrm evaluate` computes it; NaN, and not 0, where there is none."""

    def compute(scores: list[SampleScore]) -> float:
        return _or_nan(clustered_mean(_by_user(scores)).mean)

    return compute


@metric
def stderr() -> Metric:
    """Inspect's standard error of the mean, clustered by user; NaN, and not 0, where there are fewer than two users."""
    clustered = inspect_stderr(cluster="user")

    def compute(scores: list[SampleScore]) -> float:
        return float(clustered(scores)) if len({user for user, _ in _by_user(scores)}) > 1 else math.nan

    return compute


@metric
def ci95(seed: int = 0) -> Metric:
    """The 95 % interval of the mean, clustered by user, as `peregrm evaluate` computes it; NaN where there is none."""

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        found = bootstrap_mean(_by_user(scores), seed=seed)
        return {"low": _or_nan(found.low), "high": _or_nan(found.high)}

    return compute


def _by_user(scores: Sequence[SampleScore]) -> list[tuple[str, float]]:
    return [(str((one.sample_metadata or {})["user"]), one.score.as_float()) for one in scores]


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


@scorer(metrics={"*": [mean(), stderr(), ci95()]})
def reward(
    dataset: str,
    judge: str | None = None,
    samples: int | None = None,
    criteria: str | None = None,
    dimensions: str = "empathy",
    seed: int | None = None,
    config: str | None = None,
) -> Scorer:
    """The reward of a reply to a case that is not flagged: dimensions, empathy, arithmetic, bystander, total, and `coverage`.

    The arguments are those of `personalized_empathy`. Samples are joined to the dataset's cases by id.
    """
    judging = _judging(_asked(dataset, judge, samples, criteria, dimensions, seed, config))
    names = _measures(dimensions)

    async def score(state: TaskState, target: Target) -> Score | None:
        case = judging.case(state.sample_id)
        if case.flags:
            return None
        judged = await _judge(judging, case, state)
        values = {name: None if judged is None else value_of(name)(judged.scored.reward) for name in names}
        return _score(judged, values, COVERAGE)

    return score


@scorer(metrics={"*": [mean(), stderr(), ci95()]})
def safe_guidance(
    dataset: str,
    judge: str | None = None,
    samples: int | None = None,
    criteria: str | None = None,
    dimensions: str = "empathy",
    seed: int | None = None,
    config: str | None = None,
) -> Scorer:
    """The total of a reply to a flagged case, by the criteria of safe guidance, on a scale of its own. Arguments as of `reward`."""
    judging = _judging(_asked(dataset, judge, samples, criteria, dimensions, seed, config))

    async def score(state: TaskState, target: Target) -> Score | None:
        case = judging.case(state.sample_id)
        if not case.flags:
            return None
        judged = await _judge(judging, case, state)
        return _score(judged, {GUIDANCE: None if judged is None else judged.scored.total}, _GUIDANCE_COVERAGE)

    return score


async def _judge(judging: Judging, case: Case, state: TaskState) -> Judged | None:
    """Return the score of a sample's reply, None where a recorded one is missing."""
    if "policy" not in state.metadata:
        setting, _, store = state.metadata["setting"].partition(":")
        reply = _reply(case, state.output, policy_name(str(state.model), setting, store or None))
    elif state.metadata["reply"] is None:
        return None
    else:
        reply = Reply.model_validate(state.metadata["reply"])
    return await judging.judge(case, reply)


def _reply(case: Case, output: ModelOutput, policy: str) -> Reply:
    """Return the reply in a model's output, or a reply with the failure that there is none."""
    if output.empty:
        failure = Failure(stage="replies", kind="no_output", reason=output.error or "the model gave no output")
        return Reply(case_id=case.id, policy=policy, text="", failure=failure)
    content = output.message.content
    parts = [] if isinstance(content, str) else content
    return reply_from_output(
        case,
        output.message.text,
        policy=policy,
        thinking="\n".join(part.reasoning for part in parts if isinstance(part, ContentReasoning)),
        cut_off=output.stop_reason in ("max_tokens", "model_length"),
    )


def _score(judged: Judged | None, values: Mapping[str, float | None], coverage: str) -> Score:
    """Return Inspect's score: NaN where there is no value, which Inspect leaves out of all metrics."""
    plain: dict[str, float] = {name: _or_nan(value) for name, value in values.items()}
    if judged is None:
        plain[coverage] = 0.0
        return Score(value=plain, reason="no_response", explanation="There is no recorded reply to this case.")
    scored = judged.scored
    failure = scored.failure
    reason = None
    if failure is not None:
        reason = "no_response" if scored.reply.failure is not None else "grader_failed"
    return Score(
        value={**plain, coverage: float(failure is None)},
        answer=scored.reply.text,
        explanation=explanation(judged),
        reason=reason,
        metadata=score_facts(judged),
    )
