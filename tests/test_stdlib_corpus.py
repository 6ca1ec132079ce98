"""The standard library's own documentation, as the running interpreter holds it."""

import hashlib
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from semsearch.corpus.stdlib import modules, read_stdlib
from semsearch.corpus.stdlib.exports import Exports
from semsearch.corpus.stdlib.native import describe
from semsearch.corpus.stdlib.signatures import LONGEST, shorten
from semsearch.corpus.stdlib.source import scan
from semsearch.errors import NotFound
from semsearch.types import Document

NAMES = re.findall(
    r"\S+",
    """
    array.array asyncio.Semaphore asyncio.sleep bisect.bisect_left
    collections.Counter.most_common collections.OrderedDict collections.deque.append
    concurrent.futures.ProcessPoolExecutor concurrent.futures.ThreadPoolExecutor.submit
    contextlib.suppress csv.DictReader csv.reader dataclasses.field
    datetime.datetime.strptime decimal.Decimal.quantize enum.auto functools.partial
    hashlib.sha256 heapq.heappush hmac.compare_digest itertools.chain
    json.JSONDecoder.decode json.loads logging.getLogger math.sqrt multiprocessing.Pool
    multiprocessing.pool.Pool.map open os.getcwd os.path.join os.path.splitext
    pathlib.Path.read_text pickle.dumps print random.randint random.random
    re.Pattern.finditer re.compile secrets.choice secrets.token_hex shutil.copytree
    signal.signal socket.create_connection socket.socket.connect sorted sqlite3.connect
    statistics.mean str.split string.Template.substitute struct.pack subprocess.run
    tempfile.TemporaryDirectory textwrap.dedent threading.Lock.acquire time.sleep
    turtle.forward typing.Optional unittest.mock.patch weakref.ref
    xml.etree.ElementTree.parse zipfile.ZipFile.extractall
    """,
)
NOT_IMPORTED = {
    "threading.Lock.acquire",  # a factory of locks until Python 3.12, a class from 3.13
    "turtle.forward",  # opens no window, but needs Tk
}


@pytest.fixture(scope="session")
def stdlib() -> dict[str, Document]:
    documents = list(read_stdlib())
    by_id = {document.id: document for document in documents}
    assert len(by_id) == len(documents), "an id occurs twice"
    assert list(by_id) == sorted(by_id)
    return by_id


def resolve(name: str) -> object:
    """What a person gets who imports this name."""
    parts = name.split(".")
    for cut in range(len(parts), -1, -1):
        module = ".".join(parts[:cut]) or "builtins"
        try:
            found: object = __import__(module, fromlist=["_"])
        except ImportError:
            continue
        for attribute in parts[cut:]:
            found = inspect.getattr_static(found, attribute, None) or getattr(found, attribute)
        return found
    raise ImportError(name)


@pytest.mark.parametrize("name", NAMES)
def test_objects_bear_the_name_one_imports_them_by(stdlib, name):
    assert name in stdlib
    assert name in NOT_IMPORTED or resolve(name) is not None
    document = stdlib[name]
    assert document.title.startswith(name)
    assert document.metadata["python"] == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert name.startswith(document.metadata["module"]) or document.metadata["module"] == "builtins"


def test_the_corpus_is_some_thousands_of_documents(stdlib):
    assert 3_000 <= len(stdlib) <= 15_000
    assert {document.metadata["kind"] for document in stdlib.values()} == {
        "class",
        "function",
        "method",
        "property",
    }


def test_no_private_test_vendored_or_deprecated_names(stdlib):
    for name in stdlib:
        assert not any(part.startswith("_") for part in name.split(".")), name
    tops = {document.metadata["module"].partition(".")[0] for document in stdlib.values()}
    gone = {"test", "idlelib", "turtledemo", "lib2to3", "distutils", "asyncore", "cgi", "imp"}
    assert not tops & (gone | {"antigravity", "this", "pip", "posixpath", "ntpath", "sre_parse"})


