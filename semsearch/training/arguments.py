"""The trainer's arguments of a recipe, with what this machine cannot compute put right."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from semsearch.training.recipe import Recipe, Training

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformerTrainingArguments


class Precision(NamedTuple):
    """What is computed in, and a line for each wish that the machine cannot fulfil."""

    training: Training
    notices: tuple[str, ...]


def settle_precision(training: Training, device: str) -> Precision:
    """The arguments as ``device`` (torch's type: ``cpu``, ``cuda``, ``mps``) can run them.

    fp16 without an accelerator becomes bf16 where the processor computes it, else float32; bf16
    where nothing computes it becomes float32; tf32 belongs to NVIDIA devices from Ampere on.
    """
    import torch

    notices = []
    cuda = device == "cuda"
    has_bf16 = torch.cuda.is_bf16_supported() if cuda else device == "cpu" and _cpu_has_bf16()
    if training.fp16 and not cuda:
        instead = "bf16" if has_bf16 else "float32"
        training = replace(training, fp16=False, bf16=has_bf16)
        notices.append(f"fp16 asks for an NVIDIA device and there is none: {instead} instead")
    if training.bf16 and not has_bf16:
        training = replace(training, bf16=False)
        notices.append(f"bf16 is not computed by this {device}: float32 instead")
    if training.tf32 and not (cuda and torch.cuda.get_device_capability()[0] >= 8):
        training = replace(training, tf32=False)
        notices.append("tf32 asks for an NVIDIA device from Ampere on and there is none: left out")
    return Precision(training, tuple(notices))


def _cpu_has_bf16() -> bool:
    """Whether products of bfloat16 are computed by the processor (AVX-512 BF16, AMX or ARM's)."""
    import torch

    if torch.backends.cpu.get_cpu_capability() == "SVE256":
        return True
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported")
    found = (getattr(torch.cpu, name, None) for name in checks)
    return any(check() for check in found if check is not None)


def trainer_arguments(
    recipe: Recipe, training: Training, folder: Path, device: str
) -> SentenceTransformerTrainingArguments:
    """Arguments whose checkpoints go to ``folder``; nothing is reported to any service."""
    from sentence_transformers import SentenceTransformerTrainingArguments

    given = asdict(training)
    del given["max_length"]  # the collator's
    if not training.metric_for_best_model:
        del given["metric_for_best_model"]
    if not training.tf32:
        del given["tf32"]  # False would switch off what torch has by default
    if not training.gradient_checkpointing:
        del given["gradient_checkpointing"]  # transformers is about to call it otherwise
    if not recipe.evaluation:
        given["eval_strategy"] = "no"
    if not any(e.kind == "loss" for e in recipe.evaluation) and training.load_best_model_at_end:
        given["greater_is_better"] = not training.metric_for_best_model.endswith("loss")
    for name in ("eval_steps", "save_steps", "logging_steps", "warmup_steps"):
        given[name] = int(given[name]) if given[name] >= 1 else given[name]
    return SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        seed=recipe.seed,
        use_cpu=device == "cpu",
        dataloader_pin_memory=device == "cuda",
        disable_tqdm=True,
        report_to="none",
        **given,
    )
