"""Cross-encoders give the scores of sentence-transformers, on either runtime."""

import logging
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semsearch.encoders.runtimes.choose import RuntimeName
from semsearch.encoders.runtimes.contract import OutOfMemory
from semsearch.encoders.runtimes.graph import import_openvino
from semsearch.errors import Corrupt, ModelError, UsageError
from semsearch.ranking.cross_encoder import open_cross_encoder
from semsearch.ranking.cross_encoder.folder import read_cross_folder
from semsearch.ranking.cross_encoder.openvino import OpenVinoPairs
from semsearch.ranking.cross_encoder.pairs import PairTokens
from semsearch.ranking.cross_encoder.tokens_scorer import TokenScorer
from semsearch.ranking.cross_encoder.torch import TextScorer
from semsearch.types import Candidates
from tests import models
from tests.cross_encoder_models import (
    CROSS_KINDS,
    PASSAGES,
    QUERIES,
    TEMPLATE,
    build_cross_encoder,
    build_decoder,
    predicted,
    with_chain,
)

RUNTIMES: tuple[RuntimeName, ...] = ("torch", "openvino")


def texts_of(vids: Sequence[int]) -> Mapping[int, str]:
    return {vid: PASSAGES[vid] for vid in vids}


def whole(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def every(queries=QUERIES) -> Candidates:
    """Every passage for every query, each in its own order, with a padded end."""
    rng = np.random.default_rng(3)
    ids = np.full((len(queries), len(PASSAGES) + 2), -1, dtype=np.int64)
    for row in range(len(queries)):
        ids[row, : len(PASSAGES)] = rng.permutation(len(PASSAGES))
    return Candidates(ids, np.zeros(ids.shape, dtype=np.float32))


def expected(folder: Path, queries=QUERIES) -> np.ndarray:
    """What ``CrossEncoder.predict`` gives the candidates of ``every``."""
    candidates = every(queries)
    scores = np.full(candidates.ids.shape, -np.inf, dtype=np.float32)
    at = candidates.ids >= 0
    rows = np.nonzero(at)[0]
    pairs = zip(rows, candidates.ids[at], strict=True)
    scores[at] = predicted(folder, [(whole(queries[row]), PASSAGES[vid]) for row, vid in pairs])
    return scores


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cross-encoders")


@pytest.fixture(scope="module")
def bert(home) -> Path:
    return build_cross_encoder("bert", home / "shared")


@pytest.mark.parametrize("kind", CROSS_KINDS)
def test_scores_are_the_librarys(kind, home):
    folder = build_cross_encoder(kind, home)
    theirs = expected(folder)
    at = np.isfinite(theirs)
    assert theirs[at].std() > 0.1
    for runtime in RUNTIMES:
        exact = open_cross_encoder(folder, texts_of, runtime=runtime, precision="float32")
        ours = exact.score(QUERIES, every())
        assert (exact.runtime, exact.precision) == (runtime, "float32")
        assert ours.dtype == np.float32
        assert np.abs(ours[at] - theirs[at]).max() < 1e-4
        assert (ours[~at] == -np.inf).all()
        assert (np.argsort(-ours, axis=1) == np.argsort(-theirs, axis=1)).all()
        rough = open_cross_encoder(folder, texts_of, runtime=runtime, precision="bf16")
        near = rough.score(QUERIES, every())
        assert rough.precision == "bf16"
        assert np.corrcoef(near[at], theirs[at])[0, 1] > 0.98  # random weights lose most in bf16


def test_the_chain_of_version_6_and_its_prompt(bert, home):
    folder = with_chain(bert, home / "chain", prompts={"q": "search: "}, default_prompt_name="q")
    theirs = expected(folder, QUERIES[:1])
    assert not np.allclose(theirs, expected(bert, QUERIES[:1]), atol=0.01)
    for runtime in RUNTIMES:
        reranker = open_cross_encoder(folder, texts_of, runtime=runtime, precision="float32")
        ours = reranker.score(QUERIES[:1], every(QUERIES[:1]))
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_chain_that_pools(bert, home):
    with models.calm():
        import torch
        from sentence_transformers import CrossEncoder
        from sentence_transformers.base.modules import Dense, Transformer
        from sentence_transformers.sentence_transformer.modules import Pooling

        head = Dense(64, 1, activation_function=torch.nn.Identity(), module_output_name="scores")
        chain = [Transformer(str(bert)), Pooling(64, pooling_mode="mean"), head]
        folder = home / "pooled"
        CrossEncoder(modules=chain, device="cpu").save_pretrained(
            str(folder), create_model_card=False
        )
    theirs = expected(folder)
    for runtime in RUNTIMES:
        reranker = open_cross_encoder(folder, texts_of, runtime=runtime, precision="float32")
        np.testing.assert_allclose(reranker.score(QUERIES, every()), theirs, atol=1e-4)


@pytest.mark.parametrize("template", [None, TEMPLATE])
def test_decoders_that_answer_yes_or_no_run_on_torch(home, template):
    folder = build_decoder(home, template=template)
    assert not read_cross_folder(folder).plain
    reranker = open_cross_encoder(folder, texts_of)
    ours = reranker.score(QUERIES[:1], every(QUERIES[:1]))
    np.testing.assert_allclose(ours, expected(folder, QUERIES[:1]), atol=1e-4)
    assert (reranker.runtime, reranker.precision) == ("torch", "float32")
    with pytest.raises(UsageError, match="needs runtime torch"):
        open_cross_encoder(folder, texts_of, runtime="openvino")


def test_a_template_that_leaves_the_pair_out_is_one_line(home):
    folder = build_decoder(home / "bare", template="nothing of it")
    reranker = open_cross_encoder(folder, texts_of)
    with pytest.raises(ModelError, match="cannot lay out a pair: The chat template") as caught:
        reranker.score(QUERIES, every())
    assert "\n" not in str(caught.value)


def test_a_maximum_length_of_the_callers(bert):
    with models.calm():
        import torch
        from sentence_transformers import CrossEncoder

        model = CrossEncoder(
            str(bert), device="cpu", max_length=16, activation_fn=torch.nn.Identity()
        )
        theirs = model.predict([[QUERIES[0], text] for text in PASSAGES], show_progress_bar=False)
    ids = np.arange(len(PASSAGES))[None]
    candidates = Candidates(ids, np.zeros(ids.shape, dtype=np.float32))
    for runtime in RUNTIMES:
        reranker = open_cross_encoder(
            bert, texts_of, runtime=runtime, precision="float32", max_length=16
        )
        assert reranker.max_length == 16
        np.testing.assert_allclose(reranker.score(QUERIES[:1], candidates)[0], theirs, atol=1e-4)
    assert open_cross_encoder(bert, texts_of, max_length=9_999).max_length == 48


def test_pairs_are_cut_as_the_library_cuts_them(bert):
    from transformers import AutoTokenizer

    tokens = PairTokens(read_cross_folder(bert))
    library = AutoTokenizer.from_pretrained(str(bert), local_files_only=True)
    long = "one two three four five six seven " * 20
    pairs = [("short", long), (long, "short"), (long, long), ("", long), ("a", "b")]
    for pair, row in zip(pairs, tokens.tokenize(pairs), strict=True):
        theirs = library(*pair, truncation=True, max_length=48)
        assert row.ids.tolist() == theirs["input_ids"]
        assert row.types.tolist() == theirs["token_type_ids"]


def test_endless_texts_are_not_tokenized_whole(bert):
    tokens = PairTokens(read_cross_folder(bert))
    [row] = tokens.tokenize([("query", "word " * 2_000_000)])
    assert row.ids.tolist() == tokens.tokenize([("query", "word " * 100)])[0].ids.tolist()


def test_no_candidates_load_no_model(bert):
    def never(vids: Sequence[int]) -> Mapping[int, str]:
        raise AssertionError(f"asked for {vids}")

    reranker = open_cross_encoder(bert, never)
    empty = Candidates(np.full((2, 3), -1), np.full((2, 3), -np.inf, dtype=np.float32))
    assert reranker.score(["a", "b"], empty).tolist() == [[-np.inf] * 3] * 2
    none = Candidates(np.empty((0, 5), dtype=np.int64), np.empty((0, 5), dtype=np.float32))
    assert reranker.score([], none).shape == (0, 5)
    assert reranker._scorer is None


def test_a_passage_that_is_gone(bert):
    reranker = open_cross_encoder(bert, lambda vids: {})
    with pytest.raises(Corrupt, match="passage 7 is not in the index"):
        reranker.score(["a"], Candidates(np.array([[7]]), np.zeros((1, 1), dtype=np.float32)))


def test_each_passage_is_asked_for_once(bert):
    asked: list[Sequence[int]] = []

    def texts(vids: Sequence[int]) -> Mapping[int, str]:
        asked.append(list(vids))
        return texts_of(vids)

    ids = np.array([[3, 1, -1], [1, 2, 3]])
    reranker = open_cross_encoder(bert, texts)
    scores = reranker.score(["a", "b"], Candidates(ids, np.zeros(ids.shape, dtype=np.float32)))
    assert asked == [[1, 2, 3]]
    assert np.isfinite(scores[ids >= 0]).all()


def test_many_threads_at_once(bert):
    theirs = expected(bert)
    for runtime in RUNTIMES:
        reranker = open_cross_encoder(bert, texts_of, runtime=runtime, precision="float32")
        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(reranker.score, [QUERIES] * 12, [every()] * 12))
        for scores in found:
            np.testing.assert_allclose(scores, theirs, atol=1e-4)


