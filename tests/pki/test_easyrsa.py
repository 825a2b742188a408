"""Reading easy-rsa and openssl directories, and making a PKI of ours from them."""

import os
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from easyrsa_kit import (
    INDEX,
    LATER,
    ROOT,
    SIGNER,
    STOLEN,
    crl_pem,
    easyrsa,
    key_pem,
    line,
    pem,
    write,
)
from fwsign.keys import published as known_keys
from fwsign.pki.directory import Pki
from fwsign.pki.easyrsa.read import ForeignPki, read
from fwsign.pki.easyrsa.takeover import NewIssuing, take_over, why_no_issuing
from fwsign.pki.index import parse_index
from fwsign.x509.certificate import key_digest
from support import DAY, NOW, VENDOR, make_ca, make_crl, make_leaf, refused

NEW = NewIssuing((VENDOR,), "p256", None)


def taken(tmp_path: Path, source: ForeignPki, **more: Any) -> Pki:
    options: dict[str, Any] = {"issuing": NEW, "ca_passphrase": lambda: None, "now": NOW, **more}
    return take_over(source, tmp_path / "ours", **options)


def revoked_serials(pki: Pki, ca: str = "ca") -> set[int]:
    return {entry.serial_number for entry in pki.crl(ca)}


# --- index.txt ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "reason", "invalid_since"),
    [
        ("261121120000Z", None, None),
        ("20261121120000Z", None, None),
        ("261121120000Z,unspecified", None, None),
        ("261121120000Z,keyCompromise", "keyCompromise", None),
        ("261121120000Z,CACompromise", "cACompromise", None),
        ("261121120000Z,superseded", "superseded", None),
        ("261121120000Z,cessationOfOperation", "cessationOfOperation", None),
        ("261121120000Z,certificateHold", "certificateHold", None),
        ("261121120000Z,holdInstruction,holdInstructionReject", "certificateHold", None),
        ("261121120000Z,keyTime,20261101000000Z", "keyCompromise", "2026-11-01"),
        ("261121120000Z,CAkeyTime,20261101000000Z", "cACompromise", "2026-11-01"),
        ("261121120000Z,removeFromCRL", None, None),
        ("261121120000Z,somethingNew", None, None),
    ],
)
def test_an_entry_of_the_index_becomes_one_of_a_crl(
    tmp_path: Path, said: str, reason: str | None, invalid_since: str | None
) -> None:
    path = tmp_path / "index.txt"
    path.write_text(line("V", SIGNER) + "\n" + line("R", STOLEN, said) + line("E", LATER))
    [entry] = parse_index(path)
    assert entry.serial_number == STOLEN.certificate.serial_number
    assert entry.revocation_date_utc == NOW - DAY
    found = {type(one.value): one.value for one in entry.extensions}
    flag: Any = found.get(x509.CRLReason)
    assert (flag.reason.value if flag else None) == reason
    date: Any = found.get(x509.InvalidityDate)
    assert (f"{date.invalidity_date:%Y-%m-%d}" if date else None) == invalid_since


@pytest.mark.parametrize(
    "text",
    [
        "V\t1\t2\n",
        line("X", SIGNER),
        line("R", STOLEN, "yesterday"),
        line("R", STOLEN, "261341120000Z"),
        line("R", STOLEN, "").replace("R\t", "R\t").replace("\tunknown", "zz\tunknown"),
        "\0\n",
    ],
    ids=["fields", "status", "time", "month", "serial", "binary"],
)
def test_a_line_that_cannot_be_read_refuses_all(tmp_path: Path, text: str) -> None:
    path = tmp_path / "index.txt"
    path.write_text(line("V", SIGNER) + text)
    with refused("state.pki", "line 2 cannot be read"):
        list(parse_index(path))


# --- reading --------------------------------------------------------------------------------


def test_an_easyrsa_directory_is_read(tmp_path: Path) -> None:
    source = read(easyrsa(tmp_path))
    assert (source.tool, source.ca) == ("easy-rsa", ROOT.certificate)
    assert [(one.name, one.key is not None) for one in source.entries] == [("fw-signer", True)]
    assert source.old == (STOLEN.certificate,)
    assert (len(source.revoked), source.unlisted, source.left_out) == (1, (), ())


