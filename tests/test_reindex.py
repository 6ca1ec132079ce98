"""Another model for an index: made beside it, swapped in one commit, put back."""

import json
import sqlite3
import threading
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from click.testing import CliRunner

from semsearch.cli.main import cli
from semsearch.collection import maintain
from semsearch.collection.beside import beside_of, forget_beside
from semsearch.collection.check import check_index
from semsearch.collection.language import choose_language, recorded_language
from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader, StaleSnapshot
from semsearch.collection.swap import swap_beside
from semsearch.collection.writer import open_for_writing
from semsearch.corpus import BeirDataset
from semsearch.encoders import Encoder
from semsearch.errors import Mismatch, NotFound, StorageError, UsageError
from semsearch.evaluation import compare
from semsearch.evaluation.replacing import Replacement
from semsearch.indexing import choose_long_text, refuse_token_vectors
from semsearch.indexing.long_text import recorded_long_text
from semsearch.indexing.reindex import (
    Behind,
    bring_up_to_date,
    open_new_beside,
    open_old_beside,
    what_is_behind,
)
from semsearch.ranking.settings import DEFAULT_RANKING
from semsearch.ranking.tuned import record_ranking, tuned_ranking
from semsearch.search.candidates import CandidateSource
from semsearch.search.facade import Index
from semsearch.search.options import Options
from semsearch.search.owners import Owners
from semsearch.search.searcher import Searcher
from semsearch.types import Document
from tests.fakes import FakeEncoder, contents, index_into, make_documents, opened, searching
from tests.store_model import files_in, named_files, small_sizes

OLD = FakeEncoder(32, "old")
NEW = FakeEncoder(48, "new")
QUERIES = ["bal bar cil", "dir dol", "title 3", "gol hal kir"]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "my.idx"


def reindexed(folder, encoder=NEW, dims=None, swap=True):
    """What ``semsearch reindex -m`` does; the summary."""
    with open_for_writing(Layout(folder)) as live:
        with open_new_beside(live, encoder, dims) as beside:
            behind = what_is_behind(live, beside)
            summary = bring_up_to_date(live, beside, behind, lambda: encoder, dims=dims)
        if swap:
            swap_beside(live)
    return summary


def forgotten(folder):
    with open_for_writing(Layout(folder)) as live:
        forget_beside(live.layout)


def undone(folder, load):
    with open_for_writing(Layout(folder)) as live:
        with open_old_beside(live) as beside:
            summary = bring_up_to_date(live, beside, what_is_behind(live, beside), load)
        swap_beside(live)
    return summary


def no_model():
    raise AssertionError("nothing is to be encoded")


def passages(folder):
    """All that searching depends on but the numbers of rows: in order, with vectors and codes."""
    with Reader(folder) as reader:
        snapshot = reader.snapshot()
        vids = snapshot.rows.ids if snapshot.alive is None else snapshot.rows.ids[snapshot.alive]
        owners = reader.passages_of(vids.tolist())
        ordinals = snapshot.ordinals(vids)
        there, codes = snapshot.tokens.take(ordinals)
        parts = np.split(codes.codes, np.cumsum(codes.counts)[:-1])
        return [
            (row.ext_id, row.source, row.title, row.body, row.meta, passage.start, passage.end,
             passage.tokens, vector.tobytes(), has, part.tobytes())
            for (passage, row), vector, has, part in zip(
                (owners[vid] for vid in vids.tolist()), snapshot.rows.take(ordinals), there, parts,
                strict=True,
            )
        ]  # fmt: skip


def answers(folder, encoder, **options):
    """Hits of several queries in every mode, with their scores."""
    searcher = searching(folder, encoder)
    found = [
        [(hit.id, hit.score) for hit in searcher.search(query, 10, Options(mode, **options))]
        for query in QUERIES
        for mode in ("hybrid", "dense", "lexical")
    ]
    searcher.close()
    return found


def assert_sound(folder):
    for place in (folder, folder / "beside"):
        if place.is_dir():
            with Reader(place) as reader:
                assert [str(finding) for finding in check_index(reader)] == []
                others = ("lex/", "beside/", "catalog.db-journal")  # SQLite removes its own
                found = {n for n in files_in(place) if not n.startswith(others)}
                assert found == named_files(reader.snapshot())
                row = reader.snapshot().cache("lexical")
                words = {f"lex/{name}" for name in json.loads(row.files)["files"]} if row else set()
                assert {n for n in files_in(place) if n.startswith("lex/")} == words
    assert not list(folder.glob("before-*"))
    assert not list(folder.glob(".tmp-*"))


