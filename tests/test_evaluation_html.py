"""The page of an evaluation: parsed again, and compared with the report it was made from."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import semsearch
import semsearch.encoders
from semsearch.cli.main import cli
from semsearch.corpus import BeirDataset
from semsearch.errors import MissingExtra
from semsearch.evaluation import Measuring, evaluate
from semsearch.evaluation.columns import signed
from semsearch.evaluation.costs import Latency, Storage, measure_latency, measure_storage
from semsearch.evaluation.html import axes, png
from semsearch.evaluation.html.figures import all_plots, write_plots
from semsearch.evaluation.html.labels import Wish, _box, beside, place
from semsearch.evaluation.html.markup import esc, snippet
from semsearch.evaluation.html.page import content_of, page
from semsearch.evaluation.html.points import Costs, best_of_groups, points_of, short
from semsearch.evaluation.html.scatter import query_by_query
from semsearch.evaluation.html.shapes import DARK, LIGHT, Label, Line, Mark
from semsearch.evaluation.html.svg import svg_file
from semsearch.evaluation.report import TABLE_MEASURES, distinct
from semsearch.metrics import paired_test, rank_documents
from semsearch.search import Options, Searcher
from semsearch.types import Document
from tests.fakes import FakeEncoder, make_documents, opened
from tests.test_evaluate import write_set

DENSE, LEXICAL = Options("dense"), Options("lexical")
HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)> & \u202egnp.exe'


class Page(HTMLParser):
    """Tables as rows of cell texts, and everything that stands outside of them."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.links, self.tables, self.style, self.words = [], [], [], "", []
        self._cell = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        names = ("src", "href", "srcset", "data", "action", "poster", "background", "xlink:href")
        self.links += [value for name, value in attrs if name in names]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._cell = True
        elif tag == "small" and self._cell:
            self.tables[-1][-1][-1] += " "

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data):
        if self.tags[-1:] == ["style"] and not self.style:
            self.style = data
        elif self._cell:
            self.tables[-1][-1][-1] += data
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def values_of(row):
    assert row.evaluation is not None
    return row.evaluation.per_query("ndcg@10")


@pytest.fixture
def labelled(tmp_path):
    documents = make_documents(80, seed=5)
    documents[6] = replace(documents[6], title=HOSTILE)
    random = np.random.default_rng(5)
    queries, qrels = {}, {}
    for n in range(12):
        target = documents[6 * n]
        queries[f"q{n}"] = " ".join(random.choice(target.text.split(), 2, replace=False))
        others = random.choice(80, 3, replace=False)
        qrels[f"q{n}"] = {documents[i].id: int(i % 3) for i in others} | {target.id: 2}
    queries["q1"] += " <b>bold</b>"
    return write_set(tmp_path / "set", documents, queries, qrels)


@pytest.fixture
def index(tmp_path, labelled):
    with opened(tmp_path / "made.idx", FakeEncoder(128)) as made:
        made.add(semsearch.read_corpus(labelled))
        yield made


@pytest.fixture
def found(index, labelled):
    """The report, the first row's run, made-up costs for its six rows."""
    runs = []
    report = evaluate(index, labelled, measuring=Measuring(on_run=lambda _, run: runs.append(run)))
    latency = [Latency(10.0 + n, 20.0 + n, 50) for n in range(len(report.results))]
    return report, runs[0], Costs(latency, Storage(80, 128, 264.0, 0.0, 90.0, 500.0))


@pytest.fixture
def content(found, index):
    report, run, costs = found
    return content_of(report, run, costs, index.reader)


@pytest.fixture
def parsed(content):
    return Page(page(content))


