"""Any order of everything that can be done to an index, compared with a dictionary after each step.

Hypothesis draws the steps; what an index must answer is in ``steps_oracle``. A case is one run of
Hypothesis of ``EXAMPLES`` indexes with ``STEPS`` steps each; a failure prints the shortest order of
steps that it found to lead there.
"""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import tempfile
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import semsearch
import semsearch.encoders
from semsearch.cli.main import cli
from semsearch.collection import backup, layout, maintain
from semsearch.collection.beside import beside_of
from semsearch.collection.check import check_index
from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader
from semsearch.collection.writer import open_for_writing
from semsearch.errors import Corrupt, InputError, Mismatch, NotFound, StorageError
from semsearch.ranking.settings import Ranking
from semsearch.search.options import Options
from semsearch.store import schema
from semsearch.store.filters import parse_filter
from semsearch.types import Document, Hit
from tests.fakes import FakeEncoder, lower_limits
from tests.faults.campaign import Campaign, Outcome
from tests.faults.steps_oracle import (
    TOLERANCE,
    Truth,
    Wanted,
    as_stored,
    assert_in_order,
    assert_ranking,
    fused_bounds,
    mixed,
    words_by_document,
)
from tests.store_model import small_sizes

STEPS = 50
EXAMPLES = 4
ALL = 60
"""More hits than there are documents; no more than candidates are taken, so nothing is cut off."""

ENCODERS = {
    "old": FakeEncoder(16, "old", max_length=16),
    "new": FakeEncoder(24, "new", max_length=20, matryoshka_dims=(24, 12)),
}

IDS = [
    *(f"d{n}" for n in range(10)), "0", "00", "A", "a", "é", "e\u0301", " padded ", "two\nlines",
    "'; DROP TABLE document; --", "a/b\\c", "\U0001f600", "\uffff", "東京", "%",
]  # fmt: skip
WORDS = ["bal", "car", "dir", "fon", "gul", "him", "kel", "lop", "mun", "nar", "running", "runs"]
ODD_TEXTS = [
    "", " ", "!!!", "東京タワー 東京", "naïve café NAIVE", "x\0y \ud800 z",
    "C++ json.loads read_csv", "don't dog's", "\ufeffbal\r\ncar", "සිංහල අකුරු",
    "bal " * 40, "DataFrame " * 30,
]  # fmt: skip
VALUES = [
    0, 1, -1, 2020, 2020.0, 0.5, -0.0, 2**53 + 1, -(2**63), 1e300, True, False, None, "", "de",
    "2020", "true", "é", "' OR 1=1 --", "\U0001f600", "\uffee", "x" * 300, "x" * 300 + "b", [1, 2],
    ["de", 1, None], [], [[1]], {"year": 2020}, ["x" * 300, True],
]  # fmt: skip
FIELDS = ["year", "lang", "tags", "a", "é", "', 1) --"]

words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join)
long_texts = st.lists(st.sampled_from(WORDS), min_size=15, max_size=50).map(" ".join)
texts = st.one_of(words, words, words, long_texts, st.sampled_from(ODD_TEXTS))
titles = st.sampled_from(["", "", "bal", "Title fon", "\ud800"])
metadata = st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(VALUES), max_size=3)
documents = st.builds(Document, st.sampled_from(IDS), texts, titles, metadata)
batches = st.lists(documents, min_size=1, max_size=7)
large = st.lists(documents, min_size=8, max_size=20, unique_by=lambda d: d.id)
some_ids = st.lists(st.sampled_from([*IDS, "unknown", "\ud800", "nul\0"]), max_size=5)

