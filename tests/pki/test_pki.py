# SPDX-License-Identifier: Apache-2.0
import os
import shutil
import signal
import stat
import subprocess
import sys
from base64 import b64decode, encodebytes
from datetime import UTC, datetime, timedelta, timezone
from errno import EACCES, ENOLCK
from functools import partial
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import crypto

from fwsign import files as file_access
from fwsign.errors import Failed
from fwsign.keys import ALGORITHMS
from fwsign.keys.file import load_private_key
from fwsign.pki import authority, ca_limits, files
from fwsign.pki.authority import create
from fwsign.pki.directory import Pki
from fwsign.pki.profiles import usages_of
from fwsign.pki.revocation import REASONS, renew_crls, revoke
from fwsign.verify.example_keys import EXAMPLE_SPKI
from fwsign.x509.roles import CONFIG_SIGNING
from pki_kit import (
    DAY,
    HOUR,
    NOW,
    SECOND,
    at_file_event,
    check_whole,
    contents,
    extensions,
    fork,
    issue,
    make,
    names_of,
    needs_fork,
    no_passphrase,
    number,
    openssl,
    openssl_verify,
    pyopenssl_verify,
    refused,
    renew_lists,
    run_myself,
    serials,
    usage,
    withdraw,
)
from support import stride

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLE = Path(__file__).parents[2] / "keys.example"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One PKI of each algorithm, which no test changes."""
    base = tmp_path_factory.mktemp("made")
    return {alg: make(base / alg, alg).directory for alg in ALGORITHMS}


@pytest.fixture
def pki(made: dict[str, Path], tmp_path: Path) -> Path:
    """A PKI with P-256 and no passphrases, for this test alone."""
    return Path(shutil.copytree(made["p256"], tmp_path / "pki"))


@pytest.fixture(scope="session")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PKI with the passphrases "root" and "rest", which no test changes."""
    directory = tmp_path_factory.mktemp("sealed") / "pki"
    create(
        directory,
        org="Acme",
        vendor="acme.example",
        alg="p256",
        root_passphrase=b"root",
        passphrase=b"rest",
        now=NOW,
    )
    return directory


# What is made.


def test_root_profile(made: dict[str, Path]) -> None:
    root = Pki(made["p256"]).root
    assert extensions(root) == {
        ExtensionOID.BASIC_CONSTRAINTS: True,
        ExtensionOID.KEY_USAGE: True,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER: False,
    }
    basic = root.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (basic.ca, basic.path_length) == (True, None)
    assert usage(root) == {"key_cert_sign", "crl_sign"}
    assert names_of(root) == [
        (NameOID.ORGANIZATION_NAME, "Acme"),
        (NameOID.COMMON_NAME, "Acme Root CA"),
    ]
    assert root.issuer == root.subject
    assert root.not_valid_before_utc == SECOND - HOUR
    assert root.not_valid_after_utc == datetime(2046, 11, 1, 12, 30, 15, tzinfo=UTC)


def test_issuing_profile(made: dict[str, Path]) -> None:
    pki = Pki(made["p256"])
    issuing = pki.certificate("issuing")
    assert extensions(issuing) == {
        ExtensionOID.BASIC_CONSTRAINTS: True,
        ExtensionOID.KEY_USAGE: True,
        ExtensionOID.NAME_CONSTRAINTS: True,
        ExtensionOID.EXTENDED_KEY_USAGE: True,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER: False,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER: False,
    }
    assert usages_of(issuing) == (
        ExtendedKeyUsageOID.CODE_SIGNING,
        ExtendedKeyUsageOID.TIME_STAMPING,
        CONFIG_SIGNING,
    )
    basic = issuing.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (basic.ca, basic.path_length) == (True, 0)
    assert usage(issuing) == {"key_cert_sign", "crl_sign"}
    constraints = issuing.extensions.get_extension_for_class(x509.NameConstraints).value
    assert constraints.permitted_subtrees == [x509.DNSName("acme.example")]
    assert constraints.excluded_subtrees is None
    assert names_of(issuing)[1] == (NameOID.COMMON_NAME, "Acme Issuing CA")
    assert issuing.not_valid_after_utc == SECOND + timedelta(days=3652)


