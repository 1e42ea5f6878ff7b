"""Policies as weights in this process: loading, adapters, saving. torch, transformers and peft are imported inside.

A policy is named by `embedded` (the default weights, read from their GGUF file), `gguf:PATH`, a folder, the name of a model on a hub, or a
folder that holds an adapter (its base is loaded as the adapter names it). Code that comes with a model is never run. Left out on purpose:
quantised training, and any sharding, which is verl's.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

from peregrm.errors import DependencyError, SettingsError
from peregrm.extras import install
from peregrm.models.embedded import check_gguf, default_gguf
from peregrm.models.precision import takes_bf16
from peregrm.records import Part
from peregrm.text import error_line

__all__ = [
    "BASE_NAME",
    "Lora",
    "Policy",
    "base_of",
    "context_of",
    "fingerprint",
    "load_policy",
    "outline_policy",
    "parameter_counts",
    "quietly",
    "save_folder",
    "save_policy",
    "settle_folder",
    "training_library",
]

BASE_NAME = "peregrm_base.json"
"""Beside an adapter: the name its base was loaded by, because that of a GGUF file is no folder that peft could load."""

GGUF = "gguf:"
EMBEDDED = "embedded"

_READ = (
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "chat_template*",
    "*.safetensors",
    "pytorch_model*.bin",
    "adapter_model.bin",
)
"""Files of a folder that decide what a model is."""

_BLOCK, _BLOCKS = 1 << 16, 64
"""Of a file larger than this many blocks of so many bytes so many are read for its fingerprint, spread from its beginning to its end."""

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bfloat16"]


class Lora(Part):
    """A low-rank adapter: its rank, its scale (alpha / rank multiplies it), dropout, and the modules it stands beside."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"


class Policy(NamedTuple):
    """A causal language model with its tokenizer, on its device.

    `name` is what it was asked for by, `base` that of the weights below an adapter (else the same), and `context` the most tokens of
    prompt and reply together.
    """

    model: Any
    tokenizer: Any
    name: str
    base: str
    context: int


def training_library(name: str) -> Any:
    """Return an imported library of the extra `train`; raises `DependencyError` that says what to install."""
    try:
        return import_module(name)
    except ImportError as error:
        raise DependencyError(
            f"training needs {name.split('.', maxsplit=1)[0]}, which cannot be imported ({error}): {install('train')}"
        ) from None


@contextmanager
def quietly() -> Iterator[None]:
    """Keep the console for what a run has to say: no bars for files, and no notes of these libraries to one another."""
    told = training_library("transformers").utils.logging
    bars = told.is_progress_bar_enabled()
    told.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*is deprecated and will be removed in v6", FutureWarning)
            # peft looks for the config of a base that came from a GGUF file, to see whether the vocabulary grew: it did not
            warnings.filterwarnings("ignore", "Could not find a config file in", UserWarning)
            yield
    finally:
        if bars:
            told.enable_progress_bar()


@quietly()
def load_policy(
    name: str,
    *,
    lora: Lora | None = None,
    device: Device = "auto",
    precision: Precision = "auto",
    trainable: bool = True,
) -> Policy:
    """Load a policy.

    Args:
        name: As the module docstring says.
        lora: Put a fresh adapter beside the weights and train that alone; None: train all weights, or those of the adapter that `name` is.
        device: `auto` takes the GPU where there is one.
        precision: `auto` is bfloat16 on a GPU that has it, float32 else.
        trainable: False for a policy that only writes replies; `lora` is then of no use.

    Raises `SettingsError` where the weights cannot be loaded or have no chat template, `DependencyError` without the libraries.
    """
    torch, transformers = training_library("torch"), training_library("transformers")
    folder = Path(name)
    adapter = folder if (folder / "adapter_config.json").exists() else None
    base = base_of(adapter) if adapter else name
    place = _device(torch, device)
    damage = training_library("safetensors").SafetensorError
    try:
        source = _source(base)
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            name if adapter else source["path"], **_gguf(source, adapter)
        )
        model = transformers.AutoModelForCausalLM.from_pretrained(
            source["path"], dtype=_dtype(torch, precision, place), **_gguf(source)
        )
        _forget_quantisation(model)
        if adapter:
            model = training_library("peft").PeftModel.from_pretrained(model, str(adapter), is_trainable=trainable)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, damage) as error:
        raise SettingsError(f"{name}: cannot be loaded as a causal language model: {error_line(error)}") from None
    if not tokenizer.chat_template:
        raise SettingsError(f"{name}: its tokenizer has no chat template, so there is no way to show it a message")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if adapter is None and lora is not None and trainable:
        model = _with_adapter(model, lora)
    return Policy(model.to(place), tokenizer, name, base, context_of(model.config, tokenizer))


