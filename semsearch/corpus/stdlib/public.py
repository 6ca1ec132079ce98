"""Which names a module offers to the people who import it."""

from __future__ import annotations

from semsearch.corpus.stdlib.names import SINGLETONS, Names
from semsearch.corpus.stdlib.records import Import, Module


def public_names(names: Names, module: Module) -> list[str]:
    """A module's ``__all__``, as far as it can be computed; else what is defined in it.

    Without ``__all__``, an imported name counts if it comes from a star import, from the module's
    own package, or from a private module that implements it (``_ssl`` for ``ssl``).
    """
    found = module.exports
    if found is None:
        found = [name for name in module.scope.public() if _belongs(module, name)]
        for path in SINGLETONS.get(module.name, ()):
            for cls in names.place(path):
                found = [*found, *names.all_members(cls)]
        found = [*found, *names.at_run_time(module.name).public()]
    for _, _, star in module.scope.stars:
        if module.exports is None or module.open or star.startswith(f"{module.name}."):
            found = [*found, *names.star(star)]
    return [name for name in dict.fromkeys(found) if not name.startswith("_")]


def _belongs(module: Module, name: str) -> bool:
    last = module.name.rpartition(".")[2]
    twins = {f"_{module.name}", f"_py{module.name}", f"_{last}", module.name}
    for _, _, binding in module.scope.entries[name]:
        if not isinstance(binding, Import):
            return True
        inside = binding.module.startswith(f"{module.name}.")
        private = binding.module.startswith(f"{module.name.partition('.')[0]}._")
        if binding.name and (inside or private or binding.module in twins):
            return True
    return False
