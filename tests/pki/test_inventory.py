# SPDX-License-Identifier: Apache-2.0
import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs7,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from fwsign.cli import ui
from fwsign.keys import p12
from fwsign.keys.pem import encode as encode_pem
from fwsign.pki.report import material, tree, words
from fwsign.pki.report.columns import columns, wrap
from fwsign.pki.report.inventory import Entry, Inventory, Revocation, Standing, read
from fwsign.pki.report.inventory_json import as_json
from fwsign.pki.view.entry import visible
from support import (
    DAY,
    NOW,
    Entity,
    ca_extensions,
    certify,
    leaf_extensions,
    make_ca,
    make_crl,
    make_leaf,
    make_pki,
    name,
    new_key,
    refused,
    require_package,
)

EXAMPLE = Path(__file__).parents[2] / "keys.example"
HOSTILE = "<script>\x1b[31m\u202egpj"


def pem(entity: Entity) -> bytes:
    return entity.certificate.public_bytes(Encoding.PEM)


def key_pem(key: Any, passphrase: bytes | None = None) -> bytes:
    protection = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    encoded: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)
    return encoded


def crl_pem(crl: bytes) -> bytes:
    return x509.load_der_x509_crl(crl).public_bytes(Encoding.PEM)


def write(directory: Path, **files: bytes | Entity) -> Path:
    """Write files; two underscores in a name are a slash, one is a dot."""
    for file, content in files.items():
        path = directory / file.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pem(content) if isinstance(content, Entity) else content)
    return directory


def entry(inventory: Inventory, name: str) -> Entry:
    (found,) = [one for one in inventory.entries if one.name == name]
    return found


def names(inventory: Inventory, numbers: tuple[int, ...]) -> list[str]:
    return [inventory.entries[number].name for number in numbers]


def drawn(inventory: Inventory, *, width: int = 100, **more: Any) -> str:
    """Return the lines of the terminal, and check that each fits."""
    found = ["".join(piece.text for piece in line) for line in lines(inventory, width, **more)]
    assert [line for line in found if columns(line) > width] == []
    return "\n".join(found)


def lines(inventory: Inventory, width: int = 100, **more: Any) -> list[tuple[tree.Piece, ...]]:
    return list(tree.lines(inventory, NOW, width, **more))


def tones(inventory: Inventory) -> set[str]:
    return {
        piece.tone for line in lines(inventory) for piece in line if piece.text[:1] in {"█", "░"}
    }


# --- the model ------------------------------------------------------------------------------


def test_a_pki_of_ours() -> None:
    found = read(EXAMPLE)
    assert [one.name for one in found.entries] == ["ca", "issuing", "release"]
    assert [one.kind for one in found.entries] == ["root CA", "CA", "signer"]
    assert [one.issuers for one in found.entries] == [(0,), (0,), (1,)]
    assert [(one.name, one.issuers, one.revoked) for one in found.crls] == [
        ("ca", (0,), 0),
        ("issuing", (1,), 0),
    ]
    assert found.problems == ()
    issuing, release = found.entries[1], found.entries[2]
    assert (issuing.facts.ca, issuing.facts.path_length) == (True, 0)
    assert issuing.facts.permitted == ("example.com",)
    assert issuing.facts.key_usage == ("certificate sign", "CRL sign")
    assert (release.facts.key, release.facts.extended_key_usage) == ("P-256", ("codeSigning",))
    assert release.facts.names == ("example.com",)
    assert release.key_file is not None
    assert release.key_file[:2] == ("private/release.key", "not encrypted")
    assert release.files == ("issued/release.crt",)
    certificate = x509.load_pem_x509_certificate((EXAMPLE / "issued/release.crt").read_bytes())
    assert int(release.facts.serial, 16) == certificate.serial_number


