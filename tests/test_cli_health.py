"""`semsearch check`, `check --repair`, `backup` and `restore`: what they say and how they end."""

import json
import shutil
import sqlite3

import pytest
from click.testing import CliRunner

import semsearch.encoders
from semsearch.cli.main import cli
from semsearch.collection.layout import Layout
from semsearch.collection.writer import open_for_writing
from semsearch.errors import NotFound
from tests.fakes import FakeEncoder, contents, index_into, make_documents
from tests.store_model import small_sizes

DOCUMENTS = make_documents(30)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound") / "index"
    with pytest.MonkeyPatch.context() as patch:
        small_sizes(patch.setattr)
        index_into(folder, FakeEncoder(), DOCUMENTS)
    return folder


@pytest.fixture
def folder(tmp_path, sound, monkeypatch):
    monkeypatch.setenv("SEMSEARCH_INDEX", str(tmp_path / "index"))
    small_sizes(monkeypatch.setattr)
    monkeypatch.setattr(semsearch.encoders, "open_encoder", lambda *_, **__: FakeEncoder())
    return shutil.copytree(sound, tmp_path / "index")


def run(*arguments, code=0):
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert (result.exit_code, result.exception is None or code > 0) == (code, True), result.output
    assert "Traceback" not in result.output
    return result


def flip(path, at=-1):
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)
    return path


def segment(folder):
    return sorted((folder / "seg").glob("*.vec"))[0]


def statement(folder, text):
    connection = sqlite3.connect(folder / "catalog.db", isolation_level=None)
    connection.execute(text)
    connection.close()


def test_a_sound_index(folder):
    done = run("check")
    assert (done.stdout, done.stderr) == (f"{folder}: sound (30 documents)\n", "")
    assert json.loads(run("check", "--json").stdout) == {
        "index": str(folder), "sound": True, "findings": [], "documents": 30,
    }  # fmt: skip
    assert run("check", "--repair").stdout == f"{folder}: sound (30 documents)\n"
    assert not (folder / "kept-1").exists()


def test_damaged_vectors_and_their_repair(folder):
    path = flip(segment(folder))
    done = run("check", code=1)
    assert done.stdout == (
        f"{path}: the vector file is damaged\n"
        "documents by id and export: yes\n"
        f"search by vectors: no: {path}: the vector file is damaged\n"
        f"search by words: no: {path}: the vector file is damaged\n"
    )
    assert done.stderr == (
        f"Error: {folder}: 1 problem: `semsearch check --repair` keeps 30 documents and encodes 30"
        " passages of them again; nothing would be lost; a backup put back by `semsearch restore`"
        " loses what is newer than it\n"
    )
    facts = json.loads(run("check", "--json", code=1).stdout)
    assert facts["repair"] == {
        "documents": 30, "passages": 30, "encoded_again": 30, "lost_documents": 0, "lost": [],
        "kept": None,
    }  # fmt: skip
    assert facts["findings"] == [
        {"part": "vectors", "damage": True, "text": f"{path}: the vector file is damaged"}
    ]
    assert "run `semsearch check`" in run("query", "bal", code=1).stderr
    done = run("check", "--repair")
    assert done.stdout == f"{folder}: repaired: 30 documents, 30 passages encoded again\n"
    assert done.stderr == (
        f"{path}: the vector file is damaged\n"
        f"note: what was there is kept in {folder}/kept-1: delete it when nothing is missed\n"
    )
    assert run("check").stdout == f"{folder}: sound (30 documents)\n"
    assert set(contents(folder)) == {d.id for d in DOCUMENTS}


def test_lost_documents_are_named(folder):
    statement(folder, "UPDATE document SET body = '' WHERE ext_id IN ('d0003', 'd0007')")
    done = run("check", code=1)
    assert "keeps 28 documents; 2 documents would be lost (d0003, d0007); a backup" in done.stderr
    assert "of which export lists" in done.stdout
    done = run("check", "--repair", "--json")
    facts = json.loads(done.stdout)
    assert (facts["repaired"], facts["lost"], facts["lost_documents"]) == (
        True, ["d0003", "d0007"], 2,
    )  # fmt: skip
    assert facts["kept"] == f"{folder}/kept-1"
    assert len(contents(folder)) == 28


def test_many_lost_documents_are_counted(folder):
    statement(folder, "UPDATE document SET body = '' WHERE doc_id <= 25")
    done = run("check", "--repair")
    assert "25 documents could not be read (d0000, d0001," in done.stdout
    assert "d0019 and 5 more)" in done.stdout


