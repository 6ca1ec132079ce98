"""The language of an index: detected once or chosen, kept, shown, and the same for all who read."""

import json
import logging

import pytest
from click.testing import CliRunner

import semsearch.encoders
from semsearch.cli.main import cli
from semsearch.collection import lexical_cache
from semsearch.collection.language import choose_language, recorded_language
from semsearch.collection.layout import Layout
from semsearch.collection.lexical_cache import build_lexical_cache, open_lexical, words_language
from semsearch.collection.maintain import compact
from semsearch.collection.reader import Reader
from semsearch.collection.writer import open_for_writing
from semsearch.errors import Corrupt, UsageError
from semsearch.lexical.state import LexicalState
from semsearch.store import catalog
from semsearch.store.rows import canonical_json
from semsearch.types import Document
from tests.fakes import FakeEncoder, index_into, opened
from tests.test_lexical_languages import TEXTS

PLURAL, SINGULAR = "organizações", "organizacao"  # the same stem in Portuguese, not in English


def documents(language, start=0, extra=""):
    return [
        Document(f"{language}{start + n}", f"{text} {extra}".strip())
        for n, text in enumerate(TEXTS[language])
    ]


@pytest.fixture
def encoder():
    return FakeEncoder()


@pytest.fixture
def portuguese(tmp_path, encoder):
    """Three documents, each with the plural."""
    index_into(tmp_path / "idx", encoder, documents("pt", extra=PLURAL))
    return tmp_path / "idx"


def language(folder):
    """What the catalog has recorded, and what the words that are there were stemmed as."""
    with Reader(folder) as reader:
        recorded = recorded_language(reader.connection)
        return recorded, words_language(reader.snapshot(), reader.connection)


def found(folder, text):
    with opened(folder, FakeEncoder()) as index:
        return {hit.id for hit in index.search(text, k=100, mode="lexical")}


def stored_state(folder):
    with Reader(folder) as reader:
        row = reader.snapshot().cache(lexical_cache.KIND)
        assert row is not None
        return LexicalState.from_json(row.files)


def test_it_is_detected_from_the_texts(portuguese):
    assert language(portuguese) == ("pt", "pt")
    assert stored_state(portuguese).language == "pt"
    assert found(portuguese, SINGULAR) == {"pt0", "pt1", "pt2"}


@pytest.mark.parametrize("code", ["en", "zh", "si", "ru", "fr", "pl"])
def test_every_language_is(tmp_path, encoder, code):
    index_into(tmp_path / "idx", encoder, documents(code))
    assert language(tmp_path / "idx") == (code, code)


def test_an_index_that_grows_keeps_it(portuguese, encoder):
    more = [Document(f"en{n}", text) for n, text in enumerate(TEXTS["en"] * 20)]
    index_into(portuguese, encoder, more, "more.jsonl")
    assert language(portuguese) == ("pt", "pt")
    assert found(portuguese, SINGULAR) == {"pt0", "pt1", "pt2"}
    with open_for_writing(Layout(portuguese)) as writer:
        compact(writer)
        build_lexical_cache(writer, force=True)
    assert language(portuguese) == ("pt", "pt")


def test_growing_adds_to_the_words_that_are_there(portuguese, encoder):
    before = stored_state(portuguese)
    index_into(portuguese, encoder, documents("pt", 3, PLURAL), "more.jsonl")
    after = stored_state(portuguese)
    assert set(before.files) <= set(after.files)
    assert after.passages == 6
    assert len(found(portuguese, SINGULAR)) == 6


def test_a_language_that_is_chosen_is_not_detected(tmp_path, encoder):
    with opened(tmp_path / "idx", encoder) as index:
        index.add(documents("pt", extra=PLURAL), language="none")
    assert language(tmp_path / "idx") == ("none", "none")
    assert found(tmp_path / "idx", SINGULAR) == set()
    assert found(tmp_path / "idx", "organizacoes") == {"pt0", "pt1", "pt2"}


def test_choosing_another_builds_the_words_anew(portuguese, encoder):
    with open_for_writing(Layout(portuguese)) as writer:
        choose_language(writer, "en")
    # until the folder is built, it is searched by the stems that it holds
    assert language(portuguese) == ("en", "pt")
    assert found(portuguese, SINGULAR) == {"pt0", "pt1", "pt2"}
    index_into(portuguese, encoder, documents("pt", extra=PLURAL))  # nothing to encode
    assert len(encoder.documents) == 3
    assert language(portuguese) == ("en", "en")
    assert found(portuguese, SINGULAR) == set()
    with open_for_writing(Layout(portuguese)) as writer:
        choose_language(writer, "pt")
        build_lexical_cache(writer)
    assert found(portuguese, SINGULAR) == {"pt0", "pt1", "pt2"}


def test_choosing_the_same_changes_nothing(portuguese):
    before = stored_state(portuguese)
    with open_for_writing(Layout(portuguese)) as writer:
        generation = writer.snapshot.generation
        choose_language(writer, "pt")
        build_lexical_cache(writer)
        assert writer.snapshot.generation == generation
    assert stored_state(portuguese) == before


def test_an_unknown_one_is_refused_and_changes_nothing(portuguese):
    with open_for_writing(Layout(portuguese)) as writer:
        with pytest.raises(UsageError, match="unknown language 'xx'"):
            choose_language(writer, "xx")
        assert writer.usable
    assert language(portuguese) == ("pt", "pt")


