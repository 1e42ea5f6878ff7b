"""Judge cards as files: which one counts for a judge, and what is said where none does."""

from __future__ import annotations

from pathlib import Path

import pytest

from peregrm.errors import ArtifactError, SettingsError
from peregrm.evaluation.validity.card import Finding, JudgeCard, card_verdict
from peregrm.evaluation.validity.cards import card_folders, checked_places, find_card, standing, standing_of
from peregrm.records import Reward


def card_of(judge: str = "big@url", reward: str = "shared") -> JudgeCard:
    finding = Finding(part="human", verdict="bad", words=("No.",))
    return JudgeCard(judge=judge, reward=reward, criteria="model", seed=0, findings=(finding,))


def written(path: Path, card: JudgeCard) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(card.model_dump_json())
    return path


def test_a_card_counts_for_its_judge_and_its_reward_alone(tmp_path: Path) -> None:
    card = card_of()
    folder = written(tmp_path / "a" / "card.json", card).parent
    assert find_card("big@url", "shared", [folder]) == card
    assert find_card("big@url", "paper", [folder]) is None
    assert find_card("small@url", "shared", [folder]) is None
    assert find_card("big@url", "shared", []) is None


def test_a_card_is_found_by_file_by_folder_and_in_folders_of_a_folder_the_first_first(tmp_path: Path) -> None:
    first = card_of().model_copy(update={"seed": 1})
    inner = written(tmp_path / "all" / "big" / "card.json", first)
    other = written(tmp_path / "other.json", card_of())
    (tmp_path / "all" / "attacks.json").write_text("{}")
    assert find_card("big@url", "shared", [tmp_path / "all"]) == first
    assert find_card("big@url", "shared", [other, inner]) == card_of()
    assert find_card("big@url", "shared", [inner, other]) == first


def test_the_words_are_those_of_the_card_or_say_that_there_is_none(tmp_path: Path) -> None:
    folder = written(tmp_path / "card.json", card_of()).parent
    known = standing("big@url", "shared", [folder])
    assert card_verdict(card_of()) in known.words
    assert known.parts == (("human", "bad"),)
    none = standing("small@url", "shared", [folder])
    assert none.words.startswith("This judge has not been validated:")
    assert none.parts == ()
    other = standing("big@url", "paper", [folder])
    assert "Its card in mode shared does not count for mode paper." in other.words
    assert other.parts == ()


def test_a_small_embedded_model_is_never_left_without_its_warning(tmp_path: Path) -> None:
    assert standing("embedded:smollm2", "shared").words == (
        "The judge is a small embedded model: it is there to try the pipeline, and its scores carry no meaning. "
        "`peregrm validate` is the way to know what a judge is worth."
    )
    folder = written(tmp_path / "card.json", card_of("embedded:smollm2")).parent
    known = standing("embedded:smollm2", "shared", [folder])
    assert "carry no meaning" in known.words
    assert card_verdict(card_of()) in known.words


def test_the_standing_of_rewards_is_that_of_who_gave_them(tmp_path: Path) -> None:
    folder = written(tmp_path / "card.json", card_of()).parent
    common = {"case_id": "c", "policy": "p", "judge": "big@url", "coverage": 1.0, "judgement_ids": ()}
    numbers = {"scores": (), "empathy": 0.5, "bystander": 0.5, "total": 0.25}

    def reward(reply: str, method: str) -> Reward:
        return Reward.model_validate({**common, **numbers, "reply_id": reply, "method": method})

    given = [reward("a", "shared"), reward("b", "safe_guidance")]
    assert standing_of(given, [folder], otherwise="x").parts == (("human", "bad"),)
    assert standing_of([], [folder], otherwise="x").judge == "x"


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
