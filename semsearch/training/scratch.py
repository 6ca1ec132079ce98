"""Models made from nothing: a transformer of some architecture and sizes, its tokenizer trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
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

_APART = 1e-4
"""How far the library puts the scores of characters apart that no piece needs."""

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

    WordPiece as BERT has it, or Unigram as SentencePiece, XLM-R and DeBERTa-v3 have it. The same
    texts give the same tokenizer. Raises UsageError.
    """
    from tokenizers import Tokenizer

    special, texts = list(_TOKENS[scratch.architecture]), list(texts)
    untrained = _untrained(scratch, special)
    trainer = _trainer(scratch, special, _continuing(untrained, scratch, texts))
    try:
        untrained.train_from_iterator(texts, trainer)
    except Exception as exc:  # of the Rust library, which has no kind of its own
        raise UsageError(
            f"[model.scratch]: no tokenizer can be trained on these rows: {exc}"
        ) from exc
    tokenizer = Tokenizer(_in_order(untrained, special))
    tokenizer.normalizer = untrained.normalizer
    tokenizer.pre_tokenizer = untrained.pre_tokenizer
    return _wrapped(tokenizer, special)


def _untrained(scratch: Scratch, special: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    if scratch.tokenizer == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token=special[1]))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=scratch.lower_case)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        return tokenizer
    tokenizer = Tokenizer(models.Unigram())
    steps = [normalizers.NFKC()]
    tokenizer.normalizer = normalizers.Sequence(
        [*steps, normalizers.Lowercase()] if scratch.lower_case else steps
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


def _trainer(scratch: Scratch, special: Sequence[str], continuing: Sequence[str]) -> Any:
    from tokenizers import trainers

    size = scratch.vocabulary
    if scratch.tokenizer == "wordpiece":
        return trainers.WordPieceTrainer(
            vocab_size=size, special_tokens=[*special, *continuing], show_progress=False
        )
    return trainers.UnigramTrainer(
        vocab_size=size, special_tokens=list(special), unk_token=special[1], show_progress=False
    )


def _continuing(tokenizer: Any, scratch: Scratch, texts: Iterable[str]) -> list[str]:
    """Characters inside of words, as WordPiece writes them, in their order.

    The library numbers them by the order of a hash table, another in each process, and breaks ties
    between words by those numbers: given as tokens that are known, they are numbered by us.
    """
    if scratch.tokenizer != "wordpiece":
        return []
    inside: set[str] = set()
    for text in texts:
        normal = tokenizer.normalizer.normalize_str(text)
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal):
            inside.update(word[1:])
    return [f"##{letter}" for letter in sorted(inside)]


def _in_order(tokenizer: Any, special: Sequence[str]) -> Any:
    """What was trained, with numbers that are the same each time."""
    from tokenizers import models

    trained = json.loads(tokenizer.to_str())["model"]
    if trained["type"] == "WordPiece":
        return models.WordPiece(trained["vocab"], unk_token=special[1])
    # Sums over a hash table differ in their last digits, and characters that no piece needs are
    # given scores of their own in its order, just above the lowest.
    scores = {piece: round(score, 6) for piece, score in trained["vocab"] if piece not in special}
    least = min(scores.values(), default=0.0) + _APART * len(scores)
    rare = sorted(piece for piece, score in scores.items() if len(piece) == 1 and score <= least)
    scores.update(zip(rare, sorted(scores[piece] for piece in rare), strict=True))
    rest = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    pieces = [*((piece, 0.0) for piece in special), *rest]
    return models.Unigram(pieces, unk_id=1)


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
        "initializer_range": scratch.initializer_range,
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