def test_every_number_of_the_report_is_on_the_page_with_its_interval(parsed, found):
    report = found[0]
    results, everything, costs = parsed.tables
    rows = distinct(report.results)
    others = [name for name in TABLE_MEASURES if name != "ndcg@10"]
    assert results[0][:2] == ["pipeline", "ndcg@10"]
    assert results[0][3:] == ["difference", *others]
    assert len(results) == len(rows) + 1
    for row, cells in zip(rows, results[1:], strict=True):
        way = row.mode if row.rerank == "none" else f"{row.mode} + {row.rerank}"
        assert cells[0] == (way if row.dims is None else f"{way} {row.dims}")
        for name, cell in zip(["ndcg@10", *others], [cells[1], *cells[4:]], strict=True):
            low, high = row.intervals[name]
            assert cell == f"{row.metrics[name]:.3f} {low:.3f}\u2013{high:.3f}"
    assert [line[0] for line in everything[1:]] == list(rows[0].metrics)
    for line in everything[1:]:
        wanted = [f"{row.metrics[line[0]]:.3f}" for row in rows]
        assert [cell.split()[0] for cell in line[1:]] == wanted
    for cells, kept in zip(costs[1:], rows, strict=True):
        at = next(n for n, row in enumerate(report.results) if row is kept)
        assert cells[2:5] == [f"{10.0 + at:.1f}", f"{20.0 + at:.1f}", "50"]


def test_differences_are_those_of_the_paired_test(parsed, found):
    rows = distinct(found[0].results)
    first = values_of(rows[0])
    assert parsed.tables[0][1][3] == ""
    for row, cells in zip(rows[1:], parsed.tables[0][2:], strict=True):
        wanted = paired_test(values_of(row), first)
        told = cells[3].replace("\u2212", "-").split()
        assert [float(told[0]), float(told[1]), float(told[3])] == pytest.approx(
            [wanted.difference, wanted.low, wanted.high], abs=0.00051
        )
    best = max((row for row in rows if row.mode == "dense"), key=lambda r: r.metrics["ndcg@10"])
    gain = rows[0].metrics["ndcg@10"] - best.metrics["ndcg@10"]
    assert f"{signed(gain)} against dense {best.dims} (".replace("-", "\u2212") in parsed.text


def test_bytes_are_those_of_the_row(parsed):
    shown = {cells[0]: cells[1] for cells in parsed.tables[2][1:]}
    assert shown == {
        "hybrid + self 128": "854",  # 500 of tokens more
        "hybrid 128": "354",  # 264 of vectors and 90 of words
        "hybrid 64": "226",  # 64 components of 2 bytes less
        "dense 128": "264",
        "dense 64": "136",
        "lexical": "90",
    }


def test_nothing_is_loaded_and_nothing_runs(content, parsed):
    html = page(content)
    assert parsed.links == []
    assert not {"script", "link", "img", "iframe", "object", "embed", "base"} & set(parsed.tags)
    assert not re.search(r"url\(|@import|@font-face|https?:", html)
    assert not re.search(r"\son\w+\s*=\s*[\"']", html)
    assert "default-src 'none'" in html


def test_what_others_wrote_is_shown_as_text(content, parsed):
    html = page(content)
    assert "<script" not in html
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;" in html
    assert "\u202e" not in html, "it would turn the rest of the line around"
    assert "<b>bold</b>" in parsed.text
    assert esc("a\x00b\u202ec\ud800\u200d") == "a b c \u200d"


