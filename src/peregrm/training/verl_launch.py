"""A launch of GRPO on verl 0.9, written as a folder: configuration, rows, reward file, start script, and what a person should know.

verl runs on Ray, past one machine, in an environment of its own, so nothing here imports it: the folder is what the two share. Settings are
the paper's where it names them. Templates are in `verl_files/`; whatever comes from outside goes into them quoted for the language it
lands in. The prompt length is that of the longest prompt in the policy's own tokens, because verl cuts a longer one off at its beginning.
Left out on purpose: Megatron, SGLang and the asynchronous trainers, which take further settings in `grpo.yaml`.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module, resources
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError

from peregrm import __version__
from peregrm.errors import DependencyError, InputError, SettingsError
from peregrm.extras import install
from peregrm.records import Part
from peregrm.reward.base import COMPARING
from peregrm.reward.options import RewardOptions
from peregrm.store import held_alone, replace_bytes, replace_text, summarise_validation
from peregrm.templates import environment
from peregrm.text import error_line
from peregrm.training.policies import context_of, training_library
from peregrm.training.rows import PromptRow, PromptRows

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = [
    "FILES",
    "VERL_GIVES_UP_S",
    "Launch",
    "LaunchRows",
    "check_launch",
    "check_rows",
    "make_launch",
    "policy_tokenizer",
    "verl_rows",
    "write_launch",
]

FILES = ("grpo.yaml", "reward.py", "train.parquet", "validation.parquet", "README.md", "run.sh")
"""What a launch consists of, beside a `peregrm.toml` where one is needed; `run.sh` is written last."""

VERL_GIVES_UP_S = 300.0
"""After so many seconds verl's `rate_limited` reward manager puts a 0.0 of its own."""

_SETS = {False: "peregrm", True: "peregrm-flagged"}
"""verl's name of a set, by whether a case is flagged: verl reports sets apart, and flagged cases have no empathy to be averaged."""

_OURS = "# The judges of this launch, written by `peregrm train verl`."
"""The first line of its settings file, by which it is told from somebody's own."""

_TOKENS_AT_ONCE = 16_384
_STEP = 64
"""Prompt lengths are rounded up to a multiple of it."""


class Launch(Part):
    """The settings of a launch. Defaults are the paper's where it names them.

    `save_every` and `eval_every` are steps between checkpoints and between validations; `no_reply_score` the reward of an output without a
    reply (None: such an output has none); `deadline_s` the seconds for one reward. `held_out_judge` judges the validation prompts
    (None: the judge of training).
    """

    model: str
    nodes: Annotated[int, Field(ge=1)] = 1
    gpus_per_node: Annotated[int, Field(ge=1)] = 8
    tensor_parallel: Annotated[int, Field(ge=1)] = 1
    rollouts: Annotated[int, Field(ge=2)] = 8
    batch: Annotated[int, Field(ge=1)] = 8
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-6
    kl: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.001
    max_new_tokens: Annotated[int, Field(ge=1)] = 1024
    epochs: Annotated[int, Field(ge=1)] = 1
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    lora_rank: Annotated[int, Field(ge=0)] = 0
    save_every: Annotated[int, Field(ge=1)] = 20
    eval_every: Annotated[int, Field(ge=1)] = 20
    seed: Annotated[int, Field(ge=0)] = 0
    held_out_judge: str | None = None
    no_reply_score: Annotated[float, Field(allow_inf_nan=False)] | None = None
    on_failure: Literal["raise", "nan"] = "raise"
    deadline_s: Annotated[float, Field(gt=0, lt=VERL_GIVES_UP_S)] = 240.0


@dataclass(frozen=True)
class LaunchRows:
    """The prompts of a launch, by split, and the most tokens that a prompt may have in the policy's context.

    `opened` is the tag of thinking that the policy's chat template opens in every prompt, if it does.
    """

    train: PromptRows
    validation: PromptRows
    room: int
    opened: str = ""

    @property
    def all(self) -> list[PromptRow]:
        """The rows of both splits."""
        return [*self.train.rows, *self.validation.rows]

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return max(row.tokens for row in self.all)

    @property
    def prompt_length(self) -> int:
        """What verl is told: room for every prompt."""
        return min(self.room, ceil(self.longest / _STEP) * _STEP)

    def steps_per_epoch(self, launch: Launch) -> int:
        """Return how many whole batches one epoch has; verl drops the rest."""
        return len(self.train.rows) // launch.batch


def make_launch(**settings: Any) -> Launch:
    """Return the settings of a launch; raises `SettingsError` for those that make no sense."""
    try:
        return Launch.model_validate(settings)
    except ValidationError as error:
        raise SettingsError(f"launch: {summarise_validation(error)}") from None


