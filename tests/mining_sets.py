"""Labelled sets with everything that must not become a negative, and mining by brute force."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semsearch.corpus import BeirDataset, read_corpus
from semsearch.search.facade import Index
from semsearch.search.options import Options
from semsearch.training.mining import Miner, Mining, MiningReport
from semsearch.types import Document
from tests.fakes import WORDS, FakeEncoder, opened

TRAIN = 12
"""Queries of the split that is mined: ``q00`` to ``q11``."""


def made_documents(count: int = 140, seed: int = 3) -> list[Document]:
    """Short ones and ones of several passages, ids in another order than they were added."""
    random = np.random.default_rng(seed)
    names = random.permutation(count)
    lengths = random.choice([5, 9, 40, 80], count)
    return [
        Document(f"d{name:03}", " ".join(random.choice(WORDS, length)), f"title {name % 5}")
        for name, length in zip(names.tolist(), lengths.tolist(), strict=True)
    ]


def first_words(document: Document, count: int) -> str:
    return " ".join(document.text.split()[:count])


def write_labelled(folder: Path, documents: list[Document]) -> list[Document]:
    """Write a set of three splits around these documents; returns all that its corpus holds.

    For ``q00`` ... document n of ``documents`` is the positive in ``train``, document 20 + n in
    ``dev``, document 40 + n in ``test`` under another id with the same text, and document 60 + n is
    judged wrong. The corpus also has a copy of each positive, the query as a document and a
    document with the query's id.
    """
    texts = {f"q{n:02}": first_words(documents[n], 4) for n in range(TRAIN)}
    again = {f"t{n:02}": f"  {texts[f'q{n:02}'].upper()} " for n in range(TRAIN)}
    extra = []
    for n in range(TRAIN):
        positive, other = documents[n], documents[40 + n]
        extra += [
            Document(f"copy{n:02}", positive.text, "another title"),
            Document(f"same{n:02}", f"{other.text.upper()}  ", other.title),
            Document(f"asked{n:02}", texts[f"q{n:02}"].title(), "some title"),
            Document(f"q{n:02}", f"{first_words(positive, 6)} {first_words(other, 3)}"),
        ]
    corpus = [*documents, *extra]
    lines(folder / "corpus.jsonl", [dict(_id=d.id, title=d.title, text=d.text) for d in corpus])
    lines(folder / "queries.jsonl", [dict(_id=q, text=t) for q, t in (texts | again).items()])
    train = [(f"q{n:02}", documents[n].id, 1 + n % 2) for n in range(TRAIN)]
    train += [(f"q{n:02}", documents[60 + n].id, 0) for n in range(TRAIN)]
    train += [("q00", documents[80].id, 2), ("q01", "gone", 1)]
    qrels(folder, "train", train)
    qrels(folder, "dev", [(f"q{n:02}", documents[20 + n].id, 1) for n in range(TRAIN)])
    qrels(folder, "test", [(f"t{n:02}", documents[40 + n].id, 1) for n in range(TRAIN)])
    return corpus


def indexed(folder: Path) -> Index:
    """The index of such a set, beside it; some of its documents have several passages."""
    made = opened(folder.parent / "made.idx", FakeEncoder(32, max_length=32))
    made.add(read_corpus(folder), long_text="chunk")
    assert made.searcher.snapshot.generation.n_passage > len(made)
    return made


def lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def qrels(folder: Path, split: str, rows: list[tuple[str, str, int]]) -> None:
    path = folder / "qrels" / f"{split}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(f"{q}\t{d}\t{g}\n" for q, d, g in rows)
    )


def ids(rows: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(row["query_id"], row["positive_id"], row["negative_id"]) for row in rows]


def mined(
    index: Index, folder: Path | BeirDataset, mining: Mining, **options: Any
) -> tuple[list[dict[str, Any]], MiningReport]:
    """All rows and the report of them."""
    miner = Miner(index, folder, mining=mining, **options)
    return list(miner.rows()), miner.report


def _same(text: str) -> str:
    return " ".join(text.split()).casefold()


@dataclass
class Oracle:
    """Mining in plain loops over everything: ``forbidden`` by query id and reason."""

    index: Index
    folder: Path

    def __post_init__(self) -> None:
        self.documents = {d.id: d for d in self.index.documents()}
        records = (self.folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()
        self.texts = {r["_id"]: r["text"] for r in map(json.loads, records)}
        self.judged = {
            path.stem: [line.split("\t") for line in path.read_text().splitlines()[1:]]
            for path in (self.folder / "qrels").glob("*.tsv")
        }

    def cosines(self, text: str) -> dict[str, float]:
        """Of every document: its best passage, from the stored vectors."""
        snapshot = self.index.reader.snapshot()
        query = self.index.searcher.encode([text]).vectors[0].astype(np.float64)
        if snapshot.rotation is not None:
            query = query @ snapshot.rotation
        rows = snapshot.rows.take(np.arange(len(snapshot.rows))).astype(np.float64)
        found = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
        owners = self.index.reader.documents_of(snapshot.rows.ids.tolist())
        best: dict[str, float] = {}
        for vid, score in zip(snapshot.rows.ids.tolist(), found.tolist(), strict=True):
            name = owners[vid].ext_id
            best[name] = max(score, best.get(name, -2.0))
        return best

    def forbidden(self, query: str) -> dict[str, str]:
        """Why each of these documents can be no negative of a query."""
        same = {q for q, text in self.texts.items() if _same(text) == _same(self.texts[query])}
        rows = [row for split in self.judged.values() for row in split]
        right = {d for q, d, grade in rows if q in same and int(grade) >= 1}
        known = {_same(t) for d in right & self.documents.keys() for t in self._texts(d)}
        found = {}
        for name in self.documents:
            texts = {_same(text) for text in self._texts(name)}
            if name in right:
                found[name] = "positives"
            elif texts & known:
                found[name] = "copies"
            elif name == query or _same(self.texts[query]) in texts:
                found[name] = "own"
        return found

    def _texts(self, name: str) -> list[str]:
        document = self.documents[name]
        return [document.content, document.text]

    def ranking(self, text: str, mining: Mining) -> list[str]:
        options = Options(mining.mode, rerank=mining.rerank)
        found = self.index.searcher.rank([text], len(self.documents), options)[0]
        return [ranked.id for ranked in found]

    def mine(
        self, mining: Mining, split: str = "train"
    ) -> tuple[list[dict[str, Any]], Counter[str]]:
        """The rows as triplets, without texts, and what each reason dropped."""
        rows: list[dict[str, Any]] = []
        dropped: Counter[str] = Counter()
        first, last = mining.ranks
        for query in dict.fromkeys(q for q, _, _ in self.judged[split]):
            cosines, forbidden = self.cosines(self.texts[query]), self.forbidden(query)
            kept: list[str] = []
            for name in self.ranking(self.texts[query], mining):
                if len(kept) == last:
                    break
                if name in forbidden:
                    dropped[forbidden[name]] += 1
                else:
                    kept.append(name)
            asked = [(d, int(g)) for q, d, g in self.judged[split] if q == query]
            wrong = [d for d, g in asked if g < 1 and d not in forbidden and mining.judged]
            wrong.sort(key=lambda d: -cosines[d])
            for positive in (d for d, g in asked if g >= 1 and d in cosines):
                left = []
                for name in [n for n in kept[first - 1 :] if n not in wrong]:
                    rule = _broken(cosines[name], cosines[positive], mining)
                    dropped.update([rule] if rule else [])
                    left += [] if rule else [name]
                for name in [*wrong, *left][: mining.per_query]:
                    rank = kept.index(name) + 1 if name in kept else None
                    rows.append(_row(query, positive, name, cosines, rank))
        return rows, dropped


def _broken(score: float, positive: float, mining: Mining) -> str | None:
    if mining.margin is not None and score > positive - mining.margin:
        return "margin"
    share = mining.relative_margin
    if share is not None and score > positive - (1 - share) * abs(positive):
        return "relative_margin"
    return "max_score" if mining.max_score is not None and score > mining.max_score else None


def _row(
    query: str, positive: str, negative: str, cosines: dict[str, float], rank: int | None
) -> dict[str, Any]:
    return {
        "query_id": query,
        "positive_id": positive,
        "negative_id": negative,
        "positive_score": cosines[positive],
        "negative_score": cosines[negative],
        "rank": rank,
    }
