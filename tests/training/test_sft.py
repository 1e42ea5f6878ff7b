"""SFT on the best of several replies: real trainers on a tiny model, real effects, and runs that are stopped."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from offline_parts import BAD, GOOD, LORA, prompts, quiet, same_weights, stopping, tiny
from peregrm.errors import ArtifactError, SettingsError, TrainingStopped
from peregrm.records import Case
from peregrm.training.offline.running import CHECKPOINTS, FitSettings, Fitted, finished, steps_of
from peregrm.training.offline.tokens import Encoder, Example
from peregrm.training.policies import Lora, load_policy

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("trl", reason="training needs trl")

from peregrm.training.logs import read_log  # noqa: E402
from peregrm.training.offline.likelihood import log_likelihoods  # noqa: E402
from peregrm.training.offline.sft import train_sft  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is_gradient_checkpointing:FutureWarning"
)  # peft asks transformers the old way

SETTINGS = FitSettings(epochs=3, learning_rate=0.01, batch=4, at_once=2, save_every=2)


def examples_of(folder: Path, case: Case, text: str = GOOD, count: int = 10) -> list[Example]:
    encoder = Encoder(tiny(folder).tokenizer, 512)
    return [made for row in prompts(case, count) if isinstance(made := encoder.example(row, text), Example)]


def run(
    folder: Path, out: Path, case: Case, tell: object = quiet, lora: Lora | None = None, **changes: object
) -> Fitted:
    settings = SETTINGS.model_copy(update=changes)
    examples = examples_of(folder, case)
    return train_sft(tiny(folder, lora=lora), examples, settings, out, {"method": "sft"}, tell)  # type: ignore[arg-type]


@pytest.mark.parametrize("lora", [None, LORA])
def test_the_best_replies_become_likelier_and_others_do_not(lora: Lora | None, case: Case, tmp_path: Path) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    done = run(base, out, case, lora=lora, learning_rate=0.05 if lora else 0.01)
    assert done.steps == steps_of(10, SETTINGS) == len([line for line in read_log(out) if line.kind == "step"])
    assert done.figures["per_token_after"] > done.figures["per_token_before"] + 0.1
    assert done.last_loss < done.first_loss
    before, after = tiny(base), load_policy(str(out / "policy"), device="cpu")
    for text, rises in ((GOOD, True), (BAD, False)):
        examples = examples_of(base, case, text)
        gains = [b - a for a, b in zip(*(log_likelihoods(p, examples) for p in (before, after)), strict=True)]
        assert all(gain > 0.5 for gain in gains) or not rises
        assert rises or sum(gains) < 0.5 * len(gains)
    assert not (out / CHECKPOINTS).exists()


@pytest.mark.parametrize(("lora", "after"), [(None, 5), pytest.param(LORA, 3, marks=pytest.mark.slow)])
def test_a_run_stopped_in_the_middle_ends_with_the_same_weights(
    lora: Lora | None, after: int, case: Case, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    run(base, tmp_path / "whole", case, lora=lora)
    with pytest.raises(KeyboardInterrupt):
        run(base, tmp_path / "parts", case, stopping(after), lora=lora)
    assert (tmp_path / "parts" / CHECKPOINTS).exists()
    assert not (tmp_path / "parts" / "policy").exists()
    half = tmp_path / "parts" / CHECKPOINTS / "checkpoint-999"  # what a kill while writing leaves
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    told: list[str] = []
    run(base, tmp_path / "parts", case, told.append, lora=lora)
    assert told[0].startswith("going on from")
    assert same_weights(tmp_path / "whole" / "policy", tmp_path / "parts" / "policy")
    assert len([line for line in read_log(tmp_path / "parts") if line.kind == "step"]) == steps_of(10, SETTINGS)


def test_the_same_command_again_does_nothing_and_another_is_refused(case: Case, tmp_path: Path) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    first = run(base, out, case, epochs=1.0)
    told: list[str] = []
    assert run(base, out, case, told.append, epochs=1.0) == first
    assert not told
    with pytest.raises(SettingsError, match="another epochs: name another folder"):
        run(base, out, case, epochs=2.0)


@pytest.mark.parametrize("name", ["asked.json", "result.json"])
def test_a_damaged_file_of_a_fit_is_named(name: str, tmp_path: Path) -> None:
    assert finished(tmp_path, {"method": "sft"}, SETTINGS, []) is None
    for damaged in (b"[]", b"{", b"\xff"):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ArtifactError, match=f"{name}: damaged"):
            finished(tmp_path, {"method": "sft"}, SETTINGS, [])


def test_a_gradient_that_is_not_finite_stops_before_a_weight_changes(case: Case, tmp_path: Path) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    policy = tiny(base)
    broken = policy.model.model.layers[0].mlp.up_proj
    calls: list[int] = []

    def spoil(module: object, inputs: object, output: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return output * float("nan") if module.training and sum(map(bool, calls)) > 12 else output  # type: ignore[attr-defined]

    handle = broken.register_forward_hook(spoil)
    with pytest.raises(TrainingStopped, match="is not finite"):
        train_sft(policy, examples_of(base, case), SETTINGS, out, {"method": "sft"}, quiet)
    assert all(parameter.isfinite().all() for parameter in policy.model.parameters())
    assert not (out / "policy").exists()
    handle.remove()
    run(base, out, case)
    run(base, tmp_path / "whole", case)
    assert same_weights(out / "policy", tmp_path / "whole" / "policy")


def refuse(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_the_checkpoint_before_it(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    real = torch.save
    saved: list[int] = []

    def save(*arguments: object, **named: object) -> None:
        saved.append(1)
        if len(saved) > 4:
            raise RuntimeError("PytorchStreamWriter failed writing file: No space left on device")
        real(*arguments, **named)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(TrainingStopped, match="the disk is full"):
        run(base, out, case)
    assert [path.name for path in (out / CHECKPOINTS).iterdir()] == ["checkpoint-2"]
    monkeypatch.undo()
    with monkeypatch.context() as full:
        full.setattr("peregrm.training.offline.sft.save_policy", refuse)
        with pytest.raises(TrainingStopped, match="what was trained could not be written: the disk is full"):
            run(base, out, case)
    assert not (out / "result.json").exists()
    run(base, out, case)
    run(base, tmp_path / "whole", case)
    assert same_weights(out / "policy", tmp_path / "whole" / "policy")


def test_a_reply_is_asked_for_as_it_would_be_written(case: Case, tmp_path: Path) -> None:
    """The prompt's tokens are those of generation, the reply ends with the end of a turn and cannot end it sooner; nothing is cut."""
    policy = tiny(tmp_path / "base")
    tokenizer = policy.tokenizer
    (row,) = prompts(case, 1)
    made = Encoder(tokenizer, 512).example(row, "rest <|end|> a while")
    assert isinstance(made, Example)
    assert tokenizer.decode(made.prompt).split() == [
        *["<|user|>", "you", "are", "so", "tired", "<|end|>", "<|assistant|>"]
    ]
    assert made.reply[-1] == tokenizer.eos_token_id
    assert made.reply.count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(Encoder(tokenizer, 512).example(row, "").reply) == "<|end|>"  # type: ignore[union-attr]
    assert Encoder(tokenizer, 8).example(row, GOOD) == "replies too long for a context of 8 tokens"
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}{% endfor %}"
    with pytest.raises(SettingsError, match="does not show what an assistant says"):
        Encoder(tokenizer, 512)


