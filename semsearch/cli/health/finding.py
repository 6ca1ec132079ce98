"""One thing that was looked at, and how it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from semsearch.errors import SemsearchError

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """``advice`` says what to do; a problem always has one."""

    topic: str
    name: str
    value: str
    level: Level = "ok"
    advice: str = ""


Findings = Iterator[Finding]


def careful(topic: str, look: Callable[[], Findings]) -> Findings:
    """What ``look`` finds; where it fails, that is a finding, and the doctor goes on.

    A machine is looked at because something is wrong with it, so any error may come.
    """
    try:
        yield from look()
    except SemsearchError as exc:
        what, _, advice = str(exc).rpartition(": ")
        yield Finding(topic, "found", what or advice, "problem", advice)
    except Exception as exc:  # noqa: BLE001 - see above
        said = " ".join(str(exc).split())[:200]
        yield Finding(
            topic, "looking at it", f"failed: {type(exc).__name__}: {said}", "problem",
            "mend what it names, or install semsearch again",
        )  # fmt: skip
