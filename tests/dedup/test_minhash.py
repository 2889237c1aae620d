"""MinHash: what is found at each similarity, against the theory, brute force, datasketch and planted pairs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmdata import native
from llmdata.dedup.config import MinhashConfig
from llmdata.dedup.curve import band_probability, changed_words, plot, similarity_at
from llmdata.dedup.minhash import Minhash, signatures
from llmdata.dedup.words import Normal, Words, shingles
from llmdata.document import Document

from .helpers import cut, dropped, edited, jaccard, resolved, text_of

SHARED = Path(os.environ.get("LLMDATA_SHARED", Path(__file__).parents[3] / "shared"))


def documents(*texts: str) -> list[Document]:
    return [Document(id=f"d{number}", text=text) for number, text in enumerate(texts)]


def keys_of(config: MinhashConfig, texts: list[str]) -> np.ndarray[Any, Any]:
    batch = Minhash(config).keys(documents(*texts))
    columns = [batch.column(name) for name in batch.schema.names if name.startswith("band_")]
    return np.array([column.fill_null(0).to_numpy(zero_copy_only=False) for column in columns]).T


@pytest.mark.parametrize(
    ("target", "probability"), [(0.70, 0.5645), (0.75, 0.7716), (0.80, 0.9235), (0.85, 0.9884), (0.5, 0.0533)]
)
def test_probabilities_of_fineweb(target: float, probability: float) -> None:
    assert band_probability(target, 14, 8) == pytest.approx(probability, abs=5e-5)
    assert similarity_at(band_probability(target, 14, 8), 14, 8) == pytest.approx(target)


@pytest.mark.parametrize("changes", [1, 4, 9])
def test_changed_words_give_that_similarity(changes: int) -> None:
    text = text_of(1000, seed=1)
    other = edited(text, changes, seed=2)
    assert changed_words(jaccard(text, other), 5) == pytest.approx(changes / 1000, rel=0.01)


def test_plot_rises_from_zero_to_one() -> None:
    lines = plot(14, 8).splitlines()
    assert lines[0].startswith(" 1.0 │")
    assert lines[0].endswith("•")
    assert lines[10].startswith(" 0.0 │•••")
    assert all(len(line) < 100 for line in lines)


@pytest.mark.parametrize(("bits", "bands", "rows"), [(64, 14, 8), (32, 14, 8), (64, 20, 5)])
@pytest.mark.parametrize("words", [40, 200])
def test_shares_found_follow_the_curve(bits: Any, bands: int, rows: int, words: int) -> None:
    """600 pairs at each of several similarities, their true similarity counted by brute force."""
    config = MinhashConfig(hash_bits=bits, bands=bands, rows=rows)
    step = max(1, words // 40)
    for changes in range(1, words // 12, step):
        pairs = [(text := text_of(words, seed), edited(text, changes, seed)) for seed in range(600)]
        keys = keys_of(config, [text for pair in pairs for text in pair])
        found = (keys[::2] == keys[1::2]).any(axis=1).sum()
        chances = np.array([band_probability(jaccard(*pair), bands, rows) for pair in pairs])
        error = np.sqrt((chances * (1 - chances)).sum())
        assert abs(found - chances.sum()) <= 3 * error + 0.5, (changes, found, chances.sum())


def test_unlike_texts_do_not_match() -> None:
    keys = keys_of(MinhashConfig(), [text_of(100, seed) for seed in range(3000)])
    assert all(len(np.unique(column)) == len(column) for column in keys.T)


def test_as_good_an_estimator_as_datasketch() -> None:
    """On the same shingles our signatures err no more than those of datasketch, and by as much as theory says."""
    from datasketch import MinHash

    ours, theirs, truths = [], [], []
    factors = Minhash(MinhashConfig())._factors
    hasher = Words(Normal())
    for seed in range(150):
        text = text_of(120, seed)
        other = edited(text, 1 + seed % 8, seed)
        hashes, counts = shingles(*hasher.hashes([text, other]), 5)
        left, right = signatures(hashes, counts, factors)
        ours.append((left == right).mean())
        sets = np.split(hashes, [counts[0]])
        sketches = []
        for values in sets:
            sketch = MinHash(num_perm=112, hashfunc=int)
            sketch.update_batch([int(value) >> 32 for value in values])
            sketches.append(sketch)
        theirs.append(sketches[0].jaccard(sketches[1]))
        truths.append(jaccard(text, other))
    truth = np.array(truths)
    variance = (truth * (1 - truth) / 112).mean()
    assert np.mean((np.array(ours) - truth) ** 2) == pytest.approx(variance, rel=0.35)
    assert np.mean((np.array(ours) - truth) ** 2) < 1.35 * np.mean((np.array(theirs) - truth) ** 2)
    assert np.mean(np.array(ours) - truth) == pytest.approx(0, abs=3 * (variance / len(truth)) ** 0.5)


def test_ten_planted_pairs_are_found_and_no_other(tmp_path: Path) -> None:
    folder = SHARED / "data" / "dedup"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    lines = (folder / "articles_1000.train").read_text().splitlines()
    docs = [Document(id=name, text=text) for name, text in (line.split(" ", 1) for line in lines)]
    truth = {frozenset(line.split()) for line in (folder / "articles_1000.truth").read_text().splitlines()}
    found = dropped(resolved(Minhash(MinhashConfig()), cut(docs, 300, 301, 700), tmp_path))
    assert {frozenset(pair) for pair in found.items()} == truth


def test_short_and_empty_texts(tmp_path: Path) -> None:
    """Texts shorter than a shingle are compared whole; texts without words are left alone."""
    docs = documents("", "", "...", "Hello!", "hello", "hello world", "\x00", "a b c d", "A, b. c d")
    found = dropped(resolved(Minhash(MinhashConfig(keep="first")), [docs], tmp_path))
    assert found == {"d4": "d3", "d8": "d7"}


@pytest.mark.parametrize("verify", [None, 0.7])
def test_hostile_texts(tmp_path: Path, verify: float | None) -> None:
    texts = ["word " * 1_000_000, "x" * 1_000_000, "\x00" * 1000, "\ud800 lone", "漢" * 100_000, "0" * 100_000, ""]
    docs = documents(*texts, *texts)
    found = dropped(resolved(Minhash(MinhashConfig(verify_jaccard=verify)), cut(docs, 3), tmp_path))
    assert found == {"d7": "d0", "d8": "d1", "d10": "d3", "d11": "d4", "d12": "d5"}


def test_keys_do_not_depend_on_neighbours() -> None:
    texts = [text_of(words, words) for words in (600, 3, 0, 50, 1, 5000)] + ["é " * 70_000]
    config = MinhashConfig()
    together = keys_of(config, texts)
    assert [keys_of(config, [text])[0].tolist() for text in texts] == together.tolist()
    assert keys_of(config, []).shape[0] == 0


@pytest.mark.parametrize(("bits", "expected"), [(64, [33252, 54789, 60732, 28665]), (32, [33319, 21983, 55527, 62876])])
@pytest.mark.parametrize("in_c", [True, False])
def test_keys_are_those_of_earlier_versions(
    monkeypatch: pytest.MonkeyPatch, bits: Any, expected: list[int], in_c: bool
) -> None:
    """Or runs could not be compared with those of before: a change here needs a new version of the stage."""
    if not in_c:
        monkeypatch.setattr(native, "function", lambda *_: None)
    text = "The first 1,234 words of été, 東京 and Straße — so it says; "
    text += "nothing else is here to be seen by anyone who looks."
    keys = keys_of(MinhashConfig(hash_bits=bits), [text])
    assert (keys[0, :4] & np.uint64(0xFFFF)).tolist() == expected


def test_seed_chooses_other_functions() -> None:
    text = [text_of(100, 1)]
    assert not (keys_of(MinhashConfig(seed=1), text) == keys_of(MinhashConfig(seed=2), text)).any()


def test_verification_undoes_chains(tmp_path: Path) -> None:
    """Each text is like its neighbours alone. Bands make one cluster of them; true similarity does not."""
    words = text_of(300, 1).split()
    docs = documents(*(" ".join(words[shift : shift + 100]) for shift in range(0, 100, 5)))
    config = MinhashConfig(bands=50, rows=4, keep="first")
    loose = resolved(Minhash(config), [docs], tmp_path / "loose")
    assert {verdict.duplicate_of for verdict in loose.values()} == {"d0"}
    assert {verdict.cluster_size for verdict in loose.values()} == {len(docs)}
    checked = resolved(Minhash(config.model_copy(update={"verify_jaccard": 0.8})), cut(docs, 7), tmp_path / "checked")
    by_id = {doc.id: doc.text for doc in docs}
    gone = dropped(checked)
    assert gone
    assert all(jaccard(by_id[name], by_id[kept]) >= 0.8 for name, kept in gone.items())
    assert not set(gone) & set(gone.values())
    stay = [doc for doc in docs if doc.id not in gone]
    for at, doc in enumerate(stay):
        assert all(jaccard(doc.text, other.text) < 0.8 for other in stay[:at])
    for name, verdict in checked.items():
        assert verdict.cluster_size == 1 + sum(kept == verdict.duplicate_of for kept in gone.values()), name
