"""A scalar reward model: a sequence classifier with one output, run in this process through transformers.

The judge is a path or the name of a model on a hub, with or without `scalar:` in front. It is shown one message of the person (who they
are, what is known, the situation, the query) and the reply as the assistant's turn of its chat template, or fenced at the end where its
tokenizer has no template. `values` and `scores` hold `logit`, on the model's own scale. Total: (1 + x / (1 + |x|)) / 2 for a logit x, 0
to 1; it orders replies as the logits do, does not level off for large ones as the logistic function would, and has a lowest value for an
empty reply.

A text longer than the model takes is a failure of that reply, never cut; so is a logit that is not finite. The words of special tokens
in a text from outside are broken up, so that a reply cannot end its own turn. The model is deterministic: there is one trial, whatever
`samples` says, and no call cache. Calls: one a reply, 8 for a group of 8, in one batch where the tokenizer can pad. Left out on purpose:
code that comes with a model (`trust_remote_code`), and models with several outputs.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any, ClassVar, NamedTuple

from peregrm.errors import DependencyError, SettingsError
from peregrm.models.base import Model
from peregrm.models.special_tokens import defused, special_tokens
from peregrm.prompts import Untrusted, prompt_hash, render
from peregrm.records import Case, Failure, Judgement, Reply, Reward, Usage, content_id
from peregrm.reward.asking import shown
from peregrm.reward.options import RewardOptions
from peregrm.reward.rivals.common import EMPTY, Rival, mean_value, reward_of
from peregrm.text import error_line

__all__ = ["PROMPT", "Scalar", "shown_ids", "squashed"]

PROMPT = "rival_scalar"
PREFIX = "scalar:"
_BATCH = 8
_NO_LIMIT = 1_000_000


class Scalar(Rival):
    """A trained reward model with one number a reply."""

    method: ClassVar[str] = "scalar"

    def __init__(self, options: RewardOptions, judge: Model | str) -> None:
        super().__init__(options, judge)
        if not isinstance(judge, str) or judge == "embedded" or judge.startswith("gguf:") or "://" in judge:
            name = judge if isinstance(judge, str) else judge.name
            raise SettingsError(
                f"the judge of the reward 'scalar' is the path of a sequence classifier (--judge scalar:PATH), not {name!r}"
            )
        self._path = judge.removeprefix(PREFIX)
        self._classifier: _Classifier | None = None
        self._thread: ThreadPoolExecutor | None = None

    @property
    def judge_name(self) -> str:
        """`scalar:` and the path."""
        return f"{PREFIX}{self._path}"

    async def judge_said(self, case: Case, replies: Sequence[Reply]) -> list[list[Judgement]]:
        """Score replies in a thread of their own; the first call loads the model.

        Raises `DependencyError` without torch or transformers, and `SettingsError` where the model cannot be used.
        """
        if not replies:
            return []
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=self.method)
        loop = asyncio.get_running_loop()
        outcomes = await loop.run_in_executor(self._thread, self._outcomes, case, [reply.text for reply in replies])
        return [[self._judgement(r, outcome)] for r, outcome in zip(replies, outcomes, strict=True)]

    def _outcomes(self, case: Case, texts: Sequence[str]) -> list[_Outcome]:
        if self._classifier is None:
            self._classifier = _Classifier(self._path)
        return self._classifier.outcomes(case, texts)

    def _judgement(self, reply: Reply, outcome: _Outcome) -> Judgement:
        result: dict[str, Any] = (
            {"failure": outcome.failure}
            if outcome.failure
            else {"values": [("logit", outcome.logit)], "raw": str(outcome.logit)}
        )
        return Judgement.model_validate(
            {
                "case_id": reply.case_id,
                "reply_id": reply.id,
                "criteria_id": None,
                "judge": self.judge_name,
                "aspect": self.method,
                "trial": 0,
                "prompt": f"{PROMPT}@{prompt_hash(PROMPT)}",
                "call": content_id("call", [self.judge_name, reply.case_id, reply.text]),
                "usage": Usage(calls=int(outcome.ran), input_tokens=outcome.tokens if outcome.ran else 0),
                **result,
            }
        )

    def of_empty(self, reply: Reply) -> list[Judgement]:
        """Return a judgement that holds `lowest` and no logit: the total is 0 by rule."""
        lowest = {"values": [("lowest", 1.0)], "analysis": EMPTY}
        common = {"case_id": reply.case_id, "reply_id": reply.id, "criteria_id": None, "judge": self.judge_name}
        return [Judgement.model_validate({**common, "aspect": self.method, "trial": 0, **lowest})]

    def reward(self, case: Case, reply: Reply, judgements: Sequence[Judgement]) -> Reward:
        """Return the squashed logit."""
        if any(judgement.analysis == EMPTY for judgement in judgements):
            return reward_of(self.rules, case, reply, judgements, scores={"logit": None}, before=0.0)
        logit = mean_value(judgements, self.method, "logit", self.options.quorum)
        before = None if logit is None else squashed(logit)
        return reward_of(self.rules, case, reply, judgements, scores={"logit": logit}, before=before)

    async def aclose(self) -> None:
        """Wait for what is being scored and let go of the model."""
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(thread.shutdown, wait=True, cancel_futures=True)
        self._classifier = None


def squashed(logit: float) -> float:
    """Return a number of 0 to 1 that grows with the logit; 0.5 for 0."""
    return (1 + logit / (1 + abs(logit))) / 2


def shown_ids(tokenizer: Any, case: Case, text: str, special: Sequence[str]) -> list[int]:
    """Return what a classifier with this tokenizer is shown of a case and a reply, as token ids; nothing is cut.

    `special` are the tokenizer's special tokens. Raises `SettingsError` where its chat template fails.
    """
    values = {name: Untrusted(defused(value, special)) for name, value in shown(case).items()}
    reply = Untrusted(defused(text, special))
    templated = bool(tokenizer.chat_template)
    (message,) = render(PROMPT, **values, reply=None if templated else reply)
    whole = message.content
    if templated:
        turns = [{"role": "user", "content": whole}, {"role": "assistant", "content": str(reply)}]
        whole = _templated(tokenizer, turns)
    ids: list[int] = tokenizer(whole, add_special_tokens=not templated, truncation=False, verbose=False)["input_ids"]
    return ids


def _templated(tokenizer: Any, turns: list[dict[str, str]]) -> str:
    from jinja2 import TemplateError

    try:
        text: str = tokenizer.apply_chat_template(turns, tokenize=False)
    except TemplateError as error:
        raise SettingsError(f"{tokenizer.name_or_path}: its chat template fails: {error_line(error)}") from None
    return text


class _Outcome(NamedTuple):
    """What came of one text: a logit or a failure; `ran` says whether the model saw it."""

    tokens: int
    ran: bool = False
    logit: float = 0.0
    failure: Failure | None = None


class _Classifier:
    """A tokenizer and a model with one output, loaded from `path`. Used by one thread at a time."""

    def __init__(self, path: str) -> None:
        self._torch, transformers = _libraries()
        try:
            self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(path)
            model, loading = transformers.AutoModelForSequenceClassification.from_pretrained(
                path, output_loading_info=True
            )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            raise SettingsError(f"{path}: not a model for sequence classification: {error_line(error)}") from None
        if loading["missing_keys"]:
            missing = ", ".join(sorted(loading["missing_keys"])[:3])
            raise SettingsError(f"{path}: its head was never trained, the file lacks {missing}: it is no reward model")
        if model.config.num_labels != 1:
            raise SettingsError(f"{path}: it has {model.config.num_labels} outputs, and a reward model has one")
        self._device = "cuda" if self._torch.cuda.is_available() else "cpu"
        self._model: Any = model.eval().to(self._device)
        self._limit = self._longest()
        self._special = special_tokens(self._tokenizer)
        pad = self._tokenizer.pad_token_id
        can_pad = pad is not None and pad == model.config.pad_token_id and pad != self._tokenizer.eos_token_id
        self._batch = _BATCH if can_pad else 1

    def _longest(self) -> int:
        positions = getattr(self._model.config.get_text_config(), "max_position_embeddings", None) or _NO_LIMIT
        return int(min(self._tokenizer.model_max_length, positions))

    def outcomes(self, case: Case, texts: Sequence[str]) -> list[_Outcome]:
        """Return what comes of each reply's text, in order."""
        encoded = [shown_ids(self._tokenizer, case, text, self._special) for text in texts]
        outcomes = {n: _too_long(len(ids), self._limit) for n, ids in enumerate(encoded) if len(ids) > self._limit}
        fitting = [n for n in range(len(texts)) if n not in outcomes]
        for start in range(0, len(fitting), self._batch):
            places = fitting[start : start + self._batch]
            outcomes.update(zip(places, self._run([encoded[n] for n in places]), strict=True))
        return [outcomes[n] for n in range(len(texts))]

    def _run(self, batch: Sequence[list[int]]) -> list[_Outcome]:
        torch = self._torch
        longest = max(map(len, batch))
        pad = self._tokenizer.pad_token_id or 0  # of no effect where there is nothing to pad
        ids = [[*row, *[pad] * (longest - len(row))] for row in batch]
        mask = [[1] * len(row) + [0] * (longest - len(row)) for row in batch]
        try:
            with torch.inference_mode():
                output = self._model(
                    input_ids=torch.tensor(ids, device=self._device),
                    attention_mask=torch.tensor(mask, device=self._device),
                )
            logits = output.logits[:, 0].float().tolist()
        except (RuntimeError, IndexError) as error:
            failure = Failure(stage=Scalar.method, kind="model_error", reason=error_line(error))
            return [_Outcome(len(row), ran=True, failure=failure) for row in batch]
        return [_outcome(len(row), logit) for row, logit in zip(batch, logits, strict=True)]


def _outcome(tokens: int, logit: float) -> _Outcome:
    if not math.isfinite(logit):
        failure = Failure(stage=Scalar.method, kind="not_finite", reason=f"the model gave {logit}")
        return _Outcome(tokens, ran=True, failure=failure)
    return _Outcome(tokens, ran=True, logit=round(logit, 6))  # what lies behind depends on how the batch was padded


def _too_long(tokens: int, limit: int) -> _Outcome:
    reason = f"case and reply have {tokens} tokens, the model takes {limit}; nothing is cut"
    return _Outcome(tokens, failure=Failure(stage=Scalar.method, kind="too_long", reason=reason))


def _libraries() -> tuple[Any, Any]:
    try:
        return import_module("torch"), import_module("transformers")
    except ImportError as error:
        raise DependencyError(
            f"a scalar reward model needs torch and transformers: pip install torch transformers ({error})"
        ) from None