def test_a_device_without_room_gets_halves(bert):
    """A runtime that holds 40 tokens: batches are split until they fit, or one pair does not."""
    tokens = PairTokens(read_cross_folder(bert))
    sizes = []

    class Small:
        name, precision, workers, budget, multiple = "torch", "float32", 1, 512, 1

        def run(self, features):
            if features["input_ids"].size > 40:
                raise OutOfMemory("full")
            sizes.append(len(features["input_ids"]))
            return features["attention_mask"].sum(axis=1).astype(np.float32)

    pairs = [("q", "word " * n) for n in range(1, 12)]
    lengths = [len(row.ids) for row in tokens.tokenize(pairs)]
    assert TokenScorer(tokens, Small()).score(pairs).tolist() == lengths
    assert sum(sizes) == len(pairs) > len(sizes)
    with pytest.raises(ModelError, match="out of memory on one pair of 48 tokens"):
        TokenScorer(tokens, Small()).score([("q", "word " * 90)])


def test_a_decoder_on_a_device_without_room_gets_smaller_batches():
    asked = []

    class Small:
        def predict(self, pairs, *, batch_size, show_progress_bar):
            asked.append(batch_size)
            if batch_size > room:
                raise RuntimeError("not enough memory")
            return np.arange(len(pairs))

    room = 8
    scorer = TextScorer(Small(), "float32", Path("model"))
    assert scorer.score([("a", "b"), ("a", "c")]).tolist() == [0, 1]
    assert asked == [32, 16, 8]
    room = 0
    with pytest.raises(ModelError, match="out of memory on one pair"):
        scorer.score([("a", "b")])


