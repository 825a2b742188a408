"""`fwsign show` of what others make: what is odd is marked, and the rest is shown."""

import base64
import json
import re
import subprocess
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    pkcs7,
)
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtensionOID

from cli.kit import good, refused, run
from fwsign.cli.inputs import select
from fwsign.keys.ber import MAX_DEPTH, definite
from fwsign.pki.view.extension_text import value_text
from fwsign.pki.view.extensions import Extension
from fwsign.x509.certificate import parse_certificate
from support import (
    Entity,
    certify,
    leaf_extensions,
    make_ca,
    make_crl,
    make_leaf,
    name,
    new_key,
    parts,
    require_program,
    resign,
    rsa_key,
    tlv,
    with_serial,
)
from support import (
    refused as refuses,
)

REPRS = re.compile(r"<\w+\(|ObjectIdentifier|ParseError|\bb'|object at")


def show(tmp_path: Path, content: bytes, command: tuple[str, ...] = ("show",)) -> Any:
    """Return the first thing in a file; no words of Python may be said about it."""
    file = tmp_path / "thing"
    file.write_bytes(content)
    page = good(*command, file)
    assert not REPRS.search(page), page
    return json.loads(good(*command, file, "--json"))["content"][0]


def shown(tmp_path: Path, *values: x509.ExtensionType) -> dict[str, Any]:
    """Return the extensions of a certificate as they are shown."""
    entity = certify(new_key(), name("a"), None, [(one, False) for one in values])
    extensions: dict[str, Any] = show(tmp_path, entity.der)["extensions"]
    return extensions


def raw(oid: str, content: str) -> x509.UnrecognizedExtension:
    """Return an extension with any content, in hex."""
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), bytes.fromhex(content))


def altered(entity: Entity, number: int, value: bytes) -> bytes:
    """Return a certificate with another field in its signed part."""
    tbs = parts(parts(entity.der)[0])
    tbs[number] = value
    return resign(tbs, entity.key)


# --- values ---------------------------------------------------------------------------------


def test_names_have_their_types(tmp_path: Path) -> None:
    every = [
        x509.DNSName("a.example"),
        x509.IPAddress(ip_address("192.0.2.1")),
        x509.UniformResourceIdentifier("urn:a"),
        x509.RFC822Name("a@a.example"),
        x509.DirectoryName(name("dir", None)),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
        x509.OtherName(x509.ObjectIdentifier("1.2.4"), b"\x0c\3you"),
        x509.OtherName(x509.ObjectIdentifier("1.2.5"), b"\x05\0"),
    ]
    found = shown(tmp_path, x509.SubjectAlternativeName(every), x509.IssuerAlternativeName(every))
    words = (
        "DNS:a.example, IP:192.0.2.1, URI:urn:a, email:a@a.example, directory:CN=dir, RID:1.2.3, "
        "other:1.2.4 you, other:1.2.5 0500"
    )
    assert (found["subjectAltName"], found["issuerAltName"]) == (words, words)


def test_places_policies_and_limits_are_words(tmp_path: Path) -> None:
    url = x509.UniformResourceIdentifier("http://a.example/x")
    ocsp = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, url)
    reasons = frozenset({x509.ReasonFlags.key_compromise})
    notice = x509.UserNotice(x509.NoticeReference("Acme", [1, 2]), "read it")
    policy = x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), ["http://cps", notice])
    points = [
        x509.DistributionPoint([url], None, reasons, [x509.DirectoryName(name("b", None))]),
        x509.DistributionPoint(None, name("rel", None).rdns[0], None, None),
    ]
    found = shown(
        tmp_path,
        x509.AuthorityInformationAccess([ocsp]),
        x509.CRLDistributionPoints(points),
        x509.FreshestCRL(points[:1]),
        x509.CertificatePolicies([policy]),
        x509.PolicyConstraints(1, None),
        x509.InhibitAnyPolicy(2),
        x509.TLSFeature([x509.TLSFeatureType.status_request]),
        x509.OCSPNoCheck(),
    )
    point = "URI:http://a.example/x for keyCompromise by directory:CN=b"
    assert found["authorityInfoAccess"] == ["OCSP URI:http://a.example/x"]
    assert found["cRLDistributionPoints"] == [point, "relative CN=rel"]
    assert found["freshestCRL"] == [point]
    policies = ['1.2.3, CPS http://cps, notice "read it", notice 1, 2 of Acme']
    assert found["certificatePolicies"] == policies
    assert found["policyConstraints"] == "explicit policy after 1"
    assert found["inhibitAnyPolicy"] == "after 2"
    assert found["TLSFeature"] == "status request"
    assert found["OCSPNoCheck"] == "present"


