"""A participant's own history: read, masked, turned into a case without a model, and answered in two settings by one.

What is kept is the case (facts that were found, in the participant's words) and the replies; the history itself is not. Nothing is
asked of a model where rules find signs of danger in what the participant wrote: a study is no place for that. Left out on purpose: finding
facts by a model, which would show it the whole history.
"""

from __future__ import annotations

import gzip
import io
import random
import re
import secrets
import tempfile
import zipfile
import zlib
from pathlib import Path
from urllib.parse import urlsplit

from peregrm.dataset.extractive import extract_memories, group_persona
from peregrm.dataset.safety import flag_case, flag_history
from peregrm.dataset.safety.flags import carried_flags
from peregrm.errors import PeregrmError
from peregrm.histories.language import detect_language
from peregrm.histories.registry import read_histories
from peregrm.models.base import Model
from peregrm.privacy.masking import mask_history, mask_text
from peregrm.records import Case, Failure, History, Session, Turn
from peregrm.replies import RUN_SETTINGS, write_reply
from peregrm.settings import Settings

__all__ = [
    "READ_CHARACTERS",
    "NotUsable",
    "history_of_file",
    "history_of_text",
    "own_case",
    "own_replies",
    "whereabouts",
]

_SPEAKER = re.compile(
    r"^\s*(?P<who>me|i|user|human|you|assistant|ai|bot|chatgpt|claude|gemini)\s*[:：]\s*", re.IGNORECASE
)
_MINE = frozenset({"me", "i", "user", "human"})
_ENDINGS = re.compile(r"(?:\.(?:jsonl?|ndjson|parquet|arrow|feather|zip|txt))?(?:\.gz)?$", re.IGNORECASE)
_NEW_LINE_OR_SENTENCE = re.compile(r"\n|[.!?]\s+|[。！？]")
_NOBODY = "participant"

READ_CHARACTERS = 150_000
"""Of what a participant said the newest is read, up to this many characters: it takes some seconds."""

_UNPACKED_BYTES = 64 * 2**20
_GZIP, _ZIP = b"\x1f\x8b", b"PK"
_TABLES = (b"PAR1", b"ARROW1")

_TOO_LITTLE = (
    "Nothing lasting about you could be found in this text (people, likes, plans, worries), so there is nothing to be personal with. "
    "Please give more of it, in English or Chinese."
)
_DANGER = (
    "What you wrote touches on danger to somebody, or on somebody under age. This study must not answer that by a machine. If you or "
    "someone else is in danger, please call your local emergency number or a crisis line, or talk to somebody you trust."
)


class NotUsable(Exception):
    """What a participant gave cannot be used; the text says why and what to do, to them."""


def history_of_file(data: bytes, name: str) -> History:
    """Read an uploaded file in any format of the history readers, or as plain text. Raises `NotUsable`."""
    if name.lower().endswith(".txt"):
        return history_of_text(data.decode("utf-8", "replace"))
    if data.startswith(_TABLES) or _unpacked(data) > _UNPACKED_BYTES:
        raise NotUsable(
            "The file is too large when unpacked, or a table. Please give a .json, .jsonl, .zip or .txt file."
        )
    ending = _ENDINGS.search(name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"history{ending[0].lower() if ending else ''}"
        path.write_bytes(data)
        try:
            found = list(read_histories(path, user=_NOBODY, on_bad="skip", limit=2))
        except PeregrmError as error:
            said = str(error).replace(folder, "").lstrip("/")
            raise NotUsable(f"The file could not be read: {said}") from None
    if len(found) != 1:
        how_many = "no conversation" if not found else "conversations of several people"
        raise NotUsable(f"The file holds {how_many}. Please give an export with your own conversations only.")
    return found[0]


def _unpacked(data: bytes) -> int:
    """Return how many bytes a file has when it is unpacked, counted no further than the limit; a few megabytes can hold gigabytes."""
    try:
        if data.startswith(_GZIP):
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
                return _length(stream)
        if data.startswith(_ZIP):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                return sum(member.file_size for member in archive.infolist())
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile):
        return len(data)  # damage is for the reader to say
    return len(data)


def _length(stream: gzip.GzipFile) -> int:
    length = 0
    while length <= _UNPACKED_BYTES and (piece := stream.read(2**20)):
        length += len(piece)
    return length


