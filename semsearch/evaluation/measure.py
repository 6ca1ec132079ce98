"""Running labelled queries through every pipeline, from one encoding of corpus and queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from semsearch import __version__
from semsearch.collection.vector_cache import CoveredIndex
from semsearch.corpus import BeirDataset, read_run
from semsearch.errors import InputError
from semsearch.evaluation.checks import DataChecks, check_data, unjudged_share
from semsearch.evaluation.groups import GroupMeans, check_field, group_means, group_queries
from semsearch.evaluation.labelled import asked_qrels, check_ids, open_labelled, require_texts
from semsearch.evaluation.pipelines import Pipeline, Wanted, choose_pipelines
from semsearch.evaluation.report import Report, ResultRow
from semsearch.metrics import DEFAULT_MEASURES, Evaluation, Measure, evaluate_run
from semsearch.search.facade import Index
from semsearch.search.options import Mode
from semsearch.search.owners import Ranked
from semsearch.search.rerankers import SELF
from semsearch.search.searcher import Searcher
from semsearch.types import Qrels, Run

if TYPE_CHECKING:
    from semsearch.search.questions import Questions

DEPTH = 100
"""Documents retrieved for each query, more where a measure looks deeper."""

_RECALL_K = 10


@dataclass(frozen=True, slots=True)
class Measuring:
    """How to measure rankings, whatever made them.

    ``measures`` are the names of what is computed. ``ignore_identical_ids`` drops hits with the
    query's id. ``group_by`` names a field of the queries file by which rows are also split into
    groups. ``keep_runs`` leaves every ranking in its row (``ResultRow.run``); ``on_run`` is
    given each as soon as it is measured.
    """

    measures: Sequence[str] = DEFAULT_MEASURES
    ignore_identical_ids: bool = False
    group_by: str | None = None
    keep_runs: bool = False
    on_run: Callable[[Pipeline, Run], None] | None = None

    def judge(self, qrels: Qrels, run: Run) -> Evaluation:
        """The values of a run, query by query."""
        return evaluate_run(
            qrels, run, self.measures, ignore_identical_ids=self.ignore_identical_ids
        )

    def groups(self, dataset: BeirDataset, found: Evaluation) -> tuple[GroupMeans, ...]:
        """What was found group by group, where groups were asked for."""
        if self.group_by is None:
            return ()
        names = [str(measure) for measure in found.measures]
        return group_means(found, group_queries(dataset, found.query_ids, self.group_by), names)


USUAL = Measuring()


def evaluate(
    index: Index,
    dataset: str | Path | BeirDataset,
    *,
    split: str | None = None,
    modes: Sequence[Mode] | None = None,
    dims: Sequence[int] | None = None,
    rerank: str | None = None,
    measuring: Measuring = USUAL,
) -> Report:
    """Measure the pipelines of an index on a labelled set (a BEIR folder).

    Without ``modes``, ``dims`` and ``rerank``: first the default pipeline exactly as
    ``Index.search`` runs it, then every mode at every width without reranking. With them: exactly
    those; ``rerank`` (``none``, ``self`` or a cross-encoder) alone is the default pipeline with
    that reranker. Scores per width are exact, whatever the index serves. Judged queries that the
    set does not hold are left out. Every row keeps its values per query, and its ranking where
    ``measuring`` says so. Raises InputError when no relevant document is in the index, UsageError
    for a width it does not have.
    """
    wanted = Wanted(modes, dims, rerank)
    return evaluate_pipelines(index, dataset, wanted, split=split, measuring=measuring)


def evaluate_pipelines(
    index: Index,
    dataset: str | Path | BeirDataset,
    wanted: Wanted,
    *,
    split: str | None = None,
    measuring: Measuring = USUAL,
) -> Report:
    """``evaluate``, also with another ranking than the index's. Raises as that does."""
    labelled = open_labelled(dataset, split)
    require_texts(labelled)
    check_field(labelled, measuring.group_by)
    index.searcher.refresh()
    missing = missing_documents(index, labelled)
    searcher = index.searcher
    runner = Runner(searcher, labelled, measuring)
    rows, unjudged = [], []
    for pipeline in choose_pipelines(searcher, wanted):
        run = runner.run(pipeline)
        unjudged.append(runner.unjudged(run))
        found = measuring.judge(runner.qrels, run)
        rows.append(runner.row(pipeline, found, run if measuring.keep_runs else None))
        if measuring.on_run is not None:
            measuring.on_run(pipeline, run)
    return Report(
        queries=len(found.query_ids),
        skipped=len(found.skipped),
        split=labelled.split,
        version=__version__,
        results=tuple(rows),
        missing_documents=missing,
        group_by=measuring.group_by,
        dataset=labelled,
        checks=check_data(index.reader, labelled, unjudged),
        ranking=wanted.ranking or searcher.source.ranking,
        tuned=wanted.ranking is None and searcher.source.ranking is not None,
    )


