"""Texts one after the other in a single row, without padding, each attending to itself alone.

Transformers looks attention functions up by name: ours is told where each text begins and hands
that to PyTorch's variable-length flash attention (elsewhere than on CUDA: a loop over the texts).
Sentence-transformers pools such rows by the same boundaries. Which models can be run so is not
guessed from their names: every model is tried on a few texts, packed and padded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import torch

    from semsearch.types import Bools, Floats, Ints

log = logging.getLogger("semsearch")

Features: TypeAlias = "dict[str, Ints | int]"
"""What a module chain is given: arrays, and plain numbers."""

_NAME = "semsearch_packed"
_PROBE_TOKENS = 640  # more than the sliding windows of known encoders hold
_CLOSE = 0.01
_ROUNDING = 1e-5


def padded_features(ids: Ints, mask: Ints) -> Features:
    """Ids and mask int64 (B, L) under the names that every model knows."""
    return {"input_ids": ids, "attention_mask": mask}


def packed_features(ids: Ints, mask: Ints, offset: int) -> Features:
    """The tokens of ids (B, L) that ``mask`` keeps, T of them, as one row.

    Positions start anew at ``offset`` for each text; boundaries are int32 (B + 1,).
    """
    lengths = mask.sum(axis=1)
    bounds = np.concatenate(([0], lengths.cumsum()))
    total, longest = int(bounds[-1]), int(lengths.max())
    positions = np.arange(offset, total + offset) - np.repeat(bounds[:-1], lengths)
    cumulative = bounds.astype(np.int32)
    return {
        "input_ids": ids[mask.astype(np.bool_)][None],
        "position_ids": positions[None],
        "seq_idx": np.repeat(np.arange(len(ids), dtype=np.int32), lengths)[None],
        "cu_seq_lens_q": cumulative,
        "cu_seq_lens_k": cumulative,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def kept_positions(keep: Bools, mask: Ints, *, packed: bool) -> Ints:
    """Where the tokens that ``keep`` (B, L) marks stand, int64 (n,), in a batch's rows joined."""
    return np.flatnonzero(keep[mask.astype(np.bool_)] if packed else keep)


def provable_offset(model: Any, longest: int, vectors: Callable[[Features], Floats]) -> int | None:
    """The position a packed text starts at, where packing gives the vectors that padding gives.

    ``model`` is a SentenceTransformer, left ready for packed rows if the answer is a number and
    as it was if it is None; ``longest`` its maximum length; ``vectors`` runs it.
    """
    try:
        transformer = model[0].auto_model
        ids, mask = _probe(transformer.config, longest)
        wanted = _unit(vectors(padded_features(ids, mask)))
        before = transformer.config._attn_implementation
        _register()
        transformer.set_attn_implementation(_NAME)
        try:
            offset = _first_position(transformer)
            found = _unit(vectors(packed_features(ids, mask, offset)))
            error = 1 - float((found * wanted).sum(axis=1).min())
            if not error <= _limit(wanted):  # NaN included
                raise ValueError(f"packing changes its vectors: a cosine is off by {error:.2g}")
        except BaseException:
            transformer.set_attn_implementation(before)
            raise
        return offset
    except Exception as exc:  # a model of another make, or a kernel that is not for it
        log.debug("this model is given padded texts: %s", str(exc).split("\n", 1)[0])
        return None


def without_packing(model: Any) -> None:
    """Make a model that was ready for packed rows ready for padded ones."""
    model[0].auto_model.set_attn_implementation("sdpa")


def _limit(rows: Floats) -> float:
    """What rounding may change in a cosine: little, and little beside what tells texts apart."""
    cosines = rows @ rows.T
    apart = 1 - float(cosines[~np.eye(len(rows), dtype=np.bool_)].max())
    return max(_ROUNDING, _CLOSE * apart)


def _first_position(transformer: Any) -> int:
    """0, or the one after the padding token's, where models of RoBERTa's kind begin."""
    for name, module in transformer.named_modules():
        if name.endswith("position_embeddings"):
            padding = getattr(module, "padding_idx", None)
            return 0 if padding is None else padding + 1
    return 0


def _probe(config: Any, longest: int) -> tuple[Ints, Ints]:
    """Ids and mask of three texts of random tokens, none of them the padding token.

    Together they are no longer than one text may be: a model that takes no positions would ask
    for some that it lacks, and that ends a CUDA process.
    """
    total = min(_PROBE_TOKENS, longest)
    short, shorter = max(1, total // 8), max(1, total // 16)
    lengths = np.array([[max(1, total - short - shorter)], [short], [shorter]])
    mask = (np.arange(lengths.max()) < lengths).astype(np.int64)
    declared = getattr(config, "pad_token_id", None)
    pad = declared if isinstance(declared, int) and declared >= 0 else 0
    ids = np.random.default_rng(0).integers(config.vocab_size - 1, size=mask.shape)
    return np.where(mask == 1, ids + (ids >= pad), pad), mask


def _unit(rows: Floats) -> Floats:
    lengths: Floats = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / lengths


def _register() -> None:
    from transformers import AttentionInterface

    # No mask function goes with it: Transformers then makes no mask of all tokens by all tokens.
    AttentionInterface.register(_NAME, _attention)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **settings: Any,
) -> tuple[torch.Tensor, None]:
    """Attention (1, T, heads, width) of query, key and value (1, heads, T, width), per text."""
    for name in ("softcap", "s_aux", "position_bias"):
        if settings.get(name) is not None:
            raise NotImplementedError(f"{name} in packed attention")
    bounds, longest = settings["cu_seq_lens_q"], settings["max_length_q"]
    queries, keys, values = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    groups = query.shape[1] // key.shape[1]
    if groups > 1:  # fewer heads for key and value
        keys, values = (rows.repeat_interleave(groups, dim=1) for rows in (keys, values))
    window, scale = _window(module, settings), settings.get("scaling")
    found: Any
    if query.is_cuda:
        from torch.nn.attention.varlen import varlen_attn

        found = varlen_attn(
            queries, keys, values, bounds, bounds, longest, longest,
            scale=scale, window_size=window,
        )  # fmt: skip
    else:
        found = _text_by_text((queries, keys, values), bounds, window, scale)
    return found[None], None


def _window(module: torch.nn.Module, settings: dict[str, Any]) -> tuple[int, int]:
    """How many tokens before and after itself a token attends to; -1 is all."""
    causal = settings.get("is_causal")
    if causal is None:
        causal = getattr(module, "is_causal", False)
    size = settings.get("sliding_window")
    side = -1 if size is None else size - 1  # as Transformers tells flash attention
    return side, 0 if causal else side


def _text_by_text(
    rows: tuple[torch.Tensor, ...],
    bounds: torch.Tensor,
    window: tuple[int, int],
    scale: float | None,
) -> torch.Tensor:
    import torch

    parts = []
    for start, stop in pairwise(bounds.tolist()):
        query, key, value = (tensor[start:stop].transpose(0, 1) for tensor in rows)
        found = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=_band(stop - start, window, query.device), scale=scale
        )
        parts.append(found.transpose(0, 1))
    return torch.cat(parts)


def _band(length: int, window: tuple[int, int], device: torch.device) -> torch.Tensor | None:
    """Which tokens (length, length) may be attended to, row by row; None for all."""
    if window == (-1, -1):
        return None
    import torch

    before, after = (length if side < 0 else side for side in window)
    place = torch.arange(length, device=device)
    distance = place[None] - place[:, None]
    return (distance >= -before) & (distance <= after)
