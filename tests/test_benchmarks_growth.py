"""How the benchmark of growing costs reads a watched process, and what it makes of it."""

from __future__ import annotations

import json
import struct
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from benchmarks import growth, plot, readme
from benchmarks.growth import Cost, exponent, progress, result, steepness
from benchmarks.processes import Finished, Sample, run
from benchmarks.results import newest, parts

DISK = {"catalog": 300, "vectors": 770, "words": 20, "vector index": 0}


def cost(documents: int, seconds: float, storing: int = 100, peak: int = 100) -> Cost:
    done = [(documents * i // 20, seconds * i / 20, seconds * i / 25, 1) for i in range(1, 21)]
    return Cost(documents, seconds, seconds * 0.8, done, storing, peak, DISK, [1.0, 2.0, 3.0])


@pytest.mark.parametrize("power", [0.5, 1.0, 1.3, 2.0])
def test_exponent_is_that_of_a_power_law(power):
    sizes = [1e3, 1e4, 1e5, 1e6]
    assert exponent(sizes, [3 * n**power for n in sizes]) == pytest.approx(power)


def test_steepness_compares_the_end_of_a_run_with_its_start():
    done = np.arange(1, 21) * 50
    flat = [(int(n), 5 + 0.002 * n, 0.001 * n, 0) for n in done]  # 5 s of start-up do not count
    assert steepness(flat, 1) == pytest.approx(1)
    rising = [(int(n), 0.002 * n + 1e-6 * n * n, 0.0, 0) for n in done]  # rate 0.002 + 2e-6 n
    assert steepness(rising, 1) == pytest.approx((0.002 + 2e-6 * 1000) / 0.002)


def test_progress_is_read_off_where_the_file_was_read():
    samples = [Sample(t / 10, t / 20, 1_000 - t, min(t // 10 * 50, 1_000)) for t in range(300)]
    found = progress(samples, size=100, length=1_000)
    assert [part[0] for part in found] == list(range(5, 105, 5))
    assert found[0][1:] == (1.0, 0.5, 1_000)
    assert found[1][1:] == (2.0, 1.0, 989)
    assert found[-1][1:] == (20.0, 10.0, 809)


def test_progress_of_a_file_read_at_once_is_one_part():
    samples = [Sample(0.0, 0.0, 7, 0), Sample(1.0, 1.0, 5, 640), Sample(2.0, 2.0, 9, 640)]
    assert progress(samples, size=64, length=640) == [(64, 1.0, 1.0, 7)]


def test_result_judges_the_larger_sizes():
    costs = [cost(1_000, 5), cost(10_000, 10), cost(100_000, 100, 119), cost(1_000_000, 1e3, 119)]
    found = result(costs, {"name": "words"})
    assert [goal.met for goal in found.goals] == [True, True, True]
    assert [goal.measured for goal in found.goals] == pytest.approx([1, 1, 1.19])
    assert [row["documents"] for row in found.rows] == [1_000, 10_000, 100_000, 1_000_000]
    assert found.rows[-1]["s a 1,000"] == pytest.approx(1)
    assert found.rows[-1]["query p50 ms"] == 2
    json.dumps(found.raw)
    worse = result([cost(10_000, 10), cost(100_000, 150, 121)], {"name": "words"})
    assert [goal.met for goal in worse.goals] == [False, False, False]
    assert worse.goals[0].measured == pytest.approx(np.log10(15))


def test_memory_of_storing_is_what_was_seen_before_the_vector_index():
    samples = [Sample(1.0, 1.0, 50, 10), Sample(2.0, 2.0, 70, 99), Sample(3.0, 3.0, 90, 100)]
    done = Finished(3.0, 3.0, "", "", samples)
    with_index = growth._cost(done, 10, 100, {**DISK, "vector index": 1}, [1.0])
    assert (with_index.storing, with_index.peak) == (70, 90)
    assert growth._cost(done, 10, 100, DISK, [1.0]).storing == 90


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_watched_process_is_followed_through_its_file(tmp_path: Path):
    corpus = tmp_path / "lines.txt"
    corpus.write_text("x" * 999 + "\n", encoding="utf-8")
    script = (
        "import sys, time\n"
        f"with open({str(corpus)!r}, 'rb', buffering=0) as file:\n"
        "    for _ in range(2):\n"
        "        file.read(450); time.sleep(0.3)\n"
        "block = b'x' * (64 << 20); time.sleep(0.3)\n"
    )
    done = run([sys.executable, "-c", script], watch_memory=True, follow=corpus)
    assert {450, 900, 1_000} <= {sample.read for sample in done.samples} <= {0, 450, 900, 1_000}
    assert done.samples[-1].read == 1_000  # closed is read to the end
    before = max(sample.anonymous for sample in done.samples if sample.read == 450)
    assert done.peak_anonymous - before > 60 << 20
    assert [s.seconds for s in done.samples] == sorted(s.seconds for s in done.samples)


def test_a_process_that_is_not_watched_has_no_peak():
    assert run([sys.executable, "-c", "pass"]).peak_anonymous == 0


def test_the_plot_is_a_picture_of_the_rows(tmp_path: Path):
    costs = [cost(1_000, 5), cost(10_000, 10), cost(100_000, 100)]
    first, second, other = (tmp_path / f"{name}.png" for name in ("first", "second", "other"))
    plot.draw(result(costs, {"name": "words"}).rows, first)
    plot.draw(result(costs, {"name": "words"}).rows, second)
    plot.draw(result([*costs[:-1], cost(100_000, 200)], {"name": "words"}).rows, other)
    data = first.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert data[-8:-4] == b"IEND"
    width, height = struct.unpack(">II", data[16:24])
    assert width > 600
    assert height > 400
    assert data == second.read_bytes()
    assert data != other.read_bytes()


def test_the_published_plot_has_a_result_behind_it():
    record = newest("growth")
    if record is None:
        pytest.skip("not measured yet")
    costs = [Cost(**raw) for raw in record["raw"].values()]
    assert result(costs, record["dataset"]).rows == record["rows"]
    assert len(parts(result(costs, record["dataset"]))) == 3
    assert [cost.documents for cost in costs] in (list(growth.SMALL), list(growth.FULL))


def test_the_picture_is_shown_below_its_table(tmp_path: Path, monkeypatch):
    page = tmp_path / "README.md"
    page.write_text("# x\n<!-- results: growth -->\nold\n<!-- end -->\n", encoding="utf-8")
    found = result([cost(1_000, 5), cost(10_000, 10), cost(100_000, 100)], {"name": "words"})
    machine = {"load_average_before": [0], "load_average_after": [0], "memory_gib": 1, "flags": []}
    record = {
        "date": "2026-01-01", "commit": "c" * 40, "size": "full", "versions": {"python": "3"},
        "machine": {"cpu": "a cpu", "cores": 2, **machine}, **asdict(found),
    }  # fmt: skip
    picture = tmp_path / "growth.png"
    monkeypatch.setattr(readme, "README", page)
    monkeypatch.setattr(readme, "newest", lambda _: record)
    monkeypatch.setitem(plot.PICTURES, "growth", (plot.PICTURES["growth"][0], picture))
    assert readme.write() == []
    assert "![" not in page.read_text("utf-8")
    picture.write_bytes(b"a picture")
    readme.write()
    text = page.read_text("utf-8")
    assert text.index("| 100,000") < text.index("(results/growth.png)") < text.index("<!-- end")