def test_json_has_the_whole_model_and_names_issuers_by_digest() -> None:
    found = json.loads(json.dumps(as_json(read(EXAMPLE), NOW)))
    ca, issuing, release = found["certificates"]
    assert release["issuers"] == [issuing["sha256"]]
    assert ca["issuers"] == [ca["sha256"]]
    assert release["private_key"]["file"] == "private/release.key"
    assert release["revoked"] is None
    assert found["crls"][1]["issuers"] == [issuing["sha256"]]
    assert found["at"] == "2026-11-22T12:00:00+00:00"


def test_revoked_with_date_and_reason(tmp_path: Path) -> None:
    pki = make_pki()
    crl = crl_pem(make_crl(pki.issuing, [pki.leaf]))
    write(tmp_path, ca_crt=pki.root, issuing_crt=pki.issuing, release_crt=pki.leaf, crl_pem=crl)
    found = read(tmp_path)
    release = entry(found, "release")
    assert release.revocation == Revocation(NOW - DAY, "keyCompromise", "crl.pem")
    assert release.standing(NOW) is Standing.REVOKED
    assert entry(found, "issuing").revocation is None
    assert "release  signer  REVOKED (keyCompromise)" in drawn(found)
    assert "revoked 2026-11-21" in drawn(found)


def test_a_forged_crl_revokes_nothing(tmp_path: Path) -> None:
    pki = make_pki()
    crl = crl_pem(make_crl(pki.issuing, [pki.leaf], signer=pki.leaf))
    write(tmp_path, issuing_crt=pki.issuing, release_crt=pki.leaf, crl_pem=crl)
    found = read(tmp_path)
    assert entry(found, "release").revocation is None
    assert found.crls[0].problems == ("its signature does not verify with the issuer that is here",)
    assert "! its signature does not verify" in drawn(found)


def test_a_crl_revokes_only_what_its_issuer_has_issued(tmp_path: Path) -> None:
    pki, other = make_pki(), make_ca("Other")
    crl = crl_pem(make_crl(other, [pki.leaf]))
    write(tmp_path, issuing_crt=pki.issuing, release_crt=pki.leaf, other_crt=other, crl_pem=crl)
    assert entry(read(tmp_path), "release").revocation is None


def test_the_earliest_of_two_revocations_counts(tmp_path: Path) -> None:
    pki = make_pki()
    late = crl_pem(make_crl(pki.issuing, [pki.leaf], since=NOW - DAY, reason=None))
    early = crl_pem(make_crl(pki.issuing, [pki.leaf], since=NOW - 9 * DAY))
    write(tmp_path, i_crt=pki.issuing, release_crt=pki.leaf, a_crl=late, b_crl=early)
    revocation = entry(read(tmp_path), "release").revocation
    assert revocation is not None
    assert (revocation.date, revocation.crl) == (NOW - 9 * DAY, "b.crl")


def test_cross_signed_stands_under_each_issuer(tmp_path: Path) -> None:
    one, two = make_ca("One"), make_ca("Two")
    sub = make_ca("Sub", one)
    cross = certify(sub.key, sub.certificate.subject, two, ca_extensions())
    leaf = make_leaf(sub, "leaf")
    write(tmp_path, one_crt=one, two_crt=two, sub_crt=sub, cross_crt=cross, leaf_crt=leaf)
    found = read(tmp_path)
    assert names(found, entry(found, "leaf").issuers) == ["cross", "sub"]
    assert [(found.entries[row.entry].name, len(row.rails)) for row in tree.rows(found)] == [
        ("one", 0),
        ("sub", 1),
        ("leaf", 2),
        ("two", 0),
        ("cross", 1),
        ("leaf", 2),
    ]
    assert [row.repeated for row in tree.rows(found)] == [False] * 5 + [True]
    assert drawn(found).count("(also above)") == 1


def test_two_cas_that_sign_each_other_are_no_endless_tree(tmp_path: Path) -> None:
    one, two = new_key(), new_key()
    first = certify(one, name("A"), Entity(two, make_ca("B").certificate), ca_extensions())
    second = certify(two, name("B"), Entity(one, first.certificate), ca_extensions())
    found = read(write(tmp_path, a_crt=first, b_crt=second))
    assert [(row.entry, row.repeated) for row in tree.rows(found)] == [
        (0, False),
        (1, False),
        (0, True),
    ]


