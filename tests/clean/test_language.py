"""Language identification: which documents are kept, and what is noted on them."""

from __future__ import annotations

import socket
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from pydantic import ValidationError

from llmdata.clean.language import Language, LanguageConfig, bundled_model, identify
from llmdata.document import Document, Rejection
from llmdata.errors import ConfigError

TEXTS = {
    "en": "The old bridge has carried travellers over the river for more than three hundred years.",
    "fr": "Le vieux pont fait passer les voyageurs au-dessus de la rivière depuis plus de trois cents ans.",
    "de": "Die alte Brücke trägt seit mehr als dreihundert Jahren Reisende über den Fluss.",
    "ru": "Старый мост уже более трёхсот лет переносит путников через реку.",
    "zh": "这座古老的桥三百多年来一直载着旅客过河。",
    "ja": "この古い橋は三百年以上にわたって旅人を川の向こうへ渡してきました。",
    "ar": "يحمل الجسر القديم المسافرين فوق النهر منذ أكثر من ثلاثمائة عام.",
}


def judge(text: str, **settings: object) -> Document | Rejection:
    return Language(LanguageConfig.model_validate(settings))(Document(text=text, id="1"))


@pytest.mark.parametrize("language", TEXTS)
def test_languages_are_told_apart_and_noted(language: str) -> None:
    doc = judge(TEXTS[language], languages=None)
    assert isinstance(doc, Document)
    assert doc.language == language
    assert 0.65 < doc.language_score <= 1
    assert doc.text == TEXTS[language]


def test_other_languages_are_rejected_with_their_label_and_score() -> None:
    found = judge(TEXTS["fr"])
    assert isinstance(found, Rejection)
    assert (found.stage, found.reason) == ("language", "language")
    assert found.document.language == "fr"
    assert found.document.language_score > 0.65
    assert found.detail == f"fr {found.document.language_score:.2f}"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "kept"),
        ({"languages": ["fr", "en"]}, "kept"),
        ({"languages": {"en": 0.5}}, "kept"),
        ({"languages": {"en": 1.0, "fr": 0}}, "score"),
        ({"threshold": 1.0}, "score"),
        ({"languages": None, "threshold": 1.0}, "score"),
        ({"languages": ["fr"]}, "language"),
    ],
)
def test_thresholds(settings: dict[str, object], expected: str) -> None:
    found = judge(TEXTS["en"], **settings)
    assert (found.reason if isinstance(found, Rejection) else "kept") == expected
    noted = found.document if isinstance(found, Rejection) else found
    assert noted.language == "en"


def test_the_score_must_be_above_the_threshold() -> None:
    _, score = identify(TEXTS["en"], bundled_model())
    below = score - 1e-9
    assert isinstance(judge(TEXTS["en"], threshold=below), Document)
    assert isinstance(judge(TEXTS["en"], threshold=score), Rejection)


def test_line_ends_count_as_spaces() -> None:
    assert identify("The old\nbridge\nis here", bundled_model()) == identify("The old bridge is here", bundled_model())


@pytest.mark.parametrize("text", ["", " \n\t", "\ud800", "a\0b", "\n" * 1000, "1234 5678", "\u200b"])
def test_odd_texts_do_not_raise(text: str) -> None:
    found = judge(text)
    noted = found.document if isinstance(found, Rejection) else found
    assert 0 <= noted.language_score <= 1
    if not text.strip():
        assert (found.detail if isinstance(found, Rejection) else "") == "none 0.00"


def test_a_missing_or_broken_model_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        judge("x", model=str(tmp_path / "nowhere.bin"))
    (tmp_path / "broken.bin").write_bytes(b"not a model")
    with pytest.raises(ConfigError, match="not a fastText model"):
        judge("x", model=str(tmp_path / "broken.bin"))


def test_another_model_may_be_named(tmp_path: Path) -> None:
    other = tmp_path / "other.ftz"
    other.write_bytes(Path(bundled_model()).read_bytes())
    assert isinstance(judge(TEXTS["en"], model=str(other)), Document)


@pytest.mark.parametrize("settings", [{"threshold": 1.1}, {"languages": []}, {"languages": {"en": 2}}, {"lang": "en"}])
def test_wrong_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LanguageConfig.model_validate(settings)


def test_either_fasttext_serves() -> None:
    """fasttext-predict (a wheel) and the full package (needs a compiler) install the same modules; either will do."""
    import fasttext

    installed = set()
    for package in ("fasttext-predict", "fasttext"):
        try:
            version(package)
            installed.add(package)
        except PackageNotFoundError:
            pass
    assert installed
    assert hasattr(fasttext, "train_supervised") == ("fasttext" in installed)
    assert identify(TEXTS["en"], bundled_model())[0] == "en"


def test_loading_is_silent_and_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert isinstance(judge(TEXTS["en"]), Document)
    code = (
        "from llmdata.clean.language import Language, LanguageConfig; from llmdata.document import Document\n"
        "Language(LanguageConfig())(Document(text='hello there, old friend'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
