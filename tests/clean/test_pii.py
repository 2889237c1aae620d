import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from llmdata.clean.pii import Pii, PiiConfig
from llmdata.document import Document
from llmdata.errors import ConfigError

ALL = ["email", "ipv4", "ipv6", "phone", "credit_card", "iban", "us_ssn", "crypto"]
FIRST, SECOND = "email@example.com", "firstname.lastname@example.org"
FIRST_IP = "22.214.171.124"


def scrub(text, **config):
    outcome = Pii(PiiConfig(**config))(Document(text=text))
    assert isinstance(outcome, Document)
    return outcome.text


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("a@b.co", FIRST),
        ("write to jane.doe+x@mail.example.co.uk.", f"write to {FIRST}."),
        ("a@b.co, c@d.org and e@f.net", f"{FIRST}, {SECOND} and {FIRST}"),
        ("<a@b.co>", f"<{FIRST}>"),
        ("a..b@c.de", f"a..{FIRST}"),
        (".a@c.de", f".{FIRST}"),
        ("a.@c.de", "a.@c.de"),
        ("a@localhost", "a@localhost"),
        ("a@b-.de", "a@b-.de"),
        ("@handle and a @ b.de", "@handle and a @ b.de"),
        ("éa@c.de", "éa@c.de"),
        ("é-a@c.de", f"é{FIRST}"),
        ("a@[192.0.2.7]", FIRST),
        ("a@b@c.de", f"a@{FIRST}"),
        ("8.8.8.8", FIRST_IP),
        ("at 8.8.4.4:80 or 10.0.0.1 or 192.168.1.1", f"at {FIRST_IP}:80 or 10.0.0.1 or 192.168.1.1"),
        ("v1.2.3.456", f"v{FIRST_IP}6"),
        ("8.8.8", "8.8.8"),
        ("08.8.8.8", "08.8.8.8"),
        ("", ""),
        ("\ud800 a@b.co \0", f"\ud800 {FIRST} \0"),
    ],
)
def test_as_fineweb(text, scrubbed):
    assert scrub(text) == scrubbed


def test_the_turn_starts_anew_in_each_document():
    stage = Pii(PiiConfig())
    assert [stage(Document(text="a@b.co")).text for _ in range(3)] == [FIRST] * 3


def test_counts_but_not_values():
    doc = Document(text="a@b.co c@d.org 8.8.8.8 +1 (212) 555-0187")
    Pii(PiiConfig(kinds=ALL))(doc)
    assert doc.metadata == {"pii": {"email": 2, "ipv4": 1, "phone": 1}}
    untouched = Document(text="nothing here")
    assert Pii(PiiConfig())(untouched).metadata == {}


@pytest.mark.parametrize(
    ("kind", "text", "scrubbed"),
    [
        ("ipv6", "from 2001:4860:4860::8888 to", "from <IP_ADDRESS> to"),
        ("ipv6", "std::vector at 12:34:56, fe80::1, ::1", "std::vector at 12:34:56, fe80::1, ::1"),
        ("phone", "call (212) 555-0187 now", "call <PHONE_NUMBER> now"),
        ("phone", "call +49 30 901820 now", "call <PHONE_NUMBER> now"),
        ("phone", "in 1998-2004, 3.14159265", "in 1998-2004, 3.14159265"),
        ("phone", "from 1645 to 1648", "from 1645 to 1648"),
        ("phone", "٠٢٠ ٧٩٤٦ ٠٩٥٨ or 020\u00a07946\u00a00958", "<PHONE_NUMBER> or <PHONE_NUMBER>"),
        ("phone", "0xx11 2345-6789, (530) 583-6985 x302/x2303", "<PHONE_NUMBER>, <PHONE_NUMBER>/x2303"),
        ("credit_card", "card 4111 1111 1111 1111.", "card <CREDIT_CARD>."),
        ("credit_card", "card 4111 1111 1111 1112.", "card 4111 1111 1111 1112."),
        ("iban", "to DE89 3704 0044 0532 0130 00 please", "to <IBAN_CODE> please"),
        ("iban", "to DE88 3704 0044 0532 0130 00 please", "to DE88 3704 0044 0532 0130 00 please"),
        ("us_ssn", "ssn 536-22-1234", "ssn <US_SSN>"),
        ("us_ssn", "ssn 000-22-1234 or 1-536221234", "ssn 000-22-1234 or 1-<US_SSN>"),
        ("us_ssn", "Social Security number is 536221234, 53622-1234", "Social Security number is <US_SSN>, <US_SSN>"),
        ("us_ssn", "part 536221234 of 53622-1234", "part 536221234 of 53622-1234"),
        ("crypto", "pay 16Yeky6GMjeNkAiNcBY7ZhrLoMSgg1BoyZ", "pay <CRYPTO>"),
        ("crypto", "pay 16Yeky6GMjeNkAiNcBY7ZhrLoMSgg1BoyY", "pay 16Yeky6GMjeNkAiNcBY7ZhrLoMSgg1BoyY"),
    ],
)
def test_presidio_kinds(kind, text, scrubbed):
    assert scrub(text, kinds=[kind]) == scrubbed
    far = "word " * 100
    assert scrub(far + text + " " + far, kinds=[kind]) == far + scrubbed + " " + far