def test_a_deep_tree_still_fits(tmp_path: Path) -> None:
    above = make_ca("level 0")
    bundle = pem(above)
    for level in range(1, 60):
        above = make_ca(f"level {level}", above)
        bundle += pem(above)
    found = read(write(tmp_path, all_pem=bundle))
    assert len(tree.rows(found)[-1].rails) == 59
    assert "level 59" in drawn(found, width=80)


@pytest.mark.parametrize(
    ("days", "standing", "tone"),
    [
        ((-10, 365), Standing.OK, "good"),
        ((-10, 89), Standing.SOON, "warn"),
        ((-3000, 700), Standing.SOON, "warn"),
        ((-300, 29), Standing.URGENT, "bad"),
        ((-300, 0), Standing.URGENT, "bad"),
        ((1, 365), Standing.FUTURE, "warn"),
    ],
)
def test_standing(days: tuple[int, int], standing: Standing, tone: str, tmp_path: Path) -> None:
    found = read(write(tmp_path, a_crt=make_leaf(make_ca(), days=days)))
    assert found.entries[0].standing(NOW) is standing
    assert tones(found) == {tone}


def test_expired(tmp_path: Path) -> None:
    found = read(write(tmp_path, a_crt=make_leaf(make_ca(), days=(-365, -3))))
    assert found.entries[0].standing(NOW) is Standing.EXPIRED
    text = drawn(found)
    assert "EXPIRED" in text
    assert "░░░░░░░░░░ ended 2026-11-19, 3 days ago" in text
    assert text.startswith("1 certificate, 0 CRLs, 1 expired, as of 2026-11-22 12:00 UTC")


def test_a_crl_is_short_lived_and_ends_soon_by_its_share(tmp_path: Path) -> None:
    root = make_ca()
    fresh = crl_pem(make_crl(root, days=(-5, 25)))
    soon = crl_pem(make_crl(root, days=(-70, 5)))
    stale = crl_pem(make_crl(root, days=(-70, -5), number=None))
    found = read(write(tmp_path, ca_crt=root, a_crl=fresh, b_crl=soon, c_crl=stale))
    standings = [one.standing(NOW) for one in found.crls]
    assert standings == [Standing.OK, Standing.SOON, Standing.EXPIRED]
    assert "c.crl  STALE" in drawn(found)
    assert "of ca · no number · 0 revoked · made 2026-09-13" in drawn(found)


def test_kinds_by_purpose(tmp_path: Path) -> None:
    issuer, usage = make_ca(), ExtendedKeyUsageOID
    purposes = {
        "tsa": [usage.TIME_STAMPING],
        "server": [usage.SERVER_AUTH, usage.CLIENT_AUTH],
        "client": [usage.CLIENT_AUTH],
        "signer": [usage.CODE_SIGNING],
        "other": [],
    }
    for kind, usages in purposes.items():
        leaf = make_leaf(issuer, kind, usages=usages)
        (tmp_path / f"{kind}.crt").write_bytes(pem(leaf))
    assert {one.name: one.kind for one in read(tmp_path).entries} == {
        kind: kind for kind in purposes
    }


@pytest.mark.parametrize("alg", ["p384", "ed25519", "rsa2048", "ml-dsa-65", "secp256k1"])
def test_every_kind_of_key_is_linked(alg: str, tmp_path: Path) -> None:
    pki = make_pki(alg)
    found = read(write(tmp_path, ca_crt=pki.root, i_crt=pki.issuing, release_crt=pki.leaf))
    assert [one.issuers for one in found.entries] == [(0,), (0,), (1,)]


# --- other people's directories --------------------------------------------------------------