# ---- what becomes of an index


@pytest.mark.parametrize("count", [1, 60, 200])
def test_a_swapped_index_is_the_one_that_a_fresh_run_makes(folder, tmp_path, monkeypatch, count):
    small_sizes(monkeypatch.setattr)
    documents = make_documents(count)
    index_into(folder, OLD, documents)
    index_into(tmp_path / "fresh", NEW, documents)
    summary = reindexed(folder)
    assert (summary.new, summary.encoded) == (count, count)
    assert len(passages(folder)) == count
    assert passages(folder) == passages(tmp_path / "fresh")
    assert answers(folder, NEW) == answers(tmp_path / "fresh", NEW)
    assert answers(folder, NEW, rerank="none") == answers(tmp_path / "fresh", NEW, rerank="none")
    assert_sound(folder)


def test_the_words_and_filters_of_a_swapped_index_are_right(folder):
    documents = make_documents(120)
    index_into(folder, OLD, documents)
    before = opened(folder, OLD).search("bal dir", 120, mode="lexical", filters=["year>=2010"])
    reindexed(folder)
    index = opened(folder, NEW)
    after = index.search("bal dir", 120, mode="lexical", filters=["year>=2010"])
    assert [(hit.id, hit.score) for hit in after] == [(hit.id, hit.score) for hit in before]
    dense = index.search("bal", 200, mode="dense", filters=["year>=2010", "lang=de"])
    wanted = {
        d.id for d in documents if d.metadata["year"] >= 2010 and d.metadata.get("lang") == "de"
    }
    assert {hit.id for hit in dense} == wanted
    assert wanted


def test_put_back_it_answers_as_before_and_needs_no_model(folder):
    index_into(folder, OLD, make_documents(90))
    before, rows = answers(folder, OLD), passages(folder)
    reindexed(folder)
    assert answers(folder, NEW) != before
    undone(folder, no_model)
    assert answers(folder, OLD) == before
    assert passages(folder) == rows
    assert_sound(folder)
    undone(folder, no_model)  # and forth again
    assert opened(folder, NEW).search("bal", 3)
    assert_sound(folder)


def test_what_changed_in_between_is_there_when_it_is_put_back(folder, tmp_path):
    documents = make_documents(60)
    index_into(folder, OLD, documents)
    reindexed(folder)
    changed = [Document(documents[3].id, "quite new words", "", {"n": 1})]
    with open_for_writing(Layout(folder)) as writer:
        writer.delete([documents[7].id, documents[8].id])
    index_into(folder, NEW, [*changed, Document("x1", "an extra one")], "more", prunable=False)
    old = FakeEncoder(32, "old")
    summary = undone(folder, lambda: old)
    assert sorted(old.documents) == ["an extra one", "quite new words"]
    assert (summary.encoded, summary.pruned) == (2, 2)
    wanted = {d.id: d for d in documents if d.id not in (documents[7].id, documents[8].id)}
    assert contents(folder) == {
        **wanted,
        changed[0].id: changed[0],
        "x1": Document("x1", "an extra one"),
    }
    assert opened(folder, old).search("quite new words", 1, mode="dense")[0].id == changed[0].id
    assert_sound(folder)


def test_the_same_corpus_is_unchanged_after_a_swap_and_can_be_pruned(folder):
    documents = make_documents(50)
    index_into(folder, OLD, documents, "a.jsonl")
    index_into(folder, OLD, [Document("b1", "of another source")], "b.jsonl")
    reindexed(folder)
    new = FakeEncoder(48, "new")
    summary = index_into(folder, new, documents, "a.jsonl")
    assert (summary.unchanged, summary.encoded, summary.moved) == (50, 0, 0)
    summary = index_into(folder, new, documents[:30], "a.jsonl", prune=True)
    assert summary.pruned == 20
    assert set(contents(folder)) == {*(d.id for d in documents[:30]), "b1"}
    with Reader(folder) as reader:
        assert reader.sources() == ["a.jsonl", "b.jsonl"]


