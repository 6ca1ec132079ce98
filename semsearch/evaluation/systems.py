"""What can be compared: run files of any system, indexes, and ways to search them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from semsearch.corpus import read_run
from semsearch.errors import NotFound, UsageError
from semsearch.evaluation.pipelines import Pipeline, default_pipeline, parse_pipeline
from semsearch.search.facade import Index
from semsearch.search.options import MODES
from semsearch.types import Run

_WAY = "MODE[@DIMS][+RERANK]"
_FORMS = f"a run file, an index folder, {_WAY} such as dense@128 or hybrid+none, or FOLDER:{_WAY}"
_RERANKED = re.compile(rf"((?:.*:)?(?:{'|'.join(MODES)})(?:@[0-9]+)?)\+(.+)")
_RUN_SUFFIXES = (".trec", ".run", ".txt", ".tsv", ".res")


@dataclass(frozen=True, slots=True)
class System:
    """Something that ranks: a ranking that is there already, or an index and a way to search it."""

    name: str
    run: Run | None = None
    index: Index | None = None
    pipeline: Pipeline = default_pipeline()


Source: TypeAlias = str | Path | Run | Index | tuple[Index, str] | System
"""What ``compare`` takes for a system; the text of a tuple is ``MODE[@DIMS][+RERANK]``."""


@dataclass(frozen=True, slots=True)
class Written:
    """A system as people write it.

    With neither file nor folder it is a way to search the index that is meant anyway; ``pipeline``
    None is the default one.
    """

    name: str
    run_file: Path | None = None
    folder: Path | None = None
    pipeline: Pipeline | None = None


def parse_system(text: str) -> Written:
    """Read ``[NAME=]RUN_FILE``, ``[NAME=]FOLDER[:WAY]`` or ``[NAME=]WAY``.

    WAY is ``MODE[@DIMS][+RERANK]``. What is there as a file or folder is taken for it, whatever its
    name. Raises UsageError for a way to search that there is not, NotFound when nothing is there.
    """
    path = Path(text)
    pipeline = parse_pipeline(text)
    if pipeline is not None:
        return Written(text, pipeline=pipeline)
    if path.is_dir():
        return Written(text, folder=path)
    if path.exists():
        return Written(text, run_file=path)
    for colon in (at for at, character in enumerate(text) if character == ":"):
        pipeline = parse_pipeline(text[colon + 1 :])
        if pipeline is not None and Path(text[:colon]).is_dir():
            return Written(text, folder=Path(text[:colon]), pipeline=pipeline)
    name, equals, rest = text.partition("=")
    if equals and name.strip() and rest:
        found = parse_system(rest)
        return Written(name.strip(), found.run_file, found.folder, found.pipeline)
    raise NotFound(f"{text!r}: no such file or folder: a SYSTEM is {_FORMS}")


def open_systems(
    sources: Sequence[Source] | Mapping[str, Source], stack: ExitStack
) -> list[System]:
    """Systems with names that differ; run files are read, folders opened until ``stack`` ends.

    Raises UsageError for a name that comes twice or a text that names no system, NotFound,
    InputError.
    """
    if isinstance(sources, Mapping):
        return [_open(source, name, stack) for name, source in sources.items()]
    systems = [_open(source, None, stack) for source in sources]
    names = [system.name for system in systems]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two systems are called {name!r}: give them names that differ")
    return systems


def _open(source: Source, name: str | None, stack: ExitStack) -> System:
    if isinstance(source, System):
        return System(name or source.name, source.run, source.index, source.pipeline)
    if isinstance(source, Index):
        return System(name or str(source.folder), index=source)
    if isinstance(source, tuple):
        index, way = source
        pipeline = parse_pipeline(way)
        if pipeline is None:
            raise UsageError(f"{way!r} is not a way to search: use {_WAY} such as dense@128")
        return System(name or f"{index.folder}:{way}", index=index, pipeline=pipeline)
    if isinstance(source, Mapping):
        return System(name or "run", source)
    return open_written(parse_system(str(source)), stack, name)


def open_written(written: Written, stack: ExitStack, name: str | None = None) -> System:
    """Read the run file, or open the folder until ``stack`` ends.

    Raises UsageError where there is neither, NotFound, InputError.
    """
    name = name or written.name
    if written.run_file is not None:
        return System(name, read_run(written.run_file))
    if written.folder is None:
        raise UsageError(f"{name!r} does not say which index: give a pair (index, {name!r})")
    index = Index(written.folder, None)
    index.require()
    stack.callback(index.close)
    return System(name, index=index, pipeline=written.pipeline or default_pipeline())


def short_names(names: Sequence[str]) -> list[str]:
    """Names for a table: of paths the last part without its ending, where they still differ."""
    short = [_short(name) for name in names]
    return [
        brief if short.count(brief) == 1 else name for brief, name in zip(short, names, strict=True)
    ]


def _short(name: str) -> str:
    reranked = _RERANKED.fullmatch(name)
    if reranked is not None:
        return f"{_short(reranked[1])}+{Path(reranked[2]).name}"
    last = Path(name).name
    plain = last.removesuffix(".gz")
    return plain.removesuffix(Path(plain).suffix) if plain.endswith(_RUN_SUFFIXES) else last
