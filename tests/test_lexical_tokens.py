"""Words: what each script gives, and that no string whatever is too much."""

import random
import sys
import time
import unicodedata

import pytest

from semsearch.lexical import tokens
from semsearch.lexical.tokens import MAX_CHARACTERS, MAX_WORD, query_words, words


def counted(text):
    return sorted(words(text, "none"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The quick, brown fox!", "brown fox quick the"),
        ("don't Don\u2019t DON'T", "dont dont dont"),
        ("the dog's bone, it\u2019s", "bone dog it the"),
        ("l'homme d'\u00e1gua", "agua d homme l"),
        ("json.loads(x)", "json json.loads loads x"),
        ("Ubuntu 20.04.", "04 20 20.04 ubuntu"),
        ("read_csv __init__ ___ _", "__init__ csv init read read_csv"),
        ("DataFrame HTMLParser", "data dataframe frame html htmlparser parser"),
        ("mRNA PhD iPhone RNAs", "iphone mrna phd rnas"),
        ("json.JSONDecoder", "decoder json json json.jsondecoder jsondecoder"),
        ("C++ and C# in C", "and c c c c# c++ in"),
        ("a+b x#y", "a b x y"),
        ("@nasa #tag e-mail a/b", "a b e mail nasa tag"),
        ("end.Next one... two", "end end.next next one two"),
        ("caf\u00e9 cafe\u0301 CAF\u00c9", "cafe cafe cafe"),
        ("\u00dcbergr\u00f6\u00dfe Stra\u00dfe STRASSE", "strasse strasse ubergrosse"),
        ("informa\u00e7\u00e3o \u00e9 avó", "avo e informacao"),
        ("\u0141\u00f3d\u017a K\u00f8benhavn c\u0153ur", "coeur kobenhavn lodz"),
        ("Αθήνα Σίσυφος", "αθηνα σισυφοσ"),
        ("Ёлка йод", "елка йод"),
        ("\u0645\u064f\u062d\u064e\u0645\u0651\u064e\u062f", "\u0645\u062d\u0645\u062f"),
        ("\u0623\u0644\u0640\u0640\u0641", "\u0627\u0644\u0641"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627", "\u0645\u064a\u062e\u0648\u0627"),
        ("\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd", "\u05e9\u05dc\u05d5\u05dd"),
        ("\u0661\u0662\u0663 \u096a\u096b \uff12\uff10", "123 20 45"),
        ("\ufb01ne \u00bd \u00b2", "1 2 2 fine"),
        ("a\x00b \ud800c d\udfffe \u00adf\u200bg", "a b c d e f g"),
        ("", ""),
        ("?!... --- \u3002\u300c\u300d \U0001f600 \u0000 \ud800", ""),
    ],
)  # fmt: skip
def test_words_of_alphabets(text, expected):
    assert counted(text) == sorted(expected.split())


@pytest.mark.parametrize(
    ("text", "document", "query"),
    [
        ("東京都", "東 京 都 東京 京都", "東京 京都"),
        ("茶", "茶", "茶"),
        ("中文。検索", "中 文 中文 検 索 検索", "中文 検索"),
        ("カタカナ", "カ タ カ ナ カタ タカ カナ", "カタ タカ カナ"),
        ("ｶﾞｷﾞ", "ガ ギ ガギ", "ガギ"),
        ("한국어 검색", "한 국 어 한국 국어 검 색 검색", "한국 국어 검색"),
        ("iPhone手机3", "iphone 手 机 手机 3", "iphone 手机 3"),
        ("\U00020000\U00020001", "\U00020000 \U00020001 \U00020000\U00020001", None),
    ],
)
def test_words_of_scripts_without_spaces(text, document, query):
    assert counted(text) == sorted(document.split())
    if query is not None:
        assert sorted(query_words(text, "none")) == sorted(query.split())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ශ්‍රී ලංකාව", "ශ්රී ලංකාව ලංකා කාව"),  # the joiner goes, the virama stays
        ("हिन्दी में", "हिन्दी हिन् न्दी में"),
        ("தமிழ்நாடு", "தமிழ்நாடு தமி மிழ் ழ்நா நாடு"),
        ("มาตรฐาน", "มาตรฐาน มา าต ตร รฐ ฐา าน"),
        ("ਪੰਜਾਬੀ", "ਪੰਜਾਬੀ ਪੰਜਾ ਜਾਬੀ"),
    ],
)
def test_words_of_brahmic_scripts_are_whole_and_in_pairs_of_syllables(text, expected):
    assert counted(text) == sorted(expected.split())


def test_a_long_run_without_spaces_is_no_word_of_its_own():
    assert set(map(len, words("ก" * 40))) == {2}


def test_joiners_do_not_matter():
    assert counted("ශ්‍රී") == counted("ශ්රී")
    assert counted("क्\u200dष") == counted("क्ष")


def test_english_is_stemmed_and_other_scripts_are_not():
    assert words("running connections easily") == ["run", "connect", "easili"]
    assert words("книги") == ["книги"]
    assert query_words("running") == words("running")


def test_queries_look_for_nothing_that_documents_lack():
    for text in hostile_strings(500):
        assert set(query_words(text)) <= set(words(text))


