"""Systems side by side on the same queries, each against the first: the baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from semsearch import __version__
from semsearch.corpus import BeirDataset
from semsearch.errors import UsageError
from semsearch.evaluation.checks import unjudged_share
from semsearch.evaluation.comparison import SAME, Comparison, Difference, SystemResult
from semsearch.evaluation.groups import check_field, group_means, group_queries
from semsearch.evaluation.labelled import asked_qrels, check_ids, open_labelled, require_texts
from semsearch.evaluation.measure import Measuring, Runner, missing_documents
from semsearch.evaluation.systems import Source, System, open_systems
from semsearch.metrics import Evaluation, holm, paired_test
from semsearch.metrics.formulas import Floats
from semsearch.types import Run

COMPARED = ("ndcg@10", "mrr@10", "recall@100")
"""The measures where none are named."""


def compare(
    systems: Sequence[Source] | Mapping[str, Source],
    dataset: str | Path | BeirDataset,
    *,
    split: str | None = None,
    measures: Sequence[str] = COMPARED,
    group_by: str | None = None,
    ignore_identical_ids: bool = False,
    on_run: Callable[[str, Run], None] | None = None,
) -> Comparison:
    """Compare two or more systems on a labelled set, query by query; the first is the baseline.

    A system is a run or the path of a run file, an open index or the folder of one (its default
    pipeline, exactly as ``search`` runs it), or ``(index, "dense@128")``, served as ``search``
    would with that mode and width. A mapping gives them names. ``dataset`` may also be a file of
    qrels where all systems are runs. ``group_by`` names a field of the queries file; ``on_run`` is
    given each name and ranking.

    Raises UsageError for fewer than two systems, names that repeat, unknown measures or fields;
    InputError when a run answers none of the queries; NotFound.
    """
    labelled = open_labelled(dataset, split)
    check_field(labelled, group_by)
    with ExitStack() as stack:
        opened = open_systems(systems, stack)
        if len(opened) < 2:
            raise UsageError("a comparison needs two systems or more: the first is the baseline")
        how = Measuring(measures, ignore_identical_ids)
        ranked = _rank(opened, labelled, how, on_run)
    return _compare(ranked, labelled, how, group_by)


class _Ranked(NamedTuple):
    name: str
    run: Run
    missing: int | None


def _rank(
    systems: Sequence[System],
    dataset: BeirDataset,
    how: Measuring,
    on_run: Callable[[str, Run], None] | None,
) -> list[_Ranked]:
    """The rankings of all systems; the queries are encoded once for each index."""
    runners: dict[int, tuple[Runner, int]] = {}
    ranked = []
    for system in systems:
        missing = None
        if system.run is not None:
            run = system.run
            check_ids(dataset, run, system.name)
        elif system.index is not None:
            if id(system.index) not in runners:
                require_texts(dataset)
                system.index.searcher.refresh()
                lacking = missing_documents(system.index, dataset)
                runners[id(system.index)] = Runner(system.index.searcher, dataset, how), lacking
            runner, missing = runners[id(system.index)]
            run = runner.run(system.pipeline)
        else:
            raise UsageError(f"{system.name!r} has neither a run nor an index")
        ranked.append(_Ranked(system.name, run, missing))
        if on_run is not None:
            on_run(system.name, run)
    return ranked


def _compare(
    ranked: Sequence[_Ranked], dataset: BeirDataset, how: Measuring, group_by: str | None
) -> Comparison:
    qrels = asked_qrels(dataset)
    evaluations = [how.judge(qrels, system.run) for system in ranked]
    first = evaluations[0]
    names = tuple(map(str, first.measures))
    groups = group_queries(dataset, first.query_ids, group_by) if group_by is not None else []
    differences = _differences(evaluations, names)
    results = [
        SystemResult(
            system.name,
            found.means(),
            found.intervals(),
            changed,
            group_means(found, groups, names, None if found is first else first),
            system.missing,
            unjudged_share(qrels, system.run, ignore_identical_ids=how.ignore_identical_ids),
            found,
            system.run,
        )
        for system, found, changed in zip(ranked, evaluations, differences, strict=True)
    ]
    return Comparison(
        tuple(results),
        names,
        len(first.query_ids),
        len(first.skipped),
        dataset.split,
        __version__,
        group_by,
        dataset,
    )


def _differences(
    evaluations: Sequence[Evaluation], measures: Sequence[str]
) -> list[dict[str, Difference]]:
    """Each against the first, by measure; p corrected over the systems that are compared.

    Measures do not count: they look at the same rankings, and the first one named is the main one.
    """
    first, *others = evaluations
    found: list[dict[str, Difference]] = [{} for _ in evaluations]
    for name in measures:
        before = first.per_query(name)
        pairs = [(other.per_query(name), before) for other in others]
        for place, difference in enumerate(paired_differences(pairs), start=1):
            found[place][name] = difference
    return found


def paired_differences(pairs: Sequence[tuple[Floats, Floats]]) -> list[Difference]:
    """How the first of each pair differs from the second; p corrected over the pairs (Holm).

    Each is a measure's values query by query, float64 ``(n,)``, of the same queries in the same
    order. Raises as ``paired_test``.
    """
    tests = [paired_test(after, before) for after, before in pairs]
    corrected = holm([test.p for test in tests])
    found = []
    for (after, before), test, p in zip(pairs, tests, corrected, strict=True):
        change = after - before
        wins, losses = int((change > SAME).sum()), int((change < -SAME).sum())
        ties = len(change) - wins - losses
        interval = (test.low, test.high)
        found.append(Difference(test.difference, interval, test.p, p, wins, ties, losses))
    return found
