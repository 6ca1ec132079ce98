"""A process whose file calls are recorded, or made to fail: ``python -m tests.faults.io_worker``.

Each line of standard input is a job (JSON): it is done in a fork of this warm process, whose answer
is one line of standard output (JSON). What is written is a pure function of seed and step, so that
a reader can tell what must be there.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import logging
import os
import pkgutil
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from semsearch import fs
from semsearch.collection import lexical_cache, maintain, vector_build
from semsearch.collection.backup import back_up, restore
from semsearch.collection.beside import forget_beside
from semsearch.collection.check import check_index
from semsearch.collection.language import choose_language
from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader
from semsearch.collection.swap import fresh_ids, swap_beside
from semsearch.collection.writer import Writer, open_for_writing
from semsearch.index import build, library
from semsearch.lexical import engine
from semsearch.store import database
from semsearch.store.catalog import EncoderRow
from semsearch.types import Document
from tests.faults.mutants import mutated
from tests.faults.shim import Shim
from tests.store_model import TOKENS, encoder_row, put, small_sizes

FIRST, SECOND = 8, 12
"""The widths of two models: a text has other vectors by each."""

STEPS = (
    "adopt", "put", "put", "put", "delete", "put", "lexical", "merge", "note", "rotate", "put",
    "cache", "put", "delete", "lexical", "put", "merge", "compact", "shrink", "note", "put",
    "backup", "fill", "put", "refill", "swap", "put", "delete", "lexical", "cache", "refill",
    "swap", "put", "forget", "reopen", "compact", "put", "restore", "replace", "reopen", "put",
    "backup", "lexical", "put",
)  # fmt: skip
Documents = dict[str, Document]


@dataclass(frozen=True)
class Held:
    """What an index holds: documents, and the width of the model that made its vectors."""

    documents: Documents
    dim: int


@dataclass(frozen=True)
class Expected:
    """What must be there once some steps are done; ``others`` are whole indexes, by folder."""

    index: Held | None = None
    beside: Held | None = None
    others: dict[str, Held] = field(default_factory=dict)
    note: bytes | None = None


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


def note_of(seed: int, step: int) -> bytes:
    return f"note {seed} {step} ".encode() * 200


def name_of(kind: str, step: int) -> str:
    """The folder that a step makes beside the index."""
    return f"{kind}-{step}"


def last_backup(step: int) -> int:
    return max(n for n in range(step) if STEPS[n] == "backup")


def expected_after(seed: int, step: int) -> Expected:
    """What is there once steps 0 to ``step`` are done."""
    state = Expected()
    for number in range(step + 1):
        state = _after(seed, number, state)
    return state


def _after(seed: int, step: int, state: Expected) -> Expected:
    name, index = STEPS[step], state.index
    if name == "adopt":
        return replace(state, index=Held({}, FIRST))
    assert index is not None
    if name == "put":
        more = {d.id: d for d in documents_of(seed, step)}
        return replace(state, index=Held({**index.documents, **more}, index.dim))
    if name == "delete":
        gone = set(gone_of(seed, step))
        left = {id: d for id, d in index.documents.items() if id not in gone}
        return replace(state, index=Held(left, index.dim))
    if name == "note":
        return replace(state, note=note_of(seed, step))
    return _after_rare(step, state, index)


def _after_rare(step: int, state: Expected, index: Held) -> Expected:
    name = STEPS[step]
    if name in ("fill", "refill"):
        return replace(state, beside=Held(index.documents, FIRST + SECOND - index.dim))
    if name == "swap":
        return replace(state, index=state.beside, beside=index)
    if name == "forget":
        return replace(state, beside=None)
    if name == "backup":
        return replace(state, others={**state.others, name_of("backup", step): index})
    if name in ("restore", "replace"):
        held = state.others[name_of("backup", last_backup(step))]
        if name == "replace":
            kept = {**state.others, "index/kept-1": index}
            return replace(state, index=held, others=kept)
        return replace(state, others={**state.others, name_of("restored", step): held})
    return state


def encoder_of(dim: int) -> EncoderRow:
    row = encoder_row(dim)
    return row if dim == FIRST else replace(row, fingerprint="cd" * 32, name="other")


def index_of(root: Path) -> Path:
    return root / "index"


class World:
    """The root, and the writer of the index in it, open while there is use for it."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.seed = root, seed
        self.layout = Layout(index_of(root))
        self._open: ExitStack | None = None
        self._writer: Writer | None = None

    @property
    def writer(self) -> Writer:
        return self.open()

    def open(self) -> Writer:
        if self._writer is None:
            self._open = ExitStack()
            self._writer = self._open.enter_context(open_for_writing(self.layout))
        return self._writer

    def close(self) -> None:
        opened, self._open, self._writer = self._open, None, None
        if opened is not None:
            opened.close()

    def leave(self, exc: Exception, trial: Trial) -> None:
        """End the block of the open writer with an error, which it may tell in its own way."""
        opened, self._open, self._writer = self._open, None, None
        if opened is not None:
            try:
                opened.__exit__(type(exc), exc, exc.__traceback__)
            except Exception as said:  # noqa: BLE001 - what is not ours is told of
                trial.caught(said)

    def perform(self, step: int) -> None:
        name = STEPS[step]
        special = getattr(self, f"_{name}", None)
        if special is not None:
            special(step)
        elif name == "put":
            put(self.writer, documents_of(self.seed, step))
        elif name == "delete":
            self.writer.delete(gone_of(self.seed, step))
        elif name == "merge":
            maintain.merge_segments(self.writer)
        elif name == "rotate":
            maintain.fit_rotation_if_due(self.writer)
        elif name == "compact":
            maintain.compact(self.writer)
        elif name == "cache":
            vector_build.build_vector_cache(self.writer, force=True)
        elif name == "lexical":
            lexical_cache.build_lexical_cache(self.writer)
        else:
            assert name == "shrink"
            self.writer.shrink()

    def _adopt(self, _: int) -> None:
        self.writer.adopt_encoder(encoder_of(FIRST), FIRST, TOKENS)
        choose_language(self.writer, "en")

    def _note(self, step: int) -> None:
        fs.write_file(self.root / "note.json", note_of(self.seed, step))

    def _reopen(self, _: int) -> None:
        self.close()
        self.open()

    def _fill(self, step: int) -> None:
        wanted = expected_after(self.seed, step).beside
        assert wanted is not None
        live = self.writer
        with open_for_writing(self.layout.beside) as beside:
            if beside.snapshot.encoder is None:
                fresh_ids(live, beside)
                beside.adopt_encoder(encoder_of(wanted.dim), wanted.dim, TOKENS)
                choose_language(beside, "en")
            self._bring(beside, wanted)

    _refill = _fill

    def _bring(self, beside: Writer, wanted: Held) -> None:
        beside.delete([f"d{n}" for n in range(40) if f"d{n}" not in wanted.documents])
        documents = list(wanted.documents.values())
        for start in range(0, len(documents), 9):
            put(beside, documents[start : start + 9])
        vector_build.build_vector_cache(beside, force=True)
        lexical_cache.build_lexical_cache(beside)

    def _swap(self, _: int) -> None:
        swap_beside(self.writer)

    def _forget(self, _: int) -> None:
        self.open()
        forget_beside(self.layout)

    def _backup(self, step: int) -> None:
        back_up(self.layout.folder, self.root / name_of("backup", step))

    def _restore(self, step: int) -> None:
        backup = self.root / name_of("backup", last_backup(step))
        restore(backup, self.root / name_of("restored", step))

    def _replace(self, step: int) -> None:
        self.close()
        backup = self.root / name_of("backup", last_backup(step))
        restore(backup, self.layout.folder, replace=True)


