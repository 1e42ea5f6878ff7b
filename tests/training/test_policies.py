"""Policies are loaded, given an adapter and saved so that they come back, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from peregrm.errors import SettingsError
from peregrm.training.policies import (
    BASE_NAME,
    Lora,
    fingerprint,
    load_policy,
    parameter_counts,
    save_folder,
    save_policy,
    settle_folder,
)

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("peft", reason="training needs peft")

from training.conftest import tiny_policy  # noqa: E402

WORDS = ["the", "garden", "is", "mine"]
LORA = Lora(rank=2, alpha=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_policy(tmp_path_factory.mktemp("policies") / "tiny", WORDS)


def logits(policy: Any) -> Any:
    with torch.no_grad():
        return policy.model.eval()(**policy.tokenizer("the garden is", return_tensors="pt")).logits


def test_weights_come_back_as_they_were(folder: Path, tmp_path: Path) -> None:
    policy = load_policy(str(folder))
    assert (policy.name, policy.base, policy.context) == (str(folder), str(folder), 512)
    assert next(policy.model.parameters()).dtype == torch.float32
    with torch.no_grad():
        policy.model.lm_head.weight += 1
    save_policy(policy, tmp_path / "saved")
    assert logits(load_policy(str(tmp_path / "saved"))).equal(logits(policy))


def test_an_adapter_is_all_that_is_trained_and_saved(folder: Path, tmp_path: Path) -> None:
    policy = load_policy(str(folder), lora=LORA)
    whole, trained = parameter_counts(policy.model)
    assert 0 < trained < whole / 2
    assert logits(policy).equal(logits(load_policy(str(folder))))
    with torch.no_grad():
        for name, value in policy.model.named_parameters():
            if "lora_B" in name:
                value.add_(0.1)
    policy.model.add_adapter("ref", policy.model.peft_config["default"])  # as trainers do
    save_policy(policy, tmp_path / "saved")
    assert not (tmp_path / "saved" / "model.safetensors").exists()
    assert not (tmp_path / "saved" / "ref").exists()
    assert json.loads((tmp_path / "saved" / BASE_NAME).read_text()) == {"base": str(folder)}
    again = load_policy(str(tmp_path / "saved"), trainable=False)
    assert again.base == str(folder)
    assert torch.allclose(logits(again), logits(policy), atol=1e-6)
    assert parameter_counts(again.model)[1] == 0
    assert parameter_counts(load_policy(str(tmp_path / "saved")).model)[1] == trained


def test_what_is_no_policy_is_refused_with_a_word(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be loaded as a causal language model"):
        load_policy(str(tmp_path / "nothing"))
    with pytest.raises(SettingsError, match="no adapter can be put"):
        load_policy(str(folder), lora=Lora(modules=("nowhere",)))
    if not torch.cuda.is_available():
        with pytest.raises(SettingsError, match="no GPU"):
            load_policy(str(folder), device="cuda")


def test_a_policy_without_a_chat_template_is_refused(folder: Path, tmp_path: Path) -> None:
    save_policy(load_policy(str(folder)), tmp_path / "bare")
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        path = tmp_path / "bare" / name
        if name.endswith("json"):
            path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "chat_template"}))
        else:
            path.unlink(missing_ok=True)
    with pytest.raises(SettingsError, match="no chat template"):
        load_policy(str(tmp_path / "bare"))


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "it"
    save_folder(folder, lambda to: (to / "a").write_text("1"))

    def half(to: Path) -> None:
        (to / "a").write_text("2")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        save_folder(folder, half)
    assert (folder / "a").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["it"]
    save_folder(folder, lambda to: (to / "b").write_text("3"))
    assert [path.name for path in folder.iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_a_killed_replacement_is_cleared_up(tmp_path: Path) -> None:
    folder, old, fresh = tmp_path / "it", tmp_path / ".it.old", tmp_path / ".it.new"
    old.mkdir()
    (old / "a").write_text("1")
    fresh.mkdir()
    settle_folder(folder)
    assert (folder / "a").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_a_fingerprint_tells_models_apart_by_what_they_hold(tmp_path: Path) -> None:
    first, same, other = (
        tiny_policy(tmp_path / name, WORDS, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert fingerprint(str(first)) == fingerprint(str(same)) != fingerprint(str(other))
    before = fingerprint(str(first))
    (first / "README.md").write_text("a card decides nothing")
    assert fingerprint(str(first)) == before
    assert fingerprint("owner/name-on-a-hub") == "owner/name-on-a-hub"
    adapter = tmp_path / "adapter"
    save_policy(load_policy(str(first), lora=LORA, device="cpu"), adapter)
    before = fingerprint(str(adapter))
    (first / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    assert fingerprint(str(adapter)) != before  # the weights below it are part of it


def test_a_fingerprint_sees_a_change_anywhere_in_weights_that_were_trained_on(tmp_path: Path) -> None:
    """Of a large file blocks are read: its first and last bytes are among them, and one that lies between is not passed over for long."""
    weights = tmp_path / "model.safetensors"
    size = 6 * 2**20
    weights.write_bytes(bytes(size))
    before = fingerprint(str(tmp_path))
    for place, length in ((0, 1), (size - 1, 1), (size // 2, 2**17)):
        changed = bytearray(size)
        changed[place : place + length] = b"x" * length
        weights.write_bytes(changed)
        assert fingerprint(str(tmp_path)) != before


def test_a_fingerprint_of_a_gguf_file_is_that_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + b"a" * 100)
    before = fingerprint(f"gguf:{path}")
    path.write_bytes(b"GGUF" + b"b" * 100)
    assert fingerprint(f"gguf:{path}") != before