def test_tls_issuing_profile(made: dict[str, Path]) -> None:
    pki = Pki(made["p256"])
    issuing = pki.certificate("issuing-tls")
    assert extensions(issuing) == {
        ExtensionOID.BASIC_CONSTRAINTS: True,
        ExtensionOID.KEY_USAGE: True,
        ExtensionOID.EXTENDED_KEY_USAGE: False,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER: False,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER: False,
    }
    assert usages_of(issuing) == (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
    basic = issuing.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (basic.ca, basic.path_length) == (True, 0)
    assert usage(issuing) == {"key_cert_sign", "crl_sign"}
    assert names_of(issuing)[1] == (NameOID.COMMON_NAME, "Acme TLS CA")
    assert issuing.not_valid_after_utc == SECOND + timedelta(days=3652)
    assert pki.issuers("issuing-tls") == ("ca",)


def test_signer_profile(made: dict[str, Path]) -> None:
    pki = Pki(made["p256"])
    signer, issuing = pki.certificate("release"), pki.certificate("issuing")
    assert extensions(signer) == {
        ExtensionOID.BASIC_CONSTRAINTS: True,
        ExtensionOID.KEY_USAGE: True,
        ExtensionOID.EXTENDED_KEY_USAGE: True,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME: False,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER: False,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER: False,
    }
    assert not signer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert usage(signer) == {"digital_signature"}
    eku = signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(eku) == [ExtendedKeyUsageOID.CODE_SIGNING]
    san = signer.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(san) == [x509.DNSName("acme.example")]
    assert names_of(signer) == [
        (NameOID.ORGANIZATION_NAME, "Acme"),
        (NameOID.COMMON_NAME, "release"),
    ]
    assert signer.not_valid_before_utc == SECOND - HOUR
    assert signer.not_valid_after_utc == SECOND + timedelta(days=730)
    above = signer.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    below = issuing.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert above.key_identifier == below.digest


def test_crl_profile(made: dict[str, Path]) -> None:
    pki = Pki(made["p256"])
    for name, days in (("ca", 400), ("issuing", 90)):
        crl = pki.crl(name)
        assert serials(crl) == set()
        assert crl.last_update_utc == SECOND
        assert crl.next_update_utc == SECOND + days * DAY
        assert number(crl) == int(NOW.timestamp())
        assert {extension.oid: extension.critical for extension in crl.extensions} == {
            ExtensionOID.CRL_NUMBER: False,
            ExtensionOID.AUTHORITY_KEY_IDENTIFIER: False,
            x509.ObjectIdentifier("2.5.29.60"): False,
        }
        expired = crl.extensions.get_extension_for_oid(x509.ObjectIdentifier("2.5.29.60")).value
        assert isinstance(expired, x509.UnrecognizedExtension)
        assert expired.value == b"\x18\x0f20261101113015Z"  # notBefore of the CA


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_no_signature_uses_sha1(alg: str, made: dict[str, Path]) -> None:
    pki = Pki(made[alg])
    digest = {"p256": "sha256", "p384": "sha384"}.get(alg)
    digest = "sha256" if alg.startswith("rsa") else digest
    used = [pki.certificate(name).signature_hash_algorithm for name in ("ca", *pki.names())]
    used += [pki.crl(name).signature_hash_algorithm for name in pki.authorities()]
    assert [found.name if found else None for found in used] == [digest] * 7


def test_serial_numbers_are_random_and_positive(made: dict[str, Path]) -> None:
    found = [
        Pki(directory).certificate(name).serial_number
        for directory in made.values()
        for name in ("ca", "issuing", "release")
    ]
    assert len(set(found)) == 3 * len(ALGORITHMS)
    assert all(0 < serial < 1 << 159 for serial in found)
    assert max(found).bit_length() > 150


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_pyopenssl_accepts_the_path_and_refuses_it_once_revoked(
    alg: str, made: dict[str, Path], tmp_path: Path
) -> None:
    directory = Path(shutil.copytree(made[alg], tmp_path / "pki"))
    pyopenssl_verify(directory, "release", now=NOW)
    withdraw(directory, "release")
    with pytest.raises(crypto.X509StoreContextError, match="certificate revoked"):
        pyopenssl_verify(directory, "release", now=NOW)


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_keys_belong_to_their_certificates(alg: str, made: dict[str, Path]) -> None:
    pki = Pki(made[alg])
    for name in ("ca", *pki.names()):
        key = load_private_key(pki.key_path(name), no_passphrase)
        assert key.public_key() == pki.certificate(name).public_key()


@pytest.mark.skipif(os.name != "posix", reason="permission bits are those of POSIX")
def test_private_keys_are_private(made: dict[str, Path]) -> None:
    private = made["p256"] / "private"
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert {stat.S_IMODE(key.stat().st_mode) for key in private.iterdir()} == {0o600}


def test_git_overlooks_private_keys(pki: Path) -> None:
    assert (pki / "private/.gitignore").read_bytes() == b"*\n"
    git = shutil.which("git")
    if git is None:
        pytest.skip("there is no git")
    for arguments in (("init", "--quiet"), ("add", "--all")):
        subprocess.run([git, "-C", str(pki), *arguments], check=True, capture_output=True)
    command = [git, "-C", str(pki), "ls-files"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert "ca.crt" in listed
    assert [path for path in listed if path.startswith("private")] == []


def test_passphrases_are_used(sealed: Path) -> None:
    pki = Pki(sealed)
    load_private_key(pki.key_path("ca"), lambda: b"root")
    load_private_key(pki.key_path("issuing"), lambda: b"rest")
    refused(lambda: load_private_key(pki.key_path("release"), lambda: b"root"), "key.passphrase")


# Making the directory.


def test_an_empty_directory_is_filled(tmp_path: Path) -> None:
    directory = tmp_path / "pki"
    directory.mkdir(mode=0o750)
    assert make(directory).names() == ("issuing", "issuing-tls", "release")
    if os.name == "posix":
        assert stat.S_IMODE(directory.stat().st_mode) == 0o750
    assert [entry.name for entry in tmp_path.iterdir()] == ["pki"]


def test_a_directory_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    directory = tmp_path / "pki"
    directory.mkdir()
    (directory / "README").write_text("mine")
    error = refused(lambda: make(directory), "state.pki-exists")
    assert error.message == f"{directory} exists already and is not an empty directory"
    assert contents(tmp_path) == {"pki/README": b"mine"}
    refused(lambda: make(directory / "README"), "state.pki-exists")


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise Failed("io.full", "no space left")

    monkeypatch.setattr(files, "write_atomic", full)
    refused(lambda: make(tmp_path / "pki"), "io.full")
    assert list(tmp_path.iterdir()) == []


def test_no_parent_directory(tmp_path: Path) -> None:
    directory = tmp_path / "no" / "pki"
    error = refused(lambda: make(directory), "io.missing")
    assert error.message == f"cannot write {directory}: no such file or directory"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"org": ""}, "state.policy"),
        ({"vendor": "Acme.Example"}, "state.policy"),
        ({"alg": "p521"}, "key.unsupported"),
        ({"now": datetime(2026, 11, 1)}, "state.clock"),  # noqa: DTZ001 - that is the fault
        ({"now": datetime(1969, 12, 31, tzinfo=UTC)}, "state.clock"),
        ({"now": datetime(9999, 12, 31, tzinfo=UTC)}, "state.clock"),
        ({"passphrase": b""}, "key.passphrase-missing"),
    ],
)
def test_wrong_arguments_leave_nothing(
    change: dict[str, object], code: str, tmp_path: Path
) -> None:
    arguments: dict[str, object] = {
        "org": "Acme",
        "vendor": "acme.example",
        "alg": "p256",
        "root_passphrase": None,
        "passphrase": None,
        "now": NOW,
    }
    call: Callable[..., object] = create
    refused(lambda: call(tmp_path / "pki", **{**arguments, **change}), code)
    assert list(tmp_path.iterdir()) == []


