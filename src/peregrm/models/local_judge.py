"""A distilled judge in this process: `local:DIR`, a folder that `peregrm train judge` wrote.

It answers the questions of a judge in the shared mode, and no others: the form of the answer is given, and only the scores are asked, each
with its probabilities, so a verdict is always whole and in range. Bystander points come in whole points of 0 to 20, from the mean of five
steps. What it was not asked to learn it does not answer: a failure of kind `not_a_judgement` (any other question, and a judgement with
reasons, which it does not give), `untaught` (dimensions it was not shown) or `context` (a prompt that is too long; nothing is cut).

Requests that wait are read in one batch on a GPU and one after the other on a CPU. A temperature draws the digits by seed and trial, and
leaves their probabilities, whose means the scores are, as they are: several trials tell nothing new. The weights are loaded in a worker
thread at the first call. torch and transformers are imported inside. Left out on purpose: adapters (a trained judge is saved whole), and
models from a hub.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import random
import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from peregrm.errors import (
    DependencyError,
    InputError,
    ModelError,
    ModelProtocolError,
    ModelRequestError,
    ModelUnavailable,
    SettingsError,
)
from peregrm.models.base import Completion, Model, Request, TokenLogprob
from peregrm.models.local_digits import DIGITS, DigitModel, Form, NotFinite, Read, form_of
from peregrm.models.precision import takes_bf16
from peregrm.prompts import prompt_hash, prompt_names
from peregrm.records import Part, Usage
from peregrm.text import error_line

__all__ = [
    "JUDGE_FILE",
    "LOCAL",
    "LocalJudge",
    "Taught",
    "is_local",
    "local_name",
    "local_path",
    "open_digits",
    "read_taught",
    "taught_of",
]

LOCAL = "local:"
"""Before the folder of a distilled judge, in what `--judge` takes and in the judge's name."""

JUDGE_FILE = "peregrm_judge.json"
"""In the folder of a distilled judge: what it was taught."""

_MOST_ROWS = 16
_MOST_TOKENS = 32_768
"""Of one batch on a GPU."""
_BLOCKS = 64
_BLOCK = 1 << 16
_HASH = re.compile(r"@[0-9a-f]{8}$")


class Taught(Part):
    """What a distilled judge learned: whose judgements, from which weights, on which dimensions, and by which prompts (name@hash)."""

    teacher: str
    base: str
    dimensions: tuple[str, ...]
    bystander: bool
    prompts: tuple[str, ...]


def is_local(judge: Model | str) -> bool:
    """Tell whether a judge, or what `--judge` takes, or the name of a judge, is a distilled one."""
    name = judge if isinstance(judge, str) else judge.name
    return name.startswith(LOCAL) and name != LOCAL


def local_path(spec: str) -> Path:
    """Return the folder that `local:DIR` means; raises `InputError` where it is under the home of nobody."""
    try:
        return Path(spec.removeprefix(LOCAL)).expanduser().absolute()
    except RuntimeError as error:
        raise InputError(f"{spec}: this judge cannot be read: {error}") from None


def taught_of(judge: Model | str) -> Taught:
    """Return what a distilled judge was taught, given as `--judge` takes it or as a model; its name holds its folder.

    Raises `InputError` where the folder is not that of a distilled judge, or that judge learned other prompts than today's.
    """
    spec = judge if isinstance(judge, str) else _HASH.sub("", judge.name)
    taught = read_taught(local_path(spec))
    _check_prompts(taught, spec)
    return taught


def _check_prompts(taught: Taught, spec: str) -> None:
    known = {f"{name}@{prompt_hash(name)}" for name in prompt_names()}
    other = [prompt for prompt in taught.prompts if prompt not in known]
    if other:
        raise InputError(
            f"{spec}: it learned to judge by other prompts than those of this version ({', '.join(other)}): teach it again with "
            "`peregrm train judge`"
        )


def local_name(spec: str) -> str:
    """Return the judge's name: `local:DIR@HASH`, with eight digits that change with its files.

    Raises `InputError` where the folder is not that of a distilled judge.
    """
    folder = local_path(spec)
    read_taught(folder)
    files = sorted(path for path in folder.iterdir() if path.is_file())
    stamps = tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    return f"{LOCAL}{folder}@{_hashed(stamps)}"


