"""Compare us with other tools: ``python -m tests.interop [PYTEST ARGUMENT]...``.

MTEB, BEIR and ranx bring 600 MB that nothing else here needs, and ranx compiles itself for a minute
when it is first used. They are installed into ``.venv-interop``, an environment that lies over ours
and changes nothing in it; the tests that need them are skipped elsewhere.
"""

import hashlib
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".venv-interop"
PYTHON = HOME / "bin" / "python"
_REQUIREMENTS = ("pyproject.toml", "constraints.txt")
_OURS = "import site; site.addsitedir({!r})\n"


def make() -> None:
    """Make the environment, unless it is there for these requirements and this interpreter."""
    asked = [(ROOT / name).read_text(encoding="utf-8") for name in _REQUIREMENTS]
    key = hashlib.sha256("\n".join([sys.executable, *asked]).encode()).hexdigest()[:16]
    sealed = HOME / f"complete-{key}"
    if sealed.is_file():
        return
    print("Installing MTEB, BEIR and ranx into .venv-interop ...", file=sys.stderr)
    shutil.rmtree(HOME, ignore_errors=True)
    venv.create(HOME, symlinks=True)
    (packages,) = (HOME / "lib").glob("python*/site-packages")
    ours = sysconfig.get_paths()["purelib"]
    (packages / "ours.pth").write_text(_OURS.format(ours), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", str(PYTHON), "--disable-pip-version-check"]
    install = ["install", "-qq", "-c", "constraints.txt", "--group", "interop"]
    subprocess.run([*pip, *install], check=True, cwd=ROOT)
    sealed.touch()


def main() -> int:
    """Make the environment and run the tests in it; return pytest's exit status."""
    make()
    tests = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("tests/test_interop_*.py"))
    command = [str(PYTHON), "-m", "pytest", "-p", "no:cacheprovider", *tests, *sys.argv[1:]]
    return subprocess.run(command, check=False, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
