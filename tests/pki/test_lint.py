"""Lint as a whole: its table, files, keys, our own PKIs."""

import os
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs7,
)

from fwsign.errors import FwsignError
from fwsign.keys import p12
from fwsign.keys.file import encode_private_key
from fwsign.keys.published import PUBLISHED, is_published
from fwsign.pki.lint.files import FILE_LIMIT
from fwsign.pki.lint.run import RULES, SEVERITIES, lint
from lint_kit import codes, crls, fill, findings, make_pki, plain_key, said
from support import NOW, Entity, new_key, refused, require_package

PKI = make_pki()
GOOD: tuple[Entity | bytes, ...] = (PKI.root, PKI.issuing, *crls(PKI.root, PKI.issuing), PKI.leaf)


def key_file(folder: Path, data: bytes, name: str = "release.key", mode: int = 0o600) -> Path:
    path = folder / name
    path.write_bytes(data)
    path.chmod(mode)
    return path


def test_every_rule_has_a_test_named_after_it() -> None:
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_lint*.py"))
    tests = set(re.findall(r"^def test_(\w+)\(", text, re.MULTILINE))
    assert {code.removeprefix("lint.").replace("-", "_") for code in RULES} - tests == set()


def test_every_rule_says_what_it_costs_and_how_to_mend_it() -> None:
    for code, rule in RULES.items():
        assert re.fullmatch(r"lint\.[a-z0-9-]+", code)
        assert rule.severity in SEVERITIES
        assert min(map(len, (rule.meaning, rule.cost, rule.mend))) > 10, code
        for text in (rule.meaning, rule.cost, rule.mend):
            assert not text.endswith("."), code


def test_the_docs_have_every_rule() -> None:
    """WRITE_DOCS=1 in the environment writes the table anew."""
    page = Path(__file__).parents[2] / "docs/lint.md"
    if not page.exists():
        pytest.skip("the tests run without the docs")
    rows = [
        f"| `{code}` | {rule.severity} | {rule.meaning} | {rule.cost} | {rule.mend} |"
        for code, rule in RULES.items()
    ]
    head = [
        "| code | severity | meaning | what it costs | how to mend it |",
        "|---|---|---|---|---|",
    ]
    text = page.read_text(encoding="utf-8")
    wanted = text.partition("| code |")[0] + "\n".join((*head, *rows, ""))
    if os.environ.get("WRITE_DOCS"):
        page.write_text(wanted, encoding="utf-8")
    assert page.read_text(encoding="utf-8") == wanted


@pytest.mark.parametrize("alg", ["p256", "p384", "ed25519", "rsa3072", "ml-dsa-65", "ml-dsa-87"])
def test_our_own_kind_of_pki_is_clean(tmp_path: Path, alg: str) -> None:
    pki = make_pki(alg)
    report = lint(fill(tmp_path, *pki, *crls(pki.root, pki.issuing)), now=NOW)
    assert (report.certificates, report.crls, report.keys) == (3, 2, 0)
    assert (report.clean, report.findings) == (True, ())


def test_the_worst_comes_first(tmp_path: Path) -> None:
    fill(tmp_path, PKI.root, PKI.issuing, PKI.leaf)
    (tmp_path / "x.crt").write_bytes(b"")
    key_file(tmp_path, plain_key(PKI.leaf.key))
    found = [one.severity for one in findings(tmp_path)]
    assert found == sorted(found, key=SEVERITIES.index)
    assert {*found} == {*SEVERITIES}


# --- files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n",
        b"-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n",
        b"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n",
        b"0\x82\x01\x00",
        b"0\0",
    ],
)
def test_damaged(tmp_path: Path, data: bytes) -> None:
    fill(tmp_path, *GOOD)
    key_file(tmp_path, data, "bad.crt")
    assert codes(tmp_path) == ["damaged"]


def test_every_truncation_and_flip_of_a_certificate_is_survived(tmp_path: Path) -> None:
    path = tmp_path / "x.crt"
    for at in range(0, len(PKI.leaf.der), 5):
        flipped = bytearray(PKI.leaf.der)
        flipped[at] ^= 0x41
        for data in (PKI.leaf.der[:at], bytes(flipped)):
            path.write_bytes(data)
            assert codes(path) != []


def test_a_folder_without_anything(tmp_path: Path) -> None:
    report = lint(tmp_path, now=NOW)
    assert (report.certificates, report.crls, report.keys, report.findings) == (0, 0, 0, ())


def test_other_files_and_hidden_folders_are_not_looked_into(tmp_path: Path) -> None:
    fill(tmp_path, *GOOD)
    (tmp_path / "README.md").write_text("-----BEGIN CERTIFICATE-----")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/x.crt").write_bytes(b"")
    assert codes(tmp_path) == []


def test_a_certificate_in_two_files_counts_once(tmp_path: Path) -> None:
    (tmp_path / "certs_by_serial").mkdir()
    fill(tmp_path / "certs_by_serial", PKI.leaf)
    fill(tmp_path, *GOOD)
    assert lint(tmp_path, now=NOW).certificates == 3


def test_a_missing_place_is_an_error(tmp_path: Path) -> None:
    with refused("io.missing"):
        lint(tmp_path / "none", now=NOW)


