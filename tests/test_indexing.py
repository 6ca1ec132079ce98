"""Indexing runs: what is encoded, what is counted, and what an interrupted run leaves behind."""

from dataclasses import replace

import numpy as np
import pytest

from semsearch.collection import layout, writer
from semsearch.collection.layout import Layout
from semsearch.collection.maintain import compact
from semsearch.collection.reader import Reader
from semsearch.collection.writer import open_for_writing
from semsearch.encoders import Encoded
from semsearch.errors import InputError, Mismatch, ModelError, UsageError
from semsearch.indexing import Source, choose_long_text, run_indexing, source
from semsearch.indexing.source import windows
from semsearch.search.options import Options
from semsearch.store.filters import parse_filter
from semsearch.types import Document
from tests.fakes import (
    FakeEncoder,
    contents,
    dump,
    index_into,
    make_documents,
    opened,
    searching,
)


@pytest.fixture
def encoder():
    return FakeEncoder()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "made.idx"


@pytest.fixture
def windows_of_ten(monkeypatch):
    monkeypatch.setattr(source, "WINDOW_DOCUMENTS", 10)


def counts(summary, *names):
    """The named counts; every other one must be zero."""
    kinds = ("new", "updated", "unchanged", "moved", "missing", "pruned", "empty", "duplicates")
    assert {kind: getattr(summary, kind) for kind in kinds if kind not in names} == {
        kind: 0 for kind in kinds if kind not in names
    }
    return tuple(getattr(summary, name) for name in names)


def delete(folder, *ids):
    with open_for_writing(Layout(folder)) as held:
        return held.delete(ids)


def failing_after(documents, number, error):
    """The documents, and an error in place of the one with this number."""
    yield from documents[:number]
    raise error


# What is counted


def test_a_first_run_stores_every_document_as_it_is(folder, encoder):
    documents = make_documents(30)
    summary = index_into(folder, encoder, documents)
    assert counts(summary, "new") == (30,)
    assert (summary.encoded, summary.read) == (30, 30)
    assert summary.tokens == sum(len(d.content.split()) + 2 for d in documents)
    stored = contents(folder)
    assert list(stored) == [d.id for d in documents]
    assert [stored[d.id] for d in documents] == documents
    assert {d.source for d in stored.values()} == {"corpus.jsonl"}
    assert encoder.documents == [d.content for d in documents]


def test_vectors_are_those_of_title_and_text(folder, encoder):
    documents = [
        Document("both", "some text", "A title"),
        Document("bare", "  only text  "),
        Document("head", "", "only a title"),
    ]
    index_into(folder, encoder, documents)
    assert encoder.documents == ["A title some text", "only text", "only a title"]
    expected = [encoder.vector(text).astype(np.float16) for text in encoder.documents]
    found = [np.frombuffer(row[-1], np.float32) for row in dump(folder)]
    np.testing.assert_array_equal(found, np.array(expected, np.float32))


def test_new_updated_unchanged_and_missing(folder, encoder):
    documents = make_documents(20)
    index_into(folder, encoder, documents)
    encoder.documents.clear()
    changed = replace(documents[3], text="entirely other words")
    again = [*documents[:3], changed, *documents[5:], Document("more", "one more text")]
    summary = index_into(folder, encoder, again)
    assert counts(summary, "new", "updated", "unchanged", "missing") == (1, 1, 18, 1)
    assert encoder.documents == [changed.content, "one more text"]
    stored = contents(folder)
    assert stored["d0003"] == changed
    assert stored["d0004"] == documents[4], "nothing is deleted unless asked for"
    assert len(stored) == 21


def test_an_unchanged_corpus_changes_nothing(folder, encoder):
    documents = make_documents(20)
    index_into(folder, encoder, documents)
    before = dump(folder)
    with Reader(folder) as reader:
        generation = reader.snapshot().generation
    summary = index_into(folder, encoder, documents)
    assert counts(summary, "unchanged") == (20,)
    assert summary.encoded == 0
    assert encoder.calls == 1
    assert dump(folder) == before
    with Reader(folder) as reader:
        assert reader.snapshot().generation == generation


def test_empty_documents_are_skipped_and_counted(folder, encoder):
    blank = [Document(f"e{n}", " \n\t", "") for n in range(7)]
    summary = index_into(folder, encoder, [*make_documents(3), *blank])
    assert counts(summary, "new", "empty") == (3, 7)
    assert summary.empty_ids == ["e0", "e1", "e2", "e3", "e4"]
    assert len(contents(folder)) == 3