def policy_tokenizer(model: str) -> tuple[Any, int]:
    """Return the tokenizer of a policy and the most tokens of its context; the weights are not loaded.

    Raises `SettingsError` for a model that verl could not train, `DependencyError` without transformers.
    """
    if model == "embedded" or model.startswith("gguf:"):
        raise SettingsError(f"{model}: verl trains a folder of transformers weights or the name of a model on a hub")
    transformers = training_library("transformers")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(model)
        config = transformers.AutoConfig.from_pretrained(model)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise SettingsError(f"{model}: its tokenizer cannot be loaded: {error_line(error)}") from None
    if not tokenizer.chat_template:
        raise SettingsError(f"{model}: its tokenizer has no chat template, so there is no way to show it a message")
    return tokenizer, context_of(config, tokenizer)


def check_launch(launch: Launch, options: RewardOptions) -> None:
    """Raise `SettingsError` where verl could not do what is asked."""
    gpus = launch.nodes * launch.gpus_per_node
    replies = launch.batch * launch.rollouts
    if replies % gpus:
        raise SettingsError(
            f"{launch.batch} prompts with {launch.rollouts} replies each make {replies} replies a step, and {gpus} GPUs cannot share them "
            "equally"
        )
    if launch.gpus_per_node % launch.tensor_parallel:
        raise SettingsError(
            f"{launch.tensor_parallel} GPUs a copy of the policy do not divide {launch.gpus_per_node} GPUs of a node"
        )
    if options.reward in COMPARING or len(options.judges) != 1:
        what = f"the reward {options.reward!r}" if options.reward in COMPARING else f"{len(options.judges)} judges"
        raise SettingsError(
            f"verl hands over one reply at a time, and {what} cannot be used with it: one judge, replies one by one"
        )


def check_rows(rows: LaunchRows, launch: Launch) -> None:
    """Raise `InputError` where there are too few prompts for verl."""
    if not rows.steps_per_epoch(launch):
        raise InputError(f"{len(rows.train.rows)} training prompts are less than one batch of {launch.batch}")
    if not rows.validation.rows:
        raise InputError(
            "there are no users for validation, which verl wants: a dataset of at least three users has some"
        )


def verl_rows(rows: Sequence[PromptRow], split: str) -> list[dict[str, Any]]:
    """Return rows in verl's format. The case itself is in `extra_info`: verl writes `ground_truth`, its id, into logs."""
    return [
        {
            "data_source": _SETS[bool(row.case.flags)],
            "prompt": row.chat,
            "ability": "empathy",
            "reward_model": {"style": "judge", "ground_truth": row.case.id},
            "extra_info": {
                "index": number,
                "split": split,
                "user_id": row.case.user_id,
                "memories_left_out": row.memories_left_out,
                "case": row.case.model_dump_json(),
            },
        }
        for number, row in enumerate(rows)
    ]


def write_launch(
    folder: Path, rows: LaunchRows, launch: Launch, options: RewardOptions, settings_file: str | None = None
) -> None:
    """Write the launch into `folder`; `run.sh` comes last, so that half a launch cannot be started.

    `settings_file` is the text of a `peregrm.toml` that the judges need. Raises `SettingsError` for settings verl could not use,
    `InputError` for too few prompts, for a folder where training has begun or that has a settings file of its own and for one whose name
    run.sh could not hand on, `ArtifactError` where another command is at work in it, `DependencyError` without pyarrow.
    """
    check_launch(launch, options)
    check_rows(rows, launch)
    folder = folder.resolve()
    if re.search(r"[\x00-\x1f\x7f$]", str(folder)):
        raise InputError(f"{str(folder)!r}: a launch goes into a folder without `$` and control characters in its path")
    with held_alone(folder):
        _write(folder, rows, launch, options, settings_file)


def _write(folder: Path, rows: LaunchRows, launch: Launch, options: RewardOptions, settings_file: str | None) -> None:
    if (folder / "checkpoints").exists():
        raise InputError(f"{folder}: training has begun in here; write the launch into another folder")
    known = folder / "peregrm.toml"
    if known.exists() and not known.read_text(encoding="utf-8", errors="replace").startswith(_OURS):
        raise InputError(f"{known}: a settings file that belongs to no launch; write the launch into another folder")
    view = _view(folder, rows, launch, options, settings_file)
    texts = {name: _rendered(f"{name}.jinja", view) for name in ("grpo.yaml", "README.md", "run.sh")}
    texts["reward.py"] = (_files() / "reward.py").read_text(encoding="utf-8")
    tables = {f"{name}.parquet": _table(getattr(rows, name).rows, name) for name in ("train", "validation")}
    (folder / "run.sh").unlink(missing_ok=True)
    for name, data in tables.items():
        replace_bytes(folder / name, data)
    if settings_file is None:
        known.unlink(missing_ok=True)  # of a launch written in here before
    else:
        replace_bytes(known, f"{_OURS}\n\n{settings_file}".encode(), mode=0o600)
    for name in ("grpo.yaml", "reward.py", "README.md", "run.sh"):
        replace_text(folder / name, texts[name])
    (folder / "run.sh").chmod(0o755)


