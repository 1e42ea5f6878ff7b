"""The chat-completions protocol as bytes: what a request looks like on the wire, and what an answer means.

Pure functions; the calls themselves are in `endpoint`. Servers differ in what they accept, so a request can be
written without the features a server refused. Left out on purpose: streaming and the older completions protocol.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import accumulate
from typing import Any, Literal, get_args

from peregrm.errors import ModelProtocolError
from peregrm.models.base import Completion, Request, TokenLogprob
from peregrm.prompts import render
from peregrm.records import Usage

__all__ = [
    "Feature",
    "one_line",
    "read_completions",
    "refused_feature",
    "request_body",
    "retry_after_s",
    "server_message",
]

Feature = Literal["n", "logprobs", "response_format", "max_tokens"]
"""What a server may refuse: several samples in one call, log-probabilities, structured output, and `max_tokens` by that
name.
"""

_REFUSALS: dict[Feature, re.Pattern[str]] = {
    "n": re.compile(
        r"""\bbest_of\b|(?<!\w)["'`]n["'`]|\bn\s*(?:[<>=!:]|(?:is|must|should|parameter)\b)|\bparameter n\b"""
        r"|\b(?:one|single|multiple|several)(?: \w+)? (?:choice|completion|sample|response)s?\b",
        re.IGNORECASE,
    ),
    "logprobs": re.compile(r"logprobs", re.IGNORECASE),
    "max_tokens": re.compile(r"max_tokens\W{0,3}(?:is|are) not supported", re.IGNORECASE),
    "response_format": re.compile(r"response.?format|json.?schema|grammar|guided|structured", re.IGNORECASE),
}
_MAX_TRAILING_TOKENS = 2
_TERMINAL_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?)?")


def request_body(request: Request, model: str, without: Collection[Feature] = (), n: int = 1) -> dict[str, Any]:
    """Return the JSON body of a request to `model` for `n` samples, written without the features in `without`.

    Without `response_format` the schema is asked for in plain words, at the end of the last system or user message;
    without `n` there is one sample.
    """
    messages = [{"role": message.role, "content": _valid_unicode(message.content)} for message in request.messages]
    body: dict[str, Any] = {"model": model, "messages": messages, "temperature": request.temperature}
    body["max_completion_tokens" if "max_tokens" in without else "max_tokens"] = request.max_tokens
    if request.json_schema is not None:
        if "response_format" in without:
            _ask_in_words(messages, request.json_schema)
        else:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": request.schema_name, "schema": request.json_schema, "strict": True},
            }
    if request.top_logprobs and "logprobs" not in without:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    if request.stop:
        body["stop"] = list(request.stop)
    if request.seed is not None:
        body["seed"] = request.seed + request.trial
    if n > 1 and "n" not in without:
        body["n"] = n
    return body


def _ask_in_words(messages: list[dict[str, str]], schema: Mapping[str, Any]) -> None:
    (message_of_prompt,) = render("schema", schema=json.dumps(schema))
    demand = message_of_prompt.content
    for message in reversed(messages):
        if message["role"] in ("system", "user"):
            message["content"] += f"\n\n{demand}"
            return
    messages.append({"role": "user", "content": demand})


def refused_feature(message: str, body: Mapping[str, Any]) -> Feature | None:
    """Return which feature of `body` the server's error message complains about, or None.

    A message that complains about none of them is put down to `n` where it was sent: leaving that out costs nothing.
    """
    for feature in get_args(Feature):
        if feature in body and _REFUSALS[feature].search(message):
            return feature  # type: ignore[no-any-return]
    return "n" if "n" in body else None