def test_a_document_that_became_empty_counts_as_gone(folder, encoder):
    documents = make_documents(3)
    index_into(folder, encoder, documents)
    emptied = [replace(documents[0], text="", title=""), *documents[1:]]
    summary = index_into(folder, encoder, emptied)
    assert counts(summary, "unchanged", "empty", "missing") == (2, 1, 1)
    assert contents(folder)["d0000"] == documents[0]
    summary = index_into(folder, encoder, emptied, prune=True)
    assert counts(summary, "unchanged", "empty", "pruned") == (2, 1, 1)
    assert set(contents(folder)) == {"d0001", "d0002"}


def test_pruning_by_an_empty_source_is_refused(folder, encoder):
    documents = make_documents(3)
    index_into(folder, encoder, documents)
    with pytest.raises(InputError, match="holds no documents: refusing to prune the 3 that"):
        index_into(folder, encoder, [], prune=True)
    assert len(contents(folder)) == 3


def test_long_and_unreadable_texts_are_counted(folder):
    encoder = FakeEncoder(max_length=6)
    texts = ["one two", "one two three four five", "ආයුබෝවන් two"]
    with open_for_writing(Layout(folder)) as held:
        choose_long_text(held, "truncate")
    summary = index_into(folder, encoder, [Document(t, t) for t in texts])
    assert summary.truncated == 1
    # Sinhala vowel signs separate the words of this encoder; each of its words is unknown.
    assert 0 < summary.unknown == sum(int(n) for n in encoder._encode(texts).unknown)
    assert summary.unknown_share == summary.unknown / summary.tokens


def test_a_change_of_source_is_reported(folder, encoder):
    documents = make_documents(6)
    index_into(folder, encoder, documents, "a.jsonl")
    changed = replace(documents[1], text="written anew")
    summary = index_into(folder, encoder, [documents[0], changed], "b.jsonl")
    assert counts(summary, "unchanged", "updated", "moved") == (1, 1, 2)
    stored = contents(folder)
    assert [stored[f"d000{n}"].source for n in range(3)] == ["b.jsonl", "b.jsonl", "a.jsonl"]
    assert stored["d0001"] == changed
    assert encoder.documents == [d.content for d in documents] + [changed.content]


# What is encoded


def test_identical_texts_are_encoded_once(folder, encoder):
    documents = [Document(f"{n}", f"text {n % 3}") for n in range(12)]
    summary = index_into(folder, encoder, documents)
    assert summary.new == 12
    assert summary.encoded == 3
    assert encoder.documents == ["text 0", "text 1", "text 2"]
    rows = dump(folder)
    assert {row[-1] for row in rows[0::3]} == {rows[0][-1]}
    assert len({row[-1] for row in rows}) == 3


@pytest.mark.usefixtures("windows_of_ten")
def test_identical_texts_are_encoded_once_across_windows(folder, encoder):
    summary = index_into(folder, encoder, [Document(f"{n}", f"text {n % 7}") for n in range(35)])
    assert summary.encoded == 7
    assert sorted(encoder.documents) == [f"text {n}" for n in range(7)]


def test_a_change_of_metadata_encodes_nothing(folder, encoder):
    documents = make_documents(10)
    index_into(folder, encoder, documents)
    vectors = [row[-1] for row in dump(folder)]
    changed = [replace(d, metadata={"year": 1900 + n}) for n, d in enumerate(documents)]
    summary = index_into(folder, encoder, changed)
    assert counts(summary, "updated") == (10,)
    assert encoder.calls == 1
    assert [row[-1] for row in dump(folder)] == vectors
    with searching(folder, encoder).reader as reader:
        assert len(reader.vids_matching(parse_filter(["year=1903"])) or ()) == 1


def test_words_moved_from_the_title_to_the_text_encode_nothing(folder, encoder):
    index_into(folder, encoder, [Document("a", "two three", "one")])
    summary = index_into(folder, encoder, [Document("a", "three", "one two")])
    assert counts(summary, "updated") == (1,)
    assert encoder.documents == ["one two three"]


def test_a_new_id_for_the_same_text_encodes_nothing(folder, encoder):
    documents = make_documents(5)
    index_into(folder, encoder, documents)
    renamed = [replace(d, id=f"new-{d.id}") for d in documents]
    summary = index_into(folder, encoder, renamed, prune=True)
    assert counts(summary, "new", "pruned") == (5, 5)
    assert encoder.calls == 1
    assert list(contents(folder)) == [d.id for d in renamed]


