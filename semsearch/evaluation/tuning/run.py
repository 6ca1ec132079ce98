"""Tuning an index on labelled queries: from the labels to what may be stored in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from semsearch.corpus import BeirDataset
from semsearch.corpus.beir import split_name
from semsearch.errors import InputError, UsageError
from semsearch.evaluation.labelled import open_labelled, require_texts
from semsearch.evaluation.measure import missing_documents
from semsearch.evaluation.report import MAIN_MEASURE
from semsearch.evaluation.tuning.choosing import make_folds, validate
from semsearch.evaluation.tuning.grid import NONE, SELF, changes, make_grid, settings_of
from semsearch.evaluation.tuning.outcome import Tuned, fold_results
from semsearch.evaluation.tuning.values import Labelled, Progress, values_of
from semsearch.metrics import Measure
from semsearch.ranking.settings import DEFAULT_RANKING, Ranking
from semsearch.types import Query

if TYPE_CHECKING:
    from semsearch.search.facade import Index

FEWEST = 20
"""Labelled queries that tuning needs: with fewer an interval says nothing."""

MOST = 2_000
"""Labelled queries that are used; of more, so many are drawn at random."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """How to tune.

    ``rerankers`` names cross-encoders to try beside ``self`` and none. The queries are divided
    into ``folds`` by ``seed``. ``ignore_identical_ids`` drops hits with the query's id.
    ``on_progress`` is told how many more queries are done.
    """

    rerankers: Sequence[str] = ()
    folds: int = 5
    seed: int = 0
    ignore_identical_ids: bool = False
    on_progress: Progress = lambda _: None


USUAL = Tuning()


def tune(
    index: Index,
    dataset: str | Path | BeirDataset,
    *,
    split: str | None = None,
    measure: str = MAIN_MEASURE,
    store: bool = True,
    force: bool = False,
    tuning: Tuning = USUAL,
) -> Tuned:
    """Learn from labels how to rank, and let the index rank so if that is a gain.

    Every setting is scored on every query, from candidates and scores that are computed once. By
    cross-validation the choice is measured on queries that it did not see. Only a gain whose 95 %
    interval lies above 0 is stored, or any choice with ``force``; nothing is without ``store``.
    The split is ``dev``, else ``train``: ``test`` only where it is named, for what was tuned on is
    no longer held out.

    Raises InputError for fewer than 20 different labelled queries and where no relevant document is
    in the index, UsageError for a set without such a split, an unknown measure or a cross-encoder
    that is none, NotFound, Mismatch, Locked.
    """
    wanted = Measure.parse(measure)
    if not 2 <= tuning.folds <= FEWEST:
        raise UsageError(f"folds must be between 2 and {FEWEST}, not {tuning.folds}")
    dataset = open_labelled(dataset, split or tuning_split(dataset))
    require_texts(dataset)
    labelled = _labelled(dataset, tuning)
    index.searcher.refresh()
    missing_documents(index, dataset)
    grid = make_grid(_cross_encoders(tuning.rerankers))
    values = values_of(index.searcher, labelled, wanted, grid, tuning.on_progress)
    settings = settings_of(grid)
    default = settings.index(DEFAULT_RANKING)
    groups = [_words(query) for query in labelled.queries]
    folds = make_folds(groups, tuning.folds, tuning.seed)
    costs = [len(changes(setting)) for setting in settings]
    found = validate(values, default, costs, folds, tuning.seed)
    tuned = Tuned(
        measure=str(wanted),
        split=dataset.split,
        queries=len(labelled.queries),
        skipped=len(dataset.queries) - len(labelled.queries),
        settings=len(settings),
        chosen=settings[found.chosen],
        default_mean=float(values[default].mean()),
        chosen_mean=float(values[found.chosen].mean()),
        held_out_mean=float(found.held_out.mean()),
        gain=found.gain,
        folds=fold_results(found, settings),
    )
    if store and tuned.chosen_is_new and (tuned.supported or force):
        return store_ranking(index, tuned)
    return tuned


def store_ranking(index: Index, tuned: Tuned) -> Tuned:
    """Let the index rank as was chosen, from now on. Raises Locked, StorageError."""
    set_ranking(index, tuned.chosen)
    return replace(tuned, stored=True)


def set_ranking(index: Index, ranking: Ranking | None) -> None:
    """Let an index rank so from now on; None is the default. Raises NotFound, Locked."""
    from semsearch.collection.layout import Layout
    from semsearch.collection.writer import open_for_writing
    from semsearch.ranking.tuned import record_ranking

    index.require()
    with open_for_writing(Layout(index.folder)) as writer:
        record_ranking(writer, ranking)
    index.close()  # what it had open ranks as before


def tuning_split(dataset: str | Path | BeirDataset) -> str | None:
    """The split of a BEIR folder to learn from: ``dev``, else ``train``; None for anything else.

    Raises UsageError where it has neither.
    """
    folder = Path("") if isinstance(dataset, BeirDataset) else Path(dataset) / "qrels"
    if isinstance(dataset, BeirDataset) or not folder.is_dir():
        return None
    there = sorted({split_name(path) for path in folder.iterdir() if path.is_file()})
    for name in ("dev", "train"):
        if name in there:
            return name
    raise UsageError(
        f"{dataset}: no dev or train split to learn from, only {', '.join(there) or 'none'}:"
        " --split names one, but numbers on queries that were tuned on are no longer held out"
    )


def _labelled(dataset: BeirDataset, tuning: Tuning) -> Labelled:
    """The queries to learn from, in the order of the set."""
    queries = [
        query
        for query in dataset.queries
        if query.text.strip() and max(dataset.qrels[query.id].values(), default=0) >= 1
    ]
    different = len({_words(query) for query in queries})
    if different < FEWEST:
        raise InputError(
            f"only {different} different queries have a relevant document: tuning needs {FEWEST}"
            " or more to tell a gain from chance"
        )
    if len(queries) > MOST:
        drawn = np.random.default_rng(tuning.seed).choice(len(queries), MOST, replace=False)
        queries = [queries[number] for number in sorted(drawn.tolist())]
    return Labelled(queries, dataset.qrels, tuning.ignore_identical_ids)


def _cross_encoders(names: Sequence[str]) -> list[str]:
    """Those of the names that are not tried anyway; folders are found again from anywhere."""
    others = [name for name in dict.fromkeys(names) if name not in (NONE, SELF)]
    return [str(Path(name).resolve()) if Path(name).is_dir() else name for name in others]


def _words(query: Query) -> str:
    """What queries of one text share: they are held out together."""
    return " ".join(query.text.split()).casefold()
