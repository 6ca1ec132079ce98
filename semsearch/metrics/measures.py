"""What is measured: ``ndcg@10`` as a value that parses and prints as it is typed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from semsearch.errors import UsageError

_NAMES: dict[str, tuple[str, ...]] = {
    "accuracy": ("success", "hit_rate", "top_k_accuracy", "hit"),
    "precision": ("p",),
    "recall": ("r",),
    "mrr": (),
    "ndcg": (),
    "map": (),
    "map_st": (),
}
_CANONICAL = {typed: name for name, others in _NAMES.items() for typed in (name, *others)}
_TYPED = re.compile(r"([A-Za-z_]+)@([1-9][0-9]{0,8})")


def _known() -> str:
    return ", ".join(
        f"{name}@k" + (f" ({', '.join(f'{other}@k' for other in others)})" if others else "")
        for name, others in _NAMES.items()
    )


KNOWN_MEASURES: str = _known()
"""Every name that parses, with its other names in brackets, for messages and help."""


def _unknown(text: str) -> UsageError:
    return UsageError(
        f"unknown measure {text!r}: use one of {KNOWN_MEASURES}, with k >= 1 as in ndcg@10"
    )


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure and its depth. Equal measures are equal whatever name they were typed with.

    >>> Measure.parse("hit_rate@10") == Measure.parse("accuracy@10")
    True
    >>> str(Measure.parse("nDCG@10")), Measure.parse("nDCG@10").name
    ('nDCG@10', 'ndcg')
    """

    name: str
    k: int
    typed: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        """Refuse an unknown name or depth, however the value was made."""
        if self.name not in _NAMES or self.k < 1:
            raise _unknown(f"{self.name}@{self.k}")

    @classmethod
    def parse(cls, text: str | Measure) -> Measure:
        """Read ``name@k``; letters may be of either case, ``k`` is 1 or more.

        Raises:
            UsageError: unknown name, or no depth; the message lists the known names.
        """
        if isinstance(text, Measure):
            return text
        match = _TYPED.fullmatch(text.strip())
        name = _CANONICAL.get(match[1].lower()) if match else None
        if match is None or name is None:
            raise _unknown(text)
        return cls(name, int(match[2]), match[0])

    def __str__(self) -> str:
        """The text it was parsed from, else ``name@k``."""
        return self.typed or f"{self.name}@{self.k}"


DEFAULT_MEASURES: tuple[str, ...] = (
    *(f"{name}@{k}" for name in ("accuracy", "precision", "recall") for k in (1, 3, 5, 10)),
    "mrr@10",
    "ndcg@10",
    "map@100",
    "recall@100",
)