def test_deleted_and_added_again_before_compacting_encodes_nothing(folder, encoder):
    documents = make_documents(5)
    index_into(folder, encoder, documents)
    assert delete(folder, "d0001", "d0002", "none") == ["d0001", "d0002"]
    summary = index_into(folder, encoder, documents)
    assert counts(summary, "new", "unchanged") == (2, 3)
    assert encoder.calls == 1
    assert set(contents(folder)) == {d.id for d in documents}


def test_what_was_compacted_away_is_encoded_again(folder, encoder):
    documents = make_documents(5)
    index_into(folder, encoder, documents)
    delete(folder, "d0001")
    with open_for_writing(Layout(folder)) as held:
        compact(held)
    encoder.documents.clear()
    index_into(folder, encoder, documents)
    assert encoder.documents == [documents[1].content]


# Duplicates


def twice(first, second, apart):
    """An id that comes twice, so many documents apart."""
    fill = [Document(f"fill {n}", f"filling {n}") for n in range(apart)]
    return [
        Document("same", first, source="c.jsonl", line=1),
        *fill,
        Document("same", second, source="c.jsonl", line=apart + 2),
    ]


@pytest.mark.usefixtures("windows_of_ten")
@pytest.mark.parametrize("apart", [2, 25])
def test_a_duplicate_is_an_error_that_names_both_lines(folder, encoder, apart):
    with pytest.raises(InputError) as caught:
        index_into(folder, encoder, twice("one", "two", apart), "c.jsonl")
    assert str(caught.value) == (
        f"c.jsonl:{apart + 2}: duplicate id 'same', first at c.jsonl:1: make ids unique, or choose"
        " --on-duplicate replace or skip"
    )
    whole_windows = 0 if apart == 2 else 20
    assert len(contents(folder)) == whole_windows


@pytest.mark.usefixtures("windows_of_ten")
@pytest.mark.parametrize("apart", [2, 25])
@pytest.mark.parametrize(("choice", "kept"), [("replace", "two"), ("skip", "one")])
def test_a_duplicate_can_replace_or_be_skipped(folder, encoder, apart, choice, kept):
    summary = index_into(folder, encoder, twice("one", "two", apart), on_duplicate=choice)
    assert summary.duplicates == 1
    assert summary.new == apart + 1
    assert summary.read == apart + 2
    stored = contents(folder)
    assert len(stored) == apart + 1
    assert stored["same"].text == kept


def test_a_duplicate_across_sources_of_one_run(folder, encoder):
    sources = [Source("a", [Document("x", "one")]), Source("b", [Document("x", "two", line=7)])]
    with (
        open_for_writing(Layout(folder)) as held,
        pytest.raises(InputError, match="^b:7: duplicate id 'x', first at a:"),
    ):
        run_indexing(held, encoder, sources)


def test_across_runs_the_later_document_wins(folder, encoder):
    index_into(folder, encoder, [Document("x", "one")], "a")
    assert counts(index_into(folder, encoder, [Document("x", "two")], "b"), "updated", "moved") == (
        1,
        1,
    )
    assert contents(folder)["x"] == Document("x", "two")


# Interruptions


@pytest.mark.usefixtures("windows_of_ten")
def test_a_malformed_record_keeps_the_windows_before_it(folder, encoder):
    documents = make_documents(40)
    error = InputError("not valid JSON", "c.jsonl", 36)
    with pytest.raises(InputError, match="c.jsonl:36"):
        index_into(folder, encoder, failing_after(documents, 35, error))
    assert list(contents(folder)) == [d.id for d in documents[:30]]
    query = documents[4].content
    found = searching(folder, encoder).search(query, 1)
    assert found[0].id == "d0004"
    encoder.documents.clear()
    summary = index_into(folder, encoder, documents)
    assert counts(summary, "new", "unchanged") == (10, 30)
    assert encoder.documents == [d.content for d in documents[30:]]


