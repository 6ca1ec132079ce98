"""Models made from nothing: a transformer of some architecture and sizes, its tokenizer trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semsearch.errors import UsageError
from semsearch.training.recipe import Scratch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

_BERT_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ROBERTA_TOKENS = ("<pad>", "<unk>", "<s>", "</s>", "<mask>")
_TOKENS = {
    "bert": _BERT_TOKENS,
    "deberta-v2": _BERT_TOKENS,
    "mpnet": _ROBERTA_TOKENS,
    "xlm-roberta": _ROBERTA_TOKENS,
}
"""Padding, unknown, first, last and mask token of each architecture."""

_OFFSET = 2
"""Positions of MPNet and XLM-R begin behind that of padding."""


def build_scratch(scratch: Scratch, texts: Iterable[str], length: int, folder: Path) -> None:
    """Save a random transformer that reads ``length`` tokens, and its tokenizer, into ``folder``.

    Its weights are drawn from torch's global generator: seed it before. Raises UsageError when the
    texts are too few to train a tokenizer on.
    """
    tokenizer = train_tokenizer(scratch, texts)
    tokenizer.model_max_length = length
    model = _MAKERS[scratch.architecture](scratch, tokenizer, length)
    model.eval().save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


def train_tokenizer(scratch: Scratch, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of at most ``scratch.vocabulary`` tokens, trained on the texts.

    WordPiece as BERT has it, or Unigram as SentencePiece, XLM-R and DeBERTa-v3 have it. Raises
    UsageError.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    special = list(_TOKENS[scratch.architecture])
    trainer: Any
    if scratch.tokenizer == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token=special[1]))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=scratch.lower_case)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(
            vocab_size=scratch.vocabulary, special_tokens=special, show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.Unigram())
        steps = [normalizers.NFKC()]
        tokenizer.normalizer = normalizers.Sequence(
            [*steps, normalizers.Lowercase()] if scratch.lower_case else steps
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=scratch.vocabulary,
            special_tokens=special,
            unk_token=special[1],
            show_progress=False,
        )
    try:
        tokenizer.train_from_iterator(texts, trainer)
    except Exception as exc:  # of the Rust library, which has no kind of its own
        raise UsageError(
            f"[model.scratch]: no tokenizer can be trained on these rows: {exc}"
        ) from exc
    return _wrapped(tokenizer, special)


def _wrapped(tokenizer: Any, special: list[str]) -> PreTrainedTokenizerFast:
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    pad, unknown, first, last, mask = special
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B:1 {last}:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (first, last)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        unk_token=unknown,
        cls_token=first,
        sep_token=last,
        mask_token=mask,
        model_input_names=["input_ids", "attention_mask"],
    )


def _sizes(scratch: Scratch, tokenizer: Any, positions: int) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": scratch.hidden_size,
        "num_hidden_layers": scratch.layers,
        "num_attention_heads": scratch.heads,
        "intermediate_size": scratch.intermediate_size,
        "max_position_embeddings": positions,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _bert(scratch: Scratch, tokenizer: Any, length: int) -> PreTrainedModel:
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig(**_sizes(scratch, tokenizer, length)))


def _mpnet(scratch: Scratch, tokenizer: Any, length: int) -> PreTrainedModel:
    from transformers import MPNetConfig, MPNetModel

    sizes = _sizes(scratch, tokenizer, length + _OFFSET)
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    return MPNetModel(MPNetConfig(bos_token_id=first, eos_token_id=last, **sizes))


def _xlm_roberta(scratch: Scratch, tokenizer: Any, length: int) -> PreTrainedModel:
    from transformers import XLMRobertaConfig, XLMRobertaModel

    sizes = _sizes(scratch, tokenizer, length + _OFFSET)
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    return XLMRobertaModel(XLMRobertaConfig(bos_token_id=first, eos_token_id=last, **sizes))


def _deberta(scratch: Scratch, tokenizer: Any, length: int) -> PreTrainedModel:
    """As DeBERTa-v3: relative positions in 256 buckets, none added to the words."""
    from transformers import DebertaV2Config, DebertaV2Model

    return DebertaV2Model(
        DebertaV2Config(
            relative_attention=True,
            position_buckets=256,
            norm_rel_ebd="layer_norm",
            share_att_key=True,
            pos_att_type=["p2c", "c2p"],
            position_biased_input=False,
            type_vocab_size=0,
            **_sizes(scratch, tokenizer, length),
        )
    )


_MAKERS: dict[str, Callable[[Scratch, Any, int], PreTrainedModel]] = {
    "bert": _bert,
    "mpnet": _mpnet,
    "deberta-v2": _deberta,
    "xlm-roberta": _xlm_roberta,
}
