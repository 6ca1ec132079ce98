"""Hostile corpora, labels, runs, recipes, model folders, filters and lexical queries.

Each ``case_...(random, folder)`` makes one hostile input in an empty folder, gives it to its reader
and returns what came of it; whatever is accepted must be sound.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import os
import struct
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from semsearch.corpus import BeirDataset, read_corpus, read_qrels, read_queries, read_run
from semsearch.encoders.fingerprint import fingerprint
from semsearch.encoders.folder import read_folder
from semsearch.encoders.tokens import Tokens
from semsearch.lexical.matching import matched_words
from semsearch.lexical.memory import MemoryLexical
from semsearch.lexical.tokens import MAX_WORD, query_words, words
from semsearch.ranking.cross_encoder.folder import read_cross_folder
from semsearch.store.database import open_writer
from semsearch.store.documents import insert_document
from semsearch.store.filters import documents_matching, matches, parse_filter
from semsearch.training import read_recipe
from semsearch.types import Document
from tests.faults import fuzz_mutate as hostile
from tests.faults.fuzz_verdict import ACCEPTED, REFUSED, Wrong, attempt
from tests.faults.steps_oracle import Wanted, keeps

# ---- corpora

RECORDS: list[dict[str, Any]] = [
    {"_id": "d1", "title": "First", "text": "bal car dir", "year": 2019, "tags": ["x", "y"]},
    {"id": 7, "text": "bal\ncar", "metadata": {"lang": "de", "n": 1.5, "deep": {"a": [1, None]}}},
    {"docid": "é/1", "contents": "東京 tower", "title": None, "ok": True},
]
TABLE = 'id,title,text,year\n1,One,"bal, ""car""\nnext",2019\n2,Two,dir,x\n"3",,nor,\n'
MARKDOWN = "---\ntitle: Front\n---\n# Heading\n\nbal *car* [dir](x.md)\n\n```\n# no heading\n```\n"


def _json_lines(random: Random) -> bytes:
    lines = [json.dumps(record).encode() for record in RECORDS]
    if random.random() < 0.6:
        at = random.randrange(len(lines))
        lines[at] = hostile.written(random, RECORDS[at])
    return b"\n".join(lines) + b"\n"


@cache
def _parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(
        [{"id": str(n), "text": f"bal {n}", "n": n, "tags": ["a", None]} for n in range(4)]
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def _corpus_file(random: Random, folder: Path) -> Path:
    kind = random.choice(
        ["c.jsonl", "c.jsonl", "c.jsonl.gz", "c.csv", "c.tsv", "c.csv.gz", "c.md", "c.txt",
         "c.parquet", "c.json", "c", "c.ndjson"]
    )  # fmt: skip
    if ".parquet" in kind:
        data = _parquet()
    elif ".csv" in kind or ".tsv" in kind:
        data = (TABLE if "csv" in kind else TABLE.replace(",", "\t")).encode()
    elif kind in ("c.md", "c.txt"):
        data = MARKDOWN.encode()
    else:
        data = _json_lines(random)
    if random.random() < 0.8:
        data = hostile.mutated(random, data)
    if kind.endswith(".gz"):
        data = gzip.compress(data, 1)
        if random.random() < 0.4:
            data = hostile.mutated(random, data, 2)
    path = folder / kind
    path.write_bytes(data)
    return path


ODD_NAMES = [b"a.md", b"b.txt", b"\xff\xfe.md", b"new\nline.md", b".hidden.md", "é東.txt".encode(),
             b"x" * 200 + b".md", b"-h.txt", b"*.md", b"[a].txt", b"sub/c.md"]  # fmt: skip


def _text_folder(random: Random, folder: Path) -> Path:
    place = folder / "texts"
    (place / "sub").mkdir(parents=True)
    for name in random.sample(ODD_NAMES, 3):
        data = hostile.mutated(random, MARKDOWN.encode())
        Path(os.fsdecode(bytes(place) + b"/" + name)).write_bytes(data)
    if random.random() < 0.3:
        (place / "loop").symlink_to(place)
        (place / "out.md").symlink_to(folder.parent / "outside" / "file")
        (place / "gone.txt").symlink_to("nowhere")
        os.mkfifo(place / "pipe.md")
    return place


def _beir(random: Random, folder: Path) -> Path:
    place = folder / "set"
    (place / "qrels").mkdir(parents=True)
    files = {
        "corpus.jsonl": _json_lines(random),
        "queries.jsonl": QUERIES_JSON,
        "qrels/test.tsv": QRELS_BEIR,
    }
    for name in random.sample(sorted(files), random.randint(1, 3)):
        files[name] = hostile.mutated(random, files[name])
    if random.random() < 0.1:
        del files[random.choice(sorted(files))]
    for name, data in files.items():
        (place / name).write_bytes(data)
    return place


def case_corpus(random: Random, folder: Path) -> str:
    """A corpus of any format, read to its end."""
    kind = random.random()
    path = _corpus_file(random, folder)
    if kind < 0.1:
        path = _text_folder(random, folder)
    elif kind < 0.15:
        path = _beir(random, folder)
    elif kind < 0.2:
        path = folder / random.choice(["c*", "**/*", "[", "c.[jc]*", "nothing", "\udcff", "*\n*"])
    options: dict[str, Any] = {"on_error": random.choice(["stop", "skip"])}
    for name in ("id_field", "text_field"):
        if random.random() < 0.15:
            options[name] = random.choice(["id", "text", "year", "tags", hostile.text(random)])
    found: list[Document] = []
    skipped: list[Exception] = []
    verdict = attempt(lambda: found.extend(read_corpus(path, **options, on_skip=skipped.append)))
    for error in skipped:
        attempt(lambda error=error: _raise(error))  # type: ignore[misc]
    for document in found:
        _require_sound(document)
    return verdict if not skipped else REFUSED


def _raise(error: Exception) -> None:
    raise error


def _require_sound(document: Document) -> None:
    """What a reader gives can be stored as it is."""
    if not document.id.strip() or "\0" in document.id + document.title + document.text:
        raise Wrong(f"accepted the document {document!r:.300}")
    document.id.encode()
    document.title.encode()
    document.text.encode()
    stored = json.dumps(dict(document.metadata), ensure_ascii=False, allow_nan=False)
    if json.loads(stored.encode()) != dict(document.metadata):
        raise Wrong(f"metadata is not JSON: {document.metadata!r:.300}")


# ---- labels and runs

QUERIES_JSON = b'{"_id": "q1", "text": "bal car"}\n{"_id": "q2", "text": "dir", "kind": "x"}\n'
QUERIES_TSV = b"q1\tbal car\nq2\tdir\n"
QRELS_BEIR = b"query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\t7\t0\nq2\td1\t2\n"
QRELS_TREC = b"q1 0 d1 1\nq1 0 7 0\nq2 0 d1 -1\n"
RUN_TREC = b"q1 Q0 d1 1 12.5 x\nq1 Q0 7 2 1e-3 x\nq2 Q0 d1 1 -inf x\n"
RUN_MARCO = b"q1\td1\t1\nq1\t7\t2\nq2\td1\t1\n"


def _file(random: Random, folder: Path, name: str, *samples: bytes) -> Path:
    data = hostile.mutated(random, random.choice(samples))
    if random.random() < 0.1:
        name, data = name + ".gz", gzip.compress(data, 1)
        data = hostile.mutated(random, data, 1) if random.random() < 0.5 else data
    path = folder / name
    path.write_bytes(data)
    return path


def case_qrels(random: Random, folder: Path) -> str:
    """Judgements."""
    path = _file(random, folder, "qrels.tsv", QRELS_BEIR, QRELS_TREC)
    found: dict[str, dict[str, int]] = {}
    verdict = attempt(lambda: found.update(read_qrels(path)))
    for query, judged in found.items():
        if not query or not all(d and isinstance(g, int) for d, g in judged.items()):
            raise Wrong(f"accepted judgements {query!r}: {judged!r:.200}")
    return verdict


def case_queries(random: Random, folder: Path) -> str:
    """Queries."""
    name = random.choice(["queries.jsonl", "queries.tsv", "queries.csv", "queries", "q.txt"])
    path = _file(random, folder, name, QUERIES_JSON, QUERIES_TSV)
    found: list[Any] = []
    verdict = attempt(lambda: found.extend(read_queries(path)))
    for query in found:
        if not query.id or "\0" in query.id + query.text:
            raise Wrong(f"accepted the query {query!r:.200}")
        (query.id + query.text).encode()
    return verdict


def case_run(random: Random, folder: Path) -> str:
    """A run."""
    path = _file(random, folder, "run.trec", RUN_TREC, RUN_MARCO)
    found: dict[str, dict[str, float]] = {}
    verdict = attempt(lambda: found.update(read_run(path)))
    for ranking in found.values():
        if any(math.isnan(score) for score in ranking.values()):
            raise Wrong(f"accepted NaN: {ranking!r:.200}")
    return verdict


def case_dataset(random: Random, folder: Path) -> str:
    """A BEIR folder's labels."""
    place = _beir(random, folder)
    split = random.choice([None, "test", "dev", "../qrels/test", hostile.text(random)[:50]])
    return attempt(lambda: BeirDataset.open(place, split))


