"""`peregrm validate`: parts one after another, one card that is widened and never mixed, and the command over a real run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from attack_parts import SPEC, by_its_honest_part, judge_by, six_users
from peregrm.errors import ArtifactError, DependencyError, FailureBudgetExceeded, InputError, SettingsError
from peregrm.evaluation.attacks.measure import AttackResult
from peregrm.evaluation.statistics import Estimate
from peregrm.evaluation.validity.card import PARTS, Figure, Finding, JudgeCard, PartName
from peregrm.evaluation.validity.ratings.files import OWN
from peregrm.mapping import NoProgress
from peregrm.models.cache import CachedModel
from peregrm.models.scripted import ScriptedModel
from peregrm.pipeline import validate
from peregrm.pipeline.material import Material, read_material, sample_material
from peregrm.pipeline.validate import Asked, ValidationRun, check_failures, is_model, plan_validation, validate_judge
from peregrm.pipeline.validity.context import Context
from peregrm.pipeline.validity.registry import MEASURES
from peregrm.records import Case, Judgement, Reply
from peregrm.reward.options import RewardOptions
from peregrm.settings import Settings
from peregrm.store import read_records

Answer = Finding | Exception
FIGURE = Figure(name="a figure", estimate=Estimate(mean=0.5, low=0.4, high=0.6, n=9, users=3, asked=9), reference=0.5)


@pytest.fixture(scope="session")
def material(case: Case) -> Material:
    return six_users(case)


def found(part: PartName, **changes: Any) -> Finding:
    usual = {"part": part, "verdict": "good", "words": (f"{part} holds.",), "figures": (FIGURE,)}
    return Finding.model_validate({**usual, **changes})


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[PartName, Answer]], list[str]]:
    """Let parts give these findings or errors instead of measuring; returns the list of what was asked of them."""

    def use(answers: Mapping[PartName, Answer]) -> list[str]:
        asked: list[str] = []

        def measured_by(part: PartName) -> Any:
            async def measure(context: Context, per_family: int | None = 1) -> Finding:
                asked.append(part)
                answer = answers[part]
                if isinstance(answer, Exception):
                    raise answer
                return answer

            return measure

        monkeypatch.setattr(validate, "MEASURES", {part: measured_by(part) for part in answers})
        monkeypatch.setattr(validate, "measure_attacks", measured_by("attacks"))
        return asked

    return use


@pytest.fixture
def is_judge(monkeypatch: pytest.MonkeyPatch) -> Callable[[ScriptedModel], ScriptedModel]:
    """Let every model mean this judge."""

    def use(judge: ScriptedModel) -> ScriptedModel:
        monkeypatch.setattr(
            validate, "open_model", lambda spec, settings, *, cache, ledger: CachedModel(judge, cache, ledger)
        )
        return judge

    return use


@pytest.fixture
def judge(is_judge: Callable[[ScriptedModel], ScriptedModel]) -> ScriptedModel:
    return is_judge(judge_by(by_its_honest_part))


async def validated(
    material: Material, out: Path, *chosen: PartName, must: bool = True, said: list[str] | None = None, **changes: Any
) -> ValidationRun:
    options = RewardOptions(judges=(SPEC,), criteria="composed", **changes.pop("options", {}))
    asked = Asked(parts=chosen, must=frozenset(chosen if must else ()), **{"cases": 2, **changes})
    say = (lambda line: None) if said is None else said.append
    return await validate_judge(material, options, Settings(), asked, out=out, progress=NoProgress(), say=say)


async def test_parts_run_in_the_order_of_the_card_and_widen_it(
    material: Material, tmp_path: Path, parts: Callable, judge: ScriptedModel
) -> None:
    asked = parts({part: found(part) for part in PARTS})
    first = await validated(material, tmp_path, "reliability", "human")
    assert asked == ["human", "reliability"]
    assert (first.card.judge, first.card.reward, first.card.criteria) == ("judge-1", "shared", "composed")
    assert first.card.missing == ("sensitivity", "stability", "robustness", "attacks", "calibration")
    parts({"human": found("human", verdict="bad"), "attacks": found("attacks")})
    second = await validated(material, tmp_path, "attacks", "human")
    assert second.measured == ("human", "attacks")
    assert [(f.part, f.verdict) for f in second.card.findings] == [
        ("human", "bad"),
        ("reliability", "good"),
        ("attacks", "good"),
    ]
    assert JudgeCard.model_validate_json((tmp_path / "card.json").read_text()) == second.card
    for name in ("card.md", "card.html"):
        assert "human holds." in (tmp_path / name).read_text()


async def test_what_lacks_its_data_is_left_out_of_all_and_an_error_where_it_was_named(
    material: Material, tmp_path: Path, parts: Callable, judge: ScriptedModel
) -> None:
    answers: dict[PartName, Answer] = {part: found(part) for part in PARTS}
    answers |= {
        "human": InputError("there are no pairs"),
        "stability": DependencyError("needs statsmodels"),
        "robustness": SettingsError("needs a model"),
    }
    parts(answers)
    said: list[str] = []
    run = await validated(material, tmp_path, *PARTS, must=False, said=said)
    assert run.left_out == {
        "human": "there are no pairs",
        "stability": "needs statsmodels",
        "robustness": "needs a model",
    }
    assert run.card.missing == ("human", "stability", "robustness")
    assert "Human agreement: not measured: there are no pairs" in said
    assert any(line.startswith("Attacks: holds (") for line in said)
    with pytest.raises(InputError, match="human agreement: there are no pairs"):
        await validated(material, tmp_path / "b", "human")
    pairs = (tmp_path / "broken.jsonl",)
    with pytest.raises(InputError, match="no pairs"):
        await validated(material, tmp_path / "c", *PARTS, must=False, pairs=pairs)
    with pytest.raises(InputError, match="nothing could be measured"):
        await validated(material, tmp_path / "d", "human", "stability", must=False)


async def test_what_was_measured_before_a_stop_is_kept(
    material: Material, tmp_path: Path, parts: Callable, judge: ScriptedModel
) -> None:
    parts({"human": found("human"), "attacks": ArtifactError("a stop")})
    with pytest.raises(ArtifactError):
        await validated(material, tmp_path, "human", "attacks")
    assert "human holds." in (tmp_path / "card.md").read_text()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"options": {"reward": "paper"}}, "reward 'shared', not 'paper'"),
        ({"options": {"samples": 2}}, "samples 1, not 2"),
        ({"seed": 1}, "seed 0, not 1"),
        ({"judge": "judge-2"}, "judge 'judge-1', not 'judge-2'"),
        ({"fewer": True}, "material"),
    ],
)
async def test_the_card_of_another_measurement_is_not_touched(
    change: dict[str, Any],
    says: str,
    material: Material,
    tmp_path: Path,
    parts: Callable,
    is_judge: Callable,
) -> None:
    parts({part: found(part) for part in PARTS})
    is_judge(judge_by(by_its_honest_part))
    await validated(material, tmp_path, "human")
    before = (tmp_path / "card.json").read_bytes()
    change = dict(change)
    is_judge(judge_by(by_its_honest_part, change.pop("judge", "judge-1")))
    other = Material(material.dataset, material.replies[1:], material.ranks) if change.pop("fewer", False) else material
    with pytest.raises(SettingsError, match="holds the card of another measurement") as error:
        await validated(other, tmp_path, "attacks", **change)
    assert says in str(error.value)
    assert (tmp_path / "card.json").read_bytes() == before


async def test_a_card_alone_or_a_damaged_one_is_not_widened(
    material: Material, tmp_path: Path, parts: Callable, judge: ScriptedModel
) -> None:
    parts({part: found(part) for part in PARTS})
    await validated(material, tmp_path, "human")
    state = tmp_path / "validation.json"
    for damaged in (b"{}", b"\xff\xfe"):
        state.write_bytes(damaged)
        with pytest.raises(ArtifactError, match=r"validation\.json: damaged"):
            await validated(material, tmp_path, "attacks")
    state.unlink()
    with pytest.raises(SettingsError, match="which says what it is about"):
        await validated(material, tmp_path, "attacks")


async def test_usage_is_that_of_the_parts_whether_asked_or_from_the_cache(
    material: Material, tmp_path: Path, judge: ScriptedModel
) -> None:
    first = await validated(material, tmp_path, "attacks")
    calls = len(judge.requests)
    assert first.card.usage.calls >= calls > 0, "equal replies are asked once"
    again = await validated(material, tmp_path, "attacks")
    assert len(judge.requests) == calls
    assert again.card == first.card


async def test_too_many_failures_end_in_an_error_after_all_is_written(
    material: Material, tmp_path: Path, parts: Callable, judge: ScriptedModel
) -> None:
    parts({"human": found("human", asked=100, scored=70)})
    run = await validated(material, tmp_path, "human")
    check_failures(run, 0.4, tmp_path)
    with pytest.raises(FailureBudgetExceeded, match="30 of 100 judgements"):
        check_failures(run, 0.2, tmp_path)


async def test_a_plan_asks_nothing_and_counts_what_is_asked(
    material: Material, tmp_path: Path, judge: ScriptedModel
) -> None:
    options = RewardOptions(judges=(SPEC,), criteria="composed")
    asked = Asked(parts=("attacks",), must=frozenset({"attacks"}), cases=1)
    planned, left_out = await plan_validation(material, options, Settings(), asked, NoProgress())
    assert judge.requests == []
    await validated(material, tmp_path, "attacks", cases=1)
    assert left_out == {}
    assert len(judge.requests) <= sum(row.calls for row in planned) <= len(judge.requests) + 6


def test_what_is_no_model() -> None:
    shared = RewardOptions()
    assert is_model(shared, "embedded")
    assert not is_model(shared, "head")
    assert not is_model(shared, "head:file")
    assert not is_model(RewardOptions(reward="scalar"), "path")


def test_every_part_can_be_measured() -> None:
    assert list(MEASURES) == list(PARTS)


async def test_the_sample_is_built_without_a_model_and_knows_the_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peregrm.pipeline.engine.Embedder", lambda: None)  # the method works without, only less well
    material = await sample_material(tmp_path, Settings(), NoProgress())
    assert len(material.dataset.cases) == 48
    assert len(material.replies) == 4 * 48
    assert sorted(material.ranks.values()) == sorted([1, 2, 3, 4] * 48)
    assert {reply.id for reply in material.replies} == material.ranks.keys()


async def test_the_sample_without_its_packages_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise DependencyError("embeddings need onnxruntime: pip install it")

    monkeypatch.setattr("peregrm.pipeline.engine.Embedder", missing)
    with pytest.raises(DependencyError, match="pip install"):
        await sample_material(tmp_path, Settings(), NoProgress())


def test_the_command_says_which_parts_there_are(here: Callable) -> None:
    ended = here("validate")
    assert ended.code == 2
    said = " ".join(ended.stderr.replace("│", " ").split())
    for part in PARTS:
        assert f"--{part}" in said


@pytest.mark.parametrize("count", ["0", "-1", "many", ""])
def test_a_number_of_attacks_that_is_none_is_refused(count: str, here: Callable) -> None:
    ended = here("validate", "--attacks", "--per-family", count)
    assert ended.code == 2
    assert "--per-family" in ended.stderr


def test_a_dataset_without_replies_is_refused(here: Callable, finished: Any) -> None:
    here("validate", finished.out / "cases.jsonl", "--attacks").failed_with_one_line("name the file with the replies")


def test_the_command_over_a_run_writes_everything_and_goes_on_where_it_was(
    here: Callable, finished: Any, tmp_path: Path
) -> None:
    out = tmp_path / "validation"
    command = ["validate", finished.out, "--attacks", "--judge", finished.server.spec, "--cases", "1", "-o", out]
    ended = here(*command)
    assert ended.code == 0, ended.stderr
    for part in (
        "ATTACKS: too little data",
        "Lift of the total by families",
        "fake_json",
        "recital",
        "not measured: human",
    ):
        assert part in ended.stdout
    assert "Behind these figures" in ended.stdout

    def written() -> dict[str, bytes]:
        return {
            path.relative_to(out).as_posix(): path.read_bytes()
            for path in out.rglob("*")
            if path.is_file() and "sqlite" not in path.name
        }

    before = written()
    assert before.keys() >= {"attacks.json", "attacks.md", "card.json", "card.md", "card.html", "validation.json"}
    calls = len(finished.server.starts())
    again = here(*command, "--json")
    assert len(finished.server.starts()) == calls
    assert written() == before
    card = JudgeCard.model_validate_json(again.stdout)
    assert [finding.part for finding in card.findings] == ["attacks"]
    assert card.judge == finished.server.spec
    result = AttackResult.model_validate_json(before["attacks.json"])
    assert {row.outcome for row in result.table.families} == {"unknown"}, "one user is no sample"
    judgements = read_records(out / "attacks.parts" / "judgements.jsonl", Judgement)
    replies = read_records(out / "attacks.parts" / "replies.jsonl", Reply)
    assert {j.reply_id for j in judgements} <= {reply.id for reply in replies}
    attacked = next(reply for reply in replies if reply.policy.startswith("attack fence."))
    explained = here("explain", attacked.id, out / "attacks.parts")
    assert explained.code == 0, explained.stderr


def test_a_dry_run_asks_nothing(here: Callable, finished: Any, tmp_path: Path) -> None:
    calls = len(finished.server.starts())
    out = tmp_path / "validation"
    ended = here(
        "validate", finished.out, "--attacks", "--judge", finished.server.spec, "-o", out, "--dry-run", "--json"
    )
    assert ended.code == 0, ended.stderr
    assert {row["purpose"] for row in json.loads(ended.stdout)} >= {"judge", "bystander"}
    assert len(finished.server.starts()) == calls
    assert not out.exists()


def test_ranks_of_a_run_are_those_of_its_hand_written_cases(finished: Any) -> None:
    material = read_material(finished.out, None)
    recorded = {reply.id: reply.policy for reply in material.replies if reply.policy.startswith("recorded")}
    assert {recorded[reply_id]: rank for reply_id, rank in material.ranks.items()} == {
        "recorded good": 1,
        "recorded bad": 2,
    }


async def test_a_part_that_rests_on_files_is_not_replaced_by_one_without_them(
    material: Material, tmp_path: Path, parts: Callable, judge: ScriptedModel
) -> None:
    rich = found("human", data=("pairs (preference pairs): 80 of 80 pairs",), asked=80, scored=80)
    parts({"human": rich})
    await validated(material, tmp_path, "human", pairs=(tmp_path / "pairs.jsonl",))
    asked = parts(
        {part: found(part, verdict="unknown", data=(f"{OWN} (ranked replies): 1 of 1 pairs",)) for part in PARTS}
    )
    said: list[str] = []
    run = await validated(material, tmp_path, *PARTS, must=False, said=said)
    assert "human" not in asked
    assert run.card.findings[0] == rich
    assert "Human agreement: stays as it was: no --pairs or --ratings were given now" in said
    run = await validated(material, tmp_path, "human")
    assert run.card.findings[0].verdict == "unknown", "asked for by name it is measured"


@pytest.mark.parametrize("judge", ["head", "embedded"])
async def test_a_plan_reads_the_files_before_it_says_that_all_is_well(
    judge: str, material: Material, tmp_path: Path
) -> None:
    options = RewardOptions(judges=(judge,), criteria="composed")
    nowhere = Asked(parts=("human",), must=frozenset({"human"}), pairs=(tmp_path / "nosuch.jsonl",), cases=1)
    with pytest.raises(InputError, match=r"nosuch\.jsonl"):
        await plan_validation(material, options, Settings(), nowhere, NoProgress())
    nothing = Asked(parts=("calibration",), must=frozenset(), cases=1)
    unranked = Material(material.dataset, material.replies, {})
    planned, left_out = await plan_validation(unranked, options, Settings(), nothing, NoProgress())
    assert sum(row.calls for row in planned) == 0
    assert "no pairs or ratings" in left_out["calibration"]
