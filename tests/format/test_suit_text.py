"""What people read: derived identifiers, versions, and the text map, in one form only."""

from typing import Any

import pytest

from fwsign.format import cbor
from fwsign.format.identifiers import class_id, vendor_id
from fwsign.format.notice import MAX_ADVISORIES, MAX_ADVISORY, Notice
from fwsign.format.text import (
    MAX_NAME_LENGTH,
    MAX_TEXT_SIZE,
    MAX_VERSION_LENGTH,
    Text,
    decode_text,
    encode_text,
)
from fwsign.format.version import version_numbers
from support import PRODUCT, VENDOR, component, make_manifest, refused

TWO = (component(), component(b"other", "other.bin"))
PLAIN = make_manifest()
TEXT = Text(VENDOR, PRODUCT)


def about(**changes: str) -> dict[int, str]:
    """What stands for each component; the keys of changes are `key` and the number."""
    whole = {2: PRODUCT, 3: VENDOR, 4: PRODUCT}
    return whole | {int(key.removeprefix("key")): value for key, value in changes.items()}


def english(summary: str, of_each: Any, *more: tuple[Any, Any]) -> bytes:
    return cbor.encode({"en": {1: summary, (b"file", b"build.bin"): of_each, **dict(more)}})


def test_identifiers_are_derived_from_the_names() -> None:
    assert vendor_id("acme.example").hex() == "0637e301e05d505b8267486f5677de9b"
    assert class_id("acme.example", "gateway-x1") == PLAIN.class_id
    assert class_id("acme.example", "gateway-x2") != PLAIN.class_id
    assert class_id("other.example", "gateway-x1") != PLAIN.class_id


@pytest.mark.parametrize(
    ("version", "numbers"),
    [
        ("2", (2,)),
        ("2.4.1", (2, 4, 1)),
        ("1.2-rc.3", (1, 2, -1, 3)),
        ("1.2-beta", (1, 2, -2)),
        ("1-alpha.0", (1, -3, 0)),
        ("1.2.3.4.5.6.7.8", (1, 2, 3, 4, 5, 6, 7, 8)),
        ("999999999", (999999999,)),
        ("2026.11", (2026, 11)),
    ],
)
def test_numeric_versions(version: str, numbers: tuple[int, ...]) -> None:
    assert version_numbers(version) == numbers


@pytest.mark.parametrize(
    "version",
    [
        *("", "v1", "1.", ".1", "1..2", "1.2-gamma", "1.2-rc.", "1.2-rc3", "1-", "1.2\n", "-1"),
        *("1234567890", "1.1.1.1.1.1.1.1.1", "1.2+build", "1 2", "\u0661.2"),
    ],
)
def test_other_versions_have_no_numbers(version: str) -> None:
    assert version_numbers(version) is None


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (TEXT, None),
        (TEXT._replace(version="2.4.1"), (2, 4, 1)),
        (TEXT._replace(version="nightly"), None),
        (TEXT._replace(description="Gerät für das Gateway"), None),
        (TEXT._replace(version="1-rc.1", description="", vendor=VENDOR), (1, -1, 1)),
    ],
)
def test_what_is_encoded_decodes_to_the_same_text(text: Text, version: Any) -> None:
    for components in (PLAIN.components, TWO):
        manifest = make_manifest(*components, version=version)
        assert decode_text(encode_text(text, components), manifest) == text


def test_the_map_of_a_text() -> None:
    text = TEXT._replace(version="2.4.1", description="Gateway")
    found = cbor.decode(encode_text(text, PLAIN.components))
    whole = about(key5="Gateway", key6="2.4.1", key8="2.4.1")
    assert found == {"en": {1: "gateway-x1 2.4.1", (b"file", b"build.bin"): whole}}


@pytest.mark.parametrize(
    "data",
    [
        cbor.encode({}),
        cbor.encode(()),
        cbor.encode({"en": ()}),
        cbor.encode({"en": {}}),
        cbor.encode({"de": {1: PRODUCT, (b"file", b"build.bin"): about()}}),
        cbor.encode({"en": {1: PRODUCT, (b"file", b"other.bin"): about()}}),
        cbor.encode({"en": {1: PRODUCT, (b"file", b"build.bin"): about()}, "de": {}}),
        english(PRODUCT, ()),
        english(PRODUCT, {3: VENDOR}),
        english(PRODUCT, {3: VENDOR, 4: 7}),
        english(PRODUCT, {3: VENDOR, 4: PRODUCT}),
        english("gateway-x1 3.0", about()),
        english(PRODUCT, about(), (2, "an update")),
        english(PRODUCT, about(), ((b"file", b"other.bin"), about())),
        english(PRODUCT, about(key1="Acme")),
        english(PRODUCT, about(key2="gateway-x2")),
        english(PRODUCT, about(key8="1")),
        english("gateway-x1 1", about(key6="1", key8="2")),
    ],
)
def test_texts_outside_the_template_are_refused(data: bytes) -> None:
    with refused("malformed.profile", "outside the fwsign profile of SUIT: the text matches no"):
        decode_text(data, PLAIN)


@pytest.mark.parametrize("key", [5, 6])
def test_versions_and_descriptions_that_are_no_text_are_refused(key: int) -> None:
    with refused("malformed.profile", "a version or description that is not text"):
        decode_text(english(PRODUCT, {**about(), key: b"x"}), PLAIN)


def test_a_text_of_another_product_is_refused() -> None:
    for other in (TEXT._replace(product="gateway-x2"), TEXT._replace(vendor="other.example")):
        words = f"text says {other.vendor} {other.product}, the identifiers are another product's"
        with refused("malformed.profile", words):
            decode_text(encode_text(other, PLAIN.components), PLAIN)