def evaluate_ranking(
    run: Run | str | Path,
    dataset: str | Path | BeirDataset,
    *,
    split: str | None = None,
    name: str | None = None,
    measuring: Measuring = USUAL,
) -> Report:
    """Measure a ranking that is there already, such as the run file of another system.

    ``run`` is a ranking or the path of a run file (TREC's six columns or MS MARCO's three);
    ``dataset`` may also be a file of qrels. The report has one row, of the mode ``run``. Raises
    InputError for a file that cannot be used, and when no query of the run is judged.
    """
    labelled = open_labelled(dataset, split)
    if not isinstance(run, dict):
        name = name or Path(run).name
        run = read_run(run)
    name = name or "run"
    check_ids(labelled, run, name)
    check_field(labelled, measuring.group_by)
    qrels = asked_qrels(labelled)
    found = measuring.judge(qrels, run)
    ignore = measuring.ignore_identical_ids
    row = ResultRow(
        mode="run",
        dims=None,
        rerank="none",
        k=max(map(len, run.values()), default=0),
        metrics=found.means(),
        intervals=found.intervals(),
        without_results=len(found.without_results),
        evaluation=found,
        run=run if measuring.keep_runs else None,
        name=name,
        groups=measuring.groups(labelled, found),
    )
    return Report(
        queries=len(found.query_ids),
        skipped=len(found.skipped),
        split=labelled.split,
        version=__version__,
        results=(row,),
        group_by=measuring.group_by,
        dataset=labelled,
        checks=DataChecks((), (unjudged_share(qrels, run, ignore_identical_ids=ignore),)),
    )


def as_run(dataset: BeirDataset, rankings: Sequence[Sequence[Ranked]]) -> Run:
    """Rankings in the order of the dataset's queries, by query id."""
    return {
        query.id: {ranked.id: ranked.score for ranked in ranking}
        for query, ranking in zip(dataset.queries, rankings, strict=True)
    }


def missing_documents(index: Index, dataset: BeirDataset) -> int:
    """How many relevant documents the index lacks. Raises InputError when it lacks them all."""
    asked = [dataset.qrels[query.id] for query in dataset.queries]
    relevant = {d for grades in asked for d, g in grades.items() if g > 0}
    there = index.reader.live_by_id(sorted(relevant))
    if relevant and not there:
        raise InputError(
            f"none of the {len(relevant)} relevant documents is in {index.folder}:"
            " index this dataset's corpus, or leave out -i"
        )
    return len(relevant) - len(there)


class Runner:
    """Runs pipelines over one dataset; queries are encoded once."""

    def __init__(self, searcher: Searcher, dataset: BeirDataset, measuring: Measuring) -> None:
        self._searcher = searcher
        self._measuring = measuring
        self._dataset = dataset
        self.qrels = asked_qrels(dataset)
        self._texts = [query.text for query in dataset.queries]
        self._depth = max([DEPTH, *(Measure.parse(name).k for name in measuring.measures)])
        self._questions: Questions | None = None

    def run(self, pipeline: Pipeline) -> Run:
        """The ranking of every query, as deep as the measures look."""
        return as_run(self._dataset, self._rank(pipeline, self._depth))

    def unjudged(self, run: Run) -> float | None:
        """The share of the top hits that nobody judged."""
        ignore = self._measuring.ignore_identical_ids
        return unjudged_share(self.qrels, run, ignore_identical_ids=ignore)

    def row(self, pipeline: Pipeline, found: Evaluation, run: Run | None) -> ResultRow:
        """The report's row for a pipeline whose run was judged."""
        lexical = pipeline.mode == "lexical"
        return ResultRow(
            mode=pipeline.mode,
            dims=None if lexical else pipeline.dims,
            rerank=self._reranker(pipeline),
            k=self._depth,
            metrics=found.means(),
            intervals=found.intervals(),
            ann_recall=None if lexical else self._agreement(pipeline),
            index_kind=None if lexical else self._kind(pipeline),
            without_results=len(found.without_results),
            evaluation=found,
            run=run,
            groups=self._measuring.groups(self._dataset, found),
        )

    def _rank(self, pipeline: Pipeline, k: int) -> list[list[Ranked]]:
        encoded = pipeline.mode != "lexical" or self._reranker(pipeline) == SELF
        if encoded and self._questions is None:
            self._questions = self._searcher.encode(self._texts)
        return self._searcher.rank(self._texts, k, pipeline.options, self._questions)

    def _reranker(self, pipeline: Pipeline) -> str:
        """The name of the reranker that orders this pipeline's candidates, or ``none``."""
        return pipeline.options.reranker(self._searcher.ranking)

    def _kind(self, pipeline: Pipeline) -> str:
        vectors = self._searcher.source.vectors
        width = pipeline.dims or self._searcher.snapshot.dims
        exact = pipeline.exact or (isinstance(vectors, CoveredIndex) and not vectors.serves(width))
        return "exact" if exact else vectors.kind

    def _agreement(self, pipeline: Pipeline) -> float:
        """recall@10 of the served vector index against exact search, on these queries."""
        if self._kind(pipeline) == "exact":
            return 1.0
        served, exact = (
            self._rank(Pipeline("dense", pipeline.dims, exact), _RECALL_K)
            for exact in (False, True)
        )
        shares = [
            len({r.id for r in a} & {r.id for r in b}) / max(len(b), 1)
            for a, b in zip(served, exact, strict=True)
        ]
        return float(np.mean(shares))
