# SPDX-License-Identifier: Apache-2.0
"""Issuing: every kind, for new keys, requests and keys that exist."""

import shutil
import subprocess
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from fwsign.errors import FwsignError
from fwsign.keys import ALGORITHMS
from fwsign.keys.file import new_private_key
from fwsign.pki.directory import Pki
from fwsign.pki.entry_keys import NewKey
from fwsign.pki.leaves import KINDS, DeviceIdentity
from fwsign.pki.request import parse_request
from fwsign.x509.roles import CONFIG_SIGNING
from pki_kit import (
    DAY,
    HOUR,
    NOW,
    SECOND,
    before_tls,
    contents,
    extensions,
    hosts_of,
    issue,
    make,
    names_of,
    openssl,
    openssl_verify,
    pyopenssl_verify,
    refused,
    usage,
)
from support import new_key, require_program, signing_hash

USAGES = {
    "signer": ExtendedKeyUsageOID.CODE_SIGNING,
    "channel": CONFIG_SIGNING,
    "tsa": ExtendedKeyUsageOID.TIME_STAMPING,
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
}
PURPOSES = {
    "signer": "any",
    "channel": "any",
    "tsa": "timestampsign",
    "server": "sslserver",
    "client": "sslclient",
    "idevid": "sslclient",
}
HOSTS: dict[str, dict[str, Any]] = {
    "server": {"domains": ["broker.acme.example"], "addresses": [ip_address("192.0.2.7")]},
    "idevid": {"device": DeviceIdentity("SN-0017")},
}


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("issue") / "pki", permit=("plant.test",)).directory


@pytest.fixture
def pki(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "pki"))


def request(key: Any, *, names: tuple[str, ...] = (), common: str = "anything") -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
    if names:
        found = [x509.DNSName(name) for name in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(found), critical=False)
    return builder.sign(key, signing_hash(key)).public_bytes(Encoding.PEM)


# Profiles.


@pytest.mark.parametrize("kind", ["signer", "channel", "tsa", "server", "client"])
def test_profile_of_each_kind(kind: str, pki: Path) -> None:
    issue(pki, "x", kind, **HOSTS.get(kind, {}))
    certificate = Pki(pki).certificate("x")
    issuing = Pki(pki).certificate(
        "issuing" if kind in {"signer", "channel", "tsa"} else "issuing-tls"
    )
    found = extensions(certificate)
    assert found.pop(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, None) in {None, False}
    assert found == {
        ExtensionOID.BASIC_CONSTRAINTS: True,
        ExtensionOID.KEY_USAGE: True,
        # TLS stacks differ in what they make of a critical one
        ExtensionOID.EXTENDED_KEY_USAGE: kind in {"signer", "channel", "tsa"},
        ExtensionOID.SUBJECT_KEY_IDENTIFIER: False,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER: False,
    }
    eku = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(eku) == [USAGES[kind]]
    assert usage(certificate) == {"digital_signature"}
    assert names_of(certificate) == [
        (NameOID.ORGANIZATION_NAME, "Acme"),
        (NameOID.COMMON_NAME, "x"),
    ]
    assert certificate.not_valid_before_utc == SECOND - HOUR
    days = {"signer": 730, "channel": 365, "tsa": 1826, "server": 397, "client": 730}[kind]
    assert certificate.not_valid_after_utc == SECOND + days * DAY
    assert 0 < certificate.serial_number < 1 << 159
    above = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    below = issuing.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert above.key_identifier == below.digest


def test_names_of_each_kind(pki: Path) -> None:
    issue(pki, "release-2")
    assert hosts_of(Pki(pki).certificate("release-2")) == ["acme.example"]
    issue(pki, "broker.acme.example", "server", domains=["mqtt.plant.test"])
    found = hosts_of(Pki(pki).certificate("broker.acme.example"))
    assert found == ["broker.acme.example", "mqtt.plant.test"]
    issue(pki, "lan", "server", addresses=[ip_address("192.0.2.7"), ip_address("2001:db8::7")])
    assert hosts_of(Pki(pki).certificate("lan")) == ["192.0.2.7", "2001:db8::7"]
    issue(pki, "gateway-0017", "client")  # an MQTT user name, no host
    assert ExtensionOID.SUBJECT_ALTERNATIVE_NAME not in extensions(
        Pki(pki).certificate("gateway-0017")
    )
    issue(pki, "gw.plant.test", "client")
    assert hosts_of(Pki(pki).certificate("gw.plant.test")) == ["gw.plant.test"]


