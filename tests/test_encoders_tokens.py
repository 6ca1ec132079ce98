"""What the tokenizer saw: lengths, cuts, unknown tokens, hostile texts; and the batches made."""

import json
from pathlib import Path

import numpy as np
import pytest

from semsearch.encoders import open_encoder
from semsearch.encoders.batching import batches, padded, rounded, run_halving
from semsearch.encoders.folder import read_folder
from semsearch.encoders.resolve import resolve_model
from semsearch.encoders.runtimes.contract import OutOfMemory, Output
from semsearch.encoders.tokens import Tokens
from semsearch.errors import ModelError
from tests import models


@pytest.fixture(scope="module")
def minilm():
    return read_folder(resolve_model("all-MiniLM-L6-v2", local_only=True))


@pytest.fixture(scope="module")
def tokens(minilm) -> Tokens:
    return Tokens(minilm)


class Counting:
    """A runtime that takes small batches only, and remembers what it was given."""

    name, precision, workers, budget, multiple = "torch", "float32", 1, 512, 8

    def __init__(self, room: int = 10**9) -> None:
        self.room = room
        self.sizes: list[int] = []

    def run(self, ids, mask, keep=None, *, prompt_length=0, many=False):
        if ids.size > self.room:
            raise OutOfMemory(f"{ids.size} tokens")
        self.sizes.append(len(ids))
        sums = (ids * mask).sum(axis=1, dtype=np.float32)
        return Output(np.stack([sums % 997 + 1, np.full_like(sums, 500)], axis=1))


def test_whole_length_then_cut(tokens):
    rows = tokens.tokenize(["word " * 10, "word " * 254, "word " * 255, "word " * 1000])
    assert [row.length for row in rows] == [12, 256, 257, 1002]
    assert [row.truncated for row in rows] == [False, False, True, True]
    assert [len(row.ids) for row in rows] == [12, 256, 256, 256]
    assert {(row.ids[0], row.ids[-1]) for row in rows} == {(101, 102)}
    assert tokens.special_tokens == 2


def test_max_seq_length_comes_from_the_folder(minilm):
    # This tokenizer.json cuts at 128 tokens; the folder says 256.
    assert minilm.max_length == 256
    encoder = open_encoder("all-MiniLM-L6-v2", local_only=True)
    encoded = encoder.encode_documents(["alpha " * 200, "alpha " * 200 + "omega " * 20, "x " * 300])
    assert encoded.tokens.tolist() == [202, 222, 302]
    assert encoded.truncated.tolist() == [False, False, True]
    assert not np.allclose(encoded.vectors[0], encoded.vectors[1], atol=1e-3)


def test_unknown_tokens_are_counted(tokens):
    sinhala, english = tokens.tokenize(
        ["ශ්‍රී ලංකාව දකුණු ආසියාවේ පිහිටි දිවයිනකි", "Sri Lanka is an island in South Asia"]
    )
    assert sinhala.unknown / (sinhala.length - 2) > 0.5
    assert english.unknown == 0


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\x00", "", " \n", "\U0001f600\ud83d"])
def test_hostile_texts(tokens, text):
    (row,) = tokens.tokenize([text])
    assert 2 <= len(row.ids) == row.length
    assert not row.truncated


def test_a_surrogate_pair_is_its_character(tokens):
    pair, whole = tokens.tokenize(["\ud83d\ude00 x", "\U0001f600 x"])
    assert pair.ids.tolist() == whole.ids.tolist()


def test_very_long_texts(tokens):
    words, letters, blank = tokens.tokenize(
        ["word " * 400_000, "x" * 3_000_000, " " * 100_000 + "the end"]
    )
    assert (len(words.ids), words.truncated) == (256, True)
    assert 256 < words.length < 400_000  # a lower bound: only a beginning is tokenized
    assert (letters.truncated, letters.unknown) == (True, 1)
    assert blank.ids.tolist() == tokens.tokenize(["the end"])[0].ids.tolist()
    assert not blank.truncated


def test_batches_hold_every_text_once_within_the_budget():
    lengths = np.random.default_rng(1).integers(1, 300, 1000).tolist()
    groups = list(batches(lengths, 2048, 8))
    assert sorted(i for group in groups for i in group) == list(range(1000))
    for group in groups:
        assert len(group) == 1 or len(group) * rounded(max(lengths[i] for i in group), 8) <= 2048
    assert list(batches([], 100, 8)) == []
    assert list(batches([5000, 3], 100, 8)) == [[0], [1]]