def test_times_of_another_zone_are_the_same_times(tmp_path: Path) -> None:
    zone = timezone(timedelta(hours=5, minutes=30))
    assert make(tmp_path / "pki", now=NOW.astimezone(zone)).crl("ca").last_update_utc == SECOND


# Issuing.


def test_issue_signer(pki: Path) -> None:
    before = contents(pki)
    path = issue(pki, "ci", domains=("dev.acme.example", "acme.example"), lifetime=30 * DAY)
    assert path == pki / "issued" / "ci.crt"
    after = contents(pki)
    assert set(after) - set(before) == {"issued/ci.crt", "private/ci.key"}
    assert {name for name in before if after[name] != before[name]} == {"log.jsonl"}
    certificate = Pki(pki).certificate("ci")
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.DNSName) == ["dev.acme.example", "acme.example"]
    assert certificate.not_valid_after_utc == SECOND + 30 * DAY
    assert Pki(pki).names() == ("ci", "issuing", "issuing-tls", "release")


def test_vendor_outside_the_constraint_is_refused_before_anything_is_written(pki: Path) -> None:
    before = contents(pki)
    for vendor in ("other.example", "notacme.example", "acme.example.net"):
        error = refused(
            partial(issue, pki, "ci", domains=("acme.example", vendor)), "state.ca-limit"
        )
        assert error.message == (
            f'vendor "{vendor}" is outside what the CA "Acme Issuing CA" is limited to: '
            "acme.example"
        )
    refused(lambda: issue(pki, "ci", domains=("Acme.Example",)), "state.policy")
    assert contents(pki) == before


def test_signer_may_not_outlive_its_issuer(pki: Path) -> None:
    error = refused(lambda: issue(pki, "ci", lifetime=timedelta(days=3653)), "state.pki")
    assert error.message == (
        'signer "ci" would be valid until 2036-11-01, '
        'but its issuer "Acme Issuing CA" only until 2036-10-31'
    )
    error = refused(lambda: issue(pki, "ci", lifetime=timedelta.max), "state.pki")
    assert "would be valid until after 9999" in error.message
    issue(pki, "ci", lifetime=timedelta(days=3652))
    issuing = Pki(pki).certificate("issuing")
    assert Pki(pki).certificate("ci").not_valid_after_utc == issuing.not_valid_after_utc


def test_default_lifetime_ends_with_the_issuer(pki: Path) -> None:
    issue(pki, "late", now=NOW + timedelta(days=3600))
    issuing = Pki(pki).certificate("issuing")
    assert Pki(pki).certificate("late").not_valid_after_utc == issuing.not_valid_after_utc