def test_a_fit_of_one_step_changes_the_weights(case: Case, tmp_path: Path) -> None:
    done = run(tmp_path / "base", tmp_path / "out", case, epochs=1, batch=10, at_once=5)
    assert done.steps == 1
    assert done.figures["per_token_after"] > done.figures["per_token_before"]


def test_a_reply_that_was_cut_off_has_no_end_to_learn(case: Case, tmp_path: Path) -> None:
    tokenizer = tiny(tmp_path / "base").tokenizer
    (row,) = prompts(case, 1)
    whole, cut = (Encoder(tokenizer, 512).example(row, GOOD, cut_off=cut_off) for cut_off in (False, True))
    assert isinstance(whole, Example)
    assert isinstance(cut, Example)
    assert whole.reply == [*cut.reply, tokenizer.eos_token_id]


def test_thinking_that_the_template_opens_is_closed_before_the_reply(case: Case, tmp_path: Path) -> None:
    tokenizer = tiny(tmp_path / "base").tokenizer
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "<|assistant|> {% endif %}", "<|assistant|> <think> {% endif %}"
    )
    (row,) = prompts(case, 1)
    made = Encoder(tokenizer, 512).example(row, "rest </think> a while")
    assert isinstance(made, Example)
    assert tokenizer.decode(made.prompt).split()[-1] == "<think>"
    closing = tokenizer.convert_tokens_to_ids("</think>")
    assert made.reply[0] == closing
    assert made.reply.count(closing) == 1


def test_the_end_of_turn_that_is_learned_stops_generation(case: Case, tmp_path: Path) -> None:
    """The template ends a turn with another token than the tokenizer ends a text."""
    policy = tiny(tmp_path / "base")
    end = policy.tokenizer.eos_token_id
    policy.tokenizer.eos_token = "<|user|>"
    policy.model.generation_config.eos_token_id = policy.tokenizer.eos_token_id
    encoder = Encoder(policy.tokenizer, 512)
    examples = [made for row in prompts(case, 4) if isinstance(made := encoder.example(row, GOOD), Example)]
    assert {made.reply[-1] for made in examples} == {end}
    train_sft(policy, examples, SETTINGS, tmp_path / "out", {"method": "sft"}, quiet)
    kept = load_policy(str(tmp_path / "out" / "policy"), device="cpu").model.generation_config.eos_token_id
    assert set(kept) == {end, policy.tokenizer.eos_token_id}
