"""Added extensions: addresses of CRLs and CAs, and extensions by their numbers."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtensionOID

from fwsign.keys import asn1
from fwsign.pki.directory import Pki
from fwsign.pki.extras import (
    EXTENSION_LIMIT,
    Custom,
    custom,
    extras,
    extras_of,
)
from fwsign.pki.paths.purpose import AcceptedPath, judge_pool
from fwsign.pki.renewal import renew
from fwsign.pki.rotation import replace_issuing
from fwsign.x509.anchor import Anchor
from pki_kit import (
    DAY,
    NEW,
    NOW,
    extensions,
    issue,
    make,
    no_passphrase,
    openssl_verify,
    pyopenssl_verify,
    refused,
)

OID = "1.3.6.1.4.1.99999.1"
TEXT = b"\x0c\x02hi"
CRL = "http://crl.acme.example/{ca}.crl"
CA = "https://ca.acme.example:8443/{ca}.cer?x=1"


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    return make(tmp_path / "pki").directory


def urls(certificate: x509.Certificate) -> tuple[list[str], list[str]]:
    found = extras_of(certificate)
    return list(found.crl_urls), list(found.ca_issuers_urls)


def test_addresses_name_the_issuer(pki: Path) -> None:
    issue(pki, "x", "client", more=extras(crl_urls=[CRL, CRL, "http://b/"], ca_issuers_urls=[CA]))
    certificate = Pki(pki).certificate("x")
    found = extensions(certificate)
    assert found[ExtensionOID.CRL_DISTRIBUTION_POINTS] is False
    assert found[ExtensionOID.AUTHORITY_INFORMATION_ACCESS] is False
    assert urls(certificate) == (
        ["http://crl.acme.example/issuing-tls.crl", "http://b/"],
        ["https://ca.acme.example:8443/issuing-tls.cer?x=1"],
    )
    points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert len(points) == 1  # several places of one list
    access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    assert [one.access_method for one in access] == [AuthorityInformationAccessOID.CA_ISSUERS]


@pytest.mark.parametrize("kind", ["signer", "tsa", "server", "client"])
def test_verifiers_go_on_accepting(pki: Path, kind: str) -> None:
    more = extras(crl_urls=[CRL], ca_issuers_urls=[CA], custom=[Custom(OID, TEXT)])
    domains = {"server": ["x.acme.example"], "signer": ["acme.example"]}.get(kind, [])
    issue(pki, "x", kind, domains=domains, more=more)
    found = Pki(pki)
    purpose = {"signer": "codesign", "tsa": "timestamp"}.get(kind, kind)
    path = found.path("x")
    judged = judge_pool(
        path[0],
        path,
        [Anchor.from_certificate(found.root.public_bytes(Encoding.DER))],
        purpose=purpose,  # type: ignore[arg-type]
        at=NOW,
        crls=found.crls("x"),
    )
    assert isinstance(judged.verdict, AcceptedPath), judged.verdict
    assert judged.verdict.revocation_checked
    done = openssl_verify(pki, "x")
    assert done.returncode == 0, done.stderr
    pyopenssl_verify(pki, "x", now=NOW)


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("ftp://a/b", "it begins with neither http:// nor https://"),
        ("ldap://a/b", "it begins with neither http:// nor https://"),
        ("file:///etc/passwd", "it begins with neither http:// nor https://"),
        ("a/b", "it begins with neither http:// nor https://"),
        ("", "it has a character that no address has"),
        ("http://", "it names no host, or no port of one"),
        ("http:///x", "it names no host, or no port of one"),
        ("http://a:0/x", "it names no host, or no port of one"),
        ("http://a:99999/x", "it cannot be read"),
        ("http://a:b/x", "it cannot be read"),
        ("http://[::1/x", "it cannot be read"),
        ("http://u@a/x", "it has a user, a password or a fragment"),
        ("http://u:p@a/x", "it has a user, a password or a fragment"),
        ("http://a/x#y", "it has a user, a password or a fragment"),
        ("http://a/x y", "it has a character that no address has"),
        ("http://a/x\n", "it has a character that no address has"),
        ("http://\u00e4/x", "it has a character that no address has"),
        ("http://a/{CA}", "it has a character that no address has"),
        ('http://a/"', "it has a character that no address has"),
        ("http://a/" + "x" * 600, "it has 609 characters, at most 512 are allowed"),
    ],
)
def test_impossible_addresses_are_refused(url: str, fault: str) -> None:
    for arguments in ({"crl_urls": [url]}, {"ca_issuers_urls": [url]}):
        found = refused(lambda a=arguments: extras(**a), "state.policy")  # type: ignore[misc]
        assert found.message == (
            f'"{url[:80]}" is not a web address such as http://pki.acme.example/ca.crl: {fault}'
        )


# --- extensions by number -------------------------------------------------------------------


def test_an_extension_is_added_as_it_is(pki: Path) -> None:
    added = [custom(OID, TEXT, "f", critical=False), custom(f"{OID}.2", TEXT, "f", critical=True)]
    issue(pki, "x", "client", more=extras(custom=added))
    certificate = Pki(pki).certificate("x")
    for oid, critical in ((OID, False), (f"{OID}.2", True)):
        found = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(oid))
        assert found.critical is critical
        assert found.value.public_bytes() == TEXT


@pytest.mark.parametrize(
    ("oid", "name"),
    [
        ("2.5.29.19", "basicConstraints"),
        ("2.5.29.15", "keyUsage"),
        ("2.5.29.37", "extendedKeyUsage"),
        ("2.5.29.17", "subjectAltName"),
        ("2.5.29.30", "nameConstraints"),
        ("2.5.29.14", "subjectKeyIdentifier"),
        ("2.5.29.35", "authorityKeyIdentifier"),
        ("2.5.29.31", "cRLDistributionPoints"),
        ("1.3.6.1.5.5.7.1.1", "authorityInfoAccess"),
    ],
)
def test_what_fwsign_sets_itself_is_refused(oid: str, name: str) -> None:
    found = refused(lambda: custom(oid, TEXT, "f", critical=False), "state.policy")
    assert found.message == f"extension {oid} is {name}, which fwsign sets itself"


@pytest.mark.parametrize(
    "oid",
    [
        "",
        "x",
        "1",
        "3.1.2",
        "1.40.1",
        "0.40",
        "1.02.3",
        "1..2",
        ".1.2",
        "1.2.",
        "1.2.-3",
        "1.2 .3",
        "1.2.\u0663",
        "1." * 40 + "1",
        "1.2." + "9" * 60,
    ],
)
def test_what_is_no_number_is_refused(oid: str) -> None:
    found = refused(lambda: custom(oid, TEXT, "f", critical=False), "state.policy")
    assert found.message == (
        f'"{oid[:80]}" is not an object identifier such as 1.3.6.1.4.1.99999.1'
    )


def nested(depth: int) -> bytes:
    data = TEXT
    for _ in range(depth):
        data = asn1.sequence(data)
    return data


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (b"", "it is empty"),
        (b"-----BEGIN X-----", "it is PEM, not DER"),
        (b"hello", "cut off"),
        (TEXT[:-1], "cut off"),
        (TEXT + b"\0", "cut off"),
        (TEXT + TEXT, "it is more than one element"),
        (b"\x0c\x81\x02hi", "a length that is not the shortest: BER, not DER"),
        (b"\x30\x80\x00\x00", "an impossible length"),
        (b"\x30\x03\x0c\x02h", "cut off"),
        (b"\x30\x05\x0c\x81\x02hi", "a length that is not the shortest: BER, not DER"),
        (b"\x1f\x02hi", "a tag that extensions do not have"),
        (b"\x00\x00", "a tag that extensions do not have"),
        (b"\x01\x01\x01", "a BOOLEAN, INTEGER or NULL that is not in DER"),
        (b"\x02\x02\x00\x01", "a BOOLEAN, INTEGER or NULL that is not in DER"),
        (b"\x02\x00", "a BOOLEAN, INTEGER or NULL that is not in DER"),
        (b"\x05\x01\x00", "a BOOLEAN, INTEGER or NULL that is not in DER"),
        (nested(16), "more than 16 elements within each other"),
        (asn1.octets(bytes(EXTENSION_LIMIT)), "it has 8196 bytes, at most 8192 are allowed"),
    ],
)
def test_what_is_not_der_is_refused(value: bytes, fault: str) -> None:
    found = refused(lambda: custom(OID, value, "v.der", critical=False), "io.format")
    assert found.message == f"v.der is no value of extension {OID}: {fault}"


@pytest.mark.parametrize(
    "value",
    [
        TEXT,
        nested(15),
        *map(bytes.fromhex, ("0101ff", "020100", "0201ff", "020200ff", "0202ff7f", "0203010001")),
        *map(bytes.fromhex, ("0500", "0400")),
    ],
)
def test_der_is_taken(value: bytes) -> None:
    assert custom(OID, value, "v.der", critical=False) == Custom(OID, value)


@pytest.mark.parametrize("oid", ["2.5.29.32", "2.5.29.18", "1.3.6.1.5.5.7.1.24", "2.5.29.54"])
def test_what_would_make_the_pki_unreadable_is_refused(oid: str) -> None:
    found = refused(lambda: custom(oid, TEXT, "v.der", critical=False), "io.format")
    fault = "it is not what that number stands for"
    assert found.message == f"v.der is no value of extension {oid}: {fault}"


def test_a_known_extension_with_a_good_value_is_taken(pki: Path) -> None:
    value = x509.CertificatePolicies(
        [x509.PolicyInformation(x509.ObjectIdentifier(OID), None)]
    ).public_bytes()
    issue(pki, "x", "client", more=extras(custom=[custom("2.5.29.32", value, "f", critical=False)]))
    assert openssl_verify(pki, "x").returncode == 0


@pytest.mark.parametrize("kind", ["signer", "tsa"])
def test_a_signer_has_no_critical_extension_of_others(pki: Path, kind: str) -> None:
    more = extras(custom=[Custom(OID, TEXT, True)])
    found = refused(lambda: issue(pki, "x", kind, more=more), "state.policy")
    assert found.message == (
        f"devices refuse a {kind} with a critical extension that they do not know, such as {OID}"
    )


def test_an_extension_is_given_once() -> None:
    found = refused(lambda: extras(custom=[Custom(OID, TEXT), Custom(OID, TEXT)]), "state.policy")
    assert found.message == f"extension {OID} is given twice"


def test_there_are_no_more_than_sixteen() -> None:
    added = [Custom(f"{OID}.{number}", TEXT) for number in range(17)]
    found = refused(lambda: extras(custom=added), "state.policy")
    assert found.message == "17 extensions, at most 16 are allowed"


# --- renewed --------------------------------------------------------------------------------


def test_renewing_keeps_what_was_added(pki: Path) -> None:
    more = extras(crl_urls=[CRL], ca_issuers_urls=[CA], custom=[Custom(OID, TEXT)])
    issue(pki, "x", "client", more=more)
    before = extras_of(Pki(pki).certificate("x"))
    renew(pki, "x", ca_passphrase=no_passphrase, now=NOW + DAY)
    assert extras_of(Pki(pki).certificate("x")) == before == more.at("issuing-tls")


def test_renewing_replaces_addresses(pki: Path) -> None:
    issue(pki, "x", "client", more=extras(crl_urls=[CRL], ca_issuers_urls=[CA]))
    more = extras(crl_urls=["http://new/{ca}"])
    renew(pki, "x", more=more, ca_passphrase=no_passphrase, now=NOW + DAY)
    assert urls(Pki(pki).certificate("x")) == (
        ["http://new/issuing-tls"],
        ["https://ca.acme.example:8443/issuing-tls.cer?x=1"],
    )


def test_a_renewed_ca_has_addresses(pki: Path) -> None:
    more = extras(crl_urls=[CRL])
    renew(pki, "issuing", more=more, ca_passphrase=no_passphrase, now=NOW + DAY)
    renew(pki, "issuing", ca_passphrase=no_passphrase, now=NOW + 2 * DAY)
    assert urls(Pki(pki).certificate("issuing")) == (["http://crl.acme.example/ca.crl"], [])
    issue(pki, "x", "client", now=NOW + 2 * DAY)
    assert openssl_verify(pki, "x", now=NOW + 2 * DAY).returncode == 0


def test_the_address_of_another_ca_is_not_kept(pki: Path) -> None:
    issue(pki, "x", "client", more=extras(crl_urls=[CRL]))
    later = NOW + timedelta(days=2)
    replace_issuing(pki, "issuing-tls", new_key=NEW, passphrase=lambda _: None, now=later)
    now = later + DAY
    found = refused(lambda: renew(pki, "x", ca_passphrase=no_passphrase, now=now), "state.pki")
    ca = "issuing-tls-2"
    assert found.message == (
        "the certificate names http://crl.acme.example/issuing-tls.crl, of the CA that issued it; "
        f'"{ca}" issues now'
    )
    assert found.hint == ("--crl-url gives another one; {ca} in it stands for the CA's name")
    renew(pki, "x", more=extras(crl_urls=[CRL]), ca_passphrase=no_passphrase, now=now)
    assert urls(Pki(pki).certificate("x")) == ([f"http://crl.acme.example/{ca}.crl"], [])


# --- new PKIs -------------------------------------------------------------------------------


def test_all_below_a_new_root_name_their_issuer(tmp_path: Path) -> None:
    more = extras(crl_urls=[CRL], ca_issuers_urls=["http://x/{ca}"])
    pki = make(tmp_path / "pki", more=more)
    assert urls(pki.root) == ([], [])
    for name, ca in (("issuing", "ca"), ("issuing-tls", "ca"), ("release", "issuing")):
        wanted = ([f"http://crl.acme.example/{ca}.crl"], [f"http://x/{ca}"])
        assert urls(pki.certificate(name)) == wanted
    assert openssl_verify(pki.directory, "release").returncode == 0
    path = pki.path("release")
    anchor = Anchor.from_certificate(pki.root.public_bytes(Encoding.DER))
    crls = pki.crls("release")
    judged = judge_pool(path[0], path, [anchor], purpose="codesign", at=NOW, crls=crls)
    assert isinstance(judged.verdict, AcceptedPath)


def test_one_ca_names_itself_to_its_leaves(tmp_path: Path) -> None:
    pki = make(tmp_path / "pki", flat=True, more=extras(crl_urls=[CRL]))
    assert urls(pki.root) == ([], [])
    assert urls(pki.certificate("release")) == (["http://crl.acme.example/ca.crl"], [])


def test_the_next_ca_under_the_same_root_names_it_too(tmp_path: Path) -> None:
    pki = make(tmp_path / "pki", more=extras(crl_urls=[CRL])).directory
    replace_issuing(pki, new_key=NEW, passphrase=lambda _: None, now=NOW + DAY)
    assert urls(Pki(pki).certificate("issuing-2")) == (["http://crl.acme.example/ca.crl"], [])
