"""Token files: read as written, never read wrong, and never needed to search.

That the codes follow their passages through every operation and every kill is shown with the
vectors' (test_collection, test_faults_kills); this is what token files have beside those.
"""

import logging
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semsearch.collection import maintain, tokens
from semsearch.collection.check import check_index
from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader
from semsearch.collection.token_fill import fill_tokens
from semsearch.collection.writer import open_for_writing
from semsearch.errors import Corrupt, Mismatch
from semsearch.indexing import choose_token_vectors, complete_tokens, refuse_token_vectors
from semsearch.maxsim import POOLED, Codes, TokenCodec
from semsearch.store import catalog, passages
from semsearch.store.blocks import BLOCK, HEADER
from semsearch.store.token_files import TokenFile, TokenFormat, in_one, joined, write_tokens
from semsearch.threads import one_blas_thread
from semsearch.types import Document
from tests.fakes import FakeEncoder, index_into, make_documents, opened
from tests.store_model import (
    DIM,
    TOKENS,
    assert_holds,
    codes_of,
    encoder_row,
    files_in,
    named_files,
    put,
    small_sizes,
)

MADE = TokenFormat("ab" * 32, "a codec", 5)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    small_sizes(monkeypatch.setattr)
    monkeypatch.setattr(tokens, "_REPORTED", set())


def some_codes(counts, seed=0, width=MADE.width):
    """Codes of so many tokens a row; None for a count of -1."""
    random = np.random.default_rng(seed)
    return [None if c < 0 else random.integers(0, 256, (c, width), np.uint8) for c in counts]


def written(folder, rows, step=7):
    parts = [in_one(rows[at : at + step]) for at in range(0, len(rows), step)]
    found = write_tokens(folder, parts, MADE)
    assert found is not None
    assert found.name == f"t-{found.sha256[:24]}.tok"
    return folder / found.name, found.sha256


def assert_rows(found, expected):
    assert found.counts.tolist() == [-1 if row is None else len(row) for row in expected]
    some = [row for row in expected if row is not None and len(row)]
    assert len(found.codes) == sum(map(len, some))
    if some:
        np.testing.assert_array_equal(found.codes, np.concatenate(some))


# ---- the file


@given(data=st.data(), counts=st.lists(st.integers(-1, 9), min_size=1, max_size=60))
def test_any_rows_read_back_as_they_were_written(tmp_path_factory, data, counts):
    rows = some_codes(counts)
    folder = tmp_path_factory.getbasetemp() / "rows"
    if max(counts) < 0:
        assert write_tokens(folder, [in_one(rows)], MADE) is None
        assert not list(folder.glob(".tmp*"))
        return
    file = TokenFile(*written(folder, rows))
    assert (file.n, file.m, file.format) == (len(rows), sum(c for c in counts if c > 0), MADE)
    assert file.counts().tolist() == counts
    wanted = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=12))
    assert_rows(file.take(np.array(wanted, np.int64)), [rows[i] for i in wanted])
    file.verify()


def test_the_layout_is_readable_by_numpy_alone(tmp_path):
    rows = some_codes([3, 0, -1, 4])
    path, _ = written(tmp_path, rows)
    raw = path.read_bytes()
    assert raw.startswith(b"STOKv001")
    codes = np.frombuffer(raw, np.uint8, 35, HEADER).reshape(7, 5)
    np.testing.assert_array_equal(codes, np.concatenate([r for r in rows if r is not None]))
    assert np.frombuffer(raw, "<i8", 5, HEADER + 40).tolist() == [0, 3, ~3, 3, 7]


def test_a_long_file_checks_every_block_that_it_reads(tmp_path):
    counts = np.random.default_rng(1).integers(-1, 400, 60).tolist()
    rows = some_codes(counts)
    path, sha256 = written(tmp_path, rows)
    sound = path.read_bytes()
    assert len(sound) > HEADER + 10 * BLOCK
    spread = range(0, len(sound), 557)
    for number, at in enumerate([*spread, 9, HEADER - 1, HEADER, len(sound) - 1]):
        raw = bytearray(sound)
        raw[at] ^= 1 << number % 8
        path.write_bytes(raw)
        refused = 0
        try:
            file = TokenFile(path, sha256)
        except Corrupt:
            continue
        for row, expected in enumerate(rows):
            try:
                assert_rows(file.take(np.array([row])), [expected])
            except Corrupt:
                refused += 1
        with pytest.raises(Corrupt, match="the token vectors are damaged"):
            file.verify()
        padding = HEADER + sum(len(r) for r in rows if r is not None) * MADE.width
        assert refused or padding <= at < padding + 8