@quietly()
def outline_policy(name: str, *, lora: Lora | None = None) -> Policy:
    """Return a policy as `load_policy` does, with shapes in place of weights, from which a training can be planned in seconds.

    The parameters are on torch's `meta` device: they can be counted, not computed with. Raises `SettingsError` where there is no such model
    or no chat template, `DependencyError` without the libraries.
    """
    torch, transformers = training_library("torch"), training_library("transformers")
    folder = Path(name)
    adapter = folder if (folder / "adapter_config.json").exists() else None
    base = base_of(adapter) if adapter else name
    try:
        source = _source(base)
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            name if adapter else source["path"], **_gguf(source, adapter)
        )
        config = transformers.AutoConfig.from_pretrained(source["path"], **_gguf(source))
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise SettingsError(f"{name}: cannot be read as a causal language model: {error_line(error)}") from None
    if not tokenizer.chat_template:
        raise SettingsError(f"{name}: its tokenizer has no chat template, so there is no way to show it a message")
    _forget_quantisation(model)
    if adapter:
        peft = training_library("peft")
        config = peft.PeftConfig.from_pretrained(str(adapter))
        config.inference_mode = False
        model = peft.get_peft_model(model, config)
    elif lora is not None:
        model = _with_adapter(model, lora)
    return Policy(model, tokenizer, name, base, context_of(model.config, tokenizer))


@quietly()
def save_policy(policy: Policy, folder: Path) -> None:
    """Write weights (an adapter alone where there is one) and tokenizer, so that `load_policy` takes the folder; all of it or nothing."""

    def write(to: Path) -> None:
        # trainers put adapters of their own beside the one that is trained
        adapters = {"selected_adapters": ["default"]} if hasattr(policy.model, "peft_config") else {}
        policy.model.save_pretrained(to, **adapters)
        policy.tokenizer.save_pretrained(to)
        if (to / "adapter_config.json").exists():
            (to / BASE_NAME).write_text(json.dumps({"base": policy.base}) + "\n", encoding="utf-8")

    save_folder(folder, write)