def test_long_words_and_texts_are_cut():
    assert words("x" * 1000, "none") == ["x" * MAX_WORD]
    assert words("a " * MAX_CHARACTERS, "none") == ["a"] * (MAX_CHARACTERS // 2)
    # One character that normalisation makes eighteen of.
    assert sum(map(len, words("\ufdfa" * MAX_CHARACTERS, "none"))) <= MAX_CHARACTERS


@pytest.mark.parametrize(
    "text",
    [
        "a" * MAX_CHARACTERS,
        "aA" * (MAX_CHARACTERS // 2),
        "A" * MAX_CHARACTERS + "1",
        "_" * MAX_CHARACTERS,
        "a." * (MAX_CHARACTERS // 2),
        "a_" * (MAX_CHARACTERS // 2) + "\u00e9",
        "'" * MAX_CHARACTERS,
        "n't" * (MAX_CHARACTERS // 3),
        "+#" * (MAX_CHARACTERS // 2),
        "a" + "\u0301\u0323" * (MAX_CHARACTERS // 2),
        "\u0f71\u0f72" * (MAX_CHARACTERS // 2),
        "क" + "\u093c\u094d" * (MAX_CHARACTERS // 2),
        "\u1100\u1161" * (MAX_CHARACTERS // 2),
        "漢" * MAX_CHARACTERS,
        "\ud800" * MAX_CHARACTERS,
    ],
    ids=range(15),
)
def test_no_text_takes_more_than_linear_time(text):
    start = time.process_time()
    words(text)
    # Quadratic time would be hours, so a slow machine cannot fail this.
    assert time.process_time() - start < 60


def hostile_strings(count, seed=20261121):
    """Strings of everything that has broken a tokeniser or a query parser before."""
    rng = random.Random(seed)
    pieces = [
        *"\x00\x01\t\n\r\x0b\x0c\x1c\x85\xa0\u2028\ufeff\u200b\u200c\u200d\u202e\ufffd\uffff",
        *"\ud800\udc00\udfff\U0010ffff\U0001f600\u0301\u0323\u094d\u0dca\u0e33\u3099\u1100\u1161",
        *"\"'`\\()[]{}<>+-*/^~:;,.!?&|@#$%=_",
        *("AND", "OR", "NOT", "NEAR", "text:x", "vid:[1 TO 9]", "a^9", "/.*/", "--", "';--", '"x'),
        *("don't", "C++", "20.04", "@nasa", "read_csv", "camelCase", "x" * 300, "1" * 70, "ﷺ", "İ"),
        *("中文", "ひらがな", "カタカナ", "한국어", "සිංහල", "हिन्दी", "ไทย", "עברית", "العربية"),
    ]
    for _ in range(count):
        drawn = []
        for _ in range(rng.randrange(12)):
            kind = rng.randrange(4)
            if kind < 2:
                drawn.append(rng.choice(pieces))
            elif kind == 2:
                drawn.append(chr(rng.randrange(sys.maxunicode + 1)))
            else:
                drawn.append(rng.choice(" \n"))
        yield "".join(drawn)


def test_ten_thousand_hostile_strings():
    held_surrogates = 0
    for text in hostile_strings(10_000):
        held_surrogates += any("\ud800" <= character <= "\udfff" for character in text)
        plain = words(text, "none")
        for word in plain:
            assert 0 < len(word) <= MAX_WORD, (text, word)
            assert word.split() == [word], (text, word)
            word.encode()
        assert len(words(text)) == len(plain), text
    assert held_surrogates > 500


def test_every_character_makes_a_list():
    block = 4096
    for start in range(0, sys.maxunicode + 1, block):
        text = " ".join(map(chr, range(start, start + block)))
        for word in words(text, "none"):
            assert "\x00" not in word
            assert not any("\ud800" <= character <= "\udfff" for character in word)


def test_every_letter_and_digit_is_searchable():
    lost = []
    for code in range(sys.maxunicode + 1):
        # Presentation forms of marks count as letters, but stand for none.
        plain = unicodedata.normalize("NFKC", chr(code))
        if any(unicodedata.category(c)[0] == "L" or c.isdecimal() for c in plain) and not words(
            chr(code), "none"
        ):
            lost.append(chr(code))
    # Letters that are apostrophes, and tatweel with what is shown on it.
    assert set(lost) - set("\u02b9\u02bc\u0374\ua78b\ua78c\u0640") == {
        form for form in lost if set(unicodedata.normalize("NFKC", form)) & {"\u0640"}
    } - {"\u0640"}


GOLDEN = (
    "html parser json.load 20.04 c++ dont json load c naiv htmlparser"
    " 東 京 都 東京 京都 ශ්රී ලංකාව ලංකා කාව हिन्दी हिन् न्दी run 20 04"
)


def test_the_rules_have_a_version():
    """If this fails, words are cut differently: raise TOKENS_VERSION and put the new words here."""
    text = "Don't json.loads C++ naïve HTMLParser 東京都 ශ්‍රී ලංකාව हिन्दी running 20.04"
    assert (tokens.TOKENS_VERSION, words(text)) == (1, GOLDEN.split())