# ---- jobs


def record(shim: Shim, job: dict[str, Any]) -> dict[str, Any]:
    """Do all steps, or some, in an empty folder, and leave a trace of it."""
    root = Path(job["root"])
    with mutated(job.get("mutant")):
        shim.start(root, Path(job["trace"]))
        world = World(root, job["seed"])
        for step in range(job.get("steps") or len(STEPS)):
            world.perform(step)
            shim.mark(f"done {step}")
        world.close()
        shim.stop()
    return {}


def states(_: Shim, job: dict[str, Any]) -> dict[str, Any]:
    """Copies of the root as it is before each step, in ``states/STEP``."""
    import shutil

    root, seed = Path(job["root"]), job["seed"]
    for step in range(len(STEPS)):
        shutil.copytree(root / "now", root / "states" / str(step), dirs_exist_ok=True)
        world = World(root / "now", seed)
        world.perform(step)
        world.close()
    _prepare_reading(root / "now", seed)
    return {}


def _prepare_reading(root: Path, seed: int) -> None:
    """Everything derived is there, and covers all but the last passages."""
    world = World(root, seed)
    maintain.compact(world.writer)
    vector_build.build_vector_cache(world.writer, force=True)
    lexical_cache.build_lexical_cache(world.writer)
    put(world.writer, [Document("last", "text that no cache holds", "", {}, "corpus")])
    world.close()


