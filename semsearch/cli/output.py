"""What people see: options that commands share, progress with ETA, notes, numbers, JSON."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import click

from semsearch.evaluation.columns import JOINERS
from semsearch.evaluation.columns import count as count
from semsearch.evaluation.columns import one_line as one_line
from semsearch.resources import size as size

index_option = click.option(
    "-i",
    "--index",
    "folder",
    envvar="SEMSEARCH_INDEX",
    default=".semsearch",
    show_default=True,
    type=click.Path(file_okay=False),
    help="The index folder.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
mode_option = click.option(
    "--mode",
    type=click.Choice(["hybrid", "dense", "lexical"]),
    help="Which candidates to take.  [default: hybrid]",
)


class _Notes(logging.Handler):
    """Prints each message of the library once, as one line on stderr."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message not in self._said:
            self._said.add(message)
            note(message)


def set_up_logging() -> None:
    """Show the library's notes on stderr."""
    logger = logging.getLogger("semsearch")
    logger.handlers = [_Notes()]
    logger.propagate = False
    logger.setLevel(logging.INFO if sys.stderr.isatty() else logging.WARNING)


def note(message: str) -> None:
    """One line for people, on stderr; a progress bar moves below it."""
    shown = sys.modules.get("tqdm")
    with shown.tqdm.external_write_mode(sys.stderr) if shown else nullcontext():
        click.echo(f"note: {one_line(message)}", err=True)


def print_json(value: Any) -> None:
    """JSON on stdout: one line; on a terminal indented, and escaped where it could drive it."""
    text = json.dumps(
        value, ensure_ascii=False, indent=2 if on_terminal() else None, allow_nan=False
    )
    click.echo(safe(text))


def safe(text: str) -> str:
    """JSON text, on a terminal with control and direction characters as escapes."""
    if not on_terminal():
        return text
    keep = JOINERS + "\n"
    return "".join(c if c.isprintable() or c in keep else json.dumps(c)[1:-1] for c in text)


def on_terminal() -> bool:
    """Whether a person reads stdout."""
    return sys.stdout.isatty()


@contextmanager
def progress_bar(total: int | None, label: str, unit: str) -> Iterator[Callable[[int], None]]:
    """A bar with rate and ETA on stderr, on a terminal only; yields what advances it."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from tqdm import tqdm  # type: ignore[import-untyped,unused-ignore]

    with tqdm(
        total=total, desc=label, unit=f" {unit}", leave=False, dynamic_ncols=True, smoothing=0.1
    ) as bar:

        def advance(count: int) -> None:
            bar.update(count)

        yield advance


def bold(text: str) -> str:
    """Bold on a terminal; click strips it elsewhere, and where NO_COLOR is set we do not ask."""
    import os

    return text if os.environ.get("NO_COLOR") else click.style(text, bold=True)
