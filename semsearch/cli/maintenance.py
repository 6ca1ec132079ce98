"""``semsearch status`` and ``compact``: what an index holds, and rewriting it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from semsearch.cli import token_vectors
from semsearch.cli.output import (
    count,
    index_option,
    json_option,
    note,
    one_line,
    print_json,
    size,
)
from semsearch.errors import SemsearchError
from semsearch.fs import read_errors

if TYPE_CHECKING:
    from semsearch.collection.reader import Reader
    from semsearch.collection.snapshot import Snapshot


@click.command(epilog="Example: semsearch status --json")
@index_option
@json_option
def status(folder: str, as_json: bool) -> None:
    """Show what an index holds: documents, model, widths, sizes, measured recall."""
    from semsearch.collection.reader import Reader

    with Reader(folder) as reader, reader.reading(), read_errors(reader.layout.folder):
        facts = _facts(reader)
    if as_json:
        print_json(facts)
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        click.echo(f"{name.replace('_', ' '):<{width}}  {one_line(_shown(name, value))}")


def _facts(reader: Reader) -> dict[str, Any]:
    from semsearch.collection import lexical_cache, vector_build, vector_cache
    from semsearch.collection.beside import size_of
    from semsearch.collection.reading import recorded_reading
    from semsearch.indexing.long_text import recorded_long_text
    from semsearch.lexical.languages import stemming
    from semsearch.store import catalog, passages

    snapshot = reader.snapshot()
    encoder = snapshot.encoder
    faiss, lexical = vector_cache.valid_cache(snapshot), snapshot.cache(lexical_cache.KIND)
    language = lexical_cache.words_language(snapshot, reader.connection)
    reading = recorded_reading(snapshot, reader.connection)
    exact = {"kind": "exact", "candidates": None, "nprobe": None}
    params: dict[str, Any] = {"index": exact, "recalls": []}
    if faiss:
        params = json.loads(faiss.params)
        params["index"] = exact | params["index"]
    folder = reader.layout.folder
    most = encoder.max_length if encoder else 0
    truncated, lost = passages.count_truncated(reader.connection, most)
    return {
        "index": str(folder),
        "generation": snapshot.generation.gen,
        "documents": snapshot.generation.n_document,
        "passages": snapshot.generation.n_passage,
        "long_text": recorded_long_text(reader.connection),
        "chunked": passages.count_chunked(reader.connection),
        "truncated": truncated,
        "tokens_lost": lost,
        "deleted_passages": len(snapshot.dead),
        "sources": catalog.sources(reader.connection),
        "model": encoder.name if encoder else None,
        "fingerprint": encoder.fingerprint if encoder else None,
        "runtime": f"{encoder.runtime} {encoder.precision}" if encoder else None,
        "dims": snapshot.dims,
        "rotated": snapshot.rotation_id is not None,
        "segments": len(snapshot.segments),
        "recent_vectors": len(snapshot.rows.recent[0]),
        **_token_facts(snapshot),
        "vector_index": params["index"]["kind"],
        "candidates": params["index"]["candidates"],
        "probed_lists": params["index"]["nprobe"],
        "recall_target": vector_build.wanted_recall(reader.connection),
        "recall@10": {str(dims): round(recall, 4) for dims, recall in params["recalls"]},
        "lexical_index": lexical is not None,
        "language": language,
        "stemming": stemming(language) if language else None,
        "ranking": _ranking(snapshot, reader),
        "unknown_tokens": reading.unknown,
        "foreign_to_model": reading.foreign,
        "bytes": size_of(folder) - size_of(reader.layout.beside.folder),
        "beside": beside_facts(reader),
    }


def beside_facts(reader: Reader) -> dict[str, Any] | None:
    """The index beside this one; None if there is none, or a swap is being finished."""
    from semsearch.collection.beside import beside_of

    try:
        found = beside_of(reader.layout)
    except SemsearchError as exc:
        note(str(exc))
        return None
    return asdict(found) if found else None


def _ranking(snapshot: Snapshot, reader: Reader) -> dict[str, str | float] | None:
    """The settings that tuning changed, None where the index ranks by the default."""
    from semsearch.evaluation.tuning.grid import changes
    from semsearch.ranking.tuned import tuned_ranking

    ranking = tuned_ranking(snapshot, reader.connection)
    return changes(ranking) if ranking else None


def _token_facts(snapshot: Snapshot) -> dict[str, Any]:
    """Of how many passages, deleted ones too, token vectors are kept, and in how many bytes."""
    tokens = snapshot.tokens
    files = [snapshot.layout.segments / row.tok_name for row in snapshot.segments if row.tok_name]
    return {
        "keeps_token_vectors": tokens.format is not None,
        "token_vectors": len(tokens) - len(tokens.missing()),
        "token_vectors_missing": len(tokens.missing()) if tokens.format else 0,
        "token_bytes": sum(path.stat().st_size for path in files if path.is_file())
        + tokens.recent_bytes,
    }


def _shown(name: str, value: Any) -> str:
    if name in ("bytes", "token_bytes"):
        return size(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        return ", ".join(value) or "-"
    if name == "ranking":
        tuned = ", ".join(f"{setting} {to}" for setting, to in (value or {}).items())
        return f"tuned: {tuned}" if tuned else "default"
    if name == "beside":
        return _shown_beside(value)
    if isinstance(value, dict):
        return ", ".join(f"{recall:.3f} at {dims}" for dims, recall in value.items()) or "1 (exact)"
    return "-" if value is None else str(value)


def _shown_beside(found: dict[str, Any] | None) -> str:
    if found is None:
        return "-"
    way = "--undo` puts it back" if found["served"] else f"-m {found['model']}` goes on with it"
    return (
        f"{found['model']}, {size(found['bytes'])}: `semsearch reindex {way}, --forget deletes it"
    )


@click.command(
    epilog="Example: semsearch compact   |   semsearch compact --vector-index IVF1024,RaBitQfs"
)
@index_option
@click.option(
    "--vector-index",
    "kind",
    help="From now on serve `auto` (by size), `exact`, or any FAISS factory string.",
)
@click.option("--recall", type=float, help="From now on find so much of the ten nearest (0.5-1).")
@click.option("--language", help="From now on stem words as this language does, or none.")
@click.option(
    "--token-vectors/--no-token-vectors",
    "tokens",
    default=None,
    help="Make the token vectors that are missing or damaged, and keep them from now on; or drop"
    " them.  [default: keep those that are there]",
)
def compact(
    folder: str,
    kind: str | None,
    recall: float | None,
    language: str | None,
    tokens: bool | None,
) -> None:
    """Rewrite the vectors without what was deleted and build the derived files anew."""
    from semsearch.collection import maintain
    from semsearch.collection.language import choose_language
    from semsearch.collection.layout import Layout
    from semsearch.collection.lexical_cache import build_lexical_cache
    from semsearch.collection.vector_build import (
        build_vector_cache,
        choose_kind,
        choose_recall,
        require_recall,
    )
    from semsearch.collection.writer import open_for_writing
    from semsearch.indexing.room import require_room_to_compact
    from semsearch.lexical.languages import require_language
    from semsearch.search.facade import Index

    if language is not None:
        require_language(language)
    if recall is not None:
        require_recall(recall)
    opened = Index(folder, None)
    opened.require()
    with open_for_writing(Layout(Path(folder))) as writer:
        require_room_to_compact(writer)
        if tokens:
            opened.encoder_for(writer.snapshot)  # what may be refused comes before any choice
        purged = len(writer.snapshot.dead)
        if kind is not None:
            choose_kind(writer, kind)
        if language is not None:
            choose_language(writer, language)
        if recall is not None:
            choose_recall(writer, recall)
        token_vectors.choose(writer, opened, tokens)
        maintain.compact(writer)
        if tokens:
            token_vectors.complete(writer, opened)
        build_vector_cache(writer, force=True)
        build_lexical_cache(writer, force=True)
        writer.shrink()
        documents = writer.snapshot.generation.n_document
    click.echo(
        f"{folder}: {count(purged, 'deleted passage')} purged; {count(documents, 'document')}"
    )
