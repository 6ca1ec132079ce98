"""Documents longer than the model reads: cut, cut off or refused; counted; found by a passage."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

import semsearch.encoders
from semsearch.cli.main import cli
from semsearch.collection.check import check_index
from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader
from semsearch.collection.writer import open_for_writing
from semsearch.errors import InputError, UsageError
from semsearch.indexing import choose_long_text, source
from semsearch.indexing.long_text import DEFAULT, recorded_long_text
from semsearch.search import Options
from semsearch.search.candidates import EVERYTHING
from semsearch.search.owners import Owners
from semsearch.store import passages
from semsearch.types import Document
from tests.fakes import WORDS, FakeEncoder, index_into, make_documents, opened, searching

DEPTH = 100  # candidates of each index
LONG = 64  # tokens that the fake model reads


@pytest.fixture
def encoder():
    return FakeEncoder(max_length=LONG)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "made.idx"


def long_document(name: str, words: int, seed: int = 1, title: str = "") -> Document:
    """A document of random words in sentences of ten."""
    random = np.random.default_rng(seed)
    chosen = random.choice(WORDS, words).tolist()
    sentences = [" ".join(chosen[n : n + 10]) + "." for n in range(0, words, 10)]
    return Document(name, " ".join(sentences), title, {}, "long.jsonl", 7)


def mixed() -> list[Document]:
    """Five short documents, and two long ones of which one has a title."""
    short = [replace(d, source="", line=0) for d in make_documents(5)]
    return [*short, long_document("long", 300), long_document("titled", 200, 2, "bal nor")]


def index_as(folder, encoder, documents, choice, **options):
    with open_for_writing(Layout(folder)) as writer:
        choose_long_text(writer, choice)
    return index_into(folder, encoder, documents, **options)


def stored(folder):
    """By document id: the spans of its passages, in order, with their vectors."""
    with Reader(folder) as reader:
        snapshot = reader.snapshot()
        vids = snapshot.rows.ids
        if snapshot.alive is not None:
            vids = vids[snapshot.alive]
        vectors = snapshot.rows.take(snapshot.ordinals(vids))
        found: dict[str, list] = {}
        rows = reader.passages_of(vids.tolist())
        for vid, vector in zip(vids.tolist(), vectors, strict=True):
            passage, document = rows[vid]
            assert passage.ord == len(found.get(document.ext_id, []))
            found.setdefault(document.ext_id, []).append((passage.start, passage.end, vector))
        return found


def counts(summary):
    return (
        summary.new, summary.updated, summary.unchanged, summary.encoded,
        summary.passages, summary.chunked, summary.truncated, summary.lost,
    )  # fmt: skip


def sound(folder):
    with Reader(folder) as reader:
        assert list(check_index(reader)) == []


def test_chunks_are_stored_with_their_spans_and_vectors(folder, encoder):
    documents = mixed()
    summary = index_as(folder, encoder, documents, "chunk")
    found = stored(folder)
    number = sum(len(cut) for cut in found.values())
    assert counts(summary) == (7, 0, 0, number, number, 2, 0, 0)
    for document in documents:
        cut = found[document.id]
        assert (len(cut) > 1) == (document.id in ("long", "titled"))
        assert (cut[0][0], cut[-1][1]) == (0, len(document.content))
        for start, end, vector in cut:
            text = document.passage(start, end)
            assert len(text.split()) + 2 <= LONG
            np.testing.assert_allclose(vector, encoder.vector(text), atol=1e-3)
    assert encoder.documents.count(documents[5].passage(*found["long"][1][:2])) == 1
    assert found["titled"][1][0] > 0
    assert "bal nor " + documents[6].content[slice(*found["titled"][1][:2])] in encoder.documents
    sound(folder)


def test_what_is_cut_off_is_counted(folder, encoder):
    documents = mixed()
    lost = (300 + 2 - LONG) + (202 + 2 - LONG)
    summary = index_as(folder, encoder, documents, "truncate")
    assert counts(summary) == (7, 0, 0, 7, 7, 0, 2, lost)
    again = index_into(folder, encoder, documents)
    assert counts(again) == (0, 0, 7, 0, 7, 0, 2, lost), "also where nothing is to be done"
    with Reader(folder) as reader:
        assert passages.count_truncated(reader.connection, LONG) == (2, lost)
        assert passages.count_chunked(reader.connection) == 0


def test_another_choice_cuts_long_documents_again_and_nothing_else(folder, encoder):
    documents = mixed()
    index_as(folder, encoder, documents, "truncate")
    encoder.documents.clear()
    summary = index_as(folder, encoder, documents, "chunk")
    found = stored(folder)
    pieces = len(found["long"]) + len(found["titled"])
    assert counts(summary) == (0, 2, 5, pieces, pieces + 5, 2, 0, 0)
    assert len(encoder.documents) == pieces
    assert set(encoder.documents) == {
        d.passage(start, end) for d in documents[5:] for start, end, _ in found[d.id]
    }
    assert counts(index_into(folder, encoder, documents)) == (0, 0, 7, 0, pieces + 5, 2, 0, 0)
    back = index_as(folder, encoder, documents, "truncate")
    assert (back.updated, back.unchanged, back.chunked, back.truncated) == (2, 5, 0, 2)
    assert {id: len(cut) for id, cut in stored(folder).items()} == {d.id: 1 for d in documents}
    sound(folder)


def test_a_run_that_was_stopped_while_cutting_again_goes_on(folder, encoder, monkeypatch):
    monkeypatch.setattr(source, "WINDOW_DOCUMENTS", 1)
    documents = [long_document(f"d{n}", 150, n) for n in range(4)]
    index_as(folder, encoder, documents, "truncate")
    encoder.before_batch = lambda number: number < 7 or 1 / 0
    with pytest.raises(ZeroDivisionError):
        index_as(folder, encoder, documents, "chunk")
    done = sum(len(cut) > 1 for cut in stored(folder).values())
    assert 0 < done < 4
    encoder.before_batch = lambda _: None
    summary = index_into(folder, encoder, documents)
    assert (summary.updated, summary.unchanged, summary.chunked) == (4 - done, done, 4)


def test_an_index_from_before_the_choice_goes_on_truncating(folder, encoder):
    index_as(folder, encoder, mixed(), "truncate")
    with open_for_writing(Layout(folder)) as writer, writer.transaction():
        writer.connection.execute("DELETE FROM meta WHERE k = 'long_text'")
    summary = index_into(folder, encoder, [*mixed(), long_document("more", 100, 3)])
    assert (summary.new, summary.unchanged, summary.truncated) == (1, 7, 3)


def test_a_new_index_has_the_default(folder, encoder):
    index_into(folder, encoder, mixed())
    with Reader(folder) as reader:
        assert recorded_long_text(reader.connection) == DEFAULT == "chunk"


def test_a_changed_passage_is_encoded_and_the_others_are_not(folder, encoder):
    document = long_document("long", 600)
    index_as(folder, encoder, [document], "chunk")
    encoder.documents.clear()
    changed = replace(document, text=document.text + " Far bal.")
    summary = index_into(folder, encoder, [changed])
    assert (summary.updated, summary.encoded) == (1, len(encoder.documents))
    assert 0 < len(encoder.documents) < len(stored(folder)["long"])
    moved = replace(changed, metadata={"year": 2020})
    assert index_into(folder, encoder, [moved]).encoded == 0, "its passages keep their vectors"


def test_long_documents_are_refused(folder, encoder, monkeypatch):
    monkeypatch.setattr(source, "WINDOW_DOCUMENTS", 3)
    documents = mixed()
    message = (
        r"corpus\.jsonl:7: document 'long' has 302 tokens, and fake reads 64: shorten it, or choose"
        " --long-text chunk or truncate"
    )
    with pytest.raises(InputError, match=message):
        index_as(folder, encoder, documents, "error")
    assert set(stored(folder)) == {d.id for d in documents[:3]}
    with pytest.raises(InputError, match="document 'long' has 302 tokens"):
        index_into(folder, encoder, documents)
    index_as(folder, encoder, documents, "chunk")
    with pytest.raises(InputError, match="document 'long' has 302 tokens"):
        index_as(folder, encoder, documents, "error")


def test_another_word_is_refused(folder, encoder):
    with pytest.raises(UsageError, match="--long-text cut: choose one of chunk, truncate, error"):
        index_as(folder, encoder, mixed(), "cut")


def found_for(folder, encoder, query, **options):
    return searching(folder, encoder).search(query, 10, Options(**options))


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_a_hit_shows_the_passage_that_was_found(folder, encoder, mode):
    base = long_document("long", 300)
    wanted = "zebra quagga okapi " * 8
    text = f"{base.text} {wanted.strip()}. {long_document('x', 200, 9).text}"
    document = replace(base, text=text, title="Animals")
    index_as(folder, encoder, [*make_documents(30), document], "chunk")
    hit = found_for(folder, encoder, "zebra quagga okapi", mode=mode)[0]
    assert (hit.id, hit.text) == ("long", text)
    assert "zebra quagga okapi" in hit.passage
    assert hit.passage == document.content[hit.start : hit.end]
    assert 0 < hit.start < hit.end < len(document.content)
    whole = found_for(folder, encoder, "title 7", mode="lexical")[0]
    assert (whole.start, whole.passage) == (0, f"{whole.title} {whole.text}")


def test_scores_are_those_of_the_best_passage(folder, encoder):
    documents = [long_document(f"d{n:02}", 50 + 20 * n, n) for n in range(20)]
    index_as(folder, encoder, documents, "chunk")
    query = "bal car dir gol"
    wanted = encoder.vector(query)
    best = {id: max(cut @ wanted for *_, cut in rows) for id, rows in stored(folder).items()}
    order = sorted(best, key=lambda id: -best[id])[:10]
    hits = found_for(folder, encoder, query, mode="dense")
    assert [hit.id for hit in hits] == order
    np.testing.assert_allclose([hit.score for hit in hits], [best[id] for id in order], atol=1e-3)


def test_words_and_vectors_meet_in_one_passage_of_a_document(folder, encoder):
    documents = [long_document(f"d{n:02}", 40 + 15 * n, n) for n in range(18)]
    index_as(folder, encoder, documents, "chunk")
    searcher = searching(folder, encoder)
    reader, query = searcher.reader, "bal car dir gol"
    near = searcher.source.dense(encoder.vector(query)[None], DEPTH, EVERYTHING)
    words = searcher.source.words([query], DEPTH, EVERYTHING)
    both = np.concatenate([near.ids[0], words.ids[0]])
    owners = reader.rows_of(both[both >= 0].tolist())
    best: dict[int, tuple[int, int]] = {}
    for which, part in enumerate((near, words)):
        for place, vid in enumerate(part.ids[0].tolist()):
            if vid >= 0:
                best[owners[vid]] = min(best.get(owners[vid], (DEPTH, 0)), (2 * place + which, vid))
    for part, found in zip((near, words), one_each(searcher, [near, words]), strict=True):
        vids = [vid for vid in part.ids[0].tolist() if vid >= 0]
        scores = dict(zip(vids, part.scores[0].tolist(), strict=False))
        order = list(dict.fromkeys(owners[vid] for vid in vids))
        assert len(order) < len(vids), "some are several passages of one document"
        assert found.ids[0, : len(order)].tolist() == [best[owner][1] for owner in order]
        highest = [max(scores[v] for v in vids if owners[v] == owner) for owner in order]
        assert found.scores[0, : len(order)].tolist() == highest
        assert (found.ids[0, len(order) :] == -1).all()


def one_each(searcher, rankings):
    return Owners(searcher.reader, searcher.snapshot).one_each(rankings)


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_a_document_of_hundreds_of_passages_hides_no_others(folder, encoder, mode):
    giant = Document("giant", "zebra quagga okapi. " * 10_000)
    others = [Document(f"o{n}", f"zebra and {WORDS[n]} {WORDS[n + 1]}") for n in range(8)]
    index_as(folder, encoder, [giant, *others], "chunk")
    assert len(stored(folder)["giant"]) > 300 > DEPTH
    for k in (1, 5, 9, 20):
        hits = searching(folder, encoder).search("zebra quagga okapi", k, Options(mode=mode))
        assert len({hit.id for hit in hits}) == len(hits) == min(k, 9)
        assert hits[0].id == "giant"


def test_python_chooses_it_too(folder, encoder):
    with opened(folder, encoder) as index:
        assert index.add(mixed(), long_text="truncate").truncated == 2
        assert index.add(mixed(), long_text="chunk").chunked == 2
        assert index.add(mixed()).unchanged == 7
        with pytest.raises(InputError):
            index.add(mixed(), long_text="error")


def test_the_words_of_every_passage_are_found(folder, encoder):
    document = long_document("titled", 300, 4, "Giraffe")
    index_as(folder, encoder, [*make_documents(5), document], "chunk")
    with Reader(folder) as reader:
        snapshot = reader.snapshot()
        texts = dict(
            passages.passage_texts(reader.connection, 0, snapshot.last_vid, snapshot.generation.gen)
        )
        of_it = {
            vid: document.passage(row.start, row.end)
            for vid, (row, owner) in reader.passages_of(texts).items()
            if owner.ext_id == "titled"
        }
    assert len(of_it) > 5
    assert {vid: texts[vid] for vid in of_it} == of_it
    assert all(text.startswith("Giraffe ") for text in of_it.values())
    (hit,) = found_for(folder, encoder, "giraffe", mode="lexical")
    assert hit.id == "titled"


@pytest.fixture
def semsearch_(tmp_path, monkeypatch, encoder):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(semsearch.encoders, "open_encoder", lambda *_, **__: encoder)

    def call(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == code, (result.stdout, result.stderr)
        return result.stderr if code else result.stdout

    return call


def test_the_command_line(semsearch_, tmp_path):
    animals = Document("animals", f"{long_document('', 300).text} " + "zebra quagga " * 9)
    with open(tmp_path / "corpus.jsonl", "w") as file:
        for document in [*make_documents(3), animals]:
            file.write(json.dumps({"_id": document.id, "text": document.text}) + "\n")
    index = ("index", "corpus.jsonl")
    lost = 300 + 18 + 2 - LONG
    assert (
        f"1 document longer than 64 tokens: {lost} tokens of text not in the vectors (--long-text"
        " chunk keeps them)\n"
    ) in semsearch_(*index, "--long-text", "truncate")
    error = semsearch_(*index, "--long-text", "error", "-i", "other.idx", code=1)
    assert error.startswith(f"Error: {tmp_path}/corpus.jsonl:4: document 'animals' has 320 tokens")
    facts = json.loads(semsearch_(*index, "--long-text", "chunk", "--json"))
    assert (facts["updated"], facts["unchanged"], facts["chunked"]) == (1, 3, 1)
    assert (facts["truncated"], facts["tokens_lost"]) == (0, 0)
    assert f"1 document longer than 64 tokens: {facts['passages']} passages in all\n" in semsearch_(
        *index
    )
    status = json.loads(semsearch_("status", "--json"))
    wanted = {"long_text": "chunk", "chunked": 1, "truncated": 0, "tokens_lost": 0}
    assert {name: status[name] for name in wanted} == wanted
    assert status["passages"] == facts["passages"]
    query = ("query", "zebra quagga", "--mode", "lexical", "-k", "1")
    (hit,) = json.loads(semsearch_(*query, "--json"))
    start, end = hit["passage"]["start"], hit["passage"]["end"]
    assert hit["passage"]["text"] == animals.content[start:end] == hit["text"].strip()[start:end]
    assert "zebra quagga" in hit["passage"]["text"]
    assert start > 0
    shown = semsearch_(*query).splitlines()[1]
    assert shown.startswith(f"     ... {hit['passage']['text'][:20]}")
