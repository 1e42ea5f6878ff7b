"""Judge cards as files: how one is read and found, and what it says beside a judge's scores.

A card counts for the judge, the reward and the way of asking that it names and for nothing else: the same model asked in another way is
another judge. Of several cards that count the first is used; where another says otherwise, that is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from peregrm.errors import SettingsError
from peregrm.evaluation.validity.card import PARTS, JudgeCard, PartName, Verdict, Way, card_verdict
from peregrm.models.heads import is_head
from peregrm.records import Part, Reward
from peregrm.reward.base import GUIDANCE
from peregrm.reward.heads.words import head_words
from peregrm.store import read_one

__all__ = [
    "CARD",
    "OWN_FOLDER",
    "Known",
    "Standing",
    "card_folders",
    "checked_places",
    "find_cards",
    "known_cards",
    "read_card",
    "standing",
    "standing_of",
]

CARD = "card.json"
"""The file of a card in the folder of a validation."""

OWN_FOLDER = Path("peregrm-validation")
"""Where cards are looked for when no place is named: the default folder of `peregrm validate`."""

_TOY = "The judge is a small embedded model: it is there to try the pipeline, and its scores carry no meaning."
_HOW = "`peregrm validate` is the way to know what a judge is worth."


class Known(NamedTuple):
    """A card and its file."""

    path: Path
    card: JudgeCard


class Standing(Part):
    """What is known of one judge's worth, as reports say it.

    `words` are for the reader; `parts` holds the verdict of every measured part, and is empty where there is no card.
    """

    judge: str
    reward: str
    words: str
    parts: tuple[tuple[PartName, Verdict], ...] = ()


def card_folders(named: Sequence[str] | None) -> tuple[Path, ...]:
    """Return where cards are looked for: the files and folders named, by default `peregrm-validation` where it exists; then those shipped.

    Raises `SettingsError` where a named one does not exist.
    """
    places = [Path(one).expanduser() for one in named] if named is not None else [OWN_FOLDER]
    missing = [str(place) for place in places if not place.exists()]
    if missing and named is not None:
        raise SettingsError(f"cards: no such file or folder: {', '.join(missing)}")
    return (*(place for place in places if place.exists()), *sorted(_shipped().glob("*.json")))


def _shipped() -> Path:
    return Path(str(resources.files(__package__))) / "cards"


def checked_places(named: Sequence[str] | None) -> tuple[Path, ...]:
    """Return `card_folders`, all of whose cards can be read: to be called before anything is asked, so that no run ends in a damaged card.

    Raises `SettingsError` where a named place does not exist, `ArtifactError` where a card is damaged.
    """
    places = card_folders(named)
    known_cards(places)
    return places


def find_cards(judge: str, reward: str, way: Way, folders: Sequence[Path]) -> list[Known]:
    """Return the cards that count for this judge, asked by this reward in this way, the first of which is used.

    Each of `folders` is a card's file, or a folder that holds `card.json` itself or in folders directly in it. Raises `ArtifactError` where
    a card is damaged.
    """
    sought = (judge, reward, way)
    return [known for known in known_cards(folders) if (known.card.judge, known.card.reward, known.card.way) == sought]


def known_cards(folders: Sequence[Path]) -> list[Known]:
    """Return all cards in these places, in their order; raises `ArtifactError` where one is damaged."""
    return [Known(path, read_card(path)) for place in folders for path in _files(place)]


def read_card(path: Path) -> JudgeCard:
    """Read one card; raises `ArtifactError` where the file is none."""
    return read_one(path, JudgeCard, what="no judge card")


def standing(judge: str, reward: str, way: Way | None = None, folders: Sequence[Path] = ()) -> Standing:
    """Return what the cards in `folders` say of a judge's worth, or that there is none; see `find_cards`."""
    way = way or Way()
    toy = judge == "embedded" or judge.startswith("embedded:")
    cards = find_cards(judge, reward, way, folders)
    if cards:
        card = cards[0].card
        before = f"{_TOY} " if toy else f"{_heads_words(judge)} " if is_head(judge) else ""
        parts = tuple((finding.part, finding.verdict) for finding in card.findings)
        words = f"{before}Judge card: {card_verdict(card)}.{''.join(_conflicts(cards))}"
        return Standing(judge=judge, reward=reward, words=words, parts=parts)
    others = [known.card for known in known_cards(folders) if known.card.judge == judge]
    besides = _besides(others, reward, way)
    if toy:
        return Standing(judge=judge, reward=reward, words=f"{_TOY}{besides} {_HOW}")
    if is_head(judge):
        return Standing(
            judge=judge, reward=reward, words=f"{_heads_words(judge)}{besides} It has no judge card. {_HOW}"
        )
    words = f"This judge has not been validated{' in this way' if others else ''}: how far its scores agree with people is not known."
    return Standing(judge=judge, reward=reward, words=f"{words}{besides} `peregrm validate` is the way to find out.")


def _conflicts(cards: Sequence[Known]) -> Iterable[str]:
    """Say of every further card where its verdicts are other than those of the first."""
    used = {finding.part: finding.verdict for finding in cards[0].card.findings}
    for path, card in cards[1:]:
        other = [one.part for one in card.findings if one.part in used and used[one.part] != one.verdict]
        if other:
            name = "the card that comes with the package" if path.parent == _shipped() else str(path)
            yield f" CONFLICT: {name} says otherwise of {', '.join(PARTS[part].lower() for part in other)}."


def _besides(others: Sequence[JudgeCard], reward: str, way: Way) -> str:
    """Say why cards of the same judge do not count."""
    modes = sorted({card.reward for card in others if card.reward != reward})
    said = [f" Its card in mode {', '.join(modes)} does not count for mode {reward}."] if modes else []
    ways = dict.fromkeys("; ".join(card.way.differences(way)) for card in others if card.reward == reward)
    return "".join([*said, *(f" Its card does not count here, it was measured another way: {one}." for one in ways)])


def _heads_words(judge: str) -> str:
    """Return what the files of heads say; a pool of judges is named with `+` between them."""
    return " ".join(head_words(one) for one in judge.split(" + ") if is_head(one))


def standing_of(rewards: Iterable[Reward], way: Way, folders: Sequence[Path], *, otherwise: str) -> Standing:
    """Return the standing of the judge that gave these rewards in this way; `otherwise` is its name where there are none.

    Those for flagged cases do not count: they are judged by safe guidance, whatever the reward.
    """
    given = [(reward.judge, reward.method) for reward in rewards if reward.method != GUIDANCE]
    judges, methods = ({pair[place] for pair in given} for place in (0, 1))
    return standing(" + ".join(sorted(judges)) or otherwise, " + ".join(sorted(methods)), way, folders)


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    return [path for path in (place / CARD, *sorted(place.glob(f"*/{CARD}"))) if path.is_file()]
