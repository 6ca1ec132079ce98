"""Damaged files of an index, at the size for every day; and that the campaign would notice."""

import os
import sqlite3
from contextlib import closing

import pytest

from semsearch.collection.reader import Reader
from semsearch.errors import Corrupt
from semsearch.lexical import files as lexical_files
from tests.faults import flips, sandbox, specimen
from tests.faults.campaign import SEED, push, quick_folder
from tests.faults.damage import PAGE
from tests.faults.flips import CAMPAIGNS, CATALOG, Work, put

BY_KIND = {campaign.name.removeprefix("flips-"): campaign for campaign in CAMPAIGNS}


@pytest.mark.parametrize("kind", [kind for kind in BY_KIND if kind != CATALOG])
def test_every_change_of_a_file_is_found(kind):
    outcome = push(BY_KIND[kind])
    assert outcome.failures == []
    assert outcome.figures["found by check"] == outcome.cases
    assert outcome.figures["told by a question"] != 0
    assert outcome.figures["silent"] == outcome.figures["crashes"] == 0


def test_no_change_of_the_catalog_changes_an_answer_in_silence():
    outcome = push(BY_KIND[CATALOG])
    assert outcome.failures == []
    for name in ("told by a question", "found by check", "harmless"):
        assert outcome.figures[name] != 0
    assert outcome.figures["silent"] == outcome.figures["crashes"] == 0


@pytest.mark.parametrize("kind", BY_KIND)
def test_without_checksums_the_campaign_finds_wrong_answers(kind):
    with quick_folder() as folder:
        outcome = flips.run(
            kind, SEED, range(120 if kind == "tokens" else 40), folder, trusting=True
        )
    assert outcome.failures
    assert (outcome.figures["silent"], outcome.figures["crashes"]) != (0, 0)


# ---- pages of the catalog that have no checksum, byte by byte


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    with specimen.sizes():
        yield Work(CATALOG, SEED, tmp_path_factory.mktemp("damage"))


def used_bytes(path, name):
    """The places of all bytes in use in the first page of a table or an index."""
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)
        ).fetchone()
    data = path.read_bytes()[(page - 1) * PAGE : page * PAGE]
    cells = int.from_bytes(data[3:5], "big")
    content = int.from_bytes(data[5:7], "big")
    places = [*range(8 + 2 * cells), *range(content, PAGE)]
    return [(page - 1) * PAGE + place for place in places]


def each_damage(work, places, bits):
    path = work.index / "catalog.db"
    sound = path.read_bytes()
    try:
        for place in places:
            for bit in bits:
                changed = bytearray(sound)
                changed[place] ^= 1 << bit
                put(path, bytes(changed))
                yield place, bit
    finally:
        put(path, sound)


def test_an_index_of_deleted_documents_that_is_damaged_hides_and_shows_none(work):
    path = work.index / "catalog.db"
    with Reader(work.index) as reader:
        dead = reader.snapshot().dead.tolist()
    assert len(dead) > 10
    told = 0
    for place, bit in each_damage(work, used_bytes(path, "document_dead"), range(8)):
        try:
            with Reader(work.index) as reader:
                assert reader.snapshot().dead.tolist() == dead, (place, bit)
        except Corrupt:
            told += 1
    assert told > 100


@pytest.mark.parametrize("name", ["meta", "sqlite_autoindex_meta_1"])
def test_a_setting_is_never_lost_in_silence(work, name):
    path = work.index / "catalog.db"
    told = 0
    for place, bit in each_damage(work, used_bytes(path, name)[::3], [0]):
        heard = specimen.ask(work.index, [], ["hybrid as tuned"])
        sound = work.sound.answers["hybrid as tuned"]
        assert heard.answers.get("hybrid as tuned", sound) == sound, (place, bit)
        told += bool(heard.errors)
    assert told > 20


def test_a_document_that_is_there_is_found_or_its_loss_is_told(work):
    path = work.index / "catalog.db"
    with Reader(work.index) as reader:
        sound = {
            id: reader.find(id).document
            for id in work.sound.answers["get"]
            if work.sound.answers["get"][id] is not None
        }
    places = used_bytes(path, "document_live")
    told = 0
    for _ in each_damage(work, places[:: max(1, len(places) // 400)], [1]):
        try:
            with Reader(work.index) as reader:
                for id, document in sound.items():
                    assert reader.find(id).document == document
        except Corrupt:
            told += 1
    assert told > 10


# ---- the sandbox


def test_a_process_that_dies_or_hangs_costs_its_case_only(tmp_path, monkeypatch):
    module = tmp_path / "worker_of_a_test.py"
    module.write_text(
        "import os, signal, time\n"
        "from tests.faults.sandbox import serve\n"
        "def perform(case):\n"
        "    if case == 1: os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    if case == 2: time.sleep(60)\n"
        "    if case == 3: return {'memory': len(bytes(4 << 30))}\n"
        "    return {'done': case}\n"
        "serve(perform)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{sandbox.ROOT}")
    found = list(sandbox.results("worker_of_a_test", [], range(5), patience=5))
    assert found[0] == {"case": 0, "done": 0}
    assert found[1]["crash"].startswith("it ended: -11")
    assert found[2]["crash"].startswith("no answer: -9")
    assert found[3]["crash"] == "it ended: 1, MemoryError"
    assert found[4] == {"case": 4, "done": 4}


# ---- what a remembered hash cannot see


def test_words_that_rot_while_their_hash_is_remembered_are_found_by_check(work, monkeypatch):
    """Files of 64 MiB and more are hashed when they are new: their time and size say so."""
    monkeypatch.setattr(lexical_files, "WORTH_REMEMBERING", 0)
    assert specimen.ask(work.index, [], ["lexical"]).answers  # hashed, and remembered
    path = sorted((work.index / "lex").glob("*.term"))[0]
    stat, data = path.stat(), path.read_bytes()
    try:
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert path.stat().st_ino == stat.st_ino
        heard = specimen.ask(work.index, [], ["lexical"])
        assert any("is damaged" in line for line in heard.warnings)  # it was written to: hashed
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert any(path.name in line for line in specimen.findings(work.index))
    finally:
        path.write_bytes(data)
