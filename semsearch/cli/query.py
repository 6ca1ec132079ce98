"""``semsearch query``: from a question to hits, or from many to a run file."""

from __future__ import annotations

import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from semsearch.cli.explain import (
    explanation_dict,
    highlighted,
    reason_line,
    setting_dict,
    setting_lines,
    stage_lines,
)
from semsearch.cli.output import (
    bold,
    index_option,
    json_option,
    mode_option,
    note,
    one_line,
    print_json,
)
from semsearch.cli.ranking import ranking_of, ranking_option, rerank_option

if TYPE_CHECKING:
    from semsearch.search.facade import Index
    from semsearch.search.options import Options
    from semsearch.types import Hit, Setting

_SNIPPET_LINES = 2
_NARROWEST = 40


@click.command(
    epilog="""\b
Examples: semsearch query 'parse a date' -k 3
          semsearch query tax -f 'year>=2020' -f 'lang in en,de'
          semsearch query 'parse a date' --explain
          semsearch query 'parse a date' --why strptime
          semsearch query tax --diversity 0.3
          semsearch query tax --rerank none --ranking fusion=rrf --ranking depth=200
          semsearch query --queries queries.jsonl --run out.trec
"""
)
@click.argument("text", required=False)
@index_option
@click.option("-m", "--model", help="Where the index's own model is now, if it has moved.")
@click.option("-k", "k", type=int, help="How many hits.  [default: 10; 100 with --queries]")
@mode_option
@click.option("--dims", type=int, help="Compare only the first so many dimensions.")
@click.option(
    "-f",
    "--filter",
    "filters",
    multiple=True,
    metavar="EXPR",
    help="FIELD OP VALUE; all must hold.",
)
@click.option("--min-score", type=float, help="Drop hits below this score.")
@rerank_option
@ranking_option
@click.option(
    "--diversity",
    type=float,
    default=0.0,
    metavar="0..1",
    help="How much hits should differ: order them by maximal marginal relevance.  [default: 0]",
)
@click.option(
    "--explain", is_flag=True, help="Show each hit's rank and score in every stage, and its words."
)
@click.option(
    "--why", metavar="ID", help="Tell why this document is not among the hits, or which it is."
)
@click.option(
    "--queries",
    type=click.Path(exists=True, dir_okay=False),
    help="A file of queries (JSONL or TSV) instead of TEXT.",
)
@click.option("--run", "run_file", type=click.Path(dir_okay=False), help="Write a TREC run there.")
@json_option
def query(text: str | None, folder: str, k: int | None, as_json: bool, **options: Any) -> None:
    """Search for TEXT (- reads it from stdin) and print the best documents.

    Operators of a filter: = != < <= > >= and `in` with a comma-separated list.

    Filters come first, then fusing and reranking, then --min-score, then --diversity. What can be
    set with --ranking: fusion (surprise, rrf, minmax, zscore), dense_weight, depth, rerank,
    rerank_depth, rerank_weight.

    --json prints the hits; with --explain an object: "query" says how it was answered, and each of
    "hits" has "explain", with rank and score in "dense" (cosine), "lexical" (BM25), "fused",
    "reranker", "mixed" and "final": null where a stage took no part, a rank of null where an index
    did not propose the document. With --why it is "query", "hit" and "reason": hit, filter,
    min_score, k, diversity, depth (proposed only when the indexes are asked for more) or beyond.
    """
    from semsearch.search.facade import Index
    from semsearch.search.options import Options
    from semsearch.store.filters import parse_filter

    if (text is None) == (options["queries"] is None):
        raise click.UsageError("give either TEXT or --queries FILE")
    if (options["queries"] is None) != (options["run_file"] is None):
        raise click.UsageError("--queries and --run belong together")
    if (options["explain"] or options["why"] is not None) and options["queries"]:
        raise click.UsageError("--explain and --why are for one query, not for --queries")
    conditions = parse_filter(options["filters"])
    with Index(folder, options["model"]) as index:
        chosen = Options(
            options["mode"] or "hybrid",
            options["dims"],
            conditions,
            options["min_score"],
            rerank=options["rerank"],
            ranking=ranking_of(index, options["settings"]),
            diversity=options["diversity"],
        )
        if options["queries"]:
            most = 100 if k is None else k
            _many(index, Path(options["queries"]), Path(options["run_file"]), most, chosen)
            return
        wanted = sys.stdin.read() if text == "-" else str(text)
        if options["why"] is not None:
            _why(index, wanted, options["why"], 10 if k is None else k, chosen, as_json)
            return
        setting, hits = _answer(index, wanted, 10 if k is None else k, chosen, options["explain"])
        if not len(index.searcher.snapshot.rows):
            note(f"{folder} is empty: add documents with `semsearch index CORPUS -i {folder}`")
    found = [_as_dict(hit) for hit in hits]
    if as_json:
        print_json(found if setting is None else {"query": setting_dict(setting), "hits": found})
        return
    for line in () if setting is None else setting_lines(setting):
        click.echo(line)
    print_hits(hits)


