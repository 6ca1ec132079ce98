"""Cutting texts into passages: whatever the text and the tokenizer, nothing is lost, all fit."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from semsearch.encoders import passages
from semsearch.encoders import tokens as tokens_module
from semsearch.encoders.passages import Cutter, Span
from semsearch.encoders.tokens import Tokens
from semsearch.types import Document
from tests.fakes import real_encoder
from tests.models import sentences

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def trained(kind: str) -> Tokenizer:
    """A small tokenizer of a kind, trained on a few hundred lines."""
    options: dict[str, Any] = {"vocab_size": 400, "show_progress": False}
    if kind == "wordpiece":
        made = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=30))
        made.normalizer = normalizers.BertNormalizer()
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer: Any = trainers.WordPieceTrainer(special_tokens=SPECIAL, **options)
    elif kind == "unigram":  # one that sees no words: a token may hold spaces
        made = Tokenizer(models.Unigram())
        made.normalizer = normalizers.NFKC()
        made.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
        trainer = trainers.UnigramTrainer(special_tokens=SPECIAL, unk_token="[UNK]", **options)
    else:
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(special_tokens=SPECIAL, initial_alphabet=alphabet, **options)
    made.train_from_iterator(sentences(), trainer)
    ends = [(token, made.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=ends
    )
    return made


def tokens_of(kind: str, max_length: int) -> Tokens:
    """The small tokenizer of a kind as a model's; ``real`` is the default model's."""
    if kind == "real":
        config: Any = replace(real_encoder().config, max_length=max_length)
        return Tokens(config)
    text = trained(kind).to_str()
    config = SimpleNamespace(
        folder=kind, token_folder=kind, lower_case=False, max_length=max_length,
        tokenizer={"pad_token": "[PAD]", "unk_token": "[UNK]"}, transformer={},
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens_module, "tokenizer_json", lambda _: text)
        return Tokens(cast(Any, config))


KINDS = ("wordpiece", "unigram", "bytes", "real")
MADE = {kind: tokens_of(kind, 20) for kind in KINDS}


def cut(tokens: Tokens, text: str, title: str = "", **options: Any) -> list[Span]:
    """The passages of one document, which must hold all of it and be read whole."""
    document = Document("d", text, title)
    (spans,) = Cutter(tokens, **options).cut([document])
    content = document.content
    assert (spans[0].start, spans[-1].end) == (0, len(content))
    for before, after in zip(spans, spans[1:], strict=False):
        assert before.start < after.start <= before.end < after.end
    prompt = options.get("prompt", "")
    read = tokens.tokenize([prompt + document.passage(*span) for span in spans])
    assert not any(row.truncated for row in read)
    (whole,) = tokens.tokenize([prompt + content])
    assert (len(spans) == 1) == (not whole.truncated)
    return spans


TEXTS = st.lists(
    st.one_of(
        st.sampled_from(["a", "the keyword ", "Return. ", "!? ", "\n\n", " ", "\t", "12345 "]),
        st.sampled_from(
            ["日本語の", "文。", "ලංකාව ", "ﷺ", "e\u0301\u0327", "\U0001f600", "👩‍👩‍👧"]
        ),
        st.sampled_from(["\ud800", "\ud83d\ude00", "\ufffd", "\x00", "\u200b", "x" * 200]),
        st.text(max_size=8),
    ),
    max_size=60,
).map("".join)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(TEXTS, TEXTS)
@example("ﷺ" * 40, "")
@example("\U0001f600" * 40, "👩‍👩‍👧" * 9)
@example("x" * 400, "")
@example("\x00" * 90 + "word " * 30, "")
def test_nothing_is_lost_and_everything_fits(kind, text, title):
    if text.strip() or title.strip():
        cut(MADE[kind], text, title)


@pytest.mark.parametrize("kind", KINDS)
def test_a_maximum_of_few_tokens(kind):
    for most in (4, 5, 7):
        cut(tokens_of(kind, most), "Some words, and then a few more. " * 3)


def test_passages_of_the_real_model_overlap_and_end_with_sentences():
    text = " ".join(f"Sentence number {n} is about the subject of {n * n}." for n in range(300))
    tokens = real_encoder().tokens
    spans = cut(tokens, text)
    assert sum(text[span.start : span.end].endswith(".") for span in spans) > 0.7 * len(spans)
    assert sum(text[span.start :].startswith("Sentence") for span in spans) > 0.7 * len(spans)
    lengths = [row.length - 2 for row in tokens.tokenize([text[a:b] for a, b in spans])]
    assert max(lengths) <= 254
    assert min(lengths) > 120, "no crumb at the end"
    shared = [before.end - after.start for before, after in zip(spans, spans[1:], strict=False)]
    assert all(10 < characters < 400 for characters in shared)


def test_words_stay_whole_where_there_are_words():
    text = "alpha " * 3_000
    spans = cut(real_encoder().tokens, text.strip())
    assert len(spans) > 12
    assert all(set(text[a:b].split()) == {"alpha"} for a, b in spans)


def test_a_prompt_takes_its_room():
    tokens = MADE["real"]
    text = " ".join(["word"] * 16)
    assert len(cut(tokens, text)) == 1
    assert len(cut(tokens, text, prompt="the passage: ")) > 1


def test_other_passages_than_the_first_have_the_title_before_them():
    document = Document("d", "one two three four. " * 30, "The title")
    (spans,) = Cutter(real_encoder().tokens).cut([document])
    assert spans == [Span(0, len(document.content))]
    (spans,) = Cutter(MADE["real"]).cut([document])
    texts = [document.passage(*span) for span in spans]
    assert texts[0].startswith("The title one")
    assert all(text.startswith("The title ") for text in texts[1:])
    long = replace(document, title="a title " * 20)
    (spans,) = Cutter(MADE["real"]).cut([long])
    assert all(long.passage(*span) == long.content[span.start : span.end] for span in spans)


@pytest.mark.parametrize("kind", ["wordpiece", "bytes"])
def test_megabytes_without_a_space(kind, monkeypatch):
    most = 40_000
    monkeypatch.setattr(tokens_module, "MOST_CHARACTERS", most)
    monkeypatch.setattr(passages, "MOST_CHARACTERS", most)
    tokens, plain = MADE[kind], MADE[kind].offsets
    seen: list[int] = []

    def offsets(text: str) -> Any:
        seen.append(len(text))
        return plain(text)

    monkeypatch.setattr(tokens, "offsets", offsets)
    cut(tokens, "x" * 300_000)
    assert max(seen) <= most, "no more is tokenized at once"