def test_issuing_distribution_points() -> None:
    point = x509.IssuingDistributionPoint(
        [x509.UniformResourceIdentifier("http://a")],
        None,
        only_contains_user_certs=True,
        only_contains_ca_certs=False,
        only_some_reasons=frozenset({x509.ReasonFlags.superseded}),
        indirect_crl=True,
        only_contains_attribute_certs=False,
    )
    told = value_text(Extension(point.oid, critical=True, value=point, content=b"", fault=None))
    assert told == "URI:http://a, only for superseded, only user certificates, indirect"


def test_key_usage_says_encipher_only_and_decipher_only(tmp_path: Path) -> None:
    for content, words in (
        ("03020009", "key agreement, encipher only"),
        ("0303070880", "key agreement, decipher only"),
        ("03020780", "digital signature"),
    ):
        found = shown(tmp_path, raw("2.5.29.15", content))
        assert found["keyUsage"] == words


def test_serial_numbers_have_whole_bytes(tmp_path: Path) -> None:
    root = make_ca()
    for content, words in (("0a1b", "0a1b"), ("ff", "-01"), ("00ff", "ff"), ("00", "00")):
        data = with_serial(root, bytes.fromhex(content))
        assert show(tmp_path, data)["serial"] == words
    crl = make_crl(root, [certify(new_key(), name("b"), root, [], serial=0x0A1B)])
    assert show(tmp_path, crl)["revoked"][0]["serial"] == "0a1b"


# --- what cannot be read --------------------------------------------------------------------

CASES = {
    "basicConstraints": ("2.5.29.19", "3003010100", "a default value that is written out, in ca"),
    "keyUsage": ("2.5.29.15", "040100", "another type than expected"),
    "extendedKeyUsage": ("2.5.29.37", "30030601", "it is cut off"),
    "certificatePolicies": ("2.5.29.32", "3003300106", "it is cut off"),
}


@pytest.mark.parametrize("what", CASES)
def test_one_odd_extension_hides_no_other(tmp_path: Path, what: str) -> None:
    oid, content, why = CASES[what]
    names = x509.SubjectAlternativeName([x509.DNSName("a.example")])
    entity = certify(new_key(), name("a"), None, [(raw(oid, content), False), (names, False)])
    found = show(tmp_path, entity.der)
    told = found["extensions"][what]
    assert told.startswith("cannot be read: ")
    assert told.endswith(f" ({content})")
    assert why.partition(",")[0] in told
    assert found["extensions"]["subjectAltName"] == "DNS:a.example"
    assert found["subject"] == "O=Acme,CN=a"
    (note,) = found["notes"]
    assert note.startswith(f"a strict reader refuses it: {what}: ")
    assert show(tmp_path, base64_pem("CERTIFICATE", entity.der)) == found


def base64_pem(label: str, data: bytes) -> bytes:
    """Return a PEM block."""
    text = base64.encodebytes(data).decode()
    return f"-----BEGIN {label}-----\n{text}-----END {label}-----\n".encode()


def test_names_of_types_that_few_use(tmp_path: Path) -> None:
    content = tlv(0x30, b"\xa3\x02\x30\0", b"\xa5\x02\xa1\0", b"\x82\1a", b"\x87\1\1", b"\x84\0")
    found = shown(tmp_path, raw("2.5.29.17", content.hex()))
    words = "x400Address:3000, ediPartyName:a100, DNS:a, IP:cannot be read: 1 bytes (01), type 84:"
    assert found["subjectAltName"] == words


def test_an_extension_that_is_there_twice(tmp_path: Path) -> None:
    tbs = parts(parts(make_leaf(make_ca()).der)[0])
    each = parts(parts(tbs[-1])[0])
    tbs[-1] = tlv(0xA3, tlv(0x30, *each, each[0]))
    found = show(tmp_path, resign(tbs, new_key()))
    assert [one for one in found["extensions"] if one.endswith("(again)")] == [
        "basicConstraints (critical) (again)"
    ]
    assert "Duplicate" in found["notes"][0]


