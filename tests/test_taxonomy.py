import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrm.taxonomy import UNMAPPED, labels, normalise_label
from published_data import PUBLISHED, needs

REAL = PUBLISHED / "histories" / "alps_sessions_dev.jsonl.gz"


def test_there_are_34_labels_and_unmapped_is_none_of_them():
    assert len(labels()) == len(set(labels())) == 34
    assert UNMAPPED not in labels()


@pytest.mark.parametrize("label", labels())
def test_every_label_is_itself_in_any_dress(label):
    for spelling in (
        label,
        label.lower(),
        label.upper(),
        label.replace("_", " "),
        label.replace("_", "-"),
        label.replace("_", ""),
        label.replace("/", " > "),
        label.replace("/", "::"),
        label.replace("/", "."),
        label.replace("/", "_"),
        f"  {label}/ ",
        f"{label}/Something_More",
        label.replace("_and_", " & "),
    ):
        assert normalise_label(spelling) == label


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Interaction_Preferences", "Preferences/Interaction_Preferences"),
        ("Constraints_and_Boundaries/Interaction_Preferences", "Preferences/Interaction_Preferences"),
        ("interaction/style/preference", "Preferences/Interaction_Preferences"),
        ("Personal_Background/Family", "Social_Relationships/Family"),
        ("Thoughts/Positive", "Thoughts/Opinions/Positive"),
        ("Opinions/Negative", "Thoughts/Opinions/Negative"),
        ("short term", "Thoughts/Goals/Short_Term"),
        ("Preferences/Travel", "Preferences/Travel_Mode"),
        ("Relations/Friends", "Social_Relationships/Friends"),
        ("Preferences/Education", UNMAPPED),
        ("Preferences/Technical_Tools", UNMAPPED),
        ("Preferences", UNMAPPED),
        ("UNMAPPED", UNMAPPED),
        ("unmapped", UNMAPPED),
        ("", UNMAPPED),
        ("///", UNMAPPED),
        ("喜好/食物", UNMAPPED),
        (None, UNMAPPED),
        (7, UNMAPPED),
        (["Preferences/Food"], UNMAPPED),
    ],
)
def test_spellings(raw, expected):
    assert normalise_label(raw) == expected


@pytest.mark.parametrize(
    ("suggestion", "expected"),
    [
        ("Preferences/Food/Price", "Preferences/Food"),
        ("Past_Experience/Cosplay/Creation", "States_Experiences/Past_Experience"),
        ("Social_Relationships/Marital_Conflict/Infidelity", "Social_Relationships/Partners"),
        ("education", "Personal_Background/Education"),
        ("role_play/scenario/music", UNMAPPED),
        ("technical/java", UNMAPPED),
        ({"label": "Preferences/Food"}, UNMAPPED),
        (None, UNMAPPED),
    ],
)
def test_the_suggestion_is_looked_at_more_strictly(suggestion, expected):
    assert normalise_label("UNMAPPED", suggestion) == expected


def test_the_label_goes_before_the_suggestion():
    assert normalise_label("Preferences/Food", "Preferences/Music") == "Preferences/Food"


@given(st.text(), st.text())
def test_any_text_gives_a_known_label_and_giving_it_again_changes_nothing(raw, suggestion):
    label = normalise_label(raw, suggestion)
    assert label in {*labels(), UNMAPPED}
    assert normalise_label(label) == label


@needs(REAL)
def test_labels_of_the_published_sessions():
    items = []
    with gzip.open(REAL, "rt", encoding="utf-8") as lines:
        for line in lines:
            items += json.loads(line)["record"]["memory_items"]
    mapped = [normalise_label(item["label"], item.get("label_suggestion")) for item in items]
    assert all(
        result == item["label"] for item, result in zip(items, mapped, strict=True) if item["label"] in set(labels())
    )
    share = mapped.count(UNMAPPED) / len(mapped)
    assert 0.30 < share < 0.33
