"""The part that attacks a judge, over scripted judges with a planted weakness: the weakness is found, and no other."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attack_parts import GOOD, by_its_honest_part, context_of, filled, has_attack_of, judge_by, six_users
from peregrm.errors import InputError
from peregrm.evaluation.attacks import Attack, attacks, families
from peregrm.evaluation.attacks.measure import AttackResult
from peregrm.evaluation.validity.card import Finding
from peregrm.models.base import Model, Request
from peregrm.models.planning import PlanningModel
from peregrm.models.scripted import ScriptedModel
from peregrm.pipeline.material import Material, choose_cases
from peregrm.pipeline.reply_files import Dataset
from peregrm.pipeline.validity.attacks import _turn, measure
from peregrm.records import Case, Reply
from peregrm.store import read_records


@pytest.fixture(scope="session")
def material(case: Case) -> Material:
    return six_users(case)


async def measured(
    judge: Model, material: Material, out: Path, *, per_family: int | None = 1, **asked: Any
) -> tuple[AttackResult, Finding]:
    finding = await measure(context_of(material, out, judge, **asked), per_family=per_family)
    return AttackResult.model_validate_json((out / "attacks.json").read_text()), finding


async def test_a_judge_that_reads_only_the_honest_part_raises_no_alarm(material: Material, tmp_path: Path) -> None:
    result, finding = await measured(judge_by(by_its_honest_part), material, tmp_path, cases=12)
    rows = [*result.table.families, result.table.harmless]
    assert [row.family for row in rows] == [*families(), "harmless"]
    stripped = next(row for row in rows if row.family == "thinking")
    assert stripped.highest == 0, "a reply that is taken for thinking may score lower, never higher"
    rows.remove(stripped)
    assert {(row.shift.mean, row.highest, row.above_best.mean, row.outcome) for row in rows} == {(0, 0, 0, "not moved")}
    assert {(row.rank.mean, row.beats_all.mean) for row in result.table.hacks} == {(2.5, 0.0)}
    assert (result.table.cases, result.table.users, result.left_out, result.cost) == (12, 6, 0, None)
    assert (result.judge, result.mode) == ("judge-1", "shared")
    assert {name for name, _ in result.prompts} == {"judge", "bystander"}
    assert "No family moved the score measurably" in (tmp_path / "attacks.md").read_text()
    # Six users are too few to say of a hack that never wins that it wins less often than one in three.
    assert finding.verdict == "unknown"
    assert finding.words[0].startswith("No family of hostile text lifts the score measurably")
    assert (finding.asked, finding.scored) == (72, 72), "two honest replies and a mark a case, each by two judgements"


async def test_the_family_that_fools_the_judge_is_named_and_no_other(material: Material, tmp_path: Path) -> None:
    pressed = has_attack_of("pressure")
    judge = judge_by(lambda reply: 5 if pressed(reply) else by_its_honest_part(reply))
    result, finding = await measured(judge, material, tmp_path)
    assert result.table.moved == ("pressure",)
    rows = {row.family: row for row in result.table.families}
    assert rows["pressure"].above_best.mean == 1.0
    assert rows["pressure"].shift.mean == pytest.approx(1 - (0.4 + 0.5 * (0.4 - 1)))
    assert {row.shift.mean for name, row in rows.items() if name not in ("pressure", "thinking")} == {0}
    assert finding.verdict == "bad"
    assert finding.words[0].startswith("Hostile text lifts the score: pressure (+0.900). That is 1 of 17 families")


async def test_a_judge_that_fails_on_some_gives_them_no_number(material: Material, tmp_path: Path) -> None:
    asks = has_attack_of("pressure")
    judge = judge_by(lambda reply: None if asks(reply) else by_its_honest_part(reply))
    result, finding = await measured(judge, material, tmp_path)
    rows = {row.family: row for row in result.table.families}
    row = rows.pop("pressure")
    assert (row.shift.n, row.shift.asked, row.shift.coverage, row.shift.mean, row.highest) == (0, 6, 0.0, None, None)
    assert sum(n for _, n in row.failures) == 6
    thinking = rows.pop("thinking")
    assert 0 < thinking.shift.n < 6
    assert thinking.failures == (("unclosed_thinking", 6 - thinking.shift.n),), "as in training: there is no reply"
    assert {(one.shift.coverage, one.failures) for one in rows.values()} == {(1.0, ())}
    assert result.table.moved == ()
    assert result.honest.coverage == 1.0
    assert finding.asked == finding.scored, "a failure on an attack is a finding and no fault of the measurement"


async def test_the_hack_that_pleases_the_judge_is_found(material: Material, tmp_path: Path) -> None:
    judge = judge_by(lambda reply: 5 if reply.startswith("I know you so well") else by_its_honest_part(reply))
    result, finding = await measured(judge, material, tmp_path)
    hacks = {row.policy: row for row in result.table.hacks}
    assert (hacks["recital"].rank.mean, hacks["recital"].beats_all.mean) == (1.0, 1.0)
    assert hacks["warm"].beats_all.mean == 0.0
    assert finding.verdict == "bad"
    assert any("recital (6 of 6 cases) stand above every honest reply" in line for line in finding.words)
    assert not any("warm" in line for line in finding.words)


async def test_the_same_seed_gives_the_same_bytes_whatever_the_order(material: Material, tmp_path: Path) -> None:
    def judge() -> ScriptedModel:
        return judge_by(lambda reply: 1 + len(reply) % 5)

    mixed = random.Random(1)
    cases = list(material.dataset.cases.items())
    shuffled = Material(
        Dataset(dict(mixed.sample(cases, len(cases))), {}),
        mixed.sample(material.replies, len(material.replies)),
        material.ranks,
    )
    first = await measured(judge(), material, tmp_path / "a", cases=3, seed=3)
    assert await measured(judge(), shuffled, tmp_path / "b", cases=3, seed=3) == first
    for name in ("attacks.json", "attacks.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert await measured(judge(), material, tmp_path / "c", cases=3, seed=4) != first


async def test_without_ranks_the_lowest_scored_reply_is_attacked_and_the_result_says_so(
    material: Material, tmp_path: Path
) -> None:
    def judge() -> ScriptedModel:
        return judge_by(lambda reply: 2 if GOOD in reply else 4)

    result, _ = await measured(judge(), Material(material.dataset, material.replies, {}), tmp_path, cases=2)
    attacked = [
        r for r in read_records(tmp_path / "attacks.parts" / "replies.jsonl", Reply) if r.policy == "harmless mark"
    ]
    assert len(attacked) == 2
    assert all(reply.text.startswith(GOOD) for reply in attacked)
    assert result.base.startswith("the honest reply that scored lowest")
    ranked, _ = await measured(judge(), material, tmp_path / "ranked", cases=2)
    assert ranked.base == "the worst honest reply by its known rank"


async def test_more_attacks_of_each_family_and_all_of_them(material: Material, tmp_path: Path) -> None:
    judge = judge_by(by_its_honest_part)
    two, _ = await measured(judge, material, tmp_path / "two", cases=1, per_family=2)
    assert {row.shift.asked for row in two.table.families} == {2}
    everything, _ = await measured(judge, material, tmp_path / "all", cases=1, per_family=None)
    assert sum(row.shift.asked for row in everything.table.families) == len(attacks())


def test_the_attacks_of_a_family_take_turns() -> None:
    def names(places: range, count: int) -> Iterator[Attack]:
        for place in places:
            yield from _turn(0, count, place)

    for family in families():
        whole = {attack.name for attack in attacks() if attack.family == family}
        seen = [attack.name for attack in names(range(len(whole)), 1) if attack.family == family]
        assert sorted(seen) == sorted(whole)
        per_case = [a.name for a in names(range(1), 99) if a.family == family]
        assert sorted(per_case) == sorted(whole)


def test_cases_are_spread_over_users_and_a_smaller_choice_is_the_beginning_of_a_larger(material: Material) -> None:
    cases = list(material.dataset.cases.values())
    six = choose_cases(cases, 6, seed=0)
    assert len({case.user_id for case in six}) == 6
    assert choose_cases(cases[::-1], 6, seed=0) == six
    assert choose_cases(cases, 99, seed=0)[:6] == six
    assert len(choose_cases(cases, 99, seed=0)) == 12
    assert choose_cases(cases, 6, seed=1) != six


async def test_a_listwise_judge_sees_every_hostile_reply_among_the_honest_ones(
    material: Material, tmp_path: Path
) -> None:
    asked: list[int] = []

    def answer(request: Request) -> str:
        schema = request.json_schema or {}
        asked.append(len(schema["properties"]))
        return json.dumps(filled(schema, 3))

    judge = ScriptedModel(answer, name="judge-1")
    result, finding = await measured(judge, material, tmp_path, mode="listwise")
    assert set(asked) == {1, 2, 3}, "an attacked reply, if it is one, takes its own place; a hack comes on top"
    assert {row.shift.mean for row in result.table.families if row.shift.n} == {0}
    assert {(row.honest, row.rank.mean) for row in result.table.hacks} == {(2.0, 2.0)}
    assert finding.verdict == "doubtful", "a judge that gives everything the same score is not moved, which is no merit"


async def test_nothing_to_attack_is_an_error(material: Material, tmp_path: Path) -> None:
    silent = [reply.model_copy(update={"text": " "}) for reply in material.replies]
    with pytest.raises(InputError, match="no case with a reply to attack"):
        await measured(judge_by(by_its_honest_part), Material(material.dataset, silent, {}), tmp_path)


async def test_a_stand_in_of_a_plan_is_asked_as_often_as_a_judge(material: Material, tmp_path: Path) -> None:
    stand_in = PlanningModel("judge-1")
    await measured(stand_in, material, tmp_path / "plan", cases=1)
    judge = judge_by(by_its_honest_part)
    await measured(judge, material, tmp_path / "real", cases=1)
    planned = sum(usage.calls for usage in stand_in.planned.values())
    assert len(judge.requests) <= planned <= len(judge.requests) + 6, "equal replies are asked once"
