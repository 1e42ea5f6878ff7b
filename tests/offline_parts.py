"""What the tests of SFT, DPO and the reward model share: a tiny policy, examples for it, and runs that are stopped in the middle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from peregrm.models.base import Message
from peregrm.records import Case
from peregrm.training.policies import Lora, Policy
from peregrm.training.rows import PromptRow

__all__ = ["BAD", "GOOD", "LORA", "WORDS", "prompts", "quiet", "same_weights", "stopping", "tiny"]

WORDS = [*"you are so tired today rest a while then walk the dog hello my friend what now not good yes no".split()]  # noqa: SIM905
GOOD = "rest a while then walk the dog"
BAD = "no you are not tired"
LORA = Lora(rank=4, alpha=8)


def tiny(folder: Path, *, lora: Lora | None = None, context: int = 512) -> Policy:
    """Return a policy of random weights, the same every time."""
    import torch

    from peregrm.training.policies import load_policy
    from training.conftest import tiny_policy

    torch.set_num_threads(1)
    path = folder if folder.exists() else tiny_policy(folder, WORDS, context=context)
    torch.manual_seed(1)
    return load_policy(str(path), lora=lora, device="cpu")


def prompts(case: Case, count: int) -> list[PromptRow]:
    """Return different prompts to the case's user."""
    texts = [" ".join(WORDS[(n + k) % len(WORDS)] for k in range(4)) for n in range(count)]
    cases = [case.model_copy(update={"query": text, "user_id": f"user{n}"}) for n, text in enumerate(texts)]
    return [PromptRow(one, (Message(role="user", content=one.query),), 8) for one in cases]


def quiet(line: str) -> None:
    """Hear nothing."""


def stopping(after: int) -> Callable[[str], None]:
    """Return a listener that stops a run, as Ctrl-C does, once it has told of so many steps."""
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        if sum(one.startswith("step ") for one in told) > after:
            raise KeyboardInterrupt

    return tell


def same_weights(one: Path, other: Path) -> bool:
    """Tell whether the weights in two folders are the same numbers."""
    tensors = [_tensors(folder) for folder in (one, other)]
    return tensors[0].keys() == tensors[1].keys() and all(
        tensors[0][name].equal(tensors[1][name]) for name in tensors[0]
    )


def _tensors(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    files: Sequence[Path] = sorted(folder.glob("*.safetensors"))
    return {name: tensor for file in files for name, tensor in load_file(file).items()}
