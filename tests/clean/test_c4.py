import pytest

from llmdata.clean.c4 import C4, C4Config
from llmdata.document import Document, Rejection
from llmdata.errors import ConfigError

GOOD = "This is a line of words. It has two sentences."
ENOUGH = "\n".join([GOOD] * 3)

PAPER = {"terminal_punctuation": True, "min_words_per_line": 5, "count_words": "after_citations", "min_sentences": 3}


def clean(text, **config):
    """The text that is left, or the reason."""
    outcome = C4(C4Config(**config))(Document(text=text))
    return f"rejected: {outcome.reason}" if isinstance(outcome, Rejection) else outcome.text


def line(text, **config):
    """What becomes of one line among good ones: the line, None if it was dropped, or the reason."""
    left = clean(f"{ENOUGH}\n{text}\n{ENOUGH}", **config)
    return left if left.startswith("rejected") else left.removeprefix(ENOUGH).removesuffix(ENOUGH).strip("\n") or None


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("three short words", "three short words"),
        ("two words", None),
        ("  white space around  ", "white space around"),
        ("x" * 1000 + " and more", "x" * 1000 + " and more"),
        ("x" * 1001 + " and more", None),
        ("words that cite[1][23] it[edit] again[citation needed][].", "words that cite it again."),
        ("words [here] [edit this]", "words [here] [edit this]"),
        ("two words[1] [edit]", "two words "),  # counted before citations are cut
        ("Lorem Ipsum dolor sit", "rejected: lorem_ipsum"),
        ("please enable JavaScript now", None),
        ("a curly { bracket", "rejected: curly_bracket"),
        ("a curly } bracket", "a curly } bracket"),
        ("read our Terms of Use today", None),
        ("read our privacy policy today", None),
        ("read our cookie policy today", None),
        ("this site uses cookies today", None),
        ("the use of cookies today", None),
        ("we use cookies today", None),
        ("we like cookies today", "we like cookies today"),
        ("ends without punctuation", "ends without punctuation"),
    ],
)
def test_fineweb_variant(text, left):
    assert line(text) == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("It has exactly five words.", "It has exactly five words."),
        ("It has but four.", None),
        ("It has five words [1] .", "It has five words  ."),
        ("[1] It has four words.", None),  # counted after citations are cut
        ("Does it end well here?", "Does it end well here?"),
        ("Does it end well here!", "Does it end well here!"),
        ('Does it "end well here"', 'Does it "end well here"'),
        ("Does it end well here", None),
        ("Does it end well here...", None),
        ("It ends in a citation.[1]", "It ends in a citation."),
    ],
)
def test_variant_of_the_paper(text, left):
    assert line(text, **PAPER) == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        # a dropped line cannot reject, a rejecting line cannot be dropped later
        ("x" * 1001 + " { lorem ipsum", None),
        ("{ lorem", None),
        ("lorem ipsum javascript", "rejected: lorem_ipsum"),
        ("some javascript { code", None),
        ("{ privacy policy }", "rejected: curly_bracket"),
        ("a lorem[1] ipsum line", "rejected: lorem_ipsum"),  # citations are cut before phrases are looked for
    ],
)
def test_result_depends_on_the_order_of_rules(text, left):
    assert line(text) == left


@pytest.mark.parametrize(
    ("text", "config", "left"),
    [
        ("One is here. Two is here. Three is here. Four is here. Five is here.", {}, True),
        ("One is here. Two is here. Three is here. Four is here.", {}, False),
        ("One is here.\nTwo is here.\nThree is here.\nFour is here.\nFive is here.", {}, True),
        ("One is here.\nTwo is here.\nThree is here.\nFour is here.\nFive here.", {}, False),  # on the lines left
        ("One two is right here. Two two is right here. Three is right here.", PAPER, True),
        ("One two is right here. Two two is right here.", PAPER, False),
        ("", {}, False),
        ("", {"min_sentences": 0}, True),
    ],
)
def test_sentences(text, config, left):
    assert clean(text, **config) == (text if left else "rejected: few_sentences")


@pytest.mark.parametrize(
    ("text", "config"),
    [
        ("Lorem Ipsum dolor sit", {"lorem_ipsum": False}),
        ("please enable JavaScript now", {"javascript": False}),
        ("a curly { bracket", {"curly_bracket": False}),
        ("we use cookies today", {"policy": False}),
        ("words that cite[1] it", {"remove_citations": False}),
        ("x" * 1001 + " and more", {"max_word_length": None}),
        ("two words", {"min_words_per_line": 0}),
    ],
)
def test_each_rule_can_be_switched_off(text, config):
    assert line(text) != text
    assert line(text, **config) == text


def test_bad_words(tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("# a comment\nDarn\nholy cow\n", encoding="utf-8")
    config = {"bad_words": [str(words)]}
    assert line("well, DARN it all", **config) == "rejected: bad_word"
    assert line("holy cow that is", **config) == "rejected: bad_word"
    assert line("darned or not darning", **config) == "darned or not darning"
    assert line("well, DARN it all") == "well, DARN it all"
    assert line("what the fuck is", bad_words=["en"]) == "rejected: bad_word"


def test_a_word_list_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match=r"'nowhere'.*\ben\b"):
        C4(C4Config(bad_words=["nowhere"]))


def test_what_was_dropped_is_counted():
    doc = Document(text=f"{ENOUGH}\nmenu\nhome\nwe use cookies here")
    assert C4(C4Config())(doc) is doc
    assert doc.text == ENOUGH
    assert doc.metadata == {"c4": {"few_words": 2, "policy": 1}}


def test_an_unchanged_text_keeps_its_view():
    doc = Document(text=ENOUGH)
    view = doc.view
    C4(C4Config())(doc)
    assert doc.view is view
    assert doc.metadata == {}


def test_a_rejected_page_keeps_its_text():
    text = f"menu\n{ENOUGH}\na {{ bracket here"
    outcome = C4(C4Config())(Document(text=text))
    assert isinstance(outcome, Rejection)
    assert outcome.document.text == text


@pytest.mark.parametrize(("limit", "expected"), [(len(ENOUGH), ENOUGH), (len(ENOUGH) - 1, "rejected: max_characters")])
def test_long_pages_go_where_the_recipe_says_so(limit, expected):
    assert clean(ENOUGH, max_characters=limit) == expected
