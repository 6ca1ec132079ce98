"""The peers' environments: each lies over ours, adds what a peer needs, and changes nothing in it.

``python -m benchmarks.environments`` makes them in ``.venv-bench`` from ``requirements/*.txt``. An
environment sees our own packages behind its own, so that PyTorch and the rest are the very same
files, and nothing but the peers is downloaded.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements")
_HOME = Path(__file__).resolve().parent.parent / ".venv-bench"
_OURS = "import site; site.addsitedir({!r})\n"


class NotInstalled(Exception):
    """An environment is not there, or is not the one that its requirements ask for."""


def names() -> list[str]:
    """The environments, by their files of requirements."""
    return sorted(path.stem for path in REQUIREMENTS.glob("*.txt"))


def python_of(name: str | None) -> str:
    """The interpreter of an environment; ours for None. Raises NotInstalled."""
    if name is None:
        return sys.executable
    if not _sealed(name).is_file():
        raise NotInstalled(f"not installed: python -m benchmarks.environments {name}")
    return str(_HOME / name / "bin" / "python")


def make(name: str) -> bool:
    """Make an environment anew unless it is there; whether there was anything to do.

    A package that cannot be installed is said and left out: its system then fails with a reason.
    """
    if _sealed(name).is_file():
        return False
    folder = _HOME / name
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    ours = sysconfig.get_paths()["purelib"]
    (packages,) = (folder / "lib").glob("python*/site-packages")
    (packages / "ours.pth").write_text(_OURS.format(ours), encoding="utf-8")
    if _install(python, ["-r", str(_file(name))]):  # one by one, for the sake of the others
        lines = _file(name).read_text(encoding="utf-8").splitlines()
        for wanted in (line for line in lines if line and not line.startswith("#")):
            if reason := _install(python, [wanted]):
                print(f"{wanted}: NOT installed: {reason}", file=sys.stderr)
    _sealed(name).touch()
    return True


def _install(python: Path, wanted: list[str]) -> str | None:
    """Install exactly what is named; why that failed, or None."""
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    command = [*pip, "install", "-qq", "--no-deps", "--prefer-binary", *wanted]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return (done.stderr.strip().splitlines() or ["?"])[-1] if done.returncode else None


def _file(name: str) -> Path:
    return REQUIREMENTS / f"{name}.txt"


def _sealed(name: str) -> Path:
    """A file that is there once everything is, for these requirements and this interpreter."""
    key = hashlib.sha256(f"{sys.executable}\n{_file(name).read_text('utf-8')}".encode())
    return _HOME / name / f"complete-{key.hexdigest()[:16]}"


def main() -> int:
    """Make the environments that were named, or all."""
    for name in sys.argv[1:] or names():
        print(f"  {name}: {'installed' if make(name) else 'is there'}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