def test_a_time_a_name_and_a_key_that_no_library_reads(tmp_path: Path) -> None:
    root = make_ca()
    times = tlv(0x30, tlv(0x17, b"260101000000+0100"), tlv(0x17, b"270101000000Z"))
    found = show(tmp_path, altered(root, 4, times))
    assert found["valid from"] == "cannot be read: 260101000000+0100"
    assert found["valid until"] == "2027-01-01T00:00:00+00:00"
    attribute = tlv(0x30, bytes.fromhex("0603550403"), tlv(0x0C, b"a\xff,b"))
    found = show(tmp_path, altered(root, 5, tlv(0x30, tlv(0x31, attribute))))
    assert found["subject"] == "CN=a\\\\xff\\,b"
    key = tlv(0x30, tlv(0x30, bytes.fromhex("06032b6570")), tlv(3, b"\0\1"))
    found = show(tmp_path, altered(root, 6, key))
    assert found["key"].startswith("cannot be read: ")
    assert found["key"].endswith("(ed25519)")
    assert found["extensions"]["basicConstraints (critical)"] == "CA True"


def test_what_is_no_certificate_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "thing"
    file.write_bytes(base64_pem("CERTIFICATE", b"\x30\0"))
    found = run("show", file)
    refused(found, 1, "not a certificate: it has not the three parts of something signed")


# --- forms ----------------------------------------------------------------------------------


def indefinite(element: bytes) -> bytes:
    """Return BER of indefinite lengths, in all constructed elements."""
    if not element[0] & 0x20:
        return element
    return element[:1] + b"\x80" + b"".join(map(indefinite, parts(element))) + b"\0\0"


@pytest.mark.parametrize("form", ["PEM", "DER"])
def test_bundles_in_ber(tmp_path: Path, form: str) -> None:
    root = make_ca()
    data = indefinite(pkcs7.serialize_certificates([root.certificate], Encoding.DER))
    found = show(tmp_path, data if form == "DER" else base64_pem("PKCS7", data))
    assert (found["subject"], found["in"]) == ("O=Acme,CN=Root", "PKCS#7")
    assert found["serial"].endswith(f"{root.certificate.serial_number:x}")


def test_certificates_in_ber(tmp_path: Path) -> None:
    assert show(tmp_path, indefinite(make_ca().der))["subject"] == "O=Acme,CN=Root"


def test_ber_that_is_damaged(tmp_path: Path) -> None:
    assert definite(bytes.fromhex("24800401610401620000")) == b"\4\2ab"
    deep = b"\x30\x80" * (MAX_DEPTH + 2)
    for data in (deep, b"\x30", b"\x30\x80\4\5", b"\x30\x85" + bytes(9), b"\4\0\0", b"\x30\2\4\5"):
        with pytest.raises(ValueError, match=r"in one another|cut off|impossible|bytes after"):
            definite(data)
    with pytest.raises(ValueError, match="beyond the end"):
        definite(b"\x30\3\4\2aabb")
    assert show(tmp_path, deep)["kind"] == "unknown"


def test_other_messages_of_pkcs7_are_named(tmp_path: Path) -> None:
    message = tlv(0x30, bytes.fromhex("06092a864886f70d010703"), tlv(0xA0, tlv(0x30)))
    found = show(tmp_path, message)
    assert found["kind"] == "PKCS#7 message"
    assert found["detail"] == "enveloped data: encrypted for somebody"


def test_trusted_certificates_of_openssl(tmp_path: Path) -> None:
    data = make_ca().der + tlv(
        0x30, tlv(0x30, bytes.fromhex("06082b06010505070301")), tlv(0x0C, b"mine")
    )
    found = show(tmp_path, base64_pem("TRUSTED CERTIFICATE", data))
    assert found["subject"] == "O=Acme,CN=Root"
    assert found["in"] == "OpenSSL's trusted certificate"
    assert found["trust"] == 'trusted for 1.3.6.1.5.5.7.3.1, named "mine"'


def test_trusted_certificates_by_openssl_itself(tmp_path: Path) -> None:
    program = require_program("openssl")
    plain, trusted = tmp_path / "a.pem", tmp_path / "b.pem"
    plain.write_bytes(make_ca().certificate.public_bytes(Encoding.PEM))
    made = (program, "x509", "-in", plain, "-addtrust", "serverAuth", "-addreject", "clientAuth")
    subprocess.run([*made, "-trustout", "-out", trusted], check=True)
    words = "trusted for 1.3.6.1.5.5.7.3.1, rejected for 1.3.6.1.5.5.7.3.2"
    assert json.loads(good("show", trusted, "--json"))["content"][0]["trust"] == words


