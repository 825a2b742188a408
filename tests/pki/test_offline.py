# SPDX-License-Identifier: Apache-2.0
"""The root on one machine, the issuing CA on another."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.keys import ALGORITHMS
from fwsign.pki.acceptance import accept
from fwsign.pki.authority import open_authority
from fwsign.pki.crls import number_of
from fwsign.pki.directory import Pki
from fwsign.pki.entry_keys import NewKey
from fwsign.pki.offline import create_requests, sign_request
from fwsign.pki.profiles import NO_USAGE, build_certificate, key_identifiers
from fwsign.pki.request import parse_request
from fwsign.pki.revocation import renew_crls
from fwsign.pki.rotation import rotate
from pki_kit import (
    DAY,
    NEW,
    NOW,
    SECOND,
    YEAR,
    another_crl,
    check_whole,
    contents,
    issue,
    make,
    no_passphrase,
    openssl_verify,
    pyopenssl_verify,
    refused,
    renew_lists,
    withdraw,
)


def ask(directory: Path, alg: str = "p256", **more: Any) -> Path:
    arguments = {"org": "Acme", "vendor": "acme.example", "new_key": NewKey(alg, None), **more}
    return create_requests(directory, **arguments)[0]


def certify(root: Path, request: Path, **more: Any) -> Path:
    parsed = parse_request(request.read_bytes(), "x.csr")
    arguments = {"permitted": ["acme.example"], "root_passphrase": no_passphrase, "now": NOW}
    return sign_request(root, parsed, **{**arguments, **more})


def take(directory: Path, *files: Path, **more: Any) -> tuple[Path, ...]:
    blobs = []
    for file in files:
        data = file.read_bytes()
        load = x509.load_pem_x509_crl if b"X509 CRL" in data else x509.load_pem_x509_certificate
        blobs.append(load(data).public_bytes(Encoding.DER))
    return accept(directory, blobs, **{"passphrase": no_passphrase, "now": NOW, **more})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(tmp_path / "root", root_only=True).directory


@pytest.fixture
def pair(root: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Root and issuing CA, each in its directory."""
    pki = tmp_path / "pki"
    certificate = certify(root, ask(pki))
    take(pki, root / "ca.crt", certificate, root / "crl/ca.pem")
    return root, pki


def test_root_alone(root: Path) -> None:
    private = {"private/ca.key", "private/.gitignore"}
    crls = {"crl/ca.pem", "crl/bundle.pem"}
    assert set(contents(root)) == {"ca.crt", "log.jsonl", *crls, *private}
    assert Pki(root).names() == ()
    renew_lists(root)
    error = refused(partial(issue, root, "x"), "state.pki")
    assert error.message == f"there is no issuing CA in {root}"


def test_request_says_what_it_wants_and_the_root_decides(root: Path, tmp_path: Path) -> None:
    path = ask(tmp_path / "pki", permit=("plant.test",))
    private = {"private/issuing.key", "private/issuing-tls.key", "private/.gitignore"}
    requests = {"reqs/issuing.csr", "reqs/issuing-tls.csr"}
    assert set(contents(tmp_path / "pki")) == requests | private
    parsed = parse_request(path.read_bytes(), "x.csr")
    assert parsed.permitted == ("acme.example", "plant.test")
    certificate = Pki(root).certificate(certify(root, path).stem)
    constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.value.permitted_subtrees == [x509.DNSName("acme.example")]
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (basic.ca, basic.path_length) == (True, 0)
    assert certificate.not_valid_after_utc == SECOND + 3652 * DAY


@pytest.mark.parametrize("alg", [alg for alg in ALGORITHMS if alg != "rsa4096"])
def test_from_request_to_signer(alg: str, root: Path, tmp_path: Path) -> None:
    pki = tmp_path / "pki"
    certificate = certify(root, ask(pki, alg))
    written = take(pki, root / "crl/ca.pem", certificate, root / "ca.crt")
    assert [path.relative_to(pki).as_posix() for path in written] == [
        "crl/issuing.pem",
        "crl/ca.pem",
        "issued/issuing.crt",
        "ca.crt",
    ]
    issue(pki, "release")
    pyopenssl_verify(pki, "release", now=NOW)


