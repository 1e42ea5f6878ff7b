"""Users by the kind of reply that suits them: planted groups are found, and weights lean to the nearest."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from people_parts import LETTERS, person
from peregrm.errors import SettingsError
from peregrm.records import Case
from peregrm.training import strategies
from peregrm.training.strategies import Strategies, find_strategies, open_embedding, statements_of

KINDS = ("please be blunt and brief with me", "gentle warm words help me most", "make me laugh with silly jokes")


def people(count: int = 12) -> list[Case]:
    return [person(f"user-{n:02}", f"{KINDS[n % 3]}, number {n}") for n in range(count)]


@cache
def among_people(clusters: int) -> Strategies:
    return find_strategies(people(), LETTERS, clusters=clusters, sharpness=4.0)


@pytest.mark.parametrize("installed", [True, False])
def test_planted_groups_are_found_and_repeat(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if installed:
        pytest.importorskip("onnxruntime", reason="sentence vectors need onnxruntime")
    else:
        from peregrm.errors import DependencyError

        def missing() -> None:
            raise DependencyError("not here")

        monkeypatch.setattr(strategies, "Embedder", missing)
    embedding = open_embedding()
    assert embedding.name.startswith("minilm" if installed else "words")
    found = find_strategies(people(), embedding, clusters=3, sharpness=4.0)
    groups = {tuple(int(user[-2:]) % 3 for user in cluster.users) for cluster in found.clusters}
    assert groups == {(0,) * 4, (1,) * 4, (2,) * 4}
    assert find_strategies(people()[::-1], embedding, clusters=3, sharpness=4.0) == found
    assert all(any(kind in text for kind in KINDS) for cluster in found.clusters for text in cluster.says)
    assert len(found.lines()) == 3
    stranger = person("somebody", "be blunt please, and brief")
    weights = found.weights(stranger, embedding)
    blunt = next(place for place, cluster in enumerate(found.clusters) if "user-00" in cluster.users)
    assert max(range(3), key=lambda place: weights[place]) == blunt


@settings(max_examples=30)
@given(st.text("abcdefgh ", min_size=1, max_size=30), st.floats(0, 1000), st.integers(1, 3))
def test_weights_sum_to_one_whatever_is_said(said: str, sharpness: float, clusters: int) -> None:
    found = among_people(clusters).model_copy(update={"sharpness": sharpness})
    weights = found.weights(person("x", said), LETTERS)
    assert sum(weights) == pytest.approx(1, abs=1e-12)
    assert all(0 <= weight <= 1 for weight in weights)
    if sharpness == 0:
        assert weights == pytest.approx([1 / clusters] * clusters)


def test_one_cluster_has_everybody_and_all_of_the_weight() -> None:
    found = find_strategies(people(5), LETTERS, clusters=1, sharpness=4.0)
    assert len(found.clusters[0].users) == 5
    assert found.weights(person("x", "anything"), LETTERS) == (1.0,)


def test_what_counts_is_manner_then_traits_then_anything() -> None:
    assert statements_of(person("x", "be brief", traits=("Dry.",))) == ["Dry.", "be brief"]
    assert statements_of(person("x", "has a dog", label="Possessions/Pet")) == ["has a dog"]
    assert statements_of(person("x")) == ["Somebody."]


def test_what_cannot_be_told_apart_is_refused() -> None:
    same = [person(f"user-{n}", "the same") for n in range(4)]
    with pytest.raises(SettingsError, match="cannot be told apart"):
        find_strategies(same, LETTERS, clusters=2, sharpness=1.0)
    with pytest.raises(SettingsError, match="at least one user"):
        find_strategies(same, LETTERS, clusters=5, sharpness=1.0)
    found = find_strategies(people(), LETTERS, clusters=2, sharpness=1.0)
    with pytest.raises(SettingsError, match="made with the vectors letters"):
        found.weights(same[0], LETTERS._replace(name="others"))
    assert Strategies.model_validate_json(found.model_dump_json()) == found
