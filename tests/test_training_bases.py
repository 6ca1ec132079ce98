"""What training starts from: chains of modules, rotations, tokenizers alike each time."""

import json
import re
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from semsearch.errors import ModelError, NotFound, UsageError
from semsearch.training.base_model import open_base
from semsearch.training.recipe import Model
from semsearch.training.scratch import train_tokenizer
from tests import models
from tests.training_sets import (
    CHAINS,
    SMALL,
    easy_rows,
    made_rows,
    one_thread,
    plain_model,
    unit,
)


@pytest.fixture(scope="module", autouse=True)
def threads():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def texts():
    return made_rows(*((row["anchor"], row["positive"]) for row in easy_rows(150)))


@pytest.mark.parametrize("kind", ["mpnet", "bert-dense"])
def test_a_rotation_keeps_whole_vectors_and_sorts_their_components(texts, kind):
    model = CHAINS[kind]
    flat, turned = (
        open_base(replace(model, rotate=rotate), [texts], 5, "cpu") for rotate in (False, True)
    )
    probes = [row["negative"] for row in easy_rows(40, seed=8)]
    before, after = (m.encode(probes, show_progress_bar=False) for m in (flat, turned))
    np.testing.assert_allclose(before @ before.T, after @ after.T, atol=1e-4)
    assert not np.allclose(before, after, atol=1e-2)
    # fitted on the positives of training: there the energy falls from component to component
    fitted = unit(turned.encode(texts.column(1), show_progress_bar=False))
    energy = (fitted**2).mean(axis=0)
    assert (np.diff(energy) <= 1e-6).all()
    moments = fitted.T @ fitted / len(fitted)
    np.testing.assert_allclose(moments, np.diag(np.diag(moments)), atol=1e-5)
    plain_energy = (unit(flat.encode(texts.column(1), show_progress_bar=False)) ** 2).mean(axis=0)
    width = len(energy)
    assert energy[: width // 4].sum() > plain_energy[: width // 4].sum() + 0.1
    # not on the anchors
    other = unit(turned.encode(texts.column(0), show_progress_bar=False))
    others = other.T @ other / len(other)
    assert np.abs(others - np.diag(np.diag(others))).max() > 1e-4


def test_a_base_keeps_its_own_modules(tmp_path, texts, caplog):
    folder = models.build("bert-cls", tmp_path)
    base = open_base(Model(str(folder)), [texts], 1, "cpu")
    assert [type(module).__name__ for module in base] == ["Transformer", "Pooling", "Normalize"]
    assert (base[1].pooling_mode, base.max_seq_length) == ("cls", 48)
    np.testing.assert_array_equal(base.encode(["a b"]), plain_model(folder).encode(["a b"]))
    shorter = open_base(Model(str(folder), max_length=9), [texts], 1, "cpu")
    assert shorter.max_seq_length == 9
    with pytest.raises(UsageError, match=r"max_length = 65: the model has 64 positions"):
        open_base(Model(str(folder), max_length=65), [texts], 1, "cpu")
    assert caplog.text == ""
    open_base(Model(str(folder), dense=9), [texts], 1, "cpu")
    assert "kept: Transformer -> Pooling -> Normalize" in caplog.text


def test_a_plain_transformer_gets_the_modules_of_the_recipe(tmp_path, texts):
    models.build("bert-dense", tmp_path)
    base = tmp_path / "bert-dense-base"
    made = open_base(Model(str(base), 20, "max", 24, True), [texts], 1, "cpu")
    chain = ["Transformer", "Pooling", "Dense", "Normalize"]
    assert [type(module).__name__ for module in made] == chain
    assert (made[1].pooling_mode, made.max_seq_length) == ("max", 20)
    assert made.get_embedding_dimension() == 24
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "x.Y"}}))
    with pytest.raises(ModelError):
        open_base(Model(str(base)), [texts], 1, "cpu")


