"""What a set of requirements brings in, read from the installed packages' own metadata."""

from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def wanted(requirements: Iterable[str], extras: Iterable[str]) -> Iterator[Requirement]:
    """Yield the requirements that hold on this machine with these extras."""
    environments = [{"extra": extra} for extra in ("", *extras)]
    for requirement in map(Requirement, requirements):
        marker = requirement.marker
        if marker is None or any(marker.evaluate(values) for values in environments):
            yield requirement


def closure(requirements: Iterable[str], extras: Iterable[str]) -> dict[str, Distribution]:
    """Return the installed distributions that the requirements need, however indirectly.

    Raises LookupError where one is missing or of a version that a requirement does not allow.
    """
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    open_ends = list(wanted(requirements, extras))
    while open_ends:
        requirement = open_ends.pop()
        name, asked = canonicalize_name(requirement.name), frozenset(requirement.extras)
        try:
            found[name] = distribution(name)
        except PackageNotFoundError as exc:
            raise LookupError(f"{requirement} is not installed") from exc
        if not requirement.specifier.contains(found[name].version, prereleases=True):
            raise LookupError(f"{requirement} is not met by {name} {found[name].version}")
        if (name, asked) not in seen:
            seen.add((name, asked))
            open_ends += wanted(found[name].requires or [], asked)
    return found


def link(distributions: Iterable[Distribution], folder: Path) -> None:
    """Fill ``folder`` with a symbolic link to each top-level file of these distributions."""
    folder.mkdir()
    for found in distributions:
        tops = {path.parts[0] for path in found.files or [] if path.parts[0] != ".."}
        for top in tops - {"__pycache__"}:
            target, source = folder / top, Path(str(found.locate_file(top)))
            if source.exists() and not target.exists():
                target.symlink_to(source)
