"""What only some versions of cryptography refuse is refused with every version."""

import time

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from fwsign.x509 import der, form
from fwsign.x509.certificate import parse_certificate
from fwsign.x509.crl import parse_crl
from fwsign.x509.form import MAX_LOOKS, check_form, check_oid
from support import leaf_extensions, make_ca, make_crl, make_leaf, parts, refused, resign, tlv

ROOT = make_ca()
LEAF = make_leaf(ROOT)
CRL = make_crl(ROOT, [LEAF])
COMMON_NAME = bytes.fromhex("0603550403")
UUID = bytes.fromhex("6983f8dae2b3a7b0fdc6a5c3d78fe8f0c6b2cf7f")
"""2.25 and a UUID as a number."""
SEQUENCE, SET, INTEGER, OCTETS, OID = 0x30, 0x31, 2, 4, 6
UTC = tlv(0x17, b"260101000000Z")


def name(*relative: bytes) -> bytes:
    return tlv(SEQUENCE, *relative)


def attribute(value: bytes = b"\x0c\x01a", kind: bytes = COMMON_NAME) -> bytes:
    return tlv(SEQUENCE, kind, value)


def check_name(written: bytes) -> None:
    check_form(der.Fields((written,), ()))


def check_extension(oid: str, *content: bytes) -> None:
    check_form(der.Fields((), ((bytes.fromhex(oid), tlv(SEQUENCE, *content)),)))


def check_entries(*entries: bytes) -> None:
    check_form(der.Fields((), (), entries=b"".join(entries)))


@pytest.mark.parametrize(
    "oid", ["2a", "00", "78", "2a8648ce3d030107", "550406", "2affffff7f", "2a" + "01" * 61]
)
def test_object_identifiers_of_every_version(oid: str) -> None:
    check_oid(bytes.fromhex(oid))


@pytest.mark.parametrize(
    "oid",
    ["", "80", "8001", "2a8001", "2a81", "2a8180808000", "2a" + "01" * 62, "ff" * 8, UUID.hex()],
)
def test_object_identifiers_that_old_versions_do_not_read_are_refused(oid: str) -> None:
    with pytest.raises(ValueError, match=f"an arc of 2\\^28 or more: {oid}$"):
        check_oid(bytes.fromhex(oid))


def test_a_name_may_have_parts_with_several_attributes() -> None:
    other = attribute(kind=bytes.fromhex("060355040a"))
    check_name(name(tlv(SET, attribute()), tlv(SET, attribute(), other)))
    check_name(name())


@pytest.mark.parametrize(
    "relative",
    [tlv(SET), tlv(SET, attribute(), attribute()), tlv(SET, attribute(), attribute(b"\x13\x01b"))],
    ids=["none", "the same twice", "one type twice"],
)
def test_parts_of_names_that_old_versions_change_are_refused(relative: bytes) -> None:
    """They drop what is there twice, so that another name would be compared."""
    with pytest.raises(ValueError, match="without attributes, or with two of one type"):
        check_name(name(tlv(SET, attribute()), relative))


def test_a_name_of_two_equal_attributes_is_refused_as_a_whole() -> None:
    tbs = parts(parts(LEAF.der)[0])
    tbs[5] = name(tlv(SET, attribute(), attribute()))
    with refused("malformed.certificate", "not a certificate: "):
        parse_certificate(resign(tbs, ROOT.key))


@pytest.mark.parametrize("text", [b"a@b", b"a*", b"\xe4", b"a\0", b"a_b", b"a\n"])
def test_a_printable_string_has_its_own_characters_alone(text: bytes) -> None:
    check_name(name(tlv(SET, attribute(tlv(0x13, b"Acme (a+b), c./:=?-'9 ")))))
    with pytest.raises(ValueError, match="a PrintableString with other characters"):
        check_name(name(tlv(SET, attribute(tlv(0x13, text)))))


def test_names_are_checked_in_extensions_too() -> None:
    inside = tlv(0xA4, name(tlv(SET, attribute(tlv(0x13, b"@")))))
    for oid in ("551d11", "551d12", "551d1e"):
        with pytest.raises(ValueError, match="a PrintableString with other characters"):
            check_extension(oid, inside)
    check_extension("551d21", inside)  # a kind that cryptography does not take apart
    long = b"\x82\x01\x00" + bytes(256)
    check_extension("551d11", tlv(0x82, bytes(300)), b"\x04" + long)


