"""The report as one page: tables, plots, the worst queries, what the data and the setting were."""

from __future__ import annotations

from typing import TYPE_CHECKING

from semsearch.lazy import lazy_names

if TYPE_CHECKING:
    from semsearch.evaluation.html.figures import write_plots
    from semsearch.evaluation.html.page import content_of, write_page

__all__ = ["content_of", "write_page", "write_plots"]

__getattr__ = lazy_names(
    __name__, {"content_of": ".page", "write_page": ".page", "write_plots": ".figures"}
)
