import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdata.pieces import Pieces
from llmdata.words import SENTENCE_END, cut_piece, hash_of, is_punctuation, kind_of, split_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \t\n\u00a0\u3000", []),
        ("Hello, world!", ["Hello", ",", "world", "!"]),
        ("I don't, you’re not.", ["I", "do", "n't", ",", "you", "’re", "not", "."]),
        ("We cannot say it's Anna's.", ["We", "can", "not", "say", "it", "'s", "Anna", "'s", "."]),
        ("Mr. Smith, e.g. at 9am", ["Mr.", "Smith", ",", "e.g.", "at", "9", "am"]),
        ("a well-known and/or thing", ["a", "well", "-", "known", "and/or", "thing"]),
        ("wait... what…", ["wait", "...", "what", "…"]),
        ("(see [1], “quoted”)", ["(", "see", "[", "1", "]", ",", "“", "quoted", "”", ")"]),
        ("costs $1,000 or 50% of 3km", ["costs", "$", "1,000", "or", "50", "%", "of", "3", "km"]),
        ("https://example.com/a-b?c=d, ok", ["https://example.com/a-b?c=d", ",", "ok"]),
        ("end.Start", ["end", ".", "Start"]),
        ("the USA. So", ["the", "USA", ".", "So"]),
        ("- item", ["-", "item"]),
        ("x\0y \ud800z", ["x\0y", "\ud800z"]),
    ],
)
def test_words(text, words):
    assert split_words(text) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("我喜欢书。", ["我", "喜欢", "书", "。"]),
        ("カタカナと漢字", ["カタカナ", "と", "漢字"]),
        ("ภาษาไทย", ["ภาษา", "ไทย"]),
        ("ພາສາລາວ", ["ພາສາ", "ລາວ"]),
        ("ខ្ញុំទៅ", ["ខ្ញុំ", "ទៅ"]),
        ("ខ្ញុំ\u200bទៅ", ["ខ្ញុំ", "ទៅ"]),
        ("မြန်မာ", ["မြန်မာ"]),
        ("GPT-4用于中文, ok", ["GPT-4", "用于", "中文", ",", "ok"]),
        ("ไทย5.5บาท", ["ไทย", "5.5", "บาท"]),
    ],
)
def test_scripts_without_spaces_have_words(text, words):
    assert split_words(text) == words


@given(st.text(alphabet=st.characters(exclude_categories=(), exclude_characters="\u200b"), max_size=200))
def test_words_are_the_text_without_white_space(text):
    assert "".join(split_words(text)) == "".join(text.split())


@pytest.mark.parametrize(
    "piece", ["(" * 600 + "a", "a." * 20_000, "'\"" * 300, "漢" * 50_000, "ก" * 2_000_000, "):" * 400]
)
def test_a_piece_of_any_length_is_cut_whole(piece):
    assert "".join(split_words(piece)) == piece


def test_punctuation():
    assert is_punctuation("?!")
    assert is_punctuation("。")
    assert not is_punctuation("a.")
    assert not is_punctuation("•")
    assert "؟" in SENTENCE_END


def all_tokens(text: str) -> list[tuple[int, int, int]]:
    known = Pieces()
    tokens = known.tokens(known.numbers(text.encode("utf-8", "surrogatepass")))
    return list(zip(tokens.hashes.tolist(), tokens.lengths.tolist(), tokens.kinds.tolist(), strict=True))


ODD = [
    *"abzAZÀé12309.,-:;!?()[]{}<>_#*&@/=%$£+~^'\"’“”‘–—…«»|\\°©²½ǅªßΣжЖ٣\u3000\u00a0\x1c\0\ud800\u200b中\u0e01𝄞😀１〈",
    *"word Word WORD can't cannot don’t Mr. e.g. i'm 'em and/or o’clock .. ... US$ :// www. com pm a.m.".split(),
    *"-- --- —— 's ’S :) ): <3 :P '' km² km/h MB µg".split(),
]


@given(st.lists(st.lists(st.sampled_from(ODD), max_size=9).map("".join), max_size=20).map(" ".join))
def test_tokens_of_pieces_are_those_of_the_rules(text: str) -> None:
    """Those cut in C by those of the regular expressions; the first text with a character teaches its class."""
    pieces = [piece.decode("utf-8", "surrogatepass") for piece in text.encode("utf-8", "surrogatepass").split()]
    expected = [(hash_of(word), len(word), kind_of(word)) for piece in pieces for word in cut_piece(piece)]
    assert all_tokens(text) == expected
    taught = Pieces()
    taught.tokens(taught.numbers("".join(ODD).encode("utf-8", "surrogatepass")))
    tokens = taught.tokens(taught.numbers(text.encode("utf-8", "surrogatepass")))
    assert tokens.hashes.tolist() == [value for value, _, _ in expected]
    assert tokens.kinds.tolist() == [kind for _, _, kind in expected]


@pytest.mark.parametrize("length", [*range(1, 20), 31, 32, 33, 63, 64, 65, 96, 97, 127, 128, 129, 300, 499, 500, 501])
@pytest.mark.parametrize("letter", ["a", "é", "ж", "𝄞", "."])
def test_tokens_of_any_length(letter: str, length: int) -> None:
    piece = letter * length
    assert all_tokens(f"{letter} {piece}")[1:] == [(hash_of(w), len(w), kind_of(w)) for w in cut_piece(piece)]