def number(value: int) -> str:
    """Return a number as JWK has it."""
    size = (value.bit_length() + 7) // 8
    return base64.urlsafe_b64encode(value.to_bytes(size, "big")).rstrip(b"=").decode()


def jwk_of(key: Any) -> dict[str, str]:
    """Return a private RSA or P-256 key as JWK."""
    own = key.private_numbers()
    public = own.public_numbers
    if hasattr(public, "n"):
        private = {"p": own.p, "q": own.q, "d": own.d}
        more = {"dp": own.dmp1, "dq": own.dmq1, "qi": own.iqmp}
        values = {"n": public.n, "e": public.e} | private | more
        return {"kty": "RSA"} | {word: number(value) for word, value in values.items()}
    point = {"x": number(public.x), "y": number(public.y)}
    return {"kty": "EC", "crv": "P-256", "d": number(own.private_value)} | point


def okp(key: Any) -> dict[str, str]:
    """Return a private Ed25519 key as JWK."""
    each = {"d": key.private_bytes_raw(), "x": key.public_key().public_bytes_raw()}
    texts = {
        word: base64.urlsafe_b64encode(value).decode().rstrip("=") for word, value in each.items()
    }
    return {"kty": "OKP", "crv": "Ed25519"} | texts


@pytest.mark.parametrize("alg", ["p256", "rsa", "ed25519"])
def test_json_web_keys(tmp_path: Path, alg: str) -> None:
    key = rsa_key(2048) if alg == "rsa" else new_key(alg)
    private = okp(key) if alg == "ed25519" else jwk_of(key)
    found = show(tmp_path, json.dumps(private).encode(), ("key", "show"))
    assert (found["kind"], found["format"], found["encrypted"]) == ("private key", "JWK", False)
    public = {
        word: text
        for word, text in private.items()
        if word not in ["d", "p", "q", "dp", "dq", "qi"]
    }
    several = show(tmp_path, json.dumps({"keys": [public]}).encode())
    assert (several["kind"], several["key sha256"]) == ("public key", found["key sha256"])
    (tmp_path / "a.jwk").write_text(json.dumps(private))
    good("key", "convert", tmp_path / "a.jwk", tmp_path / "a.pem", "--no-passphrase")
    read = load_pem_private_key((tmp_path / "a.pem").read_bytes(), None)
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert read.public_key().public_bytes(*form) == key.public_key().public_bytes(*form)


@pytest.mark.parametrize(
    ("key", "kind", "words"),
    [
        ({"kty": "oct", "k": "AAAA"}, "symmetric key", "fwsign has no use for it"),
        ({"kty": "EC", "crv": "P-256"}, "damaged public key", "a part is absent or wrong: 'x'"),
        (
            {"kty": "RSA", "e": "AQAB", "n": "A" * 4000},
            "damaged public key",
            "a number of 3000 bytes, expected at most 2048",
        ),
        ({"kty": "new"}, "damaged public key", "a key type that is not supported"),
        ({"kty": "OKP", "crv": "Ed25519", "x": "A"}, "damaged public key", "not base64url"),
    ],
)
def test_json_web_keys_that_are_odd(
    tmp_path: Path, key: dict[str, str], kind: str, words: str
) -> None:
    found = show(tmp_path, json.dumps(key).encode())
    assert found["kind"] == kind
    assert words in found["detail"]


def test_an_okp_key_of_two_halves_that_differ(tmp_path: Path) -> None:
    one, other = okp(new_key("ed25519")), okp(new_key("ed25519"))
    found = show(tmp_path, json.dumps(one | {"x": other["x"]}).encode())
    assert found["detail"].endswith("its two halves do not belong together")


def test_json_of_cfssl(tmp_path: Path) -> None:
    root = make_ca()
    text = root.certificate.public_bytes(Encoding.PEM).decode()
    for value in ({"cert": text, "key": "x"}, {"result": {"certificate": text}}, [text]):
        data = json.dumps(value).encode()
        assert show(tmp_path, data)["subject"] == "O=Acme,CN=Root"
        assert "Root" in good("pki", "show", tmp_path / "thing")
        assert "lint.damaged" not in run("pki", "lint", tmp_path / "thing").out


