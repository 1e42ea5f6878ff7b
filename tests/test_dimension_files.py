"""Sets of dimensions: the shipped ones are fit to judge by, a file of one's own works, and every fault in one is named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, create_model

from peregrm.dimension_files import load_dimensions, shipped_dimensions
from peregrm.dimensions import BYSTANDER_PARTS, EMPATHY, Dimension
from peregrm.errors import SettingsError
from peregrm.records import Case
from peregrm.reward.criteria import check_criteria
from peregrm.reward.fixed import fixed_criteria
from peregrm.text import tokens

SHIPPED = ["empathy", "humour", "politeness", "safe_guidance"]
WARMTH = """
[[dimension]]
name = "warmth"
measures = "The reply is as warm as this person likes it."
fails = "It is colder or sweeter than they can take."
"""
CRITERIA = [f"The reply is warm enough for {who}." for who in ("Ada", "Tom", "Kerry", "Femi", "Aoife", "Eli", "Karen")]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "own.toml"


def refused(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    with pytest.raises(SettingsError) as caught:
        load_dimensions(str(path))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message.removeprefix(str(path))
    return message.removeprefix(f"{path}: ")


# --- the shipped sets


def test_the_shipped_sets_and_the_default_first() -> None:
    assert list(shipped_dimensions()) == SHIPPED
    assert load_dimensions("empathy") is EMPATHY


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_set_is_fit_to_judge_by(name: str, case: Case) -> None:
    dimensions = load_dimensions(name)
    assert len(dimensions) == 3
    assert check_criteria([(d.name, d.criteria) for d in dimensions]) is None
    assert [len(d.criteria) for d in dimensions] == [5, 5, 5]
    assert [dim for dim, _ in fixed_criteria(case, dimensions).items] == [d.name for d in dimensions]
    for dimension in dimensions:
        assert dimension.measures.startswith(
            ("The reply", "This person", "What humour", "Nobody", "Nothing in the reply")
        )
        assert dimension.measures.endswith(".")
        assert dimension.fails.endswith(".")
        assert all(text.endswith(".") and len(tokens(text)) <= 25 for text in dimension.criteria)


def test_no_two_sets_share_a_name_or_a_sentence() -> None:
    every = [d for name in SHIPPED for d in load_dimensions(name)]
    assert len({d.name for d in every}) == len(every)
    texts = [text for d in every for text in (d.measures, d.fails, *d.criteria)]
    assert len({" ".join(tokens(text)) for text in texts}) == len(texts)
    assert not {d.name for d in every} & {key for key, _ in BYSTANDER_PARTS}


def test_the_loader_takes_the_default_set_too(own: Path) -> None:
    """The rules for files are rules the built-in set keeps."""
    blocks = [
        "\n".join(
            [
                "[[dimension]]",
                f'name = "{d.name}"',
                f'measures = "{d.measures}"',
                f'fails = "{d.fails}"',
                "criteria = [",
                *(f'  "{text}",' for text in d.criteria),
                "]",
            ]
        )
        for d in EMPATHY
    ]
    own.write_text("\n".join(blocks), encoding="utf-8")
    assert load_dimensions(str(own)) == EMPATHY


# --- a file of one's own


def test_a_file_of_ones_own(own: Path) -> None:
    own.write_text(
        WARMTH + f"criteria = {CRITERIA[:4]}\n" + WARMTH.replace("warmth", "plain_words_2"), encoding="utf-8"
    )
    warmth, plain = load_dimensions(str(own))
    assert warmth == Dimension(
        "warmth",
        "The reply is as warm as this person likes it.",
        "It is colder or sweeter than they can take.",
        tuple(CRITERIA[:4]),
    )
    assert (plain.name, plain.criteria) == ("plain_words_2", ())


def test_text_over_several_lines_becomes_one_line(own: Path) -> None:
    own.write_text(
        WARMTH.replace('"The reply is as', '"""\n  The reply\n  is as').replace('likes it."', 'likes it.\n"""')
    )
    assert load_dimensions(str(own))[0].measures == "The reply is as warm as this person likes it."