def test_codes_and_counts_must_agree(tmp_path):
    wrong = Codes(np.zeros((3, MADE.width), np.uint8), np.array([2]))
    with pytest.raises(ValueError, match="15 bytes for 2 codes of 5"):
        write_tokens(tmp_path / "seg", [wrong], MADE)
    assert list((tmp_path / "seg").iterdir()) == []


# ---- an index


def document(number, text="some text"):
    return Document(f"d{number}", f"{text} {number}", f"T{number % 3}", {}, "corpus")


def fill(folder, width=TOKENS):
    """Two segments and recent passages, some deleted."""
    with open_for_writing(Layout(folder)) as writer:
        writer.adopt_encoder(encoder_row(), DIM, width)
        for first in (0, 9, 18):
            put(writer, [document(n) for n in range(first, first + (9 if first < 18 else 3))])
        writer.delete(["d3", "d11", "d19"])
        assert len(writer.snapshot.segments) == 2
        assert len(writer.snapshot.rows.recent[0])
    return {d.id: d for d in map(document, range(21)) if d.id not in ("d3", "d11", "d19")}


def taken(folder):
    with Reader(folder) as reader:
        snapshot = reader.snapshot()
        present, _ = snapshot.tokens.take(np.arange(len(snapshot.rows)))
        return snapshot, present


def first_file(folder):
    with Reader(folder) as reader:
        row = reader.snapshot().segments[0]
    return row, Layout(folder).segments / str(row.tok_name)


def test_rows_come_in_the_order_they_are_asked_for(tmp_path):
    fill(tmp_path)
    with Reader(tmp_path) as reader:
        snapshot = reader.snapshot()
        n = len(snapshot.rows)
        _, every = snapshot.tokens.take(np.arange(n))
        parts = np.split(every.codes, np.cumsum(every.counts)[:-1])
        random = np.random.default_rng(2)
        for size in (0, 1, 7, 50):
            wanted = random.integers(0, n, size)
            present, found = snapshot.tokens.take(wanted)
            assert (present.dtype.kind, found.counts.dtype) == ("b", np.dtype(np.int64))
            assert found.codes.shape == (found.counts.sum(), TokenCodec(TOKENS).width)
            assert found.counts.tolist() == every.counts[wanted].tolist()
            expected = joined([Codes(parts[i], np.array([len(parts[i])])) for i in wanted])
            np.testing.assert_array_equal(found.codes.ravel(), expected.codes.ravel())


def test_what_needs_no_codes_opens_no_token_file(tmp_path, monkeypatch, caplog):
    fill(tmp_path)
    for path in Layout(tmp_path).segments.glob("*.tok"):
        path.unlink()
    monkeypatch.setattr(tokens, "TokenFile", None)
    with Reader(tmp_path) as reader:
        snapshot = reader.snapshot()
        assert len(snapshot.rows.take(np.arange(len(snapshot.rows))))
    assert caplog.records == []


def test_a_missing_file_is_reported_once_and_its_passages_have_no_codes(tmp_path, caplog):
    fill(tmp_path)
    _, present = taken(tmp_path)
    row, path = first_file(tmp_path)
    path.unlink()
    for _ in range(2):
        _, now = taken(tmp_path)
        assert not now[: row.n].any()
        np.testing.assert_array_equal(now[row.n :], present[row.n :])
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: the token vectors are missing: computed at query time;"
        " `semsearch compact --token-vectors` computes them again"
    ]


def test_an_open_file_outlives_its_name(tmp_path, caplog):
    fill(tmp_path)
    before, present = taken(tmp_path)
    first_file(tmp_path)[1].unlink()
    np.testing.assert_array_equal(taken(tmp_path)[1], present)  # shared by snapshots
    np.testing.assert_array_equal(np.flatnonzero(~present), before.tokens.missing())
    assert caplog.records == []


def test_damage_costs_the_passages_it_touches_and_compacting_keeps_the_others(tmp_path, caplog):
    with open_for_writing(Layout(tmp_path)) as writer:
        writer.adopt_encoder(encoder_row(), DIM, TOKENS)
        put(writer, [document(n, "word " * 40) for n in range(300)])
    row, path = first_file(tmp_path)
    assert path.stat().st_size > HEADER + 4 * BLOCK
    raw = bytearray(path.read_bytes())
    raw[HEADER + 2 * BLOCK + 17] ^= 8
    path.write_bytes(raw)
    snapshot, present = taken(tmp_path)
    lost = np.setdiff1d(np.flatnonzero(~present), snapshot.tokens.missing())
    assert 0 < len(lost) < row.n / 2
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{path}: the token vectors are damaged: computed")
    with open_for_writing(Layout(tmp_path)) as writer:
        maintain.compact(writer)
        assert writer.snapshot.tokens.missing().tolist() == np.flatnonzero(~present).tolist()
    with Reader(tmp_path) as reader:
        assert [str(finding) for finding in check_index(reader)] == []


