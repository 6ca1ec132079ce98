"""Hostile command lines of every command, made from the options that each one has."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from random import Random

import click

from semsearch.cli.main import cli
from tests.faults.fuzz_files import QRELS_BEIR, QRELS_TREC, QUERIES_JSON, RUN_TREC
from tests.faults.fuzz_index import a_copy, invoke, state, typed
from tests.faults.fuzz_verdict import require_same

WRITES = ("index", "delete", "compact", "reindex", "backup", "restore", "check", "tune")
LEFT_OUT = ("demo",)
"""It indexes Python's whole documentation whatever it is given; its options are `index`'s."""

NUMBERS = ["0", "1", "2", "3", "-1", "0.5", "1.5", "nan", "inf", "1e309", "1000000000", "9" * 40,
           "٣", "x", "", "1_0", " 1"]  # fmt: skip
WORDS = [
    "bal", "car", "hybrid", "dense", "lexical", "self", "none", "exact", "auto", "fake", "other",
    "test", "q1", "d0003", "en", "year>=2010", "lang in en,de", "ndcg@10", "ndcg@10=0.1",
    "accuracy@0", "fusion=rrf", "depth=0", "16,8", "8", "scratch", "BEIR", "run.trec",
]  # fmt: skip
FILES = [
    "corpus.jsonl", "queries.jsonl", "qrels.tsv", "qrels.trec", "run.trec", "set", "index", "empty",
    "nothing/there", "new", "page.html", "recipe.toml", ".", "set/corpus.jsonl",
]  # fmt: skip


def workplace(folder: Path) -> None:
    """The files that command lines name; the case's folder is the working folder."""
    a_copy(folder)
    (folder / "set" / "qrels").mkdir(parents=True)
    corpus = b'{"_id": "d1", "text": "bal car"}\n{"_id": "7", "text": "dir"}\n'
    recipe = b'name = "x"\n[model]\nbase = "scratch"\n[[data]]\ntrain = "corpus.jsonl"\n'
    for name, data in {
        "corpus.jsonl": corpus, "set/corpus.jsonl": corpus, "queries.jsonl": QUERIES_JSON,
        "set/queries.jsonl": QUERIES_JSON, "set/qrels/test.tsv": QRELS_BEIR,
        "set/qrels/dev.tsv": QRELS_BEIR, "set/qrels/train.tsv": QRELS_BEIR, "qrels.tsv": QRELS_BEIR,
        "qrels.trec": QRELS_TREC, "run.trec": RUN_TREC, "empty": b"", "recipe.toml": recipe,
    }.items():  # fmt: skip
        (folder / name).write_bytes(data)


def _argument(random: Random, parameter: click.Parameter) -> str:
    kind = parameter.type
    chance = random.random()
    if isinstance(kind, click.Choice) and chance < 0.8:
        return str(random.choice(list(kind.choices)))
    if isinstance(kind, (click.types.IntParamType, click.types.FloatParamType)) and chance < 0.9:
        return random.choice(NUMBERS)
    if isinstance(kind, click.Path) and chance < 0.85:
        return random.choice(FILES)
    if chance < 0.5:
        return random.choice(WORDS + FILES)
    return typed(random)


def command_line(random: Random) -> list[str]:
    """A command with some of its options, each with a value that may fit."""
    names = [name for name in cli.list_commands(click.Context(cli)) if name not in LEFT_OUT]
    name = random.choice(names)
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    line = [name]
    options = [p for p in command.params if isinstance(p, click.Option)]
    for option in random.sample(options, min(len(options), random.choice([0, 1, 2, 2, 3, 5]))):
        line.append(random.choice([*option.opts, *option.secondary_opts]))
        if not option.is_flag:
            line.append(_argument(random, option))
    if (
        "-i" not in line
        and any("-i" in option.opts for option in options)
        and random.random() < 0.9
    ):
        line += ["-i", "index"]
    for argument in (p for p in command.params if isinstance(p, click.Argument)):
        for _ in range(random.choice([0, 1, 1, 1, 1, 2])):
            line.append(_argument(random, argument))
    if name == "train":  # nothing is trained: that its input is hostile shows before
        line.append(random.choice(["--print", "--check", "--print"]))
    if name == "doctor":
        line = [part for part in line if part != "--deep"]
    if random.random() < 0.1:
        line.insert(random.randrange(len(line) + 1), typed(random))
    return line


def case_command(random: Random, folder: Path) -> str:
    """A command line in a folder with an index, a labelled set and some files."""
    workplace(folder)
    line = command_line(random)
    before = state(folder / "index", line)
    stdin = random.choice([b"", b"bal\n", b"\xff\xfe\0", b'{"id": "n", "text": "x"}\n'])
    came_from = os.getcwd()
    os.chdir(folder)
    try:
        verdict, code, _ = invoke(line, stdin)
    finally:
        os.chdir(came_from)
    if code and code != 3 and line and line[0] in WRITES:
        require_same(before, state(folder / "index", line), f"{line!r:.300} refused: the index")
    shutil.rmtree(folder / "set")
    return verdict