def test_light_and_dark(parsed):
    assert "color-scheme:light dark" in parsed.style
    light, dark = parsed.style.split("@media (prefers-color-scheme:dark)", 1)
    for role in LIGHT:
        assert f"--{role}:{LIGHT[role]};" in light
        assert f"--{role}:{DARK[role]};" in dark.split("}")[0]
        assert f".{role}{{color:var(--{role})}}" in parsed.style


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_texts_can_be_read(palette):
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    paper = luminance(palette["paper"])
    for role in ("ink", "muted", "accent"):  # WCAG 2, level AA
        bright, dim = sorted([luminance(palette[role]), paper], reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= 4.5, role


def test_the_worst_queries_with_their_hits(content, found, labelled):
    report, run, _ = found
    data = BeirDataset.open(labelled)
    evaluation = report.results[0].evaluation
    values = dict(zip(evaluation.query_ids, evaluation.per_query("ndcg@10").tolist(), strict=True))
    shown = content.worst
    assert [query.value for query in shown] == sorted(v for v in values.values() if v < 1)
    assert len(shown) >= 3
    for query in shown:
        ranking = rank_documents(run[query.id])
        grades = data.qrels[query.id]
        assert query.value == values[query.id]
        assert query.depth == len(ranking)
        assert [hit.id for hit in query.hits] == ranking[:5]
        assert [hit.rank for hit in query.hits] == [1, 2, 3, 4, 5]
        assert [hit.grade for hit in query.hits] == [grades.get(name) for name in ranking[:5]]
        relevant = [name for name, grade in grades.items() if grade >= 1]
        assert len(query.relevant) == min(len(relevant), 3)
        for document in query.relevant:
            where = ranking.index(document.id) + 1 if document.id in ranking else None
            assert (document.rank, document.grade) == (where, grades[document.id])
        assert [grades[d.id] for d in query.relevant] == sorted(
            (grades[d.id] for d in query.relevant), reverse=True
        )
        other = {row.mode: row for row in reversed(report.results)}["dense"].evaluation
        at = other.query_ids.index(query.id)
        assert dict(query.others)["dense 128"] == other.per_query("ndcg@10")[at]


def test_data_checks_rules_and_setting_are_told(parsed, found):
    text = parsed.text
    share = found[0].checks.unjudged[0]
    assert f"{100 * share:.0f} % of the hits of hybrid + self 128" in text
    for words in ("queries equal documents none of 12", "documents missing none of"):
        assert words in text
    assert "Success@k in ir_measures" in text
    assert semsearch.__version__ in text
    assert "fake (" in text
    assert "80 documents, 80 passages" in text


def test_a_page_of_300_queries_stays_small(tmp_path):
    documents = [
        Document(d.id, f"{d.text} {'some more words ' * 200}", d.title)
        for d in make_documents(400, seed=1)
    ]
    queries = {f"q{n}": " ".join(documents[n].text.split()[:2]) for n in range(300)}
    qrels = {f"q{n}": {documents[n].id: 1} for n in range(300)}
    folder = write_set(tmp_path / "set", documents, queries, qrels)
    runs = []
    with opened(tmp_path / "idx", FakeEncoder(64)) as index:
        index.add(documents)
        how = Measuring(on_run=lambda _, run: runs.append(run))
        report = evaluate(index, folder, measuring=how)
        html = page(content_of(report, runs[0], reader=index.reader))
    assert 20_000 < len(html.encode()) < 500_000


def marks(drawing):
    return [shape for shape in drawing.shapes if isinstance(shape, Mark)]


def test_marks_stand_where_their_values_are(found):
    points = points_of(found[0], found[2])
    drawings = {plot.name: plot.drawing for plot in all_plots(points)}
    assert list(drawings) == ["dimensions", "bytes", "latency", "queries-1", "queries-2"]
    for name in ("dimensions", "bytes", "latency"):
        drawn = {mark.title.split(":")[0]: mark for mark in marks(drawings[name])}
        shown = [point for point in points if point.row.dims or name != "dimensions"]
        assert set(drawn) == {point.name for point in shown}
        heights = np.array([drawn[point.name].y for point in shown])
        values = np.array([point.value for point in shown])
        assert np.corrcoef(heights, values)[0, 1] == pytest.approx(-1), "a line, upside down"
    by_time = {m.title.split(":")[0]: m.x for m in marks(drawings["latency"])}
    names = ["hybrid + self 128", "hybrid 128", "hybrid 64", "dense 128"]  # 10, 11, 12, 13 ms
    assert sorted(names, key=by_time.__getitem__) == names
    sizes = {m.title.split(":")[0]: m.x for m in marks(drawings["bytes"])}
    assert sorted(sizes, key=sizes.__getitem__) == [
        "lexical", "dense 64", "hybrid 64", "dense 128", "hybrid 128", "hybrid + self 128",
    ]  # fmt: skip


def test_labels_cover_neither_marks_nor_one_another(found):
    for plot in all_plots(points_of(found[0], found[2]))[:3]:
        labels = [_box(s) for s in plot.drawing.shapes if isinstance(s, Label)]
        spots = [(mark.x, mark.y) for mark in marks(plot.drawing)]
        for n, (left, top, right, bottom) in enumerate(labels):
            assert 0 <= left < right <= plot.drawing.width + 2
            assert 0 <= top < bottom <= plot.drawing.height
            for x, y in spots:
                assert not (left < x < right and top < y < bottom)
            for other in labels[:n]:
                assert (
                    left >= other[2] or right <= other[0] or top >= other[3] or bottom <= other[1]
                ), plot.name


def test_queries_against_queries(found):
    first, other = best_of_groups(points_of(found[0]))[:2]
    drawing = query_by_query(other, first)
    assert drawing is not None
    across, up = values_of(other.row), values_of(first.row)
    told = re.findall(
        r"(\d+) quer\w+: .* ([\d.]+), .* ([\d.]+)$",
        "\n".join(mark.title for mark in marks(drawing)),
        re.M,
    )
    pairs = sorted((float(x), float(y)) for count, x, y in told for _ in range(int(count)))
    assert pairs == sorted(zip(across.round(2).tolist(), up.round(2).tolist(), strict=True))
    texts = [shape.text for shape in drawing.shapes if isinstance(shape, Label)]
    better, worse = int((up > across).sum()), int((up < across).sum())
    equal = 12 - better - worse
    assert f"of 12 queries better for {better}, worse for {worse}, equal for {equal}" in texts


def test_what_is_served_and_what_is_exact_have_names_of_their_own(found):
    report = found[0]
    served = replace(
        report.results[1], index_kind="IVF64,RaBitQfs", metrics={"ndcg@10": 0.5}, intervals={}
    )
    report = replace(report, results=(served, *report.results[1:]))
    names = [point.name for point in points_of(report)]
    assert names[:3] == ["hybrid 128, as served", "hybrid 128, exact", "hybrid 64"]
    assert best_of_groups(points_of(report))[0].name == "hybrid 128, as served"


def test_what_was_not_measured_is_not_drawn(index, labelled):
    report = evaluate(index, labelled, modes=["lexical"])
    content = content_of(report)
    assert content.plots == []
    html = page(content)
    assert "Quality and cost" not in html
    assert "Worst queries" not in html
    assert Page(html).tables[0][1][0] == "lexical"
    report = evaluate(index, labelled, modes=["dense"], dims=[128, 32])
    assert [plot.name for plot in content_of(report).plots] == ["dimensions"]


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.52, 0.75], ["0.5", "0.6", "0.7", "0.8"]),
        ([0.0, 1.0], ["0.00", "0.25", "0.50", "0.75", "1.00"]),
        ([0.994, 0.998], ["0.975", "1.000"]),
        ([0.5, 0.5], ["0.500", "0.525"]),
        ([], ["0.00", "0.25", "0.50", "0.75", "1.00"]),
    ],
)
def test_linear_axes_have_round_ticks_around_the_values(values, ticks):
    axis = axes.linear("x", values, (0.0, 1.0))
    assert [text for _, text in axis.ticks] == ticks
    assert all(axis.low <= value <= axis.high for value in values)
    assert axis.share(axis.low) == 0.0
    assert axis.share(axis.high) == 1.0


