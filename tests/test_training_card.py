"""The model card: sections, front matter, tables, and the quality of what is served put into it."""

import re
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from huggingface_hub import ModelCard

from semsearch.training.card import put_served
from semsearch.training.recipe import Data, Evaluation, Loss, Matryoshka, Recipe
from tests import models
from tests.training_sets import (
    CHAINS,
    PAIRS,
    easy_rows,
    one_thread,
    plain_model,
    small_recipe,
    trained,
    write_easy,
    write_rows,
)

FOUR: tuple[Literal["cosine", "dot", "euclidean", "manhattan"], ...]
FOUR = ("cosine", "dot", "euclidean", "manhattan")
DIMS = (48, 32, 16)
SECTIONS = [
    "# small",
    "## Model Details",
    "### Model Description",
    "### Model Sources",
    "### Full Model Architecture",
    "## Usage",
    "### Direct Usage (Sentence Transformers)",
    "## Evaluation",
    "### Metrics",
    "#### Information Retrieval",
    "#### Semantic Similarity",
    "#### Binary Classification",
    "## Training Details",
    "### Training Dataset",
    "### Evaluation Dataset",
    "### Precision",
    "### Checks of the Data",
    "### Training Hyperparameters",
    "#### Non-Default Hyperparameters",
    "#### All Hyperparameters",
    "### Training Logs",
    "### Framework Versions",
    "## Citation",
]


