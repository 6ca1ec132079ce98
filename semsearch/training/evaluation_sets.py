"""What a recipe measures on: read once, for evaluators and for the check that it is held out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from semsearch.corpus import BeirDataset
from semsearch.errors import InputError
from semsearch.training.recipe import Evaluation, Recipe
from semsearch.training.rows import Rows, documents_of, plain, read_data, relevant_documents

_NEEDS = {"similarity": (2, True), "classification": (2, True), "triplets": (3, False)}


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What is measured and should not be trained on: questions, answers, pairs that are scored."""

    name: str
    queries: frozenset[str] = frozenset()
    documents: frozenset[str] = frozenset()
    pairs: frozenset[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """The data of one evaluation: ``rows``, or for retrieval texts by id and relevant documents."""

    wanted: Evaluation
    rows: Rows | None = None
    queries: dict[str, str] = field(default_factory=dict)
    corpus: dict[str, str] = field(default_factory=dict)
    relevant: dict[str, set[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return self.wanted.name or f"{self.wanted.kind} on {Path(self.wanted.path).name}"

    def held_out(self) -> HeldOut:
        """The texts that should not be trained on."""
        if self.rows is None:
            answers = {document for ids in self.relevant.values() for document in ids}
            documents = (self.corpus[id] for id in answers if id in self.corpus)
            return HeldOut(self.name, _plain(self.queries.values()), _plain(documents))
        if self.wanted.kind in ("similarity", "classification"):
            pairs = frozenset(_plain(row[:2]) for row in self.rows.texts)
            return HeldOut(self.name, pairs=pairs)
        first, second = self.rows.column(0), self.rows.column(1)
        return HeldOut(self.name, _plain(first), _plain(second))


def read_evaluations(recipe: Recipe, root: Path, trained: Sequence[Rows]) -> list[EvaluationSet]:
    """The data of every evaluation, without what is trained on where it is to be ``unseen``.

    Raises as ``read_data``, and InputError when nothing is left.
    """
    texts: set[str] = set()
    if any(wanted.unseen for wanted in recipe.evaluation):
        texts = {plain(text) for source in trained for row in source.texts for text in row}
    return [_read(wanted, root, recipe.seed, texts) for wanted in recipe.evaluation]


def sets_digest(sets: Iterable[EvaluationSet]) -> str:
    """SHA-256 (hexadecimal) of all that is measured on."""
    found = hashlib.sha256()
    for one in sets:
        rows = None if one.rows is None else one.rows.digest()
        relevant = [(query, sorted(ids)) for query, ids in one.relevant.items()]
        parts = (one.wanted, rows, list(one.queries.items()), list(one.corpus.items()), relevant)
        found.update(repr(parts).encode("utf-8", "surrogatepass"))
    return found.hexdigest()


def held_out_texts(recipe: Recipe, root: Path, sets: Iterable[EvaluationSet]) -> list[HeldOut]:
    """What must not be trained on, of the evaluations and of the verdict; equal sets as one."""
    found = [one.held_out() for one in sets]
    if recipe.verdict is not None:
        folder = root / recipe.verdict.path
        dataset = BeirDataset.open(folder, recipe.verdict.split)
        documents = (document.content for document in relevant_documents(dataset).values())
        queries = _plain(query.text for query in dataset.queries)
        found.append(HeldOut(f"the verdict on {folder.name}", queries, _plain(documents)))
    merged: dict[HeldOut, list[str]] = {}
    for one in found:
        merged.setdefault(replace(one, name=""), []).append(one.name)
    return [replace(one, name=" and ".join(dict.fromkeys(n))) for one, n in merged.items()]


def _plain(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(map(plain, texts))


def _read(wanted: Evaluation, root: Path, seed: int, trained: set[str]) -> EvaluationSet:
    if wanted.kind == "retrieval":
        found = _retrieval(wanted, root)
        return (
            _without(_smaller(found, seed), trained, root)
            if wanted.unseen
            else _smaller(found, seed)
        )
    needs, label = _NEEDS.get(wanted.kind, (2, False))
    rows = read_data(wanted, root, needs=needs, label=label)
    if wanted.unseen:
        kept = [n for n, row in enumerate(rows.texts) if trained.isdisjoint(map(plain, row))]
        if not kept:
            raise _nothing_left(wanted, root)
        rows = rows.only(kept)
    return EvaluationSet(wanted, rows)


def _retrieval(wanted: Evaluation, root: Path) -> EvaluationSet:
    if not (root / wanted.path).is_dir():
        return _from_rows(wanted, read_data(wanted, root))
    dataset = BeirDataset.open(root / wanted.path, wanted.split)
    queries = {query.id: query.text for query in dataset.queries}
    relevant = {
        query: {document for document, grade in dataset.qrels[query].items() if grade > 0}
        for query in queries
    }
    corpus = {document.id: document.content for document in documents_of(dataset)}
    return EvaluationSet(wanted, None, queries, corpus, relevant)


def _from_rows(wanted: Evaluation, rows: Rows) -> EvaluationSet:
    """Anchors as queries, positives as corpus: equal texts are one, each with all its answers."""
    queries: dict[str, str] = {}
    corpus: dict[str, str] = {}
    relevant: dict[str, set[str]] = {}
    for anchor, positive, *_ in rows.texts:
        query = queries.setdefault(anchor, f"q{len(queries)}")
        document = corpus.setdefault(positive, f"d{len(corpus)}")
        relevant.setdefault(query, set()).add(document)
    asked = {id: text for text, id in queries.items()}
    return EvaluationSet(wanted, None, asked, {i: t for t, i in corpus.items()}, relevant)


def _smaller(found: EvaluationSet, seed: int) -> EvaluationSet:
    """The relevant documents and ``corpus_size`` more, drawn by ``seed``, in their order."""
    import numpy as np

    if not found.wanted.corpus_size:
        return found
    needed = {document for ids in found.relevant.values() for document in ids}
    rest = [id for id in found.corpus if id not in needed]
    count = min(found.wanted.corpus_size, len(rest))
    drawn = {rest[i] for i in np.random.default_rng(seed).choice(len(rest), count, replace=False)}
    kept = {id: text for id, text in found.corpus.items() if id in needed or id in drawn}
    return replace(found, corpus=kept)


def _without(found: EvaluationSet, trained: set[str], root: Path) -> EvaluationSet:
    """Without the queries that are trained on, and those that such a document answers.

    Their documents stay in the corpus.
    """
    known = {id for id, text in found.corpus.items() if plain(text) in trained}
    queries = {
        id: text
        for id, text in found.queries.items()
        if plain(text) not in trained and known.isdisjoint(found.relevant[id])
    }
    if not queries:
        raise _nothing_left(found.wanted, root)
    return replace(found, queries=queries, relevant={id: found.relevant[id] for id in queries})


def _nothing_left(wanted: Evaluation, root: Path) -> InputError:
    return InputError("all of it is trained on: nothing is left that is unseen", root / wanted.path)