@pytest.mark.parametrize(
    "name",
    [
        "json.decoder.JSONDecoder",
        "asyncio.tasks.sleep",
        "posixpath.join",
        "random.Random.randint",
        "builtins.sorted",
        "collections.abc.deque",
        "socket.SocketType",
        "io.open",
        "xml.etree.ElementTree.XML",
    ],
)
def test_an_object_is_there_once_under_its_best_name(stdlib, name):
    assert name not in stdlib


def test_titles_hold_signatures(stdlib):
    titles = {name: stdlib[name].title for name in NAMES}
    assert titles["textwrap.dedent"] == "textwrap.dedent(text)"
    assert titles["bisect.bisect_left"].startswith("bisect.bisect_left(a, x, lo=0, hi=None")
    assert titles["random.randint"] == "random.randint(a, b)"
    assert titles["math.sqrt"] == "math.sqrt(x, /)"
    assert titles["str.split"] == "str.split(sep=None, maxsplit=-1)"
    assert titles["collections.deque.append"].startswith("collections.deque.append")
    assert titles["subprocess.run"].startswith("subprocess.run(*popenargs, input=None")
    assert titles["csv.DictReader"].startswith("csv.DictReader(f, fieldnames=None, ")
    for document in stdlib.values():
        assert len(document.title) - len(document.id) <= LONGEST, document.title


def test_texts_are_what_the_interpreter_says(stdlib):
    for name in ("textwrap.dedent", "collections.Counter.most_common", "str.split", "time.sleep"):
        doc = inspect.getdoc(resolve(name))
        assert doc is not None
        assert stdlib[name].text.startswith(doc)
    assert "JSON (JavaScript Object Notation)" in stdlib["json.loads"].text, "the module's summary"


def test_twins_bases_and_classes_lend_their_docstrings(stdlib):
    assert stdlib["signal.signal"].text.startswith("Set the action for the given signal.")
    assert "Submits a callable" in stdlib["concurrent.futures.ThreadPoolExecutor.submit"].text
    assert stdlib["string.Template.substitute"].text.startswith("A string class for supporting")
    assert stdlib["multiprocessing.Process"].text.startswith("Process objects represent")
    assert stdlib["os.path.splitext"].text.startswith("Split the extension from a pathname.")


def test_most_documents_have_a_docstring_of_their_own(stdlib):
    undocumented = [d for d in stdlib.values() if not d.text]
    assert len(undocumented) < 100