def test_padding_stops_at_the_maximum_length():
    ids, mask, _ = padded([np.arange(1, 13), np.arange(1, 3)], pad_id=7, multiple=8, longest=13)
    assert ids.shape == mask.shape == (2, 13)
    assert ids[1].tolist() == [1, 2, *[7] * 11]
    assert mask.sum(axis=1).tolist() == [12, 2]


def encoder_on(runtime):
    encoder = open_encoder("all-MiniLM-L6-v2", local_only=True)
    encoder.dim, encoder._runtime = 2, runtime
    return encoder


def test_identical_texts_are_encoded_once():
    runtime = Counting()
    seen: list[int] = []
    encoded = encoder_on(runtime).encode_documents(["b", "a", "b", "b", "c"], seen.append)
    assert sum(runtime.sizes) == 3
    assert sum(seen) == 5
    assert (encoded.vectors[0] == encoded.vectors[[2, 3]]).all()
    assert not np.allclose(encoded.vectors[0], encoded.vectors[1], atol=1e-6)


def test_out_of_memory_halves_the_batch():
    texts = [f"{n} " * (n % 9 + 1) for n in range(100)]
    roomy, tight = Counting(), Counting(room=40)
    expected = encoder_on(roomy).encode_documents(texts).vectors
    np.testing.assert_array_equal(encoder_on(tight).encode_documents(texts).vectors, expected)
    assert len(tight.sizes) > len(roomy.sizes)


def test_one_text_that_does_not_fit():
    ids = np.ones((4, 16), dtype=np.int64)
    with pytest.raises(ModelError, match="out of memory on one text of 16 tokens"):
        run_halving(Counting(room=15), ids, ids)


def test_nothing_to_encode():
    encoded = encoder_on(Counting()).encode_documents([])
    assert encoded.vectors.shape == (0, 2)
    assert len(encoded.tokens) == len(encoded.truncated) == len(encoded.unknown) == 0


def test_vectors_without_direction_are_refused():
    class Zero(Counting):
        def run(self, ids, mask, keep=None, *, prompt_length=0, many=False):
            return Output(np.zeros((len(ids), 2), dtype=np.float32))

    with pytest.raises(ModelError, match="without a direction"):
        encoder_on(Zero()).encode_queries(["x"])


def without_fast_tokenizer(folder: Path, name: str) -> None:
    """Leave a folder as older models are: a vocabulary, and no tokenizer.json."""
    (folder / "tokenizer.json").unlink()
    names: dict[str, object] = {
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "cls_token": "<s>",
        "sep_token": "</s>",
    }
    settings: dict[str, object] = {"tokenizer_class": name, "model_max_length": 48}
    if name == "BertTokenizer":
        names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | names))
    (folder / "special_tokens_map.json").unlink(missing_ok=True)


def test_a_vocabulary_is_converted_once(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMSEARCH_CACHE", str(tmp_path / "cache"))
    folder = models.build("bert-cls", tmp_path)
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    expected = Tokens(read_folder(folder)).tokenize(["Return a new path", "naïve"])
    without_fast_tokenizer(folder, "BertTokenizer")
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)))
    with models.calm():
        found = Tokens(read_folder(folder)).tokenize(["Return a new path", "naïve"])
    assert [row.ids.tolist() for row in found] == [row.ids.tolist() for row in expected]
    (cached,) = (tmp_path / "cache" / "tokenizers").iterdir()
    monkeypatch.setattr("semsearch.encoders.tokenizer_file._convert", None)
    assert Tokens(read_folder(folder)).special_tokens == 2
    assert cached.suffix == ".json"


def test_a_sentencepiece_model_gives_the_library_s_vectors(tmp_path, monkeypatch):
    sentencepiece = pytest.importorskip("sentencepiece")
    monkeypatch.setenv("SEMSEARCH_CACHE", str(tmp_path / "cache"))
    folder = models.build("bert-unigram", tmp_path)
    without_fast_tokenizer(folder, "XLMRobertaTokenizer")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(models.sentences()),
        model_prefix=str(folder / "sentencepiece.bpe"),
        vocab_size=400,
        minloglevel=2,
    )
    texts = ["Return a new path", "naïve \u65e5\u672c text", "a"]
    with models.calm():
        encoder = open_encoder(folder, runtime="torch", precision="float32")
        encoded = encoder.encode_documents(texts)
    assert encoded.unknown.tolist()[1] > 0
    expected = models.reference(folder, texts)
    assert (encoded.vectors * expected).sum(axis=1).min() > 0.9999