@pytest.mark.parametrize("lifetime", [timedelta(), -DAY, timedelta(milliseconds=999)])
def test_lifetime_of_nothing_is_refused(lifetime: timedelta, pki: Path) -> None:
    error = refused(lambda: issue(pki, "ci", lifetime=lifetime), "state.clock")
    assert error.message == f'signer "ci" would be valid for {lifetime.total_seconds():g} s'


def test_issuer_that_may_not_issue(pki: Path) -> None:
    error = refused(lambda: issue(pki, "ci", now=NOW - 2 * HOUR - DAY), "state.clock")
    assert error.message == 'it is 2026-10-31, but the CA "Acme Issuing CA" begins 2026-11-01'
    error = refused(lambda: issue(pki, "ci", now=NOW + timedelta(days=3652)), "state.pki")
    assert error.message == 'the CA "Acme Issuing CA" expired 2036-10-31, it is 2036-10-31'
    withdraw(pki, "issuing")
    error = refused(lambda: issue(pki, "ci", now=NOW + DAY), "state.pki")
    assert error.message == 'the CA "Acme Issuing CA" was revoked 2026-11-01'


def test_name_that_is_taken(pki: Path) -> None:
    before = contents(pki)
    error = refused(lambda: issue(pki, "release"), "state.pki-exists")
    assert error.message == f'there is a certificate "release" in {pki} already'
    refused(lambda: issue(pki, "issuing"), "state.policy")
    refused(lambda: issue(pki, "../ca"), "state.policy")
    assert contents(pki) == before


def test_key_left_by_a_killed_run_is_set_aside_and_never_lost(pki: Path) -> None:
    left = pki / "private" / "ci.key"
    left.write_text("left over")
    certificate = issue(pki, "ci")
    assert (pki / "private" / "ci.key.unused-1").read_text() == "left over"
    key = left.read_bytes()
    certificate.unlink()
    issue(pki, "ci")
    assert (pki / "private" / "ci.key.unused-2").read_bytes() == key
    new = load_private_key(left, no_passphrase).public_key()
    assert new == Pki(pki).certificate("ci").public_key()


def test_wrong_passphrase_of_the_issuer_writes_nothing(sealed: Path) -> None:
    before = contents(sealed)

    def attempt(passphrase: bytes | None) -> None:
        issue(sealed, "ci", ca_passphrase=lambda: passphrase)

    refused(lambda: attempt(b"root"), "key.passphrase")
    refused(lambda: attempt(None), "key.passphrase-missing")
    assert contents(sealed) == before


def test_key_of_another_ca_is_refused(pki: Path) -> None:
    shutil.copy(pki / "private" / "ca.key", pki / "private" / "issuing.key")
    error = refused(lambda: issue(pki, "ci"), "key.mismatch")
    assert error.message == (
        f'{pki / "private" / "issuing.key"} is not the key of the CA "Acme Issuing CA"'
    )


SUB_CA = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Sub CA")])


def issuing_with(
    pki: Path,
    extensions: list[x509.ExtensionType],
    key: X25519PublicKey | None = None,
    subject: x509.Name = SUB_CA,
) -> None:
    """Replace the issuing CA by one that another tool could have made."""
    root = authority.open_authority(Pki(pki), "ca", no_passphrase)
    old = Pki(pki).certificate("issuing")
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(old.issuer)
        .public_key(key or old.public_key())
        .serial_number(7)
        .not_valid_before(old.not_valid_before_utc)
        .not_valid_after(old.not_valid_after_utc)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    new = builder.sign(root.key, hashes.SHA256())
    (pki / "issued" / "issuing.crt").write_bytes(new.public_bytes(Encoding.PEM))


def test_issuing_ca_without_a_constraint(pki: Path) -> None:
    key = Pki(pki).certificate("issuing").public_key()
    issuing_with(pki, [x509.SubjectKeyIdentifier.from_public_key(key)])
    error = refused(lambda: issue(pki, "ci"), "state.pki")
    assert error.message == (
        'the CA "Sub CA" is not limited to a vendor, so the signer must name one'
    )
    issue(pki, "ci", domains=("any.example",))
    assert names_of(Pki(pki).certificate("ci")) == [(NameOID.COMMON_NAME, "ci")]


def test_issuing_ca_without_a_key_identifier(pki: Path) -> None:
    issuing_with(pki, [])
    error = refused(lambda: issue(pki, "ci", domains=("any.example",)), "state.pki")
    assert error.message == 'the certificate of the CA "Sub CA" has no subject key identifier'