def test_an_openssl_ca_directory_is_read(tmp_path: Path) -> None:
    files = {
        "cacert.pem": pem(ROOT),
        "private/cakey.pem": key_pem(ROOT),
        "index.txt": INDEX.encode(),
        "newcerts/01.pem": pem(SIGNER),
        "newcerts/02.pem": pem(STOLEN),
    }
    source = read(write(tmp_path / "demoCA", files).parent)
    assert (source.tool, [one.name for one in source.entries]) == ("openssl ca", ["fw-signer"])
    assert (source.old, len(source.unlisted)) == ((STOLEN.certificate,), 1)
    pki = taken(tmp_path, source)
    assert revoked_serials(pki) == {STOLEN.certificate.serial_number}


def test_names_that_cannot_be_are_changed(tmp_path: Path) -> None:
    other = make_leaf(ROOT, "two")
    third = make_leaf(ROOT, "three")
    files = {"issued__Fw Signer (2)_dot_crt": pem(other), "issued__issuing_dot_crt": pem(third)}
    source = read(easyrsa(tmp_path, **files))
    assert [one.name for one in source.entries] == ["fw-signer-2", "fw-signer", "imported-issuing"]


def test_what_is_damaged_or_of_another_ca_is_left_out(tmp_path: Path) -> None:
    foreign = make_leaf(make_ca("Another"))
    files = {"issued__foreign_dot_crt": pem(foreign), "issued__empty_dot_crt": b""}
    source = read(easyrsa(tmp_path, **files))
    assert [(path.name, reason) for path, reason in source.left_out] == [
        ("empty.crt", "an empty file"),
        ("foreign.crt", "the CA did not issue it"),
    ]
    assert [one.name for one in source.entries] == ["fw-signer"]


def test_what_is_no_such_directory_is_refused(tmp_path: Path) -> None:
    with refused("state.pki", "is not a PKI of easy-rsa or openssl ca"):
        read(tmp_path)
    source = read(easyrsa(tmp_path))
    taken(tmp_path, source)
    with refused("state.pki", "is a PKI of fwsign already"):
        read(tmp_path / "ours")


def test_a_ca_below_another_is_refused(tmp_path: Path) -> None:
    below = make_ca("Sub", ROOT)
    with refused("state.pki", 'the CA "Sub"', "is below another one"):
        read(easyrsa(tmp_path, ca_dot_crt=pem(below)))


def test_a_crl_of_another_ca_is_refused(tmp_path: Path) -> None:
    crl = x509.load_der_x509_crl(make_crl(make_ca("Another"))).public_bytes(Encoding.PEM)
    with refused("state.pki", 'it is not signed by "Acme Root"'):
        read(easyrsa(tmp_path, crl_dot_pem=crl))
    with refused("state.pki", "it is not a CRL in PEM"):
        read(easyrsa(tmp_path, crl_dot_pem=b"damaged"))


def test_published_keys_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for entity in (ROOT, SIGNER, STOLEN):
        published = {key_digest(entity.key.public_key()): "somebody's"}
        monkeypatch.setattr(known_keys, "PUBLISHED", published)
        with refused("untrusted.example-key", "somebody's key"):
            read(easyrsa(tmp_path))


# --- taking over ----------------------------------------------------------------------------


def test_everything_comes_along_and_nothing_changes(tmp_path: Path) -> None:
    home = easyrsa(tmp_path)
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    pki = taken(tmp_path, read(home))
    assert {path: path.read_bytes() for path in before} == before
    assert pki.root == ROOT.certificate
    assert pki.certificate("fw-signer") == SIGNER.certificate
    assert pki.issuer_of(SIGNER.certificate) == "ca"
    assert pki.key_path("fw-signer").read_bytes() == before[home / "pki/private/fw-signer.key"]
    assert os.name == "nt" or pki.key_path("fw-signer").stat().st_mode & 0o077 == 0
    assert pki.by_serial(f"{STOLEN.certificate.serial_number:x}") == STOLEN.certificate
    assert (tmp_path / "ours/imported/index.txt").read_text() == INDEX
    issuing = pki.certificate("issuing")
    assert issuing.subject.rfc4514_string() == "CN=Acme Root Issuing CA"
    assert pki.issuers("issuing") == ("ca",)
    assert revoked_serials(pki, "issuing") == set()


