"""Count the prompts of a launch with the policy's own tokenizer, where verl is about to run.

`python -m peregrm.training.verl_check FOLDER` is what `run.sh` asks first. verl 0.9.1 cuts off the beginning of a prompt longer than
`data.max_prompt_length`, and goes on with a warning; this stops instead. It reads `grpo.yaml` with omegaconf and tokenizes with
transformers, both of which verl itself needs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from peregrm.errors import InputError, PeregrmError
from peregrm.records import Message
from peregrm.training.policies import training_library
from peregrm.training.rows import prompt_tokens

__all__ = ["Checked", "check_prompts", "main"]

PARTS = ("train.parquet", "validation.parquet")


class Checked(NamedTuple):
    """How many prompts there are, and the tokens of the longest."""

    prompts: int
    longest: int


def check_prompts(folder: Path) -> Checked:
    """Count the prompts of the launch in `folder`.

    Raises `InputError` where one is longer than verl was told, or prompt and reply do not fit the policy, `DependencyError` without the
    libraries.
    """
    config = training_library("omegaconf").OmegaConf.load(folder / "grpo.yaml")
    model, data = str(config.actor_rollout_ref.model.path), config.data
    transformers = training_library("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    longest = 0
    prompts = 0
    for name in PARTS:
        for number, row in enumerate(_rows(folder / name)):
            tokens = prompt_tokens([Message(**message) for message in row["prompt"]], tokenizer)
            if tokens > data.max_prompt_length:
                raise InputError(
                    f"{folder / name}:{number}: {tokens} tokens, and data.max_prompt_length is {data.max_prompt_length}: "
                    "verl would cut off the beginning. Write the launch again with this policy"
                )
            longest, prompts = max(longest, tokens), prompts + 1
    positions = getattr(
        transformers.AutoConfig.from_pretrained(model).get_text_config(), "max_position_embeddings", None
    )
    wanted = data.max_prompt_length + data.max_response_length
    if positions is not None and wanted > positions:
        raise InputError(f"{folder}: prompt and reply may have {wanted} tokens, and {model} takes {positions}")
    return Checked(prompts, longest)


def main(arguments: Sequence[str]) -> int:
    """Check the folder named by the arguments; say what was found, and return 1 where verl should not be started."""
    try:
        checked = check_prompts(Path(arguments[0]))
    except (PeregrmError, OSError, ValueError) as error:
        print(f"peregrm: {error}", file=sys.stderr)
        return 1
    print(f"{checked.prompts} prompts, the longest has {checked.longest} tokens: none will be cut")
    return 0


def _rows(path: Path) -> list[dict[str, Any]]:
    return import_module("pyarrow.parquet").read_table(path).to_pylist()  # type: ignore[no-any-return]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