def digest(documents: Iterable[Document]) -> str:
    lines = (f"{d.id}\0{d.title}\0{d.text}\0{sorted(d.metadata.items())}" for d in documents)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_reading_imports_nothing_and_is_the_same_in_every_process(stdlib):
    script = (
        "import json, sys\n"
        "from semsearch.corpus.stdlib import read_stdlib\n"
        "before = set(sys.modules)\n"
        "documents = list(read_stdlib())\n"
        "loaded = sorted(set(sys.modules) - before)\n"
        "from tests.test_stdlib_corpus import digest\n"
        "print(json.dumps([loaded, digest(documents)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    )
    loaded, same = json.loads(done.stdout)
    assert not {"tkinter", "turtle", "asyncio", "unittest", "numpy", "xml", "ctypes"} & set(loaded)
    assert len(loaded) < 20
    assert same == digest(stdlib.values())


def read(tmp_path, text: str, name: str = "sample"):
    file = tmp_path / f"{name}.py"
    file.write_text(text, encoding="utf-8")
    return scan(name, file, package=False)


def exported(tmp_path, text: str) -> tuple[list[str] | None, bool]:
    _, statements = read(tmp_path, text)
    exports = Exports(lambda path: ["sleep", "gather"] if path == "tasks" else None)
    exports.read(statements)
    return exports.names, exports.open


@pytest.mark.parametrize(
    ("text", "names", "unknown"),
    [
        ("def f(): pass", None, False),
        ("__all__ = ['a', 'b']", ["a", "b"], False),
        ("__all__ = ('a',) + ('b',)", ["a", "b"], False),
        ("__all__ = ['a']\n__all__ += ['b']", ["a", "b"], False),
        ("__all__ = ['a']\n__all__.extend(['b'])\n__all__.append('c')", ["a", "b", "c"], False),
        ("__all__ = ['a', 'b']\n__all__.remove('a')", ["b"], False),
        ("names = ['x']\n__all__ = names + tasks.__all__", ["x", "sleep", "gather"], False),
        ("__all__ = ['a']\n__all__.extend(found())", ["a"], True),
        ("__all__ = [n for n in globals()]", None, True),
        ("class re:\n    __all__ = ['a']", None, False),
    ],
)
def test_literal_exports_are_followed(tmp_path, text, names, unknown):
    assert exported(tmp_path, text) == (names, unknown)


def test_a_scope_knows_which_binding_is_a_fallback(tmp_path):
    module, _ = read(
        tmp_path,
        "def f(a, /, b, *args, c=(1, 2), **rest): 'one'\n"
        "try:\n    from _fast import f\nexcept ImportError:\n    f = g\n"
        "if TYPE_CHECKING:\n    h = 1\n",
    )
    assert [weak for weak, _, _ in module.scope.entries["f"]] == [False, False, True]
    assert "h" not in module.scope.entries


@pytest.mark.parametrize(
    ("definition", "shown"),
    [
        ("def f(a, b=1, *, c): ...", "(a, b=1, *, c)"),
        ("def f(a, /, b: int = 0, **k): ...", "(a, /, b=0, **k)"),
        ("def f(*args, c=None): ...", "(*args, c=None)"),
        ("def f(x='%s'): ..." % ("y" * 40), "(x=...)"),
        ("class C:\n    def f(self, /, a): ...", "(a)"),
        ("class C:\n    @staticmethod\n    def f(a): ...", "(a)"),
        ("class C:\n    @classmethod\n    def f(cls, a): ...", "(a)"),
    ],
)
def test_signatures(tmp_path, definition, shown):
    module, _ = read(tmp_path, definition)
    scope = module.scope
    if "C" in scope.entries:
        scope = scope.entries["C"][0][2].scope
    assert scope.entries["f"][0][2].signature == shown


def test_long_signatures_lose_their_defaults_and_then_their_end():
    middling = "(" + ", ".join(f"argument{n}=None" for n in range(12)) + ")"
    assert shorten(middling) == "(" + ", ".join(f"argument{n}" for n in range(12)) + ")"
    endless = shorten("(" + ", ".join(f"argument{n}" for n in range(60)) + ")")
    assert endless.endswith(", ...)")
    assert len(endless) <= LONGEST


def test_public_modules_follow_the_rule():
    public = set(modules.public_modules())
    assert {"builtins", "json", "os", "posixpath", "math", "unittest.mock", "tkinter.ttk"} <= public
    assert not {"test", "asyncio.tasks", "distutils", "_json", "ntpath"} & public


def test_a_subprocess_that_fails_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(NotFound, match="cannot describe the modules written in C"):
        describe(["math"])


def test_a_subprocess_that_hangs_is_one_clear_error():
    with pytest.raises(NotFound, match="no description of C modules in 0.001 s"):
        describe(["math"], timeout=0.001)


def test_modules_that_this_platform_lacks_are_left_out():
    assert set(describe(["math", "no_such_module"])) == {"math"}


def test_missing_sources_are_one_clear_error(monkeypatch, tmp_path):
    modules.library.cache_clear()
    monkeypatch.setattr(os, "__file__", str(tmp_path / "os.py"))
    try:
        with pytest.raises(NotFound, match="has no standard library sources"):
            modules.library()
    finally:
        modules.library.cache_clear()
