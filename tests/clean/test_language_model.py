"""The classifier in NumPy against the library that it stands in for."""

from __future__ import annotations

import random
import struct
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdata import native
from llmdata import pieces as pieces_module
from llmdata import text as text_module
from llmdata.clean import language_model
from llmdata.clean.fasttext import load_model, one_line
from llmdata.clean.fasttext_file import BadModelFile, read_model
from llmdata.clean.language import bundled_model, identify
from llmdata.clean.language_model import Classifier, load_classifier
from llmdata.errors import ConfigError
from llmdata.text import TextView

SENTENCES = Path("/work/shared/data/lid/lingua-sentences-200.tsv")
ODD = [
    "",
    " ",
    "\0",
    "a\0b \0 c",
    "\ud800 lone \udfff",
    "the end </s> la fin du monde est proche",
    "</s>",
    "x</s>y the old bridge",
    "__label__en la fin du monde",
    "__label__nonsense la fin",
    "non\u00a0breaking\u3000blanks\u2028are not\x1cblanks\x85here",
    "tab\tfeed\fvertical\vreturn\rnewline\nend",
    "é",
    "日本語の文章です。" * 50,
    "x" * 70_000,
    "ж日€𝄞a" * 20_000,
    "the " * 100_000,
    "1 2 3 4",
]


def library(text: str, model: str) -> tuple[str, float]:
    found = load_model(model, "test").predict(one_line(text), 1, 0.0, "strict")
    return (str(found[0][1]), float(found[0][0])) if found else ("", 0.0)


def agree(text: str, model: str) -> None:
    classifier = load_classifier(model, "test")
    assert classifier
    (label, score), (expected, expected_score) = classifier(TextView(text)), library(text, model)
    # The library adds a text's rows up in 32 bits: the same piece over and over, 100,000 characters, is 1e-4 off.
    assert score == pytest.approx(expected_score, abs=1e-5 if len(text) < 50_000 else 1e-3)
    # Where two labels are all but equally likely, the library's 32-bit sums decide at random.
    assert label == expected or len(text) < 20


@pytest.mark.parametrize("text", ODD, ids=lambda text: repr(text[:20]))
def test_odd_texts(text: str) -> None:
    agree(text, bundled_model())


@given(st.text())
def test_any_text(text: str) -> None:
    agree(text, bundled_model())


@given(st.text(st.sampled_from("ab é€𝄞日\0\t\n\r</s>_"), max_size=60))
def test_any_text_of_what_matters(text: str) -> None:
    agree(text, bundled_model())


@pytest.mark.skipif(not SENTENCES.exists(), reason="the sentences are not here")
def test_sentences_of_all_languages() -> None:
    for line in SENTENCES.read_text().splitlines()[::20]:
        agree(line.split("\t")[-1], bundled_model())