scalars = [value for value in VALUES if not isinstance(value, (list, dict))]
comparable = [value for value in scalars if value is not None and not isinstance(value, bool)]
names = st.sampled_from(FIELDS[:4])
one_of_all = st.tuples(st.sampled_from(scalars))
one_of_those = st.tuples(st.sampled_from(comparable))
several = st.lists(st.sampled_from(scalars), min_size=1, max_size=4).map(tuple)
wanted = st.one_of(
    st.builds(Wanted, names, st.sampled_from(["=", "!="]), one_of_all),
    st.builds(Wanted, names, st.sampled_from(["<", "<=", ">", ">="]), one_of_those),
    st.builds(Wanted, names, st.just("in"), several),
)
filters = st.one_of(st.just([]), st.lists(wanted, min_size=1, max_size=3))
queries = st.one_of(
    words, st.sampled_from([text for text in ODD_TEXTS if text.strip()]), st.sampled_from(WORDS)
)
sizes = st.sampled_from([1, 2, 3, 7, ALL])

REACHED: Counter[str] = Counter()
"""What happened in the steps: that nothing went wrong says something only where much was done."""


class Command(Exception):
    """A command that ended with another exit code than 0."""

    def __init__(self, code: int, error: str) -> None:
        super().__init__(f"exit code {code}: {error}")
        self.code = code
        self.error = error


