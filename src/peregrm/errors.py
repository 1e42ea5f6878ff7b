"""Every error that peregrm raises on purpose.

```
PeregrmError                    one clear line for the person at the terminal; exit code 1
├── InputError                  a file or record the user gave is unusable; names file and line
├── SettingsError               a setting, flag or model name makes no sense
├── ArtifactError               artifacts do not join: a missing, extra or duplicate id, a damaged line
├── PromptError                 a prompt file and the values given to it do not fit
├── DependencyError             an optional package or model file is not installed; says what to install
├── ModelError                  a model call failed; carries the kind, the model and the URL
│   ├── ModelUnavailable        refused, reset, unknown host, 5xx after the last retry
│   ├── ModelAuthError          401 or 403
│   ├── ModelRequestError       another 4xx: the request itself is wrong
│   ├── ModelRateLimited        429 after the last retry
│   ├── ModelTimeout            the call's deadline passed
│   └── ModelProtocolError      the answer is not what the protocol says: HTML, broken JSON, no choices
├── ScriptExhausted             the scripted model was asked more often than its script answers
├── FailureBudgetExceeded       the share of failed calls passed the budget, so the run stops
└── TrainingStopped             training cannot go on; the last whole checkpoint stands
```

A failed *judgement* is not an exception but a value (`peregrm.records.Failure`): it travels with its reason to the report.
Exceptions are for what stops a run. Left out on purpose: errors for programming mistakes, which stay `TypeError` and `ValueError`.
"""

from __future__ import annotations

__all__ = [
    "ArtifactError",
    "DependencyError",
    "FailureBudgetExceeded",
    "InputError",
    "ModelAuthError",
    "ModelError",
    "ModelProtocolError",
    "ModelRateLimited",
    "ModelRequestError",
    "ModelTimeout",
    "ModelUnavailable",
    "PeregrmError",
    "PromptError",
    "ScriptExhausted",
    "SettingsError",
    "TrainingStopped",
]


class PeregrmError(Exception):
    """Base of all errors raised on purpose; its text is one line fit to be shown to a user."""


class InputError(PeregrmError):
    """A file or record given by the user cannot be used. The message starts with `path` or `path:line`."""


class SettingsError(PeregrmError):
    """A setting, flag or model specification is wrong."""


class ArtifactError(PeregrmError):
    """Artifacts of a run do not fit together: an id is missing, unknown or duplicated, or a line is damaged."""


class PromptError(PeregrmError):
    """A prompt file does not exist, is malformed, or was given other values than it declares."""


class DependencyError(PeregrmError):
    """An optional dependency or model file is missing; the message says how to install it."""


class ModelError(PeregrmError):
    """A call to a model failed for good.

    `kind` is a short stable word for counting failures ("refused", "auth", "timeout", ...).
    `fatal` says that further calls to the same model cannot succeed either, so the run stops at once.
    """

    kind: str = "model_error"
    fatal: bool = False

    def __init__(self, message: str, *, kind: str | None = None) -> None:
        super().__init__(message)
        if kind is not None:
            self.kind = kind


class ModelUnavailable(ModelError):
    """Nobody answers: connection refused or reset, unknown host, or 5xx until the last retry."""

    kind = "unavailable"


class ModelAuthError(ModelError):
    """The endpoint rejected the key (401 or 403)."""

    kind = "auth"
    fatal = True


class ModelRequestError(ModelError):
    """The endpoint rejected the request itself (another 4xx, for instance an unknown model)."""

    kind = "request"


class ModelRateLimited(ModelError):
    """The endpoint kept answering 429 until the last retry or the deadline."""

    kind = "rate_limited"


class ModelTimeout(ModelError):
    """The deadline of the call passed."""

    kind = "timeout"


class ModelProtocolError(ModelError):
    """The endpoint answered something that is not a chat completion (HTML, broken JSON, no choices)."""

    kind = "protocol"


class ScriptExhausted(PeregrmError):
    """The scripted model received a request for which its script has no answer."""


class FailureBudgetExceeded(PeregrmError):
    """More calls failed than the budget allows; everything computed so far is on disk."""


class TrainingStopped(PeregrmError):
    """Training cannot go on: gradients are not finite, memory or the disk is full. Nothing corrupt is kept; the last checkpoint stands."""