def test_registered_identifiers_are_identifiers() -> None:
    check_extension("551d11", tlv(0x88, b"\x2a\x03"))
    with pytest.raises(ValueError, match="an arc of 2"):
        check_extension("551d11", tlv(0x88, UUID))


def test_elements_end_where_they_say() -> None:
    """Versions take the content of otherName as it is."""
    for content in (tlv(0xA0, b"\x04\x7f"), tlv(0xA0, b"\x04"), tlv(0xA0, b"\x04\x84\xff")):
        with pytest.raises(ValueError, match="an element that goes beyond the end"):
            check_extension("551d11", content)


def test_a_thousand_elements_inside_each_other_are_no_recursion() -> None:
    deep = b""
    for _ in range(3000):
        deep = tlv(0xA0, deep)
    check_extension("551d11", deep)


@pytest.mark.parametrize("oid", ["551d25", "2a83ff7f", "2b0601050507010b"])
def test_extensions_have_identifiers(oid: str) -> None:
    check_extension(oid, tlv(OID, b"\x2a\x03"))
    with pytest.raises(ValueError, match="an arc of 2"):
        check_form(der.Fields((), ((UUID, b""),)))


def test_an_empty_extended_key_usage_is_refused() -> None:
    with pytest.raises(ValueError, match="an empty extended key usage"):
        check_extension("551d25")


@pytest.mark.parametrize("oid", ["551d1f", "551d2e"])
def test_distribution_points_have_a_name_or_an_issuer(oid: str) -> None:
    full = tlv(0xA0, tlv(0xA0, tlv(0x86, b"http://a")))
    issuer = tlv(0xA2, tlv(0xA4, name(tlv(SET, attribute()))))
    reasons = tlv(0x81, b"\x01\x02")
    for good in ((full,), (issuer,), (full, reasons), (reasons, issuer), (full, reasons, issuer)):
        check_extension(oid, tlv(SEQUENCE, *good))
    for bad in ((), (reasons,), (tlv(0xA2),), (tlv(0xA0, tlv(0xA0)),), (tlv(0xA0), tlv(0xA2))):
        with pytest.raises(ValueError, match="a distribution point without a name and an issuer"):
            check_extension(oid, tlv(SEQUENCE, full), tlv(SEQUENCE, *bad))


def test_relative_names_of_points_are_parts_of_names() -> None:
    for relative, fine in ((tlv(0xA1, attribute()), True), (tlv(0xA1, *[attribute()] * 2), False)):
        place = tlv(0xA0, relative)
        for oid, content in (("551d1f", tlv(SEQUENCE, place)), ("551d1c", place)):
            if fine:
                check_extension(oid, content)
                continue
            with pytest.raises(ValueError, match="with two of one type"):
                check_extension(oid, content)
    check_extension("551d1c", tlv(0x81, b"\xff"))


def test_an_authority_has_a_serial_number_that_is_not_negative() -> None:
    key, issuer = tlv(0x80, b"key"), tlv(0xA1, tlv(0x82, b"a"))
    for good in ((), (key,), (key, issuer, tlv(0x82, b"\x07"))):
        check_extension("551d23", *good)
    with pytest.raises(ValueError, match="with a negative serial number"):
        check_extension("551d23", key, issuer, tlv(0x82, b"\x87"))


FIRST, LAST = tlv(0x80, b"20260101000000Z"), tlv(0x81, b"20270101000000Z")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ((), "without times"),
        ((tlv(0x80, b"260101000000Z"),), "without times"),
        ((tlv(0x80, b"20260101000000.5Z"),), "without times"),
        ((tlv(0x80, b"20261301000000Z"),), "month must be in 1..12"),
        ((FIRST, tlv(0x81, b"20250101000000Z")), "ends before it begins"),
        ((FIRST, LAST, LAST), "bytes too many"),
    ],
)
def test_private_key_usage_periods(content: tuple[bytes, ...], words: str) -> None:
    for good in ((FIRST,), (LAST,), (FIRST, LAST)):
        check_extension("551d10", *good)
    with pytest.raises(ValueError, match=words):
        check_extension("551d10", *content)


def test_certificate_templates() -> None:
    oid, template = tlv(OID, b"\x2a\x03"), "2b0601040182371507"
    for good in ((oid,), (oid, b"\x02\x01\x05"), (oid, b"\x02\x01\x05", b"\x02\x01\x05")):
        check_extension(template, *good)
    for bad in (b"\x02\x01\x85", b"\x02\x05\x01\0\0\0\0"):
        with pytest.raises(ValueError, match="whose version is not of 32 bits"):
            check_extension(template, oid, bad)
    with pytest.raises(ValueError, match="bytes too many"):
        check_extension(template, oid, *[b"\x02\x01\x05"] * 3)


