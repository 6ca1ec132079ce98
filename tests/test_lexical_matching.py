"""The words of a query that a document holds, as they were typed."""

import pytest

from semsearch.lexical.matching import matched_words
from semsearch.lexical.tokens import query_words, words
from tests.test_lexical_tokens import hostile_strings


@pytest.mark.parametrize(
    ("language", "query", "document", "matched"),
    [
        ("en", "How do Runners run, quickly?", "He runs; a runner is quick", "Runners run quickly"),
        ("en", "run RUN running", "runs", "run"),
        ("en", "\u201cnaïve\u201d (café)", "NAIVE cafe", "naïve café"),
        ("en", "json.loads C++ don't 20.04 @nasa e-mail", "loads c++ dont 20.04 nasa mail",
         "json.loads C++ don't 20.04 nasa mail"),
        ("en", "DataFrame 'read_csv'.", "frame csv", "DataFrame read_csv"),
        ("en", "nothing here", "something else", ""),
        ("none", "runs run", "run", "run"),
        ("pt", "informacao sobre as Organizações!", "informação da organização",
         "informacao Organizações"),
        ("pt", "Quantas crianças nasceram?", "a criança nasceu", "crianças nasceram"),
        ("zh", "东京大学在哪里？", "东京有很多大学。", "东京 大学"),
        ("zh", "机器学习", "机器学习的方法", "机器学习"),
        ("zh", "茶", "喝茶吧", "茶"),
        ("zh", "iPhone手机多少钱", "新手机 iphone", "iPhone 手机"),
        ("zh", "东京", "北京", ""),
        ("ko", "한국어 검색", "한국어로 검색하기", "한국어 검색"),
        ("si", "ශ්රී ලංකාවේ අගනුවර", "ශ්‍රී ලංකාව", "ශ්රී ලංකාවේ"),
        ("si", "කොළඹ නගරය", "කොළඹ", "කොළඹ"),
        ("hi", "मैं हिन्दी", "हिन्दी में", "हिन्दी"),
        ("ru", "Ёлки и models", "новогодняя елка model", "Ёлки models"),
    ],
)  # fmt: skip
def test_words_come_as_they_were_typed(language, query, document, matched):
    assert matched_words(query, document, language) == matched.split()


def test_each_word_comes_once_and_in_the_order_of_the_query():
    assert matched_words("b a b c A", "a b") == ["b", "a"]


def test_no_string_is_too_much():
    texts = list(hostile_strings(2000, seed=3))
    for query, document in zip(texts, [*texts[1:], ""], strict=True):
        assert matched_words(query, "") == []
        found = matched_words(query, document)
        assert len(set(found)) == len(found)
        held = set(words(document))
        for word in found:
            assert held.intersection(query_words(word)), (query, word)


def test_whatever_is_searched_is_found_in_the_same_text():
    for text in hostile_strings(2000, seed=4):
        assert bool(matched_words(text, text)) == bool(query_words(text)), text