def test_phone_numbers_of_the_regions_that_are_asked_for():
    assert scrub("(212) 555-0187", kinds=["phone"], phone_regions=["FR", "GB"]) == "(212) 555-0187"
    assert scrub("(212) 555-0187", kinds=["phone"], phone_regions=["FR", "US"]) == "<PHONE_NUMBER>"
    assert scrub("call +41 44 668 18 00", kinds=["phone"], phone_regions=["XX"]) == "call <PHONE_NUMBER>"


def test_further_recognisers_of_presidio():
    text = "NHS 943 476 5919 at http://nhs.example.uk/?q=1 from 10:20"
    assert scrub(text, kinds=[], recognisers=["NhsRecognizer"]) == text.replace("943 476 5919", "<UK_NHS>")
    assert scrub(text, kinds=[], recognisers=["UrlRecognizer"]).startswith("NHS 943 476 5919 at <URL>")
    with pytest.raises(ConfigError, match=r"no 'NhsRecogniser'; Presidio has: .*NhsRecognizer"):
        scrub(text, recognisers=["NhsRecogniser"])


@pytest.fixture(scope="module")
def spacy_model(tmp_path_factory):
    """A pipeline that knows three names, saved as any is."""
    import spacy

    pipeline = spacy.blank("en")
    pipeline.add_pipe("sentencizer")
    ruler = pipeline.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "PERSON", "pattern": "Jane Doe"}, {"label": "GPE", "pattern": "Utrecht"}])
    folder = tmp_path_factory.mktemp("model") / "names"
    pipeline.to_disk(folder)
    return folder


def test_names_are_found_by_the_model_that_the_user_names(spacy_model):
    text = "Jane Doe, jane@b.co, of Utrecht. "
    settings = {"kinds": ["email", "person"], "spacy_model": str(spacy_model)}
    assert scrub(text, **settings) == f"<PERSON>, {FIRST}, of Utrecht. "
    settings["kinds"] += ["location"]
    once = f"<PERSON>, {FIRST}, of <LOCATION>. "
    assert scrub(text, **settings) == once
    doc = Document(text=text * 5000)  # more than the model gets at a time
    Pii(PiiConfig(**settings))(doc)
    assert doc.metadata["pii"] == {"email": 5000, "person": 5000, "location": 5000}
    assert doc.text.replace(SECOND, FIRST) == once * 5000


def test_a_model_is_part_of_what_makes_a_finished_task(spacy_model):
    files = Pii.files(PiiConfig(kinds=["person"], spacy_model=str(spacy_model)))
    assert {"meta.json", "patterns.jsonl"} <= {path.name for path in files}
    assert Pii.files(PiiConfig()) == []


def test_what_is_missing_for_names_is_a_clear_error(spacy_model, tmp_path):
    with pytest.raises(ValidationError, match="to find person, name a spaCy model"):
        PiiConfig(kinds=["person"])
    with pytest.raises(ValidationError, match="what shall the spaCy model find"):
        PiiConfig(spacy_model="en_core_web_sm")
    with pytest.raises(ConfigError, match=r"no spaCy model 'en_nosuch_sm'; .*spacy download"):
        Pii(PiiConfig(kinds=["person"], spacy_model="en_nosuch_sm"))
    with pytest.raises(ConfigError, match=r"has no meta\.json"):
        Pii(PiiConfig(kinds=["person"], spacy_model=str(tmp_path)))
    (tmp_path / "meta.json").write_text("{}")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        Pii(PiiConfig(kinds=["person"], spacy_model=str(tmp_path)))


def test_where_kinds_overlap_the_better_proof_wins():
    assert scrub("card 4111111111111111.", kinds=ALL) == "card <CREDIT_CARD>."
    assert scrub("x2125550187@b.co", kinds=ALL) == FIRST


def test_placeholders_and_own_stand_ins():
    text = "a@b.co c@d.org 8.8.8.8"
    assert scrub(text, replacement="placeholders") == "<EMAIL_ADDRESS> <EMAIL_ADDRESS> <IP_ADDRESS>"
    assert scrub(text, email_stand_ins=["x@example.com"], kinds=["email"]) == "x@example.com x@example.com 8.8.8.8"


def test_private_addresses_and_addresses_apart():
    assert scrub("10.0.0.1", public_addresses_only=False) == FIRST_IP
    assert scrub("v1.2.3.456 1.2.3.4.5 (8.8.8.8).", addresses_apart=True) == f"v1.2.3.456 1.2.3.4.5 ({FIRST_IP})."


def test_presidio_is_loaded_only_where_it_is_needed():
    code = """
import json, sys
from llmdata.clean.pii import Pii, PiiConfig
from llmdata.document import Document
Pii(PiiConfig(kinds=["email", "ipv4", "phone"]))(Document(text="a@b.co 8.8.8.8"))
names = ("presidio_analyzer", "torch", "spacy", "numpy", "phonenumbers")
print(json.dumps([name for name in names if name in sys.modules]))
"""
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert json.loads(loaded) == []


@pytest.mark.parametrize(
    "text",
    [
        "a@" * 200_000,
        "a." * 200_000 + "@",
        "é" * 200_000 + "@b.co",
        "1." * 200_000,
        "@" + "a-" * 200_000,
        "1 " * 200_000,
    ],
)
def test_hostile_texts_take_time_in_proportion(text):
    scrub(text, kinds=["email", "ipv4", "phone"])


@given(st.text(alphabet=st.sampled_from("ab.-@é 12:+()/"), max_size=80))
def test_what_is_scrubbed_stays_scrubbed(text):
    once = scrub(text, kinds=ALL, replacement="placeholders")
    assert scrub(once, kinds=["email"], replacement="placeholders") == once
