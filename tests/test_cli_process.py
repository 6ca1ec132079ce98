"""The command line as a process: signals, pipes, terminals, full and read-only disks."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from semsearch.search.options import Options
from semsearch.types import Document
from tests.fakes import FakeEncoder, contents, dump, index_into, make_documents, searching

ROOT = Path(__file__).parents[1]

# The command with an encoder that needs no model. $WAIT_AT names a batch before which it waits for
# the file $WAITING.go (a minute at most), after it has made the file $WAITING.
SCRIPT = """
import os, time
from pathlib import Path
import semsearch.encoders, semsearch.indexing.source
from semsearch.types import Document
from tests.fakes import FakeEncoder

def wait(batch):
    if batch == int(os.environ.get("WAIT_AT", 0)):
        Path(os.environ["WAITING"]).touch()
        for _ in range(3000):
            if Path(os.environ["WAITING"] + ".go").exists():
                return
            time.sleep(0.02)

semsearch.indexing.source.WINDOW_DOCUMENTS = 20
encoder = FakeEncoder(before_batch=wait)
semsearch.encoders.open_encoder = lambda *_, **__: encoder
from semsearch.cli.main import main
main()
"""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "made.idx"


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.jsonl"
    write(path, make_documents(100))
    return path


def write(path, documents):
    records = [{"_id": d.id, "title": d.title, "text": d.text, **d.metadata} for d in documents]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def environment(**more):
    values = {
        "PATH", "HOME", "TMPDIR", "SEMSEARCH_CACHE", "SEMSEARCH_MIN_FREE", "LANG",
    } & os.environ.keys()  # fmt: skip
    kept = {name: os.environ[name] for name in values}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "TERM": "xterm"} | more


def start(*arguments, env=None, **options):
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        command, env=environment(**(env or {})), preexec_fn=_heed_ctrl_c, **streams | options
    )


def _heed_ctrl_c():
    """A test run that was started in the background passes on that SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(*arguments, stdin=None, env=None, **options):
    if stdin is not None:
        options["stdin"] = subprocess.PIPE
    process = start(*arguments, env=env, **options)
    out, err = process.communicate(stdin, timeout=60)
    return process.returncode, (out or b"").decode(), (err or b"").decode()


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_lets_the_window_under_way_finish(folder, corpus, tmp_path, number, code):
    waiting = tmp_path / "waiting"
    env = {"WAIT_AT": "5", "WAITING": str(waiting)}  # two batches a window: the third window
    process = start("index", corpus, "-i", folder, env=env)
    wait_for(waiting, process)
    time.sleep(2)  # until the next window is read: it must not be begun
    process.send_signal(number)
    time.sleep(0.5)
    assert process.poll() is None, "the window under way is finished first"
    waiting.with_name("waiting.go").touch()
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (code, b"")
    assert err.decode().strip() == "stopped: what was committed is safe; run again to go on"
    documents = make_documents(100)
    assert list(contents(folder)) == [d.id for d in documents[:60]]
    hits = searching(folder, FakeEncoder()).search(documents[33].content, 1, Options("dense"))
    assert hits[0].id == "d0033"
    code, out, err = run("index", corpus, "-i", folder, "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert (facts["new"], facts["unchanged"], facts["encoded"]) == (40, 60, 40)
    whole = folder.with_name("whole.idx")
    index_into(whole, FakeEncoder(), documents, str(corpus))
    assert dump(folder) == dump(whole)


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_stops_at_once(folder, corpus, tmp_path, second):
    waiting = tmp_path / "waiting"
    process = start("index", corpus, "-i", folder, env={"WAIT_AT": "5", "WAITING": str(waiting)})
    wait_for(waiting, process)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(second)
    assert process.communicate(timeout=10) == (b"", b"")
    assert process.returncode == -second
    assert len(contents(folder)) == 40
    code, out, _ = run("index", corpus, "-i", folder, "--json")
    assert (code, json.loads(out)["documents"]) == (0, 100)


def test_a_stream_that_waits_is_left_at_once(folder):
    process = start("index", "-", "-i", folder, stdin=subprocess.PIPE)
    for document in make_documents(70):
        process.stdin.write(json.dumps({"_id": document.id, "text": document.text}).encode())
        process.stdin.write(b"\n")
    process.stdin.flush()  # and it stays open: three windows, and the beginning of a fourth
    for _ in range(500):
        if (folder / "catalog.db").exists() and len(contents(folder)) >= 40:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 143
    assert len(contents(folder)) == 60, "what was encoded by then is committed"
    process.communicate()


@pytest.mark.parametrize("command", ["compact", "check", "export"])
def test_a_signal_ends_other_commands_in_one_line(folder, command):
    documents = make_documents(200)
    index_into(folder, FakeEncoder(), documents)
    before = dump(folder)
    script = (
        "import os, signal, time\n"
        "from semsearch.collection import check, maintain, reader\n"
        "def stop(*_):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(10)\n"
        "maintain._blocks = stop\n"
        "check.check_index = stop\n"
        "reader.Reader._page = stop\n"
        "from semsearch.cli.main import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, command, "-i", str(folder)],
        env=environment(), capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (143, b""), done.stderr
    told = b"stopped: what was committed is safe; run again to go on"
    assert done.stderr.strip() == told
    assert dump(folder) == before


def test_a_killed_run_blocks_nobody(folder, corpus, tmp_path):
    waiting = tmp_path / "waiting"
    process = start("index", corpus, "-i", folder, env={"WAIT_AT": "3", "WAITING": str(waiting)})
    while not waiting.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    code, out, err = run("index", corpus, "-i", folder)
    assert (code, out) == (1, "")
    assert err == (
        f"Error: {folder}: another process (pid {process.pid}) is writing to this index: wait for"
        " it to finish, then run again\n"
    )
    process.kill()
    process.communicate()
    code, out, _ = run("index", corpus, "-i", folder, "--json")
    assert code == 0
    assert json.loads(out)["unchanged"] == 20


def test_a_reader_that_stops_early_ends_the_export_quietly(folder):
    index_into(folder, FakeEncoder(), make_documents(2000, words=30))
    process = start("export", "-i", folder)
    assert process.stdout is not None
    first = process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    assert json.loads(first)["_id"] == "d0000"
    assert process.wait(30) == -signal.SIGPIPE
    assert err == b""


def test_output_that_cannot_be_written(folder):
    index_into(folder, FakeEncoder(), make_documents(5))
    with open("/dev/full", "wb") as full:
        code, _, err = run("export", "-i", folder, stdout=full)
    assert code == 1
    assert err == "Error: standard output: No space left on device\n"


def test_a_query_from_a_pipe_may_hold_any_bytes(folder):
    index_into(folder, FakeEncoder(), make_documents(5))
    code, out, err = run("query", "-", "-i", folder, "--json", stdin=b"caf\xe9 \x00 bal")
    assert (code, err) == (0, "")
    assert len(json.loads(out)) == 5


def test_bytes_that_are_no_text_can_be_arguments(folder):
    index_into(folder, FakeEncoder(), make_documents(5))
    command: list[str | bytes]
    command = [sys.executable, "-c", SCRIPT, "query", b"caf\xe9", "-i", str(folder), "--json"]
    done = subprocess.run(command, env=environment(), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(json.loads(done.stdout)) == 5


def test_programs_get_utf8_whatever_the_locale(folder):
    index_into(folder, FakeEncoder(), [Document("ü", "bal 日本語")])
    for arguments in (["query", "bal"], ["query", "bal", "--json"], ["export"]):
        process = start(*arguments, "-i", folder, env={"PYTHONIOENCODING": "latin-1"})
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, b"")
        assert "bal 日本語" in out.decode("utf-8")
        assert "ü" in out.decode("utf-8")


# Terminals


@contextmanager
def terminal():
    """A pseudo-terminal: its slave end, and a function that reads what was written to it."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))

    def read(process):
        os.close(slave)
        shown = b""
        while select.select([master], [], [], 60)[0]:
            try:
                block = os.read(master, 65536)
            except OSError:  # Linux says so when the last writer has gone
                break
            if not block:
                break
            shown += block
        process.wait(60)
        return shown.decode()

    try:
        yield slave, read
    finally:
        os.close(master)


def test_progress_is_shown_on_a_terminal_only(folder, corpus):
    with terminal() as (slave, read):
        process = start("index", corpus, "-i", folder, stderr=slave)
        shown = read(process)
        out = process.stdout.read().decode()
        process.stdout.close()
    assert process.returncode == 0
    assert "indexing:" in shown
    assert "/100 [" in shown, "the ETA counts lines of the file"
    assert out.startswith(f"{folder}: 100 new")
    code, quiet, err = run("index", corpus, "-i", folder.with_name("other.idx"))
    assert (code, err) == (0, "")
    assert quiet.count("\n") == 2


NOTING = """
import logging
from semsearch.cli.output import progress_bar, set_up_logging
set_up_logging()
with progress_bar(10, "indexing", "docs") as advance:
    logging.getLogger("semsearch").info("converting it (once)")
    advance(10)
"""


def test_a_note_has_a_line_of_its_own_above_the_progress():
    command = [sys.executable, "-c", NOTING]
    with terminal() as (slave, read):
        shown = read(subprocess.Popen(command, env=environment(), stderr=slave))
    above, below = re.split(r"\r +\rnote: converting it \(once\)\r\n", shown)
    assert "indexing:" in above
    assert "indexing:" in below
    done = subprocess.run(command, env=environment(), capture_output=True, check=True)
    assert done.stderr == b"", "only people are told"


GOING_ON = """
import sys, time
from pathlib import Path
from semsearch.cli.output import progress_bar
with progress_bar(1000, "indexing", "docs") as advance:
    for step in range(1000):
        advance(1)
        if step == 500:
            Path(sys.argv[1]).touch()
            while not Path(sys.argv[1] + ".go").exists():
                time.sleep(0.01)
        time.sleep(0.001)
"""


def lines_shown(shown):
    """What was written from one carriage return to the next."""
    return [part for part in re.split(r"[\r\n]+", shown) if part.strip()]


def test_progress_survives_that_the_terminal_is_resized(tmp_path):
    waiting = tmp_path / "waiting"
    command = [sys.executable, "-c", GOING_ON, str(waiting)]
    with terminal() as (slave, read):
        termios.tcsetwinsize(slave, (24, 100))
        process = subprocess.Popen(command, env=environment(), stderr=slave)
        wait_for(waiting, process)
        termios.tcsetwinsize(slave, (24, 40))
        process.send_signal(signal.SIGWINCH)
        waiting.with_name("waiting.go").touch()
        shown = read(process)
    assert process.returncode == 0
    before, after = lines_shown(shown)[0], lines_shown(shown)[-1]
    assert 80 < len(before) <= 100
    assert "1000" in shown
    assert len(after) <= 40
    assert "Traceback" not in shown


@pytest.mark.parametrize("colour", [True, False])
def test_progress_on_a_narrow_terminal_stays_in_its_line(tmp_path, colour):
    waiting = tmp_path / "waiting"
    waiting.with_name("waiting.go").touch()
    env = environment() if colour else environment(NO_COLOR="1")
    with terminal() as (slave, read):
        termios.tcsetwinsize(slave, (24, 20))
        command = [sys.executable, "-c", GOING_ON, str(waiting)]
        process = subprocess.Popen(command, env=env, stderr=slave)
        shown = read(process)
    assert process.returncode == 0
    assert "indexing" in shown
    assert max(map(len, lines_shown(shown))) <= 20
    assert "\x1b[3" not in shown, "no colours"
    assert shown.count("\n") == 0


def test_progress_in_a_pipe_is_nothing(tmp_path):
    waiting = tmp_path / "waiting"
    waiting.with_name("waiting.go").touch()
    done = subprocess.run(
        [sys.executable, "-c", GOING_ON, str(waiting)],
        env=environment(), capture_output=True, check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (b"", b"")


def test_a_signal_on_a_terminal_says_what_is_awaited(folder, corpus, tmp_path):
    waiting = tmp_path / "waiting"
    env = {"WAIT_AT": "3", "WAITING": str(waiting)}
    with terminal() as (slave, read):
        process = start("index", corpus, "-i", folder, stderr=slave, env=env)
        wait_for(waiting, process)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        waiting.with_name("waiting.go").touch()
        shown = read(process)
        process.stdout.close()
    assert process.returncode == 130
    assert "stopping after the batch under way; once more to stop at once" in shown
    assert lines_shown(shown)[-1] == "stopped: what was committed is safe; run again to go on"


@pytest.mark.parametrize("colour", [True, False])
def test_hits_are_bold_on_a_terminal_unless_no_color(folder, colour):
    index_into(folder, FakeEncoder(), make_documents(3))
    env = {"COLUMNS": "80"} if colour else {"COLUMNS": "80", "NO_COLOR": "1"}
    with terminal() as (slave, read):
        process = start("query", "title 1", "-i", folder, stdout=slave, env=env)
        shown = read(process)
        assert process.stderr is not None
        assert process.stderr.read() == b""
        process.stderr.close()
    assert process.returncode == 0
    assert "title 1" in shown
    assert ("\x1b[1m" in shown) == colour


# Disks


@contextmanager
def mounted(folder, *options):
    """A file system of its own, where this process may mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("THIS PROCESS MAY NOT MOUNT A FILE SYSTEM: full disks are only simulated")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_fills_up(tmp_path):
    few, many = tmp_path / "few.jsonl", tmp_path / "many.jsonl"
    write(few, make_documents(20))
    write(many, make_documents(700, words=120))
    with mounted(tmp_path / "disk", "size=900k") as disk:
        folder = disk / "idx"
        assert run("index", few, "-i", folder)[0] == 0
        code, out, err = run("index", many, "-i", folder)
        assert (code, out) == (1, "")
        assert re.fullmatch(rf"Error: {folder}\S*: .*the disk is full: free some space.*\n", err)
        stored = list(contents(folder))
        assert len(stored) >= 20
        assert len(stored) % 20 == 0, "whole windows only"
        assert stored[0] == "d0000"
        assert len(json.loads(run("query", "title 5", "-i", folder, "--json", "-k", "5")[1])) == 5
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        code, out, err = run("index", many, "-i", folder, "--json")
        assert (code, err) == (0, "")
        assert json.loads(out)["documents"] == 700


def test_a_disk_that_is_read_only(tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    write(corpus, make_documents(20))
    with mounted(tmp_path / "disk", "size=9m") as disk:
        folder = disk / "idx"
        assert run("index", corpus, "-i", folder)[0] == 0
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for command in (f"index {corpus}", "delete d0001", "compact"):
            code, out, err = run(*command.split(), "-i", folder)
            assert (code, out) == (1, "")
            assert re.fullmatch(rf"Error: {folder}\S*: .*read-only.*\n", err)
        code, _, err = run("index", corpus, "-i", disk / "new.idx")
        assert code == 1
        assert re.fullmatch(rf"Error: {disk}\S*: .*read-only.*\n", err)
        for mode in ("hybrid", "lexical"):
            code, out, err = run("query", "title 3", "-i", folder, "--json", "--mode", mode)
            assert (code, err) == (0, "")
            assert json.loads(out)


# The installed command with the real model


def test_the_installed_command_needs_no_option(tmp_path):
    program = Path(sys.executable).with_name("semsearch")
    assert program.is_file()
    texts = {
        "clock": "Suspend execution of the calling thread for a number of seconds.",
        "folder": "Recursively copy an entire directory tree.",
        "json": "Deserialize a string to a Python object.",
    }
    lines = [json.dumps({"_id": name, "text": text}) for name, text in texts.items()]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))

    def call(*arguments):
        done = subprocess.run(
            [program, *arguments], cwd=tmp_path, env=environment(), capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout.decode()

    out = call("index", "corpus.jsonl")
    assert out.startswith(".semsearch: 3 new / 0 updated / 0 unchanged")
    assert "encoded by sentence-transformers/all-MiniLM-L6-v2" in out
    for question, name in [
        ("how do I wait a while", "clock"),
        ("duplicate files below a path", "folder"),
        ("parse text that holds data", "json"),
    ]:
        (hit,) = json.loads(call("query", question, "-k", "1", "--json", "--mode", "dense"))
        assert hit["id"] == name
    assert call("query", "wait", "-k", "1").splitlines()[1].strip() == texts["clock"]


@pytest.mark.slow
def test_without_openvino_torch_encodes_and_one_line_says_so(tmp_path):
    write(tmp_path / "corpus.jsonl", make_documents(3))
    script = (
        "import sys; sys.modules['openvino'] = None\nfrom semsearch.cli.main import main\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "index", "corpus.jsonl"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.startswith(b".semsearch: 3 new")
    (note,) = done.stderr.decode().splitlines()
    assert re.match(r"note: .*openvino.*pip install", note)