def test_each_team_has_a_ca_of_its_own(pair: tuple[Path, Path], tmp_path: Path) -> None:
    root, pki = pair
    second = certify(root, ask(tmp_path / "other"), permitted=["other.acme.example"])
    assert second == root / "issued/issuing-2.crt"
    subjects = {Pki(root).certificate(name).subject for name in ("issuing", "issuing-2")}
    assert len(subjects) == 2
    error = refused(partial(take, pki, second), "state.pki")
    assert error.message == ('"Acme Issuing CA 2" is neither the root nor the CA of the request')
    withdraw(root, "issuing-2", "cACompromise")


def test_the_same_request_renews(pair: tuple[Path, Path]) -> None:
    root, pki = pair
    issue(pki, "release")
    old = Pki(pki).certificate("issuing")
    now = NOW + 8 * YEAR
    again = certify(root, pki / "reqs/issuing.csr", now=now, lifetime=10 * YEAR)
    assert again == root / "issued/issuing.crt"
    take(pki, again, now=now)
    new = Pki(pki).certificate("issuing")
    assert new.not_valid_after_utc == SECOND + 18 * YEAR
    assert Pki(pki).old_path(old.serial_number).exists()
    check_whole(pki, set())
    issue(pki, "next", now=now)


def test_each_year_a_crl_of_the_root(pair: tuple[Path, Path]) -> None:
    root, pki = pair
    older = root.parent / "older.pem"
    shutil.copy(root / "crl/ca.pem", older)
    renew_crls(root, lambda _: None, now=NOW + YEAR, names=("ca",))
    assert take(pki, root / "crl/ca.pem") == (pki / "crl/ca.pem",)
    assert Pki(pki).crl("ca") == Pki(root).crl("ca")
    assert (root / "crl/ca.pem").read_bytes() in (pki / "crl/bundle.pem").read_bytes()
    before = contents(pki)
    error = refused(partial(take, pki, older), "state.pki")
    assert error.message.startswith("the CRL is older than the one here: ")
    assert contents(pki) == before


def test_a_crl_of_the_same_number_with_other_content_is_not_taken(pair: tuple[Path, Path]) -> None:
    root, pki = pair
    issue_number = number_of(Pki(pki).crl("ca"))
    assert issue_number is not None
    before = contents(pki)
    other = another_crl(root, issue_number)
    error = refused(partial(take, pki, other), "state.pki")
    words = f"the CRL and the one here differ, and both have number {issue_number}"
    assert (error.message, error.found) == (words, f"number {issue_number}")
    higher = another_crl(root, issue_number + 1)
    error = refused(partial(take, pki, other, higher), "state.pki")
    assert error.message == "two different CRLs were given"
    assert contents(pki) == before
    assert take(pki, root / "crl/ca.pem") == (pki / "crl/ca.pem",)
    assert take(pki, higher, higher) == (pki / "crl/ca.pem",)


def test_a_revoked_ca_is_neither_renewed_nor_taken(pair: tuple[Path, Path]) -> None:
    root, pki = pair
    withdraw(root, "issuing", "cACompromise")
    error = refused(partial(certify, root, pki / "reqs/issuing.csr"), "state.pki")
    assert "was revoked: its key is not certified again" in error.message
    error = refused(
        partial(take, pki, root / "issued/issuing.crt", root / "crl/ca.pem"), "state.pki"
    )
    assert error.message == 'the CA "Acme Issuing CA" is revoked'


def test_what_does_not_belong_together(root: Path, tmp_path: Path) -> None:
    pki, other = tmp_path / "pki", make(tmp_path / "other", org="Other").directory
    good = certify(root, ask(pki))
    for files, message in (
        ((good, root / "crl/ca.pem"), "the root's certificate is missing"),
        ((root / "ca.crt", root / "crl/ca.pem"), "the CA's certificate is missing"),
        ((root / "ca.crt", good), "the root's CRL is missing"),
        ((root / "ca.crt", good, other / "crl/ca.pem"), 'the CRL was not issued by "Acme Root CA"'),
        (
            (other / "ca.crt", good, other / "crl/ca.pem"),
            'the CA "Acme Issuing CA" was not issued by "Other Root CA"',
        ),
        ((root / "ca.crt", other / "ca.crt"), '"Other Root CA" is not the root that is here'),
    ):
        error = refused(partial(take, pki, *files), "state.pki")
        assert error.message == message
        assert not (pki / "ca.crt").exists()
    error = refused(lambda: accept(pki, [b"hello"], passphrase=no_passphrase, now=NOW), "state.pki")
    assert error.message == "neither a certificate nor a CRL"


