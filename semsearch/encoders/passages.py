"""Texts longer than a model reads, cut into overlapping passages by the model's own tokenizer.

A passage is a span of a document's content. Spans ascend, overlap, cover the content from its first
character to its last, and ``Document.passage`` of each is a text that the model reads whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from semsearch.encoders.tokens import MOST_CHARACTERS

if TYPE_CHECKING:
    from semsearch.encoders.tokens import Tokens
    from semsearch.types import Document, Ints

OVERLAP = 0.1
"""The share of a passage that the next one repeats.

nDCG@10 by vectors on 983 of scifact's and all of faquad-pt's documents, passages of half the
maximum: 0.822 and 0.577 without, 0.816 and 0.569 with 0.1, 0.830 and 0.558 with 0.2: no difference
that shows, so it is small, and there for the sentence that would be cut.
"""

SHARE = 1.0
"""How much of what the model reads a passage may fill; where the title does not fit, it is halved.

Hybrid nDCG@10 on scifact and faquad-pt: 0.721 and 0.814 in 10,075 and 388 passages; with 0.75 of
it 0.717 and 0.800 in 11,297 and 433; with 0.5 0.722 and 0.812 in 15,640 and 574.
"""

_LAST = 0.25
"""The share of a passage at whose end a sentence's or a word's end is looked for.

nDCG@10 by vectors on faquad-pt: 0.549 with, 0.536 without; on the part of scifact 0.811 and 0.819.
"""

_CHARACTERS = 64
"""Characters per token that are tokenized at a time. Real text has 1 to 10."""

_BATCH = 1_024
"""Passages that are tokenized again at a time, to see that they fit."""

_SENTENCE_END = re.compile(
    r"(?:[.!?\u2026\u0964\u0965][\"')\]\u201d\u2019\u00bb]*|\n)\s*$|[。！？]\s*$"
)


class Span(NamedTuple):
    """The characters ``start`` to ``end`` of a text."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Cutter:
    """Cuts documents for one model: with ``prompt`` before it, every passage fits its maximum.

    ``overlap`` is a share of the passage, 0 to 0.5; ``share`` is of the model's maximum, 0 to 1.
    Safe to use from several threads.
    """

    tokens: Tokens
    prompt: str = ""
    overlap: float = OVERLAP
    share: float = SHARE

    @property
    def room(self) -> int:
        """How many tokens of text the model reads."""
        prompt = self.tokens.length(self.prompt) if self.prompt else 0
        return max(self.tokens.max_length - self.tokens.special_tokens - prompt, 1)

    def cut(self, documents: Sequence[Document]) -> list[list[Span]]:
        """The passages of each document, in order: one where the model reads it whole."""
        texts = [document.content for document in documents]
        found = [[Span(0, len(text))] for text in texts]
        unsure = [i for i, text in enumerate(texts) if not self._is_short(text)]
        whole = dict(zip(unsure, self._fit([texts[i] for i in unsure]), strict=True))
        long = [i for i in unsure if not whole[i]]
        room = max(int(self.room * self.share), 1)
        for i in long:
            found[i] = _ascending(self._spans(texts[i], room))
        self._mend(documents, long, found, room)
        return found

    def _is_short(self, text: str) -> bool:
        """Whether a text fits for certain: no tokenizer makes two tokens of an ASCII character."""
        return text.isascii() and len(text) + 2 <= self.room

    def _fit(self, texts: Sequence[str]) -> list[bool]:
        """Whether the model reads each text whole."""
        fits: list[bool] = []
        for start in range(0, len(texts), _BATCH):
            batch = [self.prompt + text for text in texts[start : start + _BATCH]]
            fits += [not row.truncated for row in self.tokens.tokenize(batch)]
        return fits

    def _mend(
        self,
        documents: Sequence[Document],
        long: Sequence[int],
        found: list[list[Span]],
        room: int,
    ) -> None:
        """Cut again what does not fit: its title is long, or it has more tokens than inside."""
        while long:
            room = room * 3 // 4
            fits = iter(self._fit([documents[i].passage(*span) for i in long for span in found[i]]))
            again = []
            for i in long:
                spans: list[Span] = []
                for span in found[i]:
                    if next(fits) or span.end - span.start <= 1:
                        spans.append(span)
                        continue
                    spans += self._smaller(documents[i].content, span, room)
                    again.append(i)
                found[i] = _ascending(spans)
            long = sorted(set(again))

    def _smaller(self, text: str, span: Span, room: int) -> list[Span]:
        """A passage in parts of ``room`` tokens, or in halves if a token is not enough."""
        if room < 1:
            middle = (span.start + span.end) // 2
            return [Span(span.start, middle), Span(middle, span.end)]
        found = self._spans(text[span.start : span.end], room)
        return [Span(span.start + start, span.start + end) for start, end in found]

    def _spans(self, text: str, room: int) -> Iterator[Span]:
        """Passages of at most ``room`` tokens, as the text's own tokens count."""
        start = 0
        while start < len(text):
            offsets, stop = self._block(text, start, room)
            window = _Block(text, start, stop, offsets, room, int(room * self.overlap))
            yield from window.spans()
            start = window.next_start

    def _block(self, text: str, start: int, room: int) -> tuple[Ints, int]:
        """Tokens from ``start`` on, enough for two passages where the text has them."""
        most = MOST_CHARACTERS // 4  # there may be a title as long before it
        size = min(room * _CHARACTERS, most)
        while True:
            stop = min(start + size, len(text))
            offsets = self.tokens.offsets(text[start:stop]) + start
            if stop == len(text) or size == most or len(offsets) >= 4 * room:
                return offsets, stop
            size = min(size * 8, most)


