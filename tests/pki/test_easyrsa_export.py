# SPDX-License-Identifier: Apache-2.0
"""The issuing CA written for easy-rsa, and read back from there with its root."""

import os
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.errors import Untrusted
from fwsign.keys import published as known_keys
from fwsign.keys.file import load_private_key
from fwsign.pki.acceptance import accept
from fwsign.pki.crls import make_crl, next_number, number_of, revoked_entry
from fwsign.pki.directory import Pki
from fwsign.pki.easyrsa.export import export
from fwsign.pki.easyrsa.read import read
from fwsign.pki.easyrsa.takeover import take_over
from fwsign.pki.index import serial_text
from fwsign.pki.profiles import Authority
from fwsign.pki.renewal import renew
from fwsign.pki.revocation import renew_crls, revoke
from fwsign.pki.rotation import replace_issuing
from fwsign.x509.certificate import key_digest
from pki_kit import (
    DAY,
    NEW,
    NOW,
    SECOND,
    YEAR,
    another_crl,
    before_tls,
    contents,
    issue,
    make,
    no_passphrase,
    pyopenssl_verify,
    refused,
    serials,
)
from support import make_ca


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    """A PKI with a signer that was renewed, one that was revoked, and a client."""
    directory = make(tmp_path / "pki", passphrase=b"key", root_passphrase=b"root").directory
    before_tls(directory, b"root")  # one CA has issued it all
    issue(directory, "ci", ca_passphrase=lambda: b"key")
    issue(directory, "sensor", "client", lifetime=YEAR, ca_passphrase=lambda: b"key")
    revoke(directory, "ci", reason="keyCompromise", ca_passphrase=lambda: b"key", now=NOW)
    renew(directory, "release", ca_passphrase=lambda: b"key", now=NOW + DAY)
    return directory


def lines(directory: Path) -> dict[int, list[str]]:
    fields = [one.split("\t") for one in (directory / "index.txt").read_text().splitlines()]
    return {int(one[3], 16): one for one in fields}


def back(source: Path, target: Path, *above: Path) -> Pki:
    secret = {"ca_passphrase": lambda: b"key", "now": NOW + DAY}
    return take_over(read(source, above), target, issuing=None, **secret)  # type: ignore[arg-type]


def test_all_that_the_ca_issued_is_there(pki: Path, tmp_path: Path) -> None:
    before, target = contents(pki), tmp_path / "easyrsa"
    done = export(pki, target)
    assert done == ("issuing", ("ci", "release", "sensor"), ())
    assert contents(pki) == before
    reader = Pki(pki)
    revoked, release, sensor = (
        reader.certificate(name).serial_number for name in ("ci", "release", "sensor")
    )
    found = {serial: one[0] for serial, one in lines(target).items()}
    [renewed] = found.keys() - {revoked, release, sensor}
    assert found == {revoked: "R", release: "V", sensor: "V", renewed: "V"}
    assert lines(target)[revoked][2].endswith("Z,keyCompromise")
    exported = contents(target)
    assert exported["ca.crt"] == before["issued/issuing.crt"]
    assert exported["private/ca.key"] == before["private/issuing.key"]
    assert exported["private/release.key"] == before["private/release.key"]
    assert (
        exported[f"revoked/private_by_serial/{serial_text(revoked)}.key"]
        == (before["private/ci.key"])
    )
    assert (
        exported[f"revoked/certs_by_serial/{serial_text(revoked)}.crt"] == (before["issued/ci.crt"])
    )
    assert {path.name for path in (target / "issued").iterdir()} == {"release.crt", "sensor.crt"}
    assert {path.stem for path in (target / "certs_by_serial").iterdir()} == {
        serial_text(one) for one in (release, sensor, renewed)
    }
    assert exported["crl.pem"] == before["crl/issuing.pem"]
    assert exported["above.pem"] == before["ca.crt"] + before["crl/ca.pem"]
    assert int(exported["crlnumber"], 16) == next_number(reader.crl("issuing"))
    if os.name != "nt":
        assert all(path.stat().st_mode & 0o077 == 0 for path in target.rglob("*.key"))