@pytest.mark.parametrize("values", [[1.5, 44.0], [3.0], [137.0, 943.0], [0.2, 90_000.0]])
def test_logarithmic_axes_hold_their_values_and_some_ticks(values):
    axis = axes.logarithmic("x", values)
    assert all(0 < axis.share(value) < 1 for value in values)
    assert 2 <= len(axis.ticks) <= 12
    assert axis.share((axis.low * axis.high) ** 0.5) == pytest.approx(0.5)


def test_an_axis_of_widths_leaves_out_ticks_without_room():
    axis = axes.widths("dims", [768, 760, 512, 64])
    assert [text for _, text in axis.ticks] == ["768", "512", "64"]
    assert [text for _, text in axes.widths("dims", [384]).ticks] == ["384"]


def test_labels_find_room_or_are_left_out():
    wish = Wish(100.0, 100.0, 90.0, 110.0, "name", "ink")
    page = (0.0, 0.0, 200.0, 200.0)
    (label,) = place([wish], [Mark(100.0, 100.0)], page)
    assert (label.x, label.anchor) == (108.0, "start")
    (label,) = place([wish], [Line([(112.0, 0.0), (112.0, 200.0)])], page)
    assert label.anchor == "end"
    assert place([wish], [Mark(100.0, 100.0, radius=90.0)], page) == []
    column = beside(5.0, [wish._replace(y=y) for y in (50.0, 52.0, 120.0)])
    heights = [label.y for label in column]
    assert np.diff(heights).min() >= 14
    assert np.mean(heights) == pytest.approx(np.mean([50, 52, 120]) + 11.5 * 0.36)


