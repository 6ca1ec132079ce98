"""Lexical search against brute force: the same contract for the stored index and for memory."""

import random
import sys
import threading

import numpy as np
import pytest

from semsearch.errors import MissingExtra, UsageError
from semsearch.lexical import bm25
from semsearch.lexical.memory import MemoryLexical
from semsearch.lexical.reader import LexicalIndex
from semsearch.lexical.writer import LexicalWriter
from tests.lexical_oracle import Oracle, assert_is_best
from tests.test_lexical_tokens import hostile_strings

QUERIES = [
    "w0",
    "w1 w2 w3",
    "w40 w41 w42 w43 w44 w45",
    "w3 w3 w3 w7",
    "w0 w5 w0 unknownword",
    "W1, w2! (w3)",
    "unknownword",
    "",
    "?!",
    " ".join(f"w{i}" for i in range(60)),
]


def corpus(count, seed=0):
    rng = random.Random(seed)
    vocabulary = [f"w{i}" for i in range(60)]
    weights = [1 / (i + 1) for i in range(60)]
    texts = [" ".join(rng.choices(vocabulary, weights, k=rng.randrange(90))) for _ in range(count)]
    texts[count // 2 :: 7] = texts[1 : 1 + len(texts[count // 2 :: 7])]  # twins, far apart
    vids = np.sort(np.array(rng.sample(range(1, 5 * count), count), dtype=np.int64))
    return vids, texts


def stored(folder, vids, texts, parts=3):
    """A stored index of several tantivy segments."""
    with LexicalWriter(folder) as writer:
        for part in np.array_split(np.arange(len(vids)), parts):
            writer.add(vids[part], [texts[i] for i in part])
            state = writer.commit()
    return LexicalIndex.open(folder, state)


def in_memory(folder, vids, texts):
    return MemoryLexical(vids, texts)


@pytest.fixture(params=[stored, in_memory])
def make(request, tmp_path):
    return lambda vids, texts: request.param(tmp_path / "lex", vids, texts)


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_the_oracle(make, seed):
    vids, texts = corpus(300, seed)
    index, oracle = make(vids, texts), Oracle(vids, texts)
    assert len(index) == 300
    for k in (1, 5, 50, 300, 1000):
        found = index.search(QUERIES, k)
        assert found.ids.shape == found.scores.shape == (len(QUERIES), k)
        assert (found.ids.dtype, found.scores.dtype) == (np.int64, np.float32)
        for row, text in enumerate(QUERIES):
            assert_is_best(oracle, text, k, found.ids[row], found.scores[row])


def test_long_passages_have_lengths_of_one_byte(make):
    texts = [" ".join(["w"] * n + ["x"]) for n in (*range(0, 60, 3), 100, 1000, 4095, 5000, 70_000)]
    vids = np.arange(1, len(texts) + 1)
    found = make(vids, texts).search(["w x"], len(texts))
    assert_is_best(Oracle(vids, texts), "w x", len(texts), found.ids[0], found.scores[0])


def test_many_equal_scores_are_ordered_by_vid(make):
    vids = np.arange(3, 3003, dtype=np.int64)
    found = make(vids, ["same words here"] * 3000).search(["same words", "here"], 7)
    assert found.ids.tolist() == [list(range(3, 10))] * 2
    assert len(set(found.scores[0].tolist())) == 1


def test_the_order_of_the_words_changes_nothing(make):
    vids, texts = corpus(200)
    index = make(vids, texts)
    words = [f"w{i}" for i in range(40)]
    expected = index.search([" ".join(words)], 200)
    random.Random(5).shuffle(words)
    found = index.search([" ".join(words)], 200)
    assert (found.ids == expected.ids).all()
    assert (found.scores == expected.scores).all()


@pytest.mark.parametrize(
    ("most", "worth"),
    [(10**6, 2.0), (0, 0.0), (10**6, 0.0)],
    ids=["by query", "by fetching", "by fetching first"],
)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98, 1.0])
def test_filters_keep_exactly_what_is_permitted(make, monkeypatch, share, most, worth):
    monkeypatch.setattr(bm25, "MAX_TERM_SET", most)
    monkeypatch.setattr(bm25, "WORTH_FETCHING", worth)
    vids, texts = corpus(300)
    index, oracle = make(vids, texts), Oracle(vids, texts)
    rng = np.random.default_rng(1)
    allowed = np.append(vids[rng.random(300) < share], [10**6])  # one that is not there
    dead = np.append(vids[rng.random(300) < share], [10**6 + 1, 2**62])
    for k in (1, 10, 300):
        for permitted, excluded in ((allowed, None), (None, dead), (allowed, dead)):
            found = index.search(QUERIES, k, allowed=permitted, excluded=excluded)
            for row, text in enumerate(QUERIES):
                assert_is_best(
                    oracle,
                    text,
                    k,
                    found.ids[row],
                    found.scores[row],
                    None if permitted is None else set(permitted.tolist()),
                    () if excluded is None else set(excluded.tolist()),
                )


