"""Training of heads: pairs are read, fits recover what was planted, folds are kept apart, files repeat byte for byte."""

from __future__ import annotations

import gzip
import json
import random
from math import log
from pathlib import Path

import numpy as np
import pytest

from head_parts import STYLES, WordEmbedder, gold_folder
from peregrm.errors import InputError
from peregrm.models.heads import SHIPPED_HEAD
from peregrm.reward.heads.features import NEAR_NAMES, Features
from peregrm.reward.heads.head import TOTAL, Head, key_of
from peregrm.reward.heads.tones import tone_names
from peregrm.training.fitting import Contest, fit_weights, log_loss, table_of
from peregrm.training.head_measures import ALL, EACH_SOURCE, LONGER_WINS, SHORTER, SWAP, UNSEEN_SOURCE
from peregrm.training.hostile import EMPTY_SEEN, EMPTY_UNSEEN
from peregrm.training.judge_head import check_place, train_head, write_head
from peregrm.training.pairs import HUMAN_PAIRS, PAIRS, Material, read_material

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def of_gold(tmp_path_factory: pytest.TempPathFactory) -> tuple[Material, Head]:
    material = read_material([gold_folder(tmp_path_factory.mktemp("gold"))])
    return material, train_head(material, WordEmbedder(), "CC0-1.0")  # type: ignore[arg-type]


def reply(chance: np.random.Generator) -> Features:
    tones = len(tone_names())
    return Features(
        chance.normal(size=len(NEAR_NAMES)),
        chance.random(tones),
        np.zeros(tones),
        chance.normal(size=384) / 20,
        np.array(chance.normal()),
    )