def test_revocations_come_from_the_crl_and_from_the_index(tmp_path: Path) -> None:
    index = (INDEX + line("R", LATER, "261122000000Z")).encode()
    gone = make_leaf(ROOT, "gone")  # on the CRL, and in no other place
    source = read(easyrsa(tmp_path, index_dot_txt=index, crl_dot_pem=crl_pem(STOLEN, gone)))
    assert source.unlisted == (LATER.certificate.serial_number,)
    pki = taken(tmp_path, source)
    wanted = {one.certificate.serial_number for one in (STOLEN, gone, LATER)}
    assert revoked_serials(pki) == wanted
    number = pki.crl("ca").extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    assert number == int(NOW.timestamp())


def test_an_index_that_forgot_does_not_undo_a_revocation(tmp_path: Path) -> None:
    index = (line("V", SIGNER) + line("V", STOLEN)).encode()
    pki = taken(tmp_path, read(easyrsa(tmp_path, index_dot_txt=index)))
    assert revoked_serials(pki) == {STOLEN.certificate.serial_number}


def test_a_root_key_that_is_encrypted_is_opened(tmp_path: Path) -> None:
    source = read(easyrsa(tmp_path, private__ca_dot_key=key_pem(ROOT, b"secret")))
    with refused("key.passphrase"):
        taken(tmp_path, source, ca_passphrase=lambda: b"wrong")
    assert not (tmp_path / "ours").exists()
    pki = taken(tmp_path, source, ca_passphrase=lambda: b"secret")
    assert pki.key_path("ca").read_bytes() == source.key.read_bytes()  # type: ignore[union-attr]


def test_a_key_of_another_ca_is_refused(tmp_path: Path) -> None:
    source = read(easyrsa(tmp_path, private__ca_dot_key=key_pem(make_ca())))
    with refused("key.mismatch", 'is not the key of the CA "Acme Root"'):
        taken(tmp_path, source)


def test_without_the_root_key_its_crl_must_be_complete(tmp_path: Path) -> None:
    home = easyrsa(tmp_path)
    (home / "pki/private/ca.key").unlink()
    source = read(home)
    assert why_no_issuing(source) == "the root's key is not here"
    pki = taken(tmp_path, source, issuing=None)
    assert (pki.names(), pki.authorities()) == (("fw-signer",), ("ca",))
    assert pki.path("fw-signer") == (SIGNER.der,)
    (home / "pki/crl.pem").write_bytes(crl_pem())
    with refused("state.pki", "no CRL with all revocations"):
        take_over(read(home), tmp_path / "b", issuing=None, ca_passphrase=lambda: None, now=NOW)


def test_a_root_that_allows_no_ca_below_it(tmp_path: Path) -> None:
    root = make_ca("Narrow", path_length=0)
    files = {"ca.crt": pem(root), "private/ca.key": key_pem(root), "index.txt": b""}
    source = read(write(tmp_path / "pki", files))
    assert why_no_issuing(source) == "the root allows no CA below it (path length 0)"
    assert taken(tmp_path, source, issuing=None).authorities() == ("ca",)


def test_the_target_must_be_free_and_elsewhere(tmp_path: Path) -> None:
    home = easyrsa(tmp_path)
    source = read(home)
    with refused("state.pki", "which must stay as it is"):
        take_over(source, home / "pki/ours", issuing=NEW, ca_passphrase=lambda: None, now=NOW)
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours/file").touch()
    with refused("state.pki-exists"):
        taken(tmp_path, source)


def test_a_run_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = read(easyrsa(tmp_path))
    (tmp_path / "pki/private/fw-signer.key").unlink()
    with refused("io.missing"):
        taken(tmp_path, source)
    del monkeypatch
    assert [path.name for path in tmp_path.iterdir()] == ["pki"]