# ---- recipes


@cache
def _recipes() -> list[bytes]:
    folder = Path(__file__).parents[2] / "data" / "recipes"
    return [path.read_bytes() for path in sorted(folder.glob("*.toml"))]


def case_recipe(random: Random, folder: Path) -> str:
    """A training recipe, and settings changed from the command line."""
    data = random.choice(_recipes())
    if random.random() < 0.8:
        data = hostile.mutated(random, data)
    if random.random() < 0.5:
        lines = data.split(b"\n")
        at = random.randrange(len(lines))
        key = lines[at].partition(b"=")[0]
        text = json.dumps(hostile.value(random))[:50_000].encode("utf-8", "replace")
        lines[at] = key + b"= " + text
        data = b"\n".join(lines)
    path = folder / "recipe.toml"
    path.write_bytes(data)
    keys = ["training.learning_rate", "training.seed", "loss.name", "name", "a.b.c", "data", ""]
    changes = [
        f"{random.choice(keys)}={hostile.text(random)[:200]}"
        for _ in range(random.choice([0, 0, 0, 1, 2]))
    ]
    return attempt(lambda: read_recipe(path, changes))


# ---- model folders

BERT: dict[str, Any] = {
    "architectures": ["BertModel"], "model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 64,
    "vocab_size": 8, "pad_token_id": 0, "id2label": {"0": "one"},
}  # fmt: skip
CHAIN: list[Any] = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"},
    {
        "idx": 3,
        "name": "3",
        "path": "3_Normalize",
        "type": "sentence_transformers.models.Normalize",
    },
]
VOCABULARY = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "bal": 4, "car": 5, "##s": 6, "é": 7}
TOKENIZER: dict[str, Any] = {
    "version": "1.0", "truncation": None, "padding": None,
    "added_tokens": [
        {"id": n, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for n, text in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    ],
    "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                   "strip_accents": None, "lowercase": True},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
    "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
    "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
              "max_input_chars_per_word": 100, "vocab": VOCABULARY},
}  # fmt: skip


