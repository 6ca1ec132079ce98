"""Languages: the stems of each, which codes there are, and what real texts are taken for."""

import random

import numpy as np
import pytest

from semsearch.errors import UsageError
from semsearch.lexical.detect import _identifier, detect_language
from semsearch.lexical.languages import LANGUAGES, STEMMED, require_language, stemmers, stemming
from semsearch.lexical.memory import MemoryLexical
from semsearch.lexical.tokens import query_words, words
from tests.test_lexical_tokens import hostile_strings

# Written for this test.
TEXTS = {
    "en": [
        "The train to the coast leaves every morning at seven and is rarely late.",
        "Please write down what you need, and we shall see what can be done about it.",
        "She had never been so far from home, but the city felt strangely familiar.",
    ],
    "pt": [
        "O comboio para o litoral parte todas as manhãs às sete e raramente se atrasa.",
        "Escreva o que precisa, por favor, e veremos o que se pode fazer.",
        "As crianças não sabiam que a escola estava fechada por causa da chuva.",
    ],
    "es": [
        "El tren hacia la costa sale todas las mañanas a las siete y casi nunca se retrasa.",
        "Escriba lo que necesita, por favor, y veremos qué se puede hacer.",
        "Los niños no sabían que la escuela estaba cerrada por la lluvia.",
    ],
    "fr": [
        "Le train pour la côte part tous les matins à sept heures et il est rarement en retard.",
        "Écrivez ce dont vous avez besoin, s'il vous plaît, et nous verrons ce qu'on peut faire.",
        "Les enfants ne savaient pas que l'école était fermée à cause de la pluie.",
    ],
    "de": [
        "Der Zug an die Küste fährt jeden Morgen um sieben Uhr und hat selten Verspätung.",
        "Schreiben Sie bitte auf, was Sie brauchen, dann sehen wir, was sich machen lässt.",
        "Die Kinder wussten nicht, dass die Schule wegen des Regens geschlossen war.",
    ],
    "it": [
        "Il treno per la costa parte ogni mattina alle sette ed è raramente in ritardo.",
        "Scriva per favore quello di cui ha bisogno e vedremo che cosa si può fare.",
        "I bambini non sapevano che la scuola era chiusa a causa della pioggia.",
    ],
    "nl": [
        "De trein naar de kust vertrekt elke ochtend om zeven uur en heeft zelden vertraging.",
        "Schrijf alstublieft op wat u nodig heeft, dan zien we wat we kunnen doen.",
        "De kinderen wisten niet dat de school gesloten was vanwege de regen.",
    ],
    "sv": [
        "Tåget till kusten går varje morgon klockan sju och är sällan försenat.",
        "Skriv ner vad du behöver så ska vi se vad som kan göras.",
        "Barnen visste inte att skolan var stängd på grund av regnet.",
    ],
    "hu": [
        "A tengerpartra induló vonat minden reggel hét órakor indul, és ritkán késik.",
        "Kérem, írja le, mire van szüksége, és meglátjuk, mit lehet tenni.",
        "A gyerekek nem tudták, hogy az iskola zárva van az eső miatt.",
    ],
    "ro": [
        "Trenul spre coastă pleacă în fiecare dimineață la ora șapte și rareori întârzie.",
        "Scrieți vă rog de ce aveți nevoie și vom vedea ce se poate face.",
        "Copiii nu știau că școala este închisă din cauza ploii.",
    ],
    "ru": [
        "Поезд к побережью отправляется каждое утро в семь часов и редко опаздывает.",
        "Напишите, пожалуйста, что вам нужно, и мы посмотрим, что можно сделать.",
        "Дети не знали, что школа закрыта из-за дождя.",
    ],
    "tr": [
        "Sahile giden tren her sabah saat yedide kalkar ve nadiren gecikir.",
        "Lütfen neye ihtiyacınız olduğunu yazın, ne yapabileceğimize bakalım.",
        "Çocuklar okulun yağmur yüzünden kapalı olduğunu bilmiyordu.",
    ],
    "ar": [
        "يغادر القطار إلى الساحل كل صباح في الساعة السابعة ونادرا ما يتأخر.",
        "اكتب من فضلك ما تحتاج إليه وسنرى ما يمكن عمله.",
        "لم يكن الأطفال يعرفون أن المدرسة مغلقة بسبب المطر.",
    ],
    "zh": [
        "开往海边的火车每天早上七点出发，很少晚点。",
        "请写下您需要的东西，我们看看能做些什么。",
        "孩子们不知道学校因为下雨而关闭了。",
    ],
    "ja": [
        "海岸行きの電車は毎朝七時に出発し、遅れることはめったにありません。",
        "必要なものを書いてください。何ができるか考えましょう。",
        "子供たちは雨のせいで学校が休みだと知りませんでした。",
    ],
    "hi": [
        "समुद्र तट की ओर जाने वाली रेलगाड़ी हर सुबह सात बजे चलती है।",
        "कृपया लिखिए कि आपको क्या चाहिए, फिर हम देखेंगे कि क्या हो सकता है।",
        "बच्चों को पता नहीं था कि बारिश के कारण विद्यालय बंद है।",
    ],
    "si": [
        "වෙරළට යන දුම්රිය සෑම උදෑසනකම හතට පිටත් වේ.",
        "ඔබට අවශ්‍ය දේ කරුණාකර ලියන්න, අපට කළ හැකි දේ බලමු.",
        "වැස්ස නිසා පාසල වසා ඇති බව ළමයින් දැන සිටියේ නැත.",
    ],
    "pl": [
        "Pociąg na wybrzeże odjeżdża codziennie rano o siódmej i rzadko się spóźnia.",
        "Proszę napisać, czego pan potrzebuje, a zobaczymy, co da się zrobić.",
        "Dzieci nie wiedziały, że szkoła jest zamknięta z powodu deszczu.",
    ],
}


