"""How well an encoder reads: a model's card, the corpus, the queries; and what follows from it."""

import json
import logging
from typing import Any

import numpy as np
import pytest

from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader
from semsearch.collection.reading import FOREIGN, Reading, record_reading, recorded_reading
from semsearch.collection.writer import open_for_writing
from semsearch.encoders.card import card_languages
from semsearch.errors import Corrupt
from semsearch.search.options import Options
from semsearch.search.questions import encode_questions
from semsearch.store import catalog
from semsearch.types import Document
from tests.fakes import FakeEncoder, index_into, make_documents, real_encoder, searching
from tests.test_ranking_pipeline import Truth, assert_same, pairs_of

# The card


@pytest.mark.parametrize(
    ("front", "languages"),
    [
        ("language: en", ("en",)),
        ("language: EN-us", ("en",)),
        ("language: pt_BR", ("pt",)),
        ("language:\n- en\n- de\n- zh-CN", ("en", "de", "zh")),
        ("language: [en]", ("en",)),
        ("language: multilingual", ()),
        ("language:\n- multilingual\n- en", ()),
        ("language: sin", ()),
        ("language: English", ()),
        ("language: 'no'", ("no",)),
        ("language: no", ()),  # YAML takes it for false
        ("language: [no, en]", ()),
        ("language: 3", ()),
        ("language: {en: yes}", ()),
        ("language:", ()),
        ("license: mit", ()),
        ("language: [en", ()),
        ("- en", ()),
    ],
)
def test_the_languages_that_a_card_names(tmp_path, front, languages):
    (tmp_path / "README.md").write_text(f"---\n{front}\n---\n# A model\n", encoding="utf-8")
    assert card_languages(tmp_path) == languages


@pytest.mark.parametrize("text", ["", "# A model without front matter\n", "---\nlanguage: en\n"])
def test_a_card_without_front_matter_says_nothing(tmp_path, text):
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    assert card_languages(tmp_path) == ()


def test_no_card_or_one_that_cannot_be_read_says_nothing(tmp_path):
    assert card_languages(tmp_path) == ()
    (tmp_path / "README.md").write_bytes(b"---\nlanguage: \xff\xfe\n---\n")
    assert card_languages(tmp_path) == ()
    (tmp_path / "README.md").unlink()
    (tmp_path / "README.md").mkdir()
    assert card_languages(tmp_path) == ()


def test_the_default_model_is_made_for_english():
    assert card_languages(real_encoder().folder) == ("en",)


# The corpus


def reading_of(folder):
    with Reader(folder) as reader:
        return recorded_reading(reader.snapshot(), reader.connection)


@pytest.mark.parametrize(
    ("languages", "language", "foreign"),
    [
        (["en"], "pt", True),
        (["en", "en"], "si", True),
        (["en"], "en", False),
        (["en"], None, False),
        (["en"], "none", False),
        ([], "pt", False),
        (["en", "de"], "pt", False),
    ],
)
def test_a_corpus_is_foreign_to_a_model_of_one_other_language(
    tmp_path, languages, language, foreign
):
    encoder: Any = FakeEncoder()
    index_into(tmp_path, encoder, make_documents(5))
    with open_for_writing(Layout(tmp_path)) as writer:
        record_reading(writer, languages, language)
    assert reading_of(tmp_path) == Reading(0.0, foreign)
    assert reading_of(tmp_path).weight == (FOREIGN if foreign else 1.0)


def test_the_share_of_unknown_tokens_is_that_of_the_live_passages(tmp_path):
    encoder: Any = FakeEncoder()
    documents = [Document("a", "bal car"), Document("b", "日本語 bal"), Document("c", "日本語")]
    index_into(tmp_path, encoder, documents)
    # Each text has two special tokens beside its words.
    assert reading_of(tmp_path) == Reading(round(2 / (4 + 4 + 3), 6), False)
    index_into(tmp_path, encoder, documents[:1], prune=True)
    assert reading_of(tmp_path) == Reading(0.0, False)
    with open_for_writing(Layout(tmp_path)) as writer:
        before = writer.snapshot.generation
        record_reading(writer, [], None)
        assert writer.snapshot.generation == before
        writer.delete(["a"])
        record_reading(writer, [], None)
    assert reading_of(tmp_path) == Reading()