def history_of_text(text: str) -> History:
    """Read a pasted conversation: JSON as a file of that content, else lines, which may begin with `Me:` or `Assistant:`.

    Lines without a speaker go on with what was said before, which is the participant's where nobody was named yet. Raises `NotUsable`.
    """
    if text.lstrip()[:1] in ("{", "["):
        return history_of_file(text.encode("utf-8", "replace"), "pasted.json")
    turns: list[tuple[bool, list[str]]] = []
    for line in text.splitlines():
        found = _SPEAKER.match(line)
        if found or not turns:
            turns.append((not found or found["who"].lower() in _MINE, []))
        turns[-1][1].append(line[found.end() :] if found else line)
    said = [(mine, "\n".join(lines).strip()) for mine, lines in turns]
    kept = tuple(Turn(role="user" if mine else "assistant", text=words) for mine, words in said if words)
    if not any(turn.role == "user" for turn in kept):
        raise NotUsable("Nothing in the text is yours: begin your lines with “Me:” and the others with “Assistant:”.")
    language = detect_language(turn.text for turn in kept if turn.role == "user")
    return History(user_id=_NOBODY, language=language, sessions=(Session(session_id="s1", turns=kept),))


def own_case(history: History, message: str) -> Case:
    """Return the case of a participant's message, with what could be found of them. Raises `NotUsable`."""
    masked = mask_history(_newest(history))
    memories = extract_memories(masked).kept
    kept = tuple(memory for memory in memories if memory.status == "kept")
    if not kept:
        raise NotUsable(_TOO_LITTLE)
    case = Case(
        user_id=_NOBODY,
        language=masked.language,
        category="emotional_support",
        persona=group_persona(masked, memories),
        memories=kept,
        relevant_memory_ids=(),
        situation="",
        query=mask_text(message).text,
    )
    if flag_case(case) or carried_flags(flag_history(masked)):
        raise NotUsable(_DANGER)
    return case


def _newest(history: History) -> History:
    """Return what the participant said last, up to the limit, in order."""
    left = READ_CHARACTERS
    sessions: list[Session] = []
    for session in reversed(history.sessions):
        kept: list[Turn] = []
        for turn in reversed(session.turns):
            if turn.role == "user" and left > 0:
                kept.insert(0, turn.model_copy(update={"text": _last(turn.text, left)}))
                left -= len(turn.text)
        sessions.insert(0, session.model_copy(update={"turns": tuple(kept)}))
    return history.model_copy(update={"sessions": tuple(one for one in sessions if one.turns), "memories": ()})


def _last(text: str, length: int) -> str:
    """Return the end of a text from a whole line or sentence on, so that no number is cut in two and then not masked."""
    if len(text) <= length:
        return text
    end = text[-length:]
    found = _NEW_LINE_OR_SENTENCE.search(end)
    return end[found.end() :] if found else ""


async def own_replies(model: Model, case: Case, *, max_tokens: int, temperature: float) -> list[tuple[str, str, str]]:
    """Return a generic and a personalized reply in random order, each as a random id, the setting and the text.

    Raises `NotUsable` where the model gave none, and a fatal `ModelError`.
    """
    made: list[tuple[str, str, str]] = []
    for setting in RUN_SETTINGS:
        reply = await write_reply(
            model, case, setting, policy=setting, max_tokens=max_tokens, temperature=temperature, seed=0
        )
        failure = reply.failure or (
            None if reply.text else Failure(stage="replies", kind="empty", reason="it said nothing")
        )
        if failure is not None:
            raise NotUsable("The model did not answer. You can try again with the form below.")
        made.append((f"r-{secrets.token_hex(8)}", setting, reply.text))
    random.SystemRandom().shuffle(made)
    return made


def whereabouts(spec: str, settings: Settings) -> str:
    """Say to participants where the model of `spec` is that reads what they give."""
    if spec == "embedded" or spec.startswith("gguf:"):
        return "The model runs on the same computer as this page. Nothing you give leaves it."
    hosts = sorted({urlsplit(url).hostname or url for url in _urls(spec, settings)})
    return f"The model runs at {', '.join(hosts)}: the picked sentences and your message are sent there."


def _urls(spec: str, settings: Settings) -> tuple[str, ...]:
    known = settings.models.get(spec)
    return known.base_url if known else (re.split(r"@(?=https?://)|@", spec, maxsplit=1)[-1],)