def test_what_overflows_in_half_precision_is_computed_again(bert, home, caplog):
    folder = changed(bert, home / "large", "classifier.weight", lambda weight: weight * 3e4)
    reranker = open_cross_encoder(folder, texts_of, runtime="torch", precision="fp16")
    theirs = expected(folder)
    assert np.abs(theirs[np.isfinite(theirs)]).max() > np.finfo(np.float16).max
    np.testing.assert_allclose(reranker.score(QUERIES, every()), theirs, rtol=0.05, atol=2e3)
    assert reranker.precision == "float32"
    assert "fp16 overflows in this cross-encoder" in caplog.text


def test_a_graph_that_cannot_be_kept_serves(bert, monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SEMSEARCH_CACHE", str(tmp_path / "file"))
    reranker = open_cross_encoder(bert, texts_of, runtime="openvino", precision="float32")
    np.testing.assert_allclose(reranker.score(QUERIES, every()), expected(bert), atol=1e-4)
    assert "the converted model is not kept" in caplog.text


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (MemoryError("full"), "out of memory on one pair"),
        (RuntimeError("could not allocate memory"), "out of memory on one pair"),
        (RuntimeError("\nbad shape\n"), "the model failed: bad shape"),
    ],
)
def test_faults_of_openvino_are_ours(bert, fault, message):
    class Broken:
        def infer(self, features, share_inputs):
            raise fault

    config = read_cross_folder(bert)
    tokens = PairTokens(config)
    runtime = OpenVinoPairs(config, tokens, "float32")
    while not runtime._idle.empty():
        runtime._idle.get()
    runtime._idle.put(Broken())
    for _ in range(2):  # what was taken is put back
        with pytest.raises(ModelError, match=message):
            TokenScorer(tokens, runtime).score([("a", "b")])