def test_an_index_from_before_is_counted_when_it_is_searched(tmp_path):
    encoder: Any = FakeEncoder()
    index_into(tmp_path, encoder, [Document("a", "bal 日本語"), Document("b", "bal")])
    noted = reading_of(tmp_path)
    with open_for_writing(Layout(tmp_path)) as writer, writer.transaction():
        writer.connection.execute("DELETE FROM meta WHERE k = 'reading'")
    assert reading_of(tmp_path) == noted == Reading(round(1 / 7, 6), False)


@pytest.mark.parametrize(
    "text", ["", "{", "3", "null", "[]", '{"unknown": 0.1}', '{"unknown": "x", "foreign": false}']
)
def test_a_damaged_note_is_told_of(tmp_path, text):
    encoder: Any = FakeEncoder()
    index_into(tmp_path, encoder, make_documents(3))
    with open_for_writing(Layout(tmp_path)) as writer, writer.transaction():
        catalog.set_meta(writer.connection, "reading", text)
    with pytest.raises(Corrupt, match=r"catalog\.db: .*reading.*semsearch check"):
        searching(tmp_path, encoder).search("bal")
    assert searching(tmp_path, encoder).search("title", 3, Options("lexical"))


def test_vectors_and_tokens_of_a_foreign_model_count_less(tmp_path):
    encoder: Any = FakeEncoder()
    documents = [*make_documents(60), Document("x", "bal 日本語 car"), Document("y", "日本語")]
    index_into(tmp_path, encoder, documents)
    queries = ["bal car", "nor 日本語", "日本語 gol", "zzz"]
    found = {}
    for foreign in (False, True):
        with open_for_writing(Layout(tmp_path)) as writer:
            record_reading(writer, ["en"], "ja" if foreign else "en")
        truth = Truth(tmp_path, encoder, foreign=foreign)
        searcher = searching(tmp_path, encoder)
        for query, ranking in zip(queries, searcher.rank(queries, 20), strict=True):
            assert_same(pairs_of(ranking), truth.ranking(query, 20))
            found[foreign, query] = pairs_of(ranking)
    assert found[True, "bal car"] != found[False, "bal car"]


# The queries


def test_queries_are_encoded_once_each_with_its_tokens():
    encoder: Any = FakeEncoder()
    texts = ["bal car", "gol", "bal car", "?!", "日本語 bal"]
    found = encode_questions(encoder, texts)
    assert encoder.queries == texts
    for at, text in enumerate(texts):
        np.testing.assert_array_equal(found.vectors[at], encoder.vector(text))
        np.testing.assert_array_equal(found.tokens[at], encoder.token_vectors(text))
        assert found.tokens[at].shape[1] == encoder.token_dim
    np.testing.assert_allclose(found.known, [1, 1, 1, 1, 0.75])
    assert found.known.dtype == np.float32
    some = found.some([4, 0])
    np.testing.assert_array_equal(some.vectors, found.vectors[[4, 0]])
    np.testing.assert_array_equal(some.tokens[0], found.tokens[4])
    assert some.known.tolist() == [0.75, 1]


def test_no_queries_at_all():
    found = encode_questions(FakeEncoder(), [])  # type: ignore[arg-type]
    assert found.vectors.shape == (0, 32)
    assert found.tokens == ()
    assert found.known.shape == (0,)


@pytest.mark.parametrize(
    ("texts", "said"), [(["bal 日本語"], 25), (["bal"] * 9 + ["日本語"], None), (["日本語"], 33)]
)
def test_the_encoder_is_said_not_to_read_what_is_mostly_unknown(texts, said, caplog):
    with caplog.at_level(logging.WARNING):
        encode_questions(FakeEncoder(), texts)  # type: ignore[arg-type]
    found = [record.getMessage() for record in caplog.records]
    assert len(found) == (said is not None)
    if said is not None:
        assert found[0].startswith(f"fake does not know {said} % of the tokens")


def test_what_the_real_model_cannot_read_counts_less():
    encoder = real_encoder()
    found = encode_questions(encoder, ["a plain question", "ප්‍රශ්නයක්", "", "a plain question"])
    assert found.known[0] == 1
    assert found.known[1] < 0.9
    assert [len(rows) for rows in found.tokens] == [3, len(found.tokens[1]), 0, 3]
    for rows in found.tokens:
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=2e-2)
    np.testing.assert_array_equal(found.tokens[0], found.tokens[3])


def test_what_is_noted_is_json_that_people_can_read(tmp_path):
    encoder: Any = FakeEncoder()
    index_into(tmp_path, encoder, [Document("a", "bal 日本語")])
    with Reader(tmp_path) as reader:
        text = catalog.get_meta(reader.connection, "reading")
    assert json.loads(text or "") == {"unknown": 0.25, "foreign": False}
