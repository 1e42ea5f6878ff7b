"""What tests of trained heads share: an embedding model of the test's own, gold of people with known taste, and a head trained on it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from peregrm.dataset.gold import GoldCase, RankedReply
from peregrm.models.embeddings import EMBEDDING_SIZE
from peregrm.records import Evidence, Memory
from peregrm.store import write_records
from peregrm.training.judge_head import train_head, write_head
from peregrm.training.pairs import read_material

STYLES = {
    "jokes": ("Likes jokes and teasing", "Ha, what a ridiculous disaster. You absolute menace. Frankly tragic."),
    "warmth": ("Wants warmth and tenderness first", "I am so sorry, dear. That sounds so hard. Sending love and hugs."),
    "steps": ("Wants numbered steps in order", "First, ask for the date. Then, write it down. Finally, call them."),
    "faith": ("Is comforted by prayer and faith", "God bless you. We will pray on it. The Lord is near."),
}
REFUSED = {
    "jokes": "Cannot stand jokes",
    "warmth": "Cannot stand warmth",
    "steps": "Hates steps and lists",
    "faith": "Resents prayer",
}
PLAIN = "It is a hard week. There is a good way through. Somebody will help with that."


class WordEmbedder:
    """Adds up a fixed vector a word: texts that share words are near each other, and nothing has to be installed."""

    fingerprint = "0123456789abcdef"

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([_of(text) for text in texts], dtype=np.float32).reshape(len(texts), EMBEDDING_SIZE)


def _of(text: str) -> np.ndarray:
    total = np.zeros(EMBEDDING_SIZE)
    for word in text.lower().split():
        total += _word(word.strip(".,!?"))
    return total / (np.linalg.norm(total) or 1.0)


@cache
def _word(word: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")
    return np.random.default_rng(seed).normal(size=EMBEDDING_SIZE)


def gold_folder(folder: Path, users: int = 12) -> Path:
    """Write gold of people who each want one style and cannot stand another, so that only wishes tell right from wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(STYLES)
    memories: list[Memory] = []
    cases: list[GoldCase] = []
    for number in range(users):
        wanted, hated = names[number % 4], names[(number + 1 + number // 4) % 4]
        hated = hated if hated != wanted else names[(number + 2) % 4]
        user = f"user{number}"
        own = [_memory(user, STYLES[wanted][0], number), _memory(user, REFUSED[hated], number + 100)]
        memories += own
        cases += [
            GoldCase(
                user_id=user,
                language="en",
                category="emotional_support",
                situation=f"Number {number} had a bad day of kind {turn}.",
                query=f"what do I do with day {turn} of {user} then",
                memory_ids=(own[0].id,),
                replies=(
                    RankedReply(policy="gold personalized", rank=1, text=STYLES[wanted][1]),
                    RankedReply(policy="gold generic", rank=2, text=PLAIN),
                    RankedReply(policy="gold mismatched", rank=3, text=STYLES[hated][1]),
                ),
            )
            for turn in range(2)
        ]
    write_records(folder / "memories.jsonl", memories)
    write_records(folder / "gold.jsonl", cases)
    return folder


def _memory(user: str, value: str, turn: int) -> Memory:
    return Memory(
        user_id=user,
        label="Preferences/Interaction_Preferences",
        type="direct",
        value=value,
        evidence=(Evidence(session_id=f"{user}-1", turn=turn, quote=value),),
        method="curated",
    )


def trained_file(folder: Path) -> Path:
    """Train a head on such gold and return its file."""
    head = train_head(read_material([gold_folder(folder / "gold")]), WordEmbedder(), "CC0-1.0")  # type: ignore[arg-type]
    write_head(head, folder / "head.json")
    return folder / "head.json"