def retry_after_s(header: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks to wait, at least 0; None where it is absent or unreadable."""
    if header is None:
        return None
    if re.fullmatch(r"\s*\d{1,9}(?:\.\d{1,9})?\s*", header, re.ASCII):
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def server_message(text: str) -> str:
    """Return what an error body says, in one line: its error message, else its start; for a web page just that it is
    one.
    """
    if text.lstrip().startswith("<"):
        return "a web page"
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return one_line(text)
    for key in ("error", "message", "detail"):
        if isinstance(data, dict) and data.get(key):
            data = data[key]
    return one_line(data if isinstance(data, str) else json.dumps(data))


def one_line(text: str, limit: int = 300) -> str:
    """Return `text` without what could steer a terminal, white space collapsed, cut after `limit` characters."""
    shown = _TERMINAL_ESCAPE.sub("", _valid_unicode(text))
    line = " ".join("".join(char for char in shown if char.isprintable() or char.isspace()).split())
    return line if len(line) <= limit else line[:limit] + "..."


def read_completions(text: str, model: str, where: str) -> list[Completion | ModelProtocolError]:
    """Read the samples out of the body of a successful answer, at least one, in the order of its choices.

    A choice that cannot be used is an error in its place: of kind `protocol` where it has no message, `no_content` where
    that has no text, `refusal` where it is one. The first that can be used carries the usage of the call.

    Args:
        text: The body.
        model: Stands in the completions where the server does not name its model.
        where: Begins the error messages.

    Raises:
        ModelProtocolError: It is not a chat completion.
    """
    data = _document(text, where)
    choices = data.get("choices")
    if not isinstance(choices, list) or not choices:
        raise _no_message(data, text, where)
    served = _text(data.get("model")) or model
    usage = _usage(data.get("usage"), least_output=sum(map(_shown_tokens, choices)) if len(choices) > 1 else 0)
    samples: list[Completion | ModelProtocolError] = []
    for choice in choices:
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(message, dict):
            samples.append(_no_message(data, text, where))
            continue
        try:
            samples.append(_read_choice(choice, message, served, usage, where))
        except ModelProtocolError as error:
            samples.append(error)
        else:
            usage = Usage()
    return samples


def _read_choice(
    choice: Mapping[str, Any], message: Mapping[str, Any], model: str, usage: Usage, where: str
) -> Completion:
    finish_reason = _text(choice.get("finish_reason")) or "unknown"
    content = _content(message, finish_reason, where)
    return Completion(
        text=content,
        thinking=_text(message.get("reasoning_content")) or _text(message.get("reasoning")),
        finish_reason=finish_reason,
        model=model,
        usage=usage,
        logprobs=_logprobs(choice.get("logprobs"), content),
    )


def _no_message(data: Mapping[str, Any], text: str, where: str) -> ModelProtocolError:
    said = f"; it said: {server_message(text)}" if data.get("error") else ""
    return ModelProtocolError(f"{where}: the answer holds no choices with a message{said}")


def _document(text: str, where: str) -> dict[str, Any]:
    if not text.strip():
        raise ModelProtocolError(f"{where}: the answer is empty")
    if text.lstrip().startswith("<"):
        raise ModelProtocolError(f"{where}: the answer is a web page; is this the address of an API, ending in /v1?")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise ModelProtocolError(f"{where}: the answer is not valid JSON: {one_line(text, 80)}") from None
    if not isinstance(data, dict):
        raise ModelProtocolError(f"{where}: the answer is JSON but not an object")
    return data


def _content(message: Mapping[str, Any], finish_reason: str, where: str) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return _valid_unicode(content)
    if _text(message.get("refusal")):
        raise ModelProtocolError(f"{where}: the model refused: {one_line(message['refusal'])}", kind="refusal")
    why = ""
    if finish_reason == "length":
        why = " before max_tokens was used up, perhaps by its thinking: see thinking_tokens in the settings"
    raise ModelProtocolError(f"{where}: the model wrote no text{why}", kind="no_content")


def _usage(data: object, least_output: int) -> Usage:
    """Read the usage. Some servers report the output of one choice only; `least_output` tokens were seen."""
    counts = data if isinstance(data, dict) else {}
    details = counts.get("prompt_tokens_details")
    reported = all(type(counts.get(name)) is int for name in ("prompt_tokens", "completion_tokens"))
    return Usage(
        calls=1,
        unmetered=0 if reported else 1,
        input_tokens=_count(counts.get("prompt_tokens")),
        output_tokens=max(_count(counts.get("completion_tokens")), least_output if reported else 0),
        cached_tokens=_count(details.get("cached_tokens")) if isinstance(details, dict) else 0,
    )


def _logprobs(data: object, text: str) -> tuple[TokenLogprob, ...] | None:
    entries = data.get("content") if isinstance(data, dict) else None
    if not isinstance(entries, list) or not entries:
        return None
    try:
        tokens = [
            TokenLogprob(
                token=token,
                logprob=entry["logprob"],
                top=tuple((top["token"], top["logprob"]) for top in entry.get("top_logprobs") or ()),
            )
            for entry, token in zip(entries, _token_texts(entries), strict=True)
        ]
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return tuple(_those_of(text, tokens))


def _shown_tokens(choice: object) -> int:
    """Return how many tokens the log-probabilities of a choice show, 0 where there are none."""
    logprobs = choice.get("logprobs") if isinstance(choice, dict) else None
    entries = logprobs.get("content") if isinstance(logprobs, dict) else None
    return len(entries) if isinstance(entries, list) else 0


def _token_texts(entries: list[Any]) -> list[str]:
    """Return the tokens' texts such that a character split over several tokens stands in the last of them."""
    if not all(isinstance(entry.get("bytes"), list) for entry in entries):
        return [entry["token"] for entry in entries]
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return [decoder.decode(bytes(entry["bytes"])) for entry in entries]


def _those_of(text: str, tokens: list[TokenLogprob]) -> list[TokenLogprob]:
    """Cut off thinking before and end marks after the tokens of `text`; return all where `text` is not found in
    them.
    """
    edges = {0: 0}
    for index, end in enumerate(accumulate(len(token.token) for token in tokens), 1):
        edges.setdefault(end, index)
    start = "".join(token.token for token in tokens).rfind(text)
    first, last = edges.get(start), edges.get(start + len(text))
    if start < 0 or first is None or last is None or len(tokens) - last > _MAX_TRAILING_TOKENS:
        return tokens
    return tokens[first:last]


def _text(value: object) -> str:
    return _valid_unicode(value) if isinstance(value, str) else ""


def _count(value: object) -> int:
    return value if type(value) is int and value >= 0 else 0


def _valid_unicode(text: str) -> str:
    """Replace halves of surrogate pairs, which no UTF-8 file or request can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