@pytest.mark.usefixtures("windows_of_ten")
def test_ctrl_c_inside_the_encoder_leaves_a_usable_index(folder):
    documents = make_documents(40)

    def interrupt(batch):
        if batch == 3:
            raise KeyboardInterrupt

    stopped = FakeEncoder(before_batch=interrupt)
    with pytest.raises(KeyboardInterrupt):
        index_into(folder, stopped, documents)
    assert list(contents(folder)) == [d.id for d in documents[:20]]
    encoder = FakeEncoder()
    for mode in ("hybrid", "dense", "lexical"):
        hits = searching(folder, encoder).search(documents[7].content, 3, Options(mode))
        assert hits[0].id == "d0007"
    summary = index_into(folder, encoder, documents)
    assert counts(summary, "new", "unchanged") == (20, 20)
    assert encoder.documents == [d.content for d in documents[20:]]


@pytest.fixture
def reorganising_often(monkeypatch):
    """Segments, merges and rotations after a handful of rows."""
    monkeypatch.setattr(source, "WINDOW_DOCUMENTS", 25)
    monkeypatch.setattr(writer, "FLUSH_ROWS", 40)
    monkeypatch.setattr(layout, "MERGE_COUNT", 3)
    monkeypatch.setattr(layout, "MERGE_LIMITS", (120, 400))
    monkeypatch.setattr(layout, "ROTATION_ROWS_PER_DIM", 4)


@pytest.mark.usefixtures("reorganising_often")
@pytest.mark.parametrize("seed", range(2))
def test_a_run_killed_again_and_again_ends_as_an_uninterrupted_one(tmp_path, seed):
    documents = make_documents(300, seed)
    whole = tmp_path / "whole.idx"
    index_into(whole, FakeEncoder(), documents)
    with Reader(whole) as reader:
        snapshot = reader.snapshot()
        assert snapshot.rotation is not None
        assert snapshot.segments

    random = np.random.default_rng(seed)
    folder, encoded, kills = tmp_path / "killed.idx", [], 0
    for _ in range(100):
        fuse = int(random.integers(1, 5))

        def interrupt(batch, fuse=fuse):
            if batch == fuse:
                raise KeyboardInterrupt

        encoder = FakeEncoder(before_batch=interrupt)
        try:
            index_into(folder, encoder, documents)
            encoded += encoder.documents
            break
        except KeyboardInterrupt:
            kills += 1
            encoded += encoder.documents
    assert kills > 2
    assert dump(folder) == dump(whole)
    assert len(encoded) <= len(documents) + kills * 25, "only the window in hand is encoded again"
    wanted = [d.content for d in documents[:20]]
    ranks = [
        searching(path, FakeEncoder()).rank(wanted, 10, Options("dense", dims=8))
        for path in (whole, folder)
    ]
    assert ranks[0] == ranks[1]


# Pruning


def test_prune_removes_what_the_source_no_longer_holds(folder, encoder):
    documents = make_documents(10)
    index_into(folder, encoder, documents[:6], "a.jsonl")
    index_into(folder, encoder, documents[6:], "b.jsonl")
    summary = index_into(folder, encoder, documents[:2], "a.jsonl", prune=True)
    assert counts(summary, "unchanged", "pruned") == (2, 4)
    assert list(contents(folder)) == [d.id for d in [*documents[:2], *documents[6:]]]


def test_prune_never_touches_what_a_stream_brought(folder, encoder):
    documents = make_documents(4)
    index_into(folder, encoder, documents, "stdin", prunable=False)
    summary = index_into(folder, encoder, documents[:1], "stdin", prunable=False, prune=True)
    assert counts(summary, "unchanged") == (1,)
    assert len(contents(folder)) == 4


def test_prune_leaves_what_moved_to_another_source(folder, encoder):
    documents = make_documents(4)
    index_into(folder, encoder, documents, "a.jsonl")
    index_into(folder, encoder, documents[2:], "b.jsonl")
    summary = index_into(folder, encoder, documents[:1], "a.jsonl", prune=True)
    assert counts(summary, "unchanged", "pruned") == (1, 1)
    assert list(contents(folder)) == ["d0000", "d0002", "d0003"]


@pytest.mark.usefixtures("windows_of_ten")
def test_prune_waits_for_the_end_of_the_source(folder, encoder):
    documents = make_documents(30)
    index_into(folder, encoder, documents)
    broken = failing_after(documents, 15, InputError("bad"))
    with pytest.raises(InputError):
        index_into(folder, encoder, broken, prune=True)
    assert len(contents(folder)) == 30


