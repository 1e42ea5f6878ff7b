"""Users by the kind of reply that suits them: clusters of what they said about being spoken to, and how near a user is to each.

A user's vector is the mean of the vectors of statements: the persona's traits, and the kept memories about manner, limits and burdens (all
kept memories where there are none of either). Vectors are MiniLM's where it is installed, else hashed words; which one is kept with the
clusters, because the two do not mix. What all users have in common is taken off, and the rest is clustered by direction (k-means of
unit vectors, the best of `STARTS` starts). The same users, seed and vectors give the same clusters.

A cluster's weight for a user grows exponentially with the cosine between them, `sharpness` times; the weights sum to 1. Left out on
purpose: choosing the number of clusters (which is for the one who pays for the adapters), and criteria, which an unseen user does not have.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from peregrm.errors import DependencyError, SettingsError
from peregrm.models.embeddings import Embedder
from peregrm.records import Case, Part
from peregrm.text import tokens

__all__ = ["STARTS", "Cluster", "Embedding", "Strategies", "find_strategies", "open_embedding", "statements_of"]

STARTS = 32
"""Starts of the clustering, drawn by the seed."""

_ROUNDS = 100
_SAID = 4
_WORDS = 512
_MANNER = ("Preferences/Interaction_Preferences", "Constraints_and_Boundaries/", "States_Experiences/Mental_State")


class Embedding(NamedTuple):
    """What turns texts into unit vectors, one a row; `name` tells it from others."""

    name: str
    embed: Callable[[Sequence[str]], Any]


class Cluster(Part):
    """Users of one strategy, and the statements that are nearest to what they share."""

    users: tuple[str, ...]
    says: tuple[str, ...]
    centroid: tuple[float, ...]


class Strategies(Part):
    """Clusters of users. `centre` is what all users have in common; `embedding` names the vectors."""

    embedding: str
    seed: int
    sharpness: float
    centre: tuple[float, ...]
    clusters: tuple[Cluster, ...]

    def weights(self, case: Case, embedding: Embedding) -> tuple[float, ...]:
        """Return how much each cluster counts for the user of a case; the weights sum to 1.

        Raises `SettingsError` where the clusters were made with other vectors.
        """
        if embedding.name != self.embedding:
            raise SettingsError(
                f"these clusters were made with the vectors {self.embedding}, and here are {embedding.name}"
            )
        own = _unit(_vector(statements_of(case), embedding) - np.array(self.centre))
        near = [self.sharpness * float(own @ np.array(cluster.centroid)) for cluster in self.clusters]
        shares = [math.exp(one - max(near)) for one in near]
        return tuple(share / math.fsum(shares) for share in shares)

    def lines(self) -> list[str]:
        """Return the clusters for a person."""
        lines = []
        for number, cluster in enumerate(self.clusters):
            said = "; ".join(f'"{text}"' for text in cluster.says)
            lines.append(f"cluster {number}: {len(cluster.users)} users; nearest: {said}")
        return lines


def open_embedding() -> Embedding:
    """Return the offline sentence vectors, or hashed words where they are not installed."""
    try:
        embedder = Embedder()
    except DependencyError:
        return Embedding(f"words-{_WORDS}", lambda texts: np.array([_hashed_words(text) for text in texts]))
    return Embedding(f"minilm-{embedder.fingerprint}", embedder.embed)


def _hashed_words(text: str) -> Any:
    """Return a unit vector of words, each with a sign in one of so many places; English words and Chinese characters."""
    vector = np.zeros(_WORDS)
    for word in tokens(text):
        digest = hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
        vector[int.from_bytes(digest[:4], "big") % _WORDS] += 1 if digest[4] % 2 else -1
    return _unit(vector)


def statements_of(case: Case) -> list[str]:
    """Return what tells which kind of reply suits a user; never none."""
    kept = [memory for memory in case.memories if memory.status == "kept"]
    manner = [memory.value for memory in kept if memory.label.startswith(_MANNER)]
    found = [*(trait.text for trait in case.persona.traits), *manner] or [memory.value for memory in kept]
    return list(dict.fromkeys(found)) or [case.persona.profile or "nothing is known"]


def _vector(statements: Sequence[str], embedding: Embedding) -> Any:
    return np.asarray(embedding.embed(statements), dtype=float).mean(axis=0)


def _unit(vector: Any) -> Any:
    length = float(np.linalg.norm(vector))
    return vector / length if length > 1e-12 else np.zeros_like(vector)


def find_strategies(
    cases: Sequence[Case], embedding: Embedding, *, clusters: int, sharpness: float, seed: int = 0
) -> Strategies:
    """Return clusters of the users of cases; of a user's cases the first says who they are.

    Raises `SettingsError` where there are fewer users than clusters, or users that cannot be told apart.
    """
    people: dict[str, list[str]] = {}
    for case in cases:
        people.setdefault(case.user_id, statements_of(case))
    users = sorted(people)
    if not 1 <= clusters <= len(users):
        raise SettingsError(f"{clusters} clusters of {len(users)} users: there must be at least one user a cluster")
    raw = np.array([_vector(people[user], embedding) for user in users])
    centre = raw.mean(axis=0) if len(users) > 1 else np.zeros(raw.shape[1])
    vectors = np.array([_unit(row - centre) for row in raw])
    groups = _clustered(vectors, clusters, seed)
    if len(set(groups)) < clusters:
        raise SettingsError(f"these {len(users)} users cannot be told apart into {clusters} clusters: take fewer")
    groups = _in_order(groups)
    return Strategies(
        embedding=embedding.name,
        seed=seed,
        sharpness=sharpness,
        centre=tuple(map(float, centre)),
        clusters=tuple(
            _cluster(
                [user for user, own in zip(users, groups, strict=True) if own == group],
                users,
                vectors,
                people,
                centre,
                embedding,
            )
            for group in range(clusters)
        ),
    )


def _cluster(
    members: list[str],
    users: Sequence[str],
    vectors: Any,
    people: Mapping[str, list[str]],
    centre: Any,
    embedding: Embedding,
) -> Cluster:
    centroid = _unit(vectors[[users.index(user) for user in members]].sum(axis=0))
    texts = list(dict.fromkeys(text for user in members for text in people[user]))
    near = [float(_unit(row - centre) @ centroid) for row in np.asarray(embedding.embed(texts), dtype=float)]
    ranked = sorted(range(len(texts)), key=lambda place: (-near[place], texts[place]))
    return Cluster(
        users=tuple(members),
        says=tuple(texts[place] for place in ranked[:_SAID]),
        centroid=tuple(map(float, centroid)),
    )


def _clustered(vectors: Any, clusters: int, seed: int) -> list[int]:
    """Return the cluster of each row, of the start whose rows are nearest to their centroids; all 0 where no start fills every cluster."""
    from scipy.cluster.vq import ClusterError, kmeans2

    if len(np.unique(np.round(vectors, 9), axis=0)) < clusters:  # its drawing of far-off starts would divide by zero
        return [0] * len(vectors)
    chance = np.random.default_rng(seed)
    best: tuple[float, list[int]] | None = None
    for _ in range(STARTS):
        try:
            centroids, found = kmeans2(vectors, clusters, iter=_ROUNDS, minit="++", missing="raise", rng=chance)
        except ClusterError:
            continue
        groups = list(map(int, found))
        off = round(float(((vectors - centroids[groups]) ** 2).sum()), 9)
        if len(set(groups)) == clusters and (best is None or off < best[0]):
            best = off, groups
    return best[1] if best else [0] * len(vectors)


def _in_order(groups: Sequence[int]) -> list[int]:
    """Return the groups numbered in the order in which they first occur."""
    numbers: dict[int, int] = {}
    return [numbers.setdefault(group, len(numbers)) for group in groups]
