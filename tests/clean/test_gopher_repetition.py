from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdata import native
from llmdata.clean.gopher_repetition import GopherRepetition, GopherRepetitionConfig
from llmdata.document import Document, Rejection
from llmdata.words import split_words

RULES = list(GopherRepetitionConfig.model_fields)


def reason(text, **config):
    outcome = GopherRepetition(GopherRepetitionConfig(**config))(Document(text=text))
    return outcome.reason if isinstance(outcome, Rejection) else None


def only(*rules):
    return {rule: None for rule in RULES if rule not in rules}


def padded(text, length):
    """`text` and one more word, `length` characters in all."""
    return f"{text} {'z' * (length - len(text) - 1)}"


def top(n):
    gram = " ".join(["wa", "wb", "wc", "wd"][:n])
    return f"{gram} x1 {gram} x2 {gram} x3 {gram}"


def repeated(n):
    gram = " ".join(f"w{chr(97 + at)}" for at in range(n))
    return f"{gram} x1 {gram}"


LINES = [f"line number {number} of ten" for number in "abcdefghij"]

CASES = [
    ("duplicate_paragraphs", "\n\n".join([*LINES[:7], *["x"] * 3]), "\n\n".join([*LINES[:6], *["x"] * 5])),
    ("duplicate_lines", "\n".join([*LINES[:7], *["x"] * 3]), "\n".join([*LINES[:6], *["x"] * 5])),
    # 20 characters occur a second time
    (
        "duplicate_paragraph_characters",
        padded("a" * 20 + "\n\n" + "a" * 20 + "\n\nb", 100),
        padded("a" * 20 + "\n\n" + "a" * 20 + "\n\nb", 99),
    ),
    (
        "duplicate_line_characters",
        padded("a" * 20 + "\n" + "a" * 20 + "\nb", 100),
        padded("a" * 20 + "\n" + "a" * 20 + "\nb", 99),
    ),
    ("top_2_gram", padded(top(2), 100), padded(top(2), 99)),
    ("top_3_gram", padded(top(3), 178), padded(top(3), 177)),
    ("top_4_gram", padded(top(4), 275), padded(top(4), 274)),
    ("duplicate_5_gram", padded(repeated(5), 67), padded(repeated(5), 66)),
    ("duplicate_6_gram", padded(repeated(6), 86), padded(repeated(6), 85)),
    ("duplicate_7_gram", padded(repeated(7), 108), padded(repeated(7), 107)),
    ("duplicate_8_gram", padded(repeated(8), 134), padded(repeated(8), 133)),
    ("duplicate_9_gram", padded(repeated(9), 164), padded(repeated(9), 163)),
    ("duplicate_10_gram", padded(repeated(10), 200), padded(repeated(10), 199)),
]


@pytest.mark.parametrize(("rule", "inside", "outside"), CASES, ids=[case[0] for case in CASES])
def test_threshold(rule, inside, outside):
    assert reason(inside, **only(rule)) is None
    assert reason(outside, **only(rule)) == rule
    assert reason(outside, **only()) is None


def test_rules_are_asked_in_the_published_order():
    text = "\n\n".join(["the same words once more and again"] * 30)
    for at, rule in enumerate(RULES):
        assert reason(text, **only(*RULES[at:])) == rule


def test_detail_says_the_number_that_decided():
    outcome = GopherRepetition(GopherRepetitionConfig())(Document(text="same\n\nsame"))
    assert isinstance(outcome, Rejection)
    assert (outcome.stage, outcome.reason, outcome.detail) == ("gopher_repetition", "duplicate_paragraphs", "0.5 > 0.3")


def test_prose_passes_and_nothing_does_not():
    assert reason("") == "empty"
    prose = (
        "It was a bright day in April. The clocks were striking, and nobody asked why they did, or when they had begun."
    )
    assert reason(prose) is None


def test_a_single_word_is_no_repetition():
    assert reason("word") is None


def plain_reading(text):
    """The rules on n-grams, told word by word."""
    words = split_words(text)
    for n, limit in ((2, 0.20), (3, 0.18), (4, 0.16)):
        grams = Counter(" ".join(words[at : at + n]) for at in range(len(words) - n + 1))
        if grams:
            gram, count = grams.most_common(1)[0]
            if len(gram) * count / len(text) > limit:
                return f"top_{n}_gram"
    for n, limit in ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10)):
        seen, characters, at = set(), 0, 0
        while at <= len(words) - n:
            gram = tuple(words[at : at + n])
            if gram in seen:
                characters += sum(map(len, gram))
                at += n
            else:
                seen.add(gram)
                at += 1
        if characters / len(text) > limit:
            return f"duplicate_{n}_gram"
    return None


@given(
    st.lists(st.sampled_from(["a", "bb", "ccc", "dddd", "eeeee", "ffffff"]), min_size=1, max_size=12),
    st.integers(1, 6),
    st.integers(0, 60),
)
def test_n_grams_agree_with_a_plain_reading(words, times, others):
    unlike = [f"w{chr(97 + at % 26)}{chr(97 + at // 26)}" for at in range(others)]
    text = " ".join([*unlike[: others // 2], *words * times, *unlike[others // 2 :], *words])
    n_gram_rules = [rule for rule in RULES if rule.endswith("_gram")]
    assert reason(text, **only(*n_gram_rules)) == plain_reading(text)


@given(
    st.lists(st.sampled_from("a b cc ddd e, f".split()), max_size=120),
    st.sampled_from([1, 3, 40]),
    st.sets(st.sampled_from(RULES[4:])),
)
def test_n_grams_in_c_are_those_of_numpy(words: list[str], distance: int, off: set[str]) -> None:
    text = " ".join(word if at % distance else f"{word} x{at}" for at, word in enumerate(words))
    config = GopherRepetitionConfig(**{rule: None for rule in RULES if rule in off or rule not in RULES[4:]})
    found = []
    with pytest.MonkeyPatch.context() as patch:
        for _ in range(2):
            outcome = GopherRepetition(config)(Document(text=text))
            found.append((outcome.reason, outcome.detail) if isinstance(outcome, Rejection) else None)
            patch.setattr(native, "function", lambda *_: None)
    assert found[0] == found[1]