@pytest.mark.parametrize("broken", ["weights", "tokenizer", "sizes"])
@pytest.mark.parametrize("plain", [False, True])
def test_what_is_wrong_with_a_base_is_one_line(tmp_path, texts, broken, plain):
    models.build("bert-dense", tmp_path)
    base = tmp_path / ("bert-dense-base" if plain else "bert-dense")
    if broken == "weights":
        (base / "model.safetensors").write_bytes(b"{}")
    elif broken == "tokenizer":
        for path in [*base.glob("*token*"), *base.glob("vocab*"), *base.glob("special*")]:
            path.unlink()
    else:
        config = json.loads((base / "config.json").read_text())
        changed = config | {"hidden_size": 2 * config["hidden_size"]}
        (base / "config.json").write_text(json.dumps(changed))
    with pytest.raises((ModelError, NotFound), match=re.escape(str(base))) as caught:
        open_base(Model(str(base)), [texts], 1, "cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("architecture", ["bert", "mpnet", "xlm-roberta", "deberta-v2"])
def test_the_longest_text_that_a_base_has_positions_for(tmp_path, texts, architecture):
    scratch = replace(SMALL, architecture=architecture)
    made = open_base(Model("scratch", 16, scratch=scratch), [texts], 1, "cpu")
    made.save_pretrained(str(tmp_path / "made"))
    long = ["bal dor fen gul " * 200]
    for length in range(14, 22):
        try:
            found = open_base(Model(str(tmp_path / "made"), length), [texts], 1, "cpu")
        except UsageError:
            assert length > 16
        else:
            assert np.isfinite(found.encode(long, show_progress_bar=False)).all()


# Tokenizers

CHINESE = [
    f"{a}山{b}水{c}天"
    for a, b, c in zip(
        "一二三四五六七八九十", "甲乙丙丁戊己庚辛壬癸", "春夏秋冬東西南北上下", strict=True
    )
]
KINDS: list[tuple[Literal["wordpiece", "unigram"], bool]]
KINDS = [("wordpiece", True), ("wordpiece", False), ("unigram", False)]
TOKENIZERS = [
    replace(SMALL, vocabulary=size, tokenizer=kind, lower_case=lower)
    for size in (300, 5000)
    for kind, lower in KINDS
]


@pytest.mark.parametrize("scratch", TOKENIZERS, ids=lambda s: f"{s.tokenizer}-{s.vocabulary}")
@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_same_texts_give_the_same_tokenizer(scratch, language):
    """The library's own trainers number their pieces by the order of a hash table."""
    trained_on = models.sentences() if language == "en" else CHINESE * 3
    made = [train_tokenizer(scratch, iter(trained_on)) for _ in range(3)]
    assert len({tokenizer.backend_tokenizer.to_str() for tokenizer in made}) == 1
    vocabulary = made[0].get_vocab()
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    assert len(vocabulary) <= max(scratch.vocabulary, 300)
    assert [vocabulary[token] for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")] == [
        0,
        1,
        2,
        3,
        4,
    ]
    ids = made[0]("".join(trained_on[3].split()[:1]))["input_ids"]
    assert (ids[0], ids[-1]) == (2, 3)
    assert 1 not in ids, "what it was trained on is known"


def test_what_a_tokenizer_keeps_apart():
    rows = ["Café BAL", "cafe bal", "CAFÉ"] * 5
    lower = train_tokenizer(replace(SMALL, lower_case=True), rows)
    cased = train_tokenizer(replace(SMALL, lower_case=False), rows)
    assert lower("CAFE BAL")["input_ids"] == lower("café bal")["input_ids"]
    assert cased("Café")["input_ids"] != cased("cafe")["input_ids"]
    assert lower("bal ##a")["input_ids"] != lower("bala")["input_ids"], (
        "no piece is a token of its own"
    )
    unigram = train_tokenizer(replace(SMALL, tokenizer="unigram", lower_case=True), rows)
    assert unigram("BAL")["input_ids"] == unigram("bal")["input_ids"]


def test_no_tokenizer_can_be_made_of_too_little():
    with pytest.raises(
        UsageError, match=r"\[model\.scratch\]: no tokenizer can be trained on these"
    ):
        train_tokenizer(replace(SMALL, tokenizer="unigram", vocabulary=6), CHINESE)
