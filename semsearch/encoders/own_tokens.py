"""Which tokens of a text are its own: neither special ones nor its prompt's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from semsearch.encoders.tokens import Tokenized, Tokens

if TYPE_CHECKING:
    from semsearch.types import Bools, Ints


class OwnTokens:
    """Finds the own tokens of texts that were tokenized with ``prompt`` before them.

    ``cut_left`` says that texts that are too long lose their beginning, the prompt first.
    """

    def __init__(self, tokens: Tokens, prompt: str, *, cut_left: bool) -> None:
        self._before = tokens.prompt_length("")
        self._after = tokens.special_tokens - self._before
        self._cut_left = cut_left
        whole = tokens.tokenize([prompt])[0].ids
        self._prompt = whole[self._before : len(whole) - self._after]

    def marked(self, rows: Sequence[Tokenized], width: int) -> Bools:
        """Bool (n, width): where the own tokens stand in texts padded at the end to ``width``."""
        column = np.arange(width)
        starts = np.array([[self._start(row)] for row in rows])
        stops = np.array([[len(row.ids) - self._after] for row in rows])
        marks: Bools = (column >= starts) & (column < stops)
        return marks

    def _start(self, row: Tokenized) -> int:
        """The first own token: what follows those shared with the prompt.

        A token that ends the prompt and begins the text, as in "query: x" the one for " x" does in
        many vocabularies, is the text's.
        """
        if not len(self._prompt):
            return self._before
        lost = row.length - len(row.ids) if self._cut_left else 0
        prompt = self._prompt[lost:]
        found: Ints = row.ids[self._before : len(row.ids) - self._after][: len(prompt)]
        other = np.flatnonzero(found != prompt[: len(found)])
        return self._before + (int(other[0]) if len(other) else len(found))