def test_a_revocation_whose_certificate_is_lost_is_kept(tmp_path: Path) -> None:
    pki = make(tmp_path / "pki")
    key = load_private_key(pki.key_path("issuing"), no_passphrase)
    authority = Authority(pki.certificate("issuing"), key)
    entry = revoked_entry(0xABC, "superseded", SECOND)
    pki.crl_path("issuing").write_bytes(make_crl("issuing", authority, 2**40, [entry], SECOND))
    export(pki.directory, tmp_path / "easyrsa")
    assert lines(tmp_path / "easyrsa")[0xABC][-1] == "/CN=unknown"
    assert {one.serial_number for one in read(tmp_path / "easyrsa").revoked} == {0xABC}


def test_an_exported_ca_is_imported_before_fwsign_works_on_it(pki: Path, tmp_path: Path) -> None:
    target = tmp_path / "easyrsa"
    export(pki, target)
    error = refused(partial(issue, target, "next"), "state.pki")
    assert error.message.startswith(f'no CA in {target} issued "Acme Issuing CA"')
    assert error.hint == f"a CA below a root: fwsign pki import {target}"


def test_a_copy_that_a_killed_renewal_has_left_does_no_harm(tmp_path: Path) -> None:
    pki = make(tmp_path / "pki")
    copy = pki.old_path(pki.certificate("release").serial_number)
    copy.parent.mkdir()
    copy.write_bytes(pki.certificate_path("release").read_bytes())
    export(pki.directory, tmp_path / "easyrsa")
    assert len(lines(tmp_path / "easyrsa")) == 1


def test_what_other_cas_issued_is_left_out(tmp_path: Path) -> None:
    pki = make(tmp_path / "pki").directory
    replace_issuing(pki, new_key=NEW, passphrase=lambda _: None, now=NOW)
    issue(pki, "ci")
    done = export(pki, tmp_path / "easyrsa")
    assert done == ("issuing-2", ("ci",), ("issuing", "issuing-tls", "release"))


def test_export_refuses_and_leaves_nothing(tmp_path: Path) -> None:
    pki = make(tmp_path / "pki").directory
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").touch()
    refused(partial(export, pki, full), "state.pki-exists")
    assert [path.name for path in full.iterdir()] == ["file"]
    flat = make(tmp_path / "flat", flat=True).directory
    error = refused(partial(export, flat, tmp_path / "new"), "state.pki")
    assert error.message == f"{flat} is laid out for easy-rsa already: copy it"
    (pki / "certs_by_serial").mkdir()
    (pki / "certs_by_serial/01.pem").write_text("damaged")
    error = refused(partial(export, pki, tmp_path / "new"), "state.pki")
    assert "is no certificate" in error.message
    (pki / "certs_by_serial/01.pem").unlink()
    (pki / "private/issuing.key").unlink()
    error = refused(partial(export, pki, tmp_path / "new"), "io.missing")
    assert "private/issuing.key" in error.message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flat", "full", "pki"]


# --- a CA below a root, taken over ------------------------------------------------------------


def test_a_ca_below_a_root_becomes_the_issuing_ca(pki: Path, tmp_path: Path) -> None:
    export(pki, tmp_path / "easyrsa")
    found = back(tmp_path / "easyrsa", tmp_path / "ours")
    before = Pki(pki)
    assert (found.root, found.certificate("issuing")) == (
        before.root,
        before.certificate("issuing"),
    )
    assert found.authorities() == ("ca", "issuing")
    assert (found.key_path("ca").exists(), found.key_path("issuing").exists()) == (False, True)
    assert serials(found.crl("issuing")) == serials(before.crl("issuing"))
    assert next_number(found.crl("issuing")) > next_number(before.crl("issuing"))
    issue(found.directory, "next", ca_passphrase=lambda: b"key", now=NOW + DAY)
    assert found.issuers("next") == ("issuing", "ca")
    pyopenssl_verify(found.directory, "next", now=NOW + DAY)


def test_a_new_crl_of_the_root_is_accepted_later(pki: Path, tmp_path: Path) -> None:
    export(pki, tmp_path / "easyrsa")
    found = back(tmp_path / "easyrsa", tmp_path / "ours")
    renew_lists_of_root(pki)
    newer = Pki(pki).crl("ca")
    accept(
        found.directory,
        [newer.public_bytes(Encoding.DER)],
        passphrase=no_passphrase,
        now=NOW + DAY,
    )
    assert found.crl("ca") == newer


