"""What a head is trained on: moments with replies of which some are known to be better than others.

Two kinds of files. *Gold* is `gold.jsonl` with `memories.jsonl` beside it, whose ranks order all replies to a case; where the users'
histories lie beside it too, their sentences are remembered as seen. *Pairs* is JSON Lines, also gzipped, of {id, context, a, b, better,
gap, user} and, if there, `memories`, `situation`, `language`, `dimension` and `meta`, which may name who wrote the replies
(`better_source`, `worse_source`); `context` is a text or messages, `user` an id or what is known. Pairs without a user's id are grouped by
their context and by what is known, so that neither is in two folds. A folder is all gold files in it, or, without any, all its pairs
files. What is not English, by its label or its script, is left out and counted. Who ordered the pairs of a file is not known from it:
`by_people` says that people did. Left out on purpose: ties, and hostile replies to pairs.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from peregrm.dataset.gold import Gold, GoldCase, read_gold
from peregrm.dimensions import EMPATHY
from peregrm.errors import InputError
from peregrm.evaluation.validity.ratings.preferences import sources_of
from peregrm.reward.base import says_something
from peregrm.reward.heads.features import MOST_CHARACTERS, MOST_FOREIGN, Known, Moment, foreign_share
from peregrm.reward.heads.head import TOTAL, content_keys, key_of
from peregrm.store import summarise_validation
from peregrm.training.hostile import Hostile, hostile_replies

__all__ = [
    "GOLD",
    "HUMAN_PAIRS",
    "LEAST_PAIRS",
    "PAIRS",
    "Group",
    "Material",
    "Pair",
    "Source",
    "read_material",
    "trained_on",
]

GOLD = "gold.jsonl"
LANGUAGE = "en"
PAIRS = "pairs"
HUMAN_PAIRS = "human pairs"
"""What the pairs of a file are counted under, the latter where people ordered them."""

LEAST_PAIRS = 50
"""Fewer pairs train no output of a head."""

_MOST_OF_A_NAME = 60


class Pair(NamedTuple):
    """Which of two replies of a group is better, by their places; `name` is what the pair is counted under.

    `sources` are who wrote the two, as far as the file says.
    """

    better: int
    worse: int
    name: str
    output: str = TOTAL
    gap: float | None = None
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """One moment with its replies and what is known of their order.

    `user` is who must not be in two folds. `best` is the reply written for this person, whose place under another's persona is worse;
    None where none was. `keys` are the hashes by which a head knows that it saw this moment. `hostile` are replies that are worse.
    """

    source: int
    user: str
    moment: Moment
    replies: tuple[str, ...]
    pairs: tuple[Pair, ...]
    best: int | None = None
    keys: tuple[str, ...] = ()
    hostile: tuple[Hostile, ...] = ()


@dataclass(frozen=True)
class Source:
    """A file that was read."""

    name: str
    sha256: str


@dataclass
class Material:
    """Everything that was read, and what was left out, by reason."""

    groups: list[Group] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)

    def leave_out(self, reason: str, count: int = 1) -> None:
        """Count what is not trained on."""
        self.left_out[reason] = self.left_out.get(reason, 0) + count


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore")
    role: str
    content: str


class _Row(BaseModel):
    model_config = ConfigDict(extra="allow")
    id: str
    context: str | list[_Message] = Field(min_length=1)
    a: str
    b: str
    better: Literal["a", "b"] | None
    gap: float | None = None
    user: str | dict[str, Any] | None = None
    memories: list[str] = []
    situation: str = ""
    language: str = LANGUAGE
    dimension: str | None = None


def read_material(paths: Sequence[Path], *, by_people: bool = False) -> Material:
    """Read files and folders of pairs and gold, in the order given, files of a folder by name; `by_people` says who ordered the pairs.

    Raises `InputError` where a file cannot be read or holds something else, or nothing is left to train on.
    """
    material = Material()
    for folder, path in ((given, file) for given in paths for file in _files(given)):
        name = path.relative_to(folder).as_posix() if folder.is_dir() else path.name
        material.sources.append(Source(name, hashlib.sha256(_bytes(path)).hexdigest()))
        if path.name == GOLD:
            _read_gold(path, material)
        else:
            _read_pairs(path, material, HUMAN_PAIRS if by_people else PAIRS)
    if not any(group.pairs for group in material.groups):
        raise InputError(f"{', '.join(map(str, paths))}: there are no pairs to train on")
    return material


def trained_on(material: Material) -> tuple[list[Group], list[str]]:
    """Return the groups with pairs to train on, and the outputs of the head: each dimension where there are pairs enough, else a total.

    Raises `InputError` for a dimension that is none, and where no output has pairs enough.
    """
    counts = Counter(pair.output for group in material.groups for pair in group.pairs)
    names = [dimension.name for dimension in EMPATHY]
    unknown = sorted(set(counts) - {TOTAL, *names})
    if unknown:
        raise InputError(f"pairs of the dimension {unknown[0]!r}: there are {', '.join(names)}")
    outputs = names if all(counts[name] >= LEAST_PAIRS for name in names) else [TOTAL]
    unused = sum(number for output, number in counts.items() if output not in outputs)
    if unused:
        material.leave_out("pairs of other dimensions than the head's outputs", unused)
    if not sum(counts[output] for output in outputs):
        raise InputError(f"there are too few pairs of each dimension (at least {LEAST_PAIRS}) and none without one")
    groups = [group for group in material.groups if any(pair.output in outputs for pair in group.pairs)]
    return groups, outputs


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    gold = sorted(path.rglob(GOLD), key=lambda file: file.relative_to(path).parts)
    return gold or sorted([*path.glob("*.jsonl"), *path.glob("*.jsonl.gz")])


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None


def _read_gold(path: Path, material: Material) -> None:
    gold = read_gold(path)
    said = _said_by_user(path.parent / "histories")
    for case in gold.cases:
        if case.language != LANGUAGE:
            material.leave_out(f"cases in another language than {LANGUAGE}")
            continue
        material.groups.append(_gold_group(case, gold, said.get(case.user_id, ()), len(material.sources) - 1))


def _gold_group(case: GoldCase, gold: Gold, said: Sequence[str], source: int) -> Group:
    memories = [m for m in gold.memories.values() if m.user_id == case.user_id and m.status == "kept"]
    ranked = sorted(case.replies, key=lambda reply: (reply.rank, reply.policy))
    pairs = [
        Pair(a, b, f"{_short(ranked[a].policy)} over {_short(ranked[b].policy)}")
        for a, b in combinations(range(len(ranked)), 2)
        if ranked[a].rank < ranked[b].rank
    ]
    texts = [*said, *(m.value for m in memories), *(e.quote for m in memories for e in m.evidence)]
    return Group(
        source=source,
        user=case.user_id,
        moment=Moment(case.query, case.situation, tuple(Known(m.label, m.value) for m in memories)),
        replies=tuple(reply.text for reply in ranked),
        pairs=tuple(pairs),
        best=0 if ranked and ranked[0].policy.endswith("personalized") else None,
        keys=(key_of("user", case.user_id), key_of("text", case.query), *content_keys(texts)),
        hostile=hostile_replies(case, memories, [reply.text for reply in ranked]),
    )


def _short(policy: str) -> str:
    return policy.removeprefix("gold ")


def _said_by_user(folder: Path) -> dict[str, list[str]]:
    """Return what every user said in the histories of a folder; nothing where it is not there."""
    if not folder.is_dir():
        return {}
    from peregrm.histories import read_histories

    return {
        history.user_id: [turn.text for session in history.sessions for turn in session.turns if turn.role == "user"]
        for history in read_histories(folder)
    }


def _read_pairs(path: Path, material: Material, name: str) -> None:
    source = len(material.sources) - 1
    kept: list[tuple[_Row, Moment, str]] = []
    for row in _rows(path):
        moment = _moment(row)
        texts = (moment.query, row.a, row.b)
        if row.language != LANGUAGE or max(map(foreign_share, texts)) > MOST_FOREIGN:
            material.leave_out(f"pairs in another language than {LANGUAGE}")
        elif row.better is None:
            material.leave_out("pairs without a better one")
        elif not (says_something(row.a) and says_something(row.b)):
            material.leave_out("pairs with an empty reply")
        elif max(map(len, (*texts, moment.situation, *(known.text for known in moment.known)))) > MOST_CHARACTERS:
            material.leave_out(f"pairs with a text of more than {MOST_CHARACTERS} characters")
        else:
            kept.append((row, moment, row.better))
    groups: dict[tuple[str, Moment], list[tuple[_Row, str]]] = {}
    for user, (row, moment, better) in zip(_users([one[:2] for one in kept]), kept, strict=True):
        groups.setdefault((user, moment), []).append((row, better))
    material.groups += [_pairs_group(user, moment, rows, source, name) for (user, moment), rows in groups.items()]


def _users(rows: Sequence[tuple[_Row, Moment]]) -> list[str]:
    """Return who must not be in two folds, row by row: the user's id, else one name for all rows that share a context or what is known."""
    first: dict[str, str] = {}

    def root(key: str) -> str:
        while first.setdefault(key, key) != key:
            first[key] = first[first[key]]
            key = first[key]
        return key

    joined = []
    for row, moment in rows:
        persona = str(row.user.get("persona") or "") if isinstance(row.user, dict) else ""
        known = [key_of("text", text) for text in (persona, " ".join(row.memories)) if text.strip()]
        own = key_of("text", moment.query)
        for key in [] if isinstance(row.user, str) else known:
            first[root(f"known {key}")] = root(own)
        joined.append(own)
    return [row.user if isinstance(row.user, str) else root(own) for (row, _), own in zip(rows, joined, strict=True)]


