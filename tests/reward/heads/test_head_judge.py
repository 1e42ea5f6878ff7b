"""A trained head as a judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from head_parts import STYLES, WordEmbedder, trained_file
from peregrm.errors import ArtifactError, InputError, SettingsError
from peregrm.evaluation.validity.cards import standing
from peregrm.models.heads import SHIPPED_HEAD, HeadModel, head_name, head_path, is_head
from peregrm.models.planning import PlanningModel
from peregrm.models.scripted import ScriptedModel
from peregrm.records import Case, Criteria, Failure, Memory, Reply
from peregrm.reward.factory import open_reward
from peregrm.reward.heads import judge
from peregrm.reward.heads.head import Head, Measured, load_head
from peregrm.reward.heads.words import card_words
from peregrm.reward.options import RewardOptions
from peregrm.reward.pool import Pool
from peregrm.training.hostile import EMPTY_SEEN, EMPTY_UNSEEN


@pytest.fixture(scope="module")
def head_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_file(tmp_path_factory.mktemp("head"))


@pytest.fixture
def spec(head_file: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(judge, "Embedder", WordEmbedder)
    judge._opened.cache_clear()
    return f"head:{head_file}"


def person(case: Case, *wishes: str, **changes: Any) -> Case:
    memories = tuple(
        Memory(user_id=case.user_id, label="Preferences/Interaction_Preferences", type="direct", value=w, method="test")
        for w in wishes
    )
    update = {"memories": memories, "relevant_memory_ids": (), "language": "en", "flags": None, **changes}
    return Case.model_validate({**case.model_dump(exclude={"id", *update}), **dict(update.items())})


async def totals(spec: str, case: Case, *texts: str, **options: Any) -> list[float | None]:
    reward = open_reward(RewardOptions(judges=(spec,), **options))
    scored = await reward.score(case, list(texts))
    await reward.aclose()
    return [one.total for one in scored]


async def test_it_follows_the_person_and_repeats_itself(spec: str, case: Case) -> None:
    joke, warm = STYLES["jokes"][1], STYLES["warmth"][1]
    joker = person(case, STYLES["jokes"][0], "Cannot stand warmth")
    tender = person(case, STYLES["warmth"][0], "Cannot stand jokes")
    for one, better, worse in ((joker, joke, warm), (tender, warm, joke)):
        good, bad, empty = await totals(spec, one, better, worse, " ")
        assert good is not None
        assert bad is not None
        assert good > bad > 0 == empty
        assert await totals(spec, one, better) == [good]


@pytest.mark.parametrize("mode", ["shared", "paper", "listwise"])
async def test_it_judges_in_one_way_whatever_the_mode(mode: str, spec: str, case: Case) -> None:
    reward = open_reward(RewardOptions(judges=(spec,), reward=mode, samples=3))
    (scored,) = await reward.score(person(case, "Likes jokes"), [STYLES["jokes"][1]])
    assert (reward.method, scored.reward.method, scored.empathy, scored.bystander) == ("head", "head", None, None)
    (judgement,) = scored.judgements
    assert judgement.usage.calls == 0
    assert judgement.criteria_id is None
    assert dict(judgement.values or ())["total"] == scored.total
    assert "whole training set" in judgement.analysis[0][1]


@pytest.mark.parametrize(
    ("changes", "text", "kind"),
    [
        ({"language": "zh"}, "Hello there.", "language"),
        ({}, "你先睡，明天再说吧，别想太多了。", "language"),
        ({}, "🙂", "no_words"),
        ({}, "so " * 10_000, "too_long"),
        ({}, "half \ud83d a character", "not_text"),
        ({}, "Мне очень жаль, что так вышло, ok.", "language"),
        ({}, "정말 힘드시겠어요 ok", "language"),
        ({"query": "我爸爸星期一去世了，我睡不着"}, "Hello there.", "language"),
        ({"situation": "so " * 10_000}, "Hello there.", "too_long"),
        ({"flags": ("self_harm",)}, "Hello there.", "flagged"),
    ],
)
async def test_what_it_cannot_judge_is_a_failure(
    changes: dict[str, Any], text: str, kind: str, spec: str, case: Case
) -> None:
    one = person(case, "Likes jokes", **changes)
    reward = open_reward(RewardOptions(judges=(spec,)))
    reply = Reply.model_construct(id="rep-1", case_id=one.id, policy="p", text=text, failure=None)
    (judgements,) = await reward.judge_group(one, None, [reply])  # type: ignore[attr-defined]
    assert [j.failure.kind for j in judgements] == [kind]
    assert judgements[0].values is None


async def test_a_reply_that_failed_has_no_judgement(spec: str, case: Case) -> None:
    one = person(case, "Likes jokes")
    gone = Reply(case_id=one.id, policy="p", text="", failure=Failure(stage="reply", kind="timeout", reason="late"))
    reward = open_reward(RewardOptions(judges=(spec,)))
    (scored,) = await reward.score(one, [gone])
    assert scored.total is None
    assert scored.judgements == ()
    assert scored.failure is not None
    assert scored.failure.kind == "timeout"


async def test_a_user_it_was_trained_on_is_judged_by_the_fold_that_did_not_see_them(spec: str, case: Case) -> None:
    head = load_head(spec, WordEmbedder.fingerprint)
    by_id = person(case, "Likes jokes", user_id="user3")
    by_words = person(case, "Likes jokes", query="What do I do with day 1 of  user3 then")
    folds = {head.fold_for(by_id), head.fold_for(by_words)}
    assert len(folds) == 1
    assert None not in folds
    assert head.fold_for(person(case, "Likes jokes")) is None
    reward = open_reward(RewardOptions(judges=(spec,)))
    (scored,) = await reward.score(by_words, ["Some plain reply."])
    assert f"fold {folds.pop() + 1} of" in scored.judgements[0].analysis[0][1]  # type: ignore[operator]


async def test_judgements_of_others_are_refused_and_criteria_do_not_count(spec: str, case: Case) -> None:
    one = person(case, "Likes jokes")
    reward: Any = open_reward(RewardOptions(judges=(spec,)))
    reply = Reply(case_id=one.id, policy="p", text="Ha.")
    (judgements,) = await reward.judge_group(one, None, [reply])
    failed = Criteria(case_id=one.id, method="model", failure=Failure(stage="criteria", kind="x", reason="y"))
    assert reward.reward(one, failed, reply, judgements).total is not None
    with pytest.raises(ArtifactError, match="another reply or judge"):
        reward.reward(one, None, reply, [judgements[0].model_copy(update={"judge": "other"})])
    with pytest.raises(ArtifactError, match="doubled"):
        reward.reward(one, None, reply, judgements * 2)


@pytest.mark.parametrize(
    "options", [{"reward": "perm"}, {"reward": "no-criteria"}, {"criteria": "model"}, {"dimensions": "politeness"}]
)
def test_what_a_head_is_not_is_refused(options: dict[str, Any], spec: str) -> None:
    with pytest.raises(SettingsError):
        open_reward(RewardOptions(judges=(spec,), **options))


async def test_it_pools_with_a_model_and_a_plan_asks_it_nothing(spec: str, case: Case) -> None:
    planning, planned = PlanningModel("model"), PlanningModel(head_name(spec))
    pool = open_reward(RewardOptions(), (planning, HeadModel(spec)))
    assert isinstance(pool, Pool)
    (scored,) = await pool.score(person(case, "Likes jokes"), ["Ha."])
    assert [part.reward.method for part in scored.parts] == ["shared", "head"]
    (unscored,) = await open_reward(RewardOptions(), (planned,)).score(person(case, "Likes jokes"), ["Ha."])
    assert unscored.total is None
    assert not planned.planned


async def test_something_known_beyond_all_bounds_is_a_failure_and_a_foreign_word_is_none(spec: str, case: Case) -> None:
    assert await totals(spec, person(case, "no warm " * 3000), "Hello there.") == [None]
    (total,) = await totals(spec, person(case, "Likes jokes"), "Ha, what a mess. My бабушка would have laughed at it.")
    assert total is not None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"features": "0-x"}, "train it again"),
        ({"version": 1}, "a head of format 1, and this version reads format 2: train it again"),
        ({"embedding": "other"}, "another embedding model"),
        ({"outputs": {}}, "the outputs are total, or"),
        ({"outputs": "whatever"}, "the outputs are total, or"),
        ({"outputs": "total resonation"}, "the outputs are total, or"),
        ({"near": 1e308}, "no head"),
        ({"format": "pickle"}, "no head"),
    ],
)
def test_files_that_do_not_fit_are_refused(change: dict[str, Any], says: str, head_file: Path, tmp_path: Path) -> None:
    whole = json.loads(head_file.read_text())
    weights = whole["outputs"]["total"]
    if isinstance(change.get("outputs"), str):
        change = {"outputs": dict.fromkeys(change["outputs"].split(), weights)}
    if "near" in change:
        change = {"outputs": {"total": [{**one, "near": [change["near"]] * len(one["near"])} for one in weights]}}
    path = tmp_path / "bad.json"
    path.write_text(json.dumps({**whole, **change}))
    with pytest.raises(InputError, match=says):
        load_head(f"head:{path}", WordEmbedder.fingerprint)


@pytest.mark.parametrize("text", ["no JSON", "[" * 100_000, "[1]"])
def test_what_is_no_head_is_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "text.json"
    path.write_text(text)
    with pytest.raises(InputError, match="no head"):
        load_head(f"head:{path}", WordEmbedder.fingerprint)
    assert "is damaged" in standing(head_name(f"head:{path}"), "head").words


@pytest.mark.parametrize(
    "spec", ["head:/nowhere/head.json", "head:~nobody-of-this-name/head.json", "head:a\0b", "head:/tmp"]
)
def test_a_file_that_is_not_there_is_named(spec: str) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        HeadModel(spec)


async def test_weights_are_those_of_the_name_or_none(head_file: Path, spec: str, case: Case, tmp_path: Path) -> None:
    """A file that is exchanged or gone after it was named must not be judged with under the old name."""
    path = tmp_path / "head.json"
    path.write_bytes(head_file.read_bytes())
    model = HeadModel(f"head:{path}")
    path.write_text(path.read_text() + " ")
    reward = open_reward(RewardOptions(), (model,))
    with pytest.raises(InputError, match="has changed since it was named"):
        await reward.score(person(case, "Likes jokes"), ["Ha."])
    path.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        await reward.score(person(case, "Likes jokes"), ["Ha."])


def test_an_at_sign_is_part_of_a_path(head_file: Path, tmp_path: Path) -> None:
    for name in ("v1@x/h.json", "my@headjson", "h.json@12345678"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(head_file.read_bytes())
        assert head_path(f"head:{path}") == path == head_path(head_name(f"head:{path}"))
        assert load_head(head_name(f"head:{path}"), WordEmbedder.fingerprint)


async def test_three_dimensions_where_there_are_weights_for_each(
    spec: str, head_file: Path, case: Case, tmp_path: Path
) -> None:
    head = json.loads(head_file.read_text())
    (weights,) = head["outputs"].values()
    head["outputs"] = dict.fromkeys(("resonation", "expression", "reception"), weights)
    Head.model_validate(head)
    path = tmp_path / "three.json"
    path.write_text(json.dumps(head))
    reward = open_reward(RewardOptions(judges=(f"head:{path}",)))
    good, empty = await reward.score(person(case, "Likes jokes"), [STYLES["jokes"][1], " "])
    assert good.empathy == good.total
    assert good.resonation == good.reception is not None
    assert empty.total == pytest.approx(0.2)


def test_what_is_said_is_measured_on_users_nobody_read(head_file: Path) -> None:
    card = Head.model_validate(json.loads(head_file.read_text())).card
    figure = Measured(name="personalized over generic", mean=0.9, low=0.8, high=0.95, n=40, users=10)
    apart = [figure.model_copy(update={"of": of, "users": users}) for of, users in (("read", 4), ("others", 6))]
    said = card_words(card.model_copy(update={"measured": (figure, *apart)}))
    assert "On 6 users it had not seen, and from whose texts its word lists were not written, it prefers" in said
    assert "but from whose texts" in card_words(card.model_copy(update={"measured": (figure, apart[0])}))
    assert "not measured" in card_words(card.model_copy(update={"measured": ()}))
    rated = figure.model_copy(update={"name": "human pairs"})
    assert "agrees with people in 0.90" in card_words(card.model_copy(update={"measured": (rated,)}))
    shorter = figure.model_copy(update={"name": "the better one is shorter", "mean": 0.21})
    said = card_words(card.model_copy(update={"measured": (rated, shorter)}))
    assert "Where the better reply is the shorter one it finds it in 0.21 [0.80, 0.95] of 40." in said
    unknown = card_words(card.model_copy(update={"measured": (figure.model_copy(update={"name": "pairs"}),)}))
    assert "agrees with people in" not in unknown
    assert "Who ordered the pairs is not stated" in unknown


def test_a_licence_is_plain_text(head_file: Path) -> None:
    card = Head.model_validate(json.loads(head_file.read_text())).card
    odd = card.datasets[0].model_copy(update={"licence": "<b>x</b> \x1b[31m\n# Heading | CC0-1.0"})
    assert not set("<>\x1b\n#|[") & set(
        card_words(card.model_copy(update={"datasets": (odd,)})).split("), language")[0]
    )


def test_the_shipped_card_holds_what_is_promised() -> None:
    """On the users whose texts nobody read for the word lists; the figures themselves are printed wherever the head judges."""
    card = Head.model_validate(json.loads(SHIPPED_HEAD.read_text())).card
    of_others = {one.name: one for one in card.measured if one.of == "others"}
    for name in ("personalized over generic", "personalized over mismatched", "persona swap noticed"):
        assert of_others[name].mean >= 0.75, name  # type: ignore[operator]
    for name in (EMPTY_SEEN, EMPTY_UNSEEN):
        assert of_others[name].mean >= 0.9, name  # type: ignore[operator]
    assert of_others["personalized over generic"].users == card.users - 10


async def test_names_and_what_is_said_beside_scores(spec: str, head_file: Path) -> None:
    name = head_name(spec)
    assert is_head("head")
    assert is_head(name)
    assert not is_head("header")
    assert not is_head("head@http://localhost/v1")
    assert head_path(name) == head_file
    assert head_path("head") == SHIPPED_HEAD == head_path(head_name("head"))
    assert "12 users (CC0-1.0)" in standing(name, "head").words
    assert "has changed" in standing(name[:-1] + ("0" if name[-1] != "0" else "1"), "head").words
    assert "not there" in standing("head:/nowhere@12345678", "head").words
    with pytest.raises(SettingsError, match="cannot be asked"):
        await HeadModel(spec).complete(ScriptedModel.__new__(ScriptedModel) and _request())


def _request() -> Any:
    from peregrm.models.base import Message, Request

    return Request(messages=(Message(role="user", content="x"),), max_tokens=1)
