"""Texts to token ids, by the model's own tokenizer, never padded or cut behind our back.

The tokenizer's own truncation and padding are switched off: each text's whole length is counted,
then cut here to the model's maximum with its special tokens kept, and the cut is reported.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from semsearch.encoders.folder import ModelConfig
from semsearch.encoders.tokenizer_file import tokenizer_json
from semsearch.errors import ModelError

if TYPE_CHECKING:
    from semsearch.types import Ints

_CHARACTERS = 64
"""Characters per token of the maximum length that are tokenized at first. Real text has 1 to 10."""

MOST_CHARACTERS = 1_000_000
"""Characters of one text that are ever tokenized, so that a 50 MB line costs no gigabytes."""


_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Tokenized:
    """One text: ``ids`` int64 (m,) as the model reads them, cut to its maximum length.

    ``length`` counts the tokens before cutting, special ones included, and ``unknown`` those that
    the vocabulary lacks. Of texts far beyond the maximum length only a beginning is tokenized:
    there both are lower bounds, and ``truncated`` is True.
    """

    ids: Ints
    length: int
    truncated: bool
    unknown: int


class Tokens:
    """A model's tokenizer. Safe to call from several threads."""

    def __init__(self, config: ModelConfig) -> None:
        """Load the tokenizer. Raises ModelError if the folder has none that can be used."""
        from tokenizers import Tokenizer

        text = tokenizer_json(config)
        try:
            self._tokenizer: Any = Tokenizer.from_str(text)
        except Exception as exc:  # the library raises bare Exception
            raise ModelError(f"{config.token_folder}: not a usable tokenizer: {exc}") from exc
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        if config.lower_case:
            lower_case(self._tokenizer)
        self.max_length = config.max_length
        self.pad_id = pad_id(self._tokenizer, config)
        self._unknown_id = _unknown_id(self._tokenizer, config)
        self._prefix, self._suffix = self._special_tokens(config)
        self._cut_left = config.tokenizer.get("truncation_side") == "left"
        if self.max_length <= self.special_tokens:
            raise ModelError(f"{config.folder}: a maximum length of {self.max_length} is too short")

    @property
    def special_tokens(self) -> int:
        """How many special tokens are added to every text."""
        return self._prefix + self._suffix

    def tokenize(self, texts: Sequence[str]) -> list[Tokenized]:
        """Tokenize texts, in order. Lone surrogates become U+FFFD; nothing is stripped."""
        clean = [without_surrogates(text) for text in texts]
        bound = min(self.max_length * _CHARACTERS, MOST_CHARACTERS)
        rows = self._encode([text[:bound] for text in clean])
        results = []
        for text, ids in zip(clean, rows, strict=True):
            used = bound
            while len(ids) <= self.max_length and used < min(len(text), MOST_CHARACTERS):
                used = min(used * 8, MOST_CHARACTERS)  # a long run of characters made few tokens
                ids = self._encode([text[:used]])[0]
            if self._cut_left and used < len(text):
                ids = self._encode([text[-used:]])[0]
            results.append(self._cut(ids, partial=used < len(text)))
        return results

    def framed(self, body: Ints) -> Ints:
        """Ids int64 (m,) of a text with the special tokens that every text gets around them."""
        whole = self._encode([""])[0]
        return np.concatenate((whole[: self._prefix], body, whole[len(whole) - self._suffix :]))

    def length(self, text: str) -> int:
        """Tokens of a text without special ones."""
        return len(self._encode([text])[0]) - self.special_tokens

    def offsets(self, text: str) -> Ints:
        """Where the tokens of a text lie in it, special ones left out: int64 (n, 2), ascending.

        A token is the characters ``start`` to ``end``; several tokens may share a character. At
        most ``MOST_CHARACTERS`` should be asked for at once: it takes some 100 bytes a token.
        """
        clean = text if text.isascii() else _SURROGATE.sub("\ufffd", text)
        encoding = self._tokenizer.encode(clean, add_special_tokens=False)
        found = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        return np.maximum.accumulate(found, axis=0)

    def prompt_length(self, prompt: str) -> int:
        """Tokens of a prompt by itself, special ones before it included."""
        return len(self._encode([prompt])[0]) - self._suffix

    def _encode(self, texts: list[str]) -> list[Ints]:
        batch = self._tokenizer.encode_batch_fast(texts, add_special_tokens=True)
        return [np.array(encoding.ids, dtype=np.int64) for encoding in batch]

    def _cut(self, ids: Ints, *, partial: bool) -> Tokenized:
        unknown = 0 if self._unknown_id is None else int((ids == self._unknown_id).sum())
        if len(ids) <= self.max_length:
            return Tokenized(ids, len(ids), partial, unknown)
        body = ids[self._prefix : len(ids) - self._suffix]
        room = self.max_length - self.special_tokens
        kept = body[len(body) - room :] if self._cut_left else body[:room]
        head, tail = ids[: self._prefix], ids[len(ids) - self._suffix :]
        return Tokenized(np.concatenate((head, kept, tail)), len(ids), True, unknown)

    def _special_tokens(self, config: ModelConfig) -> tuple[int, int]:
        """How many special tokens stand before and after a text."""
        encoding = self._tokenizer.encode("a b", add_special_tokens=True)
        if any(encoding.type_ids):
            raise ModelError(f"{config.folder}: token types other than 0 are not supported")
        mask = list(encoding.special_tokens_mask)
        if all(mask):
            plain = len(self._tokenizer.encode("a b", add_special_tokens=False).ids)
            return 0, len(mask) - plain
        prefix = mask.index(0)
        return prefix, mask[::-1].index(0)


def without_surrogates(text: str) -> str:
    """The text with lone surrogates as U+FFFD, which the tokenizers can read."""
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def lower_case(tokenizer: Any) -> None:
    """Put a lower-casing step first, unless the tokenizer has one, as its library does."""
    from tokenizers import normalizers

    present: Any = tokenizer.normalizer
    whole = isinstance(present, normalizers.Sequence)
    steps: list[Any] = [present[i] for i in range(len(present))] if whole else [present]
    if not any(isinstance(step, normalizers.Lowercase) for step in steps):
        kept = [step for step in steps if step is not None]
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *kept])


def _name(token: Any) -> str | None:
    """A special token's text, which configurations write as a string or as an object."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None


def pad_id(tokenizer: Any, config: ModelConfig) -> int:
    """The padding token's id: models such as MPNet number positions by it."""
    name = _name(config.tokenizer.get("pad_token"))
    if name is not None and (known := tokenizer.token_to_id(name)) is not None:
        return int(known)
    declared = config.transformer.get("pad_token_id")
    return declared if isinstance(declared, int) and declared >= 0 else 0


def _unknown_id(tokenizer: Any, config: ModelConfig) -> int | None:
    """The unknown token's id, or None where the vocabulary covers every byte."""
    name = getattr(tokenizer.model, "unk_token", None) or _name(config.tokenizer.get("unk_token"))
    found = None if name is None else tokenizer.token_to_id(name)
    return None if found is None else int(found)