def test_codes_of_another_version_are_reported_and_not_used(tmp_path, monkeypatch, caplog):
    fill(tmp_path)
    monkeypatch.setattr(TokenCodec, "name", "another codec")
    snapshot, present = taken(tmp_path)
    assert not present.any()
    assert snapshot.tokens.missing().tolist() == list(range(len(snapshot.rows)))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3
    assert all("token vectors of another version" in line for line in said)


def test_a_snapshot_whose_files_were_merged_away_says_nothing(tmp_path, caplog):
    fill(tmp_path)
    with Reader(tmp_path) as reader:
        held = reader.snapshot()
        with open_for_writing(Layout(tmp_path)) as writer:
            maintain.compact(writer)
        present, _ = held.tokens.take(np.arange(len(held.rows)))
        recent = len(held.rows.recent[0])
        assert not present[: len(present) - recent].any()
    assert caplog.records == []


def test_an_index_from_before_works_and_can_be_given_codes(tmp_path):
    model = fill(tmp_path, width=0)
    with open_for_writing(Layout(tmp_path)) as writer:
        with writer.transaction():  # as it was before there were any
            writer.connection.execute("DELETE FROM meta WHERE k = ?", (catalog.CODED_WIDTH,))
        assert writer.snapshot.tokens.format is None
        for work in (maintain.merge_segments, maintain.compact):
            work(writer)
            with Reader(tmp_path) as reader:
                assert_holds(reader.snapshot(), reader, model)
                assert not list(Layout(tmp_path).segments.glob("*.tok"))
        put(writer, [document(30)])
        model["d30"] = document(30)
        writer.keep_tokens(TOKENS)
        put(writer, [document(31)])
        model["d31"] = document(31)
        snapshot = writer.snapshot
        split = int(np.searchsorted(snapshot.rows.ids, snapshot.segments[-1].last_vid, "right"))
        for part in (slice(0, split // 2), slice(split // 2, split), slice(split, None)):
            vids = snapshot.rows.ids[part]
            found = passages.passages_of(writer.connection, vids)
            owners = Reader(tmp_path).documents_of(vids.tolist())
            texts = [
                owners[vid].document.content[found[vid].start : found[vid].end]
                for vid in vids.tolist()
            ]
            fill_tokens(writer, vids, [codes_of(text) for text in texts])
            assert files_in(tmp_path) == named_files(writer.snapshot)
        with Reader(tmp_path) as reader:
            assert_holds(reader.snapshot(), reader, model)
            assert [str(finding) for finding in check_index(reader)] == []


def test_a_lost_width_of_tokens_is_refused(tmp_path):
    fill(tmp_path)
    with open_for_writing(Layout(tmp_path)) as writer, writer.transaction():
        writer.connection.execute("DELETE FROM meta WHERE k = ?", (catalog.CODED_WIDTH,))
    with pytest.raises(Corrupt, match="catalog.db: the width of its token vectors is missing"):
        taken(tmp_path)


def test_no_codes_are_kept_once_they_are_refused(tmp_path):
    model = fill(tmp_path)
    with open_for_writing(Layout(tmp_path)) as writer:
        refuse_token_vectors(writer)
        put(writer, [document(40)])
        maintain.compact(writer)
        assert not list(Layout(tmp_path).segments.glob("*.tok"))
        refuse_token_vectors(writer)
    with Reader(tmp_path) as reader:
        assert_holds(reader.snapshot(), reader, {**model, "d40": document(40)})


# ---- indexing


def assert_indexed(folder: Path, encoder: Any, *, without: Collection[str] = ()) -> None:
    """Every live passage has the codes of its own text."""
    codec = TokenCodec(encoder.token_dim)
    with Reader(folder) as reader:
        snapshot = reader.snapshot()
        alive = np.ones(len(snapshot.rows), bool) if snapshot.alive is None else snapshot.alive
        vids = snapshot.rows.ids[alive].tolist()
        present, found = snapshot.tokens.take(np.flatnonzero(alive))
        parts = np.split(found.codes, np.cumsum(found.counts)[:-1])
        rows = reader.passages_of(vids)
        for vid, there, part in zip(vids, present.tolist(), parts, strict=True):
            passage, owner = rows[vid]
            assert there == (owner.ext_id not in without)
            vectors = encoder.token_vectors(owner.document.passage(passage.start, passage.end))
            expected = codec.encode(vectors, np.array([len(vectors)])).codes
            if there:
                np.testing.assert_array_equal(part, expected)
        assert [str(finding) for finding in check_index(reader)] == []


def test_indexing_stores_the_codes_of_every_text_and_copies_those_it_has(tmp_path):
    encoder: Any = FakeEncoder()
    documents = make_documents(40)
    index_into(tmp_path, encoder, documents)
    assert_indexed(tmp_path, encoder)
    again = [replace(d, metadata={"new": 1}) for d in documents[:20]]
    again.append(replace(documents[30], text="another text"))
    encoder.documents.clear()
    summary = index_into(tmp_path, encoder, again)
    assert (summary.updated, summary.encoded, len(encoder.documents)) == (21, 1, 1)
    assert_indexed(tmp_path, encoder)


def test_an_index_made_without_is_completed_from_its_own_texts(tmp_path):
    encoder: Any = FakeEncoder()
    documents = make_documents(40)
    index = opened(tmp_path, encoder)
    index.add(documents[:30], token_vectors=False)
    every = {d.id for d in documents}
    assert_indexed(tmp_path, encoder, without=every)
    with open_for_writing(Layout(tmp_path)) as writer:
        choose_token_vectors(writer, encoder)
    index.add([*documents[30:], replace(documents[0], metadata={"new": 1})])
    assert_indexed(tmp_path, encoder, without={d.id for d in documents[:30]})
    index.add([], token_vectors=True)
    assert_indexed(tmp_path, encoder)
    index.delete(["d0005"])
    with open_for_writing(Layout(tmp_path)) as writer:
        assert complete_tokens(writer, encoder) == 0
        maintain.compact(writer)
    assert_indexed(tmp_path, encoder)
    index.close()


def test_a_damaged_file_is_made_again_as_it_was(tmp_path):
    encoder: Any = FakeEncoder()
    index_into(tmp_path, encoder, make_documents(40))
    row, path = first_file(tmp_path)
    sound = path.read_bytes()
    raw = bytearray(sound)
    raw[HEADER + 100] ^= 1
    path.write_bytes(raw)
    with Reader(tmp_path) as reader:
        held = reader.snapshot()  # keeps the damaged file open
        assert not held.tokens.take(np.arange(row.n))[0].all()
        with open_for_writing(Layout(tmp_path)) as writer:
            maintain.compact(writer)
            assert complete_tokens(writer, encoder) > 0
        assert reader.snapshot().tokens.take(np.arange(row.n))[0].all()
    assert_indexed(tmp_path, encoder)


def test_another_model_makes_no_codes(tmp_path):
    other: Any = FakeEncoder(name="other")
    index_into(tmp_path, FakeEncoder(), make_documents(5))
    with open_for_writing(Layout(tmp_path)) as writer:
        for work in (choose_token_vectors, complete_tokens):
            with pytest.raises(Mismatch, match="the index was made by fake"):
                work(writer, other)


def test_a_model_without_token_vectors_is_told_of_once(tmp_path, caplog):
    encoder: Any = FakeEncoder()
    encoder.token_dim = 0
    with caplog.at_level(logging.WARNING):
        for n in (5, 9):
            index_into(tmp_path, encoder, make_documents(n))
    said = [record.getMessage() for record in caplog.records]
    assert said == ["fake gives no vectors of its tokens: none are kept"]
    with Reader(tmp_path) as reader:
        assert reader.snapshot().tokens.format is None


# ---- the codec's sums and threads


@pytest.mark.parametrize("lengths", [[], [0, 0], [1, 2, 3, 4, 5, 0, 1, 90]])
def test_neighbouring_tokens_are_summed_text_by_text(lengths):
    codec = TokenCodec(16)
    rows = np.random.default_rng(0).standard_normal((sum(lengths), 16)).astype(np.float32)
    found = codec.encode(rows, np.array(lengths, np.int64))
    sums, at = [], 0
    for length in lengths:
        text, at = rows[at : at + length], at + length
        sums += [text[i : i + POOLED].sum(0) for i in range(0, length, POOLED)]
    assert found.counts.tolist() == [-(-length // POOLED) for length in lengths]
    expected = np.array(sums).reshape(-1, 16) @ codec.projection >= 0
    np.testing.assert_array_equal(found.codes, np.packbits(expected, axis=1))


def test_products_run_on_one_thread_only_as_long_as_anybody_asks():
    from threadpoolctl import ThreadpoolController

    def threads():  # of NumPy's own library; other tests may have loaded more
        found = ThreadpoolController().select(user_api="blas").info()
        return [lib["num_threads"] for lib in found if "numpy" in lib["filepath"]]

    before = threads()
    with one_blas_thread():
        with one_blas_thread():
            assert set(threads()) <= {1}
        assert set(threads()) <= {1}
    assert threads() == before
