"""Whether a fine-tuned model is better than what it started from, on labelled queries.

Both models index the corpus, and every row compares them as they are served: dense at each width,
then the default pipeline. Each is tested by paired randomisation, p corrected over the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from semsearch import __version__
from semsearch.corpus import BeirDataset
from semsearch.errors import UsageError
from semsearch.evaluation.comparing import paired_differences
from semsearch.evaluation.dataset_index import open_dataset_index
from semsearch.evaluation.labelled import asked_qrels, open_labelled, require_texts
from semsearch.evaluation.measure import Measuring, Runner, missing_documents
from semsearch.evaluation.pipelines import Pipeline, default_pipeline
from semsearch.evaluation.report import MAIN_MEASURE
from semsearch.metrics import Measure
from semsearch.training.verdict_rows import Side, Standing, Verdict, VerdictRow, Word

__all__ = ["Progress", "Side", "Standing", "Verdict", "VerdictRow", "Word", "judge"]

Progress: TypeAlias = Callable[[int], None]


def judge(
    base: str | Path,
    tuned: str | Path,
    dataset: str | Path | BeirDataset,
    *,
    dims: Sequence[int] | None = None,
    measure: str = MAIN_MEASURE,
    split: str | None = None,
    progress: Progress | None = None,
) -> Verdict:
    """Compare a fine-tuned model with its base on a labelled set, as both would be served.

    ``base`` and ``tuned`` are folders or names of models. Each indexes the set's corpus, once: the
    indexes are kept in the user's cache, and are those of ``semsearch evaluate``. The first row is
    dense search at the full width of each; its word is the verdict. Then come ``dims``, or else
    the tuned model's Matryoshka widths as far as the base has them, each width against the same
    one; then the default pipeline, exactly as ``query`` runs it. ``progress`` is called with the
    number of documents indexed since the last call.

    Raises UsageError (an unknown measure, a width that a model does not have, queries without
    text), InputError (nothing is relevant, or the corpus lacks all that is; a bad document),
    NotFound (no such model, dataset, corpus or split), ModelError, StorageError.
    """
    labelled = open_labelled(dataset, split)
    require_texts(labelled)
    labelled.require_corpus()
    how = Measuring((str(Measure.parse(measure)),))
    how.judge(asked_qrels(labelled), {})  # a set that cannot be measured is not indexed first
    pairs = _pairs(_widths_of(base), _widths_of(tuned), dims)
    before, old = _ranked(base, [pair[0] for pair in pairs], labelled, how, progress)
    after, new = _ranked(tuned, [pair[1] for pair in pairs], labelled, how, progress)
    name = how.measures[0]
    changes = paired_differences(
        [
            (b.evaluation.per_query(name), a.evaluation.per_query(name))
            for a, b in zip(old, new, strict=True)
        ]
    )
    first = old[0].evaluation
    return Verdict(
        rows=tuple(map(VerdictRow, old, new, changes)),
        base=before,
        tuned=after,
        measure=name,
        queries=len(first.query_ids),
        skipped=len(first.skipped),
        split=labelled.split,
        version=__version__,
        dataset=labelled,
    )


class _Widths(NamedTuple):
    model: str
    full: int
    narrower: tuple[int, ...]


def _widths_of(model: str | Path) -> _Widths:
    from semsearch.encoders import open_encoder

    encoder = open_encoder(str(model))
    return _Widths(str(model), encoder.dim, encoder.matryoshka_dims)


def _pairs(
    base: _Widths, tuned: _Widths, dims: Sequence[int] | None
) -> list[tuple[Pipeline, Pipeline]]:
    """What is compared with what: the base's pipeline and the tuned model's."""
    both = min(base.full, tuned.full)
    for width in dims or ():
        if not 1 <= width <= both:
            lacking = base if base.full == both else tuned
            raise UsageError(
                f"dims must be between 1 and {both}, the width of {lacking.model}, not {width}"
            )
    widths = [tuned.full, *tuned.narrower] if dims is None else dims
    shared = [width for width in widths if width <= both]
    compared = [(base.full, tuned.full), *((width, width) for width in shared)]
    rows = [(_dense(a), _dense(b)) for a, b in dict.fromkeys(compared)]
    return [*rows, (default_pipeline(base.full), default_pipeline(tuned.full))]


def _dense(dims: int) -> Pipeline:
    return Pipeline("dense", dims, exact=False)


def _ranked(
    model: str | Path,
    pipelines: Sequence[Pipeline],
    dataset: BeirDataset,
    how: Measuring,
    progress: Progress | None,
) -> tuple[Side, list[Standing]]:
    """One model in all its rows, its queries encoded once. The first is its full width."""
    with open_dataset_index(dataset, model, progress=progress) as index:
        searcher = index.searcher
        missing = missing_documents(index, dataset)
        runner = Runner(searcher, dataset, how)
        tuned = searcher.source.ranking is not None
        side = Side(str(model), index.folder, searcher.snapshot.dims, missing, tuned)
        found: list[Standing] = []
        for pipeline in pipelines:
            run = runner.run(pipeline)
            evaluation = how.judge(runner.qrels, run)
            [mean] = evaluation.means().values()
            [interval] = evaluation.intervals().values()
            full = found[0].mean if found else mean
            kept = mean / full if pipeline.mode == "dense" and full else None
            found.append(Standing(pipeline, mean, interval, kept, evaluation, run))
    return side, found
