"""A Letta server as a store: one agent a user, whose archival memory holds the notes. For those who run such a server.

Notes are written to and searched in the agent's archival memory over HTTP, word for word; what else a note holds travels as a tag. The
agent is never asked to answer and edits nothing: for a block of lines that a model edits see `two_tier`. Search order is the server's.
A passing store has agents of its own, which it deletes when it is closed; a process that is killed leaves them on the server.
Left out on purpose: starting a server, its models' keys, and its client package, of which four calls are needed.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import urlsplit

from pydantic import ValidationError

from peregrm.errors import ModelAuthError, ModelError, ModelProtocolError, ModelUnavailable, SettingsError
from peregrm.memory.base import Added, Capabilities, Found, Note
from peregrm.memory.factory import Options
from peregrm.memory.foreign import folder_name, no_such_note
from peregrm.memory.local import check_notes

if TYPE_CHECKING:
    from aiohttp import ClientSession

__all__ = ["FREE", "KEY", "LettaStore"]

FREE = "letta/letta-free"
"""The handle under which a Letta server offers a model and an embedding model of its own."""

KEY = "LETTA_API_KEY"
"""The environment variable with the key of the server, if it wants one."""

_DEADLINE_S = 60.0
_PAGE = 100
_NOT_IN_TAG = {"id", "text", "user_id"}


class LettaStore:
    """A Letta server (API of 2026) behind the interface of memory stores.

    Args:
        base_url: Where the server listens, as `http://127.0.0.1:8283`.
        llm: The handle of the model that its agents need to have, as `openai/gpt-4.1-mini`; it is not asked.
        embedding: The handle of the embedding model that its archival memory searches with.
        api_key: The server's key, where it wants one.
        passing: Whether notes live as long as this store and meet none from before, instead of lasting on the server.

    Raises:
        SettingsError: The URL makes no sense, or a handle is missing.
    """

    name: ClassVar[str] = "letta"
    opened_with: ClassVar[frozenset[str]] = frozenset({"at", "passing"})
    place: ClassVar[str] = "the URL of a Letta server, as http://127.0.0.1:8283"

    def __init__(
        self,
        base_url: str,
        *,
        llm: str = FREE,
        embedding: str = FREE,
        api_key: str | None = None,
        passing: bool = False,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise SettingsError(f"the memory store letta needs {self.place}")
        if not llm or not embedding:
            raise SettingsError("the memory store letta needs the handles of a model and of an embedding model")
        self.capabilities = Capabilities(takes=("memory", "turn"), keeps=not passing)
        self._prefix = f"peregrm-{uuid.uuid4().hex}-" if passing else "peregrm-"
        self._url = base_url.rstrip("/")
        self._agent_of = {"model": llm, "embedding": embedding}
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._session: ClientSession | None = None
        self._agents: dict[str, str] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._closed = False

    @classmethod
    def open(cls, options: Options) -> Self:
        """Open the store as the options say. Raises `SettingsError` where they name no server, or a file to keep notes in."""
        if options.at is None:
            raise SettingsError(f"the memory store letta needs {cls.place}: name it with --memory-at (in code, at=)")
        if options.path is not None:
            raise SettingsError("the memory store letta keeps its notes on the server: leave the file out")
        return cls(options.at, api_key=os.environ.get(KEY), passing=options.passing)

    async def add(self, user_id: str, notes: Sequence[Note]) -> Added:
        """Write notes to the archival memory of the user's agent, which is made if there is none."""
        check_notes(self.name, self.capabilities, user_id, notes)
        async with self._locks[user_id]:
            there = {note.id for _, note in await self._passages(user_id)}
            for note in notes:
                if note.id not in there:
                    await self._write(user_id, note)
                    there.add(note.id)
        return Added(ids=tuple(dict.fromkeys(note.id for note in notes)))

    async def search(self, user_id: str, query: str, *, limit: int) -> list[Found]:
        """Return what the server finds, in its order; it tells no scores, so a score is one part of the place, 1, 1/2, 1/3 ..."""
        async with self._locks[user_id]:
            agent = await self._agent(user_id)
            if agent is None or limit < 1 or not query.strip():
                return []
            path = f"/v1/agents/{agent}/archival-memory/search"
            answer = await self._ask("GET", path, query={"query": query, "top_k": str(limit)})
        rows = _listed(answer, "results")
        notes = dict.fromkeys(_note(user_id, _text(row, "content"), row) for row in rows)
        return [Found(note, 1 / place) for place, note in enumerate(list(notes)[:limit], start=1)]

    async def update(self, user_id: str, note_id: str, text: str) -> str:
        """Write the note anew with another text and remove the old one."""
        async with self._locks[user_id]:
            passages = await self._named(user_id, note_id)
            note = passages[0][1].model_copy(update={"text": text})
            await self._write(user_id, note)
            await self._remove(user_id, [passage for passage, _ in passages])
        return note.id

    async def delete(self, user_id: str, note_id: str) -> None:
        """Remove a note."""
        async with self._locks[user_id]:
            await self._remove(user_id, [passage for passage, _ in await self._named(user_id, note_id)])

    async def delete_all(self, user_id: str) -> None:
        """Remove the user's agent and all it holds."""
        async with self._locks[user_id]:
            agent = await self._agent(user_id)
            if agent is not None:
                await self._ask("DELETE", f"/v1/agents/{agent}")
                self._agents.pop(user_id, None)

    async def export(self, user_id: str) -> list[Note]:
        """Return all notes, oldest first."""
        async with self._locks[user_id]:
            return list(dict.fromkeys(note for _, note in await self._passages(user_id)))

    async def aclose(self) -> None:
        """Close the connections; a passing store takes its agents off the server first, as far as that answers. Safe to call twice."""
        if not self.capabilities.keeps and not self._closed:
            with suppress(ModelError):
                for user_id in list(self._agents):
                    await self.delete_all(user_id)
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _agent(self, user_id: str) -> str | None:
        """Return the id of the user's agent, found by its name; None where there is none."""
        if user_id not in self._agents:
            name = self._prefix + folder_name(user_id)
            for row in _listed(await self._ask("GET", "/v1/agents/", query={"name": name})):
                if row.get("name") == name:
                    self._agents[user_id] = _text(row, "id")
        return self._agents.get(user_id)

    async def _write(self, user_id: str, note: Note) -> None:
        agent = await self._agent(user_id)
        if agent is None:
            body = {
                **self._agent_of,
                "name": self._prefix + folder_name(user_id),
                "memory_blocks": [],
                "include_base_tools": False,
            }
            row = await self._ask("POST", "/v1/agents/", body=body)
            agent = self._agents[user_id] = _text(row if isinstance(row, Mapping) else {}, "id")
        tag = note.model_dump_json(exclude=_NOT_IN_TAG, exclude_defaults=True)
        await self._ask("POST", f"/v1/agents/{agent}/archival-memory", body={"text": note.text, "tags": [tag]})

    async def _remove(self, user_id: str, passages: Sequence[str]) -> None:
        agent = await self._agent(user_id)
        for passage in passages:
            await self._ask("DELETE", f"/v1/agents/{agent}/archival-memory/{passage}")

    async def _named(self, user_id: str, note_id: str) -> list[tuple[str, Note]]:
        found = [(passage, note) for passage, note in await self._passages(user_id) if note.id == note_id]
        if not found:
            raise no_such_note(note_id)
        return found

    async def _passages(self, user_id: str) -> list[tuple[str, Note]]:
        """Return the passages of a user's agent with their ids, oldest first."""
        agent = await self._agent(user_id)
        found: list[tuple[str, Note]] = []
        page: list[Mapping[str, Any]] = []
        while agent is not None and (not found or len(page) == _PAGE):
            after = {"after": found[-1][0]} if found else {}
            query = {"limit": str(_PAGE), "ascending": "true", **after}
            page = _listed(await self._ask("GET", f"/v1/agents/{agent}/archival-memory", query=query))
            found += [(_text(row, "id"), _note(user_id, _text(row, "text"), row)) for row in page]
            if not page:
                break
        return found

    async def _ask(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: object = None
    ) -> object:
        import aiohttp

        if self._closed:
            raise SettingsError("this memory store is closed")
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=_DEADLINE_S)
            self._session = aiohttp.ClientSession(headers=self._headers, timeout=timeout)
        try:
            async with self._session.request(method, self._url + path, params=query, json=body) as response:
                status, text = response.status, await response.text()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ModelUnavailable(
                f"the Letta server at {self._url} does not answer: {type(error).__name__}"
            ) from error
        if status in (401, 403):
            raise ModelAuthError(f"the Letta server at {self._url} refuses the key ({status})")
        if status >= 400:
            raise ModelProtocolError(f"the Letta server at {self._url} answers {method} {path} with {status}")
        try:
            return json.loads(text) if text.strip() else None
        except ValueError as error:
            raise ModelProtocolError(f"the Letta server at {self._url} answers {method} {path} without JSON") from error


def _listed(answer: object, key: str | None = None) -> list[Mapping[str, Any]]:
    rows = answer.get(key) if key is not None and isinstance(answer, Mapping) else answer
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise ModelProtocolError("the Letta server answers with something that is not a list of objects")
    return rows


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise ModelProtocolError(f"the Letta server leaves out {key!r}")
    return value


def _note(user_id: str, text: str, row: Mapping[str, Any]) -> Note:
    """Return the note that a passage was written from; a passage of another origin becomes a plain one."""
    for tag in row.get("tags") or ():
        try:
            return Note.model_validate({**json.loads(tag), "user_id": user_id, "text": text})
        except (ValueError, TypeError, ValidationError):
            continue
    return Note(user_id=user_id, text=text)
