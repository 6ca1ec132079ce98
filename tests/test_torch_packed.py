"""Texts packed into one row give the vectors that padded ones give, for every kind of model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semsearch.encoders.batching import padded
from semsearch.encoders.encoder import Encoder
from semsearch.encoders.folder import read_folder
from semsearch.encoders.runtimes import packed
from semsearch.encoders.runtimes.packed import packed_features
from semsearch.encoders.runtimes.torch import TorchRuntime
from semsearch.encoders.tokens import Tokens
from tests import models

LONGEST = 120
WINDOW = 16  # short beside the texts: most tokens see a part of theirs only


def xlm_roberta(tokenizer):
    from transformers import XLMRobertaConfig, XLMRobertaModel

    return XLMRobertaModel(
        XLMRobertaConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=LONGEST + 8,
            pad_token_id=tokenizer.pad_token_id,
            type_vocab_size=1,
            **models.SMALL,
        )
    )


def modern_bert(tokenizer):
    from transformers import ModernBertConfig, ModernBertModel

    return ModernBertModel(
        ModernBertConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=LONGEST,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.cls_token_id,
            eos_token_id=tokenizer.sep_token_id,
            local_attention=2 * WINDOW,
            global_attn_every_n_layers=2,
            initializer_cutoff_factor=2.0,
            **models.SMALL,
        )
    )


def qwen(tokenizer):
    from transformers import Qwen3Config, Qwen3Model

    return Qwen3Model(
        Qwen3Config(
            vocab_size=len(tokenizer),
            max_position_embeddings=LONGEST,
            pad_token_id=tokenizer.pad_token_id,
            num_key_value_heads=2,
            head_dim=16,
            **models.SMALL,
        )
    )


def mistral(tokenizer):
    from transformers import MistralConfig, MistralModel

    return MistralModel(
        MistralConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=LONGEST,
            pad_token_id=tokenizer.pad_token_id,
            num_key_value_heads=4,
            sliding_window=WINDOW,
            **models.SMALL,
        )
    )


OTHERS: dict[str, tuple[Callable[[Any], Any], str | tuple[str, ...]]] = {
    "xlm-roberta": (xlm_roberta, "mean"),
    "modern-bert": (modern_bert, ("cls", "mean")),
    "qwen": (qwen, "lasttoken"),
    "mistral": (mistral, ("weightedmean", "max")),
}
PADDED = {"mpnet", "deberta"}


def make(kind: str, home: Path) -> Path:
    """A small model: one of ``models.KINDS``, or of those above."""
    if kind in models.KINDS:
        return models.build(kind, home)
    with models.calm():
        import torch
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.base.modules import Transformer
        from sentence_transformers.sentence_transformer.modules import Pooling

        torch.manual_seed(11)
        maker, pooling = OTHERS[kind]
        tokenizer = models.wordpiece(lower=True, special=models.BERT_TOKENS)
        base = home / f"{kind}-base"
        maker(tokenizer).eval().save_pretrained(str(base))
        tokenizer.save_pretrained(str(base))
        chain = [
            Transformer(str(base), max_seq_length=LONGEST),
            Pooling(64, pooling_mode=pooling),
        ]
        model = SentenceTransformer(modules=chain, device="cpu")
        model.save_pretrained(str(home / kind), create_model_card=False)
    return home / kind


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    home = tmp_path_factory.mktemp("models")
    return {kind: make(kind, home) for kind in (*models.KINDS, *OTHERS)}


def batch(config, texts=models.TEXTS):
    tokens = Tokens(config)
    rows = [row.ids for row in tokens.tokenize(texts)]
    made = padded(rows, tokens.pad_id, 1, config.max_length)
    return made.ids, made.mask


def unit(rows):
    assert np.isfinite(rows).all()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_form_of_a_packed_row():
    ids = np.array([[7, 8, 9], [5, 0, 0], [6, 4, 0]])
    features = packed_features(ids, (ids > 0).astype(np.int64), 2)
    lists = {n: v.tolist() for n, v in features.items() if isinstance(v, np.ndarray)}
    assert lists == {
        "input_ids": [[7, 8, 9, 5, 6, 4]],
        "position_ids": [[2, 3, 4, 2, 2, 3]],
        "seq_idx": [[0, 0, 0, 1, 2, 2]],
        "cu_seq_lens_q": [0, 3, 4, 6],
        "cu_seq_lens_k": [0, 3, 4, 6],
    }
    assert (features["max_length_q"], features["max_length_k"]) == (3, 3)


@pytest.mark.parametrize("kind", [*models.KINDS, *OTHERS])
def test_packed_equals_padded(folders, kind):
    config = read_folder(folders[kind])
    ids, mask = batch(config)
    assert mask.sum(axis=1).max() > 2 * WINDOW
    assert mask.sum(axis=1).min() <= 3
    without = TorchRuntime(config, "float32", "cpu")
    runtime = TorchRuntime(config, "float32", "cpu", packed=True)
    assert (without.packs, runtime.packs) == (False, kind not in PADDED)
    expected = unit(without.run(ids, mask).vectors)
    np.testing.assert_allclose(unit(runtime.run(ids, mask).vectors), expected, atol=1e-5)
    alone = unit(
        runtime.run(ids[4:5], mask[4:5]).vectors
    )  # with padding: a text shorter than its row
    np.testing.assert_allclose(alone[0], expected[4], atol=1e-5)


@pytest.mark.parametrize("kind", OTHERS)
def test_packed_equals_the_library(folders, kind):
    texts = [text.replace("\ud800", "\ufffd") for text in models.TEXTS]
    config = read_folder(folders[kind])
    runtime = TorchRuntime(config, "float32", "cpu", packed=True)
    encoder = Encoder(kind, config, lambda _: runtime)
    expected = models.reference(folders[kind], texts)
    found = encoder.encode_documents(texts).vectors
    np.testing.assert_allclose(found, expected, atol=2e-5)
    others = expected[[0, 3, 4, 5, 7]] @ expected[[0, 3, 4, 5, 7]].T
    assert np.median(others[~np.eye(5, dtype=bool)]) < 0.999, "the model tells no texts apart"


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision(folders, precision):
    config = read_folder(folders["bert-cls"])
    ids, mask = batch(config)
    wanted = unit(TorchRuntime(config, "float32", "cpu").run(ids, mask).vectors)
    runtime = TorchRuntime(config, precision, "cpu", packed=True)
    assert runtime.packs
    assert (unit(runtime.run(ids, mask).vectors) * wanted).sum(axis=1).min() > 0.995


def test_a_prompt_left_out_of_pooling(folders):
    config = read_folder(folders["bert-dense"])
    ids, mask = batch(config, ["a prompt of some words: " + text for text in models.TEXTS[9:]])
    runtimes = [TorchRuntime(config, "float32", "cpu", packed=on) for on in (False, True)]
    for runtime in runtimes:
        runtime._model[1].include_prompt = False
    padded_rows, packed_rows = (unit(r.run(ids, mask, prompt_length=5).vectors) for r in runtimes)
    np.testing.assert_allclose(packed_rows, padded_rows, atol=1e-5)
    with_prompt = unit(runtimes[1].run(ids, mask).vectors)
    assert np.abs(with_prompt - packed_rows).max() > 1e-3


def test_a_model_that_packing_would_change_is_padded(folders, monkeypatch, caplog):
    separate = packed._text_by_text

    def mixing(rows, bounds, window, scale):  # as if each text saw its neighbours
        return separate(rows, bounds[[0, -1]], window, scale)

    config = read_folder(folders["bert-cls"])
    ids, mask = batch(config)
    expected = TorchRuntime(config, "float32", "cpu").run(ids, mask).vectors
    monkeypatch.setattr(packed, "_text_by_text", mixing)
    with caplog.at_level("DEBUG", "semsearch"):
        runtime = TorchRuntime(config, "float32", "cpu", packed=True)
    assert not runtime.packs
    [said] = [r.getMessage() for r in caplog.records if r.name == "semsearch"]
    assert said.startswith("this model is given padded texts: packing changes its vectors")
    np.testing.assert_array_equal(runtime.run(ids, mask).vectors, expected)


def test_wrong_positions_are_noticed(folders, monkeypatch):
    monkeypatch.setattr(packed, "_first_position", lambda _: 0)
    assert not TorchRuntime(
        read_folder(folders["xlm-roberta"]), "float32", "cpu", packed=True
    ).packs


def test_attention_that_cannot_be_packed():
    import torch

    query = torch.zeros(1, 2, 3, 8)
    settings = {"cu_seq_lens_q": torch.tensor([0, 3]), "max_length_q": 3, "softcap": 2.0}
    with pytest.raises(NotImplementedError, match="softcap"):
        packed._attention(torch.nn.Identity(), query, query, query, None, **settings)