def test_a_source_read_to_its_end_is_recorded(folder, encoder):
    from semsearch.store import catalog

    index_into(folder, encoder, make_documents(2), "a.jsonl")
    with pytest.raises(InputError):
        index_into(folder, encoder, failing_after(make_documents(4), 3, InputError("bad")), "b")
    with Reader(folder) as reader:
        assert catalog.sources(reader.connection) == ["a.jsonl"]


# Windows


def test_windows_are_cut_by_count_and_by_characters(monkeypatch):
    monkeypatch.setattr(source, "WINDOW_DOCUMENTS", 4)
    monkeypatch.setattr(source, "WINDOW_CHARACTERS", 100)
    lengths = [10, 20, 30, 10, 10, 90, 10, 200, 1, 1]
    documents = [Document(str(n), "x" * length) for n, length in enumerate(lengths)]
    cut = [[len(d.text) for d in window] for window in windows(documents)]
    assert cut == [[10, 20, 30, 10], [10, 90], [10, 200], [1, 1]]
    assert list(windows([])) == []


def test_titles_count_as_characters_too(monkeypatch):
    monkeypatch.setattr(source, "WINDOW_CHARACTERS", 100)
    documents = [Document(str(n), "x", "t" * 60) for n in range(4)]
    assert [len(window) for window in windows(documents)] == [2, 2]


def test_progress_counts_every_document_once(folder, encoder, windows_of_ten):
    documents = [*make_documents(23), Document("e", ""), Document("twin", "title 0")]
    seen: list[int] = []
    index_into(folder, encoder, documents, progress=seen.append)
    assert sum(seen) == len(documents)
    again: list[int] = []
    index_into(folder, encoder, documents, progress=again.append)
    assert sum(again) == len(documents)


# Models and widths


def test_another_model_is_refused(folder, encoder):
    index_into(folder, encoder, make_documents(3))
    before = dump(folder)
    other = FakeEncoder(name="other")
    with pytest.raises(Mismatch) as caught:
        index_into(folder, other, make_documents(5))
    assert str(caught.value) == (
        f"{folder}: the index was made by fake ({encoder.fingerprint[:12]}), not by other"
        f" ({other.fingerprint[:12]}): leave out -m, or make a new index with -i"
    )
    assert dump(folder) == before
    assert other.documents == []


def test_another_width_is_refused(folder, encoder):
    index_into(folder, encoder, make_documents(3), dims=16)
    with pytest.raises(Mismatch, match="stores 16 dimensions"):
        index_into(folder, encoder, make_documents(3), dims=8)
    index_into(folder, encoder, make_documents(4), dims=16)
    index_into(folder, encoder, make_documents(5))
    assert len(contents(folder)) == 5


@pytest.mark.parametrize("dims", [0, -1, 33])
def test_a_width_that_the_model_does_not_have_is_refused(folder, encoder, dims):
    with pytest.raises(UsageError, match=f"--dims {dims}: fake makes vectors of 32 dimensions"):
        index_into(folder, encoder, make_documents(3), dims=dims)


def stored(folder):
    with Reader(folder) as reader:
        snapshot = reader.snapshot()
        return snapshot.rows.dim, snapshot.dims, snapshot.rotation


def test_a_matryoshka_model_is_cut_at_once_and_never_rotated(folder, monkeypatch):
    monkeypatch.setattr(layout, "ROTATION_ROWS_PER_DIM", 1)
    encoder = FakeEncoder(matryoshka_dims=(16, 8))
    documents = make_documents(100)
    index_into(folder, encoder, documents, dims=16)
    with open_for_writing(Layout(folder)) as held:
        compact(held)
    assert stored(folder) == (16, 16, None)
    expected = [encoder.vector(d.content)[:16].astype(np.float16) for d in documents]
    found = [np.frombuffer(row[-1], np.float32) for row in dump(folder)]
    np.testing.assert_array_equal(found, np.array(expected, np.float32))


def test_other_models_are_cut_only_once_they_are_rotated(folder, monkeypatch):
    monkeypatch.setattr(layout, "ROTATION_ROWS_PER_DIM", 2)
    encoder = FakeEncoder()
    documents = make_documents(100)
    index_into(folder, encoder, documents[:63], dims=16)
    assert stored(folder) == (32, 16, None), "too few to fit a rotation: all is kept"
    index_into(folder, encoder, documents, dims=16)
    width, dims, rotation = stored(folder)
    assert (width, dims) == (16, 16)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(32), atol=1e-5)
    expected = np.array([encoder.vector(d.content) for d in documents]) @ rotation
    found = np.array([np.frombuffer(row[-1], np.float32) for row in dump(folder)])
    np.testing.assert_allclose(found, expected[:, :16], atol=1e-3)
    energy = (expected**2).sum(axis=0)
    assert energy[:16].sum() > 0.8 * energy.sum(), "the first half now holds most of it"
    summary = index_into(folder, encoder, [*documents, Document("x", "some new words")])
    assert counts(summary, "new", "unchanged") == (1, 100)
    assert stored(folder)[0] == 16