def _view(
    folder: Path, rows: LaunchRows, launch: Launch, options: RewardOptions, settings_file: str | None
) -> dict[str, Any]:
    steps = rows.steps_per_epoch(launch)
    left = len(rows.train.rows) - steps * launch.batch
    row_length = rows.prompt_length + launch.max_new_tokens
    longest = max(rows.all, key=lambda row: row.tokens)
    local = Path(launch.model).expanduser()
    return {
        "version": __version__,
        "folder": str(folder),
        "experiment": folder.name,
        "launch": launch,
        "model": str(local.resolve()) if local.exists() else launch.model,
        "steps": steps * launch.epochs,
        "steps_per_epoch": steps,
        "leftover": f"; {left} of {len(rows.train.rows)} prompts, others each epoch, fill no batch" if left else "",
        "longest": longest.tokens,
        "longest_of": f"case {longest.case.id}",
        "prompt_length": rows.prompt_length,
        "row_length": row_length,
        "tokens_per_gpu": max(_TOKENS_AT_ONCE, row_length),
        "reward": _reward_settings(launch, options, rows.opened),
        "reward_name": options.reward,
        "judge": options.judges[0],
        "has_settings": settings_file is not None,
        "told": [*rows.train.told(), *rows.validation.told()],
        **{
            f"{name}_{what}": len({row.case.user_id for row in part.rows}) if what == "users" else len(part.rows)
            for name, part in (("train", rows.train), ("validation", rows.validation))
            for what in ("rows", "users")
        },
    }


def _reward_settings(launch: Launch, options: RewardOptions, opened: str) -> list[tuple[str, str, str]]:
    """Return name, value as YAML and comment of what the reward file is told."""
    own: list[tuple[str, Any, str]] = [
        ("judge", options.judges[0], "Who judges, as `--judge` of peregrm takes it."),
        (
            "held_out_judge",
            launch.held_out_judge,
            "Who judges validation prompts; null: the same judge, and then nobody sees over-optimisation.",
        ),
        (
            "on_failure",
            launch.on_failure,
            "A reply without a reward is an error for verl. `nan` gives up the optimizer step (FSDP only).",
        ),
        (
            "deadline_s",
            launch.deadline_s,
            f"Seconds for one reward, retries and criteria included; stay below verl's {VERL_GIVES_UP_S:g}.",
        ),
        (
            "no_reply_score",
            launch.no_reply_score,
            "The reward of an output whose thinking never ended; null: it has none.",
        ),
        ("opened", opened, "What the prompts end with where the policy's chat template opens its thinking there."),
    ]
    fields = options.model_dump(mode="json", exclude={"judges", "cache"})
    texts = [(name, _yaml(value), comment) for name, value, comment in own]
    texts += [
        (
            "cache",
            "${peregrm.folder}/calls.sqlite",
            "The judge's answers. A local disk serves as well; null: nothing is kept.",
        ),
        ("log", "${peregrm.folder}/rewards.jsonl", "A line for every reply."),
    ]
    first = "The reward itself: `RewardOptions` of peregrm."
    return texts + [(name, _yaml(value), "" if n else first) for n, (name, value) in enumerate(fields.items())]


def _table(rows: Sequence[PromptRow], split: str) -> bytes:
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise DependencyError(f"train.parquet needs pyarrow, which is not installed: {install('data')}") from None
    text, number = arrow.string(), arrow.int64()
    info = [("index", number), ("split", text), ("user_id", text), ("memories_left_out", number), ("case", text)]
    schema = arrow.schema(
        [
            ("data_source", text),
            ("prompt", arrow.list_(arrow.struct([("role", text), ("content", text)]))),
            ("ability", text),
            ("reward_model", arrow.struct([("style", text), ("ground_truth", text)])),
            ("extra_info", arrow.struct(info)),
        ]
    )
    buffer = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(verl_rows(rows, split), schema=schema), buffer, compression="zstd")
    return buffer.getvalue()


def _yaml(value: Any) -> str:
    """Return a value as YAML in one line that OmegaConf reads as it is: JSON, with interpolations escaped."""

    def escaped(part: Any) -> Any:
        if isinstance(part, str):
            return re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + "\\${", part)
        if isinstance(part, Mapping):
            return {key: escaped(one) for key, one in part.items()}
        return [escaped(one) for one in part] if isinstance(part, (list, tuple)) else part

    text = json.dumps(escaped(value), ensure_ascii=False)
    return re.sub(
        r"[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]", lambda found: f"\\u{ord(found[0]):04x}", text
    )


def _files() -> Any:
    return resources.files("peregrm.training") / "verl_files"


def _rendered(name: str, view: Mapping[str, Any]) -> str:
    return _environment().get_template(name).render(view)


@cache
def _environment() -> Environment:
    made = environment(
        _files(), escape=False, keep_trailing_newline=True
    )  # each value is quoted by a filter, or is a number
    made.filters["yaml"] = _yaml
    made.filters["code"] = lambda text: re.sub(r"[`|\x00-\x1f]", " ", str(text))
    made.filters["plain"] = lambda text: re.sub(r"[`<>|\x00-\x1f]", " ", str(text))
    return made
