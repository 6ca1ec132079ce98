"""Pairs of texts to the numbers that a cross-encoder reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from semsearch.encoders.batching import rounded
from semsearch.encoders.tokenizer_file import tokenizer_json
from semsearch.encoders.tokens import lower_case, pad_id, without_surrogates
from semsearch.errors import ModelError
from semsearch.ranking.cross_encoder.folder import CrossConfig

if TYPE_CHECKING:
    from semsearch.types import Ints

Pair: TypeAlias = tuple[str, str]
"""A query and a passage."""

Features: TypeAlias = "dict[str, Ints]"
"""``input_ids``, ``attention_mask`` and ``token_type_ids``, each int64 (B, L)."""

_CHARACTERS = 64
"""Characters per token of the maximum length that are tokenized. Real text has 1 to 10."""


class Row(NamedTuple):
    """One pair: ``ids`` int64 (m,) and, of each token, whether it is the second text's."""

    ids: Ints
    types: Ints


class PairTokens:
    """A cross-encoder's tokenizer. Safe to call from several threads.

    A pair that is too long loses the ends of its longer text, as in sentence-transformers: in
    practice the passage's.
    """

    def __init__(self, cross: CrossConfig) -> None:
        """Load the tokenizer. Raises ModelError if the folder has none that can be used."""
        from tokenizers import Tokenizer

        config = cross.model
        text = tokenizer_json(config)
        try:
            self._tokenizer: Any = Tokenizer.from_str(text)
        except Exception as exc:  # the library raises bare Exception
            raise ModelError(f"{config.token_folder}: not a usable tokenizer: {exc}") from exc
        if config.lower_case:
            lower_case(self._tokenizer)
        self.max_length = cross.max_length
        self._prompt = cross.prompt
        if self.max_length <= self._tokenizer.num_special_tokens_to_add(is_pair=True):
            raise ModelError(f"{config.folder}: a maximum length of {self.max_length} is too short")
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(
            self.max_length,
            strategy="longest_first",
            direction=config.tokenizer.get("truncation_side") or "right",
        )
        self._pad_id = pad_id(self._tokenizer, config)

    def tokenize(self, pairs: Sequence[Pair]) -> list[Row]:
        """Tokenize pairs, in order. Lone surrogates become U+FFFD; nothing is stripped.

        The prompt goes before the query. Of a text of more than 64 characters per token of the
        maximum length only the beginning is looked at.
        """
        bound = self.max_length * _CHARACTERS
        clean = [
            (without_surrogates(self._prompt + query[:bound]), without_surrogates(passage[:bound]))
            for query, passage in pairs
        ]
        return [
            Row(np.array(found.ids, np.int64), np.array(found.type_ids, np.int64))
            for found in self._tokenizer.encode_batch_fast(clean, add_special_tokens=True)
        ]

    def batch(self, rows: Sequence[Row], multiple: int) -> Features:
        """One batch, padded at the end to a multiple of ``multiple`` tokens."""
        need = max(len(row.ids) for row in rows)
        width = max(need, min(rounded(need, multiple), self.max_length))
        ids = np.full((len(rows), width), self._pad_id, dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=np.int64)
        types = np.zeros((len(rows), width), dtype=np.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row.ids)] = row.ids
            mask[i, : len(row.ids)] = 1
            types[i, : len(row.ids)] = row.types
        return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