def test_a_rotation_changes_no_score_at_full_width(tmp_path, monkeypatch):
    documents = make_documents(100)
    encoder = FakeEncoder()
    index_into(tmp_path / "plain", encoder, documents)
    monkeypatch.setattr(layout, "ROTATION_ROWS_PER_DIM", 2)
    index_into(tmp_path / "turned", encoder, documents)
    assert stored(tmp_path / "plain")[2] is None
    assert stored(tmp_path / "turned")[2] is not None
    texts = [d.content[:20] for d in documents[:10]]
    plain, turned = (
        searching(tmp_path / name, encoder).rank(texts, 100, Options("dense"))
        for name in ("plain", "turned")
    )
    for one, other in zip(plain, turned, strict=True):
        scores = {r.id: r.score for r in one}
        assert scores.keys() == {r.id for r in other}
        np.testing.assert_allclose(
            [r.score for r in other], [scores[r.id] for r in other], atol=2e-3
        )


def test_texts_known_before_a_rotation_are_not_encoded_after_it(folder, encoder, monkeypatch):
    documents = make_documents(80)
    index_into(folder, encoder, documents[:10])
    monkeypatch.setattr(layout, "ROTATION_ROWS_PER_DIM", 2)
    index_into(folder, encoder, documents)
    assert stored(folder)[2] is not None
    index_into(folder, encoder, [replace(d, id=f"copy {d.id}") for d in documents])
    assert len(encoder.documents) == 80
    rows = dump(folder)
    assert [row[-1] for row in rows[:80]] == [row[-1] for row in rows[80:]]


# Bad vectors and bad documents


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_a_vector_without_a_direction_is_refused(folder, value):
    class Broken(FakeEncoder):
        def _encode(self, texts):
            good = super()._encode(texts)
            good.vectors[[text == "title bad" for text in texts]] = value
            return Encoded(good.vectors, good.tokens, good.truncated, good.unknown)

    documents = [*make_documents(5), Document("bad one", "bad", "title")]
    with pytest.raises(ModelError) as caught:
        index_into(folder, Broken(), documents)
    assert str(caught.value) == (
        "fake: gives a vector without a direction (NaN, infinite or zero) for the text 'title bad':"
        " nothing of its window was stored"
    )
    assert contents(folder) == {}


BAD = {
    "an id with a lone surrogate": Document("a\ud800", "text"),
    "an id with a NUL": Document("a\0b", "text"),
    "an empty id": Document("  ", "text"),
    "an id that is no text": Document(1.5, "text"),  # type: ignore[arg-type]
    "text that is no text": Document("a", 7),  # type: ignore[arg-type]
    "metadata that JSON cannot hold": Document("a", "text", metadata={"when": object()}),
    "metadata that is not finite": Document("a", "text", metadata={"x": float("nan")}),
    "numbers beyond 64 bits": Document("a", "text", metadata={"x": 2**64}),
}


@pytest.mark.parametrize("name", BAD)
def test_documents_made_by_hand_are_checked_like_those_read(folder, encoder, name):
    good = make_documents(3)
    with opened(folder, encoder) as index:
        with pytest.raises(InputError) as caught:
            index.add([*good, BAD[name]])
        assert str(caught.value).startswith("python:4: ")
        assert "\n" not in str(caught.value)
        assert len(index) == 0
        index.add(good)
        assert list(index.documents()) == good


def test_documents_made_by_hand_are_mended_like_those_read(folder, encoder):
    bad = Document("a", "one \ud800 two \0 three", "t\udfff", {"k": "\ud800", "metadata": "m"})
    mended = {"k": "\ufffd", "metadata": "m"}
    number = Document(7, "text")  # type: ignore[arg-type]
    with opened(folder, encoder) as index:
        index.add([bad, number])
        assert list(index.documents()) == [
            Document("a", "one \ufffd two \ufffd three", "t\ufffd", mended),
            Document("7", "text"),
        ]