@pytest.mark.parametrize("in_c", [True, False], ids=["C", "NumPy"])
def test_what_was_read_before_changes_nothing(in_c: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not in_c:
        monkeypatch.setattr(native, "function", lambda *_: None)
    texts = [text * 3 for text in ODD]
    model = read_model(Path(bundled_model()).read_bytes())
    classifier = Classifier(model)
    expected = [classifier(TextView(text)) for text in texts]
    assert [classifier(TextView(text)) for text in reversed(texts)] == expected[::-1]
    monkeypatch.setattr(pieces_module, "_MOST_KEPT", 1000)
    assert [classifier(TextView(text)) for text in texts] == expected
    monkeypatch.setattr(text_module, "MOST_TOGETHER", 64)
    monkeypatch.setattr(language_model, "_BATCH", 32)
    assert [Classifier(model)(TextView(text)) for text in texts if len(text) < 10_000] == [
        found for text, found in zip(texts, expected, strict=True) if len(text) < 10_000
    ]


@given(st.lists(st.text(st.sampled_from("ab é€𝄞日\0<_\ud800"), max_size=60), max_size=5), st.sampled_from(ODD))
def test_sums_in_c_are_those_of_numpy(texts: list[str], odd: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "function", lambda *_: None)
        plain = _plain()
    classifier = load_classifier(bundled_model(), "test")
    assert classifier
    for text in (*texts, odd[:5000]):
        assert classifier(TextView(text)) == plain(TextView(text))


@cache
def _plain() -> Classifier:
    return Classifier(read_model(Path(bundled_model()).read_bytes()))


@pytest.mark.parametrize("bad", [(37, 0), (-1, 0), (0, 8), (0, -1)], ids=["bucket", "below 0", "row", "row below 0"])
def test_a_pruned_model_that_names_what_it_has_not_is_none(bad: tuple[int, int], tmp_path: Path) -> None:
    whole = Path(write_model(tmp_path / "model.bin", loss=1, n=(2, 4), labels=3)).read_bytes()
    dim, rows = 5, len(WORDS) + 37
    size = struct.pack("<?qq", False, rows, dim)
    head, matrices = whole.split(size, 1)
    head = head.replace(struct.pack("<qq", 1000, -1), struct.pack("<qq", 1000, 1))
    fewer = len(WORDS) + 8
    matrices = matrices[: 4 * dim * fewer] + matrices[4 * dim * rows :]

    def pruned(bucket: int, row: int) -> bytes:
        return head + struct.pack("<ii?qq", bucket, row, False, fewer, dim) + matrices

    assert read_model(pruned(36, 7)).rows.shape == (fewer, dim)
    with pytest.raises(BadModelFile, match="rows that it has not"):
        read_model(pruned(*bad))


WORDS = ["the", "and", "haus", "très", "日本", "a", "</s>", "longer-word"]


def write_model(path: Path, *, loss: int, n: tuple[int, int], labels: int, n_grams: int = 1, dim: int = 5) -> str:
    """A model of random weights, as fastText would write it."""
    rng, buckets = random.Random(labels), 37
    words = [*WORDS, *(f"__label__{number}" for number in range(labels))]
    data = struct.pack("<ii12id", 793712314, 12, dim, 5, 5, 1, 5, n_grams, loss, 3, buckets, *n, 100, 1e-4)
    data += struct.pack("<iiiqq", len(words), len(WORDS), labels, 1000, -1)
    for number, word in enumerate(words):
        label = number >= len(WORDS)
        data += word.encode() + b"\0" + struct.pack("<qb", (labels - number // 2) * 10 + 200 if label else 50, label)
    for rows in (len(WORDS) + buckets, labels):
        data += struct.pack("<?qq", False, rows, dim)
        data += struct.pack(f"<{rows * dim}f", *(rng.uniform(-2, 2) for _ in range(rows * dim)))
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize("loss", [1, 3], ids=["tree", "softmax"])
@pytest.mark.parametrize("n", [(2, 4), (3, 3), (5, 6), (0, 0)], ids=str)
@pytest.mark.parametrize("labels", [2, 7, 20])
def test_other_models(tmp_path: Path, loss: int, n: tuple[int, int], labels: int) -> None:
    path = write_model(tmp_path / "model.bin", loss=loss, n=n, labels=labels)
    rng = random.Random(1)
    for text in [*ODD[:-2], *(" ".join(rng.choices([*WORDS[:6], "unknown", "ça", "…"], k=k)) for k in range(1, 30))]:
        agree(text, path)


@pytest.mark.parametrize(
    "kind", [{"loss": 2, "n": (2, 3)}, {"loss": 1, "n": (1, 3)}, {"loss": 1, "n": (2, 3), "n_grams": 2}], ids=str
)
def test_models_of_other_kinds_are_left_to_the_library(tmp_path: Path, kind: dict[str, object]) -> None:
    path = write_model(tmp_path / "model.bin", labels=4, **kind)  # type: ignore[arg-type]
    assert load_classifier(path, "test") is None
    label, score = library("the haus très", path)
    assert identify("the haus très", path) == (label.removeprefix("__label__"), round(min(score, 1), 6))


def test_a_file_cut_off_anywhere_or_damaged_is_no_model(tmp_path: Path) -> None:
    whole = Path(write_model(tmp_path / "model.bin", loss=1, n=(2, 4), labels=3)).read_bytes()
    read_model(whole)
    for end in range(0, len(whole), 7):
        with pytest.raises(BadModelFile):
            read_model(whole[:end])
    bundled = Path(bundled_model()).read_bytes()
    for end in (0, 4, 70, 200, 150_000, 500_000, len(bundled) - 1):
        with pytest.raises(BadModelFile):
            read_model(bundled[:end])
    (tmp_path / "short.bin").write_bytes(bundled[:500_000])
    with pytest.raises(ConfigError, match=r"language\.model: .*short\.bin: not a fastText model"):
        identify("the old bridge", str(tmp_path / "short.bin"))
