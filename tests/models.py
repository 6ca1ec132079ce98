"""Small, randomly initialised models of each kind, saved as sentence-transformers folders.

Each has a tokenizer trained on a few hundred lines of the standard library's docstrings.
"""

from __future__ import annotations

import builtins
import collections
import json
import logging
import pathlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

KINDS = ("mpnet", "deberta", "bert-cls", "bert-unigram", "bert-dense")

TEXTS = [
    "how do I parse a JSON string",
    "",
    "a",
    "Return a NEW path with the suffix changed; raise ValueError if it has no name.",
    "naïve café, Ünïcödé, and 12345.678e-9 numbers",
    "日本語のテキスト and some English",
    "NUL \x00 and a lone surrogate \ud800 in one text",
    "word " * 200,
    "the same text twice",
    "the same text twice",
    *(f"sentence number {n} " + "of growing length " * n for n in range(1, 25)),
]


def sentences() -> list[str]:
    """A few hundred lines of English that every machine has."""
    owners = [*vars(builtins).values(), collections, json, pathlib.Path, *vars(str).values()]
    docs = [doc for owner in owners if isinstance(doc := getattr(owner, "__doc__", None), str)]
    lines = [line.strip() for doc in docs for line in doc.splitlines()]
    return [line for line in lines if len(line) > 20][:800]


@contextmanager
def calm() -> Iterator[None]:
    """The libraries' warnings and progress bars are not ours to test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers.utils import logging as library_logging

        library_logging.disable_progress_bar()
        library_logging.set_verbosity_error()
        logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
        yield


def wordpiece(*, lower: bool, special: list[str]) -> Any:
    """A BERT-like tokenizer; ``special`` are the pad, unknown, first, last and mask tokens."""
    return _trained("wordpiece", special, lower=lower)


def unigram(special: list[str]) -> Any:
    """A SentencePiece-like tokenizer, as XLM-R and DeBERTa-v3 have."""
    return _trained("unigram", special, lower=False)


def _trained(kind: Literal["wordpiece", "unigram"], special: list[str], *, lower: bool) -> Any:
    """The same tokenizer every time: a library's own trainer gives ids in the order of a hash."""
    from semsearch.training.recipe import Scratch
    from semsearch.training.scratch import train_tokenizer

    style: Literal["bert", "mpnet"] = "bert" if special == BERT_TOKENS else "mpnet"
    wanted = Scratch(architecture=style, vocabulary=600, tokenizer=kind, lower_case=lower)
    tokenizer = train_tokenizer(wanted, sentences())
    assert [tokenizer.pad_token, tokenizer.unk_token] == special[:2]
    return tokenizer


BERT_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SMALL = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "initializer_range": 0.2,  # large enough for distinct vectors, as training gives
}


def _bert(tokenizer: Any, positions: int = 64) -> Any:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=positions,
        pad_token_id=tokenizer.pad_token_id,
        **SMALL,
    )
    return BertModel(config)


def _mpnet(tokenizer: Any) -> Any:
    from transformers import MPNetConfig, MPNetModel

    return MPNetModel(
        MPNetConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=66,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.cls_token_id,
            eos_token_id=tokenizer.sep_token_id,
            **SMALL,
        )
    )


def _deberta(tokenizer: Any) -> Any:
    from transformers import DebertaV2Config, DebertaV2Model

    return DebertaV2Model(
        DebertaV2Config(
            vocab_size=len(tokenizer),
            max_position_embeddings=64,
            pad_token_id=tokenizer.pad_token_id,
            relative_attention=True,
            position_buckets=16,
            norm_rel_ebd="layer_norm",
            share_att_key=True,
            pos_att_type=["p2c", "c2p"],
            position_biased_input=False,
            type_vocab_size=0,
            **(SMALL | {"initializer_range": 0.1}),  # bf16 loses more here with larger weights
        )
    )


def build(kind: str, folder: Path, prompts: dict[str, str] | None = None) -> Path:
    """Save a model of one of ``KINDS`` under ``folder`` and return its path."""
    with calm():
        import torch
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.base.modules import Dense, Normalize, Transformer
        from sentence_transformers.sentence_transformer.modules import Pooling

        torch.manual_seed(7)
        tokens = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
        makers: dict[str, tuple[Any, Callable[[Any], Any], str]] = {
            "mpnet": (lambda: wordpiece(lower=False, special=tokens), _mpnet, "mean"),
            "deberta": (lambda: unigram(BERT_TOKENS), _deberta, "mean"),
            "bert-cls": (lambda: wordpiece(lower=True, special=BERT_TOKENS), _bert, "cls"),
            "bert-unigram": (lambda: unigram(tokens), _bert, "mean"),
            "bert-dense": (lambda: wordpiece(lower=False, special=BERT_TOKENS), _bert, "mean"),
        }
        make_tokenizer, make_model, pooling = makers[kind]
        tokenizer = make_tokenizer()
        base = folder / f"{kind}-base"
        make_model(tokenizer).eval().save_pretrained(str(base))
        tokenizer.save_pretrained(str(base))
        transformer = Transformer(str(base), max_seq_length=48)
        chain: list[torch.nn.Module] = [transformer, Pooling(64, pooling_mode=pooling)]
        if kind == "bert-dense":
            chain.append(Dense(64, 112, activation_function=torch.nn.Identity()))
        if kind in ("mpnet", "bert-cls"):
            chain.append(Normalize())
        model = SentenceTransformer(modules=chain, prompts=prompts, device="cpu")
        model.save_pretrained(str(folder / kind), create_model_card=False)
    return folder / kind


def reference(folder: Path, texts: list[str], *, task: str = "document") -> Any:
    """Unit float32 rows (n, dim) of ``SentenceTransformer.encode_document`` (or ``_query``)."""
    with calm():
        import numpy as np
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        encode = model.encode_query if task == "query" else model.encode_document
        rows = np.asarray(encode(texts, show_progress_bar=False), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