def test_key_that_cannot_be_set_aside(pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = pki / "private" / "ci.key"
    left.write_text("left over")

    def denied(*_: object) -> None:
        raise PermissionError(EACCES, "denied")

    monkeypatch.setattr(Path, "rename", denied)
    refused(lambda: issue(pki, "ci"), "io.permission")
    assert left.read_text() == "left over"


def test_lock_that_cannot_be_had(pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(_: int) -> None:
        raise OSError(ENOLCK, "No locks available")

    with monkeypatch.context() as patch:
        patch.setattr(file_access, "wait_for", unsupported)
        error = refused(lambda: renew_lists(pki), "io.write")
    assert error.message == f"cannot write {pki / '.lock'}: no locks available"
    (pki / ".lock").unlink()
    (pki / ".lock").mkdir()
    refused(lambda: renew_lists(pki), "io.directory")


def test_key_of_the_issuer_is_not_there(pki: Path) -> None:
    (pki / "private" / "issuing.key").unlink()
    refused(lambda: issue(pki, "ci"), "io.missing")


# Revoking.


@pytest.mark.parametrize("reason", REASONS)
def test_revoke(reason: str, pki: Path) -> None:
    assert withdraw(pki, "release", reason, now=NOW + DAY) == pki / "crl" / "issuing.pem"
    entry = Pki(pki).revocation("release")
    assert entry is not None
    assert entry.revocation_date_utc == SECOND + DAY
    found = [extension.value for extension in entry.extensions]
    # RFC 5280 s.5.3.1: the reason unspecified is said by saying nothing
    wanted = [] if reason == "unspecified" else [x509.CRLReason(x509.ReasonFlags(reason))]
    assert found == wanted
    assert serials(Pki(pki).crl("ca")) == set()


@pytest.mark.parametrize("reason", ["certificateHold", "removeFromCRL", "aACompromise", "", "x"])
def test_other_reasons_are_refused(reason: str, pki: Path) -> None:
    before = contents(pki)
    error = refused(lambda: withdraw(pki, "release", reason), "state.policy")
    assert error.message.startswith(f'"{reason}" is not a reason to revoke, there are: unspecified')
    assert contents(pki) == before


def test_revoking_the_issuing_ca_needs_the_root(sealed: Path, tmp_path: Path) -> None:
    pki = Path(shutil.copytree(sealed, tmp_path / "pki"))

    def attempt(passphrase: bytes) -> Path:
        return revoke(
            pki, "issuing", reason="cACompromise", ca_passphrase=lambda: passphrase, now=NOW
        )

    refused(lambda: attempt(b"rest"), "key.passphrase")
    assert attempt(b"root") == pki / "crl" / "ca.pem"
    assert serials(Pki(pki).crl("ca")) == {Pki(pki).certificate("issuing").serial_number}


def test_what_cannot_be_revoked(pki: Path) -> None:
    error = refused(lambda: withdraw(pki, "ca"), "state.pki")
    assert error.message.startswith("the root cannot be revoked")
    error = refused(lambda: withdraw(pki, "nobody"), "state.pki")
    assert (
        error.message
        == f'no certificate "nobody" in {pki}, there are: issuing, issuing-tls, release'
    )
    withdraw(pki, "release")
    before = contents(pki)
    error = refused(lambda: withdraw(pki, "release", now=NOW + DAY), "state.pki-exists")
    assert error.message == 'certificate "release" was revoked 2026-11-01 already'
    assert contents(pki) == before


# CRLs.


def test_crl_numbers_only_rise_and_follow_the_clock(pki: Path) -> None:
    first = number(Pki(pki).crl("ca"))
    names = ("ca", "issuing", "issuing-tls")
    assert renew_lists(pki) == tuple(pki / "crl" / f"{name}.pem" for name in names)
    assert number(Pki(pki).crl("ca")) == first + 1
    renew_lists(pki, NOW - HOUR)
    assert number(Pki(pki).crl("ca")) == first + 2
    renew_lists(pki, NOW + DAY)
    assert number(Pki(pki).crl("ca")) == first + 86400


def test_entries_are_never_dropped(pki: Path) -> None:
    issue(pki, "short", lifetime=DAY)
    withdraw(pki, "short", "superseded")
    old = list(Pki(pki).crl("issuing"))
    withdraw(pki, "release", now=NOW + 500 * DAY)
    renew_lists(pki, NOW + 1000 * DAY)
    entries = list(Pki(pki).crl("issuing"))
    wanted = [Pki(pki).certificate(name).serial_number for name in ("short", "release")]
    assert {entry.serial_number for entry in entries} == set(wanted)
    kept = next(entry for entry in entries if entry.serial_number == wanted[0])
    assert kept.revocation_date_utc == old[0].revocation_date_utc
    assert list(kept.extensions) == list(old[0].extensions)


def test_one_wrong_passphrase_renews_nothing(sealed: Path) -> None:
    before = contents(sealed)
    for wrong in ("ca", "issuing"):
        answers = {"ca": b"root", "issuing": b"rest", wrong: b"wrong"}
        call = partial(renew_crls, sealed, answers.__getitem__, now=NOW)
        refused(call, "key.passphrase")
    assert contents(sealed) == before


def test_the_issuing_ca_renews_without_the_root(pki: Path) -> None:
    (pki / "private" / "ca.key").unlink()
    refused(lambda: renew_lists(pki), "io.missing")
    written = renew_crls(pki, lambda _: None, now=NOW, names=("issuing",))
    assert written == (pki / "crl" / "issuing.pem",)
    error = refused(
        lambda: renew_crls(pki, lambda _: None, now=NOW, names=("release",)),
        "state.pki",
    )
    assert error.message == f'"release" is not a CA of {pki}, there are: ca, issuing, issuing-tls'


def test_a_clock_before_the_ca_renews_nothing(pki: Path) -> None:
    before = contents(pki)
    refused(lambda: renew_lists(pki, datetime(1970, 1, 2, tzinfo=UTC)), "state.clock")
    assert contents(pki) == before


@pytest.mark.parametrize("name", ["ca", "issuing"])
def test_a_clock_behind_the_crls_makes_none(name: str, pki: Path) -> None:
    renew_lists(pki, NOW + DAY)
    before = contents(pki)
    behind = NOW + DAY - HOUR - timedelta(seconds=1)
    call = partial(renew_crls, pki, lambda _: None, now=behind, names=(name,))
    error = refused(call, "state.clock")
    assert error.message == (
        "the clock is wrong: it says 2026-11-02 11:30, "
        f'but the CRL of "{name}" was made 2026-11-02 12:30'
    )
    assert (error.expected, error.found) == ("2026-11-02 12:30 or later", "2026-11-02 11:30")
    refused(lambda: withdraw(pki, "release", now=NOW), "state.clock")
    assert contents(pki) == before


def test_a_lost_crl_is_not_replaced_by_an_empty_one(pki: Path) -> None:
    (pki / "crl" / "issuing.pem").unlink()
    (pki / "crl" / "bundle.pem").unlink()
    message = (
        f"{pki / 'crl/issuing.pem'} is missing, and there is no copy in {pki / 'crl/bundle.pem'}"
    )
    assert refused(lambda: renew_lists(pki), "state.pki").message == message
    assert refused(lambda: withdraw(pki, "release"), "state.pki").message == message
    assert not (pki / "crl" / "issuing.pem").exists()


def test_crl_without_a_number_is_continued(pki: Path) -> None:
    authority_ = authority.open_authority(Pki(pki), "ca", no_passphrase)
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority_.certificate.subject)
        .last_update(SECOND)
        .next_update(SECOND + DAY)
        .sign(authority_.key, Pki(pki).root.signature_hash_algorithm)  # type: ignore[arg-type]
    )
    (pki / "crl" / "ca.pem").write_bytes(crl.public_bytes(Encoding.PEM))
    renew_lists(pki)
    assert number(Pki(pki).crl("ca")) == int(NOW.timestamp())


