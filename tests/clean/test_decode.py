"""Bytes to text, with what servers and pages declare, rightly or wrongly."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdata.clean.decode import declared_in, decode, encoding_of

# Sentences of our own, long enough for detection to have something to go on.
SENTENCES = {
    "ru": "Сегодня утром мы пошли в большой парк, где дети играли у старого фонтана, а взрослые читали газеты. ",
    "uk": "Сьогодні вранці ми пішли до великого парку, де їхні діти гралися біля старого ґанку й фонтана. ",
    "bg": "Тази сутрин отидохме в големия парк, където децата играеха край стария фонтан. ",
    "el": "Σήμερα το πρωί πήγαμε στο μεγάλο πάρκο, όπου τα παιδιά έπαιζαν δίπλα στο παλιό σιντριβάνι. ",
    "he": "הבוקר הלכנו לפארק הגדול, שבו הילדים שיחקו ליד המזרקה הישנה והמבוגרים קראו עיתון. ",
    "ar": "ذهبنا هذا الصباح إلى الحديقة الكبيرة حيث كان الأطفال يلعبون قرب النافورة القديمة. ",
    "th": "เช้านี้เราไปสวนสาธารณะใหญ่ที่เด็กๆ เล่นอยู่ใกล้น้ำพุเก่า และผู้ใหญ่อ่านหนังสือพิมพ์ ",
    "ja": "今朝、私たちは大きな公園に行きました。子どもたちは古い噴水のそばで遊んでいました。",
    "zh": "今天早上我们去了一个大公园，孩子们在旧喷泉旁边玩耍，大人们在看报纸。",
    "zh-tw": "今天早上我們去了一個大公園，孩子們在舊噴泉旁邊玩耍，大人們在看報紙。",
    "ko": "오늘 아침 우리는 큰 공원에 갔습니다. 아이들은 오래된 분수 옆에서 놀고 있었습니다. ",
    "pl": "Dziś rano poszliśmy do dużego parku, gdzie dzieci bawiły się przy starej fontannie, źdźbło żółtej łąki. ",
    "cs": "Dnes ráno jsme šli do velkého parku, kde si děti hrály u staré kašny a dospělí četli noviny. ",
    "tr": "Bu sabah çocukların eski çeşmenin yanında oynadığı büyük parka gittik, büyükler gazete okuyordu. ",
    "lt": "Šį rytą nuėjome į didelį parką, kur vaikai žaidė prie seno fontano, o suaugusieji skaitė laikraščius. ",
    "de": "Heute früh gingen wir in den großen Park, wo Kinder an dem alten Brunnen spielten – schöne Grüße! ",
    "fr": "Ce matin nous sommes allés au grand parc, où les élèves jouaient près de l’ancienne fontaine, à côté. ",
    "is": "Í morgun fórum við í stóra garðinn þar sem börnin léku sér við gamla gosbrunninn, það var æði. ",
    "ro": "Azi-dimineață am mers în parcul mare, unde copiii se jucau lângă fântâna veche și țipau. ",
    "mt": "Dalgħodu morna fil-park il-kbir, fejn it-tfal kienu qed jilagħbu ħdejn il-funtana l-antika ġdida. ",
    "lv": "Šorīt mēs devāmies uz lielo parku, kur bērni spēlējās pie vecās strūklakas. ",
    "hr": "Jutros smo otišli u veliki park, gdje su se djeca igrala kraj stare česme, a đaci čitali, žuta ćuprija. ",
    "pt": "Esta manhã fomos ao grande parque, onde as crianças brincavam junto da fonte antiga, à sombra. ",
    "da": "I morges gik vi i den store park, hvor børnene legede ved det gamle springvand på øen, kære. ",
    "kk": "Бүгін таңертең біз үлкен саябаққа бардық, онда балалар ескі бұрқақтың жанында ойнап жүрді, әңгіме. ",
    "tg": "Имрӯз субҳ мо ба боғи калон рафтем, ки он ҷо кӯдакон дар назди фаввораи кӯҳна бозӣ мекарданд. ",
    "cy": "Aethom i'r parc mawr y bore yma, lle'r oedd y plant yn chwarae ger y ffynnon, tŷ ŵyr. ",
}

# label as the web writes it, Python's codec to make the bytes with, language
CHARSETS = [
    ("utf-8", "utf-8", "ru"),
    ("utf8", "utf-8", "zh"),
    ("utf-16", "utf-16-le", "de"),
    ("utf-16be", "utf-16-be", "fr"),
    ("windows-1250", "cp1250", "pl"),
    ("windows-1251", "cp1251", "ru"),
    ("cp1251", "cp1251", "bg"),
    ("win-1251", "cp1251", "uk"),
    ("windows-1252", "cp1252", "de"),
    ("latin1", "cp1252", "fr"),
    ("iso-8859-1", "cp1252", "de"),
    ("us-ascii", "cp1252", "fr"),
    ("windows-1253", "cp1253", "el"),
    ("windows-1254", "cp1254", "tr"),
    ("iso-8859-9", "cp1254", "tr"),
    ("windows-1255", "cp1255", "he"),
    ("windows-1256", "cp1256", "ar"),
    ("windows-1257", "cp1257", "lt"),
    ("windows-1258", "cp1258", "de"),
    ("iso-8859-2", "iso8859-2", "cs"),
    ("iso-8859-3", "iso8859-3", "mt"),
    ("iso-8859-4", "iso8859-4", "lv"),
    ("iso-8859-5", "iso8859-5", "ru"),
    ("iso-8859-6", "iso8859-6", "ar"),
    ("iso-8859-7", "iso8859-7", "el"),
    ("iso-8859-8", "iso8859-8", "he"),
    ("iso-8859-8-i", "iso8859-8", "he"),
    ("iso-8859-10", "iso8859-10", "is"),
    ("iso-8859-13", "iso8859-13", "lt"),
    ("iso-8859-14", "iso8859-14", "cy"),
    ("iso-8859-15", "iso8859-15", "is"),
    ("iso-8859-16", "iso8859-16", "ro"),
    ("koi8-r", "koi8-r", "ru"),
    ("koi8-u", "koi8-u", "uk"),
    ("ibm866", "cp866", "ru"),
    ("macintosh", "mac-roman", "fr"),
    ("x-mac-cyrillic", "mac-cyrillic", "ru"),
    ("tis-620", "cp874", "th"),
    ("windows-874", "cp874", "th"),
    ("shift_jis", "cp932", "ja"),
    ("x-sjis", "cp932", "ja"),
    ("euc-jp", "euc_jp", "ja"),
    ("iso-2022-jp", "iso2022_jp", "ja"),
    ("gb2312", "gb18030", "zh"),
    ("gbk", "gbk", "zh"),
    ("gb18030", "gb18030", "zh-tw"),
    ("hz-gb-2312", "hz", "zh"),
    ("big5", "big5", "zh-tw"),
    ("euc-kr", "cp949", "ko"),
    ("ks_c_5601-1987", "cp949", "ko"),
    # Not on WHATWG's list, but declared by old pages and known to mail programs and editors.
    ("big5-hkscs", "big5hkscs", "zh-tw"),
    ("cp950", "big5hkscs", "zh-tw"),
    ("x-windows-949", "cp949", "ko"),
    ("johab", "johab", "ko"),
    ("iso-2022-kr", "iso2022_kr", "ko"),
    ("iso-2022-jp-1", "iso2022_jp_1", "ja"),
    ("iso-2022-jp-2", "iso2022_jp_2", "ja"),
    ("iso-2022-jp-ext", "iso2022_jp_ext", "ja"),
    ("euc-jis-2004", "euc_jis_2004", "ja"),
    ("cp437", "cp437", "fr"),
    ("ibm-437", "cp437", "de"),
    ("dos-720", "cp720", "ar"),
    ("cp737", "cp737", "el"),
    ("cp775", "cp775", "lt"),
    ("ibm850", "cp850", "fr"),
    ("ibm852", "cp852", "pl"),
    ("cp855", "cp855", "bg"),
    ("cp857", "cp857", "tr"),
    ("cp858", "cp858", "de"),
    ("cp860", "cp860", "pt"),
    ("cp861", "cp861", "is"),
    ("dos-862", "cp862", "he"),
    ("cp863", "cp863", "fr"),
    ("cp865", "cp865", "da"),
    ("cp869", "cp869", "el"),
    ("cp1125", "cp1125", "uk"),
    ("x-mac-ce", "mac-latin2", "cs"),
    ("x-mac-croatian", "mac-croatian", "hr"),
    ("x-mac-greek", "mac-greek", "el"),
    ("x-mac-icelandic", "mac-iceland", "is"),
    ("x-mac-romanian", "mac-romanian", "ro"),
    ("x-mac-turkish", "mac-turkish", "tr"),
    ("x-mac-ukrainian", "mac-cyrillic", "uk"),
    ("koi8-t", "koi8-t", "tg"),
    ("kz1048", "kz1048", "kk"),
    ("ptcp154", "ptcp154", "kk"),
]
_ASCII_COMPATIBLE = [case for case in CHARSETS if not case[0].startswith("utf-16")]
# Charsets that differ from a commoner one in few letters, seven-bit ones and those of old systems need their name.
_NEED_THEIR_NAME = frozenset(
    "hz-gb-2312 windows-1258 iso-8859-3 iso-8859-4 iso-8859-10 iso-8859-14 iso-8859-15 macintosh windows-1257 "
    "koi8-u".split()
)
_OLD = CHARSETS.index(("big5-hkscs", "big5hkscs", "zh-tw"))
_DETECTABLE = [case for case in CHARSETS[:_OLD] if case[0] not in _NEED_THEIR_NAME]


def page(language: str, encoding: str, head: str = "") -> tuple[bytes, str]:
    """A page in `encoding`, and its text as far as `encoding` can spell it."""
    html = f"<html><head>{head}<title>x</title></head><body><p>{SENTENCES[language] * 4}</p></body></html>"
    content = html.encode(encoding, "ignore")
    return content, content.decode(encoding)


def test_there_are_enough_of_them() -> None:
    assert len({codecs.lookup(encoding).name for _, encoding, _ in CHARSETS}) >= 60


@pytest.mark.parametrize(("label", "encoding", "language"), CHARSETS)
def test_a_page_can_be_spelt(label: str, encoding: str, language: str) -> None:
    """At least four in five characters of its sentence: what is compared below is not what `ignore` left."""
    sentence = SENTENCES[language]
    assert len(sentence.encode(encoding, "ignore").decode(encoding)) > 0.8 * len(sentence)


@pytest.mark.parametrize(("label", "encoding", "language"), CHARSETS)
def test_the_header_names_the_charset(label: str, encoding: str, language: str) -> None:
    content, text = page(language, encoding)
    assert decode(content, label) == text
    assert decode(content, f" '{label.upper()}' ") == text


@pytest.mark.parametrize(("label", "encoding", "language"), _ASCII_COMPATIBLE)
def test_the_page_names_the_charset(label: str, encoding: str, language: str) -> None:
    for head in (
        f'<meta charset="{label}">',
        f"<META http-equiv='Content-Type' content='text/html; charset={label}'>",
        f'<!-- <meta charset="nonsense"> --><meta charset={label} />',
    ):
        content, text = page(language, encoding, head)
        assert decode(content) == text
    content, text = page(language, encoding)
    declaration = f'<?xml version="1.0" encoding="{label}"?>'
    assert decode(declaration.encode() + content) == declaration + text


@pytest.mark.parametrize(("label", "encoding", "language"), _DETECTABLE)
def test_nobody_names_the_charset(label: str, encoding: str, language: str) -> None:
    content, text = page(language, encoding)
    assert decode(content) == text


@pytest.mark.parametrize(
    ("encoding", "language", "declared"),
    [
        ("utf-8", "fr", "iso-8859-1"),
        ("utf-8", "ru", "windows-1251"),
        ("utf-8", "zh", "gb2312"),
        ("utf-8", "ja", "shift_jis"),
        ("cp1251", "ru", "utf-8"),
        ("gb18030", "zh", "utf-8"),
        ("cp932", "ja", "utf-8"),
        ("cp1252", "de", "utf-8"),
        ("utf-8", "de", "utf-16"),
        ("cp949", "ko", "bogus"),
    ],
)
def test_a_declaration_that_the_bytes_contradict_is_dropped(encoding: str, language: str, declared: str) -> None:
    content, text = page(language, encoding)
    assert decode(content, declared) == text


@pytest.mark.parametrize("label", [label for label, _, _ in CHARSETS if not label.startswith("utf-16")])
def test_a_utf8_page_under_any_other_name(label: str) -> None:
    for language in ("ru", "fr", "ja"):
        content, text = page(language, "utf-8", f'<meta charset="{label}">')
        assert decode(content, label) == text


@pytest.mark.parametrize(("label", "encoding", "language"), _ASCII_COMPATIBLE[2:])
def test_a_server_says_utf8_above_an_old_page(label: str, encoding: str, language: str) -> None:
    """The bytes contradict the header, so the page's own declaration holds."""
    content, text = page(language, encoding, f'<meta charset="{label}">')
    assert decode(content, "utf-8") == text