@pytest.mark.parametrize(
    ("said", "signed"), [("2.4.1", None), (None, (2, 4, 1)), ("2.4.1", (2, 4)), ("x", (2, 4, 1))]
)
def test_a_text_of_another_version_is_refused(said: str | None, signed: Any) -> None:
    text = encode_text(TEXT._replace(version=said), PLAIN.components)
    with refused("malformed.profile", f"text says version {said}, the manifest {signed}"):
        decode_text(text, make_manifest(version=signed))


def test_size_of_a_text_has_a_limit() -> None:
    long = TEXT._replace(description="x" * MAX_TEXT_SIZE)
    with refused("malformed.size", "bytes, at most 262144 are allowed"):
        decode_text(encode_text(long, PLAIN.components), PLAIN)


def test_what_is_no_cbor_is_refused() -> None:
    with refused("malformed.cbor"):
        decode_text(b"text", PLAIN)


SECURITY = Notice("security", ("CVE-2026-1234", "ACME:SA_7.b"), "2031-12-31")


def noticed(**entries: Any) -> bytes:
    """Return a text with any values under the keys of a notice."""
    keys = {"known": -256, "advisories": -257, "until": -258}
    return english(PRODUCT, about(), *((keys[name], one) for name, one in entries.items()))


@pytest.mark.parametrize(
    "notice",
    [
        SECURITY,
        Notice("feature"),
        Notice("security"),
        Notice(None, (), "2028-02-29"),
        Notice("security", tuple(f"CVE-2026-{n}" for n in range(MAX_ADVISORIES))),
        Notice("security", ("x" * MAX_ADVISORY,)),
    ],
)
def test_a_notice_decodes_to_the_same(notice: Notice) -> None:
    text = TEXT._replace(notice=notice)
    for components in (PLAIN.components, TWO):
        encoded = encode_text(text, components)
        assert decode_text(encoded, make_manifest(*components)) == text


def test_the_keys_of_a_notice_are_for_private_use() -> None:
    found = cbor.decode(encode_text(TEXT._replace(notice=SECURITY), PLAIN.components))
    assert found["en"] == {
        1: PRODUCT,
        -256: "security",
        -257: "CVE-2026-1234 ACME:SA_7.b",
        -258: "2031-12-31",
        (b"file", b"build.bin"): about(),
    }


def test_a_text_without_a_notice_has_the_bytes_that_it_always_had() -> None:
    assert encode_text(TEXT, PLAIN.components) == english(PRODUCT, about())


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"known": "urgent"}, "class 'urgent', expected security or feature"),
        ({"known": ""}, "class '', expected security or feature"),
        ({"known": "Security"}, "class 'Security', expected"),
        ({"known": 1}, "a class, advisory or end of support that is not text"),
        ({"known": "security", "advisories": ()}, "that is not text"),
        ({"until": b"2031-12-31"}, "that is not text"),
        ({"advisories": "CVE-1"}, "advisories in a release of class none, expected security"),
        ({"known": "feature", "advisories": "CVE-1"}, "of class feature, expected security"),
        ({"known": "security", "advisories": ""}, "advisory '', expected at most 64 of"),
        ({"known": "security", "advisories": "A  B"}, "advisory '', expected at most 64 of"),
        ({"known": "security", "advisories": "A\nB"}, "advisory 'A\\nB', expected at most 64"),
        ({"known": "security", "advisories": "-A"}, "advisory '-A', expected"),
        ({"known": "security", "advisories": "x" * 65}, "expected at most 64 of"),
        ({"known": "security", "advisories": "A B A"}, "an advisory that is named twice"),
        (
            {"known": "security", "advisories": " ".join(f"A{n}" for n in range(33))},
            "33 advisories, at most 32",
        ),
        ({"until": "2031-12-32"}, "end of support '2031-12-32', expected a date as 2031-12-31"),
        ({"until": "2027-02-29"}, "end of support '2027-02-29'"),
        ({"until": "20311231"}, "end of support '20311231'"),
        ({"until": "2031-W01-1"}, "end of support '2031-W01-1'"),
        ({"until": "2031-12-31\n"}, "expected a date as"),
        ({"until": "0000-01-01"}, "expected a date as"),
        ({"until": "\u0662031-12-31"}, "expected a date as"),
    ],
)
def test_notices_outside_the_template_are_refused(entries: dict[str, Any], words: str) -> None:
    with refused("malformed.profile", words):
        decode_text(noticed(**entries), PLAIN)


def test_an_unknown_private_key_is_refused() -> None:
    with refused("malformed.profile", "the text matches no template"):
        decode_text(english(PRODUCT, about(), (-259, "x")), PLAIN)


def names(field: str, value: str) -> Any:
    return {field: value}


@pytest.mark.parametrize(
    ("field", "limit"),
    [
        ("vendor", MAX_NAME_LENGTH),
        ("product", MAX_NAME_LENGTH),
        ("version", MAX_VERSION_LENGTH),
    ],
)
@pytest.mark.parametrize("letter", ["x", "\u20ac"])
def test_names_and_versions_have_a_limit_in_bytes(field: str, limit: int, letter: str) -> None:
    count = limit // len(letter.encode())
    longest = TEXT._replace(**names(field, letter * count))
    manifest = make_manifest(vendor=longest.vendor, product=longest.product)
    assert decode_text(encode_text(longest, PLAIN.components), manifest) == longest
    for size in (count + 1, 70_000):
        longer = TEXT._replace(**names(field, letter * size))
        found = len(letter.encode()) * size
        with refused("malformed.size", f"a {field} of {found} bytes, at most {limit} are allowed"):
            encode_text(longer, PLAIN.components)