def command(*arguments: str, stdin: str | None = None) -> str:
    """What the command line prints."""
    result = CliRunner().invoke(cli, list(arguments), input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    if result.exit_code:
        raise Command(result.exit_code, result.stderr.strip())
    return result.stdout


def lines_of(many: Sequence[Document]) -> str:
    """A corpus file."""
    return "".join(
        json.dumps({"id": d.id, "text": d.text, "title": d.title, "metadata": dict(d.metadata)})
        + "\n"
        for d in many
    )


class Steps(RuleBasedStateMachine):
    """One index, and the dictionary of what it must hold.

    ``held`` is in the order of insertion unless a swap or a restored copy made it another.
    """

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        small_sizes(self.patch.setattr)
        self.patch.setattr(layout, "ROTATION_ROWS_PER_DIM", 1)
        self.patch.setattr(layout, "MERGE_COUNT", 2)
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.place = Path(tempfile.mkdtemp(prefix="semsearch-", dir=memory))
        (self.place / "tmp").mkdir()
        self.patch.setattr(tempfile, "tempdir", str(self.place / "tmp"))
        self.patch.setenv("SEMSEARCH_CACHE", str(self.place / "cache"))
        self.patch.setattr(semsearch.encoders, "open_encoder", lambda name, **_: ENCODERS[name])
        self.folder = self.place / "index"
        self.index = semsearch.open(self.folder)
        self.held: dict[str, Document] = {}
        self.ordered = True
        self.serving = "old"
        self.beside: tuple[str, bool] | None = None
        self.worded: dict[str, set[int]] = {"served": set(), "beside": set()}
        self.tokens_lost = False
        self.backups: list[tuple[Path, dict[str, Document], str, int, set[int]]] = []
        self.listings: list[tuple[Any, list[Document], list[Document]]] = []
        self.copies = 0
        self.taken = 0
        self.created = False
        self.truth_of: tuple[Any, Truth] | None = None

    # ---- beginning

    @initialize(
        first=large,
        serving=st.sampled_from(sorted(ENCODERS)),
        half=st.booleans(),
        limits=st.sampled_from([None, 5]),
    )
    def create(self, first, serving, half, limits):
        if limits is not None:  # as if it were a large index: FAISS, filters by fetching
            lower_limits(self.patch, limits)
        self.serving = serving
        dims = ENCODERS[serving].dim // (2 if half else 1)
        corpus = self.corpus(first)
        options = ("-m", serving, "--dims", str(dims), "--language", "en")
        command("index", str(corpus), "-i", str(self.folder), *options)
        self.store(first, str(corpus.resolve()))
        self.created = True

    def corpus(self, many):
        path = self.place / "corpus.jsonl"
        path.write_text(lines_of(many))
        return path

    # ---- the dictionary

    def store(self, many, source, on_duplicate="error"):
        """What indexing these documents does to the dictionary; the ids that it saw."""
        seen: dict[str, Document] = {}
        for document in (as_stored(d, source) for d in many):
            if document.content and (document.id not in seen or on_duplicate == "replace"):
                seen.pop(document.id, None)
                seen[document.id] = document
        for id, document in seen.items():
            old = self.held.get(id)
            if old is None or not self.same(old, document):
                self.held.pop(id, None)
                self.held[id] = document
        return set(seen)

    @staticmethod
    def same(first, second):
        """Equal in JSON, where 1, 1.0 and true are three values; and of the same source."""
        return first.source == second.source and written(first) == written(second)

    @staticmethod
    def repeated(many, source):
        ids = [d.id for d in many if as_stored(d, source).content]
        return len(set(ids)) < len(ids)

    # ---- rules that write

    @rule(many=batches, on_duplicate=st.sampled_from(["error", "replace", "skip"]))
    def upsert(self, many, on_duplicate):
        self.add(many, on_duplicate)

    @rule(many=large)
    def upsert_many(self, many):
        self.add(many, "error")

    def add(self, many, on_duplicate):
        encoder = ENCODERS[self.serving]
        before = len(encoder.documents)
        known = {piece.text for piece in self.truth().pieces}
        if on_duplicate == "error" and self.repeated(many, "python"):
            with pytest.raises(InputError, match="duplicate id"):
                self.index.add(many, on_duplicate=on_duplicate)
            REACHED["refused duplicate"] += 1
            return
        self.index.add(many, on_duplicate=on_duplicate)
        assert not known & set(encoder.documents[before:])  # nothing is encoded twice
        self.store(many, "python", on_duplicate)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), field=st.sampled_from(FIELDS), value=st.sampled_from(VALUES))
    def change_metadata(self, data, field, value):
        ids = data.draw(
            st.lists(st.sampled_from(sorted(self.held)), min_size=1, max_size=4, unique=True)
        )
        many = [self.held[id] for id in ids]
        self.add([replace(d, metadata={**d.metadata, field: value}) for d in many], "error")
        REACHED["metadata changed"] += 1

    @rule(many=batches, prune=st.booleans())
    def index_file(self, many, prune):
        corpus = self.corpus(many)
        source = str(corpus.resolve())
        arguments = ["index", str(corpus), "-i", str(self.folder), *(["--prune"] if prune else [])]
        if self.repeated(many, source):
            with pytest.raises(Command, match="duplicate id"):
                command(*arguments)
            return
        command(*arguments)
        seen = self.store(many, source)
        gone = {id for id, d in self.held.items() if d.source == source} - seen
        if prune:
            self.held = {id: d for id, d in self.held.items() if id not in gone}
            REACHED["pruned"] += len(gone)

    @rule(good=batches, bad=st.sampled_from(["", "\0", "\ud800", " "]), at=st.integers(0, 3))
    def refuse(self, good, bad, at):
        """One record that cannot be stored: nothing of its window is."""
        many = [*good[:at], Document(bad, "text"), *good[at:]]
        with pytest.raises(InputError):
            self.index.add(many, on_duplicate="skip")
        REACHED["refused"] += 1

    @rule(ids=some_ids, by_command=st.booleans())
    def delete(self, ids, by_command):
        there = sorted(set(ids) & set(self.held))
        plain = [id for id in ids if "\0" not in id and id != "\ud800"]
        if by_command and plain:
            out = command("delete", "-i", str(self.folder), "--", *plain)
            assert out.startswith(f"{len(there):,} document")
        else:
            assert self.index.delete(ids) == there
        for id in there:
            del self.held[id]
        REACHED["deleted"] += len(there)

    @rule()
    def delete_all(self):
        assert self.index.delete(list(self.held)) == sorted(self.held)
        self.held = {}

    @rule(
        kind=st.sampled_from([None, "auto", "exact", "Flat", "SQ8", "HNSW8"]),
        tokens=st.sampled_from([None, None, True, False]),
    )
    def compact(self, kind, tokens):
        chosen = [] if kind is None else ["--vector-index", kind]
        if tokens is not None:
            chosen += ["--token-vectors" if tokens else "--no-token-vectors"]
        command("compact", "-i", str(self.folder), *chosen)
        snapshot = self.index.reader.snapshot()
        assert len(snapshot.dead) == 0
        assert len(snapshot.segments) == (1 if self.held else 0)
        if tokens:
            assert not len(snapshot.tokens.missing())
        REACHED["compacted"] += 1
        REACHED["FAISS"] += snapshot.cache("faiss") is not None

    @rule(rotate=st.booleans())
    def reorganise(self, rotate):
        with open_for_writing(Layout(self.folder)) as writer:
            maintain.merge_segments(writer)
            if rotate:
                maintain.fit_rotation_if_due(writer)

    @rule(what=st.sampled_from(["ann", "lex", "tokens"]))
    def lose_derived_files(self, what):
        """What is derived may go at any time."""
        folder = self.folder / ("seg" if what == "tokens" else what)
        for path in folder.glob("*.tok" if what == "tokens" else "*"):
            path.unlink()
            REACHED[f"lost {what}"] += 1
            self.tokens_lost |= what == "tokens"

    @rule()
    def reopen(self):
        self.index.close()
        self.index = semsearch.open(self.folder)

    # ---- another model

    @rule(dry=st.booleans())
    def reindex(self, dry):
        other = "new" if self.serving == "old" else "old"
        arguments = [
            "reindex",
            "-i",
            str(self.folder),
            "-m",
            other,
            *(["--dry-run"] if dry else []),
        ]
        if self.beside is not None and self.beside == (self.serving, True):
            with pytest.raises(Command, match="served before, is kept beside it"):
                command(*arguments)
            return
        command(*arguments)
        if self.beside is None or self.beside[0] != other:  # made, or made anew
            self.worded["beside"] = set()
        kept = self.beside[1] if self.beside is not None and self.beside[0] == other else False
        self.beside = (other, kept)
        if not dry:
            self.swapped(other)
            return
        with semsearch.open(self.folder / "beside") as made:
            self.words_held(made, "beside")
            assert {written(d) for d in made.documents()} == {
                written(d) for d in self.held.values()
            }

    @rule()
    def undo(self):
        arguments = ["reindex", "-i", str(self.folder), "--undo"]
        if self.beside is None or not self.beside[1]:
            with pytest.raises(Command, match="nothing to put back"):
                command(*arguments)
            return
        command(*arguments)
        self.swapped(self.beside[0])
        REACHED["put back"] += 1

    def swapped(self, other):
        self.worded = {"served": self.worded["beside"], "beside": self.worded["served"]}
        self.beside = (self.serving, True)
        self.serving = other
        self.ordered = False
        self.tokens_lost = True  # those of the other may have been lost before
        REACHED["swapped"] += 1

    @rule()
    def forget(self):
        arguments = ["reindex", "-i", str(self.folder), "--forget"]
        if self.beside is None:
            with pytest.raises(Command, match="nothing is beside"):
                command(*arguments)
            return
        command(*arguments)
        self.worded["beside"] = set()
        self.beside = None

    # ---- copies, and other formats

    @precondition(lambda self: len(self.backups) < 3)
    @rule()
    def back_up(self):
        self.copies += 1
        target = self.place / f"copy-{self.copies}"
        if self.problems():  # token vectors that are gone: refused, and told of
            with pytest.raises(Corrupt, match="the token vectors are missing"):
                backup.back_up(self.folder, target)
            assert not target.exists()
            return
        done = backup.back_up(self.folder, target)
        assert done.documents == len(self.held)
        worded = set(self.worded["served"])
        self.backups.append((target, dict(self.held), self.serving, schema.FORMAT, worded))
        REACHED["backed up"] += 1

    @precondition(lambda self: self.backups)
    @rule(data=st.data(), replacing=st.booleans())
    def restore(self, data, replacing):
        number = data.draw(st.integers(0, len(self.backups) - 1))
        source, held, serving, made_at, worded = self.backups[number]
        if made_at < schema.FORMAT:
            with pytest.raises(Mismatch, match="brings it up to date"):
                backup.restore(source, self.folder, replace=True)
            return
        if replacing:
            backup.restore(source, self.folder, replace=True)
            self.held, self.serving = dict(held), serving
            self.ordered, self.tokens_lost = False, True
            self.worded["served"] = set(worded)
            self.listings = []
            self.reopen()
        else:
            self.copies += 1
            place = self.place / f"copy-{self.copies}"
            backup.restore(source, place)
            with semsearch.open(place) as copy:
                assert {d.id: d for d in copy.documents()} == held
            shutil.rmtree(place)
        REACHED["restored"] += 1

    @precondition(lambda self: schema.FORMAT == 1)
    @rule()
    def migrate(self):
        """A version that keeps one table more: the next writer makes it."""
        at_first = schema.migrations
        added = "CREATE TABLE of_later (k TEXT PRIMARY KEY)"

        def migrations():
            steps = at_first()

            @steps(name="0002_later")
            def later(db):
                db.execute(added)
                db.execute("PRAGMA user_version = 2")

            return steps

        self.patch.setattr(schema, "FORMAT", 2)
        self.patch.setattr(schema, "SCHEMAS", {**schema.SCHEMAS, 2: schema.TABLES + added + ";\n"})
        self.patch.setattr(schema, "migrations", migrations)
        self.index.close()
        with pytest.raises(Mismatch, match="brings it up to date"):
            self.index.reader.snapshot()
        self.compact(kind=None, tokens=None)
        REACHED["migrated"] += 1

    # ---- rules that read

    @precondition(lambda self: len(self.listings) < 2)
    @rule(read=st.integers(0, 3))
    def begin_listing(self, read):
        """Documents are read while others write."""
        with Reader(self.folder) as reader:
            held = list(reader.documents())
        rows = semsearch.open(self.folder).documents()
        first = list(islice(rows, read))
        self.listings.append((rows, first, held))

    @rule()
    def end_listings(self):
        for rows, first, held in self.listings:
            started = bool(first)
            try:
                rest = list(rows)
            except StorageError:
                REACHED["listing given up"] += 1
                continue
            if started:
                assert first + rest == held
            REACHED["listing ended"] += 1
        self.listings = []

    @rule(data=st.data())
    def get(self, data):
        id = data.draw(st.sampled_from([*IDS, "unknown", "\ud800", "nul\0", ""]))
        if id in self.held:
            assert self.same(self.index.get(id), self.held[id])
            return
        with pytest.raises(NotFound):
            self.index.get(id)

    @rule()
    def export(self):
        found = [
            json.loads(line) for line in command("export", "-i", str(self.folder)).splitlines()
        ]
        assert {record["_id"] for record in found} == set(self.held)
        copy = self.place / "exported.jsonl"
        copy.write_text("".join(json.dumps(record) + "\n" for record in found))
        for document in semsearch.read_corpus(copy):
            assert written(document) == written(self.held[document.id])
        copy.unlink()

    @rule()
    def status(self):
        facts = json.loads(command("status", "-i", str(self.folder), "--json"))
        assert facts["documents"] == len(self.held)
        assert facts["passages"] == len(self.truth().pieces)
        assert facts["model"] == self.serving
        try:
            beside = beside_of(Layout(self.folder))
        except Mismatch:  # of the format before: told of on stderr
            beside = None
        else:
            assert (beside and (beside.model, beside.served)) == self.beside
        assert (facts["beside"] and facts["beside"]["model"]) == (beside and beside.model)

    @rule(text=queries, k=sizes, wanted=filters, dims=st.sampled_from([None, 12, 8, 5, 1]))
    def search_everything(self, text, k, wanted, dims):
        self.search_vectors(text, k, wanted, dims)
        for check in (self.search_words, self.search_both, self.search_reranked, self.search_less):
            check(text, k, wanted)

    def search_something(self):
        """Two searches, whatever the step was."""
        chance = random.Random(self.taken)
        text = chance.choice([*WORDS, *ODD_TEXTS[2:], "bal car", "fon gul him", "runs nar"])
        wanted = [a_condition(chance) for _ in range(chance.choice([0, 1, 1, 2]))]
        k = chance.choice([1, 3, ALL])
        if self.taken % 2:
            self.search_vectors(text, k, wanted, chance.choice([None, 8, 3]))
            self.search_reranked(text, k, wanted)
        else:
            self.search_words(text, k, wanted)
            self.search_both(text, k, wanted)
            self.search_less(text, k, wanted)

    def search_vectors(self, text, k, wanted, dims):
        most = self.index.searcher.snapshot.dims
        dims = None if dims is None else min(dims, most)
        hits = self.search(text, k, "dense", wanted, dims=dims)
        found = self.truth().cosines(text, dims or most)
        truth = {id: found[id] for id in self.truth().matching(wanted)}
        if self.approximate and len(hits) == min(k, len(truth)):
            truth = {hit.id: truth[hit.id] for hit in hits}
        assert_ranking(hits, truth, k, TOLERANCE)
        for hit in hits:
            exact = self.truth().cosine(text, dims or most, hit.id, hit.start)
            assert self.approximate or abs(hit.score - exact) <= TOLERANCE
        REACHED["searched vectors"] += bool(hits)
        REACHED["filtered"] += 0 < len(truth) < len(self.held)

    def search_words(self, text, k, wanted):
        hits = self.search(text, k, "lexical", wanted)
        base, owners = self.words_held()
        matching = self.truth().matching(wanted)
        found = words_by_document(base, owners, text)
        assert_ranking(hits, {id: s for id, s in found.items() if id in matching}, k, 1e-5)
        REACHED["searched words"] += bool(hits)

    def search_both(self, text, k, wanted):
        """Fused by rank, from the rankings of each."""
        conditions = parse_filter([condition.expression() for condition in wanted])
        plain = Options("hybrid", None, conditions, rerank="none", ranking=Ranking("rrf"))
        searcher = self.index.searcher
        hits = searcher.search(text, k, plain)
        self.assert_hits(hits, wanted)
        bounds = fused_bounds(
            searcher.search(text, ALL, replace(plain, mode="dense")),
            searcher.search(text, ALL, replace(plain, mode="lexical")),
            Ranking().dense_weight,
        )
        assert set(bounds) == self.truth().matching(wanted)
        assert len(hits) == min(k, len(bounds))
        assert_in_order(hits)
        for hit in hits:
            low, high = bounds[hit.id]
            assert low - 1e-6 <= hit.score <= high + 1e-6, (hit, bounds)
        missed = [low for id, (low, _) in bounds.items() if id not in {hit.id for hit in hits}]
        assert not missed or max(missed) <= hits[-1].score + 1e-6
        REACHED["fused"] += len(hits) > 1

    def search_reranked(self, text, k, wanted):
        first = self.search(text, ALL, "hybrid", wanted, rerank="none")
        hits = self.search(text, ALL, "hybrid", wanted, explain=True)
        assert {hit.id for hit in first} == self.truth().matching(wanted)
        if first:
            second = self.truth().maxsim(text, first).tolist()
            explanation = hits[0].explanation
            assert explanation is not None
            weight = explanation.setting.rerank_weight
            assert weight is not None
            scores = mixed([hit.score for hit in first], second, weight).tolist()
            truth = dict(zip((hit.id for hit in first), scores, strict=True))
            assert_ranking(hits, truth, ALL, 1e-4)
        self.assert_beginning(self.search(text, k, "hybrid", wanted), hits, k)
        REACHED["reranked"] += len(hits) > 1

    def search_less(self, text, k, wanted):
        """Fewer hits are the first of more; a filter only leaves out, of vectors and of words."""
        for mode in ("dense", "lexical"):
            hits = self.search(text, ALL, mode, wanted)
            again = self.search(text, ALL, mode, wanted, rerank="self")
            assert {hit.id for hit in again} == {hit.id for hit in hits}
            assert_in_order(again)
            self.assert_beginning(self.search(text, k, mode, wanted), hits, k)
            self.assert_beginning(self.search(text, k, mode, wanted, rerank="self"), again, k)
            if not self.approximate:
                kept = self.truth().matching(wanted)
                every = [(h.id, h.score) for h in self.search(text, ALL, mode, []) if h.id in kept]
                assert [(hit.id, hit.score) for hit in hits] == every

    def search(self, text, k, mode, wanted, **options) -> list[Hit]:
        expressions = [condition.expression() for condition in wanted]
        hits = self.index.search(text, k, mode=mode, filters=expressions, **options)
        self.assert_hits(hits, wanted)
        return hits

    def assert_hits(self, hits, wanted):
        """Each is a document as it is, of those that the filter keeps, and the passage is its."""
        kept = self.truth().matching(wanted)
        spans = {(piece.id, piece.start, piece.end) for piece in self.truth().pieces}
        for hit in hits:
            document = self.held[hit.id]
            assert hit.id in kept
            assert (hit.title, hit.text) == (document.title, document.text)
            assert canonical(hit.metadata) == canonical(document.metadata)
            assert (hit.id, hit.start, hit.end) in spans
            assert hit.passage == document.content[hit.start : hit.end]

    @property
    def approximate(self):
        """Whether what answers may leave out a near one; what it proposes is scored exactly."""
        return self.index.searcher.source.vectors.kind not in ("exact", "Flat")

    def assert_beginning(self, hits, more, k):
        if not self.approximate:
            assert [hit.id for hit in hits] == [hit.id for hit in more][:k]
            return
        assert len(hits) == min(k, len(more))

    # ---- what must be true after every step

    def truth(self) -> Truth:
        snapshot = self.index.reader.snapshot()
        state = (list(self.held.items()), self.serving, snapshot.rotation_id, id(snapshot.rotation))
        if self.truth_of is None or self.truth_of[0] != state:
            encoder = ENCODERS[self.serving]
            self.truth_of = (state, Truth(dict(self.held), encoder, snapshot.rotation))
        return self.truth_of[1]

    def words_held(self, index=None, place="served"):
        """The texts that the statistics of words are of, by vid, and whose they are if live."""
        index = self.index if index is None else index  # an empty one is false
        reader, snapshot = index.reader, index.searcher.snapshot
        ids = snapshot.rows.ids
        alive = np.ones(len(ids), np.bool_) if snapshot.alive is None else snapshot.alive
        found = reader.passages_of(ids.tolist())
        texts = {v: row.document.passage(p.start, p.end) for v, (p, row) in found.items()}
        owners = {v: found[v][1].ext_id for v in ids[alive].tolist()}
        parts = index.searcher.source.lexical._parts
        assert len(parts) <= 1
        count = len(parts[0]) if parts else 0
        grown = (self.worded[place] | set(owners)) & set(texts)
        base = grown if len(grown) == count else set(owners)
        assert len(base) == count, (len(base), len(grown), count)
        if parts:
            self.worded[place] = base
        return {v: texts[v] for v in base}, owners

    @invariant()
    def the_index_is_the_dictionary(self):
        if not self.created:
            return
        assert len(self.index) == len(self.held)
        found = list(self.index.documents())
        expected = list(self.held.values())
        if not self.ordered:
            found.sort(key=lambda d: d.id)
            expected.sort(key=lambda d: d.id)
        assert [written(d) for d in found] == [written(d) for d in expected]
        assert [d.source for d in found] == [d.source for d in expected]
        self.the_passages_are_those_of_the_dictionary()
        self.check_finds_nothing()
        self.taken += 1
        self.search_something()
        snapshot = self.index.reader.snapshot()
        REACHED["steps on several segments"] += len(snapshot.segments) > 1
        REACHED["steps on a rotation"] += snapshot.rotation_id is not None
        REACHED["steps on dead passages"] += len(snapshot.dead) > 0

    def the_passages_are_those_of_the_dictionary(self):
        self.index.searcher.refresh()
        _, owners = self.words_held()
        passages = self.index.reader.passages_of(list(owners))
        stored = sorted((owners[v], p.start, p.end) for v, (p, _) in passages.items())
        assert stored == sorted((p.id, p.start, p.end) for p in self.truth().pieces)
        assert self.index.reader.snapshot().generation.n_passage == len(stored)

    def problems(self):
        with Reader(self.folder) as reader:
            return [str(finding) for finding in check_index(reader) if not finding.is_note]

    def check_finds_nothing(self):
        found = self.problems()
        assert [line for line in found if "the token vectors are missing" not in line] == []
        assert self.tokens_lost or not found

    def teardown(self):
        self.index.close()
        self.patch.undo()
        shutil.rmtree(self.place)


