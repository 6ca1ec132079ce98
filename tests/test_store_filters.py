"""Filters: one meaning, whether read from a document or looked up in the index."""

import json
import math
import operator
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from semsearch.errors import UsageError
from semsearch.store.database import open_writer
from semsearch.store.documents import insert_document, purge_deleted, stamp_deleted
from semsearch.store.filters import (
    Condition,
    documents_matching,
    matches,
    parse_condition,
    parse_filter,
)
from semsearch.types import Document

MANY = 10**6


@pytest.fixture(scope="module")
def connection(tmp_path_factory):
    database = open_writer(tmp_path_factory.mktemp("filters") / "catalog.db")
    yield database.conn
    database.close()


def store(connection, metadatas):
    """Documents 1 .. n with these metadata, and nothing else."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")
    connection.execute("BEGIN")
    connection.execute("DELETE FROM document")
    connection.execute("DELETE FROM field")
    for number, metadata in enumerate(metadatas, start=1):
        insert_document(connection, number, Document(f"d{number}", "text", "", metadata), 1)


# ---- parsing


@pytest.mark.parametrize(
    ("text", "field", "op", "values"),
    [
        ("year>=2020", "year", ">=", (2020,)),
        ("year <= 2020", "year", "<=", (2020,)),
        (" year < 1.5 ", "year", "<", (1.5,)),
        ("a>-3e2", "a", ">", (-300.0,)),
        ("lang=en", "lang", "=", ("en",)),
        ('lang="2020"', "lang", "=", ("2020",)),
        ("lang != null", "lang", "!=", (None,)),
        ("open=true", "open", "=", (True,)),
        ("lang in en, de ,3", "lang", "in", ("en", "de", 3)),
        ("_a9=x", "_a9", "=", ("x",)),
        ("a=b=c", "a", "=", ("b=c",)),
        ("a=[1]", "a", "=", ("[1]",)),
        ("a={}", "a", "=", ("{}",)),
        ("a=NaN", "a", "=", ("NaN",)),
        ("a=two words", "a", "=", ("two words",)),
        ("a='; DROP TABLE document; --", "a", "=", ("'; DROP TABLE document; --",)),
        ("n=123456789012345678901", "n", "=", (123456789012345678901,)),
        ("a=東京", "a", "=", ("東京",)),
        ("inn=1", "inn", "=", (1,)),
        ("in in 1", "in", "in", (1,)),
    ],
)
def test_expressions_are_typed(text, field, op, values):
    found = parse_condition(text)
    assert found == Condition(field, op, values)
    assert [type(value) for value in found.values] == [type(value) for value in values]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "year",
        "year>=",
        "=2020",
        ">= 2020",
        "9lives=1",
        "a-b=1",
        "a.b=1",
        "a b=1",
        "naïve=1",
        "x" * 65 + "=1",
        "year~2020",
        "インド=1",
        "yearin 3",
        "lang in",
        "lang in ",
        "open>true",
        "open<=null",
        "doc_id) OR 1=1 --",
        "'a'=1",
        "a\0b=1",
        "a in " + ",".join("x" * 257),
        'a="\\ud800"',
        "a=\udce9",
    ],
)
def test_what_cannot_be_parsed_is_one_line(text):
    with pytest.raises(UsageError) as caught:
        parse_condition(text)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("filter")
    message.encode()


def test_256_values_are_allowed():
    assert len(parse_condition("a in " + ",".join("x" * 256)).values) == 256


@given(st.text(max_size=40))
@example("a in \n")
@example("a=\x00")
def test_any_text_is_a_condition_or_one_line(text):
    try:
        (found,) = parse_filter([text])
    except UsageError as exc:
        message = str(exc)
    else:
        assert found.op in ("=", "!=", "<", "<=", ">", ">=", "in")
        assert found.field.isascii()
        return
    assert "\n" not in message


@pytest.mark.parametrize(
    ("op", "values"),
    [
        ("= 1 OR 1 =", (1,)),
        ("LIKE", ("%",)),
        ("", (1,)),
        ("<", (None,)),
        (">", (True,)),
        ("=", ([1],)),
        ("=", (math.nan,)),
        ("=", (math.inf,)),
        ("=", ()),
        ("=", (1, 2)),
        ("in", ()),
        ("in", tuple(range(257))),
        ("=", ("\ud800",)),
    ],
)
def test_a_condition_made_in_python_is_checked_too(op, values):
    with pytest.raises(UsageError, match="filter"):
        Condition("a", op, values)


# ---- meaning, by examples


@pytest.mark.parametrize(
    ("metadata", "expression", "expected"),
    [
        ({"y": 2020}, "y=2020", True),
        ({"y": 2020.0}, "y=2020", True),
        ({"y": "2020"}, "y=2020", False),
        ({"y": 2020}, 'y="2020"', False),
        ({"y": 2020}, "y!=2019", True),
        ({"y": "x"}, "y!=2019", False),
        ({}, "y!=2019", False),
        ({"y": None}, "y!=2019", False),
        ({"y": None}, "y=null", True),
        ({}, "y=null", False),
        ({"y": True}, "y=1", False),
        ({"y": 1}, "y=true", False),
        ({"y": False}, "y!=true", True),
        ({"y": [1, 5]}, "y>4", True),
        ({"y": [1, 5]}, "y>5", False),
        ({"y": [1, 5]}, "y!=1", True),
        ({"y": [1]}, "y!=1", False),
        ({"y": []}, "y!=1", False),
        ({"y": [[1]]}, "y=1", False),
        ({"y": {"z": 1}}, "y=1", False),
        ({"y": {"z": 1}}, "z=1", False),
        ({"y": "b"}, "y>a", True),
        ({"y": "B"}, "y>a", False),
        ({"y": "é"}, "y>z", True),
        ({"y": "\U0001f600"}, "y>\uffee", True),  # by code point, not by UTF-16 unit
        ({"y": "de"}, "y in en,de", True),
        ({"y": "fr"}, "y in en,de", False),
        ({"y": 2**53 + 1}, f"y={2**53}", False),
        ({"y": float(2**53)}, f"y={2**53}", True),
        ({"y": float(2**53)}, f"y={2**53 + 1}", False),
        ({"y": 2**80}, f"y={2**80}", True),
        ({"y": 2**80}, f"y>{2**80 - 1}", True),
        ({"y": 2**80}, "y>7", True),
        ({"y": -(2**80)}, "y>7", False),
        ({"y": 2**80}, "y=x", False),
        ({"y": 7}, f"y<{2**80}", True),
        ({"y": 1e300}, f"y<{2**80}", False),
        ({"y": -0.0}, "y=0", True),
        ({"y": "x" * 300}, "y=" + "x" * 300, True),
        ({"y": "x" * 300 + "a"}, "y=" + "x" * 300 + "b", False),
        ({"y": "x" * 300}, "y>" + "x" * 256, True),
        ({"y": ["x" * 300, "b"]}, "y=b", True),
        ({"y": "a\0b"}, "y=a", False),
        ({"y": "' OR 1=1 --"}, "y=' OR 1=1 --", True),
        ({"y": "a"}, "y=' OR 1=1 --", False),
    ],
)
def test_the_meaning_by_examples_in_python_and_in_the_index(
    connection, metadata, expression, expected
):
    conditions = parse_filter([expression])
    assert matches(metadata, conditions) is expected
    store(connection, [metadata])
    assert documents_matching(connection, conditions, MANY) == ([1] if expected else [])


# ---- the index against a plain reading of the rules, over random documents

KEYS = ["a", "b", "c", "document", "'; DROP TABLE field; --", "a\0", "é", ""]
TEXTS = ["", "a", "b", "A", "é", "東京", "\U0001f600", "\uffff", "'", '"', "%", "a\0", "a\0b", "1",
         "' OR ''='", "x" * 256, "x" * 257, "x" * 300, "x" * 300 + "é", "null", "true"]  # fmt: skip
NUMBERS = [0, 1, -1, 2, 255, 2**31, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 2**64, 10**30,
           -(10**30), 0.0, -0.0, 0.5, 1.0, float(2**53), float(2**63), 1e30, -1e308]  # fmt: skip
texts = st.sampled_from(TEXTS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
numbers = st.sampled_from(NUMBERS) | st.integers(-5, 5) | st.floats(-3, 3, width=16)
scalars = st.one_of(texts, numbers, st.booleans(), st.none())
elements = scalars | st.dictionaries(texts, scalars, max_size=2)
values = st.one_of(scalars, scalars, st.lists(elements, max_size=4), elements)
metadatas = st.dictionaries(st.sampled_from(KEYS), values, max_size=4)


@st.composite
def conditions(draw):
    op = draw(st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "in"]))
    field = draw(st.sampled_from(KEYS[:4] * 3 + KEYS))
    if op == "in":
        wanted = draw(st.lists(scalars, min_size=1, max_size=4))
    else:
        wanted = [draw(scalars if op in ("=", "!=") else texts | numbers)]
    return Condition(field, op, tuple(wanted))


COMPARE = {"=": operator.eq, "in": operator.eq, "!=": operator.ne, "<": operator.lt,
           "<=": operator.le, ">": operator.gt, ">=": operator.ge}  # fmt: skip
KINDS = {bool: "bool", int: "number", float: "number", str: "text", type(None): "null"}


def holds(metadata, condition):
    """The rules once more, read plainly."""
    if condition.field not in metadata:
        return False
    value = metadata[condition.field]
    for element in value if isinstance(value, list) else [value]:
        for wanted in condition.values:
            same_kind = KINDS.get(type(element), "none") == KINDS[type(wanted)]
            if same_kind and COMPARE[condition.op](element, wanted):
                return True
    return False


@settings(max_examples=400)
@given(
    collection=st.lists(metadatas, max_size=12),
    wanted=st.lists(conditions(), min_size=1, max_size=3),
)
def test_the_index_the_document_and_the_rules_agree(connection, collection, wanted):
    store(connection, collection)
    stored = [json.loads(row[0]) for row in connection.execute("SELECT meta FROM document")]
    assert stored == collection
    expected = [
        number
        for number, metadata in enumerate(collection, start=1)
        if all(holds(metadata, condition) for condition in wanted)
    ]
    filter_ = tuple(wanted)
    assert [n for n, m in enumerate(collection, 1) if matches(m, filter_)] == expected
    assert documents_matching(connection, filter_, MANY) == expected


@settings(max_examples=300)
@given(
    collection=st.lists(metadatas, max_size=14),
    wanted=st.lists(conditions(), min_size=1, max_size=3),
    limit=st.integers(0, 6),
)
def test_nothing_is_resolved_only_above_the_limit(connection, collection, wanted, limit):
    store(connection, collection)
    each = [sum(holds(m, condition) for m in collection) for condition in wanted]
    found = documents_matching(connection, tuple(wanted), limit)
    if min(each) > limit:
        assert found is None
    else:
        expected = [n for n, m in enumerate(collection, 1) if all(holds(m, c) for c in wanted)]
        assert found == expected


def test_lists_of_many_values_count_as_one_document(connection):
    store(connection, [{"tag": [f"t{n}" for n in range(20)]}, {"tag": ["a", "b"]}])
    assert documents_matching(connection, parse_filter(["tag!=x"]), 2) == [1, 2]
    assert documents_matching(connection, parse_filter(["tag!=x"]), 1) is None
    assert documents_matching(connection, parse_filter(["tag in t1,t2,t3"]), 1) == [1]


def test_no_condition_resolves_to_nothing_in_particular(connection):
    store(connection, [{}])
    assert matches({}, ())
    assert documents_matching(connection, (), MANY) is None


@given(st.lists(metadatas, max_size=6), st.sets(st.integers(1, 6)))
def test_purging_takes_a_documents_fields_along_and_no_others(connection, collection, gone):
    store(connection, collection)
    stamp_deleted(connection, sorted(n for n in gone if n <= len(collection)), 2)
    purge_deleted(connection)
    kept = {n: m for n, m in enumerate(collection, 1) if n not in gone}
    left = connection.execute("SELECT DISTINCT doc_id FROM field").fetchall()
    assert {doc_id for (doc_id,) in left} <= set(kept)
    for condition in (Condition("a", "!=", ("x",)), Condition("b", ">=", (0,))):
        expected = [n for n, m in kept.items() if holds(m, condition)]
        assert documents_matching(connection, (condition,), MANY) == expected


HOSTILE = ["'; DROP TABLE document; --", "\" OR 1=1", "x' UNION SELECT sql FROM sqlite_master --",
           "%", "_", "?", "?1", ":a", "@a", "$a", "$.a", "a' AND '1'='1", "\\", "\x00"]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_only_text(connection, text):
    store(connection, [{"a": text, text: 1}, {"a": "other", "other": 1}])
    assert documents_matching(connection, (Condition("a", "=", (text,)),), MANY) == [1]
    assert documents_matching(connection, (Condition("a", "!=", (text,)),), MANY) == [2]
    assert documents_matching(connection, (Condition(text, "=", (1,)),), MANY) == [1]
    assert documents_matching(connection, (Condition(text, ">", (1,)),), MANY) == []
    tables = connection.execute("SELECT count(*) FROM document").fetchone()
    assert tables == (2,)


def test_lookups_scan_no_table(connection):
    store(connection, [{"a": n} for n in range(50)])
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    try:
        assert documents_matching(connection, parse_filter(["a>=48"]), MANY) == [49, 50]
    finally:
        connection.set_trace_callback(None)
    assert statements
    for statement in statements:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
        assert "SCAN field" not in str(plan)
        assert "SCAN document" not in str(plan)


# ---- ten thousand hostile keys and values

COUNT = 10_000
TOGETHER = 100
PATHS = [
    "$", "$.a", "$[0]", "$.a[#-1]", "a' AND json_extract(meta, '$.x') IS NOT NULL --", "a\"]",
    "a') OR 1=1 --", "x'; DROP TABLE field; --", "a.b", "a->>'b'", "__proto__", "constructor",
    "'||(SELECT sql FROM sqlite_master)||'", "{$ne: null}", "${jndi:ldap://x}", "%27%20OR%201=1",
    "a\\u0000b", "\\", "\\\\'", "\"\"", "''", "`", "[a]", ":1", "?1", "@a", "#", "--", "/*", "*/",
    ";",
]  # fmt: skip
ALIKE = [
    "year", "yеar", "ｙear", "year\u200b", "YEAR", "ye\u0301ar", "yéar", "year ", " year", "ÿear",
    "ﬁeld", "İ", "ı", "ß", "ẞ", "K", "Å", "Å",
]  # fmt: skip


def hostile_text(chance):
    if chance.random() < 0.3:
        return "".join(chance.choice(PATHS) for _ in range(chance.randint(1, 3)))
    if chance.random() < 0.3:
        return chance.choice(ALIKE)
    drawn = [chr(chance.choice([chance.randrange(128), chance.randrange(0x110000)])) for _ in "123"]
    return "".join(c for c in drawn if not "\ud800" <= c <= "\udfff")


def hostile_value(chance, depth=0):
    kind = chance.randrange(7 if depth < 4 else 5)
    if kind < 2:
        return hostile_text(chance)
    if kind == 2:
        return chance.choice(NUMBERS)
    if kind == 3:
        return chance.choice([None, True, False])
    if kind == 4:
        return chance.randrange(-(2**70), 2**70)
    if kind == 5:
        return [hostile_value(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {hostile_text(chance): hostile_value(chance, depth + 1) for _ in range(2)}


def hostile_condition(chance, metadata):
    """One that is about this document's own hostile key and value, more often than not."""
    key = chance.choice([*metadata, hostile_text(chance)])
    held = metadata.get(key)
    near = held if isinstance(held, list) else [held]
    found = [v for v in [*near, hostile_text(chance), 0] if not isinstance(v, (list, dict))]
    op = chance.choice(["=", "!=", "<", "<=", ">", ">=", "in"])
    if op in ("<", "<=", ">", ">="):
        found = [v for v in found if v is not None and not isinstance(v, bool)]
    return Condition(key, op, tuple(found[:3] if op == "in" else found[:1]))


