"""Policies for tests: random weights of a few thousand parameters and a word tokenizer, made on the fly; and cases to train them on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from group_parts import WORDS, topic_cases
from peregrm.records import Case

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|> {{ message['content'] }} <|end|> {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|> {% endif %}"
)
SPECIALS = ["<unk>", "<pad>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]


def tiny_policy(folder: Path, words: list[str], *, context: int = 512, seed: int = 0) -> Path:
    """Write a causal language model with random weights over these words (lower case) and return its folder."""
    torch = pytest.importorskip("torch", reason="training needs torch")
    transformers = pytest.importorskip("transformers", reason="training needs transformers")
    tokenizers = pytest.importorskip("tokenizers", reason="training needs tokenizers")
    vocabulary: dict[str, int] = {}
    for word in [*SPECIALS, *words]:
        vocabulary.setdefault(word, len(vocabulary))
    raw = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.normalizer = tokenizers.normalizers.Lowercase()
    raw.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer: Any = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        unk_token="<unk>",
        pad_token="<pad>",
        eos_token="<|end|>",
        additional_special_tokens=SPECIALS[3:],
        model_max_length=context,
        chat_template=TEMPLATE,
    )
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=context,
        pad_token_id=vocabulary["<pad>"],
        bos_token_id=None,
        eos_token_id=vocabulary["<|end|>"],
        tie_word_embeddings=True,
    )
    model = transformers.LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_policy(tmp_path_factory.mktemp("policy") / "tiny", WORDS)


@pytest.fixture(scope="module")
def cases(make_memory: Callable[..., Any]) -> list[Case]:
    return topic_cases(make_memory)
