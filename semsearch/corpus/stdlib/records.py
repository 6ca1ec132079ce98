"""What is known of a module without running it: scopes, bindings and the things they name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["function", "class", "method", "property"]


@dataclass(slots=True)
class Thing:
    """A function, class, method or property as it is defined in one place.

    ``key`` is the dotted place of definition (its identity), ``signature`` is ``(a, b=1)`` without
    ``self`` or empty, ``doc`` the cleaned docstring or empty, ``doc_from`` whose it takes over
    (``thing.__doc__ = other.__doc__``). A class has a ``scope`` and
    ``bases`` (dotted expressions, to be looked up in ``module``).
    """

    key: str
    kind: Kind
    module: str
    signature: str = ""
    doc: str = ""
    line: int = 0
    scope: Scope | None = None
    bases: tuple[str, ...] = ()
    doc_from: str = ""

    @property
    def name(self) -> str:
        """The last component of the place of definition."""
        return self.key.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Import:
    """``import module as x`` (no ``name``) or ``from module import name as x``."""

    module: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Alias:
    """``x = path``, or with ``called`` ``x = path(...)``: an instance, if path is a class."""

    path: str
    called: bool = False


Binding: TypeAlias = Thing | Import | Alias


@dataclass(slots=True)
class Scope:
    """The names bound in a module's or class's body, in the order of its statements.

    A *weak* binding stands in an ``except`` clause: it counts only where the others fail.
    """

    entries: dict[str, list[tuple[bool, int, Binding]]] = field(default_factory=dict)
    stars: list[tuple[bool, int, str]] = field(default_factory=list)
    count: int = 0

    def bind(self, name: str, binding: Binding, weak: bool = False) -> None:
        """Add one binding of ``name``."""
        self.count += 1
        self.entries.setdefault(name, []).append((weak, self.count, binding))

    def star(self, module: str, weak: bool = False) -> None:
        """Add ``from module import *``."""
        self.count += 1
        self.stars.append((weak, self.count, module))

    def public(self) -> Iterator[str]:
        """The names bound here that have no leading underscore, in order of first binding."""
        return (name for name in self.entries if not name.startswith("_"))


@dataclass(slots=True)
class Module:
    """One module, read from its source or described by a subprocess.

    ``exports`` is ``__all__`` as far as it can be computed (None: there is none), ``open`` says
    that parts of it could not be.
    """

    name: str
    summary: str
    scope: Scope
    package: bool = False
    exports: list[str] | None = None
    open: bool = False
    file: str = ""