# Reading.


def test_path_and_crls(made: dict[str, Path]) -> None:
    pki = Pki(made["p256"])
    issuing = pki.certificate("issuing").public_bytes(Encoding.DER)
    assert pki.path("release") == (pki.certificate("release").public_bytes(Encoding.DER), issuing)
    assert pki.path("issuing") == (issuing,)
    assert pki.path("ca") == ()
    crls = tuple(pki.crl(name).public_bytes(Encoding.DER) for name in ("issuing", "ca"))
    assert pki.crls("release") == crls
    assert pki.crls("issuing") == crls[1:]
    assert pki.issuers("release") == ("issuing", "ca")
    assert pki.key_path("release") == made["p256"] / "private" / "release.key"


def test_what_is_no_pki(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "none"):
        error = refused(partial(Pki, directory), "state.pki")
        assert error.message == f"{directory} is not a PKI: there is no ca.crt in it"
    (tmp_path / "ca.crt").write_text("hello")
    error = refused(lambda: Pki(tmp_path), "state.pki")
    assert error.message == f"{tmp_path / 'ca.crt'} is not a certificate in PEM"


@pytest.mark.parametrize("name", ["nobody", "", "../ca", "x/../release", "..\\ca", ".", "a\0b"])
def test_names_are_names_and_not_paths(name: str, made: dict[str, Path]) -> None:
    refused(lambda: Pki(made["p256"]).certificate(name), "state.pki")


def test_files_being_written_are_no_entries(pki: Path) -> None:
    (pki / "issued" / ".ci.crt.abc").write_text("half")
    (pki / "issued" / ".hidden.crt").write_text("half")
    (pki / "issued" / "notes.txt").write_text("mine")
    assert Pki(pki).names() == ("issuing", "issuing-tls", "release")


def test_incomplete_directories(pki: Path) -> None:
    reader = Pki(pki)
    (pki / "issued" / "release.crt").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n")
    error = refused(lambda: reader.path("release"), "state.pki")
    assert error.message == f"{pki / 'issued' / 'release.crt'} is not a certificate in PEM"
    (pki / "crl" / "ca.pem").write_text("hello")
    error = refused(lambda: reader.crls("issuing"), "state.pki")
    assert error.message == f"{pki / 'crl' / 'ca.pem'} is not a CRL in PEM"
    shutil.rmtree(pki / "issued")
    error = refused(reader.names, "state.pki")
    assert error.message == f"{pki / 'issued'} is missing"