def renew_lists_of_root(pki: Path) -> None:
    renew_crls(pki, lambda _: b"root", now=NOW + DAY, names=["ca"])


def test_the_root_is_found_beside_or_given(pki: Path, tmp_path: Path) -> None:
    source = tmp_path / "easyrsa"
    export(pki, source)
    (source / "above.pem").unlink()
    error = refused(partial(read, source), "state.pki")
    assert error.message == (
        f'the CA "Acme Issuing CA" of {source} is below another one, whose certificate is not here'
    )
    assert error.hint == "give the root's certificate and its CRL: --root FILE"
    root, crl = pki / "ca.crt", pki / "crl/ca.pem"
    error = refused(partial(read, source, [root]), "state.pki")
    assert error.message.endswith('is below another one, "Acme Root CA", of which there is no CRL')
    assert "easyrsa gen-crl" in str(error.hint)
    foreign = make(tmp_path / "foreign").crl_path("ca")
    refused(partial(read, source, [root, foreign]), "state.pki")
    assert back(source, tmp_path / "ours", root, crl).root == Pki(pki).root
    (source / "root.crt").write_bytes(root.read_bytes())
    (source / "root.crl").write_bytes(crl.read_bytes())
    assert read(source).above == (Pki(pki).root, Pki(pki).crl("ca"))


def test_the_newest_crl_of_the_root_counts(pki: Path, tmp_path: Path) -> None:
    export(pki, tmp_path / "easyrsa")
    renew_lists_of_root(pki)
    above = read(tmp_path / "easyrsa", [pki / "crl/ca.pem"]).above
    assert above is not None
    assert above.crl == Pki(pki).crl("ca")


def test_of_two_crls_of_the_root_with_one_number_none_is_chosen(pki: Path, tmp_path: Path) -> None:
    source = tmp_path / "easyrsa"
    export(pki, source)
    here = number_of(Pki(pki).crl("ca"))
    assert here is not None
    other = another_crl(pki, here, b"root")
    error = refused(partial(read, source, [other]), "state.pki")
    assert f'"Acme Root CA", of which {other} and {source}/above.pem are CRLs' in error.message
    assert error.message.endswith(", neither newer")
    assert "easyrsa gen-crl" in str(error.hint)
    above = read(source, [other, another_crl(pki, here + 1, b"root")]).above
    assert above is not None
    assert number_of(above.crl) == here + 1


def test_a_ca_two_levels_below_is_refused(tmp_path: Path) -> None:
    pki = make(tmp_path / "pki").directory
    export(pki, tmp_path / "easyrsa")
    top = make_ca("Top")
    middle = make_ca("Middle", top)
    leaf = make_ca("Lowest", middle)
    source = tmp_path / "easyrsa"
    (source / "ca.crt").write_bytes(leaf.certificate.public_bytes(Encoding.PEM))
    (source / "above.pem").write_bytes(middle.certificate.public_bytes(Encoding.PEM))
    error = refused(partial(read, source), "state.pki")
    assert error.message.endswith('below another one, "Middle", which is not a root either')


def test_without_its_key_the_crl_must_be_complete(tmp_path: Path) -> None:
    pki = make(tmp_path / "pki").directory
    source = tmp_path / "easyrsa"
    export(pki, source)
    (source / "private/ca.key").unlink()
    found = back(source, tmp_path / "ours")
    assert found.path("release") == Pki(pki).path("release")
    assert not (found.directory / "reqs").exists()
    index = (source / "index.txt").read_text()
    (source / "index.txt").write_text(
        index + "R\t361122120000Z\t261122120000Z\t01\tunknown\t/CN=x\n"
    )
    refused(partial(back, source, tmp_path / "b"), "state.pki")


def test_published_roots_are_refused(
    pki: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(pki, tmp_path / "easyrsa")
    published = {key_digest(Pki(pki).root.public_key()): "somebody's"}
    monkeypatch.setattr(known_keys, "PUBLISHED", published)
    with pytest.raises(Untrusted, match="somebody's key"):
        read(tmp_path / "easyrsa")
