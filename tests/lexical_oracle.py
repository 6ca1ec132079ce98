"""BM25 in plain Python, with tantivy's one-byte document lengths, as the oracle of the tests."""

import math
from bisect import bisect_right
from collections import Counter

import numpy as np

from semsearch.lexical.tokens import query_words, words

K1, B = 1.2, 0.75


def _length_table():
    """What a byte stands for: exact to 40, then three significant bits (Lucene's SmallFloat)."""
    table = []
    for code in range(256):
        if code < 24:
            table.append(code)
            continue
        bits, shift = (code - 24) & 7, ((code - 24) >> 3) - 1
        table.append(24 + (bits if shift < 0 else (bits | 8) << shift))
    return table


LENGTHS = _length_table()


def stored_length(length):
    return LENGTHS[bisect_right(LENGTHS, length) - 1]


class Oracle:
    def __init__(self, vids, texts):
        self.passages = {
            int(vid): Counter(words(text)) for vid, text in zip(vids, texts, strict=True)
        }
        self.frequency = Counter(word for held in self.passages.values() for word in held)
        total = sum(held.total() for held in self.passages.values())
        self.average = total / max(len(self.passages), 1)
        self._known = {}

    def scores(self, text):
        """Every matching vid and its score."""
        if text not in self._known:
            self._known[text] = self._scores(text)
        return self._known[text]

    def _scores(self, text):
        count = len(self.passages)
        found: dict[int, float] = {}
        for word, times in Counter(query_words(text)).items():
            n = self.frequency[word]
            idf = math.log(1 + (count - n + 0.5) / (n + 0.5))
            for vid, held in self.passages.items():
                if tf := held[word]:
                    norm = K1 * (1 - B + B * stored_length(held.total()) / self.average)
                    found[vid] = found.get(vid, 0.0) + times * idf * (K1 + 1) * tf / (tf + norm)
        return found


def assert_is_best(oracle, text, k, ids, scores, allowed=None, excluded=()):
    """One row of candidates holds the oracle's k best among the permitted, in the one order."""
    permitted = {
        vid: score
        for vid, score in oracle.scores(text).items()
        if (allowed is None or vid in allowed) and vid not in excluded
    }
    found = min(k, len(permitted))
    assert (ids[found:] == -1).all()
    assert (scores[found:] == -np.inf).all()
    ids, scores = ids[:found].tolist(), scores[:found]
    assert len(set(ids)) == found
    assert set(ids) <= set(permitted)
    np.testing.assert_allclose(scores, [permitted[vid] for vid in ids], rtol=1e-5)
    expected = sorted(permitted.values(), reverse=True)[:found]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    pairs = list(zip((-scores).tolist(), ids, strict=True))
    assert pairs == sorted(pairs)
    # Passages with the same words have the same score, so the lowest vids must be the ones here.
    twins: dict[frozenset[tuple[str, int]], list[int]] = {}
    for vid in sorted(permitted):
        twins.setdefault(frozenset(oracle.passages[vid].items()), []).append(vid)
    for same in twins.values():
        shown = [vid for vid in ids if vid in set(same)]
        assert shown == same[: len(shown)]
