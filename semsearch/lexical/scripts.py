"""Characters: which ones make words, which are folded, and which scripts write without spaces.

Folding follows what people type: Latin and Greek lose their accents, Arabic its vowel signs and
the variants of alef, yeh and kaf (as Lucene's Arabic and Persian normalisation), Hebrew its
points; every decimal digit becomes 0-9. Joiners and other invisible marks vanish, so that a
Sinhala conjunct matches with and without its ZWJ.
"""

from __future__ import annotations

import re
import unicodedata

_APOSTROPHES = "'\u2018\u2019\u02bc\u02b9\u055a\ua78c"
INNER_SIGNS = "._'+#"
"""ASCII signs that may stand inside a word; the tokeniser decides about each."""

# Letters that have a plain twin but no decomposition, or one that must not be general.
_FOLDED: dict[int, str | None] = {
    0x00E6: "ae",
    0x00F8: "o",
    0x0111: "d",
    0x0127: "h",
    0x0131: "i",
    0x0142: "l",
    0x0153: "oe",
    0x0167: "t",
    0x0451: "\u0435",  # Cyrillic io, usually written ie
    0x0622: "\u0627",  # alef with madda, with hamza above, below, wasla
    0x0623: "\u0627",
    0x0625: "\u0627",
    0x0671: "\u0627",
    0x0629: "\u0647",  # teh marbuta
    0x0649: "\u064a",  # alef maksura, Farsi yeh
    0x06CC: "\u064a",
    0x06A9: "\u0643",  # keheh
    0x0640: None,  # tatweel
    0x200B: " ",  # zero width space: a word break in Thai and Khmer
}

# Vowel signs and points that readers leave out: Latin and Greek accents, Hebrew, Arabic.
_DROPPED_MARKS = (
    (0x0300, 0x036F),
    (0x0483, 0x0487),
    (0x0591, 0x05C7),
    (0x0610, 0x061A),
    (0x064B, 0x065F),
    (0x0670, 0x0670),
    (0x06D6, 0x06ED),
    (0x1AB0, 0x1AFF),
    (0x1DC0, 0x1DFF),
    (0x20D0, 0x20FF),
    (0x3099, 0x309A),
    (0xFE00, 0xFE0F),
    (0xFE20, 0xFE2F),
    (0xE0100, 0xE01EF),
)


class CharacterTable(dict[int, str | None]):
    """For ``str.translate``, after NFKC and casefold: a letter, mark or digit to itself, folded.

    Anything else becomes a space, except the signs that may stand inside a word. It fills itself
    with the characters that it meets.
    """

    def __missing__(self, code: int) -> str | None:
        self[code] = value = _value(chr(code))
        return value


def _value(character: str) -> str | None:
    code = ord(character)
    if code in _FOLDED:
        return _FOLDED[code]
    if character in INNER_SIGNS:
        return character
    if character in _APOSTROPHES:
        return "'"
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.digit(character))
    if category[0] == "M":
        return None if any(low <= code <= high for low, high in _DROPPED_MARKS) else character
    if category[0] == "L":
        base = unicodedata.normalize("NFD", character)[0]
        return base if base < "\u0400" else character  # Cyrillic й is a letter of its own
    if category[0] == "N":
        return character
    return None if category == "Cf" else " "


def _class(*ranges: tuple[int, int]) -> str:
    return "".join(f"{chr(low)}-{chr(high)}" for low, high in ranges)


# Han, Hiragana, Katakana, Bopomofo and Hangul: letters, iteration and length marks.
_CJK = _class(
    (0x1100, 0x11FF),
    (0x2E80, 0x2FDF),
    (0x3005, 0x3007),
    (0x3021, 0x3029),
    (0x3031, 0x3035),
    (0x3038, 0x303C),
    (0x3041, 0x3096),
    (0x309D, 0x309F),
    (0x30A1, 0x30FA),
    (0x30FC, 0x30FF),
    (0x3105, 0x312F),
    (0x3131, 0x318E),
    (0x31A0, 0x31BF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xA960, 0xA97F),
    (0xAC00, 0xD7FB),
    (0xF900, 0xFAFF),
    (0x1AFF0, 0x1B16F),
    (0x20000, 0x3FFFD),
)

# Devanagari to Sinhala, Thai, Lao, Tibetan, Myanmar, Khmer, Tai scripts and their extensions.
_BRAHMIC_RANGES = (
    (0x0900, 0x109F),
    (0x1780, 0x17FF),
    (0x1950, 0x1AAF),
    (0xA8E0, 0xA8FF),
    (0xA9E0, 0xA9FF),
    (0xAA60, 0xAADF),
)
_BRAHMIC = _class(*_BRAHMIC_RANGES)
_BRAHMIC_MARKS = "".join(
    chr(code)
    for low, high in _BRAHMIC_RANGES
    for code in range(low, high + 1)
    if unicodedata.category(chr(code))[0] == "M"
)

RUN = re.compile(f"([{_CJK}]+)|([{_BRAHMIC}]+)|[^{_CJK}{_BRAHMIC}]+")
"""Cuts a word where its script changes; group 1 is CJK, group 2 is Brahmic."""

SYLLABLES = re.compile(f".[{_BRAHMIC_MARKS}]*", re.DOTALL)
"""Letters of Brahmic scripts, each with the signs that belong to it."""