@lru_cache(maxsize=32)
def _hashed(stamps: tuple[tuple[str, int, int], ...]) -> str:
    """Return eight digits over names, sizes and blocks from all over each file, where weights that were trained anew differ."""
    digest = hashlib.sha256()
    for name, size, _ in stamps:
        path = Path(name)
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            for start in range(0, size, max(_BLOCK, size // _BLOCKS)):
                file.seek(start)
                digest.update(file.read(_BLOCK))
    return digest.hexdigest()[:8]


def read_taught(folder: Path) -> Taught:
    """Return what the judge in a folder was taught; raises `InputError` where it is no folder of a distilled judge."""
    path = folder / JUDGE_FILE
    try:
        return Taught.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError(f"{folder}: no distilled judge: it has no {JUDGE_FILE} (see `peregrm train judge`)") from None
    except (OSError, ValueError, ValidationError) as error:
        raise InputError(f"{path}: cannot be used: {error_line(error)}") from None


class _Work(NamedTuple):
    request: Request
    form: Form
    future: Future[Completion]


class LocalJudge:
    """The judge of `local:DIR` as a `Model`. Raises `InputError` where the folder is not that of a judge who learned today's prompts."""

    concurrency = _MOST_ROWS

    def __init__(self, spec: str) -> None:
        self.path = local_path(spec)
        self.name = local_name(spec)
        self.taught = taught_of(spec)
        self._digits: DigitModel | None = None
        self._waiting: list[_Work] = []
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="peregrm-local")
        self._closed = False

    async def complete(self, request: Request) -> Completion:
        """Answer the question of a judge.

        Raises:
            ModelRequestError: It is another question, or one the judge was not taught, or too long; see above for the kinds.
            ModelProtocolError: A probability is no number (kind `not_finite`).
            ModelUnavailable: The judge was closed, memory ran out (kind `memory`), or the weights could not be run (`error`).
            SettingsError, DependencyError: The weights cannot be loaded.
        """
        if self._closed:
            raise ModelUnavailable(f"{self.name}: the model is closed", kind="closed")
        work = _Work(request, self._checked(request), Future())
        with self._lock:
            self._waiting.append(work)
        self._thread.submit(self._serve)
        return await asyncio.wrap_future(work.future)

    async def aclose(self) -> None:
        """Finish what is being read, and free the memory. Safe to call twice."""
        self._closed = True
        await asyncio.to_thread(self._thread.shutdown, wait=True)
        self._digits = None

    def _checked(self, request: Request) -> Form:
        form = form_of(request.json_schema)
        if isinstance(form, str):
            reason = f"{self.name}: it judges replies in the shared mode, without reasons, and nothing else: {form}"
            raise ModelRequestError(reason, kind="not_a_judgement")
        new = [name for name in form.outer if name and name not in self.taught.dimensions]
        if new or (form.most == 20 and not self.taught.bystander):
            what = ", ".join(new) or "the bystander's points"
            raise ModelRequestError(f"{self.name}: it was never taught {what}", kind="untaught")
        return form

    def _serve(self) -> None:
        """Answer some of what waits, in the worker thread; a call that finds nothing was served along with another."""
        batch: list[_Work] = []
        try:
            digits = self._loaded()
            batch = self._next_batch(digits)
            if batch:
                for work, outcome in zip(batch, self._answers(digits, batch), strict=True):
                    _settle(work.future, outcome)
        except Exception as error:  # noqa: BLE001 - it belongs to those who wait, who would wait for ever
            with self._lock:
                left, self._waiting = self._waiting, [] if not batch else self._waiting
            for work in batch or left:
                _settle(work.future, error)

    def _next_batch(self, digits: DigitModel) -> list[_Work]:
        most = _MOST_ROWS if digits.model.device.type == "cuda" else 1
        with self._lock:
            live = [work for work in self._waiting if not work.future.cancelled()]
            batch = [work for work in live if work.form == live[0].form][:most]
            self._waiting = [work for work in live if all(work is not one for one in batch)]
        return [work for work in batch if work.future.set_running_or_notify_cancel()]

    def _answers(self, digits: DigitModel, batch: Sequence[_Work]) -> list[Completion | ModelError]:
        form = batch[0].form
        room = digits.room(form)
        prompts = [digits.prompt_ids(work.request.messages) for work in batch]
        outcomes: dict[int, Completion | ModelError] = {
            place: ModelRequestError(
                f"{self.name}: the prompt has {len(ids)} tokens and there is room for {room}", kind="context"
            )
            for place, ids in enumerate(prompts)
            if len(ids) > room
        }
        fitting = [place for place in range(len(batch)) if place not in outcomes]
        while fitting:
            count = max(1, min(len(fitting), _MOST_TOKENS // max(len(prompts[place]) for place in fitting)))
            some, fitting = fitting[:count], fitting[count:]
            outcomes.update(
                zip(some, self._read(digits, [batch[n] for n in some], [prompts[n] for n in some]), strict=True)
            )
        return [outcomes[place] for place in range(len(batch))]

    def _read(
        self, digits: DigitModel, batch: Sequence[_Work], prompts: Sequence[list[int]]
    ) -> Sequence[Completion | ModelError]:
        started = time.monotonic()
        form = batch[0].form
        try:
            found = digits.read(form, prompts)
        except NotFinite as error:
            return [ModelProtocolError(f"{self.name}: {error}", kind="not_finite") for _ in batch]
        except (RuntimeError, MemoryError) as error:
            digits.forget()
            full = isinstance(error, MemoryError) or "out of memory" in str(error) or "allocate" in str(error)
            return [
                ModelUnavailable(f"{self.name}: {error_line(error)}", kind="memory" if full else "error") for _ in batch
            ]
        seconds = (time.monotonic() - started) / len(batch)
        text, places = digits.form_ids(form)
        return [
            self._completion(
                work,
                read,
                Usage(
                    calls=1,
                    input_tokens=len(ids) + len(text),
                    output_tokens=len(places),
                    cached_tokens=read.reused,
                ),
                seconds,
            )
            for work, read, ids in zip(batch, found, prompts, strict=True)
        ]

    def _completion(self, work: _Work, read: Read, usage: Usage, seconds: float) -> Completion:
        form, wanted = work.form, work.request.top_logprobs
        chunks = form.chunks()
        points = form.most != 5
        said = (
            [str(round(form.value(mean))) for mean in read.expected] if points else _chosen(work.request, read.logprobs)
        )
        text = "".join(chunk + digit for chunk, digit in zip(chunks, [*said, ""], strict=True))
        tokens: list[TokenLogprob] = []
        for place, chunk in enumerate(chunks if wanted and not points else ()):
            tokens.append(TokenLogprob(token=chunk, logprob=0.0))
            if place < len(said):
                tokens.append(_token(said[place], read.logprobs[place], wanted))
        return Completion(
            text=text, model=self.name, usage=usage, logprobs=tuple(tokens) if tokens else None, seconds=seconds
        )

    def _loaded(self) -> DigitModel:
        if self._digits is None:
            self._digits = open_digits(self.path)
        return self._digits


def _settle(future: Future[Completion], outcome: Completion | BaseException) -> None:
    if future.cancelled():
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _token(digit: str, chances: Sequence[float], wanted: int) -> TokenLogprob:
    ranked = sorted(zip(DIGITS, chances, strict=True), key=lambda pair: -pair[1])
    return TokenLogprob(token=digit, logprob=chances[int(digit) - 1], top=tuple(ranked[:wanted]))


def _chosen(request: Request, places: Sequence[Sequence[float]]) -> list[str]:
    """Return a digit for each place: the likeliest at temperature 0, else one drawn by the seed and the trial."""
    if request.temperature == 0:
        return [max(zip(chances, DIGITS, strict=True), key=lambda pair: (pair[0], pair[1]))[1] for chances in places]
    chance = random.Random(None if request.seed is None else request.seed + request.trial)  # noqa: S311
    return [chance.choices(DIGITS, [math.exp(one / request.temperature) for one in chances])[0] for chances in places]


def open_digits(folder: Path) -> DigitModel:
    """Load the weights of a judge onto the GPU, if there is one; raises `SettingsError` or `DependencyError` where they cannot be."""
    try:
        torch, transformers = import_module("torch"), import_module("transformers")
    except ImportError as error:
        raise DependencyError(
            f"a distilled judge needs torch and transformers: pip install torch transformers ({error})"
        ) from None
    damaged = import_module("safetensors").SafetensorError
    device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = torch.bfloat16 if takes_bf16(torch, device) else torch.float32
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        model = transformers.AutoModelForCausalLM.from_pretrained(str(folder), dtype=precision, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, damaged) as error:
        raise SettingsError(f"{folder}: its weights cannot be loaded: {error_line(error)}") from None
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    context = int(min(tokenizer.model_max_length, positions or tokenizer.model_max_length))
    return DigitModel(model.eval().to(device), tokenizer, context)
