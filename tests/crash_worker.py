"""A process that writes an index and is killed, again and again: ``python -m tests.crash_worker``.

Each line of standard input is a run: folder, seed, first step, name of a hook, its occurrence. The
run happens in a fork of this warm process, which says on standard output what it has done:
``done N`` once step N is acknowledged, ``point NAME`` for each hook of a run without a kill. The
parent of the fork ends each run with ``end SIGNAL SECONDS``. With the hook ``time`` the occurrence
is the number of seconds after which it is killed.

What is written is a pure function of seed and step, so that a reader can tell what must be there.
"""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from semsearch import fs
from semsearch.collection import maintain, vector_build
from semsearch.collection.layout import Layout
from semsearch.collection.writer import Writer, open_for_writing
from semsearch.index import build, library
from semsearch.types import Document
from tests.store_model import DIM, TOKENS, encoder_row, put, small_sizes

PUTS = ["put", "put", "put"]
STEPS = [
    *PUTS, "delete", *PUTS, "merge", "rotate", *PUTS, "cache", "put", "delete", "put", "merge",
    "cache", *PUTS[1:], "compact", "cache", "put", "delete", "compact", "put",
]  # fmt: skip


def set_sizes() -> None:
    small_sizes(setattr)
    for module in (vector_build, build):
        module.EXACT_ROWS = 20  # type: ignore[attr-defined]


def documents_of(seed: int, step: int) -> list[Document]:
    """What a ``put`` writes: 3 to 7 documents, of which some are there already."""
    random = np.random.default_rng([seed, step])
    numbers = random.choice(40, int(random.integers(3, 8)), replace=False).tolist()
    return [
        Document(f"d{n}", f"text {seed} {step} " + "x" * n, "", {"step": step, "n": n}, "corpus")
        for n in sorted(numbers)
    ]


def gone_of(seed: int, step: int) -> list[str]:
    """What a ``delete`` takes away, if it is there."""
    random = np.random.default_rng([seed, step])
    return [f"d{n}" for n in random.choice(40, 8, replace=False).tolist()]


def state_after(seed: int, step: int) -> dict[str, Document]:
    """The documents that are there once steps 0 to ``step`` are done."""
    state: dict[str, Document] = {}
    for number, name in enumerate(STEPS[: step + 1]):
        if name == "put":
            state.update({d.id: d for d in documents_of(seed, number)})
        elif name == "delete":
            for id in gone_of(seed, number):
                state.pop(id, None)
    return state


def perform(writer: Writer, seed: int, step: int) -> None:
    name = STEPS[step]
    if name == "put":
        put(writer, documents_of(seed, step))
    elif name == "delete":
        writer.delete(gone_of(seed, step))
    elif name == "merge":
        maintain.merge_segments(writer)
    elif name == "rotate":
        maintain.fit_rotation_if_due(writer)
    elif name == "compact":
        maintain.compact(writer)
    else:
        vector_build.build_vector_cache(writer, force=True)


def write_index(folder: Path, seed: int, first: int) -> None:
    with open_for_writing(Layout(folder)) as writer:
        if writer.snapshot.encoder is None:
            writer.adopt_encoder(encoder_row(), DIM, TOKENS)
        for step in range(first, len(STEPS)):
            perform(writer, seed, step)
            say(f"done {step}")


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def kill_at(name: str, occurrence: int) -> None:
    seen = 0

    def hook(step: str) -> None:
        nonlocal seen
        if not name:
            say(f"point {step}")
        seen += step == name
        if seen == occurrence and step == name:
            os.kill(os.getpid(), signal.SIGKILL)

    fs.hook = hook


def run(folder: Path, seed: int, first: int, name: str, occurrence: str) -> None:
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if name != "time":
                kill_at(name, int(occurrence))
            write_index(folder, seed, first)
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    if name == "time":
        time.sleep(float(occurrence))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    say(f"end {status} {time.perf_counter() - start:.6f}")


def main() -> None:
    set_sizes()
    library.load()  # once, not in every fork
    for line in sys.stdin:
        folder, seed, first, name, occurrence = line.rstrip("\n").split("\t")
        run(Path(folder), int(seed), int(first), name, occurrence)


if __name__ == "__main__":
    main()
