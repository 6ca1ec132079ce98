"""The shape of the package: what may import what, what loads when, and how large things grow."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import semsearch

PACKAGE = Path(semsearch.__file__).parent

# A file imports from its own room and from those above it, never from those below.
ROOMS = (
    "types",
    "errors",
    "locks",
    "fs",
    "resources",
    "stopping",
    "lazy",
    "threads",
    "corpus",
    "vectors",
    "maxsim",
    "metrics",
    "encoders",
    "index",
    "lexical",
    "store",
    "collection",
    "indexing",
    "ranking",
    "search",
    "evaluation",
    "training",
    "cli",
    "__main__",
)

HEAVY = {
    "faiss",
    "numpy",
    "openvino",
    "pyarrow",
    "sentence_transformers",
    "sqlite_utils",
    "tantivy",
    "tokenizers",
    "torch",
    "transformers",
}
UNSAFE_MODULES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
UNSAFE_CALLS = {"eval", "exec"}
FILE_LINES = 300
FUNCTION_LINES = 60

FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8"), str(path)) for path in FILES}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The first word after the package's name; empty for the package itself."""
    return [*module.split("."), ""][1]


def imported_modules(tree: ast.Module, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Yield the line and the module of every import in a file of ``package``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            near = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join([*near, *([node.module] if node.module else [])])
            # `from semsearch import fs` names the room only in its last word.
            names = [f".{alias.name}" for alias in node.names] if source == "semsearch" else [""]
            yield from ((node.lineno, source + name) for name in names)


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    return imported_modules(TREES[path], path.parent.relative_to(PACKAGE.parent).parts)


def nodes_of(*kinds: type[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    """Yield ``file:line`` and the node for every node of these kinds in the package."""
    for path in FILES:
        for node in ast.walk(TREES[path]):
            if isinstance(node, kinds):
                yield f"{path.relative_to(PACKAGE.parent)}:{getattr(node, 'lineno', 1)}", node


def imports_against_the_order() -> Iterator[str]:
    for path in FILES:
        own = room_of(module_name(path))
        if own == "":
            continue  # the package's own table of public names points everywhere
        for line, module in imports_of(path):
            other = room_of(module) if module.split(".")[0] == "semsearch" else own
            if other == "__version__":
                continue
            if other not in ROOMS or ROOMS.index(other) > ROOMS.index(own):
                yield f"{path.relative_to(PACKAGE.parent)}:{line}: {own} imports {module}"


@pytest.mark.parametrize(
    ("code", "module"),
    [
        ("import semsearch.cli.main", "semsearch.cli.main"),
        ("def late():\n    from semsearch.cli import main", "semsearch.cli"),
        ("from semsearch import cli", "semsearch.cli"),
        ("from . import contract", "semsearch.index"),
        ("from .contract import Rows", "semsearch.index.contract"),
        ("from .. import cli", "semsearch.cli"),
        ("from ..cli.main import main", "semsearch.cli.main"),
    ],
)
def test_every_way_to_import_is_seen(code, module):
    found = imported_modules(ast.parse(code), ("semsearch", "index"))
    assert [name for _, name in found] == [module]


def test_every_file_belongs_to_a_room():
    rooms = {room_of(module_name(path)) for path in FILES} - {""}
    assert rooms <= set(ROOMS), "name the new room in ROOMS, at its place in the flow"


def test_imports_point_up_the_list_of_rooms():
    assert list(imports_against_the_order()) == []


def test_files_stay_small():
    sizes = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {path: size for path, size in sizes.items() if size > FILE_LINES} == {}


def test_functions_stay_small():
    sizes = {
        f"{place} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for place, node in nodes_of(ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, Function)
    }
    assert {name: size for name, size in sizes.items() if size > FUNCTION_LINES} == {}


def test_only_the_command_line_prints():
    calls = [
        place
        for place, node in nodes_of(ast.Call)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
        and not place.startswith("semsearch/cli/")
    ]
    assert calls == []


def test_nothing_stored_can_run_code():
    imports = [
        f"{path.relative_to(PACKAGE.parent)}:{line}: {module}"
        for path in FILES
        for line, module in imports_of(path)
        if module.split(".")[0] in UNSAFE_MODULES
    ]
    calls = [
        place
        for place, node in nodes_of(ast.Call)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in UNSAFE_CALLS
    ]
    opened = [
        place
        for place, node in nodes_of(ast.keyword)
        if isinstance(node, ast.keyword)
        and node.arg in {"allow_pickle", "trust_remote_code"}
        and not (isinstance(node.value, ast.Constant) and node.value.value is False)
    ]
    assert imports + calls + opened == []


def public_definitions(body: list[ast.stmt]) -> Iterator[ast.ClassDef | Function]:
    for node in body:
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            yield node


def test_public_names_are_documented():
    silent = [
        f"{path.relative_to(PACKAGE.parent)}:{node.lineno} {node.name}"
        for path in FILES
        for node in public_definitions(TREES[path].body)
        if not ast.get_docstring(node)
    ]
    assert silent == []


def test_public_functions_take_no_catch_all_arguments():
    catch_all = []
    # A command is called by click, with as many arguments as it has options.
    for path in (path for path in FILES if room_of(module_name(path)) != "cli"):
        for node in public_definitions(TREES[path].body):
            members = public_definitions(node.body) if isinstance(node, ast.ClassDef) else [node]
            catch_all += [
                f"{path.relative_to(PACKAGE.parent)}:{member.lineno} {member.name}"
                for member in members
                if isinstance(member, Function) and member.args.kwarg
            ]
    assert catch_all == []


def test_nothing_is_left_for_later():
    marks = ("TO" + "DO", "FIX" + "ME", "X" * 3)
    left = [
        f"{path.relative_to(PACKAGE.parent)}:{number}"
        for path in FILES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if any(mark in line for mark in marks)
    ]
    assert left == []


def loaded_by(code: str) -> set[str]:
    """Return the heavy modules that a fresh interpreter has loaded after running ``code``."""
    tell = f"import json, sys; print(json.dumps([m for m in sys.modules if m in {sorted(HEAVY)}]))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{code}\n{tell}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=PACKAGE.parent,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


PACKAGES = sorted(module_name(path) for path in FILES if path.name == "__init__.py")


def test_packages_load_nothing_heavy():
    code = "\n".join(f"import {package}" for package in PACKAGES)
    assert loaded_by(code) == set(), f"look into the __init__.py of {PACKAGES}"


def test_the_list_of_public_names_loads_nothing_heavy():
    assert loaded_by("import semsearch; dir(semsearch); semsearch.SemsearchError") == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["index", "--help"],
        ["compare", "--help"],
        ["reindex", "--help"],
    ],
)
def test_help_loads_nothing_heavy(arguments):
    code = (
        f"import sys; sys.argv = ['semsearch', *{arguments}]\n"
        "from semsearch.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as done: assert not done.code, done.code"
    )
    assert loaded_by(code) == set()