def _safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(8)


MODEL: dict[str, Any] = {
    "modules.json": CHAIN,
    "config.json": BERT,
    "config_sentence_transformers.json": {
        "prompts": {"query": "q: ", "document": ""}, "similarity_fn_name": "cosine",
        "matryoshka_dims": [8, 4], "truncate_dim": None, "model_type": "SentenceTransformer",
    },
    "sentence_bert_config.json": {"max_seq_length": 32, "do_lower_case": False},
    "tokenizer_config.json": {
        "model_max_length": 64, "tokenizer_class": "BertTokenizer", "pad_token": "[PAD]",
        "unk_token": "[UNK]", "do_lower_case": True,
    },
    "tokenizer.json": TOKENIZER,
    "1_Pooling/config.json": {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True},
    "2_Dense/config.json": {
        "in_features": 16, "out_features": 8, "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    },
    "README.md": b"---\nlanguage: en\n---\nmatryoshka_dims: [8, 4]\n",
    "model.safetensors": _safetensors(),
    "2_Dense/model.safetensors": _safetensors(),
}  # fmt: skip
CROSS = {"model_type": "CrossEncoder", "prompts": {"x": "p: "}, "default_prompt_name": "x"}


def write_model(folder: Path, files: dict[str, Any]) -> Path:
    """A model folder of these files, JSON or bytes."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return folder


def case_model(random: Random, folder: Path) -> str:
    """A model folder, read as far as nothing is computed."""
    files = dict(MODEL)
    pairs = random.random() < 0.3
    if pairs:
        files["config_sentence_transformers.json"] = CROSS
        if random.random() < 0.5:
            del files["modules.json"]
            files["config.json"] = {**BERT, "architectures": ["BertForSequenceClassification"]}
    for name in random.sample(sorted(files), random.choice([1, 1, 2])):
        if random.random() < 0.05:
            del files[name]
        elif isinstance(files[name], bytes):
            files[name] = hostile.mutated(random, files[name])
        else:
            files[name] = hostile.written(random, files[name])
    place = write_model(folder / "model", files)
    return attempt(lambda: _read_cross(place) if pairs else _read_model(place))


def _read_model(place: Path) -> None:
    config = read_folder(place)
    fingerprint(config)
    tokens = Tokens(config)
    tokens.tokenize(["bal cars", "", "é" * 200, "\ud800"])
    tokens.length("bal")
    tokens.offsets("bal car")


def _read_cross(place: Path) -> None:
    config = read_cross_folder(place)
    fingerprint(config.model)


# ---- filters and lexical queries


@cache
def _connection() -> Any:
    import tempfile

    return open_writer(Path(tempfile.mkdtemp()) / "catalog.db").conn


def schema_of(connection: Any) -> list[Any]:
    """Every object that the database has."""
    found: list[Any] = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    return found


def hostile_metadata(random: Random) -> dict[str, Any]:
    """What documents may hold under any key, mended as readers of a corpus do."""
    from semsearch.corpus.fields import Fields
    from semsearch.errors import InputError

    for _ in range(20):
        raw = {
            random.choice(["a", "b", "year", hostile.text(random)[:300]]): hostile.value(random)
            for _ in range(random.randint(0, 4))
        }
        raw = {k: v for k, v in raw.items() if k.lower() not in ("id", "text", "title", "metadata")}
        try:
            made = Fields().document({"id": "x", "text": "y", **raw}, "made", 1)
        except InputError:
            continue
        return dict(made.metadata)
    return {"a": 1}


def _expression(random: Random, metadatas: list[dict[str, Any]]) -> tuple[str, Wanted | None]:
    """An expression; with what it means where that is sure."""
    if random.random() < 0.4:
        good = random.choice(["year>=2020", "lang in en,de", 'a="x"', "b != null", "a=1.5"])
        data = hostile.mutated(random, good.encode())
        return data.decode("utf-8", "surrogateescape"), None
    scalars: list[Any] = [
        2020,
        0,
        1.5,
        "x",
        "'",
        True,
        None,
        *hostile.NUMBERS,
        hostile.text(random),
    ]
    for metadata in metadatas:
        for value in metadata.values():
            scalars += value if isinstance(value, list) else [value]
    scalars = [v for v in scalars if _may_be_typed(v)]
    op = random.choice(["=", "!=", "<", "<=", ">", ">=", "in"])
    if op == "in":
        values = tuple(v for v in random.choices(scalars, k=3) if "," not in json.dumps(v))
    elif op in ("=", "!="):
        values = (random.choice(scalars),)
    else:
        values = (random.choice([v for v in scalars if v is not None and not isinstance(v, bool)]),)
    wanted = Wanted(random.choice(["a", "b", "year"]), op, values or (0,))
    return wanted.expression(), wanted


def _may_be_typed(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return -(10**300) < value < 10**300
    return value is None or (isinstance(value, str) and _is_utf8(value))


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def case_filter(random: Random, folder: Path) -> str:
    """A filter over documents: the index, the document and a plain reading agree."""
    connection = _connection()
    metadatas = [hostile_metadata(random) for _ in range(random.randint(1, 5))]
    before = schema_of(connection)
    connection.execute("BEGIN")
    try:
        for number, metadata in enumerate(metadatas, start=1):
            insert_document(connection, number, Document(f"d{number}", "t", "", metadata), 1)
        expressions, meant = zip(
            *(_expression(random, metadatas) for _ in range(random.randint(1, 2))), strict=True
        )
        found: list[Any] = []
        verdict = attempt(lambda: found.extend(parse_filter(expressions)))
        if verdict == ACCEPTED:
            _compare(connection, metadatas, tuple(found), meant)
        elif all(wanted is not None for wanted in meant):
            raise Wrong(f"refused {expressions!r:.300}")
    finally:
        connection.execute("ROLLBACK")
    if schema_of(connection) != before:
        raise Wrong("the schema changed")
    return verdict


def _compare(connection: Any, metadatas: Any, conditions: Any, meant: Any) -> None:
    read = [n for n, m in enumerate(metadatas, start=1) if matches(m, conditions)]
    looked_up = documents_matching(connection, conditions, 10**6)
    plain = [Wanted(c.field, c.op, c.values) for c in conditions]
    kept = [n for n, m in enumerate(metadatas, start=1) if keeps(m, plain)]
    if not read == looked_up == kept:
        raise Wrong(f"{conditions!r:.200}: {read} {looked_up} {kept} of {metadatas!r:.300}")
    if all(wanted is not None for wanted in meant):
        typed = [n for n, m in enumerate(metadatas, start=1) if keeps(m, meant)]
        if typed != kept:
            raise Wrong(f"{meant!r:.200} was read as {conditions!r:.200}")


def case_words(random: Random, folder: Path) -> str:
    """Any text as a document and as a query: words, and a search that finds it."""
    texts = [hostile.text(random) for _ in range(random.randint(1, 3))]
    if random.random() < 0.3:
        texts.append(hostile.mutated(random, b"bal AND (car* OR \"dir\")^2 text:x").decode(
            "utf-8", "surrogateescape"))  # fmt: skip
    language = random.choice(["en", "none", "de", "pt"])
    for text in texts:
        if any(not 1 <= len(w) <= MAX_WORD or w.split() != [w] for w in words(text, language)):
            raise Wrong(f"words of {text!r:.200}")
    if random.random() < 0.1:
        index = MemoryLexical(np.arange(len(texts)), texts, language)
        for number, text in enumerate(texts):
            found = index.search([text], len(texts)).ids[0].tolist()
            if query_words(text, language) and number not in found:
                raise Wrong(f"{text!r:.200} does not find itself")
    matched_words(texts[0][:2000], texts[-1][:2000], language)
    return ACCEPTED
