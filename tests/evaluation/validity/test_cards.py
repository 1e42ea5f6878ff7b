"""Judge cards as files: which one counts for a judge, and what is said where none does."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from peregrm.dimension_files import load_dimensions
from peregrm.errors import ArtifactError, SettingsError
from peregrm.evaluation.statistics import Estimate
from peregrm.evaluation.validity.card import Figure, Finding, JudgeCard, Way, card_verdict
from peregrm.evaluation.validity.cards import (
    card_folders,
    checked_places,
    find_cards,
    read_card,
    standing,
    standing_of,
)
from peregrm.evaluation.validity.ways import way_of
from peregrm.records import Reward
from peregrm.reward.factory import open_reward, reward_names
from peregrm.reward.guards import Guards
from peregrm.reward.options import RewardOptions

WAY = Way(criteria="model", bystander_weight=0.5)


def card_of(judge: str = "big@url", reward: str = "shared", way: Way = WAY) -> JudgeCard:
    finding = Finding(part="human", verdict="bad", words=("No.",))
    return JudgeCard(judge=judge, reward=reward, way=way, seed=0, findings=(finding,))


def written(path: Path, card: JudgeCard) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(card.model_dump_json())
    return path


def test_a_card_counts_for_its_judge_and_its_reward_alone(tmp_path: Path) -> None:
    card = card_of()
    folder = written(tmp_path / "a" / "card.json", card).parent
    assert find_cards("big@url", "shared", WAY, [folder]) == [(folder / "card.json", card)]
    assert find_cards("big@url", "paper", WAY, [folder]) == []
    assert find_cards("small@url", "shared", WAY, [folder]) == []
    assert find_cards("big@url", "shared", Way(samples=2), [folder]) == []
    assert find_cards("big@url", "shared", WAY, []) == []


def test_a_card_is_found_by_file_by_folder_and_in_folders_of_a_folder_the_first_first(tmp_path: Path) -> None:
    first = card_of().model_copy(update={"seed": 1})
    inner = written(tmp_path / "all" / "big" / "card.json", first)
    other = written(tmp_path / "other.json", card_of())
    (tmp_path / "all" / "attacks.json").write_text("{}")
    places: list[tuple[list[Path], list[JudgeCard]]] = [
        ([tmp_path / "all"], [first]),
        ([other, inner], [card_of(), first]),
        ([inner, other], [first, card_of()]),
    ]
    for folders, cards in places:
        assert [known.card for known in find_cards("big@url", "shared", WAY, folders)] == cards


def test_the_words_are_those_of_the_card_or_say_that_there_is_none(tmp_path: Path) -> None:
    folder = written(tmp_path / "card.json", card_of()).parent
    known = standing("big@url", "shared", WAY, [folder])
    assert card_verdict(card_of()) in known.words
    assert known.parts == (("human", "bad"),)
    none = standing("small@url", "shared", WAY, [folder])
    assert none.words.startswith("This judge has not been validated:")
    assert none.parts == ()
    other = standing("big@url", "paper", WAY, [folder])
    assert "Its card in mode shared does not count for mode paper." in other.words
    assert other.parts == ()


def test_a_small_embedded_model_is_never_left_without_its_warning(tmp_path: Path) -> None:
    assert standing("embedded:smollm2", "shared").words == (
        "The judge is a small embedded model: it is there to try the pipeline, and its scores carry no meaning. "
        "`peregrm validate` is the way to know what a judge is worth."
    )
    folder = written(tmp_path / "card.json", card_of("embedded:smollm2")).parent
    known = standing("embedded:smollm2", "shared", WAY, [folder])
    assert "carry no meaning" in known.words
    assert card_verdict(card_of()) in known.words


def test_the_standing_of_rewards_is_that_of_who_gave_them(tmp_path: Path) -> None:
    folder = written(tmp_path / "card.json", card_of()).parent
    common = {"case_id": "c", "policy": "p", "judge": "big@url", "coverage": 1.0, "judgement_ids": ()}
    numbers = {"scores": (), "empathy": 0.5, "bystander": 0.5, "total": 0.25}

    def reward(reply: str, method: str) -> Reward:
        return Reward.model_validate({**common, **numbers, "reply_id": reply, "method": method})

    given = [reward("a", "shared"), reward("b", "safe_guidance")]
    assert standing_of(given, WAY, [folder], otherwise="x").parts == (("human", "bad"),)
    assert standing_of([], WAY, [folder], otherwise="x").judge == "x"


def test_places_are_the_named_ones_or_the_default_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = card_folders(None)
    assert all(path.suffix == ".json" for path in shipped)
    (tmp_path / "peregrm-validation").mkdir()
    assert card_folders(None) == (Path("peregrm-validation"), *shipped)
    assert card_folders([]) == shipped
    (tmp_path / "mine").mkdir()
    assert card_folders(["mine"]) == (Path("mine"), *shipped)
    with pytest.raises(SettingsError, match="no such file or folder: gone"):
        card_folders(["mine", "gone"])


@pytest.mark.parametrize("content", [b"{}", b"no json", b"\xff\xfe", b'{"version": 1'])
def test_a_damaged_card_is_named_before_anything_is_asked(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"card\.json: no judge card"):
        checked_places([str(tmp_path)])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dimensions": "politeness"}, "dimensions politeness, not empathy"),
        ({"criteria": "composed"}, "criteria composed, not model"),
        ({"samples": 4, "temperature": 0.7}, "samples 4, not 1; temperature 0.7, not 0.0"),
        ({"guards": Guards(length_coefficient=0.5)}, "length_coefficient=0.5"),
    ],
)
def test_a_card_measured_another_way_does_not_count_and_that_is_said(
    change: dict[str, Any], says: str, tmp_path: Path
) -> None:
    written(tmp_path / "card.json", card_of(way=WAY.model_copy(update=change)))
    known = standing("big@url", "shared", WAY, [tmp_path])
    assert known.parts == ()
    assert "has not been validated in this way" in known.words
    assert says in known.words


def test_cards_that_contradict_each_other_are_named(tmp_path: Path) -> None:
    written(tmp_path / "a" / "card.json", card_of())
    other = Finding(part="human", verdict="good", words=("Yes.",))
    written(tmp_path / "b" / "card.json", card_of().model_copy(update={"findings": (other,)}))
    known = standing("big@url", "shared", WAY, [tmp_path])
    assert known.parts == (("human", "bad"),)
    assert f"CONFLICT: {tmp_path / 'b' / 'card.json'} says otherwise of human agreement." in known.words
    assert "CONFLICT" not in standing("big@url", "shared", WAY, [tmp_path / "a", tmp_path / "a"]).words


WHOLE = JudgeCard(
    judge="j",
    reward="shared",
    way=WAY,
    seed=0,
    findings=(
        Finding(
            part="human",
            verdict="good",
            words=("Yes.",),
            figures=(Figure(name="f", estimate=Estimate(mean=0.5, low=0.4, high=0.6, n=9, users=3, asked=9)),),
            asked=9,
            scored=9,
        ),
    ),
).model_dump(mode="json")


@pytest.mark.parametrize(
    "damage",
    [
        lambda card: card.update(version=99),
        lambda card: card.pop("way"),
        lambda card: card["findings"].append(card["findings"][0]),
        lambda card: card["findings"][0].update(asked=-5, scored=-5),
        lambda card: card["findings"][0].update(scored=10),
        lambda card: card["findings"][0]["figures"][0]["estimate"].update(mean=float("nan")),
        lambda card: card["findings"][0]["figures"][0]["estimate"].update(low=float("-inf")),
        lambda card: card["findings"][0]["figures"][0]["estimate"].update(low=0.99, high=0.01),
    ],
)
def test_a_card_that_no_measurement_writes_is_damaged(damage: Callable[[Any], object], tmp_path: Path) -> None:
    card = deepcopy(WHOLE)
    (tmp_path / "card.json").write_text(json.dumps(card))
    assert read_card(tmp_path / "card.json").judge == "j"
    damage(card)
    (tmp_path / "card.json").write_text(json.dumps(card))
    with pytest.raises(ArtifactError, match="no judge card"):
        read_card(tmp_path / "card.json")


def _names(dimensions: str) -> list[str]:
    return [one.name for one in load_dimensions(dimensions)]


def test_the_way_is_what_counts_for_a_reward() -> None:
    one = RewardOptions(criteria="composed", temperature=0.2)
    other = one.model_copy(update={"temperature": 0.9, "quorum": 1.0, "seed": 4, "guards": Guards(length_limit=9)})
    assert way_of(open_reward(one, ("x@http://127.0.0.1:1",))) == way_of(open_reward(other, ("x@http://127.0.0.1:1",)))
    assert way_of(open_reward(one, ("head",))) == Way()
    changes: list[dict[str, Any]] = [
        {"samples": 2},
        {"dimensions": "politeness"},
        {"bystander_weight": 0.0},
        {"reasons": "no"},
        {"guards": Guards(sycophancy_coefficient=0.1)},
    ]
    ways = [way_of(open_reward(one.model_copy(update=each), ("x@http://127.0.0.1:1",))) for each in [{}, *changes]]
    assert all(way not in ways[:place] for place, way in enumerate(ways))
    assert (ways[0].dimensions, ways[2].dimensions.rpartition(" ")[0]) == ("empathy", ", ".join(_names("politeness")))
    for name in reward_names():
        judge = "scalar:x" if name == "scalar" else "x@http://127.0.0.1:1"
        assert way_of(open_reward(one.model_copy(update={"reward": name}), (judge,))).samples == 1