def descriptors() -> set[str]:
    """What is open: the targets of all descriptors but that of the listing itself."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
    return {line for line in found if not line.endswith("/dev/null") and "/proc/" not in line}


@dataclass
class Trial:
    """What came of an action while calls failed."""

    error: str = ""
    message: str = ""
    shown: str = ""
    is_ours: bool = True
    code: int = 0
    unusable: bool = True

    def caught(self, exc: BaseException) -> None:
        from semsearch.errors import SemsearchError

        self.error, self.message = type(exc).__name__, str(exc)
        self.is_ours = isinstance(exc, SemsearchError)
        if not self.is_ours:
            self.shown = traceback.format_exc()


@contextmanager
def failing(shim: Shim, job: dict[str, Any]) -> Iterator[None]:
    shim.fail(job["kinds"], job["nth"], job["error"], lasting=job["lasting"])
    try:
        yield
    finally:
        job["calls"] = {
            "faults": shim.faults, "retried": shim.retried, "described": shim.described,
            "counts": shim.counts,
        }  # fmt: skip
        shim.be_kind()


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """Where no small disk can be mounted: files grow no larger than this, if it is not 0."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if size:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fail(shim: Shim, job: dict[str, Any]) -> dict[str, Any]:
    """Do one step while a call of it fails; the root is as it is before that step."""
    root, step, trial = Path(job["root"]), job["step"], Trial()
    before = descriptors()
    shim.start(root)
    world = World(root, job["seed"])
    if STEPS[step] not in ("adopt", "replace", "backup", "restore", "note", "reopen"):
        world.open()
    try:
        with failing(shim, job), no_file_above(job["largest"]):
            world.perform(step)
    except Exception as exc:  # noqa: BLE001 - what is not ours is told of
        trial.caught(exc)
        trial.unusable = _refuses(world)
        world.leave(exc, trial)
    shim.stop()
    world.close()
    return _told(job, trial, before)


def _refuses(world: World) -> bool:
    """Whether a writer that met an error commits no more; true where it met none."""
    from semsearch.errors import StorageError

    writer = world._writer
    if writer is None or writer.usable:
        return True
    try:
        writer.record_source("a commit after an error")
    except StorageError:
        return True
    return False


def _told(job: dict[str, Any], trial: Trial, before: set[str]) -> dict[str, Any]:
    for _ in range(100):  # threads of tantivy's may be about to end
        gc.collect()
        leaked = sorted(descriptors() - before)
        if not leaked:
            break
        time.sleep(0.01)
    return {**vars(trial), "leaked": leaked, **job["calls"]}


def read(shim: Shim, job: dict[str, Any]) -> dict[str, Any]:
    """Ask an index while a call fails: its answer, or the error."""
    root, trial = Path(job["root"]), Trial()
    before = descriptors()
    shim.start(root)
    answer = None
    with failing(shim, job):
        try:
            answer = ask(index_of(root))
        except Exception as exc:  # noqa: BLE001 - what is not ours is told of
            trial.caught(exc)
    shim.stop()
    return {**_told(job, trial, before), "answer": answer}


