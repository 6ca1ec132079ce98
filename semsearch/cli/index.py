"""``semsearch index``: from a corpus to an index."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from semsearch.cli import token_vectors
from semsearch.cli.output import count, index_option, json_option, note, print_json, progress_bar

if TYPE_CHECKING:
    from semsearch.collection.writer import Writer
    from semsearch.encoders import Encoder
    from semsearch.errors import InputError
    from semsearch.indexing import Source, Summary
    from semsearch.search.facade import Index

_MULTILINGUAL = "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"
_SHOWN = 5
_RATED = 100  # fewer documents are encoded faster than a model is opened: no rate is shown


@click.command(
    epilog="Examples: semsearch index corpus.jsonl   |   semsearch index notes/ -i notes.idx"
    "   |   zcat big.jsonl.gz | semsearch index -"
)
@click.argument("corpus", nargs=-1, required=True)
@index_option
@click.option("-m", "--model", help="A sentence-transformers folder or name.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bf16", "int8"]),
    default="auto",
    show_default=True,
    help="What a new index's model computes in; int8 is for CPUs with VNNI or AMX.",
)
@click.option("--dims", type=int, help="Store only so many dimensions.  [default: all]")
@click.option(
    "--recall",
    type=float,
    help="How many of the ten nearest a large index must find, 0.5 to 1.  [default: 0.99]",
)
@click.option(
    "--long-text",
    type=click.Choice(["chunk", "truncate", "error"]),
    help="What to do with texts longer than the model reads: cut them into passages, cut them off,"
    " or stop.  [default: as before; chunk in a new index]",
)
@click.option(
    "--on-duplicate",
    type=click.Choice(["error", "replace", "skip"]),
    default="error",
    show_default=True,
    help="What to do when one run has the same id twice.",
)
@click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="What to do with a malformed record.",
)
@click.option(
    "--language",
    help="Stem words as this language does: en, pt, .. or none.  [default: as the texts are]",
)
@click.option(
    "--token-vectors/--no-token-vectors",
    default=None,
    help="Keep the vectors of tokens too, compressed, to rerank by, also of what is stored without;"
    " or leave them out.  [default: as before; kept in a new index]",
)
@click.option("--prune", is_flag=True, help="Delete what these sources no longer hold.")
@click.option("--id-field", help="The field that holds the id.  [default: _id, id or docid]")
@click.option("--text-field", help="The field that holds the text.  [default: text, contents, ..]")
@json_option
def index(corpus: tuple[str, ...], folder: str, as_json: bool, **options: Any) -> None:
    """Index CORPUS: JSONL, CSV, TSV or Parquet files, folders or globs of text, or - for stdin.

    Run it again after the corpus changed: only new and changed documents are encoded, and nothing
    is deleted unless --prune is given. A run that was stopped goes on where it was.
    """
    from semsearch.collection.language import recorded_language
    from semsearch.collection.layout import Layout
    from semsearch.collection.reading import recorded_reading
    from semsearch.collection.writer import open_for_writing
    from semsearch.indexing import run_indexing
    from semsearch.indexing.room import require_room_for_run
    from semsearch.lexical.languages import ENGLISH, require_language
    from semsearch.search.facade import Index

    if options["prune"] and options["on_error"] == "skip":
        raise click.UsageError(
            "--prune would delete the documents of skipped records: leave out --on-error skip"
        )
    if options["language"] is not None:
        require_language(options["language"])
    skipped = _Skipped()
    sources = [_source(path, options, skipped) for path in corpus]
    began = time.perf_counter()
    opened = Index(folder, options["model"], options["precision"])
    with open_for_writing(Layout(Path(folder))) as writer:
        encoder = opened.encoder_for(writer.snapshot)
        _choose(writer, opened, encoder, options)
        known = recorded_language(writer.connection)
        require_room_for_run(writer, encoder, corpus, options["dims"])
        with progress_bar(_estimate(corpus), "indexing", "docs") as advance:
            summary = run_indexing(
                writer,
                encoder,
                sources,
                dims=options["dims"],
                on_duplicate=options["on_duplicate"],
                prune=options["prune"],
                progress=advance,
            )
        if options["token_vectors"]:
            token_vectors.complete(writer, opened)
        documents = writer.snapshot.generation.n_document
        language = recorded_language(writer.connection)
        foreign = recorded_reading(writer.snapshot, writer.connection).foreign
    seconds = time.perf_counter() - began
    _warn(summary, skipped, encoder)
    if language not in (known, ENGLISH):
        note(f"the language of the texts is {language}; --language chooses another")
        if foreign:
            note(
                f"{encoder.name} was not made for it: its vectors count less than the words; for a"
                f" model of many languages try -m {_MULTILINGUAL} and a new index (-i)"
            )
    if as_json:
        print_json(_facts(summary, folder, documents, seconds, skipped.count))
    else:
        _print(summary, folder, documents, seconds, encoder)


def _choose(writer: Writer, opened: Index, encoder: Encoder, options: dict[str, Any]) -> None:
    """What the index is to do from now on; what may be refused comes before any choice."""
    from semsearch.collection.language import choose_language
    from semsearch.collection.vector_build import choose_recall, require_recall
    from semsearch.indexing import choose_long_text, require_fit

    require_fit(writer, encoder, options["dims"])
    if options["recall"] is not None:
        require_recall(options["recall"])
    if options["language"] is not None:
        choose_language(writer, options["language"])
    if options["recall"] is not None:
        choose_recall(writer, options["recall"])
    if options["long_text"] is not None:
        choose_long_text(writer, options["long_text"])
    token_vectors.choose(writer, opened, options["token_vectors"])


class _Skipped:
    """How many malformed records were skipped, and the first few of them."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def add(self, error: InputError) -> None:
        self.count += 1
        if len(self.first) < _SHOWN:
            self.first.append(str(error))