def _answer(
    index: Index, text: str, k: int, options: Options, explain: bool
) -> tuple[Setting | None, list[Hit]]:
    if explain:
        return index.searcher.explain(text, k, options)
    return None, index.searcher.search(text, k, options)


def _why(index: Index, text: str, name: str, k: int, options: Options, as_json: bool) -> None:
    from semsearch.search.why import standing

    found = standing(index.searcher, text, name, k, options)
    setting = None if found.setting is None else setting_dict(found.setting)
    if as_json:
        hit = None if found.hit is None else _as_dict(found.hit)
        print_json({"query": setting, "reason": found.reason, "hit": hit})
        return
    click.echo(reason_line(one_line(name), found, k))
    for line in () if found.setting is None else setting_lines(found.setting):
        click.echo(line)
    if found.hit is not None:
        print_hits([found.hit])


def _many(index: Index, queries_file: Path, run_file: Path, k: int, options: Options) -> None:
    from semsearch.corpus import read_queries, write_run

    queries = read_queries(queries_file)
    rankings = index.searcher.rank([q.text for q in queries], k, options)
    run = {
        q.id: {ranked.id: ranked.score for ranked in ranking}
        for q, ranking in zip(queries, rankings, strict=True)
    }
    write_run(run_file, run)
    note(f"{len(queries):,} queries, at most {k} hits each, written to {run_file}")


def _as_dict(hit: Hit) -> dict[str, Any]:
    found = {
        "rank": hit.rank,
        "id": hit.id,
        "score": hit.score,
        "title": hit.title,
        "text": hit.text,
        "metadata": dict(hit.metadata),
        "passage": {"start": hit.start, "end": hit.end, "text": hit.passage},
    }
    if hit.explanation is not None:
        found["explain"] = explanation_dict(hit, hit.explanation)
    return found


def print_hits(hits: list[Hit]) -> None:
    """Hits as people read them: rank, score, id and title, then the beginning of the text."""
    if not hits:
        note("no hits")
    width = min(max(shutil.get_terminal_size((88, 24)).columns, _NARROWEST), 100)
    for hit in hits:
        name, title = one_line(hit.id), one_line(hit.title)
        shown = title if title.startswith(name) else f"{name}  {title}".rstrip()
        head = f"{hit.rank:>3}  {hit.score:.4f}  "
        why = hit.explanation
        click.echo(head + bold(_cut(shown, width - len(head))))
        for row in _snippet(f"... {hit.passage}" if hit.start else hit.text, width - 5):
            click.echo(f"     {highlighted(row, why) if why else row}")
        for line in stage_lines(hit, why) if why else ():
            click.echo(f"     {line}")


def _snippet(text: str, width: int) -> list[str]:
    shown = one_line(text[: 4 * width * _SNIPPET_LINES])
    return textwrap.wrap(shown, width, max_lines=_SNIPPET_LINES, placeholder=" ...")


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 4, 1)].rstrip() + " ..."
