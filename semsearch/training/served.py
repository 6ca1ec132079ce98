"""What a model's index is worth as it is served, in rows for the model's card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semsearch.corpus import BeirDataset
from semsearch.errors import UsageError
from semsearch.evaluation.columns import Interval, bounds, number
from semsearch.evaluation.costs import Storage, measure_storage
from semsearch.evaluation.labelled import open_labelled, require_texts
from semsearch.evaluation.measure import Measuring, Runner, missing_documents
from semsearch.evaluation.pipelines import Pipeline, default_pipeline
from semsearch.evaluation.report import NONE, ResultRow
from semsearch.search.facade import Index
from semsearch.training.verdict_rows import Verdict
from semsearch.types import Run

SERVED_MEASURES = ("ndcg@10", "mrr@10", "accuracy@1", "recall@100")
"""The measures of a card."""

_TITLES = {"ndcg": "nDCG", "mrr": "MRR"}


@dataclass(frozen=True, slots=True)
class ServedRow:
    """A pipeline as it is served: dense at one width, or the default one.

    ``kind`` is that of the vector index: ``exact``, or FAISS's own name (``RR,IVF1,RaBitQfs``).
    ``disk`` counts the bytes of the files that the pipeline reads for each passage, its vectors
    stored at this width (float16) and the texts left out; ``ram`` those that are gone through for
    each vector when candidates are looked for: the vectors (mapped from disk) where the index is
    exact, FAISS's codes otherwise. ``ann_recall`` is the share of the exact ten nearest that the
    index finds on these queries.
    """

    pipeline: str
    dims: int
    rerank: str
    kind: str
    disk: float
    ram: float
    ann_recall: float
    metrics: Mapping[str, float]
    intervals: Mapping[str, Interval]

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON values."""
        return {
            "pipeline": self.pipeline,
            "dims": self.dims,
            "rerank": self.rerank,
            "index_kind": self.kind,
            "bytes_on_disk": self.disk,
            "bytes_in_ram": self.ram,
            "ann_recall": self.ann_recall,
            "metrics": dict(self.metrics),
            "intervals": {name: list(pair) for name, pair in self.intervals.items()},
        }


def served_quality(
    of: Verdict | Index,
    dataset: str | Path | BeirDataset | None = None,
    *,
    dims: Sequence[int] | None = None,
    split: str | None = None,
) -> tuple[ServedRow, ...]:
    """Rows for a model's card: dense at each width as served, then the default pipeline.

    Of a verdict: the tuned model on the verdict's queries, from the rankings that are there
    already. Of an index: on ``dataset``, at its full width and the Matryoshka widths of its model.
    ``dims`` names other widths.

    Raises UsageError (a width that the index does not have; an index without a dataset),
    InputError, NotFound (the index is gone from the cache).
    """
    if isinstance(of, Verdict):
        known = [(row.tuned.pipeline, row.tuned.run) for row in of.rows]
        dense = [pipeline.dims for pipeline, _ in known if pipeline.mode == "dense"]
        with Index(of.tuned.index, of.tuned.model) as index:
            index.require()
            return _rows(index, of.dataset, dense if dims is None else dims, known)
    if dataset is None:
        raise UsageError("an index is measured on labelled queries: name the dataset too")
    return _rows(of, open_labelled(dataset, split), dims, [])


def _rows(
    index: Index,
    dataset: BeirDataset,
    dims: Sequence[int] | None,
    known: Sequence[tuple[Pipeline, Run]],
) -> tuple[ServedRow, ...]:
    require_texts(dataset)
    index.searcher.refresh()
    missing_documents(index, dataset)
    how = Measuring(SERVED_MEASURES)
    runner = Runner(index.searcher, dataset, how)
    storage = measure_storage(index.reader)
    widths = _declared(index) if dims is None else dims
    full = index.searcher.snapshot.dims
    pipelines = [Pipeline("dense", width, exact=False) for width in dict.fromkeys(widths)]
    rows = []
    for pipeline in [*pipelines, default_pipeline(full)]:
        there = next((run for other, run in known if other == pipeline), None)
        run = runner.run(pipeline) if there is None else there
        found = runner.row(pipeline, how.judge(runner.qrels, run), None)
        rows.append(_row(pipeline, found, storage))
    return tuple(rows)


def _declared(index: Index) -> list[int]:
    """The index's own width and those that its model was trained for."""
    snapshot = index.searcher.snapshot
    declared = json.loads(snapshot.encoder.matryoshka_dims) if snapshot.encoder else []
    return [snapshot.dims, *(width for width in declared if width < snapshot.dims)]


def _row(pipeline: Pipeline, found: ResultRow, storage: Storage | None) -> ServedRow:
    dense = pipeline.mode == "dense"
    kind = found.index_kind or "exact"
    disk = ram = 0.0
    if storage is not None:
        disk = storage.of(pipeline.mode, pipeline.dims, found.rerank)
        vectors = storage.of("dense", pipeline.dims) - storage.faiss
        ram = vectors if kind == "exact" else storage.faiss
    return ServedRow(
        pipeline=f"dense@{pipeline.dims}" if dense else pipeline.mode,
        dims=pipeline.dims,
        rerank=found.rerank,
        kind=kind,
        disk=disk,
        ram=ram,
        ann_recall=1.0 if found.ann_recall is None else found.ann_recall,
        metrics=found.metrics,
        intervals=found.intervals,
    )


def served_markdown(rows: Sequence[ServedRow]) -> str:
    """The rows as a table in GitHub's Markdown, each mean with its 95 % interval, and its key."""
    measures = list(rows[0].metrics) if rows else list(SERVED_MEASURES)
    heads = ["pipeline", "index", "bytes on disk", "bytes in RAM", "recall@10 of the index"]
    lines = [_line([*heads, *map(_title, measures)])]
    lines.append(_line([":--", ":--", *["--:"] * (len(heads) - 2 + len(measures))]))
    for row in rows:
        rerank = "" if row.rerank == NONE else f" + {row.rerank}"
        cells = [row.pipeline + rerank, row.kind, f"{row.disk:,.0f}", f"{row.ram:,.0f}"]
        cells.append(number(row.ann_recall))
        cells += [number(row.metrics[m]) + bounds(row.intervals[m]) for m in measures]
        lines.append(_line(cells))
    key = (
        "[low, high]: 95 % bootstrap interval. Bytes on disk: what the pipeline reads for each"
        " passage, texts left out. Bytes in RAM: what is gone through for each vector when"
        " candidates are looked for. recall@10 of the index: how many of the exact ten nearest it"
        " finds."
    )
    return "\n".join([*lines, "", key, ""])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _title(measure: str) -> str:
    name, at, k = measure.partition("@")
    return f"{_TITLES.get(name, name)}{at}{k}"