def test_a_file_that_is_too_large_is_a_finding_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "big.pem").write_bytes(b"0" * (FILE_LIMIT + 1))
    assert codes(tmp_path) == ["damaged"]
    with pytest.raises(FwsignError):
        lint(tmp_path / "big.pem", now=NOW)


# --- bundles --------------------------------------------------------------------------------


def container(*, legacy: bool = False) -> bytes:
    certificates = (PKI.leaf.certificate, PKI.issuing.certificate)
    return p12.encode(PKI.leaf.key, b"secret", certificates, legacy=legacy)


def test_locked(tmp_path: Path) -> None:
    fill(tmp_path, *GOOD)
    key_file(tmp_path, container(), "release.p12")
    assert codes(tmp_path) == ["locked"]
    report = lint(tmp_path, now=NOW, passphrase=lambda: b"secret")
    assert (report.certificates, report.keys, report.findings) == (3, 1, ())
    key_file(tmp_path, container(legacy=True), "release.p12")
    (one,) = lint(tmp_path, now=NOW, passphrase=lambda: b"secret").findings
    assert one.code == "lint.key-weak-kdf"


def test_pkcs12_that_cannot_be_opened(tmp_path: Path) -> None:
    fill(tmp_path, *GOOD)
    path = key_file(tmp_path, container(), "release.p12")
    (one,) = lint(tmp_path, now=NOW, passphrase=lambda: b"other").findings
    assert (one.code, one.subject) == ("lint.damaged", "release.p12")
    assert "wrong passphrase" in one.message
    with refused("key.passphrase"):
        lint(path, now=NOW, passphrase=lambda: b"other")
    path.write_bytes(container()[:-40])
    assert codes(path) == ["damaged"]


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_pkcs7_is_read_whatever_it_is_called(tmp_path: Path, encoding: Encoding) -> None:
    own = [PKI.leaf.certificate, PKI.issuing.certificate, PKI.root.certificate]
    path = tmp_path / "all.key"
    path.write_bytes(pkcs7.serialize_certificates(own, encoding))
    assert lint(path, now=NOW).certificates == 3
    assert codes(path) == ["crl-missing", "crl-missing"]
    path.write_bytes(bytes.fromhex("300d06092a864886f70d010702a000"))
    assert codes(path) == ["damaged"]


# --- private keys ---------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="no permission bits")
def test_key_readable(tmp_path: Path) -> None:
    fill(tmp_path, *GOOD)
    data = encode_private_key(PKI.leaf.key, b"secret")
    path = key_file(tmp_path, data)
    assert codes(tmp_path) == []
    path.chmod(0o644)
    assert codes(tmp_path) == ["key-readable"]


def test_key_plain(tmp_path: Path) -> None:
    fill(tmp_path, *GOOD)
    key_file(tmp_path, plain_key(PKI.leaf.key))
    assert codes(tmp_path) == ["key-plain"]
    assert lint(tmp_path, now=NOW).clean


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_key_weak_kdf(tmp_path: Path, form: PrivateFormat) -> None:
    fill(tmp_path, *GOOD)
    pem = PKI.leaf.key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret"))
    key_file(tmp_path, pem)
    [message] = said(tmp_path, "key-weak-kdf")
    assert message == (
        "2048 iterations of PBKDF2-HMAC-SHA256: at least 600000 are advised"
        if form is PrivateFormat.PKCS8
        else "one round of MD5 makes the key from the passphrase: guessing is cheap"
    )


def test_key_forms_are_told_apart(tmp_path: Path) -> None:
    require_package("bcrypt")  # for an encrypted key in OpenSSH's form
    key = new_key("ed25519")
    own = PrivateFormat.OpenSSH
    key_file(tmp_path, key.private_bytes(Encoding.PEM, own, NoEncryption()), "a.key")
    secret = key.private_bytes(Encoding.PEM, own, BestAvailableEncryption(b"secret"))
    key_file(tmp_path, secret, "b.key")
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    key_file(tmp_path, der, "c.der")
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    key_file(tmp_path, der, "d.der")
    found = [(one.code, one.subject) for one in findings(tmp_path)]
    assert found == [
        ("lint.key-plain", "a"),
        ("lint.key-plain", "c"),
        ("lint.key-weak-kdf", "d"),
    ]


def test_root_key_here(tmp_path: Path) -> None:
    fill(tmp_path, *GOOD)
    key_file(tmp_path, encode_private_key(PKI.leaf.key, b"secret"))
    key_file(tmp_path, plain_key(PKI.root.key), "any.key")
    assert codes(tmp_path) == ["key-plain", "root-key-here"]
    key_file(tmp_path, encode_private_key(PKI.root.key, b"secret"), "any.key")
    assert codes(tmp_path) == []
    (tmp_path / "any.key").rename(tmp_path / "0.key")  # as the root's certificate is called
    assert codes(tmp_path) == ["root-key-here"]


# --- published keys -------------------------------------------------------------------------


def test_published_keys_are_known() -> None:
    assert all(re.fullmatch("[0-9a-f]{64}", spki) for spki in PUBLISHED)
    for spki, whose in PUBLISHED.items():
        assert is_published(spki) == f"{whose} key"
    assert is_published("00" * 32) is None