def test_what_cannot_be_converted_runs_on_torch(bert, monkeypatch, caplog, tmp_path):
    def fail(*_arguments: Any, **_options: Any) -> Any:
        raise RuntimeError("no such operation\nin a hundred lines")

    monkeypatch.setenv("SEMSEARCH_CACHE", str(tmp_path))
    monkeypatch.setattr(import_openvino(), "convert_model", fail)
    assert open_cross_encoder(bert, texts_of).runtime == "torch"
    assert "cannot be converted for OpenVINO: no such operation" in caplog.text
    assert "hundred lines" not in caplog.text


def test_auto_falls_back_to_torch(bert, monkeypatch, caplog):
    monkeypatch.setattr(
        "semsearch.ranking.cross_encoder.reranker.importlib.util.find_spec", lambda name: None
    )
    with caplog.at_level(logging.WARNING, "semsearch"):
        assert open_cross_encoder(bert, texts_of).runtime == "torch"
    assert "reranking with torch, which is slower here" in caplog.text
    with pytest.raises(ImportError, match="the openvino runtime needs"):
        assert open_cross_encoder(bert, texts_of, runtime="openvino").runtime


def changed(folder: Path, target: Path, name: str, change: Callable[[Any], Any]) -> Path:
    """A copy of a model with one of its weights changed."""
    from safetensors.numpy import load_file, save_file

    shutil.copytree(folder, target)
    weights = load_file(target / "model.safetensors")
    weights[name] = change(weights[name]).astype(np.float32)
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_numbers_that_are_none(bert, home):
    folder = changed(bert, home / "nan", "classifier.bias", lambda bias: bias * np.nan)
    for runtime in RUNTIMES:
        reranker = open_cross_encoder(folder, texts_of, runtime=runtime)
        with pytest.raises(ModelError, match="scores that are no numbers"):
            reranker.score(QUERIES, every())


def test_opening_loads_nothing_heavy_and_a_kept_graph_no_torch(bert):
    open_cross_encoder(bert, texts_of, runtime="openvino", precision="float32").score(
        QUERIES, every()
    )
    code = f"""
import sys
from semsearch.ranking.cross_encoder import open_cross_encoder
texts = lambda vids: {{vid: "text" for vid in vids}}
reranker = open_cross_encoder({str(bert)!r}, texts, runtime="openvino", precision="float32")
heavy = {{"torch", "openvino", "transformers", "sentence_transformers", "tokenizers"}}
print(sorted(heavy & set(sys.modules)))
import numpy as np
from semsearch.types import Candidates
reranker.score(["q"], Candidates(np.array([[1, 2]]), np.zeros((1, 2), dtype=np.float32)))
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.splitlines() == ["[]", "['openvino', 'tokenizers']"]
