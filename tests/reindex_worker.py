"""A process that swaps indexes and is killed: ``python -m tests.reindex_worker``.

Each line of standard input is a run: folder, what to do (``reindex``, ``undo``, ``open``), at which
step to be killed (0: never). The run happens in a fork of this warm process, which says ``point
NAME`` for each step that it reaches; ``end STATUS`` ends it.
"""

import os
import signal
import sys
from pathlib import Path
from typing import cast

from semsearch import fs
from semsearch.collection import vector_build
from semsearch.collection.layout import Layout
from semsearch.collection.swap import swap_beside
from semsearch.collection.writer import open_for_writing
from semsearch.encoders import Encoder
from semsearch.index import build, library
from semsearch.indexing import source
from semsearch.indexing.reindex import (
    bring_up_to_date,
    open_new_beside,
    open_old_beside,
    what_is_behind,
)
from semsearch.lexical import engine
from semsearch.store import database
from tests.fakes import FakeEncoder
from tests.store_model import small_sizes

OLD = FakeEncoder(32, "old")
NEW = FakeEncoder(48, "new")


def set_sizes(patch=setattr) -> None:
    """Many small files of every kind, and a catalog that is copied in many steps."""
    small_sizes(patch)
    for module in (vector_build, build):
        patch(module, "EXACT_ROWS", 20)
    patch(source, "WINDOW_DOCUMENTS", 16)
    patch(database, "_COPY_PAGES", 8)
    patch(database, "_COPY_KIB", 16)


def perform(folder: Path, action: str) -> None:
    """What the command does."""
    with open_for_writing(Layout(folder)) as live:
        if action == "open":
            return
        door = (
            open_old_beside(live) if action == "undo" else open_new_beside(live, cast(Encoder, NEW))
        )
        with door as beside:
            model = cast(Encoder, OLD if action == "undo" else NEW)
            bring_up_to_date(live, beside, what_is_behind(live, beside), lambda: model)
        swap_beside(live)


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def kill_at(place: int) -> None:
    reached = 0

    def hook(step: str) -> None:
        nonlocal reached
        reached += 1
        say(f"point {step}")
        if reached == place:
            os.kill(os.getpid(), signal.SIGKILL)

    fs.hook = hook


def run(folder: Path, action: str, place: int) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            kill_at(place)
            perform(folder, action)
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(child, 0)
    say(f"end {status}")


def main() -> None:
    set_sizes()
    library.load()  # once, not in every fork
    engine.load()
    for line in sys.stdin:
        folder, action, place = line.rstrip("\n").split("\t")
        run(Path(folder), action, int(place))


if __name__ == "__main__":
    main()
