"""README does what it says: its blocks run in order, and print what stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import semsearch

pytestmark = pytest.mark.slow

ROOT = Path(semsearch.__file__).parent.parent
BLOCK = re.compile(r"```(console|python|text)\n(.*?)```", re.S)
NUMBER = re.compile(r"\d[\d,]*(\.\d+)?")


def steps() -> list[tuple[str, list[str]]]:
    """Commands of the shell, and Python blocks, each with the lines that README shows for it."""
    found: list[tuple[str, list[str]]] = []
    for kind, body in BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8")):
        if kind == "python":
            found.append((f"{sys.executable} -c '{body}'", []))
        elif kind == "text":
            found[-1][1].extend(body.splitlines())
        else:
            for line in body.splitlines():
                if line.startswith("$ "):
                    found.append((line[2:], []))
                else:
                    found[-1][1].append(line)
    return found


def normal(line: str) -> str:
    """A line without what differs from run to run: numbers, and white space at the end."""
    return NUMBER.sub("#", line).rstrip()


def assert_shown(shown: list[str], printed: str, command: str) -> None:
    """Every shown line was printed, in that order; ``...`` stands for any lines."""
    rest = [normal(line) for line in printed.splitlines()]
    for line in shown:
        if line.strip() == "...":
            continue
        assert normal(line) in rest, f"$ {command}\nREADME shows {line!r}, printed was\n{printed}"
        rest = rest[rest.index(normal(line)) + 1 :]


def test_every_block_prints_what_readme_shows(tmp_path):
    (tmp_path / "data").symlink_to(ROOT / "data")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "88"}
    ran = []
    for command, shown in steps():
        if command.startswith("make "):
            continue
        if command.startswith("cat ") and command.count(" ") == 1:
            (tmp_path / command[4:]).write_text("\n".join(shown) + "\n", encoding="utf-8")
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stderr}"
        assert_shown(shown, done.stdout, command)
        ran.append(command.split()[0])
    assert ran.count("semsearch") >= 6