def test_a_run_that_was_stopped_goes_on_where_it_was(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("semsearch.indexing.source.WINDOW_DOCUMENTS", 16)
    documents = make_documents(100)
    index_into(folder, OLD, documents)

    def stop(batch):
        if batch == 4:
            raise KeyboardInterrupt

    first = FakeEncoder(48, "new", before_batch=stop)
    with pytest.raises(KeyboardInterrupt):
        reindexed(folder, first)
    assert opened(folder, OLD).search("bal", 3)
    with Reader(folder / "beside") as reader:
        done = reader.snapshot().generation.n_document
    assert 0 < done < 100
    gone, changed = documents[2], Document(documents[5].id, "changed since", "", {})
    with open_for_writing(Layout(folder)) as writer:
        writer.delete([gone.id])
    index_into(folder, OLD, [changed], documents[5].source, prunable=False)
    second = FakeEncoder(48, "new")
    summary = reindexed(folder, second)
    assert len(second.documents) == 100 - done + 1
    assert summary.pruned == 1
    assert contents(folder) == {**{d.id: d for d in documents if d != gone}, changed.id: changed}
    index_into(tmp_path / "fresh", NEW, contents(folder).values())
    assert sorted(r[0:1] + r[2:] for r in passages(folder)) == sorted(
        r[0:1] + r[2:] for r in passages(tmp_path / "fresh")
    )
    assert_sound(folder)


def test_choices_are_carried_over_and_a_tuned_ranking_is_not(folder):
    long = Document("long", "bal " * 200)
    with open_for_writing(Layout(folder)) as writer:
        choose_long_text(writer, "truncate")
        choose_language(writer, "pt")
        refuse_token_vectors(writer)
    index_into(folder, OLD, [*make_documents(20), long])
    with open_for_writing(Layout(folder)) as writer:
        record_ranking(writer, DEFAULT_RANKING)
    reindexed(folder)
    with Reader(folder) as reader:
        snapshot = reader.snapshot()
        assert recorded_language(reader.connection) == "pt"
        assert recorded_long_text(reader.connection) == "truncate"
        assert snapshot.tokens.format is None
        assert snapshot.generation.n_passage == 21
        assert tuned_ranking(snapshot, reader.connection) is None
    undone(folder, no_model)
    with Reader(folder) as reader:
        assert tuned_ranking(reader.snapshot(), reader.connection) == DEFAULT_RANKING


def test_a_choice_made_in_between_holds_when_the_old_one_is_put_back(folder):
    long = Document("long", "bal " * 200)
    with open_for_writing(Layout(folder)) as writer:
        choose_long_text(writer, "truncate")
    index_into(folder, OLD, [*make_documents(20), long])
    reindexed(folder)
    with open_for_writing(Layout(folder)) as writer:
        choose_long_text(writer, "chunk")
    old = FakeEncoder(32, "old")
    undone(folder, lambda: old)
    with Reader(folder) as reader:
        assert reader.snapshot().generation.n_passage > 21
    assert old.documents
    assert all(text.startswith("bal") for text in old.documents)


def test_token_vectors_of_a_swapped_index_are_the_new_models(folder):
    index_into(folder, OLD, make_documents(40))
    reindexed(folder)
    with Reader(folder) as reader:
        tokens = reader.snapshot().tokens
        assert tokens.format is not None
        assert tokens.format.fingerprint == NEW.fingerprint
        assert not len(tokens.missing())


def test_a_narrower_index_is_made_and_another_width_begins_anew(folder, caplog):
    wide = FakeEncoder(48, "wide", matryoshka_dims=(48, 16))
    index_into(folder, OLD, make_documents(30))
    reindexed(folder, wide, swap=False)
    reindexed(folder, wide, 16)
    assert "the index of 48 dimensions: thrown away" in caplog.text
    with Reader(folder) as reader:
        assert reader.snapshot().dims == reader.snapshot().rows.dim == 16


def test_what_is_beside_of_another_model_is_thrown_away_aloud(folder, caplog):
    index_into(folder, OLD, make_documents(30))
    reindexed(folder, FakeEncoder(40, "third"), swap=False)
    reindexed(folder)
    assert "the index of third: thrown away" in caplog.text
    found = beside_of(Layout(folder))
    assert found is not None
    assert found.model == "old"
    assert_sound(folder)


@pytest.mark.parametrize("dims", [None, 500])
def test_what_served_before_is_never_thrown_away_unasked(folder, dims):
    index_into(folder, OLD, make_documents(30))
    reindexed(folder)
    with pytest.raises(UsageError, match="500|forget` deletes it, --undo puts it back"):
        reindexed(folder, FakeEncoder(40, "third"), dims)
    found = beside_of(Layout(folder))
    assert found is not None
    assert (found.model, found.served) == ("old", True)


# ---- who has it open meanwhile


def models_by_name(monkeypatch, *encoders):
    known = {encoder.name: encoder for encoder in encoders}

    def open_encoder(name, **_):
        if name not in known:
            raise NotFound(f"no model {name!r}")
        return known[name]

    monkeypatch.setattr("semsearch.encoders.open_encoder", open_encoder)


def test_an_open_index_goes_on_with_the_new_model_unless_it_was_opened_with_the_old(
    folder, monkeypatch
):
    models_by_name(monkeypatch, OLD, NEW)
    index_into(folder, OLD, make_documents(60))
    any_model, old_only = Index(folder, None), Index(folder, "old")
    before = [hit.score for hit in any_model.search("bal dir", 5, mode="dense")]
    assert [hit.score for hit in old_only.search("bal dir", 5, mode="dense")] == before
    reindexed(folder)
    fresh = [(h.id, h.score) for h in Index(folder, None).search("bal dir", 5, mode="dense")]
    assert [(h.id, h.score) for h in any_model.search("bal dir", 5, mode="dense")] == fresh
    assert any_model.add([Document("later", "later words")]).new == 1
    with pytest.raises(Mismatch, match="made by new"):
        old_only.search("bal dir", 5, mode="dense")
    assert len(old_only) == 61  # what needs no model goes on


def test_queries_encoded_before_a_swap_are_not_compared_with_the_new_vectors(folder, monkeypatch):
    twin = FakeEncoder(32, "twin", matryoshka_dims=(32,))  # the same width: nothing would show it
    monkeypatch.setattr(twin, "_word", lambda word: np.roll(OLD._word(word), 1))
    models_by_name(monkeypatch, OLD, twin)
    index_into(folder, OLD, make_documents(60))
    index = Index(folder, None)
    questions = index.searcher.encode(QUERIES)
    reindexed(folder, twin)
    found = index.searcher.rank(QUERIES, 5, Options("dense"), questions)
    fresh = Index(folder, None).searcher.rank(QUERIES, 5, Options("dense"))
    assert [[(r.id, r.score) for r in row] for row in found] == [
        [(r.id, r.score) for r in row] for row in fresh
    ]


def test_rows_of_an_old_snapshot_are_never_found_in_the_new_catalog(folder):
    index_into(folder, OLD, make_documents(40))
    with Reader(folder) as reader:
        before = reader.snapshot()
        vids = before.rows.ids.tolist()
        vectors = before.rows.take(np.arange(len(vids)))
        reindexed(folder)
        with pytest.raises(StaleSnapshot):
            reader.passages_of(vids[:1])
        with pytest.raises(StaleSnapshot):
            reader.rows_of(vids[-1:])
        with pytest.raises(StaleSnapshot):
            reader.require_current(before)
        np.testing.assert_array_equal(before.rows.take(np.arange(len(vids))), vectors)
        after = reader.snapshot()
        assert after.generation.gen > before.generation.gen
        assert not set(after.rows.ids.tolist()) & set(vids)


def test_ids_of_passages_are_never_used_twice_however_often_it_is_swapped(folder):
    index_into(folder, OLD, make_documents(10))
    used: set[int] = set()

    def take():
        with Reader(folder) as reader:
            vids = set(reader.snapshot().rows.ids.tolist())
        assert not vids & used
        used.update(vids)

    take()
    reindexed(folder)
    take()
    undone(folder, no_model)
    forgotten(folder)
    reindexed(folder, FakeEncoder(40, "third"))
    take()
    forgotten(folder)
    reindexed(folder)
    take()


def test_threads_that_share_a_reader_let_a_writer_in_between(folder):
    """They take turns: overlapping, their statements would never let go of the catalog."""
    index_into(folder, OLD, make_documents(10))
    with Reader(folder) as reader:
        vid = int(reader.snapshot().rows.ids[0])
        done = threading.Event()

        def look():
            reader.rows_of([vid])
            done.set()

        other = threading.Thread(target=look)
        with reader.reading():
            other.start()
            assert not done.wait(0.2)
        assert done.wait(10)
        other.join()


def test_a_listing_across_a_swap_ends_aloud(folder, monkeypatch):
    monkeypatch.setattr("semsearch.store.documents.BATCH", 5)
    index_into(folder, OLD, make_documents(30))
    with Reader(folder) as reader:
        listing = reader.documents()
        next(listing)
        reindexed(folder)
        with pytest.raises(StorageError, match="another model's index took its place"):
            list(listing)


def test_whoever_asks_while_it_is_swapped_gets_the_old_answer_or_the_new_one(folder, monkeypatch):
    models_by_name(monkeypatch, OLD, NEW)
    index_into(folder, OLD, make_documents(80))
    index = Index(folder, None)

    def ask(index):
        return [
            tuple((h.id, h.text, h.score) for h in index.search(q, 5, filters=["year>=2000"]))
            for q in QUERIES
        ]

    right = [ask(index)]
    reindexed(folder)
    right.append(ask(index))
    assert right[0] != right[1]
    wrong, asked, stop = [], set(), threading.Event()

    def keep_asking(mine):
        while not stop.is_set():
            for number, query in enumerate(QUERIES):
                hits = mine.search(query, 5, filters=["year>=2000"])
                got = tuple((h.id, h.text, h.score) for h in hits)
                which = [place for place, answer in enumerate(right) if answer[number] == got]
                asked.update(which)
                if not which:
                    wrong.append(got)

    threads = [
        threading.Thread(target=keep_asking, args=(one,))
        for one in (index, index, Index(folder, None))
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in range(12):
            undone(folder, no_model)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert asked == {0, 1}


@pytest.mark.parametrize("filters", [[], ["year>=2000"]])
@pytest.mark.parametrize(
    ("owner", "step"),
    [
        (CandidateSource, "resolve"),
        (CandidateSource, "dense"),
        (CandidateSource, "words"),
        (CandidateSource, "cosines"),
        (Owners, "one_each"),
        (Owners, "rank"),
        (Reader, "passages_of"),
        (Searcher, "_settings"),
    ],
)
def test_a_swap_in_the_middle_of_an_answer_never_mixes_the_two(
    folder, monkeypatch, owner, step, filters
):
    """The old index is tuned, the new one not: an answer by other settings would show it too."""
    models_by_name(monkeypatch, OLD, NEW)
    documents = [*make_documents(60), Document("long", "bal dir " * 60, "", {"year": 2001})]
    index_into(folder, OLD, documents)
    tuned = replace(DEFAULT_RANKING, dense_weight=0.2, rerank_weight=0.1)
    with open_for_writing(Layout(folder)) as writer:
        record_ranking(writer, tuned)
    index = Index(folder, None)

    def ask(index):
        hits = index.search("bal dir", 8, filters=filters)
        ranked = index.searcher.rank(QUERIES, 8)
        return [(h.id, h.text, h.score) for h in hits], [
            [(r.id, r.score) for r in row] for row in ranked
        ]

    old = ask(index)
    reindexed(folder, swap=False)
    original = getattr(owner, step)
    swapped: list[bool] = []

    def swapping(*arguments, **named):
        if not swapped:
            swapped.append(True)
            with open_for_writing(Layout(folder)) as live:
                swap_beside(live)
        return original(*arguments, **named)

    monkeypatch.setattr(owner, step, swapping)
    for method in ("search", "rank"):
        swapped.clear()
        found = ask(index)[0] if method == "search" else ask(index)[1]
        assert swapped
        monkeypatch.setattr(owner, step, original)
        new = ask(Index(folder, None))
        assert old != new
        assert found == new[0 if method == "search" else 1]
        if method == "search":
            undone(folder, no_model)
            assert ask(index) == old
            monkeypatch.setattr(owner, step, swapping)


def test_an_index_opened_before_there_was_one_follows_a_swap(folder, monkeypatch):
    default = FakeEncoder(32, "all-MiniLM-L6-v2")
    models_by_name(monkeypatch, NEW, default)
    monkeypatch.setattr("semsearch.encoders.resolve.DEFAULT_MODEL", default.name)
    index = Index(folder, None)
    index.add(make_documents(20))
    index.search("bal", 3)
    reindexed(folder)
    assert index.search("bal", 3, mode="dense") == Index(folder, None).search(
        "bal", 3, mode="dense"
    )


def test_a_reader_notices_however_many_generations_the_old_one_had(folder):
    index_into(folder, OLD, make_documents(20))
    reindexed(folder, swap=False)
    with open_for_writing(Layout(folder)) as writer:
        for n in range(9):
            writer.delete([f"d{n:04}"])
    with Reader(folder) as reader:
        before = reader.snapshot()
        reindexed(folder)
        assert reader.snapshot().generation.gen > before.generation.gen
        encoder = reader.snapshot().encoder
        assert encoder is not None
        assert encoder.name == "new"


def test_a_second_run_finds_nothing_left_to_do(folder):
    index_into(folder, OLD, make_documents(20))
    reindexed(folder, swap=False)
    with (
        open_for_writing(Layout(folder)) as live,
        open_new_beside(live, cast(Encoder, NEW)) as beside,
    ):
        assert what_is_behind(live, beside) == Behind([], [], {})
    reindexed(folder)
    with (
        open_for_writing(Layout(folder)) as live,
        open_old_beside(live) as beside,
    ):
        assert what_is_behind(live, beside) == Behind([], [], {})


def test_a_reader_that_does_not_let_go_ends_the_swap_and_nothing_changes(folder, monkeypatch):
    index_into(folder, OLD, make_documents(20))
    before = passages(folder)
    with Reader(folder) as reader:
        reader.connection.execute("BEGIN")
        reader.connection.execute("SELECT count(*) FROM passage").fetchone()
        monkeypatch.setattr("semsearch.store.database._BUSY_SECONDS", 0.2)
        with pytest.raises(StorageError, match="busy"):
            reindexed(folder)
        reader.connection.execute("ROLLBACK")
    assert passages(folder) == before
    assert reindexed(folder).encoded == 0
    assert_sound(folder)


def test_catalogs_of_other_page_sizes_are_swapped_too(folder):
    index_into(folder, OLD, make_documents(40))
    reindexed(folder, swap=False)
    connection = sqlite3.connect(folder / "beside" / "catalog.db")
    connection.execute("PRAGMA page_size = 8192")
    connection.execute("VACUUM")
    connection.close()
    reindexed(folder)
    assert len(passages(folder)) == 40
    assert_sound(folder)


def test_what_is_beside_outlives_every_other_command(folder):
    documents = make_documents(60)
    index_into(folder, OLD, documents)
    reindexed(folder)
    with open_for_writing(Layout(folder)) as writer:
        writer.delete([d.id for d in documents[:30]])
        maintain.compact(writer)
        writer.shrink()
    index_into(folder, NEW, documents[:10])
    undone(folder, lambda: OLD)
    assert contents(folder) == {d.id: d for d in [*documents[:10], *documents[30:]]}
    assert_sound(folder)


def test_a_disk_without_links_gets_copies(folder, monkeypatch):
    def refuse(*_):
        raise OSError(1, "no links here")

    monkeypatch.setattr("os.link", refuse)
    index_into(folder, OLD, make_documents(40))
    before = passages(folder)
    reindexed(folder)
    assert_sound(folder)
    undone(folder, no_model)
    assert passages(folder) == before


# ---- the command


def run(*arguments):
    return CliRunner().invoke(cli, ["reindex", *map(str, arguments)])


@pytest.fixture
def command(folder, monkeypatch):
    models_by_name(monkeypatch, OLD, NEW, FakeEncoder(40, "third"))
    index_into(folder, OLD, make_documents(60))
    return folder


def test_the_command_swaps_and_puts_back_and_forgets(command):
    done = run("-m", "new", "-i", command)
    assert done.exit_code == 0, done.output
    assert "60 texts encoded" in done.stdout
    assert "serving new, generation" in done.stdout
    assert "old is kept beside it: `semsearch reindex --undo` puts it back" in done.stdout
    status = CliRunner().invoke(cli, ["status", "-i", str(command), "--json"])
    facts = json.loads(status.stdout)
    assert facts["model"] == "new"
    assert (facts["beside"]["model"], facts["beside"]["served"]) == ("old", True)
    assert facts["beside"]["bytes"] > 0
    whole = sum(path.stat().st_size for path in command.rglob("*") if path.is_file())
    assert facts["bytes"] + facts["beside"]["bytes"] == whole
    shown = CliRunner().invoke(cli, ["status", "-i", str(command)]).stdout
    assert "`semsearch reindex --undo` puts it back, --forget deletes it" in shown
    check = CliRunner().invoke(cli, ["check", "-i", str(command)])
    assert check.exit_code == 0
    assert "beside it is an index by old" in check.stderr
    undo = run("--undo", "-i", command, "--json")
    facts = json.loads(undo.stdout)
    assert (facts["serving"], facts["old"], facts["encoded"], facts["swapped"]) == (
        "old",
        "new",
        0,
        True,
    )
    assert run("--forget", "-i", command).exit_code == 0
    assert not (command / "beside").exists()
    assert run("--undo", "-i", command).exit_code == 1
    assert contents(command).keys() == {d.id for d in make_documents(60)}


def test_a_dry_run_builds_and_leaves_the_index_as_it_is(command):
    before = answers(command, OLD)
    done = run("-m", "new", "-i", command, "--dry-run", "--json")
    facts = json.loads(done.stdout)
    assert (facts["swapped"], facts["serving"], facts["encoded"]) == (False, "old", 60)
    assert answers(command, OLD) == before
    again = json.loads(run("-m", "new", "-i", command, "--json").stdout)
    assert (again["swapped"], again["serving"], again["encoded"]) == (True, "new", 0)


@pytest.fixture
def dataset(tmp_path):
    """Queries whose words say which document is meant; only words that OLD and NEW both know."""
    place = tmp_path / "labelled"
    (place / "qrels").mkdir(parents=True)
    documents = make_documents(60)
    (place / "corpus.jsonl").write_text(
        "".join(json.dumps({"_id": d.id, "text": d.text}) + "\n" for d in documents)
    )
    queries = [{"_id": f"q{n}", "text": d.text} for n, d in enumerate(documents[:40])]
    (place / "queries.jsonl").write_text("".join(json.dumps(q) + "\n" for q in queries))
    rows = [f"q{n}\t{d.id}\t1" for n, d in enumerate(documents[:40])]
    (place / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "\n".join(rows) + "\n"
    )
    return place


def test_old_and_new_are_compared_before_the_swap(command, dataset):
    done = run("-m", "new", "-i", command, "--dataset", dataset, "--measure", "mrr@10", "--gate")
    assert done.exit_code == 0, done.output
    assert "new: no clear difference from old (mrr@10)" in done.stdout
    assert "serving new" in done.stdout


def test_a_gate_keeps_the_old_one_when_the_new_one_is_worse(command, dataset, monkeypatch):
    worse = FakeEncoder(48, "worse")
    texts = [d.text for d in make_documents(60)]
    other = dict(zip(texts, texts[7:] + texts[:7], strict=True))  # it takes a query for another
    ask = worse.encode_queries
    monkeypatch.setattr(
        worse,
        "encode_queries",
        lambda texts, token_sink=None: ask([other.get(t, t) for t in texts], token_sink),
    )
    models_by_name(monkeypatch, OLD, worse)
    before = answers(command, OLD)
    options = ("--dataset", dataset, "--measure", "ndcg@10")
    done = run("-m", "worse", "-i", command, *options, "--gate", "--json")
    found = json.loads(done.stdout)
    change = found["comparison"]["served"]["systems"][1]["against_baseline"]["ndcg@10"]
    assert change["difference"] < 0
    assert change["p_holm"] < 0.05
    assert done.exit_code == 3
    assert "gate failed: worse is worse than old: ndcg@10" in done.stderr
    assert (found["swapped"], found["serving"], found["gate"]) == (False, "old", {"passed": False})
    assert answers(command, OLD) == before
    assert run("-m", "worse", "-i", command, *options).exit_code == 0  # without the gate it swaps
    assert answers(command, worse) != before


def test_a_gate_sees_what_the_words_hide(dataset):
    labelled = BeirDataset.open(dataset)
    right = {query.id: dict.fromkeys(labelled.qrels[query.id], 1.0) for query in labelled.queries}
    wrong = {query: {"nothing": 1.0} for query in right}
    same = compare({"old": right, "new": right}, labelled, measures=["ndcg@10"])
    lost = compare({"old, dense": right, "new, dense": wrong}, labelled, measures=["ndcg@10"])
    assert Replacement(same, same).worse() is None
    told = Replacement(same, lost).worse()
    assert told is not None
    assert told.startswith("new, dense is worse than old, dense: ndcg@10 -1.0000, p 0.0")


def test_a_tuned_ranking_is_told_to_be_left_behind(command):
    assert "tuned to rank" not in run("-m", "new", "-i", command, "--dry-run").stderr
    with open_for_writing(Layout(command)) as writer:
        record_ranking(writer, DEFAULT_RANKING)
    assert "tuned to rank belongs to its model" in run("-m", "new", "-i", command).stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "choose one of -m MODEL, --undo and --forget"),
        (["-m", "new", "--undo"], 2, "choose one of"),
        (["-m", "nowhere"], 1, "no model 'nowhere'"),
        (["-m", "old"], 2, "old serves this index already"),
        (["-m", "new", "--gate"], 2, "--gate is about a comparison: name a --dataset too"),
        (["-m", "new", "--measure", "mrr@10"], 2, "--measure is about a comparison"),
        (["--undo"], 1, "nothing to put back"),
        (["--undo", "--dims", "8"], 2, "--dims is about a new index"),
        (["--forget"], 1, "nothing is beside this index"),
        (["--forget", "--dry-run"], 2, "--forget only deletes"),
        (["-m", "new", "--dims", "999"], 2, "makes vectors of 48 dimensions"),
        (["-m", "new", "--dataset", "nowhere"], 1, "nowhere"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(command, arguments, code, message):
    before = passages(command)
    done = run("-i", command, *arguments)
    assert done.exit_code == code, done.output
    assert message in done.stderr
    assert "Traceback" not in done.output
    assert passages(command) == before


def test_an_index_that_is_missing_is_not_made(tmp_path):
    done = run("-m", "new", "-i", tmp_path / "nothing")
    assert done.exit_code == 1
    assert "no index there" in done.stderr
    assert not (tmp_path / "nothing").exists()


def test_an_index_without_documents_has_no_model_to_change(tmp_path, monkeypatch):
    models_by_name(monkeypatch, NEW)
    with open_for_writing(Layout(tmp_path / "empty")):
        pass
    done = run("-m", "new", "-i", tmp_path / "empty")
    assert (done.exit_code, "no documents yet" in done.stderr) == (2, True)


def test_a_locked_index_is_refused_at_once(command):
    with open_for_writing(Layout(command)):
        done = run("-m", "new", "-i", command)
    assert done.exit_code == 1
    assert "another process" in done.stderr


def test_what_never_served_is_not_put_back(command):
    run("-m", "new", "-i", command, "--dry-run")
    done = run("--undo", "-i", command)
    assert done.exit_code == 1
    assert "`semsearch reindex -m new` goes on with it" in done.stderr


def test_a_damaged_index_beside_is_told_and_made_anew(command):
    run("-m", "new", "-i", command, "--dry-run")
    path = command / "beside" / "catalog.db"
    path.write_bytes(b"x" * path.stat().st_size)
    assert CliRunner().invoke(cli, ["check", "-i", str(command)]).exit_code == 0
    done = run("-m", "new", "-i", command)
    assert done.exit_code == 0, done.output
    assert "60 texts encoded" in done.stdout
    assert_sound(command)


def test_real_models_swap_end_to_end(tmp_path, monkeypatch):
    from tests.models import build

    first, second = build("bert-cls", tmp_path), build("mpnet", tmp_path)
    lines = "".join(json.dumps({"id": d.id, "text": d.text}) + "\n" for d in make_documents(12))
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(lines)
    place = tmp_path / "real.idx"
    assert (
        CliRunner()
        .invoke(cli, ["index", str(corpus), "-i", str(place), "-m", str(first)])
        .exit_code
        == 0
    )
    index = Index(place, None)
    before = [(h.id, h.score) for h in index.search("bal dir", 5, mode="dense")]
    done = run("-m", second, "-i", place)
    assert done.exit_code == 0, done.output
    fresh = tmp_path / "fresh.idx"
    CliRunner().invoke(cli, ["index", str(corpus), "-i", str(fresh), "-m", str(second)])
    wanted = [(h.id, h.score) for h in Index(fresh, None).search("bal dir", 5)]
    assert [(h.id, h.score) for h in index.search("bal dir", 5)] == wanted
    again = CliRunner().invoke(cli, ["index", str(corpus), "-i", str(place), "--json"])
    assert json.loads(again.stdout)["unchanged"] == 12
    assert run("--undo", "-i", place).exit_code == 0
    assert [(h.id, h.score) for h in index.search("bal dir", 5, mode="dense")] == before
