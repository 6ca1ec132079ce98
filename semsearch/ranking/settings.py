"""How candidates become a ranking: the numbers that ``tune`` learns and an index may hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from semsearch.errors import UsageError

FusionName = Literal["surprise", "rrf", "minmax", "zscore"]
FUSIONS: tuple[FusionName, ...] = get_args(FusionName)

MOST_CANDIDATES = 10_000

_NUMBERS: dict[Any, Callable[[str], Any]] = {"float": float, "int": int}


@dataclass(frozen=True, slots=True)
class Ranking:
    """One way from candidates to a ranking. Raises UsageError for values out of range.

    ``fusion`` is how dense and lexical scores become one, ``dense_weight`` the dense side's part
    of it, 0 to 1; ``depth`` candidates are taken from each index. The ``rerank_depth`` best are
    ordered again by the reranker ``rerank`` (``self``, ``none`` or a cross-encoder), whose score
    counts ``rerank_weight``, 0 to 1, beside the first.
    """

    fusion: FusionName = "surprise"
    dense_weight: float = 0.6
    depth: int = 100
    rerank: str = "self"
    rerank_depth: int = 50
    rerank_weight: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what cannot be meant, wherever it comes from."""
        if self.fusion not in FUSIONS:
            raise UsageError(f"unknown fusion {self.fusion!r}: choose one of {', '.join(FUSIONS)}")
        values: dict[str, Any] = asdict(self)  # read from a file they may be anything
        if not isinstance(values["rerank"], str) or not self.rerank:
            raise UsageError(f"rerank must be self, none or a cross-encoder, not {self.rerank!r}")
        for name in ("dense_weight", "rerank_weight"):
            if not 0 <= values[name] <= 1:
                raise UsageError(f"{name} must be between 0 and 1, not {values[name]}")
        for name in ("depth", "rerank_depth"):
            if not isinstance(values[name], int) or not 1 <= values[name] <= MOST_CANDIDATES:
                raise UsageError(
                    f"{name} must be a whole number between 1 and {MOST_CANDIDATES},"
                    f" not {values[name]}"
                )

    def changed(self, settings: Mapping[str, str]) -> Ranking:
        """With some settings replaced, given as text: ``{"fusion": "rrf", "depth": "200"}``.

        Raises UsageError for an unknown name or a value that is none.
        """
        kinds = {field.name: _NUMBERS.get(field.type, str) for field in fields(self)}
        values: dict[str, Any] = {}
        for name, text in settings.items():
            if name not in kinds:
                raise UsageError(f"unknown setting {name!r}: there are {', '.join(kinds)}")
            try:
                values[name] = kinds[name](text)
            except ValueError as exc:
                raise UsageError(f"{name}={text} is not a number") from exc
        return replace(self, **values)

    def to_json(self) -> str:
        """As an index holds it."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Ranking:
        """From ``to_json``. Raises UsageError for anything else."""
        try:
            return cls(**json.loads(text))
        except (TypeError, ValueError) as exc:
            raise UsageError(f"not the settings of a ranking: {text[:80]!r}") from exc


DEFAULT_RANKING = Ranking()
