"""The wheel, installed beside its runtime requirements only: development tools are out of reach."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable, Mapping
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import semsearch
from tests.runtime_closure import closure, link

pytestmark = pytest.mark.slow

ROOT = Path(semsearch.__file__).parent.parent
EXTRAS = ("cpu", "offline")
TEXTS = {
    "parse": "Turn a string of digits, dashes and colons into a calendar date.",
    "bread": "Knead flour, water, salt and yeast, let it rise, then bake it.",
    "moon": "The moon circles the earth once in about twenty-seven days.",
    "chess": "The bishop moves diagonally and never leaves its colour.",
    "rust": "Iron that meets water and air slowly turns into a brown powder.",
}


def checked(*command: str | Path, cwd: Path = ROOT, env: Mapping[str, str] = os.environ) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=env)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel once, with the build tools at hand."""
    folder = tmp_path_factory.mktemp("wheel")
    checked(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """Read the wheel's metadata."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


@pytest.fixture(scope="module")
def installed(
    wheel: Path, metadata: Message, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., str]:
    """Install the wheel into a new environment; return what runs a command of it."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "env", symlinks=True)
    python = folder / "env" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    checked(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel)

    link(closure(metadata.get_all("Requires-Dist", []), EXTRAS).values(), folder / "runtime")
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    (site / "runtime.pth").write_text(f"{folder / 'runtime'}\n", encoding="utf-8")

    environment = {**os.environ, "PYTHONNOUSERSITE": "1"}
    environment.pop("PYTHONPATH", None)

    def run(command: str, *arguments: str) -> str:
        program = folder / "env" / "bin" / command
        return checked(program, *arguments, cwd=folder, env=environment)

    return run


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    info = f"semsearch-{semsearch.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"semsearch", info}
    assert {"semsearch/py.typed", f"{info}/licenses/LICENSE"} <= set(names)
    assert [name for name in names if name.endswith((".pyc", "~"))] == []


def test_the_wheel_holds_every_module_and_the_data(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "semsearch").rglob("*.py")}
    data = [
        path
        for path in (ROOT / "data").rglob("*")
        if path.is_file() and path.parent != ROOT / "data"
    ]
    assert data
    shipped = {f"semsearch/_data/{path.relative_to(ROOT / 'data')}" for path in data}
    assert modules | shipped <= names


def test_the_metadata_says_what_is_needed(metadata):
    assert metadata["Name"] == "semsearch"
    assert metadata["Version"] == semsearch.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("Provides-Extra") == [
        "cpu",
        "gpu",
        "lora",
        "offline",
        "parquet",
        "report",
        "train",
    ]


def test_no_development_tool_is_within_reach(installed):
    tools = ["pytest", "hypothesis", "mypy", "ruff", "build", "hatchling", "pytrec_eval"]
    code = f"import importlib.util as u; print([t for t in {tools} if u.find_spec(t)])"
    assert installed("python", "-c", code).strip() == "[]"


def test_the_installed_package_is_the_wheel(installed):
    code = "import semsearch; print(semsearch.__file__, semsearch.__version__)"
    file, version = installed("python", "-c", code).split()
    assert "site-packages" in Path(file).parts
    assert version == semsearch.__version__


def test_help_runs(installed):
    assert "index" in installed("semsearch", "--help")


def test_quickstart_runs(installed):
    corpus = Path(installed("python", "-c", "import os; print(os.getcwd())").strip()) / "c.jsonl"
    rows = [json.dumps({"id": name, "text": text}) for name, text in TEXTS.items()]
    corpus.write_text("\n".join(rows) + "\n", encoding="utf-8")
    installed("semsearch", "index", corpus.name)
    assert "parse" in installed("semsearch", "query", "how do I parse a date")
    hits = json.loads(installed("semsearch", "query", "how do I parse a date", "--json"))
    assert [hit["id"] for hit in hits][0] == "parse"
    assert {hit["id"] for hit in hits} == set(TEXTS)