@pytest.mark.parametrize("how", ["CA:FALSE", "no key usage for certificates"])
def test_what_cannot_issue_is_no_ca(pair: tuple[Path, Path], how: str) -> None:
    root, pki = pair
    before = contents(pki)
    authority = open_authority(Pki(root), "ca", no_passphrase)
    asked = x509.load_pem_x509_csr((pki / "reqs/issuing.csr").read_bytes())
    is_ca = how != "CA:FALSE"
    usage = x509.KeyUsage(**{**NO_USAGE, "digital_signature": True})
    made = build_certificate(
        asked.subject,
        asked.public_key(),  # type: ignore[arg-type]
        (NOW, NOW + DAY),
        (authority.certificate.subject, authority.key),
        (
            (x509.BasicConstraints(ca=is_ca, path_length=None), True),
            *([(usage, True)] if is_ca else []),
            *key_identifiers(asked.public_key(), authority),  # type: ignore[arg-type]
        ),
    )
    file = root / "made.crt"
    file.write_bytes(made.public_bytes(Encoding.PEM))
    error = refused(partial(take, pki, file), "state.pki")
    assert error.message == 'the root has certified the key of "issuing", but not as a CA'
    assert contents(pki) == before


def test_a_directory_without_a_request(root: Path) -> None:
    refused(partial(take, root, root / "ca.crt"), "io.missing")


def test_another_key_than_that_of_the_request(root: Path, tmp_path: Path) -> None:
    pki = tmp_path / "pki"
    good = certify(root, ask(pki))
    shutil.copy(root / "private/ca.key", pki / "private/issuing.key")
    refused(partial(take, pki, root / "ca.crt", good, root / "crl/ca.pem"), "key.mismatch")


def test_a_ca_is_always_limited(root: Path, tmp_path: Path) -> None:
    request = ask(tmp_path / "pki")
    error = refused(partial(certify, root, request, permitted=[]), "state.policy")
    assert error.message == "an issuing CA must be limited to a domain, none was given"
    refused(partial(ask, tmp_path / "pki"), "state.pki-exists")
    assert NEW.alg == "p256"


@pytest.mark.external
def test_openssl_takes_the_path(pair: tuple[Path, Path]) -> None:
    _, pki = pair
    issue(pki, "release")
    found = openssl_verify(pki, "release")
    assert found.returncode == 0, found.stderr


def test_a_root_that_certifies_others_issues_with_its_own_ca(pki: Path, tmp_path: Path) -> None:
    assert certify(pki, ask(tmp_path / "team")).stem == "issuing-2"
    assert Pki(pki).issuing() == "issuing"
    issue(pki, "ci")


def test_no_rotation_beside_an_offline_root(pair: tuple[Path, Path]) -> None:
    root, _ = pair
    call = partial(rotate, root, root_key=NEW, new_key=NEW, passphrase=lambda _: None, now=NOW)
    error = refused(call, "state.pki")
    assert error.message == (
        f"no issuing CA has its key here: {root / 'private/issuing.key'} is missing"
    )
    assert error.hint == (
        "rotate where the issuing CA is; for another one below this root: fwsign pki csr there, "
        "fwsign pki sign-ca here, fwsign pki accept there"
    )


def test_a_root_without_any_issuing_ca_is_not_rotated(tmp_path: Path) -> None:
    root = make(tmp_path / "alone", root_only=True).directory
    call = partial(rotate, root, root_key=NEW, new_key=NEW, passphrase=lambda _: None, now=NOW)
    assert "no issuing CA has its key here" in refused(call, "state.pki").message


def test_rotated_where_the_offline_key_was_brought_for_it(pair: tuple[Path, Path]) -> None:
    root, pki = pair
    key = Path(shutil.copy(root / "private/ca.key", pki / "private/ca.key"))
    done = rotate(pki, root_key=NEW, new_key=NEW, passphrase=lambda _: None, now=NOW)
    assert done == ("ca-2", "ca-2-by-ca", "issuing-2", None)
    key.unlink()
    issue(pki, "next")
    assert Pki(pki).issuers("next") == ("issuing-2", "ca-2", "ca")
    pyopenssl_verify(pki, "next", root="ca", now=NOW)


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    return make(tmp_path / "whole").directory
