"""What a recipe can say: the settings of a training run, with their defaults.

A recipe is a TOML file; ``recipe_file`` reads and writes it. Names of trainer arguments are those
of ``SentenceTransformerTrainingArguments``, so that published hyperparameters can be copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Sampler: TypeAlias = Literal["batch_sampler", "no_duplicates", "group_by_label"]
SeveralSampler: TypeAlias = Literal["proportional", "round_robin"]
LossName: TypeAlias = Literal[
    "MultipleNegativesRankingLoss",
    "CachedMultipleNegativesRankingLoss",
    "CoSENTLoss",
    "TripletLoss",
]
EvaluationKind: TypeAlias = Literal["retrieval", "similarity", "classification", "triplets", "loss"]
When: TypeAlias = Literal["no", "steps", "epoch"]

SCRATCH = "scratch"
"""The base that is built anew as ``[model.scratch]`` describes it."""


@dataclass(frozen=True, slots=True)
class Scratch:
    """A model made from nothing: sizes, and a tokenizer trained on the recipe's own texts.

    ``hidden_size``, ``layers``, ``heads`` and ``intermediate_size`` are those of the transformer,
    ``vocabulary`` the most tokens that the tokenizer gets, ``initializer_range`` the deviation of
    the weights that are drawn. With CLS pooling 0.05 learns where 0.02 does not: what attention
    adds to the first token is too little otherwise.
    """

    architecture: Literal["bert", "mpnet", "deberta-v2", "xlm-roberta"] = "bert"
    hidden_size: int = 256
    layers: int = 4
    heads: int = 4
    intermediate_size: int = 1024
    vocabulary: int = 8_000
    initializer_range: float = 0.02
    tokenizer: Literal["wordpiece", "unigram"] = "wordpiece"
    lower_case: bool = True


@dataclass(frozen=True, slots=True)
class Model:
    """What training starts from.

    ``base`` is a sentence-transformers model, whose own modules are kept, or a plain transformer or
    ``scratch``, which get ``pooling``, a ``dense`` layer of that width if it is not 0, and
    ``normalize``. ``max_length`` counts tokens; 0 is the base's own. ``rotate`` puts an orthogonal
    layer behind the pooling that turns the vectors onto the principal axes of the training texts
    and is trained with the rest: whole vectors compare as before, and their first components hold
    most.
    """

    base: str = "sentence-transformers/all-MiniLM-L6-v2"
    max_length: int = 0
    pooling: Literal["mean", "cls", "max", "lasttoken"] = "mean"
    dense: int = 0
    normalize: bool = False
    rotate: bool = False
    language: str = ""
    license: str = ""
    scratch: Scratch | None = None


@dataclass(frozen=True, slots=True)
class Data:
    """Rows to train on.

    ``path`` is a file of rows (JSONL, CSV, TSV, Parquet; gzip or not), or a BEIR folder, whose
    judgements of ``split`` give one row for each relevant document. ``columns`` maps the names of
    texts as they are trained on to those in the file, in the order anchor, positive, negatives;
    without it the usual names are looked for. ``label`` is the column that holds a number, or a
    number that every row gets. ``rows`` is a slice such as ``:1000`` or ``-500:``.
    """

    path: str
    name: str = ""
    split: str = "train"
    columns: Mapping[str, str] = field(default_factory=dict)
    label: str | float | None = None
    rows: str = ""


@dataclass(frozen=True, slots=True)
class Matryoshka:
    """Train the first ``dims`` components of the vectors too, each loss times its weight.

    Without ``weights`` all are 1. ``n_dims_per_step`` widths are drawn for each step, -1: all.
    """

    dims: tuple[int, ...]
    weights: tuple[float, ...] = ()
    n_dims_per_step: int = -1


@dataclass(frozen=True, slots=True)
class Loss:
    """What is minimised. ``mini_batch_size`` belongs to the cached loss, ``margin`` to triplets."""

    name: LossName = "MultipleNegativesRankingLoss"
    scale: float = 20.0
    symmetric: bool = False
    gather_across_devices: bool = False
    mini_batch_size: int = 32
    margin: float = 0.5
    matryoshka: Matryoshka | None = None


@dataclass(frozen=True, slots=True)
class Lora:
    """Train low-rank adapters (LoRA) of these modules only; they are merged into the model after.

    Without ``target_modules`` they are the ones that peft knows for the architecture.
    """

    r: int = 16
    alpha: int = 32
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Training:
    """Arguments of the trainer, by their names there.

    ``eval_steps``, ``save_steps``, ``logging_steps`` and ``warmup_steps`` below 1 are shares of all
    steps. ``metric_for_best_model`` names what the kept checkpoint is best at. ``max_length`` cuts
    texts at so many tokens while it trains, which is faster; measured and saved it is with the
    model's own length. 0: the same.
    """

    max_length: int = 0

    num_train_epochs: float = 1.0
    max_steps: int = -1
    per_device_train_batch_size: int = 32
    per_device_eval_batch_size: int = 32
    gradient_accumulation_steps: int = 1
    learning_rate: float = 2e-5
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "linear"
    warmup_steps: float = 0.1
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    optim: Literal["adamw_torch", "adamw_torch_fused"] = "adamw_torch_fused"
    fp16: bool = False
    bf16: bool = False
    tf32: bool = False
    gradient_checkpointing: bool = False
    batch_sampler: Sampler = "no_duplicates"
    multi_dataset_batch_sampler: SeveralSampler = "proportional"
    eval_strategy: When = "epoch"
    eval_steps: float = 0.1
    save_strategy: When = "epoch"
    save_steps: float = 0.1
    save_total_limit: int = 2
    logging_steps: float = 0.02
    load_best_model_at_end: bool = False
    metric_for_best_model: str = ""
    dataloader_num_workers: int = 0
    full_determinism: bool = False


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is measured while it trains, before and after.

    ``retrieval``: a BEIR folder with its ``split``, or rows whose anchors are the queries and whose
    positives are the corpus; ``corpus_size`` keeps the relevant documents and so many others.
    ``similarity``: pairs with a score. ``classification``: pairs with 0 or 1. ``triplets``.
    ``loss``: the loss on rows. ``unseen`` leaves out what is trained on. Matryoshka widths are all
    measured, from one encoding. ``similarities`` are the ways to compare (cosine, dot, euclidean,
    manhattan).
    """

    kind: EvaluationKind
    path: str
    name: str = ""
    split: str = "dev"
    columns: Mapping[str, str] = field(default_factory=dict)
    label: str | float | None = None
    rows: str = ""
    corpus_size: int = 0
    unseen: bool = False
    similarities: tuple[Literal["cosine", "dot", "euclidean", "manhattan"], ...] = ("cosine",)


@dataclass(frozen=True, slots=True)
class Judgement:
    """Labelled queries (a BEIR folder) on which the result is compared with its base."""

    path: str
    split: str = "test"
    measure: str = "ndcg@10"


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole training run. ``sample`` trains on so many rows of each data set; 0: on all."""

    data: tuple[Data, ...]
    name: str = ""
    seed: int = 42
    sample: int = 0
    model: Model = field(default_factory=Model)
    loss: Loss = field(default_factory=Loss)
    lora: Lora | None = None
    training: Training = field(default_factory=Training)
    evaluation: tuple[Evaluation, ...] = ()
    verdict: Judgement | None = None