def test_ten_thousand_hostile_keys_and_values_are_only_keys_and_values(connection):
    chance = random.Random(20)
    schema = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    kept = 0
    for _ in range(COUNT // TOGETHER):
        collection = [
            {hostile_text(chance): hostile_value(chance), "year": hostile_value(chance)}
            for _ in range(TOGETHER)
        ]
        store(connection, collection)
        for metadata in collection:
            wanted = hostile_condition(chance, metadata)
            expected = [n for n, m in enumerate(collection, 1) if holds(m, wanted)]
            assert documents_matching(connection, (wanted,), MANY) == expected, wanted
            assert [n for n, m in enumerate(collection, 1) if matches(m, (wanted,))] == expected
            kept += bool(expected)
    assert COUNT / 4 < kept < COUNT
    assert connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall() == schema


def test_a_hostile_field_of_an_expression_is_refused_and_a_hostile_value_is_a_value():
    chance = random.Random(21)
    for _ in range(COUNT):
        text = hostile_text(chance)
        try:
            (found,) = parse_filter([f"{text}=1"])
        except UsageError as exc:
            assert len(str(exc).splitlines()) == 1  # noqa: PT017
        else:
            assert found.field.isascii()
            assert found.field in text
        if text.strip():
            (found,) = parse_filter([f"a={text}"])
            assert found == Condition("a", "=", found.values)
            (found,) = parse_filter([f"a={json.dumps(text)}"])
            assert found.values == (text,)