@dataclass(slots=True)
class _Block:
    """A piece of a text with its tokens' offsets int64 (n, 2), to be cut from its start on.

    ``next_start`` is where the next block begins, after ``spans`` ended.
    """

    text: str
    start: int
    stop: int
    offsets: Ints
    room: int
    overlap: int
    next_start: int = 0

    def spans(self) -> Iterator[Span]:
        count, final = len(self.offsets), self.stop == len(self.text)
        first = 0
        while True:
            rest = count - first
            if rest <= self.room and (final or first == 0):
                yield Span(self._begin(first), self.stop)
                self.next_start = self.stop
                return
            if not final and first and rest < 2 * self.room:  # too near the ragged end
                self.next_start = self._begin(first)
                return
            end, following = self._next(first, rest, final)
            yield Span(
                self._begin(first), max(int(self.offsets[end - 1, 1]), self._begin(following))
            )
            first = following

    def _begin(self, first: int) -> int:
        return int(self.offsets[first, 0]) if first else self.start

    def _next(self, first: int, rest: int, final: bool) -> tuple[int, int]:
        """The token after the passage that begins at ``first``, and the next one's first."""
        room, overlap = self.room, self.overlap
        size, least = room, 0
        if final:  # as many passages as it takes, of one size: no crumb at the end
            step = room - overlap
            more = -(-(rest - overlap) // step) - 1
            size = -(-(rest + more * overlap) // (more + 1))
            least = rest - more * step  # cut shorter, it would take one more
        high = first + min(room, size + size // 8)
        low = first + max(int(size * (1 - _LAST)), least, 1)
        end = self._best(min(low, high), high, first)
        nearest = end - overlap // 2
        following = self._best(max(end - overlap - overlap // 2, first + 1), nearest, first)
        return end, following if first < following < end else end

    def _best(self, low: int, high: int, first: int) -> int:
        """The last of the best places to cut, from ``low`` to ``high``; before that any place."""
        best, grade = 0, 0
        for at in range(high, first, -1):
            if at < low and grade:
                break
            found = self._grade(at)
            if found > grade:
                best, grade = at, found
            if grade == _SENTENCE:
                break
        return best if grade else high

    def _grade(self, at: int) -> int:
        """How good it is to cut before a token: 0 inside a character, best at a sentence's end."""
        if at >= len(self.offsets):
            return _SENTENCE
        end, begin = int(self.offsets[at - 1, 1]), int(self.offsets[at, 0])
        if begin < end:
            return 0
        around = self.text[max(end - 1, 0) : begin + 1]
        if around.isalnum():  # no space, no punctuation
            return _TOKEN
        return _SENTENCE if _SENTENCE_END.search(self.text, max(end - 8, 0), begin) else _WORD


_TOKEN, _WORD, _SENTENCE = 1, 2, 3


def _ascending(spans: Iterable[Span]) -> list[Span]:
    """In order, without spans that lie in others."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if not kept or span.end > kept[-1].end:
            kept.append(span)
    return kept
