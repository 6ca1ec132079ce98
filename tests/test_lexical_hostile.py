"""Ten thousand hostile strings, each indexed and asked for through the public search."""

import random
import sys
import unicodedata

import pytest

from semsearch.lexical.tokens import query_words
from semsearch.types import Document
from tests.fakes import FakeEncoder, opened
from tests.test_lexical_tokens import hostile_strings

COUNT = 10_000
K = 20


def scripts():
    """The letters of every script that Python knows, by the first word of their names."""
    letters: dict[str, list[str]] = {}
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if unicodedata.category(character)[0] in "LMN":
            name = unicodedata.name(character, "").split(" ")[0]
            letters.setdefault(name, []).append(character)
    return [found for found in letters.values() if len(found) >= 20]


def words_of_every_script(count, seed=5):
    rng = random.Random(seed)
    known = scripts()
    assert len(known) > 150
    signs = ['"', "'", " OR ", " AND NOT ", *"*/\\(\u202e\u200d\U0001f600@"]
    for number in range(count):
        letters = known[number % len(known)]
        drawn = ["".join(rng.choices(letters, k=rng.randrange(1, 9))) for _ in range(3)]
        yield rng.choice(signs).join(drawn) + rng.choice(signs)


def hostile():
    long = ["y" * 100_000, "z\u0301" * 50_000, "\u202e\u05d0\u0644 " * 20_000, "NEAR( " * 20_000]
    texts = [*long, *words_of_every_script(COUNT // 3), *hostile_strings(COUNT, seed=11)]
    return [text for text in texts if text.strip()][:COUNT]  # a blank query is refused


@pytest.mark.slow
def test_each_string_that_has_a_word_finds_its_own_document(tmp_path):
    texts = hostile()
    assert len(texts) == COUNT
    documents = [Document(f"d{n}", text, "", {"n": n}) for n, text in enumerate(texts)]
    with opened(tmp_path / "idx", FakeEncoder()) as index:
        index.add(documents, long_text="truncate")  # words as they are, not pieces of them
        asked = sought = 0
        for n, text in enumerate(texts):
            hits = index.search(text, k=K, mode="lexical")
            if query_words(text):
                asked += 1
                own = [hit for hit in hits if hit.id == f"d{n}"]
                if not own:  # so many others hold the same words
                    assert len(hits) == K, text[:100]
                    sought += 1
                    own = index.search(text, k=1, mode="lexical", filters=[f"n={n}"])
                assert [hit.id for hit in own] == [f"d{n}"], text[:100]
            else:
                assert hits == [], text[:100]
        assert asked > 7000
        assert sought < asked / 4  # short ones share all they have with many others


def test_hostile_strings_are_asked_in_every_mode_and_explained(tmp_path):
    texts = hostile()[:: COUNT // 150]
    documents = [Document(f"d{n}", text[:500], "", {"n": n}) for n, text in enumerate(texts)]
    with opened(tmp_path / "idx", FakeEncoder()) as index:
        index.add(documents)
        for n, text in enumerate(texts):
            for mode in ("hybrid", "dense", "lexical"):
                hits = index.search(text[:500], k=K, mode=mode, explain=True)
                assert len({hit.id for hit in hits}) == len(hits) <= K
                if mode != "lexical":
                    assert len(hits) == K
                assert all(hit.explanation is not None for hit in hits), n