def easyrsa(directory: Path) -> Path:
    """Lay out a PKI as easy-rsa 3 does: text before the PEM, copies by serial, revoked apart."""
    root = make_ca("Easy-RSA CA")
    good, bad = make_leaf(root, "board"), make_leaf(root, "lost")
    serials = [f"{one.certificate.serial_number:X}" for one in (good, bad)]
    write(directory, ca_crt=root, private__ca_key=key_pem(root.key, b"secret"))
    write(directory, crl_pem=crl_pem(make_crl(root, [bad], number=None)))
    write(directory, issued__board_crt=b"Certificate:\n    Data:\n" + pem(good))
    write(directory, private__board_key=key_pem(good.key), dh_pem=b"not PEM at all")
    for place, content in (
        (f"certs_by_serial/{serials[0]}.pem", pem(good)),
        (f"revoked/certs_by_serial/{serials[1]}.crt", pem(bad)),
        (f"revoked/private_by_serial/{serials[1]}.key", key_pem(bad.key, b"secret")),
        ("index.txt", b"V\t"),
        ("serial", b"01"),
    ):
        path = directory / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return directory


def test_an_easyrsa_directory(tmp_path: Path) -> None:
    found = read(easyrsa(tmp_path))
    assert [one.kind for one in found.entries] == ["root CA", "signer", "signer"]
    ca, board, lost = found.entries
    assert board.name == "board"
    assert [Path(file).parts[0] for file in board.files] == ["issued", "certs_by_serial"]
    assert ca.key_file is not None
    assert ca.key_file[:3] == ("private/ca.key", "encrypted", None)
    assert ca.key_file.state == "encrypted with PBKDF2"
    assert board.key_file is not None
    assert board.key_file[:2] == ("private/board.key", "not encrypted")
    assert board.key_file.state == "not encrypted"
    assert lost.key_file is not None
    assert lost.key_file.file.startswith("revoked/private_by_serial/")
    assert lost.standing(NOW) is Standing.REVOKED
    assert found.crls[0].number is None
    assert found.problems == (("dh.pem", "has no certificate, CRL or key that can be read"),)


def test_one_file_with_a_bundle(tmp_path: Path) -> None:
    pki = make_pki()
    bundle = pem(pki.leaf) + pem(pki.issuing) + pem(pki.root) + key_pem(pki.leaf.key)
    found = read(write(tmp_path, bundle_pem=bundle) / "bundle.pem")
    assert [one.name for one in found.entries] == ["release", "Issuing", "Root"]
    assert [one.issuers for one in found.entries] == [(1,), (2,), (2,)]
    assert found.entries[0].key_file is not None
    assert found.entries[1].key_file is None


def test_one_file_of_der_with_any_name(tmp_path: Path) -> None:
    found = read(write(tmp_path, cert_bin=make_ca().der) / "cert.bin")
    assert [one.name for one in found.entries] == ["cert"]


def test_what_is_in_several_files_is_there_once(tmp_path: Path) -> None:
    root = make_ca()
    leaf, crl = make_leaf(root), crl_pem(make_crl(root))
    write(tmp_path, chain_pem=pem(leaf) + pem(root) + crl, z_crt=leaf, crl__all_pem=crl + crl)
    found = read(write(tmp_path, crl__ca_pem=crl, ca_crt=root))
    assert [one.files for one in found.entries] == [("ca.crt", "chain.pem"), ("z.crt", "chain.pem")]
    assert [one.files for one in found.crls] == [("crl/ca.pem", "chain.pem", "crl/all.pem")]


def test_an_issuer_that_is_not_here_is_named(tmp_path: Path) -> None:
    found = read(write(tmp_path, a_crt=make_leaf(make_ca("Elsewhere"))))
    assert found.entries[0].issuers == ()
    assert "issuer not here: O=Acme,CN=Elsewhere" in drawn(found)


def test_keys_by_name_belong_to_their_own_directory(tmp_path: Path) -> None:
    write(tmp_path, a__ca_crt=make_ca("A"), b__ca_crt=make_ca("B"))
    write(tmp_path, a__private__ca_key=key_pem(new_key(), b"secret"))
    found = read(tmp_path)
    files = [one.key_file.file if one.key_file else None for one in found.entries]
    assert files == ["a/private/ca.key", None]