def test_admissions_are_refused() -> None:
    with pytest.raises(ValueError, match="an admissions extension"):
        check_extension("2b24080303")


def test_a_certificate_with_admissions_is_refused() -> None:
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    admissions = x509.Admissions(x509.DirectoryName(named), [])
    leaf = make_leaf(ROOT, extensions=[*leaf_extensions(), (admissions, False)])
    with refused("malformed.certificate", "not a certificate: an admissions extension"):
        parse_certificate(leaf.der)


# --- entries of CRLs ------------------------------------------------------------------------


def entry(serial: bytes, *extensions: bytes, time: bytes = UTC) -> bytes:
    more = (tlv(SEQUENCE, *extensions),) if extensions else ()
    return tlv(SEQUENCE, tlv(INTEGER, serial), time, *more)


def extension(oid: bytes, value: bytes = b"\x05\x00", critical: bytes = b"") -> bytes:
    return tlv(SEQUENCE, tlv(OID, oid), critical, tlv(OCTETS, value))


GOOD = entry(b"\x05", extension(b"\x55\x1d\x15", b"\x0a\x01\x01"))


def test_entries_that_every_version_reads() -> None:
    long = extension(b"\x2b\x06\x01\x04\x01\x02", critical=b"\x01\x01\xff")
    check_entries(GOOD, entry(b"\0\x85"), entry(b"\x05", long, long), GOOD)
    check_entries()


@pytest.mark.parametrize("serial", [b"\x85", b"\x80" * 20, b"\x85" + bytes(200)])
@pytest.mark.parametrize("when", [UTC, tlv(0x18, b"20510101000000Z")])
def test_negative_serial_numbers_in_a_crl_are_refused(serial: bytes, when: bytes) -> None:
    """Old versions do not read such a CRL at all; newer ones read it."""
    odd = entry(serial, time=when)
    for entries in ((odd,), (GOOD, odd), (odd, GOOD), (entry(serial, *[extension(b"*")] * 40),)):
        with pytest.raises(ValueError, match="an entry with a negative serial number"):
            check_entries(*entries)


def test_a_crl_with_a_negative_serial_number_is_refused_as_a_whole() -> None:
    tbs = parts(parts(CRL)[0])
    tbs[5] = tlv(SEQUENCE, entry(b"\x85"))
    with refused("malformed.crl", "not a CRL: an entry with a negative serial number"):
        parse_crl(resign(tbs, ROOT.key))


@pytest.mark.parametrize("critical", [b"", b"\x01\x01\xff"])
def test_long_identifiers_in_entries_are_refused(critical: bytes) -> None:
    odd = entry(b"\x05", extension(b"\x2a\x03"), extension(UUID, critical=critical))
    for entries in ((odd,), (GOOD, odd, GOOD)):
        with pytest.raises(ValueError, match="an arc of 2"):
            check_entries(*entries)


def test_bytes_that_only_look_like_entries_are_not_judged() -> None:
    for inside in (
        tlv(SEQUENCE, b"\x02\x01\x85"),
        tlv(SEQUENCE, b"\x02\x01\x85", b"\x04\x00"),
        tlv(SEQUENCE, b"\x02\x01\x85", UTC) + b"\x05",
        b"\x30\x7f\x02\x01\x85",
        tlv(SEQUENCE, tlv(OID, UUID)),
        tlv(SEQUENCE, tlv(OID, UUID), b"\x04\x00") + b"\x05",
    ):
        check_entries(entry(b"\x05", extension(b"\x2a\x03", inside + b"\x05")), GOOD)


@pytest.mark.parametrize("filler", [b"\x30\x05\x02\x01\x80\x17", b"\x30\x06\x06\x06"])
def test_the_work_for_entries_is_bounded(filler: bytes) -> None:
    begin = time.process_time()
    with pytest.raises(ValueError, match=f"more than {MAX_LOOKS} entries that look odd"):
        check_entries(filler * 200_000)
    assert time.process_time() - begin < 2


def test_the_extensions_that_cryptography_takes_apart_are_walked() -> None:
    """A new type in cryptography needs a look at what old versions make of it."""
    own = {one for one in vars(x509).values() if isinstance(one, type)}
    kinds = {one for one in own if issubclass(one, x509.ExtensionType)}
    assert len(form.PARSED) == 11
    assert len(kinds) == 33
