"""The ``semsearch`` command: its groups, its exit codes, its one place for errors.

Exit codes: 0 done, 1 failure, 2 wrong usage, 3 a gate failed, 130 stopped by SIGINT
(Ctrl-C), 143 by SIGTERM.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

import click

from semsearch import __version__, stopping
from semsearch.cli.output import one_line, set_up_logging
from semsearch.encoders.offline import OFFLINE, go_offline
from semsearch.errors import SemsearchError, UsageError

_COMMANDS = {
    "index": "Index a corpus, or bring an index up to date.",
    "query": "Search an index.",
    "evaluate": "Measure how well an index answers labelled queries.",
    "compare": "Compare indexes, models, modes or run files on labelled queries.",
    "tune": "Learn from labelled queries how an index is to rank.",
    "mine": "Mine hard negatives to fine-tune with.",
    "train": "Fine-tune a model as a recipe says, and judge it.",
    "demo": "Index Python's own documentation, ask it questions, measure it.",
    "status": "Show what an index holds.",
    "dups": "List documents that are nearly the same.",
    "get": "Print a document.",
    "delete": "Delete documents by id.",
    "export": "Print all documents as JSON lines.",
    "check": "Look for damage, and repair it.",
    "compact": "Rewrite an index without what was deleted.",
    "backup": "Copy an index while it is used.",
    "restore": "Put a backup back.",
    "reindex": "Change the model of an index, compare, swap, put back.",
    "doctor": "Look at this machine, the libraries, the model and an index.",
}
_MODULES = {
    "index": "index",
    "query": "query",
    "evaluate": "evaluate",
    "compare": "compare",
    "tune": "tune",
    "mine": "mine",
    "train": "train",
    "demo": "demo",
    "status": "maintenance",
    "check": "check",
    "backup": "backup",
    "restore": "backup",
    "compact": "maintenance",
    "reindex": "reindex",
    "doctor": "doctor",
    "dups": "dups",
    "get": "documents",
    "delete": "documents",
    "export": "documents",
}


_NO_THREAD = "can't start new thread"
_NO_MEMORY = (
    "not enough memory: what was committed is safe: end other programs, or raise the limit of this"
    " one (ulimit -v), and run again"
)


class Commands(click.Group):
    """Loads a command when it is used, and turns our errors into one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of use, not of the alphabet."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in _MODULES:
            return None
        module = import_module(f"semsearch.cli.{_MODULES[cmd_name]}")
        command = getattr(module, cmd_name)
        if not isinstance(command, click.Command):
            raise TypeError(cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """What stands before the command."""
        with _quoting_in_one_line():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; every SemsearchError becomes one line on stderr."""
        try:
            with _quoting_in_one_line():
                return super().invoke(ctx)
        except UsageError as exc:
            raise click.UsageError(str(exc), ctx=None) from exc
        except SemsearchError as exc:
            raise click.ClickException(one_line(str(exc))) from exc
        except OSError as exc:
            if exc.errno == errno.EPIPE:
                raise
            _drop_output()
            place = exc.filename or "standard output"
            raise click.ClickException(one_line(f"{place}: {exc.strerror or exc}")) from exc
        except (MemoryError, RuntimeError) as exc:
            if isinstance(exc, RuntimeError) and str(exc) != _NO_THREAD:
                raise
            raise click.ClickException(_NO_MEMORY) from exc
        except KeyboardInterrupt as exc:
            click.echo("\nstopped: what was committed is safe; run again to go on", err=True)
            ctx.exit(getattr(exc, "code", 130))


@contextmanager
def _quoting_in_one_line() -> Iterator[None]:
    """What was typed may hold line breaks, and click quotes it as it is."""
    try:
        yield
    except click.UsageError as exc:
        message = exc.format_message()
        if message == one_line(message):
            raise
        raise click.UsageError(one_line(message), exc.ctx) from exc


def _drop_output() -> None:
    """Let what could not be written go, or the interpreter fails on it again when it ends."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: semsearch index corpus.jsonl && semsearch query 'how do I parse a date'",
)
@click.version_option(__version__, prog_name="semsearch")
@click.option(
    "--offline",
    is_flag=True,
    envvar=OFFLINE,
    help="Never use the network: a model must be on this machine.",
)
def cli(offline: bool) -> None:
    """Semantic search over your own corpus, with numbers you can believe.

    The index is the folder .semsearch, or $SEMSEARCH_INDEX, or the one that -i names.
    """
    if offline:
        go_offline()
    set_up_logging()


def main() -> None:
    """Entry point of the ``semsearch`` command."""
    stopping.install()
    if hasattr(signal, "SIGPIPE"):  # `semsearch ... | head` ends quietly
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):  # a document may hold what the terminal cannot show
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    if hasattr(sys.stdin, "reconfigure"):  # a query may be piped in from anywhere
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    if not sys.stdout.isatty() and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")  # programs read it, whatever the locale
    try:
        cli(prog_name="semsearch")
    except OSError as exc:  # while help is printed
        click.echo(f"Error: cannot write: {exc.strerror or exc}", err=True)
        os._exit(1)  # flushing stdout would fail again