def test_a_key_of_another_certificate_is_a_problem(tmp_path: Path) -> None:
    write(tmp_path, ca_crt=make_ca(), private__ca_key=key_pem(new_key()))
    (ca,) = read(tmp_path).entries
    assert (ca.key_file, ca.problems) == (None, ("private/ca.key is not its key",))


@pytest.mark.parametrize("passphrase", [None, b"secret"])
def test_keys_of_every_form(passphrase: bytes | None, tmp_path: Path) -> None:
    if passphrase:
        require_package("bcrypt")  # for OpenSSH's form
    protection = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    ca = make_ca()
    for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL, PrivateFormat.OpenSSH):
        data = ca.key.private_bytes(Encoding.PEM, form, protection)
        (found,) = read(write(tmp_path, ca_crt=ca, private__ca_key=data)).entries
        assert found.key_file is not None
        assert found.key_file.protection == ("encrypted" if passphrase else "not encrypted")
    data = ca.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, protection)
    (found,) = read(write(tmp_path, private__ca_key=data)).entries
    assert found.key_file is not None
    assert found.key_file.protection == ("encrypted" if passphrase else "not encrypted")


# --- bundles --------------------------------------------------------------------------------


def bundle(form: str) -> tuple[bytes, list[x509.Certificate]]:
    """Return a signer and its CA in PKCS#12, encrypted with "secret", or PKCS#7."""
    ca = make_ca()
    leaf = make_leaf(ca)
    own = [leaf.certificate, ca.certificate]
    if form == "PKCS#12":
        return p12.encode(leaf.key, b"secret", own, name="release"), own
    encoding = Encoding.PEM if form == "PEM" else Encoding.DER
    return pkcs7.serialize_certificates(own, encoding), own


@pytest.mark.parametrize("form", ["PKCS#12", "PEM", "DER"])
@pytest.mark.parametrize("name", ["a.p12", "a.p7b", "liar.crt"])
def test_bundles_are_read_by_content(form: str, name: str, tmp_path: Path) -> None:
    data, own = bundle(form)
    (tmp_path / name).write_bytes(data)
    for source in (tmp_path, tmp_path / name):
        found = read(source, lambda: b"secret")
        assert {one.facts.common_name: one.kind for one in found.entries} == {
            "Root": "root CA",
            "release": "signer",
        }
        assert len(found.entries) == len(own)
        assert (found.problems, {one.problems for one in found.entries}) == ((), {()})
        with_key = {one.facts.common_name for one in found.entries if one.key_file}
        assert with_key == ({"release"} if form == "PKCS#12" else set())


def test_a_locked_container_is_a_problem_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.p12").write_bytes(bundle("PKCS#12")[0])
    found = read(tmp_path)
    assert found.problems == (("a.p12", "is encrypted PKCS#12, without its passphrase"),)
    ((file, message),) = read(tmp_path, lambda: b"other").problems
    assert (file, message.startswith("cannot be opened: wrong passphrase")) == ("a.p12", True)
    for data in (bundle("PKCS#12")[0], encode_pem("PKCS12", bundle("PKCS#12")[0])):
        (tmp_path / "a.p12").write_bytes(data)
        with refused("key.passphrase"):
            read(tmp_path / "a.p12", lambda: b"other")


def test_truncated_bundles_are_problems(tmp_path: Path) -> None:
    for form in ("PKCS#12", "DER"):
        data, _ = bundle(form)
        for size in (1, 40, len(data) - 1):
            (tmp_path / "a.p12").write_bytes(data[:size])
            found = read(tmp_path, lambda: b"secret")
            assert (found.entries, len(found.problems)) == ((), 1)


