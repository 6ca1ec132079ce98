"""BM25 alone on labelled sets in five languages: floors just below what was measured."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from semsearch.lexical.detect import SAMPLE, detect_language
from semsearch.lexical.memory import MemoryLexical

DATASETS = Path(
    os.environ.get("SEMSEARCH_DATASETS", Path(__file__).parents[2] / "shared" / "datasets")
)


def records(path):
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def ndcg_at_10(name, most_queries):
    folder = DATASETS / name
    if not folder.is_dir():
        pytest.skip(f"THE DATASET {name} IS NOT AT HAND: looked in {DATASETS}")
    documents = records(folder / "corpus.jsonl")
    qrels: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, document, grade = line.split("\t")
        qrels.setdefault(query, {})[document] = int(grade)
    queries = [query for query in records(folder / "queries.jsonl") if query["_id"] in qrels]
    queries = queries[:: -(-len(queries) // most_queries)]
    texts = [f"{d['title']} {d['text']}".strip() for d in documents]
    language = detect_language(texts[:SAMPLE])
    index = MemoryLexical(np.arange(len(documents)), texts, language)
    found = index.search([query["text"] for query in queries], 10)
    gains = 1 / np.log2(np.arange(10) + 2)
    total = 0.0
    for query, row in zip(queries, found.ids, strict=True):
        grades = qrels[query["_id"]]
        got = [grades.get(documents[vid]["_id"], 0) if vid >= 0 else 0 for vid in row]
        best = sorted(grades.values(), reverse=True)[:10]
        total += float(np.dot(got, gains) / np.dot(best, gains[: len(best)]))
    return language, total / len(queries)


@pytest.mark.parametrize(
    ("name", "language", "floor"),
    [
        ("faquad-pt", "pt", 0.89),
        ("cmrc2018-zh", "zh", 0.97),
        ("sinhala-squad", "si", 0.86),
        pytest.param("scifact", "en", 0.68, marks=pytest.mark.slow),
        pytest.param("banking77", "en", 0.67, marks=pytest.mark.slow),
    ],
)
def test_words_rank_as_well_as_measured(name, language, floor):
    detected, ndcg = ndcg_at_10(name, most_queries=400)
    assert detected == language
    assert ndcg >= floor