def test_files_of_another_kind_or_size(pki: Path) -> None:
    (pki / "issued" / "release.crt").write_bytes(bytes(64 * 1024 + 1))
    error = refused(lambda: Pki(pki).certificate("release"), "io.format")
    assert "is larger than 65536 bytes" in error.message
    shutil.rmtree(pki / "issued")
    (pki / "issued").write_text("a file")
    refused(lambda: Pki(pki).names(), "io.directory")


def test_crl_by_another_kind_of_key(pki: Path, made: dict[str, Path]) -> None:
    for name in ("crl/ca.pem", "issued/release.crt"):
        shutil.copy(made["ed25519"] / name, pki / name)
    refused(lambda: Pki(pki).crl("ca"), "state.pki")
    refused(lambda: Pki(pki).path("release"), "state.pki")


def test_ca_with_a_key_that_cannot_sign(pki: Path) -> None:
    subject = Pki(pki).certificate("issuing").subject
    issuing_with(pki, [], X25519PrivateKey.generate().public_key(), subject)
    refused(lambda: Pki(pki).crl("issuing"), "state.pki")
    refused(lambda: Pki(pki).path("release"), "state.pki")


def test_directories_that_contradict_themselves(pki: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other", org="Other").directory
    shutil.copy(other / "issued" / "release.crt", pki / "issued" / "foreign.crt")
    error = refused(lambda: Pki(pki).path("foreign"), "state.pki")
    assert error.message == (
        f'no CA in {pki} issued "release": its issuer is "CN=Other Issuing CA,O=Other"'
    )
    # The same names and another key: only the signature tells.
    twin = make(tmp_path / "twin").directory
    shutil.copy(twin / "issued" / "release.crt", pki / "issued" / "twin.crt")
    refused(lambda: Pki(pki).path("twin"), "state.pki")
    shutil.copy(twin / "crl" / "issuing.pem", pki / "crl" / "issuing.pem")
    error = refused(lambda: Pki(pki).crls("release"), "state.pki")
    assert error.message == (
        f"{pki / 'crl' / 'issuing.pem'} is not a CRL of {pki / 'issued' / 'issuing.crt'}"
    )


def test_a_ca_above_itself_is_no_endless_loop(pki: Path) -> None:
    issuing = authority.open_authority(Pki(pki), "issuing", no_passphrase)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "circle")])
    key = issuing.key
    circle = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(SECOND)
        .not_valid_after(SECOND + DAY)
        .sign(key, issuing.certificate.signature_hash_algorithm)  # type: ignore[arg-type]
    )
    (pki / "issued" / "issuing.crt").write_bytes(circle.public_bytes(Encoding.PEM))
    error = refused(lambda: Pki(pki).path("issuing"), "state.pki")
    assert error.message == f'the CA "issuing" in {pki} is above itself'