def recipe() -> Recipe:
    settings: dict[str, Any] = {
        "load_best_model_at_end": True, "metric_for_best_model": "dim_16_cosine_ndcg@10",
        "num_train_epochs": 4.0, "lr_scheduler_type": "cosine", "tf32": True,
    }  # fmt: skip
    model = replace(CHAINS["bert-dense"], language="en, pt", license="mit")
    return replace(
        small_recipe(model, **settings),
        loss=Loss(scale=25.0, matryoshka=Matryoshka(DIMS, (1.0, 0.5, 0.25))),
        evaluation=(
            Evaluation("retrieval", "dev.jsonl"),
            Evaluation("similarity", "scored.jsonl", "sts", label="score", similarities=FOUR),
            Evaluation("classification", "scored.jsonl", "pairs", label="label"),
            Evaluation("loss", "dev.jsonl", "held", columns=PAIRS),
        ),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    write_easy(folder)
    rows = easy_rows(96)
    rows[0]["positive"] = rows[0]["anchor"]
    rows[1]["positive"] = "bal " * 9
    write_rows(folder / "train.jsonl", rows)
    with one_thread():
        yield trained(recipe(), folder, folder / "made")


@pytest.fixture(scope="module")
def text(run):
    return (run.folder / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def front(run):
    return ModelCard.load(run.folder / "README.md").data


def section(text, heading):
    """What stands below a heading, up to the next one of its level or above."""
    level = heading.count("#", 0, heading.index(" "))
    start = text.index(f"\n{heading}\n") + len(heading) + 2
    rest = text[start:]
    following = re.search(rf"(?m)^#{{1,{level}}} ", rest)
    return rest[: following.start()] if following else rest


def table(text):
    """The first table of a text: its header and rows, as lists of cells."""
    lines = [line.strip() for line in text.splitlines()]
    start = next(n for n, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows[0], rows[2:]


def test_sections_stand_in_the_order_of_the_originals(text):
    shown = re.sub(r"(?s)<!--.*?-->|```.*?```", "", text)
    headings = re.findall(r"(?m)^#+ .*$", shown)
    assert [heading for heading in headings if heading in SECTIONS] == SECTIONS
    assert text.startswith("---\n")
    paragraph = text.split("\n# small\n")[1].split("## Model Details")[0].strip()
    assert "48-dimensional dense vector space" in paragraph
    assert "\n" not in paragraph


def test_front_matter_is_valid_and_complete(front, run):
    assert front.language == ["en", "pt"]
    assert front.license == "mit"
    assert front.library_name == "sentence-transformers"
    assert front.pipeline_tag == "sentence-similarity"
    tags = {"dataset_size:96", "loss:MatryoshkaLoss", "loss:MultipleNegativesRankingLoss"}
    assert tags <= set(front.tags)
    assert {"cosine_ndcg@10", "cosine_map@100", "spearman_max", "cosine_ap"} <= set(front.metrics)
    assert front.widget
    assert all(example["source_sentence"] for example in front.widget)


def test_the_model_index_holds_what_was_measured_after(front, run):
    found = {
        f"{result.dataset_type}_{result.metric_type}": result.metric_value
        for result in front.eval_results
    }
    assert front.model_name == "small"
    assert found == pytest.approx({k: v for k, v in run.after.items() if k != "loss"})
    assert len(found) > 3 * (15 + 10)
    kinds = {result.task_type for result in front.eval_results}
    assert kinds == {"information-retrieval", "semantic-similarity", "binary-classification"}


@pytest.mark.parametrize(
    ("heading", "name", "metrics", "best"),
    [
        ("#### Information Retrieval", "", 15, "cosine_ndcg@10"),
        ("#### Semantic Similarity", "sts_", 10, "spearman_max"),
        ("#### Binary Classification", "pairs_", 8, "cosine_ap"),
    ],
)
def test_one_table_has_a_column_for_each_width(text, run, heading, name, metrics, best):
    header, rows = table(section(text, heading))
    assert header == ["Metric", *(f"{name}dim_{dim}" for dim in DIMS)]
    assert len(rows) == metrics
    plain = {cells[0].strip("*"): [cell.strip("*") for cell in cells[1:]] for cells in rows}
    for metric, cells in plain.items():
        for dim, cell in zip(DIMS, cells, strict=True):
            assert float(cell) == pytest.approx(run.after[f"{name}dim_{dim}_{metric}"], abs=5.1e-5)
    bold = [cells[0] for cells in rows if cells[0].startswith("**")]
    assert bold == [f"**{best}**"]


def test_the_architecture_and_what_it_gives(text, run):
    described = section(text, "### Model Description")
    assert "**Maximum Sequence Length:** 16 tokens" in described
    assert "**Output Dimensionality:** 48 dimensions" in described
    assert "**Similarity Function:** Cosine Similarity" in described
    assert "**Languages:** en, pt" in described
    assert "**License:** mit" in described
    chain = section(text, "### Full Model Architecture")
    modules = re.findall(r"\(\d\): (\w+)", chain)
    assert modules == ["Transformer", "Pooling", "Dense"]
    assert "'architecture': 'BertModel'" in chain
    assert "'out_features': 48" in chain


def test_the_code_of_the_card_computes_what_it_says(text, run):
    code = text.split("\n## Usage\n")[1].split("```python\n")[1].split("```")[0]
    queries, documents = (
        re.findall(r"'(.*)',", code.split(f"{name} = [\n")[1].split("]")[0])
        for name in ("queries", "documents")
    )
    model = plain_model(run.folder)
    with models.calm():
        asked, told = model.encode_query(queries), model.encode_document(documents)
        similar = model.similarity(asked, told)
    shapes = re.search(r"# \[(\d+), (\d+)\] \[(\d+), (\d+)\]", code)
    assert shapes is not None
    assert tuple(map(int, shapes.groups())) == (*asked.shape, *told.shape)
    printed = re.findall(r"-?\d\.\d{4}", code.split("# tensor(")[1])
    expected = [f"{value:.4f}" for value in torch.as_tensor(similar).flatten().tolist()]
    assert [float(p) for p in printed] == pytest.approx([float(e) for e in expected], abs=2e-4)


def test_data_is_described(text, run):
    data = section(text, "### Training Dataset")
    assert "* Size: 96 training samples" in data
    assert "* Columns: <code>anchor</code> and <code>positive</code>" in data
    header, rows = table(data.split("Approximate statistics")[1])
    assert header == ["", "anchor", "positive"]
    details = next(cells for cells in rows if cells[0] == "details")
    numbers = [[float(n) for n in re.findall(r"[\d.]+(?= tokens)", cell)] for cell in details[1:]]
    tokenizer = plain_model(run.folder).tokenizer
    for (low, mean, high), name in zip(numbers, ("anchor", "positive"), strict=True):
        rows_of = [row[name] for row in easy_rows(96)]
        if name == "positive":
            rows_of[:2] = [easy_rows(96)[0]["anchor"], "bal " * 9]
        lengths = [len(tokenizer(text)["input_ids"]) for text in rows_of]
        assert (low, high) == (min(lengths), max(lengths))
        assert mean == pytest.approx(sum(lengths) / 96, abs=0.011)
    _, samples = table(data.split("* Samples:")[1])
    assert len(samples) == 3
    known = {row["anchor"] for row in easy_rows(96)}
    assert all(
        cells[0].removeprefix("<code>").removesuffix("</code>") in known for cells in samples
    )
    held = section(text, "### Evaluation Dataset")
    assert "#### held" in held
    assert "* Size: 24 evaluation samples" in held


def test_the_loss_is_told_with_its_parameters(text):
    data = section(text, "### Training Dataset")
    parameters = data.split("* Loss:")[1].split("```json")[1].split("```")[0]
    assert "MatryoshkaLoss" in data
    assert '"loss": "MultipleNegativesRankingLoss"' in parameters
    assert [int(n) for n in re.findall(r"(?m)^\s+(\d\d),?$", parameters)] == list(DIMS)
    assert re.findall(r"0\.25|0\.5", parameters) == ["0.5", "0.25"]
    assert '"n_dims_per_step": -1' in parameters


def test_hyperparameters(text):
    changed = section(text, "#### Non-Default Hyperparameters")
    for line in (
        "- `per_device_train_batch_size`: 16",
        "- `learning_rate`: 0.005",
        "- `num_train_epochs`: 4.0",
        "- `lr_scheduler_type`: cosine",
        "- `load_best_model_at_end`: True",
        "- `batch_sampler`: no_duplicates",
    ):
        assert line in changed
    every = section(text, "#### All Hyperparameters")
    assert len(re.findall(r"(?m)^- `", every)) > 80
    assert "- `weight_decay`: 0.0" in every
    assert "- `seed`: 42" in every


def test_the_training_log(text, run):
    header, rows = table(section(text, "### Training Logs"))
    assert header[:4] == ["Epoch", "Step", "Training Loss", "Validation Loss"]
    names = [f"dim_{dim}_cosine_ndcg@10" for dim in DIMS]
    names += [f"sts_dim_{dim}_spearman_max" for dim in DIMS]
    names += [f"pairs_dim_{dim}_cosine_ap" for dim in DIMS]
    assert header[4:] == names
    plain = [[cell.strip("*") for cell in cells] for cells in rows]
    assert [int(cells[1]) for cells in plain] == [0, 3, 6, 9, 12, 15, 18, 21, 24]
    first = dict(zip(header, plain[0], strict=True))
    for name in names:
        assert float(first[name]) == pytest.approx(run.before[name], abs=5.1e-5)
    assert float(first["Validation Loss"]) == pytest.approx(run.before["loss"], abs=5.1e-5)
    for cells in plain[1:]:
        of_epoch = int(cells[1]) % 6 == 0
        assert (cells[2] != "-", cells[3] != "-") == (True, of_epoch)
        assert float(cells[0]) == pytest.approx(int(cells[1]) / 6, abs=5.1e-5)
    bold = [cells for cells in rows if cells[0].startswith("**")]
    assert [cells[1] for cells in bold] == [f"**{run.best_step}**"]
    kept = dict(zip(header, (cell.strip("*") for cell in bold[0]), strict=True))
    for name in names:
        assert float(kept[name]) == pytest.approx(run.after[name], abs=5.1e-5)
    assert "denotes the saved checkpoint" in section(text, "### Training Logs")


def test_precision_and_checks(text, run):
    told = section(text, "### Precision")
    assert told.strip().splitlines() == [
        "* Asked for: tf32",
        "* Computed in: float32",
        f"* {run.notices[0]}",
    ]
    assert {finding.kind for finding in run.findings} >= {"identical"}
    checks = section(text, "### Checks of the Data").strip().splitlines()
    assert len(checks) == len(run.findings)
    assert any("1 of 96 rows: anchor and positive are the same text" in line for line in checks)
    assert str(run.folder.parent) not in text, "no path of this machine"


def test_versions_and_citations(text):
    versions = section(text, "### Framework Versions")
    assert f"- PyTorch: {torch.__version__}" in versions
    for name in ("Python", "Sentence Transformers", "Transformers", "Datasets", "Tokenizers"):
        assert re.search(rf"(?m)^- {name}: \d", versions)
    citations = section(text, "## Citation")
    for key in (
        "reimers-2019-sentence-bert",
        "kusupati2024matryoshka",
        "oord2019representationlearningcontrastivepredictive",
    ):
        assert f"{{{key}," in citations


def test_triplets_and_other_losses_are_cited(tmp_path):
    write_easy(tmp_path)
    data = (Data("train.jsonl", "poems"),)
    quick = small_recipe(num_train_epochs=1.0)
    made = trained(
        replace(quick, data=data, loss=Loss("TripletLoss", margin=0.3), evaluation=()),
        tmp_path,
        tmp_path / "made",
    )
    text = (made.folder / "README.md").read_text()
    assert "dataset_size:96" in text
    assert "loss:TripletLoss" in text
    assert '"triplet_margin": 0.3' in text
    assert "<code>anchor</code>, <code>positive</code>, and <code>negative</code>" in text
    assert "hermans2017defense" in text
    assert "\n## Evaluation\n" not in re.sub(r"(?s)<!--.*?-->", "", text)
    put_served(made.folder, "own", "| a |\n|:--|\n| 1 |")
    after = (made.folder / "README.md").read_text()
    assert re.findall(r"(?m)^## .*$|^### Served.*$", re.sub(r"(?s)<!--.*?-->", "", after))[2:5] == [
        "## Evaluation",
        "### Served Pipeline",
        "## Training Details",
    ]


# The quality of what is served


def test_the_served_table_is_put_once_and_replaced(text, run, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "README.md").write_text(text, encoding="utf-8")
    tables = [f"| pipeline | nDCG |\n|:--|--:|\n| dense@48 | {n} |\n\nkey" for n in (0.1, 0.2, 0.3)]
    for number, served in enumerate(tables):
        put_served(folder, f"set {number}", served + "\n")
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert card.count("### Served Pipeline") == 1
        assert section(card, "### Served Pipeline").count(served) == 1
        assert f"index of set {number}" in card
        assert sum(other in card for other in tables) == 1
        headings = [h for h in re.findall(r"(?m)^##+ .*$", card) if h in SECTIONS]
        assert headings == SECTIONS[1:]
        assert card.index("## Evaluation") < card.index("### Served") < card.index("## Training D")
        # nothing else moved
        start, end = card.index("\n### Served Pipeline"), card.index("\n## Training Details")
        assert card[:start].rstrip() + card[end:] == (
            text[: text.index("\n## Training Details")].rstrip()
            + text[text.index("\n## Training Details") :]
        )
    assert ModelCard.load(folder / "README.md").data.model_name == "small"