def test_files_that_are_made_of_others_are_made_again(folder):
    path = flip(sorted((folder / "lex").iterdir())[0])
    done = run("check", code=1)
    assert done.stdout.startswith(f"{path}: the derived file is damaged: `semsearch compact`")
    assert "nothing is lost: `semsearch check --repair`" in done.stderr
    assert json.loads(run("check", "--json", code=1).stdout)["repair"] is None
    done = run("check", "--repair")
    assert "repaired: the damaged files were made again; nothing was lost" in done.stdout
    assert run("check").stdout == f"{folder}: sound (30 documents)\n"
    assert not (folder / "kept-1").exists()


def test_damaged_token_vectors_are_dropped_and_told_of(folder):
    flip(sorted((folder / "seg").glob("*.tok"))[0])
    done = run("check", "--repair")
    assert "30 passages have no token vectors now" in done.stderr
    run("compact", "--token-vectors")
    assert run("check").stdout == f"{folder}: sound (30 documents)\n"
    flip(sorted((folder / "seg").glob("*.tok"))[0])
    facts = json.loads(run("check", "--repair", "--json").stdout)
    assert facts == {"index": str(folder), "repaired": True, "lost_token_vectors": 30}


def test_a_catalog_that_is_gone(folder):
    (folder / "catalog.db").write_bytes(b"x" * 9000)
    for options in ((), ("--repair",)):
        done = run("check", *options, code=1)
        assert "nothing of it can be read: `semsearch restore BACKUP -i" in done.stderr
        assert done.stderr.count("damaged") == 1 + len(options)


def test_the_model_is_asked_for_where_it_is_lost(folder, monkeypatch):
    statement(folder, "UPDATE encoder SET crc = 0")
    assert "name it with -m; all are computed again" in run("check", "--repair", code=2).stderr
    asked = []

    def open_encoder(name, **options):
        asked.append((name, options["local_only"]))
        return FakeEncoder()

    monkeypatch.setattr(semsearch.encoders, "open_encoder", open_encoder)
    assert "30 passages encoded again" in run("check", "--repair", "-m", "mine").stdout
    assert asked == [("mine", True)]


def test_a_model_that_is_not_here_changes_nothing(folder, monkeypatch):
    flip(segment(folder))

    def open_encoder(name, **_):
        raise NotFound(f"{name}: no such model here: name its folder with -m")

    monkeypatch.setattr(semsearch.encoders, "open_encoder", open_encoder)
    assert "name its folder with -m" in run("check", "--repair", code=1).stderr
    assert not (folder / "kept-1").exists()


def test_wrong_usage(folder):
    assert "-m goes with --repair" in run("check", "-m", "mine", code=2).stderr
    assert "no index there" in run("check", "-i", folder / "nothing", code=1).stderr
    assert "no index there" in run("check", "--repair", "-i", folder / "nothing", code=1).stderr
    run("backup", code=2)
    run("restore", code=2)


def test_an_index_that_is_written_to_is_not_repaired(folder):
    flip(segment(folder), 4096 * 2 - 3000)
    with open_for_writing(Layout(folder)):
        assert "is writing to this index" in run("check", "--repair", code=1).stderr


def test_backup_and_restore(folder, tmp_path):
    target = tmp_path / "b"
    done = run("backup", target)
    assert done.stderr == ""
    assert done.stdout.startswith(f"{target}: a copy of generation ")
    assert "30 documents, " in done.stdout
    assert f"checked: `semsearch restore {target} -i {folder}` puts it back" in done.stdout
    assert run("check", "-i", target).stdout == f"{target}: sound (30 documents)\n"
    assert "there is something already: --replace keeps it" in run("restore", target, code=1).stderr
    assert "there is something already" in run("backup", target, code=1).stderr
    flip(segment(folder))
    done = run("restore", target, "--replace")
    assert done.stdout.endswith("checked\n")
    assert done.stderr == (
        f"note: what was there is kept in {folder}/kept-1: delete it when nothing is missed\n"
    )
    assert run("check").stdout == f"{folder}: sound (30 documents)\n"
    facts = json.loads(run("restore", target, "-i", tmp_path / "c", "--json").stdout)
    assert (facts["documents"], facts["kept"]) == (30, None)
    facts = json.loads(run("backup", tmp_path / "d", "--json").stdout)
    assert (facts["index"], facts["backup"]) == (str(folder), str(tmp_path / "d"))


def test_a_damaged_index_is_not_backed_up(folder, tmp_path):
    path = flip(segment(folder), 4096 * 2 - 3000)
    done = run("backup", tmp_path / "b", code=1)
    assert f"damaged, so not copied: {path}" in done.stderr
    assert not (tmp_path / "b").exists()


def test_no_room_is_said_before_anything_is_copied(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("SEMSEARCH_MIN_FREE", "1000000TB")
    done = run("backup", tmp_path / "b", code=1)
    assert "a copy of the index needs about" in done.stderr
    flip(segment(folder))
    assert "a repaired copy needs about" in run("check", "--repair", code=1).stderr
    assert not (tmp_path / "b").exists()
    assert not (folder / "kept-1").exists()