def _moment(row: _Row) -> Moment:
    messages = [row.context] if isinstance(row.context, str) else [m.content for m in row.context if m.role == "user"]
    known = row.user if isinstance(row.user, dict) else {}
    situation = row.situation or str(known.get("situation") or "") or " ".join(messages[:-1])
    persona = [line for line in str(known.get("persona") or "").splitlines() if line.strip()]
    return Moment(
        messages[-1] if messages else "", situation, tuple(Known("", text) for text in (*persona, *row.memories))
    )


def _pairs_group(user: str, moment: Moment, rows: Sequence[tuple[_Row, str]], source: int, name: str) -> Group:
    replies = list(dict.fromkeys(text for row, _ in rows for text in (row.a, row.b)))
    pairs = []
    for row, better in rows:
        good, bad = (row.a, row.b) if better == "a" else (row.b, row.a)
        places = replies.index(good), replies.index(bad)
        pairs.append(Pair(*places, name, row.dimension or TOTAL, row.gap, _writers(row, better)))
    known = [key_of("user", row.user) for row, _ in rows if isinstance(row.user, str)]
    texts = [moment.query, *(known_.text for known_ in moment.known)]
    return Group(
        source=source,
        user=user,
        moment=moment,
        replies=tuple(replies),
        pairs=tuple(pairs),
        keys=(*dict.fromkeys(known), key_of("text", moment.query), *content_keys(texts)),
    )


def _writers(row: _Row, better: str) -> tuple[str, ...]:
    given = [source or "" for source in sources_of(row.model_extra or {}, better)]
    return tuple(filter(None, ("".join(filter(str.isprintable, source)).strip()[:_MOST_OF_A_NAME] for source in given)))


def _rows(path: Path) -> Iterator[_Row]:
    data = _bytes(path)
    try:
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"{path}: {error}") from None
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
            json.dumps(document, ensure_ascii=False).encode("utf-8")
            yield _Row.model_validate(document)
        except ValidationError as error:
            raise InputError(f"{path}:{number}: no pair: {summarise_validation(error)}") from None
        except UnicodeEncodeError:
            raise InputError(f"{path}:{number}: no text: it holds half a character") from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}:{number}: no JSON: {error}") from None