def test_names_are_short_on_plots():
    assert short("hybrid + self") == "hybrid + self"
    assert short("hybrid + cross-encoder/ms-marco", 30) == "hybrid + ms-marco"
    assert short("runs/of/another-system.trec") == "another-system.trec"
    assert short("a" * 40) == "a" * 19 + "..."


def test_long_names_leave_room_for_the_plot(found):
    report = found[0]
    long = "cross-encoder/a-name-that-would-take-half-of-the-plot-if-it-were-not-cut"
    report = replace(report, results=tuple(replace(r, rerank=long) for r in report.results))
    for plot in all_plots(points_of(report, found[2])):
        xs = [mark.x for mark in marks(plot.drawing)]
        if plot.name == "dimensions":
            assert max(xs) - min(xs) > 0.35 * plot.drawing.width
        for label in plot.drawing.shapes:
            if isinstance(label, Label):
                assert _box(label)[0] >= 0
                assert _box(label)[2] <= plot.drawing.width + 4


def test_snippets_are_cut_between_words():
    assert snippet("a  b\n c") == "a b c"
    assert snippet("one two three four", 10) == "one two …"
    assert snippet("x" * 30, 10) == "x" * 10 + " …"


def test_plots_as_files(content, tmp_path):
    written = write_plots(content.plots, tmp_path / "plots")
    assert sorted(path.name for path in written) == sorted(
        f"{name}.{kind}"
        for name in ("dimensions", "bytes", "latency", "queries-1", "queries-2")
        for kind in ("svg", "png")
    )
    for plot in content.plots:
        root = ElementTree.fromstring((tmp_path / "plots" / f"{plot.name}.svg").read_text())  # noqa: S314
        assert root.attrib["viewBox"] == f"0 0 {plot.drawing.width} {plot.drawing.height}"
        texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
        assert texts == {s.text for s in plot.drawing.shapes if isinstance(s, Label)}
        assert "prefers-color-scheme:dark" in svg_file(plot.drawing)
        with Image.open(tmp_path / "plots" / f"{plot.name}.png") as image:
            assert image.size == (plot.drawing.width * 3, plot.drawing.height * 3)
            pixels = np.asarray(image.convert("RGB"))
        for mark in marks(plot.drawing)[:3]:
            wanted = [int(LIGHT[mark.role][i : i + 2], 16) for i in (1, 3, 5)]
            x, y, r = round(mark.x * 3), round(mark.y * 3), round(mark.radius * 3) + 1
            near = pixels[y - r : y + r, x - r : x + r].reshape(-1, 3)
            assert np.abs(near.astype(int) - wanted).sum(axis=1).min() < 30


def test_without_pillow_one_line_says_what_to_install(content, tmp_path, monkeypatch):
    monkeypatch.setattr(png, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=re.escape("pip install 'semsearch[report]'")):
        write_plots(content.plots, tmp_path / "plots")
    assert not (tmp_path / "plots").exists()