def test_only_an_rsa_server_encrypts_keys(pki: Path) -> None:
    key = new_key("rsa3072").public_key()
    issue(pki, "rsa.acme.example", "server", key=key)
    issue(pki, "rsa", "client", key=key)
    assert usage(Pki(pki).certificate("rsa.acme.example")) == {
        "digital_signature",
        "key_encipherment",
    }
    assert usage(Pki(pki).certificate("rsa")) == {"digital_signature"}


@pytest.mark.parametrize(
    ("kind", "name", "domains"),
    [
        ("server", "x", ["broker.other.example"]),
        ("server", "broker.other.example", []),
        ("server", "x", ["ok.acme.example", "notacme.example"]),
        ("client", "gw.other.example", []),
        ("tsa", "tsa-1.0a", []),
    ],
)
def test_host_outside_what_the_ca_is_limited_to(
    kind: str, name: str, domains: list[str], pki: Path
) -> None:
    before_tls(pki)
    before = contents(pki)
    error = refused(partial(issue, pki, name, kind, domains=domains), "state.ca-limit")
    assert 'is outside what the CA "Acme Issuing CA" is limited to: acme.example, plant.test' in (
        error.message
    )
    assert contents(pki) == before


def test_names_that_no_host_has(pki: Path) -> None:
    error = refused(partial(issue, before_tls(pki), "x", "server"), "state.policy")
    assert error.message == ('server "x" has no host name and no address: clients look for one')
    error = refused(partial(issue, pki, "x", "server", domains=["*.acme.example"]), "state.policy")
    assert error.message.endswith("a wildcard would let a server speak for others")
    error = refused(partial(issue, pki, "a_b.c", "client"), "state.policy")
    assert error.message.startswith('host "a_b.c" is not a domain name')


@pytest.mark.parametrize(
    "name",
    ["ca-2", "standby", "issuing-2", "issuing-tls", "issuing-tls-2", "ca-2-by-ca", "standby-3"],
)
def test_names_of_cas_to_come_are_reserved(name: str, pki: Path) -> None:
    error = refused(partial(issue, pki, name), "state.policy")
    assert error.message == f'"{name}" is the name of a CA, a signer needs another'


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_every_algorithm_of_ca_and_leaf(alg: str, tmp_path: Path) -> None:
    pki = make(tmp_path / "pki", alg).directory
    for kind in KINDS:
        own = alg if kind != "encryption" or alg in ("p256", "p384") else "p384"
        issue(pki, f"{kind}-x", kind, key=NewKey(own, None), **HOSTS.get(kind, {}))
        pyopenssl_verify(pki, f"{kind}-x", now=NOW)


# Requests.


@pytest.mark.parametrize("alg", [alg for alg in ALGORITHMS if alg != "rsa4096"])
def test_of_a_request_only_the_key_counts(alg: str, pki: Path) -> None:
    key = new_key(alg)
    asked = parse_request(request(key, names=("evil.example",), common="root"), "x.csr")
    assert asked.domains == ("evil.example",)
    issue(pki, "theirs", "client", key=asked.public_key)
    certificate = Pki(pki).certificate("theirs")
    assert certificate.public_key() == key.public_key()
    assert names_of(certificate)[1] == (NameOID.COMMON_NAME, "theirs")
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert ExtensionOID.SUBJECT_ALTERNATIVE_NAME not in extensions(certificate)
    assert not Pki(pki).key_path("theirs").exists()


@pytest.mark.parametrize("alg", ["p521", "secp256k1", "ed448", "rsa1024", "rsa2048", "ml-dsa-44"])
def test_weak_and_unknown_keys_are_refused(alg: str, pki: Path) -> None:
    before = contents(pki)
    key = new_key(alg)
    hashed = None if alg in {"ed448", "ml-dsa-44"} else signing_hash(new_key("p256"))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    pem = builder.sign(key, hashed).public_bytes(Encoding.PEM)
    error = refused(partial(parse_request, pem, "x.csr"), "key.unsupported")
    assert error.message.startswith("the key of x.csr is ")
    refused(partial(issue, pki, "x", key=key.public_key()), "key.unsupported")
    assert contents(pki) == before


def test_rsa_with_a_small_exponent_is_refused(pki: Path) -> None:
    key = rsa.generate_private_key(3, 3072).public_key()
    error = refused(partial(issue, pki, "x", key=key), "key.unsupported")
    assert 'the key of "x" is RSA-3072 with a small exponent, expected P-256' in error.message


def test_request_that_its_key_did_not_sign() -> None:
    whole = bytearray(x509.load_pem_x509_csr(request(new_key())).public_bytes(Encoding.DER))
    at = whole.index(b"anything")
    whole[at] ^= 1
    error = refused(partial(parse_request, bytes(whole), "x.csr"), "key.mismatch")
    assert error.message.startswith("the signature of x.csr is not by the key in it")


