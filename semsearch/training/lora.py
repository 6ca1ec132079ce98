"""Low-rank adapters (LoRA, Hu et al. 2021): train few weights, then add them to the model's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from semsearch.errors import MissingExtra, UsageError
from semsearch.training.recipe import SCRATCH, Recipe

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def add_lora(recipe: Recipe, model: SentenceTransformer) -> None:
    """Freeze the transformer and put the recipe's adapters into it, if it asks for any.

    Modules behind the transformer are trained whole. Raises MissingExtra without peft, UsageError
    for modules that the model does not have, and for a base made from nothing.
    """
    if recipe.lora is None:
        return
    if recipe.model.base == SCRATCH:
        raise UsageError("[lora] adapts a trained base: leave it out with base = 'scratch'")
    try:
        from peft import LoraConfig, TaskType
    except ImportError as exc:
        raise MissingExtra("peft", "lora", "training with [lora]") from exc
    wanted = recipe.lora
    config = LoraConfig(
        task_type=TaskType.FEATURE_EXTRACTION,
        r=wanted.r,
        lora_alpha=wanted.alpha,
        lora_dropout=wanted.dropout,
        target_modules=list(wanted.target_modules) or None,
    )
    try:
        model.add_adapter(config)
    except ValueError as exc:
        told = str(exc).splitlines()[0]
        raise UsageError(f"lora.target_modules: the model cannot be adapted so: {told}") from exc


def merge_lora(model: SentenceTransformer) -> None:
    """Add the adapters, if there are any, to the weights that they adapt: a plain model is left."""
    transformer = model[0].auto_model
    if not getattr(transformer, "_hf_peft_config_loaded", False):
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(transformer.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            parent, _, last = name.rpartition(".")
            setattr(transformer.get_submodule(parent), last, module.get_base_layer())
    del transformer.peft_config
    transformer._hf_peft_config_loaded = False
    model.requires_grad_(True)
