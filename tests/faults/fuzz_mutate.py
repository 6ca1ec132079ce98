"""Sound examples made hostile, by a seed: bytes, texts and JSON values."""

from __future__ import annotations

import json
from random import Random
from typing import Any

LONG = 20_000

SPLICES: list[bytes] = [
    b"\0", b"\n", b"\r\n", b"\r", b"\t", b",", b'"', b"'", b"\\", b"{", b"}", b"[", b"]", b":",
    b"=", b"#", b"---\n", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xff", b"\xed\xa0\x80",
    b"\xc0\xaf", b"\x1f\x8b", b"\x1b[31m", b"\xe2\x80\xa8", b"\xc2\x85", b"\x0c", b"\xe2\x80\xae",
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-0", b"null", b"true", b"9" * 400, b"-1",
    b"0x10", b"1_0", b"18446744073709551616", b'"\\ud800"', b'"\\u0000"', b"\xd9\xa3",
    b"\xef\xbc\x91", b'"a":1,"a":2,', b'{"_id":"x","text":"y"}\n', b"q1\t0\td1\t1\n",
    b"q1 Q0 d1 1 0.5 t\n", b"id,text\n", b"../../outside/file", b"/etc/passwd", b"%s%n", b"${HOME}",
    b"' OR 1=1 --", b"<script>",
]  # fmt: skip

TEXTS: list[str] = [
    "", " ", "\n", "\0", "\ud800", "\udcff", "\ufeff", "\u2028", "\u202e", "\x1b[31m", "é",
    "e\u0301", "東京", "\U0001f600", "a" * LONG, "\u0301" * 3000, "NaN", "null", "-1", "0", "1e309",
    "٣", "１", "../../outside/file", "/etc/passwd", "'; DROP TABLE document; --",
    '" OR "1"="1', "%",
    "_", "?1", "$.a", "$[0]", "a' AND json_extract(meta,'$.a') --", "a.b", "a-b", "__proto__",
    "bal", "car", "d1", "q1", "id", "text", "metadata", "ａ", "аdmin", "ﬁ", "İ", "ß", "x" * 65,
    "-h",
    "--", "-",
]  # fmt: skip

NUMBERS: list[Any] = [
    0, -1, 1, 2, 255, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**30, 10**400,
    0.5, -0.0, 1e308, -1e308, 5e-324, float("nan"), float("inf"), float("-inf"),
]  # fmt: skip


def deep(random: Random) -> bytes:
    """Brackets in each other, closed or not."""
    many = random.choice([50, 101, 990, 5_000, 100_000])
    opening, closing = random.choice([(b"[", b"]"), (b'{"a":', b"}")])
    return opening * many + b"1" + closing * random.choice([0, many])


def spliced(random: Random) -> bytes:
    """Something that means something to some reader."""
    chance = random.random()
    if chance < 0.02:
        return deep(random)
    if chance < 0.04:
        return random.choice([b"x", b" ", b"9", b'"', b",", b"\t", b"a\n"]) * LONG
    return random.choice(SPLICES)


def mutated(random: Random, data: bytes, most: int = 4) -> bytes:
    """One to ``most`` changes of a file's bytes."""
    for _ in range(random.randint(1, random.choice([1, most]))):
        data = _changed(random, data)
    return data


def _changed(random: Random, data: bytes) -> bytes:
    size = len(data)
    at, length = random.randint(0, size), random.choice([1, 1, 2, 8, 40, size // 2 + 1])
    kind = random.randrange(8)
    if kind == 0 and size:
        at = random.randrange(size)
        return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]
    if kind == 1:
        return data[:at]
    if kind == 2:
        return data[:at] + data[at : at + length] * random.choice([2, 3, 50]) + data[at + length :]
    if kind == 3:
        return data[:at] + data[at + length :]
    if kind == 4:
        other = random.randint(0, size)
        return data[:at] + data[other : other + length] + data[at:]
    if kind == 5:
        return data[:at] + random.randbytes(min(length, 16)) + data[at + length :]
    if kind == 6:
        return data[:at] + spliced(random) + data[at + length :]
    return data[:at] + spliced(random) + data[at:]


def text(random: Random) -> str:
    """A hostile text, short more often than long."""
    if random.random() < 0.3:
        return "".join(random.choice(TEXTS)[:20] for _ in range(random.randint(1, 4)))
    if random.random() < 0.2:
        return "".join(chr(random.randrange(0x11000)) for _ in range(random.randint(1, 12)))
    return random.choice(TEXTS)


def value(random: Random, depth: int = 0) -> Any:
    """A JSON value, or one that only Python's reader takes for JSON."""
    kind = random.randrange(8 if depth < 3 else 5)
    if kind < 2:
        return text(random)
    if kind < 4:
        return random.choice(NUMBERS)
    if kind == 4:
        return random.choice([None, True, False])
    if kind == 5:
        return [value(random, depth + 1) for _ in range(random.randint(0, 4))]
    if kind == 6:
        return {text(random): value(random, depth + 1) for _ in range(random.randint(0, 4))}
    nested: Any = 1
    for _ in range(random.choice([3, 99, 100, 101, 400])):
        nested = [nested] if random.random() < 0.5 else {"a": nested}
    return nested


def changed_value(random: Random, good: Any) -> Any:
    """A JSON value with one part of it replaced, lost or put elsewhere."""
    if isinstance(good, dict) and good and random.random() < 0.85:
        key = random.choice(list(good))
        rest = {k: v for k, v in good.items() if k != key}
        if random.random() < 0.2:
            return rest
        if random.random() < 0.2:
            return {**rest, text(random): good[key]}
        return {**good, key: changed_value(random, good[key])}
    if isinstance(good, list) and good and random.random() < 0.7:
        at = random.randrange(len(good))
        return [*good[:at], changed_value(random, good[at]), *good[at + 1 :]]
    return value(random)


def written(random: Random, good: Any) -> bytes:
    """JSON text of a changed value, whose bytes may be changed too."""
    found = changed_value(random, good)
    while random.random() < 0.4:
        found = changed_value(random, found)
    try:
        data = json.dumps(found, ensure_ascii=random.random() < 0.5).encode(
            "utf-8", "surrogatepass"
        )
    except (RecursionError, ValueError):
        data = b"{}"
    return mutated(random, data, 2) if random.random() < 0.25 else data
