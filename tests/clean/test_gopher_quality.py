import pytest

from llmdata.clean.gopher_quality import GopherQuality, GopherQualityConfig
from llmdata.document import Document, Rejection

RULES = [
    "min_words",
    "max_words",
    "min_mean_word_length",
    "max_mean_word_length",
    "max_hashes_per_word",
    "max_ellipses_per_word",
    "max_bullet_lines",
    "max_ellipsis_lines",
    "min_words_with_letter",
    "min_stop_words",
]


def reason(text, **config):
    outcome = GopherQuality(GopherQualityConfig(**config))(Document(text=text))
    return outcome.reason if isinstance(outcome, Rejection) else None


def only(*rules):
    return {rule: None for rule in RULES if rule not in rules}


CASES = [
    ("min_words", "word . " * 50, "word . " * 49),
    ("max_words", "word . " * 100_000, "word . " * 100_001),
    ("min_mean_word_length", "abc ab abcd . ? !", "abc ab abc ."),
    ("max_mean_word_length", "abcdefghij abcdefghi abcdefghijk ...", "abcdefghij abcdefghijk ."),
    ("max_hashes_per_word", "#" + " word" * 9, "#" + " word" * 8),
    ("max_ellipses_per_word", "…" + " word" * 9, "…" + " word" * 8),
    ("max_ellipses_per_word", "..." + " word" * 9, "..." + " word" * 8),
    ("max_bullet_lines", " - item\n" * 5 + "• item\n" * 4 + "word", "- item\n" * 10),
    ("max_ellipsis_lines", "word... \nword…\nword...\n" + "word\n" * 7, "word...\nword…\nword...\n" + "word\n" * 6),
    ("min_words_with_letter", "word " * 8 + "1 2", "word " * 7 + "1 2"),
    ("min_stop_words", "the word and the word", "the word The word AND the word"),
]


@pytest.mark.parametrize(("rule", "inside", "outside"), CASES)
def test_threshold(rule, inside, outside):
    assert reason(inside, **only(rule)) is None
    assert reason(outside, **only(rule)) == rule
    assert reason(outside, **only()) is None


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [
        ("a b c", "min_words", "min_mean_word_length"),
        ("ab # ab", "min_mean_word_length", "max_hashes_per_word"),
        ("word # word…", "max_hashes_per_word", "max_ellipses_per_word"),
        ("- word…", "max_ellipses_per_word", "max_bullet_lines"),
        ("- word ...\n" * 30, "max_bullet_lines", "max_ellipsis_lines"),
        ("1234 2345 ...", "max_ellipsis_lines", "min_words_with_letter"),
        ("1234 2345", "min_words_with_letter", "min_stop_words"),
    ],
)
def test_rules_are_asked_in_the_published_order(text, first, second):
    assert reason(text, **only(first, second)) == first
    assert reason(text, **only(second)) == second


def test_stop_words_as_distinct_words_or_as_occurrences():
    assert reason("the the", **only("min_stop_words")) == "min_stop_words"
    assert reason("the the", **only("min_stop_words"), count_stop_words="occurrences") is None


def test_stop_words_of_another_language():
    assert reason("der Hund und die Katze", **only("min_stop_words"), stop_words=["der", "die", "und"]) is None


@pytest.mark.parametrize("text", ["", " \n ", "...", "\0", "\ud800"])
def test_texts_without_words(text):
    assert reason(text) == "min_words"
    assert reason(text, min_words=None) is not None


def test_detail_says_the_number_that_decided():
    outcome = GopherQuality(GopherQualityConfig())(Document(text="three short words"))
    assert isinstance(outcome, Rejection)
    assert (outcome.stage, outcome.reason, outcome.detail) == ("gopher_quality", "min_words", "3 < 50")