# --- damage and malice ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello", "has no certificate, CRL or key that can be read"),
        (b"\x30\x03\x02\x01\x01", "has no certificate, CRL or key that can be read"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n", "is damaged: BEGIN CERTIFICATE without its END"),
        (
            b"-----BEGIN X-----\n-----BEGIN CERTIFICATE-----\n-----END X-----",
            "is damaged: BEGIN X without its END",
        ),
        (
            b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----",
            "is damaged: CERTIFICATE that is not base64",
        ),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
            "has a CERTIFICATE that cannot be read",
        ),
        (
            b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----",
            "has a X509 CRL that cannot be read",
        ),
        (
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
            "has a PRIVATE KEY that cannot be read",
        ),
        (
            b"-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----",
            "has no certificate but DH PARAMETERS",
        ),
        (bytes(material.FILE_LIMIT + 1), "is too large"),
    ],
)
def test_damaged_files_are_listed_and_the_rest_is_there(
    content: bytes, message: str, tmp_path: Path
) -> None:
    found = read(write(tmp_path, ca_crt=make_ca(), bad_crt=content))
    assert found.problems[0] == ("bad.crt", message)
    assert [one.name for one in found.entries] == ["ca"]
    assert f"! bad.crt {message}" in drawn(found).replace("\n", "")


def test_every_truncation_of_a_certificate_is_survived(tmp_path: Path) -> None:
    whole = make_leaf(make_ca()).der
    for size in range(1, len(whole), 7):
        found = read(write(tmp_path, a_crt=whole[:size]))
        assert (found.entries, len(found.problems)) == ((), 1)


def test_every_flipped_byte_of_a_pki_is_survived(tmp_path: Path) -> None:
    pki = make_pki()
    write(tmp_path, ca_crt=pki.root, issuing_crt=pki.issuing)
    whole = bytearray(pki.leaf.der)
    for at in range(0, len(whole), 3):
        whole[at] ^= 0x2A
        found = read(write(tmp_path, release_crt=bytes(whole)))
        whole[at] ^= 0x2A
        drawn(found)
        json.dumps(as_json(found, NOW))


def test_a_forged_signature_is_a_problem_and_no_link(tmp_path: Path) -> None:
    root = make_ca()
    forger = Entity(new_key(), root.certificate)
    forged = certify(new_key(), name("leaf"), forger, leaf_extensions(), identifiers=False)
    found = read(write(tmp_path, ca_crt=root, leaf_crt=forged))
    leaf = entry(found, "leaf")
    assert leaf.issuers == ()
    assert leaf.problems == ("its signature does not verify with the issuer that is here",)
    assert "issuer not verified: O=Acme,CN=Root" in drawn(found)
    assert tones(found) == {"good", "warn"}


def test_extensions_that_cannot_be_read_are_a_problem(tmp_path: Path) -> None:
    broken = x509.UnrecognizedExtension(ExtensionOID.BASIC_CONSTRAINTS, b"\xff")
    found = read(write(tmp_path, a_crt=certify(new_key(), name("a"), None, [(broken, True)])))
    (problem,) = found.entries[0].problems
    assert problem == "its extensions cannot all be read: basicConstraints: it is cut off"
    assert found.entries[0].facts.ca is False


def test_names_of_every_kind(tmp_path: Path) -> None:
    san = x509.SubjectAlternativeName(
        [
            x509.DNSName("a.example"),
            x509.DNSName(""),
            x509.IPAddress(ip_address("192.0.2.1")),
            x509.RFC822Name("a@a.example"),
            x509.UniformResourceIdentifier("urn:a"),
            x509.DirectoryName(name("dir", None)),
            x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
        ]
    )
    found = read(write(tmp_path, a_crt=make_leaf(make_ca(), extensions=[(san, False)])))
    wanted = 'SAN a.example, "", IP:192.0.2.1, email:a@a.example, URI:urn:a, directory:CN=dir, '
    assert wanted + "RID:1.2.3" in words.details(found.entries[0])


def test_hostile_names_are_shown_as_text(tmp_path: Path) -> None:
    leaf = make_leaf(make_ca(HOSTILE), HOSTILE, vendors=[f"a{HOSTILE!a}.example"])
    found = read(write(tmp_path, leaf_pem=pem(leaf) + pem(make_ca("x"))))
    text = drawn(found)
    assert text.isascii() or text.replace("\n", "").isprintable()
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert r"<script>\x1b[31m\u202egpj" in text


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes there")
def test_hostile_names_of_files_are_shown_as_text(tmp_path: Path) -> None:
    (tmp_path / "a\n\x1b[2J\u202e.crt").write_bytes(pem(make_ca()))
    text = drawn(read(tmp_path))
    assert r"a\n\x1b[2J\u202e" in text


