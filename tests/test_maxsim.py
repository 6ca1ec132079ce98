"""Codes of tokens and MaxSim, compared with plain loops over signs in float64."""

import hashlib
import math

import numpy as np
import pytest

from semsearch.maxsim import POOLED, Codes, TokenCodec

DIMS = [1, 5, 8, 12, 16, 100, 384]


def token_rows(count, dim, seed=0):
    """Unit rows float32 (count, dim)."""
    rows = np.random.default_rng(seed).standard_normal((count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def signs(codes, codec):
    """-1 and 1, float64 (m, bits)."""
    return 2.0 * np.unpackbits(codes, axis=1)[:, : codec.bits] - 1


def naive(codec, query, passages):
    """For each passage: of each query token the best product with a unit sign vector, averaged."""
    found, at = [], 0
    for count in passages.counts.tolist():
        rows = signs(passages.codes[at : at + count], codec) / math.sqrt(codec.bits)
        at += count
        tops = [max(float(token @ row) for row in rows) for token in query if count]
        found.append(sum(tops) / len(tops) if tops else 0.0)
    return found


@pytest.mark.parametrize("dim", DIMS)
def test_directions_are_orthonormal_and_always_the_same(dim):
    codec = TokenCodec(dim)
    assert codec.width * 8 == codec.bits == max(8, dim - dim % 8)
    found = codec.projection
    assert found.shape == (dim, codec.bits)
    assert found.dtype == np.float32
    exact = found.astype(np.float64)
    gram = exact @ exact.T if dim < 8 else exact.T @ exact
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-6)
    np.testing.assert_array_equal(TokenCodec(dim).projection, found)


@pytest.mark.parametrize("dim", [8, 16, 100])
def test_directions_are_those_of_gram_and_schmidt(dim):
    """The QR decomposition with a positive diagonal is the only one."""
    normal = np.random.RandomState(0).standard_normal((dim, dim - dim % 8))  # noqa: NPY002
    done: list[np.ndarray] = []
    for column in normal.T:
        for _ in range(2):  # twice is enough for float64
            for before in done:
                column = column - (column @ before) * before
        done.append(column / np.linalg.norm(column))
    np.testing.assert_allclose(TokenCodec(dim).projection, np.array(done).T, atol=1e-6)


@pytest.mark.parametrize("dim", DIMS)
def test_a_code_holds_the_signs_of_three_neighbours_together(dim):
    codec = TokenCodec(dim)
    lengths = [7, 0, 1, 3, 2, 0, 6]
    rows = token_rows(sum(lengths), dim)
    found = codec.encode(rows, np.array(lengths))
    assert found.counts.tolist() == [3, 0, 1, 1, 1, 0, 2]
    assert found.codes.shape == (8, codec.width)
    assert found.codes.dtype == np.uint8
    expected, at = [], 0
    for length in lengths:
        text = rows[at : at + length].astype(np.float64)
        at += length
        groups = [text[start : start + POOLED] for start in range(0, length, POOLED)]
        expected += [np.mean(group, axis=0) @ codec.projection for group in groups]
    wanted = np.where(np.array(expected) >= 0, 1, -1)
    np.testing.assert_array_equal(signs(found.codes, codec), wanted)


@pytest.mark.parametrize(("pooled", "bits"), [(1, 16), (2, 16), (2, 8), (5, 8)])
def test_codes_of_other_widths_and_pools(pooled, bits):
    codec = TokenCodec(16, pooled=pooled, bits=bits)
    assert codec.name == f"signs {bits}/16 pooled {pooled}" != TokenCodec(16).name
    gram = codec.projection.astype(np.float64).T @ codec.projection
    np.testing.assert_allclose(gram, np.eye(bits), atol=1e-6)
    rows, lengths = token_rows(12, 16), [7, 0, 5]
    found = codec.encode(rows, np.array(lengths))
    assert found.counts.tolist() == [-(-length // pooled) for length in lengths]
    texts = [rows[:7], rows[7:7], rows[7:]]
    groups = [
        text[start : start + pooled] for text in texts for start in range(0, len(text), pooled)
    ]
    wanted = np.array([group.astype(np.float64).sum(0) @ codec.projection for group in groups])
    np.testing.assert_array_equal(signs(found.codes, codec), np.where(wanted >= 0, 1, -1))
    query = codec.project(token_rows(3, 16, seed=4))
    np.testing.assert_allclose(codec.scores(query, found), naive(codec, query, found), atol=1e-6)


def test_a_token_that_is_zero_has_a_code_like_any_other():
    codec = TokenCodec(16)
    found = codec.encode(np.zeros((2, 16), np.float32), np.array([2]))
    assert found.codes.tolist() == [[255, 255]]


@pytest.mark.parametrize("step", [1, 7, 64])
def test_codes_do_not_depend_on_what_is_encoded_together(step):
    codec = TokenCodec(384)
    lengths = np.random.default_rng(1).integers(0, 40, 200)
    rows = token_rows(int(lengths.sum()), 384)
    ends = np.cumsum(lengths)
    whole = codec.encode(rows, lengths)
    parts = []
    for start in range(0, len(lengths), step):
        some = lengths[start : start + step]
        first = int(ends[start] - lengths[start])
        parts.append(codec.encode(rows[first : first + int(some.sum())], some))
    np.testing.assert_array_equal(np.concatenate([p.codes for p in parts]), whole.codes)
    np.testing.assert_array_equal(np.concatenate([p.counts for p in parts]), whole.counts)


GOLDEN = {
    16: "8e59c55ef6dfe3a34e188fbe4c8a268615a60e302ac9d99eb1f42a1ac5ac9004",
    384: "3a1d6c0ab5f34504af657735b246573b26661934ca4dec7273455939aaffc329",
}


@pytest.mark.parametrize("dim", GOLDEN)
def test_codes_never_change(dim):
    """Those in files would mean something else: another codec needs another ``name``."""
    codec = TokenCodec(dim)
    assert codec.name == f"signs {dim}/{dim} pooled 3"
    # Integers, and a margin that no rounding crosses: whatever computes gives the same signs.
    rows = (np.arange(3 * 40 * dim, dtype=np.int64) * 7919 % 257 - 128).reshape(-1, dim)
    projected = rows.reshape(-1, 3, dim).sum(axis=1) @ codec.projection.astype(np.float64)
    clear = np.repeat(np.abs(projected).min(axis=1) > 1e-2, 3)
    assert clear.sum() > 20
    found = codec.encode(rows[clear].astype(np.float32), np.array([clear.sum()]))
    assert hashlib.sha256(found.codes.tobytes()).hexdigest() == GOLDEN[dim]


@pytest.mark.parametrize("dim", DIMS)
def test_scores_are_those_of_loops_over_signs(dim):
    codec = TokenCodec(dim)
    lengths = np.array([0, 1, 90, 3, 0, 400, 2, 7, 0])
    passages = codec.encode(token_rows(int(lengths.sum()), dim, 1), lengths)
    for count in (1, 2, 30):
        query = codec.project(token_rows(count, dim, 2))
        assert query.shape == (count, codec.bits)
        found = codec.scores(query, passages)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, naive(codec, query, passages), atol=1e-6)
        assert found[lengths == 0].tolist() == [0.0, 0.0, 0.0]


def test_many_codes_are_compared_in_parts_as_in_one():
    codec = TokenCodec(384)
    lengths = np.full(300, 20)
    passages = codec.encode(token_rows(6_000, 384, 3), lengths)
    query = codec.project(token_rows(50, 384, 4))
    np.testing.assert_allclose(
        codec.scores(query, passages), naive(codec, query, passages), atol=1e-6
    )


def test_a_passage_about_the_query_scores_higher_than_any_other():
    codec = TokenCodec(384)
    tokens = token_rows(60, 384)
    passages = codec.encode(tokens, np.full(10, 6))
    for number in range(10):
        own = codec.project(tokens[6 * number : 6 * number + 6])
        assert codec.scores(own, passages).argmax() == number


@pytest.mark.parametrize("lengths", [[], [0], [0, 0, 0], [4, 0]])
@pytest.mark.parametrize("count", [0, 3])
def test_nothing_to_compare_scores_nothing(lengths, count):
    codec = TokenCodec(16)
    passages = codec.encode(token_rows(sum(lengths), 16), np.array(lengths, np.int64))
    found = codec.scores(codec.project(token_rows(count, 16)), passages)
    assert found.shape == (len(lengths),)
    assert np.isfinite(found).all()
    if not count or not sum(lengths):
        assert not found.any()


def test_the_score_of_nothing_stored_at_all():
    """As token files give it: no codes, so of no width."""
    codec = TokenCodec(16)
    nothing = Codes(np.zeros((0, 0), np.uint8), np.zeros(2, np.int64))
    assert codec.scores(codec.project(token_rows(3, 16)), nothing).tolist() == [0.0, 0.0]