def test_bytes_are_those_of_the_files(index):
    found = measure_storage(index.reader)
    assert found is not None
    layout = index.reader.layout
    words = sum(path.stat().st_size for path in layout.lexical.rglob("*") if path.is_file())
    vectors = sum(path.stat().st_size for path in layout.segments.glob("*.vec"))
    recent = 2 * 128 * len(index.reader.snapshot().rows.recent[0])
    assert found.passages == 80
    assert found.words == words / 80 > 0
    assert found.vectors == (vectors + recent) / 80 >= 256
    assert found.of("dense", 128) == found.vectors + found.faiss
    assert found.of("dense", 64) == found.vectors - 128 + found.faiss
    assert found.of("hybrid", None) == found.vectors + found.faiss + found.words
    assert found.of("lexical", None) == found.words
    assert replace(found, tokens=9.0).of("lexical", None, "self") == found.words + 9.0


@pytest.fixture
def searches(monkeypatch):
    """Every search that was asked for, as text and mode; none is done."""
    asked = []

    def remember(_, text, k, options):
        assert k == 10
        asked.append((text, options.mode))
        return []

    monkeypatch.setattr(Searcher, "search", remember)
    return asked


def test_single_queries_are_timed_in_turns(searches, index):
    texts = [f"words {n}" for n in range(200)] + [" "]
    done: list[int] = []
    pipelines = [DENSE, LEXICAL, DENSE]
    found = measure_latency(index.searcher, pipelines, texts, progress=done.append)
    assert sum(done) == 50
    assert [latency.queries for latency in found] == [50, 50, 50]
    assert found[0] == found[2], "the same pipeline is measured once"
    counted = searches[6:]
    assert len(counted) == 100
    turns = ["dense", "lexical", "lexical", "dense", "dense", "lexical"]
    assert [mode for _, mode in counted[:6]] == turns
    times = [text for text, mode in counted if mode == "dense"]
    assert len(set(times)) == 50
    assert (times[0], times[-1]) == ("words 0", "words 199")
    assert all(0 <= latency.p50 <= latency.p99 for latency in found)


def test_timing_ends_with_its_budget(searches, index):
    texts = [f"words {n}" for n in range(200)]
    found = measure_latency(index.searcher, [DENSE], texts, budget=0.0)
    assert [latency.queries for latency in found] == [5]
    assert measure_latency(index.searcher, [DENSE], ["", " "]) == []


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr(semsearch.encoders, "open_encoder", lambda *_, **__: FakeEncoder(128))

    def invoke(*arguments, code=0):
        result = CliRunner().invoke(cli, ["evaluate", *map(str, arguments)])
        assert result.exit_code == code, result.output
        return result

    return invoke


def test_evaluate_writes_the_page_and_the_plots(run, labelled, index, tmp_path):
    plain = run(labelled, "-i", index.folder).stdout
    target, plots = tmp_path / "report.html", tmp_path / "plots"
    result = run(labelled, "-i", index.folder, "--report", target, "--plots", plots)
    assert result.stdout == plain
    assert result.stderr == f"note: wrote {target}\nnote: wrote 10 files into {plots}\n"
    read = Page(target.read_text(encoding="utf-8"))
    report = evaluate(index, labelled)
    assert read.tables[0][1][1].startswith(f"{report.results[0].metrics['ndcg@10']:.3f} ")
    costs = read.tables[2]
    assert all(float(row[2]) > 0 and row[4] == "12" for row in costs[1:])
    run(labelled, "-i", index.folder, "--mode", "dense", "--measure", "mrr@10", "--report", target)
    read = Page(target.read_text(encoding="utf-8"))
    assert [row[0] for row in read.tables[0][1:]] == ["dense 128", "dense 64"]
    assert read.tables[0][0][1] == "mrr@10"


def test_a_run_file_has_a_page_too(run, labelled, index, tmp_path):
    ranking, target = tmp_path / "out.trec", tmp_path / "report.html"
    run(labelled, "-i", index.folder, "--mode", "lexical", "--run", ranking)
    run(labelled, "--from-run", ranking, "--report", target)
    read = Page(target.read_text(encoding="utf-8"))
    assert len(read.tables) == 2, "no costs"
    assert "Worst queries" in read.text


def test_a_page_that_cannot_be_written_is_refused_before_measuring(run, labelled, tmp_path):
    result = run(labelled, "--report", tmp_path / "none" / "report.html", code=2)
    assert "no folder" in result.stderr