@pytest.mark.parametrize("text", ["plain", HOSTILE, "\n", "ünï", "\udc80", "\xa0", "名"])
def test_escaping_is_that_of_the_command_line(text: str) -> None:
    assert visible(text) == ui.clean(text)


def test_a_flood_of_one_issuer_name_is_not_squared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "same")])
    key = new_key()
    many = [certify(key, subject, None, ca_extensions()) for _ in range(60)]
    calls: list[object] = []

    def count(*given: object) -> bool:
        calls.append(given)
        return False

    monkeypatch.setattr("fwsign.pki.report.linking._is_signed_by", count)
    read(write(tmp_path, all_pem=b"".join(map(pem, many))))
    assert len(calls) == 60 * 16


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(material, "COUNT_LIMIT", 3)
    write(tmp_path, a_txt=b"", b_txt=b"", c_txt=b"", d_txt=b"")
    with refused("state.pki", "has more than 3 files"):
        read(tmp_path)


def test_missing_and_strange_places(tmp_path: Path) -> None:
    with refused("io.missing", "no such file or directory"):
        read(tmp_path / "none")
    assert read(tmp_path) == Inventory(str(tmp_path), (), (), ())
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.pem")
        with refused("io.format", "is not a regular file"):
            read(tmp_path / "pipe.pem")
        assert read(tmp_path).problems == (("pipe.pem", "is not a regular file"),)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_files_that_may_not_be_read(tmp_path: Path) -> None:
    write(tmp_path, ca_crt=make_ca(), private__ca_key=b"x")
    (tmp_path / "private").chmod(0)
    found = read(tmp_path)
    (tmp_path / "private").chmod(0o700)
    assert found.problems == (("private", "cannot be read: permission denied"),)


@pytest.mark.skipif(os.name != "posix", reason="links need a privilege on Windows")
def test_links_to_nowhere_and_in_circles(tmp_path: Path) -> None:
    write(tmp_path, ca_crt=make_ca())
    (tmp_path / "gone.crt").symlink_to(tmp_path / "nothing")
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    found = read(tmp_path)
    assert [one.files for one in found.entries] == [("ca.crt",)]
    assert found.problems == (("gone.crt", "cannot be read: no such file or directory"),)


def test_hidden_files_are_left_out(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / ".git")
    write(tmp_path, ca_crt=make_ca())
    (tmp_path / ".ca.crt.x.crt").write_bytes(b"half")
    assert [one.files for one in read(tmp_path).entries] == [("ca.crt",)]


# --- lines ----------------------------------------------------------------------------------


def test_ascii_lines_have_nothing_else() -> None:
    text = drawn(read(EXAMPLE), marks=tree.ASCII)
    assert text.isascii()
    assert "`- issuing  CA" in text


@pytest.mark.parametrize("width", [60, 80, 100])
def test_the_tree_fits_and_says_the_same(width: int) -> None:
    words = drawn(read(EXAMPLE), width=width).replace("│", "").split()
    for word in ("codeSigning", "CA:TRUE", "private/ca.key,", "example.com", "2028-10-31,"):
        assert word in words


def test_wide_letters_take_two_columns() -> None:
    assert columns("名a") == 3
    assert wrap(["名" * 10], 8, " · ") == ["名" * 4, "名" * 4, "名" * 2]
    assert wrap(["a b", "c"], 9, " · ") == ["a b · c"]
    assert wrap(["", "c"], 9, " · ") == [" · c"]


def test_years_and_days_in_words() -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    assert words.span(begin, begin + timedelta(days=1)) == "24 hours"
    assert words.span(begin, begin + timedelta(days=2)) == "2 days"
    assert words.span(begin, begin + timedelta(days=729)) == "729 days"
    assert words.span(begin, begin + timedelta(days=730)) == "2 years"
    assert words.share_left(begin, begin, begin) == 0
