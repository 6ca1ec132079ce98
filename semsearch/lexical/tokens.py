"""Text to words, for BM25: any string gives a list, whatever it holds, and nothing is a syntax.

- Everything is normalised by NFKC, case-folded and folded as ``scripts`` says.
- Alphabets: words, with the Snowball stemming of the language, as ``languages`` says. Words lose
  their accents first: a stemmer that sees them joins more forms, but no longer finds words that
  are typed without any (nDCG@10 in Portuguese: 0.912 either way, and for such queries 0.890).
  Stop words stay: without those of the query nDCG@10 changed by +0.001 (scifact), +0.005
  (banking77), +0.002 (faquad-pt), -0.005 and -0.016 (names of the standard library).
- Chinese, Japanese, Korean: overlapping pairs of characters, as Lucene's CJKBigramFilter, and in
  documents the single characters too, so that a query of one character finds them.
- Indic and South-East Asian scripts: words whole, and overlapping pairs of their syllables, which
  stands in for stemming, and for word breaks in Thai, Lao, Khmer and Myanmar.
- Identifiers: ``json.loads``, ``20.04``, ``read_csv`` and ``DataFrame`` are words whole and in
  parts; ``C++`` and ``C#`` are words; ``don't`` is ``dont`` and ``dog's`` is ``dog``.

The order of the words in the result means nothing; how often each occurs does.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from operator import add
from typing import TYPE_CHECKING

from semsearch.lexical.languages import ENGLISH, stemmers, with_endings
from semsearch.lexical.scripts import INNER_SIGNS, RUN, SYLLABLES, CharacterTable

if TYPE_CHECKING:
    from tantivy import TextAnalyzer

TOKENS_VERSION = 1
"""Changes whenever the words of any text change: an index made by another version is rebuilt."""

MAX_CHARACTERS = 1 << 20
"""What lies beyond in one text is not searched lexically."""

MAX_WORD = 64
"""Characters; longer words are cut, in documents and queries alike."""

_LONGEST_WORD = 16
"""Syllables; a longer Brahmic run is a phrase without spaces and not worth a word of its own."""

_TABLE = CharacterTable()
_CAMEL = re.compile(r"\b(?:[A-Z]*[a-z]+[A-Z]|[A-Z]{2,}[a-z])[A-Za-z]*\b")
_BETWEEN_HUMPS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]{3})")
_POSSESSIVE = re.compile(r"'s\b")
_CONTRACTION = re.compile(r"(?<=n)'(?=t\b)")
_DOTTED = re.compile(r"\.\w", re.ASCII)
_COMPOUND = re.compile(r"\b\w+(?:\.\w+)+|\b\w*_\w*", re.ASCII)
_SIGNED = re.compile(r"\b[a-z](?:\+\+|#)(?!\w)")
# Normalising takes quadratic time on a long run of combining marks.
_RUN_OF_SIGNS = re.compile(r"([^\w\s]{64})[^\w\s]+")


def words(text: str, language: str = ENGLISH) -> list[str]:
    """The words of a document, repeated as often as they occur, stemmed unless it is ``none``.

    Each has 1 to 64 characters, none of them white space.
    Never raises for any string. Raises MissingExtra if tantivy is not installed.
    """
    return stemmed(_words(text, single_characters=True), language)


def query_words(text: str, language: str = ENGLISH) -> list[str]:
    """The words to look for: as ``words``, less some that would find nearly everything.

    Those are the single characters of a Chinese, Japanese or Korean run longer than one.
    """
    return stemmed(_words(text, single_characters=False), language)


def stemmed(found: list[str], language: str) -> list[str]:
    """Words as they come from folding to the stems that are indexed, one each."""
    names = stemmers(language)
    if not found or not names:
        return found
    return _analyser(names).analyze(" ".join(with_endings(found, language)))


@cache
def _analyser(names: tuple[str, ...]) -> TextAnalyzer:
    from semsearch.lexical.engine import analyser

    return analyser(names)


def _words(text: str, single_characters: bool) -> list[str]:
    text = text[:MAX_CHARACTERS]
    ascii_only = text.isascii()
    if not ascii_only:
        # Lone surrogates part words, as what readers of a corpus put in their place does.
        text = text.encode("utf-8", "replace").decode()
        text = unicodedata.normalize("NFKC", _RUN_OF_SIGNS.sub(r"\1", text))[:MAX_CHARACTERS]
    found = list(_camel_parts(text))
    text = text.casefold().translate(_TABLE)
    if "'" in text:
        text = _CONTRACTION.sub("", _POSSESSIVE.sub("", text))
    if "_" in text or _DOTTED.search(text):
        found += _compounds(text)
    if "+" in text or "#" in text:
        found += _SIGNED.findall(text)
    for sign in INNER_SIGNS:
        text = text.replace(sign, " ")
    parts = text.split()
    found += parts if ascii_only else _by_script(parts, single_characters)
    if max(map(len, found), default=0) > MAX_WORD:
        found = [word[:MAX_WORD] for word in found]
    return found


def _camel_parts(text: str) -> Iterator[str]:
    # Looking at words first is four times as fast as the pattern over the whole text.
    mixed = [w for w in text.split() if not (w.islower() or w.istitle() or w.isupper())]
    for name in _CAMEL.findall(" ".join(mixed)):
        parts = _BETWEEN_HUMPS.sub(" ", name).casefold().split()
        if len(parts) > 1 and min(map(len, parts)) > 1:  # not mRNA or PhD
            yield from parts


def _compounds(text: str) -> Iterator[str]:
    joined = " ".join(word for word in text.split() if "." in word or "_" in word)
    return (compound for compound in _COMPOUND.findall(joined) if compound.strip("_"))


def _by_script(parts: list[str], single_characters: bool) -> Iterator[str]:
    for part in parts:
        if part.isascii():
            yield part
            continue
        for match in RUN.finditer(part):
            run = match[0]
            if match.lastindex == 1:
                if len(run) == 1 or single_characters:
                    yield from run
                yield from map(add, run, run[1:])
            elif match.lastindex == 2:
                yield from _syllable_pairs(run)
            else:
                yield run


def _syllable_pairs(run: str) -> Iterator[str]:
    syllables = SYLLABLES.findall(run)
    if len(syllables) <= _LONGEST_WORD:
        yield run
    if len(syllables) > 2:
        yield from map(add, syllables, syllables[1:])
