"""A thousand users, writers at once in two processes: nobody is ever given what another one said."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest

from peregrm.memory import Note, open_store
from peregrm.memory.embedding import Vectors

USERS = [f"user {number}" for number in range(1000)]
TOPICS = ("sister", "job", "garden")

WRITER = """
import asyncio, sys
from peregrm.memory import Note, open_store

async def main(path, start, stop):
    store = open_store("bm25", path)
    for number in range(start, stop):
        user = f"user {number}"
        await store.add(user, [Note(user_id=user, text=f"the garden of number{number} is wet")])
    await store.aclose()

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


class SameForAll:
    """The worst embedder: all texts are equally near, so that nothing but the user keeps notes apart."""

    def embed(self, texts: list[str]) -> Vectors:
        return np.tile(np.float32([[1.0, 0.0]]), (len(texts), 1))


@pytest.mark.slow
async def test_a_thousand_users_and_writers_at_once(tmp_path: Path) -> None:
    file = tmp_path / "memory.sqlite"
    names = ("default", "bm25", "minilm", "recent", "whole")
    stores = [open_store(name, file, embedder=SameForAll()) for name in names]
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(file), str(start), str(start + 500)]) for start in (0, 500)
    ]
    chance = random.Random(7)

    async def live(number: int) -> None:
        user = USERS[number]
        for topic in TOPICS[:2]:
            await chance.choice(stores).add(user, [Note(user_id=user, text=f"the {topic} of number{number} is well")])
            found = await chance.choice(stores).search(user, f"how is the {topic} of number{number + 1}?", limit=9)
            assert all(each.note.user_id == user and f"number{number} " in each.note.text for each in found)

    order = list(range(1000))
    chance.shuffle(order)
    await asyncio.gather(*map(live, order))
    for process in processes:
        assert await asyncio.to_thread(process.wait, 120) == 0
    for number in order:
        user = USERS[number]
        for store in stores:
            found = await store.search(user, "the sister, job and garden of number1 number2", limit=50)
            assert {each.note.user_id for each in found} == {user}
            assert all(f"number{number} " in each.note.text for each in found)
            if store.name != "default":
                assert len(found) == len(TOPICS)
        assert len(await stores[0].export(user)) == len(TOPICS)
    for gone in USERS[:3]:
        await stores[0].delete_all(gone)
    assert await stores[1].export(USERS[0]) == []
    assert len(await stores[1].export(USERS[3])) == len(TOPICS)
    for store in stores:
        await store.aclose()


async def test_two_processes_write_one_file_at_once(tmp_path: Path) -> None:
    file = tmp_path / "memory.sqlite"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(file), "0", "40"])
    async with aclosing(open_store("bm25", file)) as store:
        for number in range(40):
            user = f"user {number}"
            await store.add(user, [Note(user_id=user, text=f"the job of number{number} is hard")])
        assert await asyncio.to_thread(process.wait, 60) == 0
        for number in range(40):
            told = await store.export(f"user {number}")
            assert {note.user_id for note in told} == {f"user {number}"}
            assert sorted(note.text.split()[1] for note in told) == ["garden", "job"]
