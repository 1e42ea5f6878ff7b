"""Replies of a policy in this process: batches, stop tokens, samples, and a training that is left alone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from held_out_parts import rows_of, watched_policy
from simulated_judges import many_cases

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("transformers", reason="training needs transformers")

from peregrm.training.generation import Written, write_replies  # noqa: E402
from peregrm.training.policies import Lora  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is_gradient_checkpointing:FutureWarning"
)  # peft asks transformers the old way


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return watched_policy(tmp_path_factory.mktemp("policy"), lora=Lora(rank=2, dropout=0.5))


def texts(written: list[Written]) -> list[str]:
    return [one.reply.text for one in written]


def written_by(policy: Any, cases: int = 5, **options: Any) -> list[Written]:
    rows = rows_of(many_cases(cases, 1))
    rows = [row._replace(messages=row.messages * (n + 1), tokens=8 * (n + 1)) for n, row in enumerate(rows)]
    return write_replies(policy, rows, name="tiny", **{"max_new_tokens": 12, **options})


def test_padding_does_not_change_greedy_replies(policy: Any) -> None:
    """Prompts of five lengths, one at a time and all together."""
    alone, together = written_by(policy, batch_size=1), written_by(policy, batch_size=5)
    assert texts(alone) == texts(together)
    assert len(set(texts(alone))) > 1
    assert [one.case.user_id for one in together] == ["en00", "en01", "en02", "en03", "en04"]
    assert all(one.reply.policy == "tiny" and one.reply.usage.output_tokens <= 12 for one in together)


def test_samples_repeat_with_their_seed_alone(policy: Any) -> None:
    drawn = written_by(policy, temperature=1.0, samples=3, seed=5)
    assert texts(drawn) == texts(written_by(policy, temperature=1.0, samples=3, seed=5))
    assert texts(drawn) != texts(written_by(policy, temperature=1.0, samples=3, seed=6))
    assert [one.reply.policy for one in drawn[:3]] == ["tiny-1", "tiny-2", "tiny-3"]
    assert len({one.reply.text for one in drawn[:3]}) > 1
    assert [one.case.user_id for one in drawn[:4]] == ["en00", "en00", "en00", "en01"]


def test_nothing_of_the_training_is_touched(policy: Any) -> None:
    model = policy.model
    model.train()
    frozen = next(module for module in model.modules() if isinstance(module, torch.nn.Dropout))
    frozen.eval()
    below = model.get_base_model()
    below.generation_config.temperature = 0.3
    settings = copy.deepcopy(below.generation_config)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    written_by(policy, temperature=1.0)
    assert torch.equal(torch.rand(4), expected)
    assert model.training
    assert not frozen.training
    assert below.generation_config == settings
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    frozen.train()


def forced(policy: Any, monkeypatch: pytest.MonkeyPatch, *tokens: str) -> Written:
    """Return the reply of a policy whose weights say these tokens."""
    ids = policy.tokenizer.convert_tokens_to_ids(list(tokens))

    def generate(input_ids: Any, **options: Any) -> Any:
        return torch.cat([input_ids, torch.tensor([ids] * len(input_ids))], dim=1)

    monkeypatch.setattr(policy.model, "generate", generate)
    return written_by(policy, 1, max_new_tokens=len(ids))[0]


def test_a_reply_ends_at_its_stop_token(policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one = forced(policy, monkeypatch, "good", "dog", "<|end|>", "cat", "<pad>")
    assert (one.reply.text, one.cut_off, one.reply.usage.output_tokens) == ("good dog", False, 3)
    other = forced(policy, monkeypatch, "good", "dog")
    assert (other.reply.text, other.cut_off) == ("good dog", True)


def test_a_reply_of_no_tokens_is_an_empty_reply(policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one = forced(policy, monkeypatch, "<|end|>", "<pad>", "<pad>")
    assert (one.reply.text, one.reply.failure, one.cut_off) == ("", None, False)


def test_weights_may_name_further_stop_tokens(policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cat = policy.tokenizer.convert_tokens_to_ids("cat")
    monkeypatch.setattr(policy.model.get_base_model().generation_config, "eos_token_id", [cat])
    assert forced(policy, monkeypatch, "good", "cat", "dog").reply.text == "good cat"


def test_what_ends_a_turn_in_the_template_is_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = watched_policy(tmp_path)
    policy.tokenizer.eos_token = "<|user|>"
    policy.model.generation_config.eos_token_id = policy.tokenizer.eos_token_id
    one = forced(policy, monkeypatch, "good", "<|end|>", "cat")
    assert (one.reply.text, one.cut_off) == ("good", False)


def test_thinking_that_the_template_opens_is_no_reply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = watched_policy(tmp_path)
    policy.tokenizer.chat_template = policy.tokenizer.chat_template.replace(
        "<|assistant|> {%", "<|assistant|> <think>\n{%"
    )
    policy.tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    failure = forced(policy, monkeypatch, "cat", "dog").reply.failure
    assert failure is not None
    assert failure.kind == "unclosed_thinking"
    one = forced(policy, monkeypatch, "cat", "</think>", "dog", "<|end|>")
    assert (one.reply.text, one.reply.thinking) == ("dog", "cat")


def test_tags_around_reasoning_are_read_although_they_are_special(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = watched_policy(tmp_path)
    policy.tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    one = forced(policy, monkeypatch, "<think>", "cat", "</think>", "dog", "<|end|>")
    assert (one.reply.text, one.reply.thinking) == ("dog", "cat")
    failure = forced(policy, monkeypatch, "<think>", "cat", "dog").reply.failure
    assert failure is not None
    assert failure.kind == "unclosed_thinking"


def test_what_cannot_be_is_refused(policy: Any) -> None:
    with pytest.raises(ValueError, match="2 samples at temperature 0"):
        written_by(policy, samples=2)
    with pytest.raises(ValueError, match="pass a context of 512"):
        written_by(policy, max_new_tokens=500)
