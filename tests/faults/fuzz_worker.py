"""A process that gives hostile inputs to the product: ``python -m tests.faults.fuzz_worker``.

Standard input names the seed, a folder and the cases, as JSON. Each case is named on standard
output before it begins, and what came of it afterwards, so that one that never ends, or takes the
process with it, is known.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from tests.faults.fuzz_verdict import Wrong, require_same, tree

MEMORY = 6 << 30
"""Bytes of address space; a small index and its libraries need about two thousand million."""


def targets() -> dict[str, tuple[Callable[[Random, Path], str], int]]:
    """The kinds of input, and how many of 1,000 each gets."""
    from tests.faults import fuzz_cli, fuzz_files, fuzz_index

    return {
        "corpus": (fuzz_files.case_corpus, 270),
        "qrels": (fuzz_files.case_qrels, 90),
        "queries": (fuzz_files.case_queries, 80),
        "run": (fuzz_files.case_run, 80),
        "dataset": (fuzz_files.case_dataset, 50),
        "recipe": (fuzz_files.case_recipe, 80),
        "model": (fuzz_files.case_model, 90),
        "filter": (fuzz_files.case_filter, 90),
        "words": (fuzz_files.case_words, 80),
        "index": (fuzz_index.case_index, 30),
        "write": (fuzz_index.case_write, 25),
        "command": (fuzz_cli.case_command, 35),
    }


def target_of(seed: int, case: int) -> tuple[str, Callable[[Random, Path], str], Random]:
    """Which kind of input a case is, and where its chances come from."""
    random = Random(f"fuzz {seed} {case}")
    known = targets()
    (name,) = random.choices(list(known), [share for _, share in known.values()])
    return name, known[name][0], random


class Place:
    """The folders of a worker: one for the case, others that no case may change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.case = folder / "case"
        for name in ("outside", "home", "template", "tmp", "cache"):
            (folder / name).mkdir(parents=True)
        (folder / "outside" / "file").write_bytes(b"not yours\n")
        os.environ["HOME"] = str(folder / "home")
        os.environ["SEMSEARCH_CACHE"] = str(folder / "cache")
        os.environ["HF_HOME"] = str(folder / "cache" / "hf")
        os.environ["HF_HUB_OFFLINE"] = "1"
        tempfile.tempdir = str(folder / "tmp")

    def snapshot(self) -> dict[str, str]:
        watched = ("outside", "home")
        names = dict.fromkeys(sorted(path.name for path in self.folder.iterdir()), "there")
        return names | {f"{n}/{k}": v for n in watched for k, v in tree(self.folder / n).items()}

    def run(self, work: Callable[[Random, Path], str], random: Random) -> str:
        before = self.snapshot()
        self.case.mkdir()
        try:
            return work(random, self.case)
        finally:
            shutil.rmtree(self.case)
            require_same(before, self.snapshot(), "what is outside the case's folder")


def prepare() -> None:
    """Fake the models; everything else is as it is served."""
    import semsearch.encoders
    from semsearch.errors import NotFound
    from tests.faults.fuzz_index import ENCODERS
    from tests.store_model import small_sizes

    def open_encoder(name: object, **_: Any) -> Any:
        found = ENCODERS.get(Path(str(name)).name)
        if found is None:
            raise NotFound(f"no model {str(name)[:80]!a} here")
        return found

    semsearch.encoders.open_encoder = open_encoder  # type: ignore[assignment]
    small_sizes(setattr)
    logging.disable(logging.WARNING)


def one(place: Place, seed: int, case: int) -> tuple[str, str]:
    """The kind of a case, and what came of it: ``accepted``, ``refused`` or what went wrong."""
    name, work, random = target_of(seed, case)
    try:
        return name, place.run(work, random)
    except Wrong as exc:
        return name, f"wrong: {exc}"
    except Exception as exc:  # whatever it is, it is what is looked for
        last = traceback.extract_tb(exc.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        frames = [f for f in traceback.extract_tb(exc.__traceback__) if "semsearch/" in f.filename]
        if frames:
            where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}, {where}"
        return name, f"wrong: {type(exc).__name__} at {where}: {str(exc)[:300]}"


def main() -> None:
    asked = json.loads(sys.stdin.readline())
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    place = Place(Path(asked["folder"]))
    prepare()
    targets()
    for case in asked["cases"]:
        print(json.dumps([case]), file=out, flush=True)
        name, found = one(place, asked["seed"], case)
        print(json.dumps([case, name, found]), file=out, flush=True)


if __name__ == "__main__":
    main()
