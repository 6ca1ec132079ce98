"""Follow names across modules: imports, aliases, star imports, twins, bound methods, bases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from semsearch.corpus.stdlib import modules, native
from semsearch.corpus.stdlib.exports import Exports
from semsearch.corpus.stdlib.records import Alias, Binding, Import, Module, Scope, Thing
from semsearch.corpus.stdlib.source import scan

RUNTIME = ("hashlib", "re", "types")
"""Modules in Python, harmless to import, some of whose names are only made when they run."""

FACTORIES = {"_thread.allocate_lock": "_thread.LockType"}
"""Functions that stand for a class in the documentation -> that class."""

SINGLETONS = {
    "multiprocessing": ("multiprocessing.context.DefaultContext",),
    "turtle": ("turtle.RawTurtle", "turtle._Screen"),
}
"""Modules that publish the methods of one hidden object as functions -> its classes."""


@dataclass(frozen=True, slots=True)
class Instance:
    """An object of a class, made at module level: ``_inst = Random()``."""

    cls: Thing
    place: str


Target: TypeAlias = Thing | Module | Instance


class Names:
    """All modules read so far, and what each name in them stands for."""

    def __init__(self) -> None:
        self._native = native.describe([*modules.without_source(), *RUNTIME])
        self._modules: dict[str, Module | None] = {}
        self._found: dict[tuple[str, str], list[Target]] = {}
        self._active: set[tuple[str, str]] = set()
        self._cut = False

    def module(self, name: str) -> Module | None:
        """The module called ``name``, None if this Python has none."""
        if name not in self._modules:
            file = modules.source_file(name)
            if file is None:
                self._modules[name] = self._native.get(name)
            else:
                module, statements = scan(name, file, file.name == "__init__.py")
                self._modules[name] = module
                exports = Exports(lambda path: self._exports_of(module, path))
                exports.read(statements)
                module.exports, module.open = exports.names, exports.open
                for _, _, binding in module.scope.entries.get("__all__", []):
                    if isinstance(binding, Import) and module.exports is None:
                        origin = self.module(binding.module)
                        module.exports = origin.exports if origin else None
        return self._modules[name]

    def find(self, module: str, path: str) -> list[Target]:
        """What a dotted path means in a module: the thing that is bound first, then its twins."""
        key = (module, path)
        if key in self._found:
            return self._found[key]
        if key in self._active:
            self._cut = True
            return []
        self._active.add(key)
        found = list(self._find(module, path))
        self._active.discard(key)
        if not self._cut or not self._active:  # what a cycle cut short is not remembered
            self._found[key] = found
            self._cut = False
        return found

    def things(self, module: str, path: str) -> list[Thing]:
        """As ``find``, without modules and instances."""
        return [target for target in self.find(module, path) if isinstance(target, Thing)]

    def members(self, cls: Thing, name: str) -> list[Thing]:
        """A class's own member (its winner, then twins), then that of each base in turn."""
        found = self.own(cls, name)
        for base in self.bases(cls):
            found += self.members(base, name)
        return found

    def own(self, cls: Thing, name: str) -> list[Thing]:
        """A member from the class's own body."""
        found: list[Thing] = []
        for _, _, binding in _ranked((cls.scope or Scope()).entries.get(name, [])):
            if isinstance(binding, Thing):
                found.append(binding)
            elif isinstance(binding, Alias) and not binding.called:
                head = binding.path
                if head != name and "." not in head and cls.scope and head in cls.scope.entries:
                    found += self.own(cls, head)
                else:
                    found += self.things(cls.module, head)
        return found

    def bases(self, cls: Thing) -> list[Thing]:
        """The direct bases that can be found, without the class itself."""
        found: list[Thing] = []
        for path in cls.bases:
            hits = self.things(cls.module, path)
            if not hits and "." in path:
                hits = self.place(path)
            found += [hit for hit in hits[:1] if hit.kind == "class" and hit.key != cls.key]
        return found

    def doc(self, thing: Thing) -> str:
        """The docstring, that of ``thing.__doc__ = other.__doc__`` included."""
        if thing.doc or not thing.doc_from:
            return thing.doc
        return next((other.doc for other in self.things(thing.module, thing.doc_from)), "")

    def all_members(self, cls: Thing) -> Iterator[str]:
        """Public names of a class's members, bases included."""
        yield from (cls.scope or Scope()).public()
        for base in self.bases(cls):
            yield from self.all_members(base)

    def star(self, module: str) -> list[str]:
        """What ``from module import *`` brings."""
        found = self.module(module)
        if found is None:
            return []
        if found.exports is not None and not found.open:
            return found.exports
        names = [*(found.exports or found.scope.public())]
        for _, _, star in found.scope.stars:
            names += self.star(star)
        return names

    def at_run_time(self, module: str) -> Scope:
        """What a module of RUNTIME says of itself when it runs; empty for any other."""
        found = self._native.get(module) if module in RUNTIME else None
        return found.scope if found else Scope()

    def place(self, path: str) -> list[Thing]:
        """As ``things``, for an absolute dotted path such as ``turtle.RawTurtle``."""
        module, _, name = path.rpartition(".")
        return self.things(module, name)

    def _exports_of(self, module: Module, path: str) -> list[str] | None:
        for target in self.find(module.name, path):
            if isinstance(target, Module):
                return target.exports
        for star in module.scope.stars:  # asyncio: ``from .tasks import *`` binds ``tasks`` too
            if star[2] == f"{module.name}.{path}" and (found := self.module(star[2])):
                return found.exports
        return None

    def _find(self, module: str, path: str) -> Iterator[Target]:
        head, _, rest = path.partition(".")
        targets = list(self._bound(module, head))
        if not targets and not rest:
            targets = list(self._made_at_run_time(module, head))
        for target in targets:
            if not rest:
                yield self._factory(target)
            elif isinstance(target, Module):
                yield from self.find(target.name, rest)
            elif isinstance(target, Instance):
                for member in self.members(target.cls, rest)[:1]:
                    yield _bound_method(member, target, module)
            elif target.kind == "class":
                yield from self.members(target, rest)[:1]

    def _bound(self, module: str, name: str) -> Iterator[Target]:
        found = self.module(module)
        if found is None:
            return
        entries = list(found.scope.entries.get(name, []))
        entries += [
            (weak, order, Import(star, name))
            for weak, order, star in found.scope.stars
            if name in self.star(star)
        ]
        seen: set[int] = set()
        for _, _, binding in _ranked(entries):
            for target in self._resolve(found, binding, name):
                if id(target) not in seen:
                    seen.add(id(target))
                    yield target

    def _resolve(self, module: Module, binding: Binding, name: str) -> Iterator[Target]:
        if isinstance(binding, Thing):
            yield binding
        elif isinstance(binding, Import):
            if binding.name:
                yield from self.find(binding.module, binding.name)
            whole = f"{binding.module}.{binding.name}" if binding.name else binding.module
            if (target := self.module(whole)) is not None:
                yield target
        elif binding.called:
            for cls in self.things(module.name, binding.path):
                if cls.kind == "class":
                    yield Instance(cls, module.name)
        elif binding.path != name:
            found = self.find(module.name, binding.path)
            yield from found or self.things("builtins", binding.path)

    def _made_at_run_time(self, module: str, name: str) -> Iterator[Target]:
        """Names that no statement binds: singletons' methods, lazy submodules, run-time types."""
        for path in SINGLETONS.get(module, ()):
            for cls in self.place(path):
                for member in self.members(cls, name)[:1]:
                    yield _bound_method(member, Instance(cls, cls.module), module)
                    return
        for _, _, binding in self.at_run_time(module).entries.get(name, []):
            if isinstance(binding, Thing):
                yield binding
        found = self.module(module)
        if found is not None and name in (found.exports or ()):
            for submodule in modules.submodules(module):
                inner = self.module(submodule)
                if inner is not None and name in inner.scope.entries:
                    yield from self.things(submodule, name)

    def _factory(self, target: Target) -> Target:
        if isinstance(target, Thing) and target.key in FACTORIES:
            return next(iter(self.place(FACTORIES[target.key])), target)
        return target


def _ranked(entries: list[tuple[bool, int, Binding]]) -> list[tuple[bool, int, Binding]]:
    """The binding that holds in the end first: firm ones from the last, then weak ones."""
    return sorted(entries, key=lambda entry: (entry[0], -entry[1]))


def _bound_method(member: Thing, instance: Instance, module: str) -> Thing:
    """The function that ``name = instance.method`` makes: the method itself, if at home."""
    if instance.cls.module == module:
        return member
    key = f"{module}.{member.name}"
    return replace(member, key=key, kind="function" if member.kind == "method" else member.kind)