def test_chinese_wording_windows_line_ends_and_a_byte_order_mark(own: Path) -> None:
    text = '[[dimension]]\r\nname = "fencun"\r\nmeasures = "分寸拿捏得合这个人的意。"\r\nfails = "太近或者太远。"\r\n'
    own.write_bytes(b"\xef\xbb\xbf" + text.encode("utf-8"))
    assert load_dimensions(str(own))[0] == Dimension("fencun", "分寸拿捏得合这个人的意。", "太近或者太远。")


def test_a_shipped_name_wins_over_a_file_and_a_path_reaches_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("humour").write_text(WARMTH, encoding="utf-8")
    assert len(load_dimensions("humour")) == 3
    assert [d.name for d in load_dimensions("./humour")] == ["warmth"]


def test_eight_dimensions_are_the_most(own: Path) -> None:
    blocks = [WARMTH.replace("warmth", f"warmth_{n}") for n in range(9)]
    own.write_text("".join(blocks[:8]), encoding="utf-8")
    assert len(load_dimensions(str(own))) == 8
    assert "dimension: List should have at most 8 items" in refused(own, "".join(blocks))


# --- what is refused


@pytest.mark.parametrize("spec", ["nowhere.toml", "politness", "no/such/folder/x.toml"])
def test_what_does_not_exist_is_named_beside_what_does(spec: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_dimensions(spec)
    assert str(caught.value) == (
        f"{spec}: there is no such file or set of dimensions; "
        "the sets that come with peregrm are empathy, humour, politeness, safe_guidance"
    )


@pytest.mark.parametrize("spec", ["", "  "])
def test_nothing_given_is_an_error(spec: str) -> None:
    with pytest.raises(
        SettingsError, match=r"neither a name nor a file is given; .* empathy, humour, politeness, safe_guidance"
    ):
        load_dimensions(spec)


def test_a_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=re.escape(f"{tmp_path}: is a directory")):
        load_dimensions(str(tmp_path))


@pytest.mark.parametrize("spec", ["a\0b", "x" * 5000])
def test_an_impossible_path_is_an_error(spec: str) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_dimensions(spec)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe", "not UTF-8 text"),
        ("[[dimension]\n", "not TOML: "),
        ('{"dimension": []}', "not TOML: "),
        (WARMTH + 'name = "again"\n', "not TOML: "),
        ("a = " + "[" * 5000, "nested too deeply"),
        ("", "it has no [[dimension]]"),
        ("# nothing\n", "it has no [[dimension]]"),
        ("dimension = []", "dimension: List should have at least 1 item"),
        ('dimension = "warmth"', "dimension: write [[dimension]]"),
        (WARMTH.replace("[[dimension]]", "[dimension]"), "dimension: write [[dimension]]"),
        ("dimension = [1]", "dimension.1: Input should be"),
        (WARMTH.replace("[[dimension]]", "[[dimensions]]"), "dimensions: unknown key; known here: dimension"),
        ('title = "x"\n' + WARMTH, "title: unknown key; known here: dimension"),
        (WARMTH + "weight = 3\n", "dimension.1.weight: unknown key; known here: name, measures, fails, criteria"),
        (WARMTH + WARMTH.replace("warmth", "other").replace("fails", "fail"), "dimension.2.fail: unknown key"),
        (WARMTH.replace("fails = ", "# "), "dimension.1.fails: Field required"),
        (WARMTH.replace("measures = ", "# "), "dimension.1.measures: Field required"),
        (WARMTH.replace("name = ", "# "), "dimension.1.name: Field required"),
        (WARMTH.replace('"It is colder or sweeter than they can take."', '""'), "dimension.1.fails: is not a sentence"),
        (WARMTH.replace("It is colder or sweeter than they can take.", "Too cold."), "dimension.1.fails: is not a sentence"),
        (WARMTH.replace("likes it.", "likes it"), "dimension.1.measures: does not end like a sentence"),
        (WARMTH.replace("The reply is", "It is " + "very " * 120), "dimension.1.measures: String should have at most 500"),
        (WARMTH.replace('"warmth"', "5"), "dimension.1.name: Input should be a valid string"),
        (WARMTH + WARMTH, "the name 'warmth' occurs 2 times"),
        (WARMTH + "criteria = []\n", "dimension.1.criteria: List should have at least 4 items"),
        (WARMTH + f"criteria = {CRITERIA[:3]}\n", "dimension.1.criteria: List should have at least 4 items"),
        (WARMTH + f"criteria = {CRITERIA}\n", "dimension.1.criteria: List should have at most 6 items"),
        (WARMTH + f"criteria = {[*CRITERIA[:3], '...']}\n", "dimension.1.criteria.4: is not a sentence"),
        (WARMTH + f"criteria = {[*CRITERIA[:3], 'Kind to ' + 'Ada ' * 60]}\n", "dimension.1.criteria.4: String should have"),
        (WARMTH + 'criteria = "The reply is warm."\n', "dimension.1.criteria: Input should be a valid list"),
        (WARMTH + f"criteria = {[*CRITERIA[:3], CRITERIA[0].upper()]}\n", "the criterion 'the reply is warm enough for ada'"),
        (
            WARMTH + f"criteria = {CRITERIA[:4]}\n" + WARMTH.replace("warmth", "other") + f"criteria = {CRITERIA[3:]}\n",
            "the criterion 'the reply is warm enough for femi' occurs 2 times",
        ),
    ],
)  # fmt: skip
def test_every_fault_is_named_with_its_file(own: Path, content: str | bytes, said: str) -> None:
    assert said in refused(own, content)


