"""The benchmark that only a GPU makes meaningful runs to its end on a processor too."""

import json

import numpy as np
import pytest

from benchmarks import gpu, gpu_search
from benchmarks.setting import Setting
from semsearch.encoders import open_encoder
from tests import models

TINY = gpu.Sizes(
    precision="float32",
    texts={"MiniLM": 40, "large": 30},
    large=gpu.Shape(layers=2, width=64, longest=40),
    batch_sizes=(8, 16),
    rows=(2_000,),
    queries=12,
    compiled=False,
)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the libraries' own, which a benchmark does not hide
def test_every_part_runs(tmp_path, monkeypatch):
    (tmp_path / "scifact").mkdir()
    lines = [json.dumps({"_id": str(n), "text": t}) for n, t in enumerate(models.sentences()[:90])]
    (tmp_path / "scifact" / "corpus.jsonl").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setenv("SEMSEARCH_DATASETS", str(tmp_path))
    result = gpu.measure(Setting(full=False, work=tmp_path), "cpu", TINY)
    assert [row["model"] for row in result.rows] == ["MiniLM"] * 5 + ["large"] * 5
    assert result.rows[1]["what"] == "semsearch"
    goals = {goal.what: goal for goal in result.goals}
    for name in TINY.texts:
        assert goals[f"{name}: lowest cosine between its vectors and ours"].measured > 0.9999
        assert not [note for note in result.notes if note.startswith(f"{name}: THE MODEL WAS NOT")]
    assert 0 < goals["large: share of the time the device is busy"].measured <= 1
    assert goals["2,000 vectors: ids and scores are those of the exact index"].met
    [searched] = result.more.values()
    assert [row["vectors"] for row in searched] == [2_000] * 2


def test_without_a_gpu_it_says_so(tmp_path, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("HERE IS A CUDA DEVICE: THE BENCHMARK WITHOUT ONE IS NOT TESTED")
    result = gpu.run(Setting(full=False, work=tmp_path))
    assert result.rows == []
    assert result.notes == [gpu.NOT_MEASURED]
    assert gpu.NOT_MEASURED in capsys.readouterr().err


def test_the_model_made_on_the_spot(tmp_path):
    folder = gpu.make_model(tmp_path / "large", gpu.Shape(2, 128, 32), models.sentences())
    encoded = open_encoder(folder, runtime="torch").encode_documents(["a path", "a list of words"])
    assert encoded.vectors.shape == (2, 128)
    assert abs(float(encoded.vectors[0] @ encoded.vectors[1])) < 0.999


def test_vectors_to_search_are_of_unit_length():
    rows = gpu_search.random_vectors(50, seed=3)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert not np.array_equal(rows, gpu_search.random_vectors(50, seed=4))
