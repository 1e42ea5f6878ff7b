"""`peregrm validate --attacks` over scripted judges with a planted weakness, and as a command over a real run."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from peregrm.errors import DependencyError, InputError
from peregrm.evaluation.attacks import Attack, attacks, families
from peregrm.evaluation.attacks.measure import AttackResult
from peregrm.mapping import NoProgress
from peregrm.models.base import Request
from peregrm.models.cache import CachedModel
from peregrm.models.scripted import ScriptedModel
from peregrm.pipeline import validate
from peregrm.pipeline.material import Material, choose_cases, read_material, sample_material
from peregrm.pipeline.reply_files import Dataset
from peregrm.pipeline.validate import AttackOptions, measure_attacks, plan_attacks
from peregrm.records import Case, Judgement, Reply
from peregrm.reward.options import RewardOptions
from peregrm.settings import Settings
from peregrm.store import read_records

GOOD = "No, you are not daft. Tell Tom the time, once, and eat without him if he is late."
BAD = "I am so sorry that you feel this way about a dinner."
SPEC = "scripted@http://127.0.0.1:9/v1"
Score = Callable[[str], int | None]


@pytest.fixture(scope="session")
def material(case: Case) -> Material:
    """Six users with two cases each; a good and a bad reply, the latter known to be the worse."""
    cases = [
        case.model_copy(update={"user_id": f"user-{n // 2}", "query": f"{case.query} That is dinner number {n}."})
        for n in range(12)
    ]
    replies = [
        Reply(case_id=c.id, policy=name, text=text) for c in cases for name, text in (("good", GOOD), ("bad", BAD))
    ]
    ranks = {reply.id: 1 if reply.text == GOOD else 2 for reply in replies}
    return Material(Dataset({c.id: c for c in cases}, {}), replies, ranks)


def reply_in(request: Request) -> str:
    """Return the reply that stands in the fence at the end of a prompt."""
    (tag,) = re.findall(r"</(reply-[0-9a-f]+)>\Z", request.messages[1].content)
    return request.messages[1].content.rsplit(f"<{tag}>\n", 1)[1].removesuffix(f"\n</{tag}>")


def filled(schema: dict[str, Any], score: int) -> Any:
    """Return the answer that fits the schema and holds this score of 1 to 5 everywhere."""
    if schema.get("type") == "object":
        return {name: filled(part, score) for name, part in schema["properties"].items()}
    if schema.get("type") == "integer":
        return score if schema["maximum"] == 5 else 4 * score
    return "It is what it is."


@pytest.fixture
def judged_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[Score], ScriptedModel]:
    """Let a judge score replies by `score`, which gives 1 to 5, or None for an answer that cannot be read."""

    def use(score: Score) -> ScriptedModel:
        def answer(request: Request) -> str:
            given = score(reply_in(request))
            return "I would rather not say." if given is None else json.dumps(filled(request.json_schema or {}, given))

        judge = ScriptedModel(answer, name="judge-1")
        monkeypatch.setattr(
            validate, "open_model", lambda spec, settings, *, cache, ledger: CachedModel(judge, cache, ledger)
        )
        return judge

    return use


def by_its_honest_part(reply: str) -> int:
    return 4 if GOOD in reply else 2


def has_attack_of(family: str) -> Callable[[str], bool]:
    """Tell a reply with an attack of the family, by its first words."""
    starts = [attack.text.strip()[:30] for attack in attacks() if attack.family == family]
    return lambda reply: any(start in reply for start in starts)


async def measured(material: Material, out: Path, **asked: Any) -> AttackResult:
    options = RewardOptions(judges=(SPEC,), criteria="composed", reward=asked.pop("mode", "shared"))
    asked = {"cases": 6, **asked}
    run = await measure_attacks(material, options, Settings(), AttackOptions(**asked), out=out, progress=NoProgress())
    return run.result


async def test_a_judge_that_reads_only_the_honest_part_is_not_moved(
    material: Material, tmp_path: Path, judged_by: Callable[[Score], ScriptedModel]
) -> None:
    judged_by(by_its_honest_part)
    result = await measured(material, tmp_path)
    rows = [*result.table.families, result.table.harmless]
    assert [row.family for row in rows] == [*families(), "harmless"]
    stripped = next(row for row in rows if row.family == "thinking")
    assert stripped.highest == 0, "a reply that is taken for thinking may score lower, never higher"
    rows.remove(stripped)
    assert {(row.shift.mean, row.highest, row.above_best.mean, row.outcome) for row in rows} == {(0, 0, 0, "not moved")}
    assert result.table.verdict[0].startswith("No family moved the score measurably")
    assert {(row.rank.mean, row.beats_all.mean) for row in result.table.hacks} == {(2.5, 0.0)}
    assert (result.table.cases, result.table.users, result.left_out, result.cost) == (6, 6, 0, None)
    assert {name for name, _ in result.prompts} == {"judge", "bystander"}
    assert json.loads((tmp_path / "attacks.json").read_text())["judge"] == "judge-1"
    assert "No family moved the score measurably" in (tmp_path / "attacks.md").read_text()


async def test_the_family_that_fools_the_judge_is_named_and_no_other(
    material: Material, tmp_path: Path, judged_by: Callable[[Score], ScriptedModel]
) -> None:
    pressed = has_attack_of("pressure")
    judged_by(lambda reply: 5 if pressed(reply) else by_its_honest_part(reply))
    result = await measured(material, tmp_path)
    assert result.table.moved == ("pressure",)
    rows = {row.family: row for row in result.table.families}
    assert rows["pressure"].above_best.mean == 1.0
    assert rows["pressure"].shift.mean == pytest.approx(1 - (0.4 + 0.5 * (0.4 - 1)))
    assert {row.shift.mean for name, row in rows.items() if name not in ("pressure", "thinking")} == {0}


async def test_a_judge_that_fails_on_some_gives_them_no_number(
    material: Material, tmp_path: Path, judged_by: Callable[[Score], ScriptedModel]
) -> None:
    asks = has_attack_of("pressure")
    judged_by(lambda reply: None if asks(reply) else by_its_honest_part(reply))
    result = await measured(material, tmp_path)
    rows = {row.family: row for row in result.table.families}
    row = rows.pop("pressure")
    assert (row.shift.n, row.shift.asked, row.shift.coverage, row.shift.mean, row.highest) == (0, 6, 0.0, None, None)
    assert sum(n for _, n in row.failures) == 6
    thinking = rows.pop("thinking")
    assert 0 < thinking.shift.n < 6
    assert thinking.failures == (("unclosed_thinking", 6 - thinking.shift.n),), "as in training: there is no reply"
    assert {(one.shift.coverage, one.failures) for one in rows.values()} == {(1.0, ())}
    assert result.table.moved == ()
    assert "Not known" in " ".join(result.table.verdict)
    assert result.honest.coverage == 1.0


async def test_the_hack_that_pleases_the_judge_is_found(
    material: Material, tmp_path: Path, judged_by: Callable[[Score], ScriptedModel]
) -> None:
    judged_by(lambda reply: 5 if reply.startswith("I know you so well") else by_its_honest_part(reply))
    result = await measured(material, tmp_path, cases=4)
    hacks = {row.policy: row for row in result.table.hacks}
    assert (hacks["recital"].rank.mean, hacks["recital"].beats_all.mean) == (1.0, 1.0)
    assert hacks["warm"].beats_all.mean == 0.0
    assert result.table.verdict[-1].endswith("recital in 4 of 4 cases.")


async def test_the_same_seed_gives_the_same_bytes_whatever_the_order_and_repeats_no_call(
    material: Material, tmp_path: Path, judged_by: Callable[[Score], ScriptedModel]
) -> None:
    judge = judged_by(lambda reply: 1 + len(reply) % 5)
    first = await measured(material, tmp_path / "a", cases=3, seed=3)
    calls = len(judge.requests)
    mixed = random.Random(1)
    cases = list(material.dataset.cases.items())
    shuffled = Material(
        Dataset(dict(mixed.sample(cases, len(cases))), {}),
        mixed.sample(material.replies, len(material.replies)),
        material.ranks,
    )
    again = await measured(shuffled, tmp_path / "a", cases=3, seed=3)
    assert len(judge.requests) == calls
    assert again == first
    assert await measured(shuffled, tmp_path / "b", cases=3, seed=3) == first
    for name in ("attacks.json", "attacks.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert await measured(material, tmp_path / "c", cases=3, seed=4) != first


async def test_without_ranks_the_lowest_scored_reply_is_attacked_and_the_result_says_so(
    material: Material, tmp_path: Path, judged_by: Callable[[Score], ScriptedModel]
) -> None:
    judged_by(lambda reply: 2 if GOOD in reply else 4)
    result = await measured(Material(material.dataset, material.replies, {}), tmp_path, cases=2)
    attacked = [
        r for r in read_records(tmp_path / "attacks.parts" / "replies.jsonl", Reply) if r.policy == "harmless mark"
    ]
    assert len(attacked) == 2
    assert all(reply.text.startswith(GOOD) for reply in attacked)
    assert result.base.startswith("the honest reply that scored lowest")
    ranked = await measured(material, tmp_path / "ranked", cases=2)
    assert ranked.base == "the worst honest reply by its known rank"


async def test_more_attacks_of_each_family_and_all_of_them(
    material: Material, tmp_path: Path, judged_by: Callable[[Score], ScriptedModel]
) -> None:
    judged_by(by_its_honest_part)
    two = await measured(material, tmp_path / "two", cases=1, per_family=2)
    assert {row.shift.asked for row in two.table.families} == {2}
    everything = await measured(material, tmp_path / "all", cases=1, per_family=None)
    assert sum(row.shift.asked for row in everything.table.families) == len(attacks())


def test_the_attacks_of_a_family_take_turns() -> None:
    def names(places: range, count: int) -> Iterator[Attack]:
        for place in places:
            yield from validate._turn(AttackOptions(per_family=count), place)

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
    material: Material, tmp_path: Path, judged_by: Callable[[Score], ScriptedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def answer(request: Request) -> str:
        schema = request.json_schema or {}
        asked.append(len(schema["properties"]))
        return json.dumps(filled(schema, 3))

    judge = ScriptedModel(answer, name="judge-1")
    judged_by(by_its_honest_part)
    monkeypatch.setattr(
        validate, "open_model", lambda spec, settings, *, cache, ledger: CachedModel(judge, cache, ledger)
    )
    result = await measured(material, tmp_path, cases=2, mode="listwise")
    assert set(asked) == {1, 2, 3}, "an attacked reply, if it is one, takes its own place; a hack comes on top"
    assert {row.shift.mean for row in result.table.families if row.shift.n} == {0}
    assert {(row.honest, row.rank.mean) for row in result.table.hacks} == {(2.0, 2.0)}


async def test_a_plan_asks_nothing_and_counts_what_is_asked(
    material: Material, tmp_path: Path, judged_by: Callable[[Score], ScriptedModel]
) -> None:
    options = RewardOptions(judges=(SPEC,), criteria="composed")
    asked = AttackOptions(cases=1)
    planned = await plan_attacks(material, options, Settings(), asked, NoProgress())
    judge = judged_by(by_its_honest_part)
    await measured(material, tmp_path, cases=1)
    assert len(judge.requests) <= sum(row.calls for row in planned) <= len(judge.requests) + 6, (
        "equal replies are asked once"
    )


async def test_nothing_to_attack_is_an_error(material: Material, tmp_path: Path, judged_by: Callable) -> None:
    judged_by(by_its_honest_part)
    silent = [reply.model_copy(update={"text": " "}) for reply in material.replies]
    with pytest.raises(InputError, match="no case with a reply to attack"):
        await measured(Material(material.dataset, silent, {}), tmp_path)


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
    assert "--attacks" in ended.stderr


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
    for part in ("How far each family of attacks", "fake_json", "harmless", "recital", finished.server.spec):
        assert part in ended.stdout
    before = {path.name: path.read_bytes() for path in out.glob("attacks.*") if path.is_file()}
    assert before.keys() == {"attacks.json", "attacks.md"}
    calls = len(finished.server.starts())
    again = here(*command, "--json")
    assert len(finished.server.starts()) == calls
    assert {path.name: path.read_bytes() for path in out.glob("attacks.*") if path.is_file()} == before
    result = AttackResult.model_validate_json(again.stdout)
    assert result.table.users == 1
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
