"""A policy in training, looked at from outside: every N steps it answers cases it does not train on, and another judge judges them.

What training pushes up is the training judge's opinion. Whether the replies are better shows, if anywhere, where a different judge reads
replies to users that were not trained on. Replies are the likeliest ones, so two steps differ by the policy alone. Where the training judge
reads them too (`beside`), the two curves differ in the judge alone. Lines go to `held_out.jsonl`, replies to `held_out_replies.jsonl`
(policy `step-N`), which `peregrm evaluate --replies` takes, and both judges' curves to `curves.svg`. A judge that fails leaves its cases
uncovered and never stops training. A run that goes on from a checkpoint drops what lies past it. Left out on purpose: stopping early, for
which the figures are there.

transformers is imported inside `held_out_callback`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from peregrm.errors import ModelError, PeregrmError, SettingsError
from peregrm.evaluation.statistics import Estimate, clustered_mean
from peregrm.mapping import NoProgress, map_in_order
from peregrm.models.heads import is_head
from peregrm.models.local_judge import is_local, local_path, read_taught
from peregrm.models.registry import model_name
from peregrm.records import Failure, Reply
from peregrm.reward.base import COMPARING, RewardModel, Scored
from peregrm.settings import Settings
from peregrm.store import read_records, replace_text, write_records
from peregrm.training.careful import updates_of
from peregrm.training.curves import write_curves
from peregrm.training.generation import Written, write_replies
from peregrm.training.grpo.looped import OwnLoop
from peregrm.training.held_out_lines import (
    HELD_OUT,
    HELD_OUT_REPLIES,
    CaseTotal,
    HeldOutLine,
    Role,
    policy_at,
    read_held_out,
)
from peregrm.training.plain import PLAIN, plain_measures
from peregrm.training.policies import Policy, training_library
from peregrm.training.rows import PromptRow

__all__ = ["HeldOut", "HeldOutReport", "check_other_judge", "held_out_callback"]

HeldOutReport = Callable[[dict[str, float]], None]

_AT_ONCE = 64


def check_other_judge(training: Sequence[str], held_out: Sequence[str], settings: Settings) -> list[str]:
    """Raise `SettingsError` where a judge of the training would look at held-out replies too.

    Judges are given as `--judge` takes them. Returns what a person should know besides: judges that are the same model elsewhere, and
    distilled ones whose teacher is the other judge, or the other's teacher.
    """
    used = {model_name(spec, settings): spec for spec in training}
    same = {_identity(name) for name in used}
    warnings = []
    for spec in held_out:
        name = model_name(spec, settings)
        if _identity(name) in same:
            raise SettingsError(
                f"{spec}: this judge gives the training reward, so it cannot show that training went wrong: name a different one for "
                "held-out cases"
            )
        alike = [other for other in used if other.partition("@")[0] == name.partition("@")[0] and "@http" in other]
        warnings += [
            f"{spec}: the model of this held-out judge may be that of the training judge {other}" for other in alike
        ]
        warnings += [
            f"{spec}: this held-out judge and the training judge {other} go back to one teacher, so they may err alike"
            for other in used
            if _source(name) & _source(other)
        ]
    return warnings


def _identity(name: str) -> str:
    """Return what makes a judge the same one: of a head and a distilled judge its files, wherever they lie, else its name."""
    return f"{name.partition(':')[0]}@{name.rpartition('@')[2]}" if is_head(name) or is_local(name) else name


def _source(name: str) -> set[str]:
    """Return the judges whose opinions a judge holds: itself and, of a distilled one, its teacher."""
    own = {_identity(name)}
    return own | {_identity(read_taught(local_path(name.rpartition("@")[0])).teacher)} if is_local(name) else own


class _Judged(NamedTuple):
    scored: Scored | None
    failure: Failure | None
    judge: str = ""


@dataclass
class HeldOut:
    """Evaluates one policy in training.

    Attributes:
        policy: The policy that is trained; its weights are read as they stand.
        rows: Prompts of users that are not trained on.
        reward: By the held-out judge. Raises `SettingsError` at construction where it compares replies of a group.
        folder: Where the files lie.
        max_new_tokens: The most tokens of a reply.
        say: Gets a readable line an evaluation.
        beside: By the training judge; None: it does not read these replies.
        report: Gets the means by name (`held_out/total`), for a trainer's own reporters.
        batch_size: Replies written at once.
    """

    policy: Policy
    rows: Sequence[PromptRow]
    reward: RewardModel
    folder: Path
    max_new_tokens: int
    say: Callable[[str], None]
    beside: RewardModel | None = None
    report: HeldOutReport | None = None
    batch_size: int = 8
    _open: ExitStack = field(default_factory=ExitStack)
    _loop: OwnLoop | None = None
    _told: str = ""

    def __post_init__(self) -> None:
        for reward in (self.reward, self.beside):
            if reward is not None and reward.method in COMPARING:
                raise SettingsError(
                    f"the reward {reward.method!r} compares replies, and each held-out case has one: judge them by another reward"
                )

    def begin(self, step: int) -> None:
        """Drop what lies past `step`, where training begins or goes on, and evaluate if that was not done there."""
        lines = [line for line in read_held_out(self.folder) if line.step <= step and step]
        kept = {policy_at(line.step) for line in lines}
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write(lines, [reply for reply in self._replies() if reply.policy in kept])
        if not step:
            self.evaluate(0)

    def evaluate(self, step: int) -> list[HeldOutLine]:
        """Write and judge replies after `step` steps, unless that was done; return the new lines."""
        before = read_held_out(self.folder)
        if any(line.step == step for line in before):
            return []
        start = time.monotonic()
        written = write_replies(
            self.policy,
            self.rows,
            name=policy_at(step),
            max_new_tokens=self.max_new_tokens,
            batch_size=self.batch_size,
        )
        spent = time.monotonic() - start
        rewards: list[tuple[Role, RewardModel]] = [("held-out", self.reward)]
        rewards += [] if self.beside is None else [("training", self.beside)]
        lines = [self._judged(step, role, reward, written, spent) for role, reward in rewards]
        kept = {policy_at(line.step) for line in before}
        replies = [reply for reply in self._replies() if reply.policy in kept]
        self._write([*before, *lines], [*replies, *(one.reply for one in written)])
        for line in lines:
            self.say(_words(line))
        if self.report is not None:
            self.report({f"held_out/{name}": value for line in lines for name, value in _means(line)})
        self._show()
        return lines

    def _show(self) -> None:
        """Draw the curves, and say what they show where that is news."""
        words = write_curves(self.folder)
        if words and words[-1] != self._told:
            self._told = words[-1]
            for line in words:
                self.say(line)

    def close(self) -> None:
        """Close the rewards, in the loop that asked them. Safe to call twice."""
        for reward in (self.reward, self.beside):
            if reward is not None:
                self._judging().run(reward.aclose())
        self._open.close()
        self._loop = None

    def _judging(self) -> OwnLoop:
        if self._loop is None:
            self._loop = self._open.enter_context(OwnLoop())
        return self._loop

    def _judged(
        self, step: int, role: Role, reward: RewardModel, written: Sequence[Written], spent: float
    ) -> HeldOutLine:
        start = time.monotonic()
        judged = self._judging().run(_judge(reward, written))
        failures = Counter(one.failure.kind for one in judged if one.failure is not None)
        totals = [(one.case, each.scored) for one, each in zip(written, judged, strict=True)]
        return HeldOutLine(
            step=step,
            role=role,
            judge=next((one.judge for one in judged if one.judge), "no answer"),
            method=reward.method,
            cases=len(written),
            measures=(*_by_judge(written, judged), *_plain(written)),
            totals=tuple(
                CaseTotal(case_id=case.id, user_id=case.user_id, total=scored and scored.total)
                for case, scored in totals
                if not case.flags
            ),
            failures=tuple(sorted(failures.items())),
            writing_seconds=round(spent, 3),
            judging_seconds=round(time.monotonic() - start, 3),
        )

    def _replies(self) -> list[Reply]:
        path = self.folder / HELD_OUT_REPLIES
        return read_records(path, Reply) if path.exists() else []

    def _write(self, lines: Sequence[HeldOutLine], replies: Sequence[Reply]) -> None:
        write_records(
            self.folder / HELD_OUT_REPLIES, replies
        )  # first: a reply without a line is dropped, a line counts
        replace_text(self.folder / HELD_OUT, "".join(line.model_dump_json() + "\n" for line in lines))


def held_out_callback(
    policy: Policy,
    rows: Sequence[PromptRow],
    reward: RewardModel,
    *,
    every: int,
    folder: Path,
    max_new_tokens: int,
    say: Callable[[str], None],
    beside: RewardModel | None = None,
    report: HeldOutReport | None = None,
) -> Any:
    """Return a callback of transformers that evaluates at the start, every `every` steps, and at the end.

    Its `held_out` is the `HeldOut` it forwards to, which whoever made the callback closes. Of several processes the first alone
    evaluates, so its weights must be whole. `every` 0 evaluates at the start and at the end only.
    """
    transformers = training_library("transformers")
    evaluation = HeldOut(policy, rows, reward, folder, max_new_tokens, say, beside, report)

    class HeldOutCallback(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
        held_out = evaluation

        def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            if state.is_world_process_zero:
                evaluation.begin(state.global_step // updates_of(args))

        def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            if state.is_world_process_zero and every and state.global_step % (every * updates_of(args)) == 0:
                wanted = control.should_log
                evaluation.evaluate(state.global_step // updates_of(args))
                control.should_log = (
                    wanted  # a report is a log to the trainer, which then believes to have logged this step
                )

        def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            if state.is_world_process_zero:
                evaluation.evaluate(state.global_step // updates_of(args))

    return HeldOutCallback()


async def _judge(reward: RewardModel, written: Sequence[Written]) -> list[_Judged]:
    """Return what a reward says of each reply; after an error that makes further calls pointless, nobody is asked any more."""
    fatal: list[Failure] = []

    async def ask(one: Written) -> _Judged:
        if fatal:
            return _Judged(None, fatal[0])
        try:
            (scored,) = await reward.score(one.case, [one.reply])
        except (PeregrmError, OSError) as error:
            kind = error.kind if isinstance(error, ModelError) else "error"
            failure = Failure(stage="held-out", kind=kind, reason=str(error))
            fatal.append(failure)
            return _Judged(None, failure)
        return _Judged(scored, scored.failure, scored.reward.judge)

    return await map_in_order(ask, written, stage="held-out", progress=NoProgress(), at_once=_AT_ONCE)


def _by_judge(written: Sequence[Written], judged: Sequence[_Judged]) -> list[tuple[str, Estimate]]:
    plain = [(one, each) for one, each in zip(written, judged, strict=True) if not one.case.flags]
    flagged = [(one, each) for one, each in zip(written, judged, strict=True) if one.case.flags]
    names = dict.fromkeys(name for _, each in plain if each.scored for name in each.scored.scores)

    def estimate(pairs: Sequence[tuple[Written, _Judged]], value: Callable[[Scored], float | None]) -> Estimate:
        return clustered_mean([(one.case.user_id, value(each.scored) if each.scored else None) for one, each in pairs])

    rows = [("total", estimate(plain, lambda one: one.total))]
    optional: dict[str, Callable[[Scored], float | None]] = {
        "empathy": lambda one: one.empathy,
        "bystander": lambda one: one.bystander,
        **{name: lambda one, name=name: one.scores.get(name) for name in names},  # type: ignore[misc]
    }
    found = [(name, estimate(plain, value)) for name, value in optional.items()]
    rows += [(name, one) for name, one in found if one.n]
    return rows + ([("flagged_total", estimate(flagged, lambda one: one.total))] if flagged else [])


def _plain(written: Sequence[Written]) -> list[tuple[str, Estimate]]:
    measured = [(one.case.user_id, plain_measures(one.case, one)) for one in written]
    ends = {"tokens": (0.0, float("inf"))}
    return [
        (name, clustered_mean([(user, values[name]) for user, values in measured], bounds=ends.get(name, (0.0, 1.0))))
        for name in PLAIN
    ]


def _means(line: HeldOutLine) -> list[tuple[str, float]]:
    own = [(name, one.mean) for name, one in line.measures if one.mean is not None]
    if line.role == "training":
        return [(f"training_judge_{name}", value) for name, value in own if name not in PLAIN]
    return own


def _words(line: HeldOutLine) -> str:
    """Return a line for a person."""
    total, length, cut = line.measure("total"), line.measure("tokens"), line.measure("cut_off")
    told = "no total" if total is None or total.mean is None else f"total {total.mean:.4f}"
    if total is not None and total.low is not None and total.high is not None:
        told += f" [{total.low:.4f}, {total.high:.4f}]"
    parts = [f"held-out cases, step {line.step}, {line.judge} ({line.role} judge): {told}"]
    if total is not None:
        parts.append(f"{total.n} of {total.asked} cases of {total.users} users")
    if length is not None and length.mean is not None and cut is not None:
        parts.append(f"{length.mean:.0f} words a reply, {cut.mean or 0:.0%} cut off")
    parts += [f"{n} without a total: {kind}" for kind, n in line.failures]
    return "; ".join(parts)
