"""One use for each key: no group's key signs, and whoever rolls out signs no firmware."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.keys.held import Scheme
from fwsign.pki.batch import Terms, judge
from fwsign.pki.directory import Pki
from fwsign.pki.key_uris import open_at
from fwsign.pki.renewal import renew
from pki_kit import NEW, NOW, contents, issue, make, no_passphrase, refused, withdraw
from support import new_key, signing_hash

WORDS = {
    "release": ("signer", "signs releases"),
    "rollout": ("channel", "signs channels"),
    "gateways": ("encryption", "is that of a group of devices"),
    "Acme Issuing CA": ("CA", "issues certificates"),
    "Acme Root CA": ("CA", "issues certificates"),
}
FILES = {"Acme Issuing CA": "issuing", "Acme Root CA": "ca"}


class Token:
    """A key that is in no file."""

    def __init__(self) -> None:
        self.place = "pkcs11:token=x;object=y"
        self.public_key = new_key().public_key()

    def sign_raw(self, scheme: Scheme, data: bytes, digest: str = "") -> bytes:
        raise AssertionError(scheme, data, digest)

    def close(self) -> None:
        pass


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    make(tmp_path / "pki")
    issue(tmp_path / "pki", "rollout", "channel")
    issue(tmp_path / "pki", "gateways", "encryption")
    return tmp_path / "pki"


def test_a_key_with_another_use_is_refused(pki: Path) -> None:
    before = contents(pki)
    kinds = ("signer", "channel", "encryption")
    clashes = [(owner, kind) for owner in WORDS for kind in kinds if WORDS[owner][0] != kind]
    for owner, kind in clashes:
        uri = str(pki / f"private/{FILES.get(owner, owner)}.key")
        key = open_at(uri, no_passphrase)
        for one in (key, key.public_key):
            error = refused(partial(issue, pki, "x", kind, key=one), "key.mismatch")
            words = f'is that of "{owner}", which {WORDS[owner][1]}: it must do nothing else'
            assert error.message == f'the key of "x" {words}'
            assert error.hint == "make another key: fwsign key new"
    assert contents(pki) == before


@pytest.mark.parametrize(("owner", "kind"), [("rollout", "channel"), ("gateways", "encryption")])
def test_a_key_may_have_two_certificates_of_one_use(pki: Path, owner: str, kind: str) -> None:
    key = open_at(str(pki / f"private/{owner}.key"), no_passphrase)
    issue(pki, "x", kind, key=key)
    assert Pki(pki).certificate("x").public_key() == key.public_key


def test_the_key_of_a_group_that_is_no_more_signs_nothing_either(pki: Path) -> None:
    """The devices of the group have it still."""
    old: Any = Pki(pki).certificate("gateways").public_key()
    renew(pki, "gateways", new_key=NEW, ca_passphrase=no_passphrase, now=NOW)
    error = refused(partial(issue, pki, "x", key=old), "key.mismatch")
    assert '"gateways", which is that of a group of devices' in error.message
    again = partial(renew, pki, "release", new_key=old, ca_passphrase=no_passphrase, now=NOW)
    assert refused(again, "key.mismatch").message.startswith('the key of "release" is that of "ga')
    withdraw(pki, "gateways", "cessationOfOperation")
    assert refused(again, "key.mismatch").message.startswith('the key of "release" is that of "ga')


def test_a_request_in_a_directory_is_refused(pki: Path, tmp_path: Path) -> None:
    key = new_key()
    issue(pki, "theirs", key=key.public_key())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    file = tmp_path / "group.csr"
    file.write_bytes(builder.sign(key, signing_hash(key)).public_bytes(Encoding.PEM))
    (one,) = judge(pki, [file], Terms("encryption"), now=NOW)
    assert one.error is not None
    assert one.error.code == "key.mismatch"
    assert 'group.csr is that of "theirs", which signs releases' in one.error.message


def test_a_group_whose_key_is_in_a_token_is_refused(pki: Path) -> None:
    token = Token()
    message = (
        'the key of "x" is not in a file, but pkcs11:token=x;object=y: payloads to it could '
        "not be opened"
    )
    error = refused(partial(issue, pki, "x", "encryption", key=token), "key.unsupported")
    assert error.message == message
    anew = partial(renew, pki, "gateways", new_key=token, ca_passphrase=no_passphrase, now=NOW)
    error = refused(anew, "key.unsupported")
    assert error.message == message.replace('"x"', '"gateways"')


def test_other_kinds_may_share_a_key(pki: Path) -> None:
    """A device's own key is often that of two certificates."""
    issue(pki, "gw-1", "server", domains=["gw-1.acme.example"])
    issue(pki, "gw-2", "client", key=Pki(pki).certificate("gw-1").public_key())
    assert Pki(pki).certificate("gw-2").public_key() == Pki(pki).certificate("gw-1").public_key()
