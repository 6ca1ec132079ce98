"""Which mistakes the mutation test of the storage plants, and which it leaves out."""

import ast
from pathlib import Path

from tests.mutation import PLACES, sample
from tests.mutation_operators import Mutant, mutants_of

SOURCE = b'''"""Words."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    LIMIT = 3


def work(rows: list[int], most: int = 2) -> bool:
    """Words of 1 function."""
    if len(rows) < most:
        raise ValueError(f"{len(rows) + 1} rows: too few")
    log.warning("rows")
    rows.clear()
    return rows[0] == "k"


QUERY = f"SELECT a FROM {b} WHERE c <= ? ORDER BY a"
'''


def test_each_mistake_is_planted_alone():
    changed = []
    for mutant in mutants_of("x.py", SOURCE):
        after = mutant.applied(SOURCE)
        ast.parse(after)
        before, now = SOURCE.decode().splitlines(), after.decode().splitlines()
        if len(before) == len(now):
            changed += [b.strip() for a, b in zip(before, now, strict=True) if a != b]
    assert changed == [
        "def work(rows: list[int], most: int = 1) -> bool:",
        "def work(rows: list[int], most: int = 3) -> bool:",
        "if (len(rows) <= most):",
        "if not (len(rows) < most):",
        "pass",
        "pass",
        "pass",
        "return None",
        "return (rows[0] != 'k')",
        'return rows[-1] == "k"',
        'return rows[1] == "k"',
        'return rows[0] == "XX"',
        'QUERY = f"SELECT a FROM {b} WHERE c < ? ORDER BY a"',
        'QUERY = f"SELECT a FROM {b} WHERE c <= ?"',
    ]


def test_a_mutant_knows_the_lines_that_run_it():
    source = b"X = 1\ndef f(a=2):\n    if a:\n        g(\n            3)\n    return a\n"
    found = {(m.text, m.lines) for m in mutants_of("x.py", source)}
    assert found == {
        ("0", (1,)), ("2", (1,)), ("1", (3, 4, 5, 6)), ("3", (3, 4, 5, 6)), ("not (a)", (3,)),
        ("pass", (4, 5)), ("2", (4, 5)), ("4", (4, 5)), ("return None", (6,)),
    }  # fmt: skip


def test_a_sample_is_spread_over_the_files_and_always_the_same():
    paths = ["a.py"] * 90 + ["b.py"] * 10
    mutants = [Mutant(path, n, n, "x", (1,)) for n, path in enumerate(paths)]
    chosen = sample(mutants, 20, 7)
    assert chosen == sample(mutants, 20, 7) == sorted(chosen)
    assert chosen != sample(mutants, 20, 8)
    assert sum(mutants[number].path == "b.py" for number in chosen) == 2
    assert sample(mutants, 100, 7) == list(range(100))


def test_there_is_something_to_plant_in_every_file_of_the_storage():
    paths = [path for place in PLACES for path in Path().glob(place) if path.name != "__init__.py"]
    assert len(paths) > 30
    assert [path for path in paths if not mutants_of(str(path), path.read_bytes())] == []