def test_words_in_memory_have_the_same_stems_as_the_folder(portuguese, encoder, caplog):
    """Documents that the folder does not cover yet, and all of them when the folder is gone."""
    with Reader(portuguese) as reader:
        view = open_lexical(reader.snapshot(), reader.connection, reader.require_current)
        assert view is not None
        stored = view.search([PLURAL, SINGULAR, "escola comboios"], 3)
    for path in Layout(portuguese).lexical.iterdir():
        path.unlink()
    with caplog.at_level(logging.ERROR), Reader(portuguese) as reader:
        view = open_lexical(reader.snapshot(), reader.connection, reader.require_current)
        assert view is not None
        in_memory = view.search([PLURAL, SINGULAR, "escola comboios"], 3)
    assert in_memory.ids.tolist() == stored.ids.tolist()
    assert in_memory.scores.tolist() == stored.scores.tolist()
    assert (stored.ids[:2] > 0).all()


def test_documents_that_no_words_were_written_of_yet(portuguese, encoder, monkeypatch):
    monkeypatch.setattr("semsearch.indexing.run.build_lexical_cache", lambda writer: None)
    index_into(portuguese, encoder, documents("pt", 3, PLURAL), "more.jsonl")
    assert stored_state(portuguese).passages == 3
    assert found(portuguese, SINGULAR) == {f"pt{n}" for n in range(6)}


def as_before_there_were_languages(folder):
    """What an index of earlier versions has on record: no language, anywhere."""
    with open_for_writing(Layout(folder)) as writer:
        row = writer.snapshot.cache(lexical_cache.KIND)
        assert row is not None
        values = json.loads(row.files)
        assert values.pop("language") == "en"
        with writer.transaction():
            writer.connection.execute("DELETE FROM meta WHERE k = 'language'")
            catalog.put_cache(
                writer.connection,
                catalog.CacheRow("lex", row.kind, canonical_json(values), "{}", "{}", row.gen),
            )


def test_an_index_from_before_is_english_until_it_is_built_anew(tmp_path, encoder):
    folder = tmp_path / "idx"
    with opened(folder, encoder) as index:
        index.add(documents("pt", extra=f"{PLURAL} running"), language="en")
    as_before_there_were_languages(folder)
    assert language(folder) == (None, "en")
    assert found(folder, "runs") == {"pt0", "pt1", "pt2"}
    index_into(folder, encoder, documents("pt", 3, "running"), "more.jsonl")
    assert language(folder) == (None, "en")
    assert len(found(folder, "runs")) == 6
    assert found(folder, SINGULAR) == set()
    with open_for_writing(Layout(folder)) as writer:
        build_lexical_cache(writer, force=True)
    assert language(folder) == ("pt", "pt")
    assert found(folder, SINGULAR) == {"pt0", "pt1", "pt2"}


def test_a_record_of_an_unknown_language_is_damage(portuguese):
    values = stored_state(portuguese).to_json()
    assert LexicalState.from_json(values).language == "pt"
    with pytest.raises(Corrupt, match="the record of the lexical index cannot be read"):
        LexicalState.from_json({**values, "language": "xx"})
    with pytest.raises(Corrupt):
        LexicalState.from_json({**values, "language": None})


def test_an_index_without_words_has_none(tmp_path, encoder):
    index_into(tmp_path / "idx", encoder, [])
    assert language(tmp_path / "idx") == (None, None)


def run(*arguments):
    return CliRunner().invoke(cli, list(arguments))


def test_the_command_line_shows_it(portuguese):
    facts = json.loads(run("status", "-i", str(portuguese), "--json").stdout)
    assert (facts["language"], facts["stemming"]) == ("pt", "portuguese")
    table = run("status", "-i", str(portuguese)).stdout
    lines = [line.split() for line in table.splitlines()]
    assert ["language", "pt"] in lines
    assert ["stemming", "portuguese"] in lines


@pytest.mark.parametrize(
    ("code", "note"),
    [("pt", "note: the language of the texts is pt; --language chooses another\n"), ("en", "")],
)
def test_the_first_run_tells_a_language_that_is_not_english(
    tmp_path, monkeypatch, encoder, code, note
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(semsearch.encoders, "open_encoder", lambda *_, **__: encoder)
    lines = [json.dumps({"id": d.id, "text": d.text}) for d in documents(code)]
    (tmp_path / "c.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for told in (note, ""):
        done = run("index", "c.jsonl")
        assert (done.exit_code, done.stderr) == (0, told)
    chosen = run("index", "c.jsonl", "--language", "sv")
    assert (chosen.exit_code, chosen.stderr) == (0, "")
    assert language(tmp_path / ".semsearch") == ("sv", "sv")


def test_the_command_line_changes_it(portuguese):
    done = run("compact", "-i", str(portuguese), "--language", "none")
    assert done.exit_code == 0, done.output
    assert language(portuguese) == ("none", "none")
    facts = json.loads(run("status", "-i", str(portuguese), "--json").stdout)
    assert (facts["language"], facts["stemming"]) == ("none", None)


@pytest.mark.parametrize("command", [["index", "corpus.jsonl"], ["compact"]])
def test_the_command_line_refuses_unknown_ones(portuguese, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    for folder in (str(portuguese), "new.idx"):
        done = run(*command, "-i", folder, "--language", "klingon")
        assert done.exit_code == 2
        assert len(done.stderr.splitlines()) == 1
        assert "unknown language 'klingon'" in done.stderr
        assert "stemmed (ar da de el en es fi fr hu it nl no pt ro ru sv tr)" in done.stderr
    assert language(portuguese) == ("pt", "pt")
    assert not (tmp_path / "new.idx").exists()
