"""Stages 7 to 9: cases become criteria, replies, judgements and rewards."""

from __future__ import annotations

from collections import defaultdict

from peregrm.dataset.gold import recorded_replies
from peregrm.errors import ArtifactError
from peregrm.pipeline.build import gold_of
from peregrm.pipeline.flagging import read_cases
from peregrm.pipeline.job import Job, Stage
from peregrm.pipeline.steps import CRITERIA, JUDGE, REPLIES, ToJudge, reward_model
from peregrm.records import Criteria, Judgement, Reply, Reward
from peregrm.replies import RUN_SETTINGS
from peregrm.reward.base import ABSTAINED
from peregrm.store import index_by, index_by_id, join

__all__ = ["SCORE_STAGES"]


async def criteria_stage(job: Job) -> None:
    """Stage 7: one set of criteria a case, for all its replies and every trial."""
    criteria = await job.map(CRITERIA, read_cases(job.workspace))
    job.write("criteria", criteria)
    job.budget.add(sum(c.method == "model" for c in criteria), (c.failure for c in criteria if c.failure is not None))


async def replies_stage(job: Job) -> None:
    """Stage 8: a generic and a personalized reply to every case, and the recorded replies of hand-written ones."""
    cases = read_cases(job.workspace)
    written = await job.map(REPLIES, [(case, setting) for case in cases for setting in RUN_SETTINGS])
    job.budget.add(len(written), (reply.failure for reply in written if reply.failure is not None))
    known = {case.id for case in cases}
    everything = recorded_replies(gold_of(job))
    recorded = [reply for reply in everything if reply.case_id in known]
    if len(recorded) < len(everything):
        lost = len(everything) - len(recorded)
        job.say(f"{lost} recorded replies are left out: their cases are not in cases.jsonl (edited, or made before)")
    order = {case.id: place for place, case in enumerate(cases)}
    replies: list[Reply] = sorted([*recorded, *written], key=lambda reply: order[reply.case_id])
    job.write("replies", replies)


async def score_stage(job: Job) -> None:
    """Stage 9: every reply judged by its case's criteria, and the judgements added up."""
    grm = reward_model(job.tools)
    cases = index_by_id(read_cases(job.workspace), "cases")
    criteria = index_by(job.read("criteria", Criteria), lambda c: c.case_id, "criteria")
    join(list(cases), criteria, "criteria")
    replies = job.read("replies", Reply)
    strangers = [reply.id for reply in replies if reply.case_id not in cases]
    if strangers:
        raise ArtifactError(f"replies: {strangers[0]} answers a case that is not in cases.jsonl")

    groups: dict[str, list[Reply]] = {case_id: [] for case_id in cases}
    for reply in replies:
        groups[reply.case_id].append(reply)

    if job.is_kept("judgements"):
        judgements = job.read("judgements", Judgement)
    else:
        at_once = max(1, job.judge.concurrency // 2)
        tasks = [ToJudge(case, criteria[case.id], tuple(groups[case.id])) for case in cases.values()]
        judged = await job.map(JUDGE, tasks, at_once=at_once)
        judgements = [judgement for group in judged for of_reply in group for judgement in of_reply]
        job.write("judgements", judgements)
        called = [judgement for judgement in judgements if judgement.raw or judgement.failure]
        job.budget.add(
            len(called), (j.failure for j in called if j.failure is not None and j.failure.kind not in ABSTAINED)
        )
    known = {reply.id for reply in replies}
    by_reply: dict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        if judgement.reply_id not in known:
            raise ArtifactError(f"judgements: {judgement.id} is of {judgement.reply_id}, which is not in replies.jsonl")
        by_reply[judgement.reply_id].append(judgement)
    rewards: list[Reward] = [
        grm.reward(cases[reply.case_id], criteria[reply.case_id], reply, by_reply[reply.id]) for reply in replies
    ]
    job.write("rewards", rewards)


SCORE_STAGES: tuple[Stage, ...] = (
    Stage("criteria", "criteria", criteria_stage, ("criteria",)),
    Stage("reply", "replies", replies_stage, ("replies",)),
    Stage(
        "score",
        "rewards",
        score_stage,
        ("judge", "bystander"),
    ),
)
