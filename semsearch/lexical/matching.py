"""Which words of a query a document holds, as the person typed them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from unicodedata import normalize

from semsearch.lexical.languages import ENGLISH
from semsearch.lexical.scripts import RUN, CharacterTable
from semsearch.lexical.tokens import MAX_CHARACTERS, query_words, words

_TABLE = CharacterTable()
_QUOTES = ".'\u2018\u2019"


def matched_words(query_text: str, document_text: str, language: str = ENGLISH) -> list[str]:
    """The query's words that match some word of the document, in their order, each once.

    Words are compared as they are searched: folded, stemmed as ``language`` is, identifiers by
    their parts, too. Each comes as it was first typed, without the punctuation around it. Where
    there are no spaces it is the longest stretches that the document holds: of Chinese, Japanese
    and Korean pair by pair; of Indic and South-East Asian scripts words that it holds whole, or
    half of whose pairs of syllables. Takes any string. Raises MissingExtra without tantivy.
    """
    held = set(words(document_text, language))
    found: dict[tuple[str, ...], str] = {}
    for typed, is_cjk in _typed(query_text[:MAX_CHARACTERS]):
        if is_cjk:
            stretches = _stretches(typed, held, language)
        else:
            stretches = [typed] if _is_held(typed, held, language) else []
        for stretch in stretches:
            found.setdefault(tuple(query_words(stretch, language)), stretch)
    return list(found.values())


def _typed(text: str) -> Iterator[tuple[str, bool]]:
    """The words as they stand there, cut where CJK begins or ends; and whether they are CJK."""
    for word in "".join(" " if _separates(c) else c for c in text).split():
        for is_cjk, runs in groupby(RUN.finditer(word), lambda run: run.lastindex == 1):
            typed = "".join(run[0] for run in runs)
            yield (typed if is_cjk else typed.strip(_QUOTES)), is_cjk


@lru_cache(maxsize=1 << 14)
def _separates(character: str) -> bool:
    folded = normalize("NFKC", character).casefold().translate(_TABLE)
    return bool(folded) and not folded.strip()


def _is_held(typed: str, held: set[str], language: str) -> bool:
    looked_for = query_words(typed, language)
    found = [word in held for word in looked_for]
    pairs = RUN.fullmatch(typed)
    if pairs is None or pairs.lastindex != 2:
        return any(found)
    return any(found) and (found[0] or 2 * sum(found) >= len(found) - 1)


def _stretches(run: str, held: set[str], language: str) -> list[str]:
    """The longest parts of a run whose every pair of neighbours is held."""

    def is_held(text: str) -> bool:
        looked_for = query_words(text, language)
        return bool(looked_for) and held.issuperset(looked_for)

    if len(run) == 1:
        return [run] if is_held(run) else []
    found = []
    start = 0
    while start < len(run) - 1:
        end = start + 1
        while end < len(run) and is_held(run[end - 1 : end + 1]):
            end += 1
        if end - start > 1:
            found.append(run[start:end])
        start = end if end - start > 1 else start + 1
    return found
