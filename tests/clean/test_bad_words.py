"""Bad words as a stage of its own: between non-letters, in any case, up to a number."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmdata.clean.bad_words import BadWords, BadWordsConfig
from llmdata.document import Document, Rejection
from llmdata.errors import ConfigError


@pytest.fixture
def words(tmp_path: Path) -> str:
    path = tmp_path / "words.txt"
    path.write_text("# ours\nfrump\nOld Frump\n\nблин\n", encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a frump.", "frump"),
        ("an OLD FRUMP", "old frump"),
        ("(Frump)", "frump"),
        ("frumpy unfrump frump2", None),
        ("Ой, Блин!", "блин"),
        ("", None),
    ],
)
def test_words_stand_between_non_letters(words: str, text: str, found: str | None) -> None:
    outcome = BadWords(BadWordsConfig(lists=[words]))(Document(text=text))
    assert (outcome.detail if isinstance(outcome, Rejection) else None) == found


def test_a_page_may_have_some(words: str) -> None:
    judge = BadWords(BadWordsConfig(lists=[words], max_words=2))
    assert isinstance(judge(Document(text="frump frump")), Document)
    found = judge(Document(text="frump frump old frump"))
    assert isinstance(found, Rejection)
    assert (found.stage, found.reason, found.detail) == ("bad_words", "bad_word", "old frump")


def test_the_shipped_list_serves() -> None:
    assert BadWords.files(BadWordsConfig())[0].name == "en.txt"
    assert isinstance(BadWords(BadWordsConfig())(Document(text="A quiet walk along the river.")), Document)


def test_a_missing_or_empty_list_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"clean.bad_words.lists: there is no word list 'nowhere'"):
        BadWords(BadWordsConfig(lists=["nowhere"]))
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(ConfigError, match="there is no word in"):
        BadWords(BadWordsConfig(lists=[str(tmp_path / "empty.txt")]))
