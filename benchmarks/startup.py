"""How long a cold process takes: help, and one query on an index that is there."""

from __future__ import annotations

import compileall
import re

import semsearch
from benchmarks.processes import PYTHON, SEMSEARCH
from benchmarks.processes import run as run_process
from benchmarks.results import Goal, Result, Spread
from benchmarks.setting import Setting
from benchmarks.texts import describe

HELP_SECONDS, QUERY_SECONDS = 0.15, 0.6
_HEAVY = ("torch", "transformers", "sentence_transformers")
_QUERY = "how do cells repair damaged DNA"
_IMPORTED = re.compile(r"^import time:\s+\d+ \|\s+\d+ \|\s*([\w.]+)", re.M)


def run(setting: Setting) -> Result:
    dataset = setting.main_dataset()
    index, _ = setting.index_of(dataset)
    setting.convert_model()
    compileall.compile_dir(semsearch.__path__[0], quiet=2)  # as pip leaves an installed package
    query = ["query", _QUERY, "-i", str(index)]
    commands = {
        "python -c pass": [*PYTHON, "-c", "pass"],
        "semsearch --help": [*SEMSEARCH, "--help"],
        "semsearch query": [*SEMSEARCH, *query],
        "semsearch query --mode lexical": [*SEMSEARCH, *query, "--mode", "lexical"],
    }
    rounds = 21 if setting.full else 9
    setting.note(f"{rounds} rounds of {len(commands)} commands")
    times: dict[str, list[float]] = {name: [] for name in commands}
    processor: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            done = run_process(command)
            if number:  # the first round fills the file cache
                times[name].append(done.seconds)
                processor[name].append(done.cpu_seconds)
    modules = imported([*PYTHON, "-X", "importtime", *SEMSEARCH, *query])
    heavy = sorted(modules & set(_HEAVY))
    spreads = {name: Spread.of(found) for name, found in times.items()}
    yardstick = spreads["python -c pass"].median
    result = Result(
        title="Cold processes",
        dataset=describe(dataset),
        notes=[
            f"{rounds} rounds in turns, files in the system's cache, the model converted before"
            f" and semsearch byte-compiled, as pip does; the index holds {dataset.name}."
            " Medians, with lowest and highest.",
            f"`semsearch query` imports {len(modules):,} modules, of torch, transformers and"
            f" sentence_transformers: {', '.join(heavy) or 'none'}.",
        ],
        raw={
            "seconds": times,
            "processor_seconds": processor,
            "imported_packages": sorted({name.split(".")[0] for name in modules}),
        },
    )
    for name, spread in spreads.items():
        result.rows.append(
            {
                "command": name,
                "seconds": str(spread),
                "times python": spread.median / yardstick,
                "processor seconds": str(Spread.of(processor[name])),
            }
        )
    for name, limit in (("semsearch --help", HELP_SECONDS), ("semsearch query", QUERY_SECONDS)):
        median = spreads[name].median
        result.goals.append(Goal(f"seconds of {name}", f"<= {limit}", median, median <= limit))
    what = "packages of torch imported by semsearch query"
    result.goals.append(Goal(what, "0", len(heavy), not heavy))
    return result


def imported(command: list[str]) -> set[str]:
    """The modules that a command imports."""
    found = set(_IMPORTED.findall(run_process(command).stderr))
    if "semsearch.search.searcher" not in found:
        raise RuntimeError("the list of imported modules could not be read")
    return found
