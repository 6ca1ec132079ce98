"""A process that trains and is killed, again and again: ``python -m tests.training_worker``.

Each line of standard input is a run: folder of the data, recipe file, output, name of a point, its
occurrence. The run happens in a fork of this warm process, which says on standard output the name
of each point where it could be killed, if it is not to be. The parent ends each run with ``end
STATUS SECONDS``. With the name ``time`` the occurrence is the number of seconds after which it is
killed. Points are the steps of ``semsearch.fs`` and what the libraries write and remove.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from transformers.trainer_callback import TrainerState

from semsearch import fs
from semsearch.training.recipe_file import read_recipe
from semsearch.training.run import train
from tests.training_sets import small_recipe, trained, write_easy

IMPORTED = (
    "datasets",
    "scipy.stats",
    "sentence_transformers.sentence_transformer.evaluation",
    "sentence_transformers.sentence_transformer.losses",
    "sentence_transformers.sentence_transformer.trainer",
    "sklearn.metrics",
    "transformers.models.bert.modeling_bert",
    "transformers.models.mpnet.modeling_mpnet",
)


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def warm_up(folder: Path) -> None:
    """Import what a run imports, without computing anything: a fork has no threads of it."""
    for module in IMPORTED:
        import_module(module)
    torch.set_num_threads(1)
    if os.fork() == 0:  # whatever is imported late is then at least in the system's cache
        trained(small_recipe(), write_easy(folder), folder / "made")
        os._exit(0)
    os.wait()


def before(owner: Any, name: str, point: Callable[[str], None]) -> None:
    """Make a function pass a point first."""
    function = getattr(owner, name)

    def passing(*arguments: Any, **options: Any) -> Any:
        point(f"{getattr(owner, '__name__', owner)}.{name}")
        return function(*arguments, **options)

    setattr(owner, name, passing)


def watch_points(name: str, occurrence: int) -> None:
    seen = 0

    def point(step: str) -> None:
        nonlocal seen
        if not name:
            say(step)
        seen += step == name
        if seen == occurrence and step == name:
            os.kill(os.getpid(), signal.SIGKILL)

    fs.hook = point
    before(torch, "save", point)
    before(shutil, "rmtree", point)
    before(TrainerState, "save_to_json", point)
    before(Path, "rename", point)
    before(os, "replace", point)


def run(root: str, recipe: str, output: str, name: str, occurrence: str) -> None:
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if name != "time":
                watch_points(name, int(occurrence))
            train(read_recipe(recipe), output, root=root, device="cpu")
            status = 0
        except BaseException as exc:  # noqa: BLE001 # told, as nobody else will
            say(f"{type(exc).__name__} {exc}".replace("\n", " "))
        finally:
            os._exit(status)
    if name == "time":
        time.sleep(float(occurrence))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    say(f"end {status} {time.perf_counter() - start:.6f}")


def main() -> None:
    warm_up(Path(sys.argv[1]))
    say("ready")
    for line in sys.stdin:
        run(*line.rstrip("\n").split("\t"))


if __name__ == "__main__":
    main()