def test_other_json_is_text(tmp_path: Path) -> None:
    for text in (b"{}", b"[1]", b'{"a": ' * 100_000, b"{"):
        assert show(tmp_path, text)["kind"] == "unknown"


@pytest.mark.parametrize(
    ("data", "kind", "form", "command"),
    [
        (b"PuTTY-User-Key-File-3: ssh-ed25519\n", "private key of PuTTY", "PPK", "puttygen FILE"),
        (b"\xfe\xed\xfe\xed\0\0\0\2", "Java keystore", "JKS", "keytool -importkeystore "),
        (b"\xce\xce\xce\xce\0\0\0\2", "Java keystore", "JCEKS", "-srcstoretype JCEKS"),
    ],
)
def test_key_stores_of_others_are_named(
    tmp_path: Path, data: bytes, kind: str, form: str, command: str
) -> None:
    for asked in (("show",), ("key", "show")):
        found = show(tmp_path, data, asked)
        assert (found["kind"], found["format"]) == (kind, form)
        assert command in found["what to do"]
    file = tmp_path / "thing"
    words = f"is a {kind} ({form}), which fwsign reads once it is converted: "
    assert words in run("pki", "lint", file).out
    assert words in good("pki", "show", file, "--json")
    found = run("key", "convert", file, tmp_path / "new", "--no-passphrase")
    error, hint = found.errors
    assert error == (
        f"error: {file} is not a private key that can be read: it is a {kind} ({form})"
    )
    assert command in hint
    assert found.status == 5


def test_public_keys_that_no_library_reads(tmp_path: Path) -> None:
    curve = tlv(0x30, bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06052b81040001"))
    data = tlv(0x30, curve, tlv(3, b"\0\4\1\1"))
    words = "cannot be read: a form that is not supported (id-ecPublicKey, 1.3.132.0.1)"
    for content in (data, base64_pem("PUBLIC KEY", data)):
        found = show(tmp_path, content)
        assert (found["kind"], found["key"]) == ("public key", words)


def test_force_replaces_no_store_of_several_keys(tmp_path: Path) -> None:
    file = tmp_path / "store"
    for content in (b"\xfe\xed\xfe\xed", b"PuTTY-User-Key-File-2: ssh-rsa", b'{"kty": "oct"}'):
        file.write_bytes(content)
        found = run("key", "new", file, "--no-passphrase", "--force")
        words = f"{file} exists already and is not a key"
        refused(found, 5, words, "choose another name, or remove it yourself")
        assert file.read_bytes() == content


@pytest.mark.parametrize("form", ["PEM", "DER"])
def test_bundles_in_ber_are_not_pinned(tmp_path: Path, form: str) -> None:
    root, file = make_ca(), tmp_path / "thing"
    ber = indefinite(pkcs7.serialize_certificates([root.certificate], Encoding.DER))
    with refuses("io.format", "has no certificate, it has certificate in BER"):
        select(
            file, ber if form == "DER" else base64_pem("PKCS7", ber), "CERTIFICATE", "certificate"
        )


def test_trusted_certificates_are_not_pinned(tmp_path: Path) -> None:
    data = base64_pem("TRUSTED CERTIFICATE", make_ca().der + tlv(0x30))
    with refuses("io.format", "has no certificate, it has TRUSTED CERTIFICATE"):
        select(tmp_path / "thing", data, "CERTIFICATE", "certificate")


def test_show_is_not_verify(tmp_path: Path) -> None:
    """What show reads, the verifier refuses as before."""
    odd = raw("2.5.29.19", "3003010100")
    data = certify(new_key(), name("a"), None, [*leaf_extensions()[1:], (odd, True)]).der
    assert show(tmp_path, data)["kind"] == "certificate"
    with refuses("malformed.certificate", "not a certificate: "):
        parse_certificate(data)
    with refuses("malformed.certificate", "not a certificate: "):
        parse_certificate(indefinite(make_ca().der))


def test_requests_and_entries_that_are_odd(tmp_path: Path) -> None:
    key = new_key()
    oid = ExtensionOID.BASIC_CONSTRAINTS
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name("a"))
        .add_extension(x509.UnrecognizedExtension(oid, b"\xff"), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("a.b")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    found = show(tmp_path, request.public_bytes(Encoding.DER))
    assert found["extensions"]["subjectAltName"] == "DNS:a.b"
    assert found["extensions"]["basicConstraints"].startswith("cannot be read: ")
    assert found["signed by its key"] is True