def _source(path: str, options: dict[str, Any], skipped: _Skipped) -> Source:
    from semsearch.corpus import read_corpus
    from semsearch.fs import printable
    from semsearch.indexing import Source

    documents = read_corpus(
        path,
        id_field=options["id_field"],
        text_field=options["text_field"],
        on_error=options["on_error"],
        on_skip=skipped.add,
    )
    uri = "stdin" if path == "-" else printable(Path(path).resolve())
    return Source(uri, documents, prunable=path != "-")


def _estimate(corpus: tuple[str, ...]) -> int | None:
    """How many documents there will be, for the ETA: lines of JSONL files, else unknown."""
    if not sys.stderr.isatty():
        return None  # nobody is shown an ETA: spare reading everything twice
    total = 0
    for path in map(Path, corpus):
        if path.suffix not in (".jsonl", ".ndjson") or not path.is_file():
            return None
        try:
            with open(path, "rb") as file:
                while block := file.read(1 << 20):
                    total += block.count(b"\n")
        except OSError:  # the reader will say so
            return None
    return total


def _warn(summary: Summary, skipped: _Skipped, encoder: Encoder) -> None:
    from semsearch.search.questions import UNREADABLE

    for message in skipped.first:
        note(f"skipped: {message}")
    if skipped.count > _SHOWN:
        note(f"skipped {skipped.count - _SHOWN:,} more malformed records")
    if summary.empty:
        examples = ", ".join(summary.empty_ids)
        note(f"{count(summary.empty, 'document')} without text skipped: {examples}")
    if summary.unknown_share > UNREADABLE:
        note(
            f"{encoder.name} does not know {summary.unknown_share:.0%} of the tokens: it cannot"
            f" read this language well; try -m {_MULTILINGUAL} and a new index (-i)"
        )


def _facts(
    summary: Summary, folder: str, documents: int, seconds: float, malformed: int
) -> dict[str, Any]:
    return {
        "index": folder,
        "documents": documents,
        "new": summary.new,
        "updated": summary.updated,
        "unchanged": summary.unchanged,
        "moved": summary.moved,
        "missing": summary.missing,
        "pruned": summary.pruned,
        "empty": summary.empty,
        "duplicates": summary.duplicates,
        "malformed": malformed,
        "encoded": summary.encoded,
        "passages": summary.passages,
        "chunked": summary.chunked,
        "truncated": summary.truncated,
        "tokens_lost": summary.lost,
        "tokens": summary.tokens,
        "unknown_share": round(summary.unknown_share, 6),
        "seconds": round(seconds, 3),
    }


def _print_long(summary: Summary, encoder: Encoder) -> None:
    longer = f"longer than {encoder.max_length:,} tokens"
    if summary.chunked:
        click.echo(
            f"{count(summary.chunked, 'document')} {longer}:"
            f" {count(summary.passages, 'passage')} in all"
        )
    if summary.truncated:
        click.echo(
            f"{count(summary.truncated, 'document')} {longer}: {count(summary.lost, 'token')} of"
            " text not in the vectors (--long-text chunk keeps them)"
        )


def _print(summary: Summary, folder: str, documents: int, seconds: float, encoder: Encoder) -> None:
    gone = "pruned" if summary.pruned else "no longer in source"
    click.echo(
        f"{folder}: {summary.new:,} new / {summary.updated:,} updated /"
        f" {summary.unchanged:,} unchanged / {summary.pruned or summary.missing:,} {gone};"
        f" {count(documents, 'document')} in all"
    )
    if summary.moved:
        moved = count(summary.moved, "document now comes", "documents now come")
        click.echo(f"{moved} from another source")
    if summary.duplicates:
        click.echo(f"{count(summary.duplicates, 'duplicate')} in the input")
    _print_long(summary, encoder)
    if not summary.encoded:
        click.echo(f"nothing to encode ({seconds:.1f} s)")
        return
    rate = f", {summary.encoded / seconds:,.0f} docs/s" if summary.encoded >= _RATED else ""
    click.echo(
        f"{count(summary.encoded, 'text')} encoded by {encoder.name} in {seconds:.1f} s{rate}"
    )
