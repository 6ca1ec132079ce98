"""The encoder: texts in, unit vectors out, with what the tokenizer saw on the way."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from semsearch.encoders.batching import batches, padded
from semsearch.encoders.computing import Work, computed
from semsearch.encoders.fingerprint import fingerprint
from semsearch.encoders.folder import ModelConfig, read_folder
from semsearch.encoders.own_tokens import OwnTokens
from semsearch.encoders.resolve import resolve_model
from semsearch.encoders.runtimes.choose import Precision, RuntimeName, open_runtime
from semsearch.encoders.runtimes.contract import Runtime
from semsearch.encoders.tokens import Tokenized, Tokens
from semsearch.errors import InputError, ModelError
from semsearch.threads import Pool
from semsearch.vectors import unit, widen

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from semsearch.types import Bools, Floats, Ints

log = logging.getLogger("semsearch")

_Window: TypeAlias = tuple[int, list[Tokenized]]
"""Where a window of texts begins, and its tokens."""

TokenSink: TypeAlias = "Callable[[Ints, Ints, Floats], None]"
"""What takes the vectors of texts' tokens: ``sink(positions, lengths, rows)`` for each batch.

``positions`` int64 (B,) are the texts' in the input (of equal ones the first's), ``lengths`` int64
(B,) how many tokens each has, ``rows`` float32 (sum of lengths, token_dim) their vectors, text
after text in token order, of unit length (or zero). Special tokens, the prompt's, and what was cut
off are left out, so a text may have none. It is called in the thread that encodes, and may keep
the arrays.
"""

_WINDOW = 2_048
"""Texts that are tokenized and sorted together; the next windows' are tokenized meanwhile."""

_LARGEST = 1.01
"""More than a row of unit length holds anywhere."""