@pytest.mark.parametrize(("label", "encoding", "language"), CHARSETS)
def test_a_page_under_a_wrong_name_is_text_all_the_same(label: str, encoding: str, language: str) -> None:
    content, _ = page(language, encoding)
    for wrong in ("utf-8", "utf-16", "shift_jis", "iso-2022-kr", "windows-1252", "koi8-r"):
        text = decode(content, wrong)
        text.encode()
        assert text
        assert "\0" not in text


def test_the_header_goes_before_the_page() -> None:
    content, text = page("ru", "cp1251", '<meta charset="koi8-r">')
    assert decode(content, "windows-1251") == text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_goes_before_all(encoding: str) -> None:
    content, text = page("ru", encoding)
    assert decode(content, "windows-1252") == text


def test_few_broken_bytes_do_not_change_the_charset() -> None:
    content, text = page("ru", "utf-8")
    assert decode(content + b" \xff end", "utf-8") == text + " \ufffd end"
    content, text = page("zh", "gb18030")
    assert decode(content + b"\xff\xff", "gb2312").startswith(text)


def test_a_page_cut_inside_a_character_is_still_utf8() -> None:
    assert decode("é".encode() * 20 + b"\xc3") == "é" * 20 + "\ufffd"


def test_nul_is_left_out() -> None:
    assert decode(b"a\0b") == "ab"
    assert decode("é\0".encode()) == "é"


@pytest.mark.parametrize(
    "label", ["utf-7", "utf-32", "base64", "rot13", "idna", "none", "", "x\0", "é", "a" * 500, "../../etc", "undefined"]
)
def test_what_is_no_charset_of_the_web(label: str) -> None:
    assert encoding_of(label) is None
    assert decode(b"abc", label) == "abc"


def test_a_page_read_as_ascii_is_not_utf16() -> None:
    assert declared_in(b'<meta charset="utf-16">') == "utf-8"


@given(st.binary(max_size=200), st.none() | st.sampled_from([case[0] for case in CHARSETS]) | st.text(max_size=10))
def test_nothing_raises(content: bytes, charset: str | None) -> None:
    decode(content, charset).encode()


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=100))
def test_utf8_round_trips(text: str) -> None:
    assert decode(text.encode(), "utf-8") == text
