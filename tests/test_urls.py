import json
import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmdata import urls

WEB_PLATFORM_TESTS = (
    Path(os.environ.get("LLMDATA_SHARED", Path(__file__).parents[2] / "shared")) / "data/url/urltestdata.json"
)


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("HTTP://Example.ORG", "http://example.org/"),
        ("https://example.org:443/a#part", "https://example.org/a"),
        ("http://example.org:8080/", "http://example.org:8080/"),
        ("http://example.org/a/./b/../c", "http://example.org/a/c"),
        ("http://example.org/%7euser/%c3%a9?q=%2f%41", "http://example.org/~user/%C3%A9?q=%2FA"),
        ("http://example.org/é", "http://example.org/%C3%A9"),
        ("http://münchen.de/", "http://xn--mnchen-3ya.de/"),
        ("http://user:secret@example.org/", "http://example.org/"),
        ("http://example.org?b=2&a=1", "http://example.org/?b=2&a=1"),
        ("http://0x7f.1/", "http://127.0.0.1/"),
        ("http://[0:0::1]/", "http://[::1]/"),
        (" http://exa\nmple.org/ ", "http://example.org/"),
        ("mailto:someone@example.org", "mailto:someone@example.org"),
        ("http://", "http://"),
        ("", ""),
    ],
)
def test_canonical(url: str, canonical: str) -> None:
    assert urls.canonical(url) == canonical


@pytest.mark.parametrize(
    ("href", "joined"),
    [
        ("c.html", "http://example.org/a/c.html"),
        ("../../../c", "http://example.org/c"),
        ("/c#x", "http://example.org/c"),
        ("//other.org/c", "http://other.org/c"),
        ("?q=1", "http://example.org/a/b.html?q=1"),
        ("", "http://example.org/a/b.html?x"),
        ("#top", "http://example.org/a/b.html?x"),
        ("\\c\\d", "http://example.org/c/d"),
        ("http:c", "http://example.org/a/c"),
        ("HTTPS://example.org", "https://example.org/"),
        ("javascript:void(0)", None),
        ("mailto:a@example.org", None),
        ("http://[::1", None),
        ("http://example.org:99999/", None),
        ("http://ex ample.org/", None),
    ],
)
def test_join(href: str, joined: str | None) -> None:
    assert urls.join("http://example.org/a/b.html?x", href) == joined


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("www.example.org", "example.org"),
        ("a.b.example.co.uk", "example.co.uk"),
        ("co.uk", "co.uk"),
        ("localhost", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "[::1]"),
        ("Example.ORG.", "example.org"),
        ("", ""),
    ],
)
def test_registered_domain(host: str, domain: str) -> None:
    assert urls.registered_domain(host) == domain


def test_host() -> None:
    assert urls.host("https://user@WWW.Example.org:8443/x") == "www.example.org"
    assert urls.host("not a url") == ""


@example("\xa0")
@given(st.text(alphabet=st.sampled_from("htp:/.%2eE#?@[]\\ aé\ud800\u200d0xX1-_~\n")) | st.text())
def test_hostile_text_never_raises_and_canonical_is_stable(text: str) -> None:
    for url in (text, "http://" + text, "http://example.org/" + text, "http://xn--" + text):
        once = urls.canonical(url)
        assert urls.canonical(once) == once
        urls.host(url)
        urls.join("http://example.org/a/", url)
        urls.join(url, "b")
    urls.registered_domain(text)


@pytest.mark.skipif(not WEB_PLATFORM_TESTS.exists(), reason="Web Platform Tests are not here")
def test_web_platform_tests() -> None:
    def is_http(text: str | None) -> bool:
        return (text or "").strip().lower().startswith(("http:", "https:"))

    cases = [case for case in json.loads(WEB_PLATFORM_TESTS.read_text()) if isinstance(case, dict)]
    wrong = []
    for case in cases:
        source, base = case["input"], case["base"]
        fails = case.get("failure") and (is_http(source) or is_http(base))
        if not (fails or is_http(case.get("href"))) or (base and not is_http(base) and not is_http(source)):
            continue
        url = urls.parse(source, urls.parse(base) if base else None)
        if (str(url) if url else None) != case.get("href"):
            wrong.append(source)
    assert wrong == []