_AHEAD = 2
"""Windows in the making: while one is cut in Python, the tokenizer's own threads have the other.

Threads do: of a text of 330 tokens Python holds its lock for 17 us, and a core tokenizes for 600,
so processes would pay from some 35 cores on (on 2 cores they took as long as threads).
"""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Encoded texts, in input order.

    ``vectors`` float32 (n, dim), rows of unit length; ``tokens`` int64 (n,), each text's whole
    length before cutting, special tokens and prompt included; ``truncated`` bool (n,), whether it
    was cut; ``unknown`` int64 (n,), how many tokens the vocabulary lacks. Of texts far beyond the
    maximum length only a beginning is tokenized: there ``tokens`` and ``unknown`` are lower bounds.
    """

    vectors: Floats
    tokens: Ints
    truncated: Bools
    unknown: Ints


class Encoder:
    """A model, ready to encode. Safe to call from several threads.

    ``name`` is what the model was asked for by, ``folder`` where it lies, ``fingerprint`` its
    identity; ``dim`` the width of its vectors, ``token_dim`` of its tokens', ``matryoshka_dims``
    the narrower widths it was trained for (or none), ``max_length`` in tokens, ``special_tokens``
    how many of those every text gets. The runtime starts with the first text, or when ``runtime``
    or ``precision`` is read.
    """

    def __init__(self, name: str, config: ModelConfig, start: Callable[[str], Runtime]) -> None:
        self.name = name
        self.config = config
        self.folder: Path = config.folder
        self.fingerprint = fingerprint(config)
        self.dim = config.dim
        self.token_dim = config.token_dim
        self.max_length = config.max_length
        self.matryoshka_dims = config.matryoshka_dims
        self.prompts = dict(config.prompts)
        self.lower_case = config.lower_case
        self._start = start
        self._lock = threading.Lock()
        self._tokens: Tokens | None = None
        self._runtime: Runtime | None = None

    @property
    def runtime(self) -> str:
        """``openvino`` or ``torch``, as it runs."""
        return self._running().name

    @property
    def precision(self) -> str:
        """``float32``, ``bf16``, ``fp16`` or ``int8``, as it runs."""
        return self._running().precision

    @property
    def special_tokens(self) -> int:
        """How many special tokens the tokenizer adds to every text."""
        return self.tokens.special_tokens

    @property
    def tokens(self) -> Tokens:
        """The model's tokenizer."""
        with self._lock:
            if self._tokens is None:
                self._tokens = Tokens(self.config)
            return self._tokens

    def encode_documents(
        self,
        texts: Sequence[str],
        progress: Callable[[int], None] | None = None,
        token_sink: TokenSink | None = None,
    ) -> Encoded:
        """Encode documents or passages, with the model's document prompt.

        ``progress`` is called after each batch with the number of texts it finished, ``token_sink``
        before it with the vectors of their tokens. Raises ModelError.
        """
        return self._encode(texts, self.config.document_prompt, progress, token_sink)

    def encode_queries(self, texts: Sequence[str], token_sink: TokenSink | None = None) -> Encoded:
        """Encode queries, with the model's query prompt. Raises ModelError."""
        return self._encode(texts, self.config.query_prompt, None, token_sink)

    def _running(self) -> Runtime:
        with self._lock:
            if self._runtime is None:
                self._runtime = self._start(self.fingerprint)
            return self._runtime

    def _encode(
        self,
        texts: Sequence[str],
        prompt: str,
        progress: Callable[[int], None] | None,
        token_sink: TokenSink | None,
    ) -> Encoded:
        slots: dict[str, int] = {}
        where = np.fromiter((slots.setdefault(t, len(slots)) for t in texts), np.int64, len(texts))
        first = np.unique(where, return_index=True)[1]
        repeats = np.bincount(where, minlength=len(slots))
        unique = list(slots)
        vectors = np.empty((len(unique), self.dim), dtype=np.float32)
        counts = np.zeros((3, len(unique)), dtype=np.int64)
        windows = self._counted(self._tokenized(unique, prompt), counts)
        own = None if token_sink is None else self._own_tokens(prompt)
        batched = (partial(self._batched, window, own) for window in windows)
        for (at, batch), output in computed(self._running(), batched, self._prompt_length(prompt)):
            vectors[at] = self._unit(output.vectors)
            if token_sink is not None and batch.keep is not None and output.tokens is not None:
                rows = self._token_rows(output.tokens)
                token_sink(first[at], batch.keep.sum(axis=1), rows)
            if progress is not None:
                progress(int(repeats[at].sum()))
        tokens, truncated, unknown = counts[:, where]
        return Encoded(vectors[where], tokens, truncated.astype(np.bool_), unknown)

    def _tokenized(self, texts: list[str], prompt: str) -> Iterator[_Window]:
        """Windows of tokenized texts with their start, the next ones being made ahead."""
        tokens = self.tokens

        def window(start: int) -> list[Tokenized]:
            return tokens.tokenize([prompt + text for text in texts[start : start + _WINDOW]])

        if len(texts) <= _WINDOW:
            if texts:
                yield 0, window(0)
            return
        starts = range(0, len(texts), _WINDOW)
        with Pool(_AHEAD, "tokenize") as pool:
            ahead = deque(pool.submit(window, start) for start in starts[:_AHEAD])
            for number, start in enumerate(starts, _AHEAD):
                rows = ahead.popleft().result()
                if number < len(starts):
                    ahead.append(pool.submit(window, starts[number]))
                yield start, rows

    @staticmethod
    def _counted(windows: Iterator[_Window], counts: Ints) -> Iterator[_Window]:
        for start, rows in windows:
            for i, row in enumerate(rows, start):
                counts[:, i] = row.length, row.truncated, row.unknown
            yield start, rows

    def _batched(self, window: _Window, own: OwnTokens | None) -> Iterator[Work]:
        """A window's batches; with ``own``, those tokens are to be kept."""
        start, rows = window
        runtime, pad_id = self._running(), self.tokens.pad_id
        lengths = [len(row.ids) for row in rows]
        for group in batches(lengths, runtime.budget, runtime.multiple):
            some = [rows[i] for i in group]
            ids = [row.ids for row in some]
            batch = padded(ids, pad_id, runtime.multiple, self.max_length)
            if own is not None:
                batch = batch._replace(keep=own.marked(some, batch.ids.shape[1]))
            yield Work(np.asarray(group) + start, batch)

    def _own_tokens(self, prompt: str) -> OwnTokens:
        cut_left = self.config.tokenizer.get("truncation_side") == "left"
        return OwnTokens(self.tokens, prompt, cut_left=cut_left)

    def _unit(self, rows: Floats) -> Floats:
        try:
            return unit(rows[:, : self.dim])
        except InputError as exc:
            raise self._without_direction() from exc

    def _token_rows(self, rows: NDArray[np.floating]) -> Floats:
        """Rows of unit length or zero in float32; whatever is not finite is refused."""
        wide: Floats = rows if rows.dtype == np.float32 else widen(rows)
        if not (wide.min(initial=0) >= -_LARGEST and wide.max(initial=0) <= _LARGEST):
            raise self._without_direction()
        return wide

    def _without_direction(self) -> ModelError:
        return ModelError(
            f"{self.folder}: the model gives vectors without a direction (NaN, infinite or "
            f"zero) in {self.precision}: try precision float32"
        )

    def _prompt_length(self, prompt: str) -> int:
        """Leading tokens to leave out of pooling: none, for nearly all models."""
        if not prompt or self.config.include_prompt:
            return 0
        return self.tokens.prompt_length(prompt)


def open_encoder(
    model: str | Path,
    *,
    runtime: RuntimeName = "auto",
    precision: Precision = "auto",
    device: str | None = None,
    local_only: bool = False,
    or_auto: bool = False,
) -> Encoder:
    """Open a sentence-transformers model by name or folder; nothing heavy is loaded yet.

    ``runtime`` ``auto`` is torch where an NVIDIA device (or ``device``) is there, else OpenVINO,
    else torch; ``device`` is torch's name for one. With ``local_only`` nothing is fetched. With
    ``or_auto``, precision ``auto`` serves where ``int8`` cannot be computed, and one warning says
    so. Raises NotFound, ModelError and UsageError (an impossible combination).
    """
    config = read_folder(resolve_model(model, local_only=local_only))
    start = open_runtime(config, runtime, precision, device, or_auto=or_auto)
    return Encoder(str(model), config, start)