def save_folder(folder: Path, write: Callable[[Path], object]) -> None:
    """Have `write` fill a folder beside `folder`, then put it in its place; what stood there before goes only when the new one is whole.

    Raises whatever `write` raises; nothing of the new folder is left then.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = _beside(folder)
    settle_folder(folder)
    fresh.mkdir()
    try:
        write(fresh)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def settle_folder(folder: Path) -> None:
    """Clear up after a `save_folder` that was killed: bring back what it had put aside, take away what it had begun."""
    fresh, old = _beside(folder)
    if old.exists() and not folder.exists():
        old.rename(folder)
    for left in (fresh, old):
        shutil.rmtree(left, ignore_errors=True)


def _beside(folder: Path) -> tuple[Path, Path]:
    return folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")


def parameter_counts(model: Any) -> tuple[int, int]:
    """Return how many parameters a model has and how many of them are trained."""
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(count for count, _ in counts), sum(count for count, trained in counts if trained)


def base_of(adapter: Path) -> str:
    """Return the name of the weights that the adapter in this folder stands beside."""
    named = adapter / BASE_NAME
    if named.exists():
        return str(json.loads(named.read_text(encoding="utf-8"))["base"])
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    return str(config["base_model_name_or_path"])


def fingerprint(name: str) -> str:
    """Return what changes when the model that is loaded by this name becomes another one; the name itself for a model of a hub.

    16 hex digits of a hash over a folder's files, and over what lies below an adapter; those of `check_gguf` for a GGUF file. Names and
    sizes count, and of large files 64 blocks spread over them (4 MB), not all: weights that were trained on differ nearly everywhere,
    while what their header says stays the same. Where a folder lies does not count.

    Raises `InputError` for a GGUF file that is none, `SettingsError` for a folder that cannot be read.
    """
    if name == EMBEDDED or name.startswith(GGUF):
        return check_gguf(default_gguf() if name == EMBEDDED else Path(name.removeprefix(GGUF)))
    folder = Path(name)
    if not folder.is_dir():
        return name
    seen = hashlib.sha256()
    try:
        for path in sorted({path for pattern in _READ for path in folder.glob(pattern) if path.is_file()}):
            seen.update(f"{path.name}/{path.stat().st_size}/".encode())
            seen.update(_sampled(path))
        if (folder / "adapter_config.json").exists():
            seen.update(fingerprint(base_of(folder)).encode())
    except (OSError, ValueError, KeyError) as error:
        raise SettingsError(f"{name}: cannot be read: {error_line(error)}") from None
    return seen.hexdigest()[:16]


def _sampled(path: Path) -> bytes:
    """Return a hash of a file, or of blocks of it where it is large."""
    size, seen = path.stat().st_size, hashlib.sha256()
    last = max(0, size - _BLOCK)
    places = range(0, size, _BLOCK) if size <= _BLOCK * _BLOCKS else [n * last // (_BLOCKS - 1) for n in range(_BLOCKS)]
    with path.open("rb") as file:
        for place in places:
            file.seek(place)
            seen.update(file.read(_BLOCK))
    return seen.digest()


def _source(name: str) -> dict[str, str]:
    """Return `path` and, for weights in a GGUF file, its name as `file`."""
    if name != EMBEDDED and not name.startswith(GGUF):
        return {"path": name}
    path = default_gguf() if name == EMBEDDED else Path(name.removeprefix(GGUF))
    check_gguf(path)
    return {"path": str(path.parent), "file": path.name}


def _gguf(source: dict[str, str], adapter: Path | None = None) -> dict[str, str]:
    return {"gguf_file": source["file"]} if "file" in source and adapter is None else {}


def _device(torch: Any, device: Device) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("there is no GPU that torch could use here")
    return device


def _dtype(torch: Any, precision: Precision, device: str) -> Any:
    if precision == "auto":
        precision = "bfloat16" if takes_bf16(torch, device) else "float32"
    return getattr(torch, precision)


def _forget_quantisation(model: Any) -> None:
    """Make weights that were read from a GGUF file savable: they are plain numbers now."""
    if getattr(model, "hf_quantizer", None) is not None:
        model.hf_quantizer = None
        model.is_quantized = False
        del model.config.quantization_config


def _with_adapter(model: Any, lora: Lora) -> Any:
    peft = training_library("peft")
    modules = lora.modules if isinstance(lora.modules, str) else list(lora.modules)
    try:
        config = peft.LoraConfig(
            r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=modules, task_type="CAUSAL_LM"
        )
        return peft.get_peft_model(model, config)
    except ValueError as error:
        raise SettingsError(f"no adapter can be put beside these weights: {error_line(error)}") from None


def context_of(config: Any, tokenizer: Any) -> int:
    """Return the most tokens that a model of transformers reads and writes together, by its configuration and its tokenizer."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(min(tokenizer.model_max_length, positions or tokenizer.model_max_length))
