"""From names to documents: every public object once, under its shortest public name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from semsearch.corpus.stdlib import modules
from semsearch.corpus.stdlib.names import Names
from semsearch.corpus.stdlib.public import public_names
from semsearch.corpus.stdlib.records import Import, Module, Scope, Thing
from semsearch.corpus.stdlib.signatures import shorten
from semsearch.types import Document

USUAL = frozenset({"weakref.ref", "xml.etree.ElementTree.fromstring"})
"""Names by which everybody calls things that call themselves otherwise."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One candidate name for an object: ``twins[0]`` is what the name means when it runs."""

    path: str
    module: Module
    twins: tuple[Thing, ...]
    foreign: bool
    owner: Thing | None = None

    @property
    def rank(self) -> tuple[bool, int, int, int, str]:
        """Smallest is best: at home, few components, under its own name, short."""
        odd = 2 - (_last(self.path) == self.twins[0].name) - 2 * (self.path in USUAL)
        return (self.foreign, self.path.count("."), odd, len(self.path), self.path)


def read_stdlib() -> Iterator[Document]:
    """The public classes, functions, methods and properties of the running Python's library.

    Sources are read as syntax trees and never imported; what is written in C is described by one
    subprocess. Each object is one document, ordered by id: ``id`` the dotted name one would import
    it by, ``title`` that name and the signature, ``text`` the docstring (its own, its C or Python
    twin's or an inherited one; failing these, a method's is the first paragraph of its class's)
    and the module's summary, ``metadata`` ``module``, ``kind`` (class, function, method or
    property) and ``python`` (``"3.11"``). Left out: members of which nothing at all is said.

    Raises NotFound if the sources are missing or the subprocess fails.
    """
    names = Names()
    for _, entry in sorted(_chosen(names).items()):
        document = _document(names, entry)
        if document is not None:
            yield document


def _chosen(names: Names) -> dict[str, Entry]:
    """The best name of every object: dotted name -> entry."""
    best: dict[str, Entry] = {}  # by the object's key

    def offer(entry: Entry) -> None:
        key = entry.twins[0].key
        if key not in best or entry.rank < best[key].rank:
            best[key] = entry

    for entry in _module_level(names):
        offer(entry)
    for key in [base for entry in best.values() for base in _same_under_the_hood(names, entry)]:
        best.pop(key, None)
    public = set(best)
    for entry in list(best.values()):
        for member in _members(names, entry, public):
            offer(member)
    return {entry.path: entry for entry in sorted(best.values(), key=lambda e: e.twins[0].key)}


def _same_under_the_hood(names: Names, entry: Entry) -> Iterator[str]:
    """Private bases of the same name: ``_socket.socket`` is no class beside ``socket.socket``."""
    cls = entry.twins[0]
    for base in names.bases(cls) if cls.kind == "class" else ():
        if base.name == cls.name and base.module.startswith("_"):
            yield base.key


def _module_level(names: Names) -> Iterator[Entry]:
    for name in modules.public_modules():
        module = names.module(name)
        if module is None:
            continue
        shown = modules.RENAMED.get(name, name)
        for label in public_names(names, module):
            twins = tuple(names.things(name, label))
            if twins:
                path = f"{shown}.{label}" if shown else label
                yield Entry(path, module, twins, _foreign(module, label))


def _foreign(module: Module, label: str) -> bool:
    """Whether a name is only imported here from another public module's family."""
    for _, _, binding in module.scope.entries.get(label, [])[:1]:
        if isinstance(binding, Import):
            top = binding.module.partition(".")[0]
            return modules.is_public(binding.module) and top != module.name.partition(".")[0]
    return False


def _members(names: Names, entry: Entry, public: set[str]) -> Iterator[Entry]:
    """The public members of a class, those from its private bases included, recursively."""
    cls = entry.twins[0]
    if cls.kind != "class":
        return
    for label in dict.fromkeys(_labels(names, cls, public)):
        found = names.members(cls, label)[:1]
        for twin in entry.twins[1:]:
            found += names.members(twin, label)[:1] if twin.kind == "class" else []
        if not found or found[0].kind == "function":
            continue  # a class attribute that merely refers to a function elsewhere
        member = Entry(f"{entry.path}.{label}", entry.module, tuple(found), entry.foreign, cls)
        yield member
        yield from _members(names, member, public)


def _labels(names: Names, cls: Thing, public: set[str]) -> Iterator[str]:
    """Public names of a class's own members and of those no other public class shows."""
    yield from (cls.scope or Scope()).public()
    ancestors = list(_ancestors(names, cls))
    shown = [base for base in ancestors if base.key in public]
    claimed = {old.key for base in shown for old in [base, *_ancestors(names, base)]}
    for base in ancestors:
        if base.key not in claimed:
            yield from (base.scope or Scope()).public()


def _ancestors(names: Names, cls: Thing) -> Iterator[Thing]:
    for base in names.bases(cls):
        yield base
        yield from _ancestors(names, base)


def _document(names: Names, entry: Entry) -> Document | None:
    thing = entry.twins[0]
    doc = _doc(names, entry)
    if not doc and (entry.owner is not None or _last(entry.path) in ("main", "test")):
        return None
    signature = shorten(_signature(names, entry)) if thing.kind != "property" else ""
    kind = "function" if thing.kind == "method" and entry.owner is None else thing.kind
    module = modules.RENAMED.get(entry.module.name, entry.module.name) or "builtins"
    text = f"{doc}\n\n{entry.module.summary}".strip()
    version = ".".join(map(str, sys.version_info[:2]))
    return Document(
        id=entry.path,
        title=entry.path + signature,
        text=text,
        metadata={"module": module, "kind": kind, "python": version},
        source=entry.module.file,
        line=thing.line,
    )


def _doc(names: Names, entry: Entry) -> str:
    """The first docstring of: the thing, its twins, a class's ``__init__``, the bases.

    A method that has none at all (``argparse.ArgumentParser.parse_args``) says what its class is.
    """
    thing, owner = entry.twins[0], entry.owner
    docs = [names.doc(twin) for twin in entry.twins]
    if thing.kind == "class":
        docs += [init.doc for twin in entry.twins for init in names.own(twin, "__init__")]
        docs += [base.doc for base in names.bases(thing) if _private(base)]
    elif owner is not None:
        docs += [names.doc(found) for found in names.members(owner, _last(entry.path))]
        if thing.kind == "method":
            docs.append(names.doc(owner).partition("\n\n")[0])
    return next(filter(None, docs), "")


def _private(base: Thing) -> bool:
    return not modules.is_public(base.module)


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _signature(names: Names, entry: Entry) -> str:
    for twin in entry.twins:
        if twin.signature:
            return twin.signature
        if twin.kind == "class":
            for maker in ("__init__", "__new__"):
                for made in names.members(twin, maker)[:1]:
                    if made.signature:
                        return made.signature
    return ""