@pytest.mark.parametrize("language", TEXTS)
def test_three_sentences_show_their_language(language):
    assert detect_language(TEXTS[language]) == language
    assert detect_language(TEXTS[language] * 50) == language


@pytest.mark.parametrize(
    "texts",
    [
        TEXTS["pt"] + TEXTS["fr"] + TEXTS["de"],
        TEXTS["zh"] + TEXTS["ru"],
        [],
        ["", "?!", "\x00\ud800"],
        ["olá"],
        ["42 17.5 2021-03-04 0x1F"] * 20,
    ],
    ids=["three languages", "half and half", "nothing", "no words", "one word", "numbers"],
)
def test_what_is_mixed_or_unknown_is_english(texts):
    assert detect_language(texts) == "en"


def test_a_few_foreign_texts_change_nothing():
    assert detect_language(TEXTS["pt"] * 10 + TEXTS["en"] * 2 + TEXTS["zh"]) == "pt"
    assert detect_language(TEXTS["en"] * 10 + TEXTS["pt"] * 2 + TEXTS["zh"]) == "en"


def test_the_order_of_the_texts_changes_nothing():
    texts = TEXTS["sv"] * 3 + TEXTS["en"]
    for seed in range(5):
        random.Random(seed).shuffle(texts)
        assert detect_language(texts) == "sv"


def test_hostile_texts_are_in_some_language():
    assert detect_language(list(hostile_strings(300))) in LANGUAGES


def test_what_can_be_detected_can_be_chosen():
    assert set(_identifier().labels) == set(LANGUAGES)


@pytest.mark.parametrize(
    ("language", "text", "stems"),
    [
        ("en", "running connections naïve", "run connect naiv"),
        ("pt", "organização organizações organizacoes saúde", "organiz organiz organiz saud"),
        ("pt", "nação nações possível", "naçã naçõ possivel"),
        ("es", "canciones canción cancion rápidamente", "cancion cancion cancion rapid"),
        ("fr", "développées développé developpee évolutions", "developp developp developp evolu"),
        ("de", "Häuser Haus Straßen", "haus haus strass"),
        ("it", "città cantando cantare", "citt cant cant"),
        ("nl", "mogelijkheden mogelijkheid", "molijk molijk"),
        ("sv", "flickorna flickornas", "flick flick"),
        ("da", "husene huset", "hus hus"),
        ("no", "husene huset", "hus hus"),
        ("fi", "taloissa talossa", "talo talo"),
        ("hu", "házakban ház", "haz haz"),
        ("ro", "informațiilor informatiilor", "inform inform"),
        ("ru", "книги книгами ёлки models", "книг книг елк model"),
        ("el", "βιβλία βιβλια", "βιβλ βιβλ"),
        ("tr", "kitapları kitaplar", "kitap kitap"),
        ("ar", "الكتاب كتابه", "كتاب كتاب"),
        ("zh", "模型 models", "模 型 模型 model"),
        ("si", "ලංකාව models", "ලංකාව ලංකා කාව model"),
        ("hi", "हिन्दी models", "हिन्दी हिन् न्दी model"),
        ("pl", "książki running", "ksiazki running"),
        ("none", "running connections", "running connections"),
    ],
)
def test_stems(language, text, stems):
    assert words(text, language) == stems.split()


@pytest.mark.parametrize("language", ["pt", "es", "fr", "it", "ro", "hu", "sv", "tr"])
def test_words_typed_without_accents_find_those_with_them(language):
    index = MemoryLexical(np.array([1, 2]), [TEXTS[language][2], "xyz"], language)
    for typed in words(TEXTS[language][2], "none"):  # folded, so without any
        assert index.search([typed], 2).ids.tolist() == [[1, -1]], typed


@pytest.mark.parametrize("language", [*STEMMED, "zh", "pl", "none"])
def test_queries_and_documents_have_the_same_words(language):
    for texts in TEXTS.values():
        for text in texts:
            assert set(query_words(text, language)) <= set(words(text, language))


def test_every_language_has_its_stemmers():
    for language in LANGUAGES:
        words("w", language)
    assert stemmers("pt") == ("portuguese",)
    assert stemmers("ru") == ("russian", "english")
    assert stemmers("zh") == ("english",)
    assert stemmers("pl") == stemmers("none") == ()
    assert (stemming("pt"), stemming("zh"), stemming("none")) == ("portuguese", None, None)


def test_codes_are_known_or_refused():
    assert require_language("PT ") == "pt"
    assert require_language("none") == "none"
    assert require_language("zh") == "zh"
    for code in ("", "xx", "english", "pt-br", "\x00"):
        with pytest.raises(UsageError, match=r"unknown language .*\(ar da de el en .* zh zu\)"):
            require_language(code)