def a_condition(chance: random.Random) -> Wanted:
    op = chance.choice(["=", "!=", "<", "<=", ">", ">=", "in"])
    values = comparable if op in ("<", "<=", ">", ">=") else scalars
    count = chance.randrange(1, 5) if op == "in" else 1
    return Wanted(chance.choice(FIELDS[:4]), op, tuple(chance.choices(values, k=count)))


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def written(document: Document) -> str:
    """Everything of a document that is its content, in JSON."""
    return canonical([document.id, document.title, document.text, dict(document.metadata)])


# ---- the campaign


def run_case(number: int, case: int) -> str | None:
    """One run of Hypothesis; what went wrong, with the steps that lead there."""
    chosen = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        derandomize=False,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink)[: 1 if os.environ.get("NOSHRINK") else 2],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    machine = seed(random.Random(f"steps {number} {case}").getrandbits(64))(
        type("Steps", (Counted,), {})
    )
    try:
        run_state_machine_as_test(machine, settings=chosen)
    except Exception as exc:  # whatever it is, it is what the campaign looks for
        print("".join(traceback.format_exception(exc, limit=-3)), flush=True)
        print("\n".join(getattr(exc, "__notes__", [])), flush=True)
        last = traceback.extract_tb(exc.__traceback__)[-1]
        said = " ".join(str(exc).split())[:200]
        return f"{type(exc).__name__} in {last.name}:{last.lineno}: {said}"
    return None


class Counted(Steps):
    """Counts its steps."""

    def check_invariants(self, *arguments, **options):
        REACHED["steps"] += 1
        return super().check_invariants(*arguments, **options)


def run(number: int, cases: Sequence[int], folder: Path) -> Outcome:
    """Run the cases; figures say how often what happened."""
    outcome = Outcome(len(cases))
    REACHED.clear()
    log = logging.getLogger("semsearch")
    level = log.level
    logging.disable(logging.WARNING)
    try:
        for case in cases:
            failure = run_case(number, case)
            if failure is not None:
                outcome.failures.append(f"case {case}: {failure}")
    finally:
        logging.disable(logging.NOTSET)
        log.setLevel(level)
    outcome.figures = {"steps": REACHED.pop("steps"), **dict(sorted(REACHED.items()))}
    return outcome


CAMPAIGN = Campaign(
    "steps",
    f"0 differences from a dictionary and NumPy; a case is {EXAMPLES} x {STEPS} steps",
    push=5,
    full=110,
    run=run,
)
