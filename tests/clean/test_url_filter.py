import pytest

from llmdata.clean.url_filter import UrlFilter, UrlFilterConfig
from llmdata.document import Document, Rejection
from llmdata.errors import ConfigError

LISTS = {
    "domains": "# a comment\nbad.com\nADS.example.org\nпример.рф\n192.0.2.7\nbad.co.uk\n\n",
    "urls": "http://www.mixed.com/Bad/\nmixed.com/search?q=bad\n",
    "hard_words": "worst\nréputé\n",
    "soft_words": "meh\nso-so\nbleh\n",
    "strict_words": "abcdef\n",
}


@pytest.fixture
def check(tmp_path):
    files = {}
    for kind, text in LISTS.items():
        (tmp_path / kind).write_text(text, encoding="utf-8")
        files[kind] = [str(tmp_path / kind)]

    def reason(url, **config):
        outcome = UrlFilter(UrlFilterConfig(shipped_lists=False, **{**files, **config}))(Document(url=url))
        return outcome.reason if isinstance(outcome, Rejection) else None

    return reason


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://bad.com/", "domain"),
        ("https://sub.BAD.com:8080/page", "domain"),
        ("http://notbad.com/", None),
        ("http://bad.com.au/", None),
        ("http://www.bad.co.uk/", "domain"),
        ("http://ads.example.org/x", "host"),
        ("http://example.org/x", None),
        ("http://more.ads.example.org/x", None),
        ("http://xn--e1afmkfd.xn--p1ai/x", "domain"),
        ("http://www.ПРИМЕР.рф/", "domain"),
        ("http://192.0.2.7/", "domain"),
        ("https://mixed.com/bad", "url"),
        ("http://mixed.com/bad/page", None),
        ("http://www.mixed.com/search?q=bad#part", "url"),
        ("http://ok.com/the-WORST.html", "hard_word"),
        ("http://ok.com/theworst", None),
        ("http://ok.com/r%C3%A9put%C3%A9", "hard_word"),
        ("http://ok.com/w%6Frst", "hard_word"),
        ("http://worst.com/", "hard_word"),
        ("http://ok.com/meh", None),
        ("http://ok.com/meh-meh", None),
        ("http://ok.com/meh/BLEH", "soft_words"),
        ("http://ok.com/xx-a.b-C/def", "strict_word"),
        ("http://ok.com/abcxdef", None),
        ("http://ok.com/", None),
        ("", None),
        ("not an address", None),
        ("http://[::1]/worst", "hard_word"),
        ("http://\udcff/\0", None),
    ],
)
def test_lists(check, url, reason):
    assert check(url) == reason


def test_the_first_hit_is_the_reason(check):
    assert check("http://ads.bad.com/worst/abcdef") == "domain"
    assert check("http://ads.example.org/worst/abcdef") == "host"
    assert check("http://ok.com/worst/meh/bleh/abcdef") == "hard_word"
    assert check("http://ok.com/meh/bleh/abcdef") == "soft_words"


def test_number_of_soft_words(check):
    assert check("http://ok.com/meh/bleh", max_soft_words=2) is None
    assert check("http://ok.com/meh", max_soft_words=0) == "soft_words"


def test_shipped_lists_say_what_decided():
    outcome = UrlFilter(UrlFilterConfig())(Document(url="https://example.com/free/PORN"))
    assert isinstance(outcome, Rejection)
    assert (outcome.stage, outcome.reason, outcome.detail) == ("url", "hard_word", "porn")
    kept = Document(url="https://www.scunthorpe.gov.uk/essex-analysis")
    assert UrlFilter(UrlFilterConfig())(kept) is kept


def test_a_list_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"clean\.url\.domains: there is no file .*nowhere"):
        UrlFilter(UrlFilterConfig(domains=[str(tmp_path / "nowhere")]))


def test_without_lists_all_is_kept():
    doc = Document(url="http://bad.com/worst")
    assert UrlFilter(UrlFilterConfig(shipped_lists=False))(doc) is doc