def ask(folder: Path) -> dict[str, Any]:
    """Documents, the nearest passages of a few texts, and those with a few words."""
    from semsearch.collection.lexical_cache import open_lexical
    from semsearch.collection.vector_cache import open_vectors
    from tests.store_model import vector_of

    with Reader(folder) as reader:
        snapshot = reader.snapshot()
        assert snapshot.encoder is not None
        dim = snapshot.encoder.dim
        queries = np.stack([vector_of(f"question {n}", dim) for n in range(3)])
        if snapshot.rotation is not None:
            queries = queries @ snapshot.rotation
        found = open_vectors(snapshot, reader.require_current).search(queries, 5, snapshot.alive)
        words = open_lexical(snapshot, reader.connection, reader.require_current)
        assert words is not None
        told = words.search(["text", "step 3", "xxxxxxxx"], 5)
        nearest = found.ids.ravel().tolist()
        shown = reader.documents_of(nearest)
        return {
            "documents": [[d.id, d.text] for d in reader.documents()],
            "nearest": nearest,
            "scores": found.scores.tolist(),
            "shown": [shown[vid].document.text for vid in nearest],
            "words": told.ids.tolist(),
        }


def command(shim: Shim, job: dict[str, Any]) -> dict[str, Any]:
    """Run the command line while a call fails: its exit code and what it showed."""
    from semsearch.cli.main import main as run

    root, trial = Path(job["root"]), Trial()
    before = descriptors()
    shim.start(root)
    raw = io.BytesIO(), io.BytesIO()
    shown, errors = (io.TextIOWrapper(stream, "utf-8") for stream in raw)
    with failing(shim, job), contextlib.redirect_stdout(shown), contextlib.redirect_stderr(errors):
        try:
            sys.stdin = io.TextIOWrapper(io.BytesIO())
            sys.argv = ["semsearch", *job["arguments"]]
            run()
        except SystemExit as exc:
            trial.code = int(exc.code or 0)
        except Exception as exc:  # noqa: BLE001 - the command line lets none through
            trial.caught(exc)
    shim.stop()
    for stream in (shown, errors):
        with contextlib.suppress(ValueError):
            stream.flush()
    trial.shown = raw[1].getvalue().decode() + trial.shown
    trial.message = raw[0].getvalue().decode()[:200]
    return _told(job, trial, before)


JOBS: dict[str, Callable[[Shim, dict[str, Any]], dict[str, Any]]] = {
    "record": record, "states": states, "fail": fail, "read": read, "command": command,
}  # fmt: skip


def set_sizes(patch: Callable[[Any, str, Any], None] = setattr) -> None:
    """Many small files of every kind, and a catalog that is copied in several steps."""
    small_sizes(patch)
    for module in (vector_build, build):
        patch(module, "EXACT_ROWS", 20)
    patch(database, "_COPY_PAGES", 8)
    patch(database, "_COPY_KIB", 16)


def answer(shim: Shim, line: str) -> None:
    """Do a job in a fork, which writes its answer."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            job = json.loads(line)
            try:
                told = JOBS[job["job"]](shim, job)
            except BaseException:
                told = {"broken": traceback.format_exc()}
            os.write(1, (json.dumps(told) + "\n").encode())
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if status:
        print(json.dumps({"broken": f"the worker ended with status {status}"}), flush=True)


def warm_up() -> None:
    """Import everything once, not in every fork."""
    library.load()
    engine.load()
    commands = ("main", "backup", "check", "documents", "maintenance")
    for name in [f"semsearch.cli.{name}" for name in commands] + [*_modules()]:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), 0)
        for step in (STEPS.index("adopt"), STEPS.index("put"), STEPS.index("cache")):
            world.perform(step)
        world.close()
        ask_documents(index_of(Path(folder)))


def _modules() -> Iterator[str]:
    for room in ("store", "lexical", "index", "collection"):
        package = importlib.import_module(f"semsearch.{room}")
        yield from (
            f"semsearch.{room}.{found.name}" for found in pkgutil.iter_modules(package.__path__)
        )


def ask_documents(folder: Path) -> int:
    with Reader(folder) as reader:
        return len(list(check_index(reader))) + len(list(reader.documents()))


def main() -> None:
    set_sizes()
    logging.getLogger("semsearch").addHandler(logging.NullHandler())
    warm_up()
    shim = Shim()
    gc.collect()
    gc.freeze()  # or every fork would touch, and so copy, all there is
    for line in sys.stdin:
        answer(shim, line)


if __name__ == "__main__":
    main()
