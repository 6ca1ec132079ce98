"""Small, randomly initialised cross-encoders of each kind, and what the library says of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.models import BERT_TOKENS, SMALL, calm, unigram, wordpiece

CROSS_KINDS = ("bert", "roberta", "mpnet", "xlm-roberta", "deberta", "modernbert")
_ANGLES = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]

QUERIES = ["how do I parse a JSON string", "", "NUL \x00 and a lone surrogate \ud800"]
PASSAGES = [
    "Return a NEW path with the suffix changed; raise ValueError if it has no name.",
    "naïve café, Ünïcödé, and 12345.678e-9 numbers",
    "a",
    "日本語のテキスト and some English",
    "",
    "word " * 200,
    *(f"passage number {n} " + "of growing length " * n for n in range(1, 18)),
]


def _tokenizer(kind: str) -> Any:
    """A tokenizer that joins two texts as models of this kind expect."""
    from tokenizers import processors

    bert_like = kind in ("bert", "deberta", "modernbert")
    names = BERT_TOKENS if bert_like else _ANGLES
    sentencepiece = kind in ("xlm-roberta", "deberta")
    tokenizer = unigram(names) if sentencepiece else wordpiece(lower=kind == "bert", special=names)
    first, last = names[2], names[3]
    pair = f"{first} $A {last} {last} $B {last}"
    if bert_like:
        second = "" if kind == "modernbert" else ":1"
        pair = f"{first} $A {last} $B{second} {last}{second}"
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=pair,
        special_tokens=[(t, tokenizer.convert_tokens_to_ids(t)) for t in (first, last)],
    )
    if kind in ("bert", "deberta"):
        tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer.model_max_length = 48
    return tokenizer


def _settings(kind: str, tokenizer: Any, labels: int) -> dict[str, Any]:
    own: dict[str, dict[str, Any]] = {
        "deberta": {
            "relative_attention": True,
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "type_vocab_size": 0,
            "initializer_range": 0.1,
        },
        "roberta": {"type_vocab_size": 1, "max_position_embeddings": 66},
        "xlm-roberta": {"type_vocab_size": 1, "max_position_embeddings": 66},
        "mpnet": {"max_position_embeddings": 66},
    }
    return {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 64,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "cls_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "num_labels": labels,
        **SMALL,
        **own.get(kind, {}),
    }


def build_cross_encoder(kind: str, folder: Path, *, labels: int = 1) -> Path:
    """Save a cross-encoder of one of ``CROSS_KINDS`` as a plain folder, without a chain."""
    with calm():
        import torch
        import transformers

        torch.manual_seed(11)
        name = {
            "bert": "Bert",
            "roberta": "Roberta",
            "mpnet": "MPNet",
            "xlm-roberta": "XLMRoberta",
            "deberta": "DebertaV2",
            "modernbert": "ModernBert",
        }[kind]
        tokenizer = _tokenizer(kind)
        config = getattr(transformers, f"{name}Config")(**_settings(kind, tokenizer, labels))
        model = getattr(transformers, f"{name}ForSequenceClassification")(config)
        for parameter in model.parameters():  # heads begin with zeros or tiny numbers
            if parameter.shape[:1] == (labels,):
                torch.nn.init.normal_(parameter, std=0.5)
        model.eval().save_pretrained(str(folder / kind))
        tokenizer.save_pretrained(str(folder / kind))
    return folder / kind


TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }} {{ message['content'] }} {% endfor %}answer"
)


def build_decoder(folder: Path, *, template: str | None = None) -> Path:
    """Save a decoder whose words "yes" and "no" are its judgement, with a chat template or none."""
    with calm():
        import torch
        from transformers import Qwen3Config, Qwen3ForCausalLM

        torch.manual_seed(13)
        tokenizer = wordpiece(lower=True, special=BERT_TOKENS)
        tokenizer.add_tokens(["yes", "no"])
        tokenizer.eos_token, tokenizer.model_max_length = "[SEP]", 48
        tokenizer.chat_template = template
        config = Qwen3Config(
            vocab_size=len(tokenizer),
            head_dim=16,
            num_key_value_heads=2,
            max_position_embeddings=64,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.cls_token_id,
            eos_token_id=tokenizer.sep_token_id,
            **SMALL,
        )
        target = folder / ("chat" if template else "decoder")
        Qwen3ForCausalLM(config).eval().save_pretrained(str(target))
        tokenizer.save_pretrained(str(target))
    return target


def with_chain(folder: Path, target: Path, **settings: Any) -> Path:
    """The same model as sentence-transformers 6 saves it, with ``modules.json``."""
    with calm():
        from sentence_transformers import CrossEncoder

        model = CrossEncoder(str(folder), device="cpu", local_files_only=True, **settings)
        model.save_pretrained(str(target), create_model_card=False)
    return target


def predicted(folder: Path, pairs: Sequence[tuple[str, str]]) -> Any:
    """Raw scores float32 (n,) of ``CrossEncoder.predict``."""
    with calm():
        import numpy as np
        import torch
        from sentence_transformers import CrossEncoder

        model = CrossEncoder(str(folder), device="cpu", local_files_only=True)
        found = model.predict(
            [list(pair) for pair in pairs],
            activation_fn=torch.nn.Identity(),
            show_progress_bar=False,
        )
    return np.asarray(found, dtype=np.float32)
