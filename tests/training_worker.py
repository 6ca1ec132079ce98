"""A process that trains and is killed, again and again: ``python -m tests.training_worker``.

Each line of standard input is a run: folder of the data, recipe file, output, name of a point, its
occurrence. The run happens in a fork of this warm process, which says on standard output the name
of each point where it could be killed, if it is not to be. The parent ends each run with ``end
STATUS SECONDS``. With the name ``time`` the occurrence is the number of seconds after which it is
killed. Points are the steps of ``semsearch.fs`` and what the libraries write and remove.
"""

import os
import shutil
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from transformers.trainer_callback import TrainerState

from semsearch import fs
from semsearch.training.recipe_file import read_recipe
from semsearch.training.run import train
from tests.faults.kill_worker import Kill, run_fork, say, watch
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
    def tell(line: str) -> None:
        if not name:
            say(line.removeprefix("point "))

    point = watch(Kill(name, occurrence), tell)
    fs.hook = point
    before(torch, "save", point)
    before(shutil, "rmtree", point)
    before(TrainerState, "save_to_json", point)
    before(Path, "rename", point)
    before(os, "replace", point)


def run(root: str, recipe: str, output: str, name: str, occurrence: str) -> None:
    def work() -> None:
        try:
            if name != "time":
                watch_points(name, int(occurrence))
            train(read_recipe(recipe), output, root=root, device="cpu")
        except BaseException as exc:  # told, as nobody else will
            say(f"{type(exc).__name__} {exc}".replace("\n", " "))
            raise

    run_fork(work, float(occurrence) if name == "time" else None)


def main() -> None:
    warm_up(Path(sys.argv[1]))
    say("ready")
    for line in sys.stdin:
        run(*line.rstrip("\n").split("\t"))


if __name__ == "__main__":
    main()
