"""What ``evaluate --report`` and ``--plots`` add: costs measured, a page and plots written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from semsearch.cli.output import note

if TYPE_CHECKING:
    from semsearch.evaluation.pipelines import Pipeline
    from semsearch.evaluation.report import Report
    from semsearch.search.facade import Index
    from semsearch.types import Run


def check_targets(page: str | None, plots: str | None) -> None:
    """Refuse early what would fail after minutes of measuring. Raises UsageError, MissingExtra."""
    if page is not None and not Path(page).resolve().parent.is_dir():
        raise click.BadParameter(f"no folder {Path(page).parent}", param_hint="--report")
    if plots is not None:
        from semsearch.evaluation.html.png import require_pillow

        require_pillow()


def write_report(
    index: Index,
    report: Report,
    pipelines: Sequence[Pipeline],
    first: Run,
    page: str | None,
    plots: str | None,
) -> None:
    """Time single queries of every pipeline, then write what was asked for.

    ``pipelines`` are the report's, in its order; ``first`` is the ranking of the first one.
    """
    from semsearch.evaluation.costs import measure_latency, measure_storage
    from semsearch.evaluation.html.figures import write_plots
    from semsearch.evaluation.html.page import content_of, write_page
    from semsearch.evaluation.html.points import Costs

    texts = [query.text for query in report.dataset.queries] if report.dataset else []
    served = [replace(pipeline, exact=False).options for pipeline in pipelines]
    costs = Costs(measure_latency(index.searcher, served, texts), measure_storage(index.reader))
    content = content_of(report, first, costs, index.reader)
    if page is not None:
        write_page(page, content)
        note(f"wrote {page}")
    if plots is not None:
        written = write_plots(content.plots, plots)
        note(f"wrote {len(written)} files into {plots}")