@given(data=st.data())
def test_any_damage_is_a_state_error(
    data: st.DataObject, made: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.getbasetemp() / "damaged"
    if not directory.exists():
        shutil.copytree(made["ed25519"], directory)
    name = data.draw(st.sampled_from(["issued/release.crt", "issued/issuing.crt", "crl/ca.pem"]))
    whole = (made["ed25519"] / name).read_bytes()
    first, *middle, last = whole.splitlines(keepends=True)
    der = bytearray(b64decode(b"".join(middle)))
    at = data.draw(st.integers(0, len(der) - 1))
    der[at] ^= data.draw(st.integers(1, 255))
    (directory / name).write_bytes(first + encodebytes(der) + last)
    pki = Pki(directory)
    try:
        _ = pki.path("release"), pki.crls("release")
    except Failed as error:
        assert error.code == "state.pki"  # noqa: PT017 - see below
    else:
        # The one byte that nothing covers: how many bits the signature leaves unused.
        assert at == len(der) - 64 - 1
    finally:
        (directory / name).write_bytes(whole)


# The published one.


def test_example_keys_are_known_and_say_what_they_are() -> None:
    pki = Pki(EXAMPLE)
    digests = set()
    for name in ("ca", *pki.names()):
        certificate = pki.certificate(name)
        assert "NOT FOR PRODUCTION" in certificate.subject.rfc4514_string()
        key = load_private_key(pki.key_path(name), no_passphrase).public_key()
        assert key == certificate.public_key()
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        digests.add(sha256(spki).hexdigest())
    assert digests == EXAMPLE_SPKI
    assert len(pki.crls("release")) == 2
    assert pki.crl("ca").last_update_utc == datetime(2026, 11, 1, tzinfo=UTC)
    assert "README.md" in {file.name for file in EXAMPLE.iterdir()}


# Against the openssl command.


@pytest.mark.external
@pytest.mark.parametrize("alg", [alg for alg in ALGORITHMS if not alg.startswith("ml-dsa")])
def test_openssl_verifies_the_path_and_refuses_it_once_revoked(
    alg: str,
    made: dict[str, Path],
    tmp_path: Path,
) -> None:
    pki = Path(shutil.copytree(made[alg], tmp_path / "pki"))
    issue(pki, "ci", domains=("dev.acme.example",))
    for name in ("release", "ci"):
        found = openssl_verify(pki, name)
        assert found.returncode == 0, found.stderr
    withdraw(pki, "release")
    found = openssl_verify(pki, "release")
    assert found.returncode == 2
    assert "error 23 at 0 depth lookup: certificate revoked" in found.stderr
    assert openssl_verify(pki, "ci").returncode == 0
    withdraw(pki, "issuing", "cACompromise")
    found = openssl_verify(pki, "ci")
    assert "error 23 at 1 depth lookup: certificate revoked" in found.stderr


@pytest.mark.external
def test_openssl_refuses_a_vendor_that_the_ca_may_not_issue_for(
    pki: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ca_limits, "refuse_outside", lambda *_: None)
    issue(pki, "ci", domains=("other.example",))
    assert "permitted subtree violation" in openssl_verify(pki, "ci").stderr


@pytest.mark.external
def test_openssl_reads_our_crls(pki: Path) -> None:
    withdraw(pki, "release", "keyCompromise")
    shown = openssl("crl", "-noout", "-text", "-in", pki / "crl" / "issuing.pem")
    assert shown.returncode == 0
    for words in ("Version 2 (0x1)", "Key Compromise", "X509v3 CRL Number", "2.5.29.60"):
        assert words in shown.stdout
    checked = openssl(
        *("crl", "-noout", "-verify", "-in", pki / "crl" / "issuing.pem"),
        *("-CAfile", pki / "issued" / "issuing.crt"),
    )
    assert "verify OK" in checked.stderr


# Killed at any point. These need a process that may fork, so this file runs itself.


def kill_at_each_step(base: Path) -> None:
    template = make(base / "template").directory
    issue(template, "old")
    renew_lists(template)  # so that what is imported on use has been

    actions: dict[str, Callable[[Path], object]] = {
        "create": lambda pki: make(pki.with_name("new")),
        "issue": lambda pki: issue(pki, "new"),
        "renew": renew_lists,
        "revoke": lambda pki: withdraw(pki, "old"),
    }
    for action, act in actions.items():
        step, lived = 0, False
        while not lived:
            step += stride(5)
            pki = base / f"{action}{step}" / "pki"
            shutil.copytree(template, pki)
            lived = fork(partial(act, pki), partial(at_file_event, step))
            check_whole(pki, set())
            if action == "create" and (made := pki.with_name("new")).exists():
                check_whole(made, set())
            if action == "issue" and "new" not in Pki(pki).names():
                issue(pki, "new")  # the next run goes on where this one was killed
            shutil.rmtree(pki.parent)
        print(action, step)  # for the test that started this


def kill_at_random(base: Path) -> None:
    pki = make(base / "pki").directory
    renew_lists(pki)
    random, killed, revoked = Random(1), 0, set[int]()  # which moment matters not
    for step in range(50):

        def work(step: int = step) -> None:
            issue(pki, f"s{step}")
            withdraw(pki, f"s{step}")
            renew_lists(pki)

        # The timer's signal ends a process as abruptly as SIGKILL when nobody handles it.
        delay = random.uniform(0.0005, 0.02)
        killed += not fork(work, partial(signal.setitimer, signal.ITIMER_REAL, delay))
        check_whole(pki, revoked)
        revoked = serials(Pki(pki).crl("issuing"))
    print("killed", killed)  # for the test that started this


def write_at_once(base: Path) -> None:
    pki = make(base / "pki").directory
    start, ready = os.pipe()

    def work(writer: int) -> None:
        os.close(ready)
        os.read(start, 1)  # all begin when the last end of the pipe is closed
        for step in range(5):
            issue(pki, f"w{writer}-{step}")
            withdraw(pki, f"w{writer}-{step}")
            renew_lists(pki)

    children = []
    for writer in range(3):
        child = os.fork()
        if child == 0:
            try:
                work(writer)
            finally:
                os._exit(0)
        children.append(child)
    os.close(ready)
    for child in children:
        os.waitpid(child, 0)
    check_whole(pki, set())
    print("revoked", len(serials(Pki(pki).crl("issuing"))))  # for the test
    print("number", number(Pki(pki).crl("issuing")) - int(NOW.timestamp()))  # too


@needs_fork
def test_killed_at_each_step_the_pki_is_old_or_new(tmp_path: Path) -> None:
    steps = run_myself(__file__, "kill_at_each_step", tmp_path)
    assert set(steps) == {"create", "issue", "renew", "revoke"}
    assert all(count > 10 for count in steps.values())


@needs_fork
def test_killed_at_random_the_pki_stays_readable(tmp_path: Path) -> None:
    assert run_myself(__file__, "kill_at_random", tmp_path)["killed"] > 10


@needs_fork
def test_writers_wait_for_each_other(tmp_path: Path) -> None:
    assert run_myself(__file__, "write_at_once", tmp_path) == {"revoked": 15, "number": 30}


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]))