def rows_of(path: Path, **changes: object) -> Path:
    rows = [
        {
            "id": f"r{n}",
            "context": [{"role": "user", "content": f"my week number {n} is hard, it truly is"}],
            "a": f"Ha, what a week. You menace {n}.",
            "b": f"I am so sorry, dear {n}. It is hard. Do rest a while, and then some more.",
            "better": "ab"[n % 2],
            "gap": 2.0,
            "user": {"situation": "a week"},
            **changes,
        }
        for n in range(12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_fit_recovers_planted_weights_and_length_stays_out() -> None:
    """Better is what is high in one feature, and longer: the feature is found, and the score does not know the length."""
    chance = np.random.default_rng(1)
    replies = [reply(chance) for _ in range(400)]
    table = table_of(replies)
    contests = []
    for a, b in zip(range(0, 400, 2), range(1, 400, 2), strict=True):
        margin = 3 * (replies[a].near[0] - replies[b].near[0]) + 2 * (replies[a].log_words - replies[b].log_words)
        contests.append(Contest(a, b) if margin + chance.logistic() > 0 else Contest(b, a))
    weights = fit_weights(table, contests, range(400), [0.03])[0.03]
    near = np.abs(weights.near)
    assert near.argmax() == 0
    assert weights.near[0] > 3 * np.sort(near)[-2]
    assert log_loss(weights, table, contests) < np.log(2)
    longer = replies[0]._replace(log_words=replies[0].log_words + 5)
    assert weights.score(longer) == weights.score(replies[0])
    assert float(np.mean(weights.score(table))) == pytest.approx(0, abs=1e-4)


def test_chance_is_what_it_finds_where_nothing_is_planted(tmp_path: Path) -> None:
    material = read_material([rows_of(tmp_path / "rows.jsonl")])
    head = train_head(material, WordEmbedder(), "none")  # type: ignore[arg-type]
    measured = head.measured(ALL)
    assert measured is not None
    assert measured.mean is not None
    assert measured.mean <= 0.75
    assert head.card.users == 12


def test_short_replies_of_people_are_not_ordered_by_their_length(tmp_path: Path) -> None:
    """People prefer warmth a little and length a lot: where the warm reply is the shorter one, warmth is still found."""
    dice = random.Random(2)
    rows = []
    for n in range(160):
        warm, plain = dice.sample(range(10, 26), 2)
        a, b = (" ".join(dice.sample([f"word{k}" for k in range(60)], length - 5)) for length in (warm, plain))
        better = 0.5 + 4 * (log(warm) - log(plain)) + dice.gauss(0, 1) > 0
        texts = {"a": f"I am so sorry, dear. {a}.", "b": f"It is a plain day. {b}."}
        rows.append({"id": str(n), "context": f"question {n}", "better": "a" if better else "b", **texts})
    path = tmp_path / "short.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    head = train_head(read_material([path], by_people=True), WordEmbedder(), "none")  # type: ignore[arg-type]
    figures = {one.name: one.mean for one in head.card.measured}
    assert figures[LONGER_WINS] > 0.75  # type: ignore[operator]
    assert figures[SHORTER] > 0.6  # type: ignore[operator]
    assert {weights.near[NEAR_NAMES.index("brevity")] for weights in head.outputs[TOTAL]} == {0.0}


WARM, PLAIN = STYLES["warmth"][1], "It is a plain day. There is a way here. Somebody said it."
MARKED = "I am so sorry, dear. Zebra zebra so hard. Zebra love and hugs."


def pairs_of_sources(path: Path, users: int, *pairs: tuple[str, ...]) -> Path:
    """Pairs of every user; the first text of each is the better one, and the names are those of the sources, where there are any."""
    rows = []
    for n in range(users):
        for k, (good, bad, *sources) in enumerate(pairs):
            meta = dict(zip(("better_source", "worse_source"), sources, strict=False))
            rows.append({"id": f"{n} {k}", "context": f"it is {n}", "a": good, "b": bad, "better": "a", "meta": meta})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("unnamed", [(), ((PLAIN, MARKED),)], ids=["all named", "some pairs without names"])
def test_a_source_is_held_out_with_all_its_pairs(tmp_path: Path, unnamed: tuple[tuple[str, ...], ...]) -> None:
    """Warmth wins by taste; one source puts a mark into its replies and always loses: who never saw its replies knows no mark."""
    named = ((WARM, PLAIN, "warm", "plain"), (WARM, MARKED, "warm", "marked"), (PLAIN, MARKED, "plain", "marked"))
    path = pairs_of_sources(tmp_path / "sources.jsonl", 60, *named, *unnamed)
    head = train_head(read_material([path]), WordEmbedder(), "none")  # type: ignore[arg-type]
    figures = {one.name: one for one in head.card.measured}
    assert figures[ALL].mean == 1
    assert {name for name in figures if name.startswith(UNSEEN_SOURCE)} == {
        EACH_SOURCE,
        *(f"{UNSEEN_SOURCE}: {name}" for name in ("marked", "plain", "warm")),
    }
    held = figures[f"{UNSEEN_SOURCE}: marked"]
    assert held.n == 120
    assert held.mean <= 0.5  # type: ignore[operator]
    assert figures[EACH_SOURCE].n == 360


def test_nothing_is_said_of_a_source_without_which_hardly_a_pair_is_left(tmp_path: Path) -> None:
    many = pairs_of_sources(tmp_path / "many.jsonl", 60, (WARM, PLAIN, "warm", "plain"))
    few = pairs_of_sources(tmp_path / "few.jsonl", 4, (PLAIN, MARKED, "plain", "marked"))
    head = train_head(read_material([many, few]), WordEmbedder(), "none")  # type: ignore[arg-type]
    found = {one.name: one.n for one in head.card.measured if one.name.startswith(UNSEEN_SOURCE)}
    assert found == {EACH_SOURCE: 4, f"{UNSEEN_SOURCE}: marked": 4}


def test_a_file_of_two_sources_leaves_none_to_train_on_without_one(tmp_path: Path) -> None:
    material = read_material([rows_of(tmp_path / "rows.jsonl", meta={"a_source": "one\x1b", "b_source": "two"})])
    assert {pair.sources for group in material.groups for pair in group.pairs} == {("one", "two")}
    head = train_head(material, WordEmbedder(), "none")  # type: ignore[arg-type]
    assert not [one for one in head.card.measured if one.name.startswith(UNSEEN_SOURCE)]


@pytest.mark.slow
def test_taste_is_learned_on_people_not_seen_and_files_repeat(tmp_path: Path) -> None:
    material = read_material([gold_folder(tmp_path / "gold", users=24)])
    heads = [train_head(material, WordEmbedder(), "CC0-1.0") for _ in range(2)]  # type: ignore[arg-type]
    for n, head in enumerate(heads):
        write_head(head, tmp_path / f"{n}.json")
    assert (tmp_path / "0.json").read_bytes() == (tmp_path / "1.json").read_bytes()
    figures = {one.name: one.mean for one in heads[0].card.measured}
    assert figures["personalized over mismatched"] > 0.9  # type: ignore[operator]
    assert figures[SWAP] > 0.7  # type: ignore[operator]
    assert {SHORTER, LONGER_WINS, ALL} <= figures.keys()


def test_who_was_seen_is_known_by_id_and_by_words(of_gold: tuple[Material, Head]) -> None:
    _, head = of_gold
    fold = head.seen[key_of("user", "user5")]
    assert head.seen[key_of("text", "what do I do with day 0 of USER5 then")] == fold
    assert sorted(set(head.seen.values())) == list(range(head.card.folds))
    assert all(len(each) == head.card.folds + 1 for each in head.outputs.values())
    assert list(head.outputs) == [TOTAL]


def test_dimensions_are_outputs_where_there_are_enough(tmp_path: Path) -> None:
    paths = []
    for name in ("resonation", "expression", "reception"):
        rows = rows_of(tmp_path / f"{name}.jsonl", dimension=name)
        rows.write_text("".join(rows.read_text() for _ in range(5)))
        paths.append(rows)
    head = train_head(read_material(paths), WordEmbedder(), "none")  # type: ignore[arg-type]
    assert list(head.outputs) == ["resonation", "expression", "reception"]
    with pytest.raises(InputError, match="dimension 'charm'"):
        train_head(read_material([rows_of(tmp_path / "x.jsonl", dimension="charm")]), WordEmbedder(), "")  # type: ignore[arg-type]


def test_a_folder_a_gzip_and_what_is_left_out(tmp_path: Path) -> None:
    data = rows_of(tmp_path / "rows.jsonl").read_text()
    (tmp_path / "rows.jsonl").unlink()
    chinese = json.loads(data.splitlines()[0]) | {"a": "你好吗今天怎么样", "context": "今天很累很累很累"}
    russian = json.loads(data.splitlines()[0]) | {"a": "Мне жаль, это тяжело"}
    tie = json.loads(data.splitlines()[0]) | {"better": None}
    text = data + json.dumps(chinese) + "\n" + json.dumps(russian) + "\n" + json.dumps(tie) + "\n"
    (tmp_path / "more.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    material = read_material([tmp_path])
    assert sum(len(group.pairs) for group in material.groups) == 12
    assert material.left_out == {"pairs in another language than en": 2, "pairs without a better one": 1}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no pairs to train on"),
        ("{}\n", "no pair"),
        ("[\n", "no JSON"),
        ('{"id": "1"}\n', "no pair"),
        ('{"id": "\\ud800"}\n', "half a character"),
    ],
)
def test_files_that_hold_no_pairs_are_named(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        read_material([path])


def test_a_damaged_gzip_is_named(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(b"some text " * 1000))
    data[12:16] = b"\xff\xff\xff\xff"
    path = tmp_path / "pairs.jsonl.gz"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"pairs\.jsonl\.gz"):
        read_material([path])


def test_a_line_separator_inside_a_text_ends_no_line(tmp_path: Path) -> None:
    path = rows_of(tmp_path / "rows.jsonl")
    path.write_text(path.read_text().replace("truly is", "truly\u2028is\u0085so").replace("\n", "\r\n"))
    row = json.loads(path.read_text().split("\n")[0]) | {"a": "One line.\u2028Another."}
    path.write_bytes((json.dumps(row, ensure_ascii=False) + "\r\n").encode())
    (group,) = read_material([path]).groups
    assert "\u2028" in group.replies[0]


def test_a_persona_is_in_one_fold_whatever_was_asked(tmp_path: Path) -> None:
    """Rows that share what is known or the context are one user's, also where they do so by way of a third row."""
    rows = [
        {
            "id": str(n),
            "context": f"question {query}",
            "a": "A good reply",
            "b": "A bad reply",
            "better": "a",
            "user": user,
        }
        for n, (query, user) in enumerate(
            [
                (0, {"persona": "Bakes at night"}),
                (1, {"persona": "Bakes at night"}),
                (1, {"persona": "Sails"}),
                (2, {"persona": "Digs"}),
                (3, None),
                (3, {"persona": "Digs"}),
                (4, "anna"),
                (0, "anna"),
            ]
        )
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    users = [group.user for group in read_material([path]).groups]
    assert len(set(users[:3])) == 1
    assert len(set(users[3:6])) == 1
    assert users[6:] == ["anna", "anna"]
    assert len(set(users)) == 3


def test_people_are_named_only_where_they_are_said_to_have_judged(tmp_path: Path) -> None:
    path = rows_of(tmp_path / "rows.jsonl")
    for by_people, name in ((False, PAIRS), (True, HUMAN_PAIRS)):
        material = read_material([path], by_people=by_people)
        assert {pair.name for group in material.groups for pair in group.pairs} == {name}


def test_nearly_empty_replies_lose_also_those_of_kinds_kept_out(of_gold: tuple[Material, Head]) -> None:
    material, head = of_gold
    texts = {
        trained: {
            one.text
            for group in material.groups
            for one in group.hostile
            if (one.kind, one.trained) == ("empty", trained)
        }
        for trained in (True, False)
    }
    assert all(texts.values())
    assert not texts[True] & texts[False]
    for name in (EMPTY_SEEN, EMPTY_UNSEEN):
        figure = head.measured(name)
        assert figure is not None
        assert figure.mean is not None
        assert figure.mean > 0.8, name


def test_where_a_head_cannot_be_written_is_known_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, says in ((tmp_path, "is a folder"), (tmp_path / "file" / "head.json", "cannot be written")):
        with pytest.raises(InputError, match=says):
            check_place(path)


def test_too_few_users_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too few"):
        train_head(read_material([gold_folder(tmp_path / "g", users=3)]), WordEmbedder(), "")  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_shipped_head_is_what_the_command_makes_of_the_examples(tmp_path: Path) -> None:
    """Other processors round embeddings in another way, so weights may differ in their last digits; everything else is equal."""
    pytest.importorskip("onnxruntime")
    from peregrm.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["train", "judge-head", str(EXAMPLES), "--licence", "CC0-1.0", "-o", str(tmp_path / "head.json")])
    assert ended.value.code == 0
    made, shipped = (json.loads(path.read_text()) for path in (tmp_path / "head.json", SHIPPED_HEAD))
    weights = [head.pop("outputs") for head in (made, shipped)]
    measured = [{(one["name"], one["of"]): one for one in head["card"].pop("measured")} for head in (made, shipped)]
    made["card"].pop("penalty"), shipped["card"].pop("penalty")
    assert made == shipped
    for ours, theirs in zip(*(each[TOTAL] for each in weights), strict=True):
        for name in ("near", "tones", "fit", "sense"):
            assert np.allclose(ours[name], theirs[name], atol=0.15 * (np.abs(theirs[name]).max() + 1e-9)), name
    assert {name: one["mean"] for name, one in measured[0].items()} == pytest.approx(
        {name: one["mean"] for name, one in measured[1].items()}, abs=0.05
    )