def test_filters_need_not_be_sorted(make):
    vids = np.arange(1, 6)
    index = make(vids, ["a b"] * 5)
    found = index.search(["a"], 3, np.array([5, 2, 2, 4]), np.array([4, 1, 4]))
    assert found.ids.tolist() == [[2, 5, -1]]


def test_nothing_allowed_finds_nothing(make):
    index = make(np.array([1, 2]), ["a", "a b"])
    none = np.array([], dtype=np.int64)
    assert index.search(["a"], 2, allowed=none).ids.tolist() == [[-1, -1]]
    assert index.search(["a"], 2, excluded=none).ids.tolist() == [[1, 2]]


def test_an_empty_index_and_an_empty_batch(make):
    index = make(np.array([], dtype=np.int64), [])
    assert len(index) == 0
    assert index.search(["a", ""], 3).ids.tolist() == [[-1] * 3] * 2
    assert index.search([], 3).ids.shape == (0, 3)
    assert index.search(["a"], 0).ids.shape == (1, 0)


def test_a_negative_k_is_refused(make):
    with pytest.raises(UsageError, match="k must not be negative: -1"):
        make(np.array([1]), ["a"]).search(["a"], -1)


def test_k_beyond_the_index_is_padded(make):
    found = make(np.array([1, 2]), ["a", "b"]).search(["a"], 100_000)
    assert found.ids.shape == (1, 100_000)
    assert found.ids[0, 0] == 1
    assert (found.ids[0, 1:] == -1).all()


def test_hostile_strings_are_indexed_and_searched(make):
    texts = list(hostile_strings(2000))
    vids = np.arange(1, len(texts) + 1)
    index, oracle = make(vids, texts), Oracle(vids, texts)
    found = index.search(texts, 5)
    for row, text in enumerate(texts[:150]):
        assert_is_best(oracle, text, 5, found.ids[row], found.scores[row])


def test_ten_thousand_hostile_queries_fail_never():
    index = MemoryLexical(np.arange(3), ["and or not x", "don't 20.04 c++", "中文 සිංහල हिन्दी"])
    found = index.search(list(hostile_strings(10_000, seed=7)), 3)
    assert (found.ids >= 0).any(axis=1).sum() > 1000


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("东京", "我去过东京都。"),
        ("京", "我去过东京都。"),
        ("東京", "昨日東京都に行った"),
        ("サーバ", "新しいサーバーを買う"),
        ("검색", "의미검색 엔진"),
        ("ශ්රී ලංකා", "ශ්‍රී ලංකාවේ අගනුවර"),
        ("हिंदी", "हिंदी में खोज"),
        ("มาตรฐาน", "ตามมาตรฐานสากล"),
        ("محمد", "قال مُحَمَّدٌ ذلك"),
        ("елка", "Новогодняя ёлка"),
        ("informacao", "a informação é útil"),
        ("STRASSE", "an der Straße"),
        ("loads", "use json.loads to parse"),
        ("json.loads", "use json.loads to parse"),
        ("frame", "a DataFrame of numbers"),
        ("dataframe", "a DataFrame of numbers"),
        ("c++", "written in C++, fast"),
        ("dont", "I don't know"),
        ("20.04", "Ubuntu 20.04"),
    ],
)
def test_what_people_type_is_found(make, query, text):
    others = ["something else", "全然別の文", "වෙනත් දෙයක්", "कुछ और", "อย่างอื่น", "другое"]
    index = make(np.arange(1, 8), [*others, text])
    assert index.search([query], 1).ids.tolist() == [[7]]


def test_queries_run_in_several_threads_at_once(make):
    vids, texts = corpus(200)
    index = make(vids, texts)
    expected = index.search(QUERIES, 20, allowed=vids[::2])
    wrong = []

    def work():
        for _ in range(20):
            found = index.search(QUERIES, 20, allowed=vids[::2])
            if not (found.ids == expected.ids).all() or not (found.scores == expected.scores).all():
                wrong.append(found)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_memory_takes_vids_in_any_order_but_each_once():
    index = MemoryLexical(np.array([9, 2, 5]), ["a", "a", "a b"])
    assert index.search(["a"], 3).ids.tolist() == [[2, 9, 5]]
    with pytest.raises(UsageError, match="each may be there only once"):
        MemoryLexical(np.array([1, 1]), ["a", "b"])
    with pytest.raises(UsageError, match="must not be negative"):
        MemoryLexical(np.array([-1]), ["a"])
    with pytest.raises(UsageError, match="do not fit 2 texts"):
        MemoryLexical(np.array([1]), ["a", "b"])


def test_without_tantivy_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tantivy", None)
    with pytest.raises(MissingExtra, match="^lexical search needs tantivy: pip install tantivy$"):
        MemoryLexical(np.array([1]), ["a"])