def test_all_faults_are_told_at_once(own: Path) -> None:
    said = refused(own, WARMTH.replace("fails = ", "# ") + "weight = 3\n" + WARMTH.replace('"warmth"', '"Warm"'))
    assert [part.split(":")[0] for part in said.split("; ") if part.startswith("dimension.")] == [
        "dimension.1.fails",
        "dimension.1.weight",
        "dimension.2.name",
    ]


@pytest.mark.parametrize(
    "name", ["", "Warmth", "warm-th", "2warm", "_warm", "warm_", "warm__th", "wärme", "温", "warm th", "a" * 41, "warm\\n"]
)  # fmt: skip
def test_a_name_is_lower_snake(own: Path, name: str) -> None:
    assert "dimension.1.name: " in refused(own, WARMTH.replace('"warmth"', f'"{name}"'))


@pytest.mark.parametrize(
    "name", ["bystander", "empathy", "total", "analysis", "coverage", "rule", "tokens", "language", "class", "json", "copy", "model_x"]
)  # fmt: skip
def test_a_name_that_means_something_else_is_refused(own: Path, name: str) -> None:
    assert f"dimension.1.name: '{name}' is taken for something else" in refused(own, WARMTH.replace("warmth", name))


names = st.one_of(st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True), st.sampled_from(dir(BaseModel)))


@given(names)
def test_a_name_that_passes_can_be_a_key_of_an_answer(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    own = tmp_path_factory.getbasetemp() / "any-name.toml"
    own.write_text(WARMTH.replace("warmth", name), encoding="utf-8")
    try:
        dimension = load_dimensions(str(own))[0]
    except SettingsError:
        return
    fields: dict[str, Any] = {dimension.name: (int, ...)}
    assert getattr(create_model("Answer", **fields)(**{name: 1}), name) == 1  # a warning would be an error here


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: (WARMTH + text).encode("utf-8", "ignore")))
def test_any_bytes_give_dimensions_or_one_clear_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    own = tmp_path_factory.getbasetemp() / "any-bytes.toml"
    own.write_bytes(content)
    found: object
    try:
        found = load_dimensions(str(own))
    except SettingsError as error:
        found = str(error)
    assert found
    assert found.startswith(str(own)) if isinstance(found, str) else isinstance(found, tuple)
