"""Golden indexes of every release, and formats that there are not yet."""

import copy
from contextlib import closing

import pytest

from semsearch import fs
from semsearch.store import blocks, database, documents, rows, schema
from tests.faults import formats, golden
from tests.faults.campaign import SEED
from tests.faults.formats import CAMPAIGN, CASES, GOLDEN, different, performed, recorded, unpacked


@pytest.mark.parametrize("case", range(len(CASES)), ids=[" ".join(case) for case in CASES])
def test_an_index_of_another_release(case, tmp_path):
    outcome = CAMPAIGN.run(SEED, [case], tmp_path)
    assert outcome.failures == []


def test_there_is_an_index_of_every_kind_of_release():
    assert {"format-1-first", "format-1-now"} <= set(GOLDEN)
    assert sum(path.stat().st_size for path in golden.PLACE.iterdir()) < 300_000
    first, now = recorded("format-1-first"), recorded("format-1-now")
    for one in (first, now):
        assert one["rotated"]
        assert one["caches"] == ["faiss", "lexical"]
        assert min(one["dead"], one["segments"], one["recent"]) > 1
    assert (first["tokens"], now["tokens"]) == (0, 2)
    assert first["passages"] == len(first["documents"]) < now["passages"]


# ---- the comparison notices


CHANGES = {
    "documents": lambda one: one["documents"][5].__setitem__(2, "another text"),
    "metadata": lambda one: one["documents"][5][3].update(n=-1),
    "vectors": lambda one: one["vectors"][3][1].__setitem__(2, 0.9),
    "hits": lambda one: one["answers"]["range"][0].pop(),
    "scores": lambda one: one["answers"]["dense"][0][4].__setitem__(1, 0.5),
    "words": lambda one: one["answers"]["lexical"][2][0].__setitem__(1, 0.5),
    "hybrid": lambda one: one["answers"]["hybrid"][1].pop(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_is_not_as_recorded_is_told(name, tmp_path):
    wanted = recorded("format-1-now")
    folder = unpacked("format-1-now", tmp_path)
    assert list(different(folder, wanted)) == []
    changed = copy.deepcopy(wanted)
    CHANGES[name](changed)
    assert list(different(folder, changed))


# ---- a release that changed something without saying so would be noticed


def other_checksums(monkeypatch):
    real = rows.row_crc
    monkeypatch.setattr(rows, "row_crc", lambda values: real(values) ^ 1)


def other_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 2048)


def another_schema(monkeypatch):
    monkeypatch.setattr(schema, "SCHEMAS", {1: schema.TABLES.replace("horizon", "h") + "-- x;\n"})


def losing_compaction(monkeypatch):
    real = documents.purge_deleted

    def purge_deleted(connection):
        real(connection)
        connection.execute("UPDATE document SET title = 'x' WHERE doc_id = 9")

    monkeypatch.setattr(documents, "purge_deleted", purge_deleted)


def reads_the_future(monkeypatch):
    monkeypatch.setattr(database, "_check_identity", lambda connection, path: schema.FORMAT)


def migrates_in_steps(monkeypatch):
    def migrate(migrated, path):
        with closing(migrated.conn.cursor()):
            schema.migrations().apply(migrated)
        fs.point("commit")

    monkeypatch.setattr(database, "_migrate", migrate)


MUTANTS = {
    "checksums": (other_checksums, "read"),
    "blocks": (other_blocks, "read"),
    "schema": (another_schema, "read"),
    "compaction": (losing_compaction, "compact"),
    "future": (reads_the_future, "future"),
    "migration": (migrates_in_steps, "migrate, fails at the commit"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_change_of_the_product_is_noticed(name, tmp_path, monkeypatch):
    mutate, check = MUTANTS[name]
    mutate(monkeypatch)
    for release in GOLDEN:
        assert performed(release, check, tmp_path / release)


def test_a_golden_index_is_never_made_again(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["golden", "format-1-now"])
    with pytest.raises(SystemExit):
        golden.main()
    assert "never made again" in capsys.readouterr().err


def test_the_made_up_format_is_one(tmp_path):
    with formats.next_format():
        assert schema.FORMAT == formats.NEXT
    assert schema.FORMAT == 1
