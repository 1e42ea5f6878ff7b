"""The stage that looks at every case for signs of danger, and cases that carry what was found from then on.

Rules look always, the model besides where it was asked for; either is enough. `flags.jsonl` holds the signs with their quotes,
`safety.jsonl` what rules and model each said of every case, `cases.jsonl` the kinds. Flags that were edited by hand are used as they are.
Left out on purpose: a model that reads whole histories; what of them matters to a case stands in the case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from peregrm.dataset.safety import Flag, carried_flags, compare, look_at
from peregrm.pipeline.job import Job
from peregrm.pipeline.steps import FLAGS, SAFETY
from peregrm.records import Case, History
from peregrm.store import Workspace, read_records

__all__ = ["read_cases", "read_flags", "safety_stage", "with_flags"]

_FLAGS = "flags.jsonl"


async def safety_stage(job: Job) -> None:
    """Flag what is said of self-harm, abuse, minors and medical emergencies: such cases stay out of training."""
    cases = job.read("cases", Case)
    if job.is_kept("flags"):
        flags = job.read("flags", Flag)
    else:
        flags = await _look(job, cases)
        job.write("flags", flags)
    kinds = _kinds(flags, cases)
    job.write("cases", [case.model_copy(update={"flags": kinds.get(case.id, ())}) for case in cases])


async def _look(job: Job, cases: Sequence[Case]) -> list[Flag]:
    by_rules, flags = await _ask_rules(job, cases)
    judged = await job.map(SAFETY, cases) if job.config.safety == "both" else []
    by_model = dict(zip((case.id for case in cases), judged, strict=True)) if judged else {}
    checks = [compare(case.id, by_rules[case.id], by_model.get(case.id), judge=job.model.name) for case in cases]
    job.write("safety", checks)
    failures = [check.failure for check in checks]
    job.budget.add(len(judged), (failure for failure in failures if failure is not None))
    for case in cases:
        flags += by_rules[case.id]
        flags += by_model[case.id].flags if judged else ()
    return list(dict.fromkeys(flags))


async def _ask_rules(job: Job, cases: Sequence[Case]) -> tuple[dict[str, tuple[Flag, ...]], list[Flag]]:
    """Return the flags of each case by its id, with those of its user's history that hold for it, and those of all histories."""
    histories = job.read("histories", History)
    tasks: list[History | Case] = [*histories, *cases]
    found = await job.map(FLAGS, tasks)
    of_histories, of_cases = found[: len(histories)], found[len(histories) :]
    carried = {history.user_id: carried_flags(flags) for history, flags in zip(histories, of_histories, strict=True)}
    by_rules = {
        case.id: (*flags, *(flag.model_copy(update={"subject": case.id}) for flag in carried.get(case.user_id, ())))
        for case, flags in zip(cases, of_cases, strict=True)
    }
    return by_rules, [flag for flags in of_histories for flag in flags]


def read_cases(workspace: Workspace) -> list[Case]:
    """Read the cases of a folder with all that is known of their flags; see `with_flags`."""
    return with_flags(workspace.read("cases.jsonl", Case), workspace.path(_FLAGS))


def with_flags(cases: Sequence[Case], path: Path) -> list[Case]:
    """Return the cases with their own flags and those of the file `path`, if it is there.

    A case that nobody looked at, one of another source or written by hand, is looked at by the rules here.
    """
    kinds = _kinds(read_records(path, Flag), cases) if path.exists() else {}
    known = [look_at(case) for case in cases]
    return [
        case.model_copy(update={"flags": tuple(sorted({*(case.flags or ()), *kinds.get(case.id, ())}))})
        for case in known
    ]


def read_flags(workspace: Workspace, cases: Sequence[Case]) -> dict[str, tuple[str, ...]]:
    """Return the kinds of danger of each flagged case, by what the case says and `flags.jsonl`, if there."""
    known = with_flags(cases, workspace.path(_FLAGS))
    return {case.id: case.flags for case in known if case.flags}


def _kinds(flags: Iterable[Flag], cases: Sequence[Case]) -> Mapping[str, tuple[str, ...]]:
    """Return the kinds of danger by the id of the case; a flag on a history that holds for its user counts too."""
    by_subject: dict[str, list[Flag]] = {}
    for flag in flags:
        by_subject.setdefault(flag.subject, []).append(flag)
    found = {
        case.id: [*by_subject.get(case.id, ()), *carried_flags(by_subject.get(case.persona.history_id, ()))]
        for case in cases
    }
    return {case_id: tuple(sorted({flag.kind for flag in some})) for case_id, some in found.items() if some}
