"""What a process does to the world while it opens something hostile: watched from inside."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

# Runs before anything else. Events are noted, not only refused: code that swallows the refusal is
# found out. Writing is noted with the place, and code with the file that it comes from.
WATCH = """
import json, os, sys
seen = []
FORBIDDEN = ("pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn",
             "os.fork", "os.forkpty", "pty.spawn", "socket.getaddrinfo", "socket.gethostbyname",
             "socket.connect", "socket.bind", "socket.sendto")
CHANGES = {"os.remove": 0, "os.rename": 1, "os.mkdir": 0, "os.rmdir": 0, "os.link": 1,
           "os.symlink": 1, "os.truncate": 0, "os.chmod": 0}
ROOTS = [os.path.realpath(root) for root in json.loads(os.environ["WATCHED"])]
ALLOWED = [os.path.realpath(root) for root in json.loads(os.environ["ALLOWED"])] + ["/dev/null"]
def inside(path, roots, folder=-1):
    path = os.fsdecode(path)
    if isinstance(folder, int) and folder >= 0:  # what is removed with its folder is named in it
        path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
    real = os.path.realpath(path)
    return any(real == root or real.startswith(root + "/") for root in roots)
def audit(event, arguments):
    if event in FORBIDDEN:
        seen.append([event, repr(arguments)[:200]])
        if event.startswith("socket."):
            raise OSError("no network here")
    elif event == "socket.__new__" and arguments[1] in (2, 10):
        seen.append([event, repr(arguments)[:200]])
    elif event in ("exec", "compile"):
        name = arguments[0].co_filename if event == "exec" else arguments[1]
        name = os.fsdecode(name) if isinstance(name, (str, bytes)) else ""
        if os.path.isabs(name) and inside(name, ROOTS):
            seen.append([event, name])
    elif event == "open" and isinstance(arguments[0], (str, bytes)):
        flags = arguments[2] or 0
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
            if not inside(arguments[0], ALLOWED):
                seen.append(["write", os.fsdecode(arguments[0])])
    elif event in CHANGES and isinstance(arguments[CHANGES[event]], (str, bytes)):
        if not inside(arguments[CHANGES[event]], ALLOWED, arguments[-1]):
            seen.append([event, os.fsdecode(arguments[CHANGES[event]])])
sys.addaudithook(audit)
result = []
"""
REPORT = "\nprint(json.dumps({'seen': seen, 'result': result}))\n"

# Commands one after the other in one process: exit code and last line of stderr of each.
COMMANDS = """
from click.testing import CliRunner
from semsearch.cli.main import cli
for words in json.loads(os.environ["COMMANDS"]):
    done = CliRunner().invoke(cli, words)
    trace = done.exception is not None and not isinstance(done.exception, SystemExit)
    result.append([done.exit_code, done.stderr[-500:], repr(done.exception) if trace else None])
"""


def watched(
    code: str,
    watch: list[Path],
    allowed: list[Path],
    commands: list[list[str]] | None = None,
    prefix: tuple[str, ...] = (),
    **environment: str,
) -> dict[str, Any]:
    """What was seen while ``code`` ran: code from ``watch``, writing outside of ``allowed``."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "SEMSEARCH_CACHE")}
    cache = Path(kept["SEMSEARCH_CACHE"])
    places = [*allowed, cache, Path(environment.get("TMPDIR", "/tmp"))]
    values = {
        "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1",
        "SEMSEARCH_MIN_FREE": "0", "HF_HOME": str(cache / "hf"),
        "WATCHED": json.dumps([str(path) for path in watch]),
        "ALLOWED": json.dumps([str(path) for path in places]),
        "COMMANDS": json.dumps(commands or []),
    }  # fmt: skip
    command = [*prefix, sys.executable, "-P", "-W", "ignore", "-c"]
    done = subprocess.run(
        [*command, WATCH + (COMMANDS if commands else "") + code + REPORT],
        env=kept | values | environment, capture_output=True, text=True, check=False, timeout=500,
        cwd=allowed[0] if allowed and allowed[0].is_dir() else "/",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told
