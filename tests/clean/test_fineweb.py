import pytest

from llmdata.clean.fineweb import Fineweb, FinewebConfig
from llmdata.document import Document, Rejection

RULES = ["min_punctuated_lines", "max_short_lines", "max_duplicate_line_characters", "max_newlines_per_word"]


def reason(text, **config):
    outcome = Fineweb(FinewebConfig(**config))(Document(text=text))
    return outcome.reason if isinstance(outcome, Rejection) else None


def only(*rules):
    return {rule: None for rule in RULES if rule not in rules}


def lines(ended, open_, blank="\n"):
    return blank.join([*["A sentence."] * ended, *["No sentence"] * open_])


LONG = "x" * 31

CASES = [
    ("min_punctuated_lines", lines(3, 22), lines(2, 15)),
    ("min_punctuated_lines", lines(3, 22, "\n \n\n"), lines(2, 15, "\n \n\n")),
    ("max_short_lines", "\n".join(["x" * 30] * 67 + [LONG] * 33), "\n".join(["x" * 30] * 68 + [LONG] * 32)),
    # 10 of 1,000 and of 999 characters, newlines not counted
    (
        "max_duplicate_line_characters",
        "\n\n".join(["a" * 10, "a" * 10, "b" * 980]),
        "\n\n".join(["a" * 10, "a" * 10, "b" * 979]),
    ),
    (
        "max_newlines_per_word",
        "one two three four\nfive six\nseven eight nine.\n",
        "one two three four\nfive six\nseven eight nine\n",
    ),
]


@pytest.mark.parametrize(("rule", "inside", "outside"), CASES)
def test_threshold(rule, inside, outside):
    assert reason(inside, **only(rule)) is None
    assert reason(outside, **only(rule)) == rule
    assert reason(outside, **only()) is None


def test_rules_are_asked_in_the_published_order():
    text = "menu\nmenu\nmenu"
    for at, rule in enumerate(RULES):
        assert reason(text, **only(*RULES[at:])) == rule


def test_terminal_punctuation_of_any_script():
    assert (
        reason("我喜欢书。\nهل هذا كتاب؟\nयह किताब है।", **only("min_punctuated_lines"), min_punctuated_lines=1) is None
    )


@pytest.mark.parametrize("text", ["", "\n\n", " \n\t\n\u3000"])
def test_blank_texts(text):
    assert reason(text) == "empty"


def test_detail_says_the_number_that_decided():
    outcome = Fineweb(FinewebConfig())(Document(text="menu"))
    assert isinstance(outcome, Rejection)
    assert (outcome.stage, outcome.reason, outcome.detail) == ("fineweb", "min_punctuated_lines", "0 < 0.12")