@pytest.mark.parametrize("data", [b"", b"hello", b"\x30\x03\x02\x01\x00"])
def test_what_is_no_request(data: bytes) -> None:
    error = refused(partial(parse_request, data, "x.csr"), "io.format")
    assert error.message == "x.csr is not a certificate request in PEM or DER"


def test_any_flipped_byte_of_a_request_is_refused() -> None:
    whole = x509.load_pem_x509_csr(request(new_key("ed25519"))).public_bytes(Encoding.DER)
    for at in range(len(whole) - 65):  # all that is signed, and the algorithm
        damaged = whole[:at] + bytes([whole[at] ^ 0x01]) + whole[at + 1 :]
        with pytest.raises(FwsignError):
            parse_request(damaged, "x.csr")


def test_key_left_by_a_killed_run_is_not_taken_for_that_of_a_request(pki: Path) -> None:
    (pki / "private/theirs.key").write_text("left over")
    issue(pki, "theirs", key=new_key().public_key())
    assert not Pki(pki).key_path("theirs").exists()
    assert (pki / "private/theirs.key.unused-1").read_text() == "left over"


# Against others.


@pytest.mark.external
@pytest.mark.parametrize("kind", PURPOSES)
@pytest.mark.parametrize("alg", ["p384", "rsa3072"])
def test_openssl_takes_each_for_its_purpose_alone(kind: str, alg: str, pki: Path) -> None:
    more = HOSTS.get(kind, {})
    issue(pki, "x", kind, key=new_private_key(alg).public_key(), **more)
    good = openssl_verify(pki, "x", "-purpose", PURPOSES[kind])
    assert good.returncode == 0, good.stderr
    for purpose in {"sslserver", "sslclient", "timestampsign"} - {PURPOSES[kind]}:
        assert (
            "suitable certificate purpose" in openssl_verify(pki, "x", "-purpose", purpose).stderr
        )


@pytest.mark.external
def test_openssl_holds_a_dotted_common_name_to_the_constraint_as_we_do(pki: Path) -> None:
    for name in ("gw.plant.test", "gateway-0017"):
        issue(pki, name, "client")
        found = openssl_verify(pki, name, "-purpose", "sslclient")
        assert found.returncode == 0, found.stderr
    issue(pki, "b.acme.example", "server", addresses=[ip_address("192.0.2.7")])
    for asked in ("-verify_hostname", "b.acme.example"), ("-verify_ip", "192.0.2.7"):
        found = openssl_verify(pki, "b.acme.example", "-purpose", "sslserver", *asked)
        assert found.returncode == 0, found.stderr
    other = openssl_verify(pki, "b.acme.example", "-verify_hostname", "c.acme.example")
    assert "hostname mismatch" in other.stderr.lower()


@pytest.mark.external
@pytest.mark.parametrize(
    "kind",
    [("ec", "ec_paramgen_curve:P-256"), ("ed25519", ""), ("rsa", "rsa_keygen_bits:3072")],
    ids=lambda kind: kind[0],
)
def test_request_by_openssl(kind: tuple[str, str], pki: Path, tmp_path: Path) -> None:
    options = ["-pkeyopt", kind[1]] if kind[1] else []
    made = openssl(
        *("req", "-new", "-newkey", kind[0], *options, "-noenc", "-subj", "/CN=their name"),
        *("-addext", "subjectAltName=DNS:m.acme.example,IP:192.0.2.9"),
        *("-keyout", tmp_path / "k.pem", "-out", tmp_path / "r.csr"),
    )
    assert made.returncode == 0, made.stderr
    asked = parse_request((tmp_path / "r.csr").read_bytes(), "r.csr")
    assert (asked.domains, asked.addresses) == (("m.acme.example",), (ip_address("192.0.2.9"),))
    issue(
        pki, "m", "server", key=asked.public_key, domains=asked.domains, addresses=asked.addresses
    )
    found = openssl_verify(pki, "m", "-purpose", "sslserver", "-verify_ip", "192.0.2.9")
    assert found.returncode == 0, found.stderr


@pytest.mark.external
def test_gnutls_takes_the_path(tmp_path: Path) -> None:
    now = datetime.now(UTC)  # certtool knows no other time
    pki = make(tmp_path / "pki", now=now).directory
    issue(pki, "b.acme.example", "server", now=now)
    names = ("b.acme.example", "issuing-tls", "ca")
    chain = tmp_path / "chain.pem"
    chain.write_bytes(b"".join(Pki(pki).certificate_path(name).read_bytes() for name in names))
    command = [require_program("certtool"), "--verify-chain", "--infile", str(chain)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Chain verification output: Verified." in done.stdout
    assert done.returncode == 0
