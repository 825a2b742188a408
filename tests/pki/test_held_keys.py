"""Keys of a PKI that live elsewhere: what is written of them, tokens that fail, killed runs."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fwsign.keys.file import new_private_key, write_private_key
from fwsign.keys.held import HeldKey, Scheme
from fwsign.pki.authority import open_authority
from fwsign.pki.directory import Pki
from fwsign.pki.entry_keys import NewKey
from fwsign.pki.issuance import issue as issue_it
from fwsign.pki.key_uris import HeldAt, open_at, uri_of
from fwsign.pki.moving import move_key
from fwsign.pki.offline import add_request, create_requests
from fwsign.pki.renewal import renew
from fwsign.pki.revocation import renew_crls, revoke
from fwsign.pki.rotation import replace_issuing, rotate, standby
from pki_kit import (
    NOW,
    contents,
    fork,
    issue,
    make,
    needs_fork,
    no_passphrase,
    refused,
    run_myself,
)
from support import rsa_key


def held(directory: Path, alg: str = "p256") -> HeldAt:
    """Return a key of a file outside of the PKI, which is held like any other."""
    number = len(list(directory.glob("outside-*.key")))
    path = directory / f"outside-{number}.key"
    write_private_key(path, rsa_key(3072) if alg == "rsa3072" else new_private_key(alg), None)
    return open_at(str(path), no_passphrase)


class Wrong:
    """A token whose signatures are wrong: with one bit that differs, or always the same."""

    def __init__(self, key: HeldKey, answer: bytes | None = None) -> None:
        self._key, self._answer = key, answer
        self.place = "pkcs11:token=wrong;object=x"
        self.public_key = key.public_key

    def sign_raw(self, scheme: Scheme, data: bytes, digest: str = "") -> bytes:
        made = self._key.sign_raw(scheme, data, digest)
        return bytes([made[0] ^ 1, *made[1:]]) if self._answer is None else self._answer

    def close(self) -> None:
        self._key.close()


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    make(tmp_path / "pki")
    return tmp_path / "pki"


def test_create_takes_keys_and_remembers_where_they_live(tmp_path: Path) -> None:
    keys = {name: held(tmp_path) for name in ("ca", "issuing", "release")}
    pki = make(tmp_path / "pki", keys=keys)
    for name, key in keys.items():
        assert pki.certificate(name).public_key() == key.public_key
        assert pki.key_uri(name) == uri_of(key) == Path(key.uri).as_uri()
        assert pki.uri_file(name).stat().st_mode & 0o777 == 0o600
    assert pki.key_uri("issuing-tls") == str(tmp_path / "pki/private/issuing-tls.key")
    assert not pki.key_file("ca").exists()


def test_a_new_pki_has_only_its_own_entries(tmp_path: Path) -> None:
    keys = {"issuing": held(tmp_path)}
    error = refused(lambda: make(tmp_path / "pki", keys=keys, root_only=True), "state.policy")
    assert error.message == 'a new PKI like this has no entry "issuing", but ca'
    assert not (tmp_path / "pki").exists()


MAKERS: dict[str, tuple[Callable[[Path, Any], object], str]] = {
    "create": (lambda pki, key: make(pki.parent / "other", keys={"ca": key}), "certificate"),
    "standby": (lambda pki, key: standby(pki, new_key=key, now=NOW), "certificate"),
    # Its root certifies it, and it signs its first CRL itself.
    "replace": (
        lambda pki, key: replace_issuing(pki, new_key=key, passphrase=lambda _: None, now=NOW),
        "CRL",
    ),
    "rotate": (
        lambda pki, key: rotate(
            pki, root_key=key, new_key=NewKey("", None), passphrase=lambda _: None, now=NOW
        ),
        "certificate",
    ),
    "csr": (
        lambda pki, key: create_requests(
            pki.parent / "other",
            org="Acme",
            vendor="acme.example",
            new_key=NewKey("p256", None),
            keys={"issuing": key},
        ),
        "request",
    ),
    "csr for TLS": (lambda pki, key: add_request(pki, new_key=key), "request"),
    "move": (lambda pki, key: move_key(pki, "release", key), "request"),
}


@pytest.mark.parametrize("what", MAKERS)
@pytest.mark.parametrize("alg", ["p256", "ed25519", "rsa3072"])
@pytest.mark.parametrize("answer", [None, b"", b"\xff" * 64])
def test_a_token_with_wrong_signatures_leaves_nothing(
    pki: Path, what: str, alg: str, answer: bytes | None
) -> None:
    own = open_at(str(pki / "private/release.key"), no_passphrase)
    key = Wrong(own if what == "move" else held(pki.parent, alg), answer)
    action, thing = MAKERS[what]
    before = contents(pki)
    error = refused(lambda: action(pki, key), "key.failed")
    assert error.message == f"the key made a wrong signature: the new {thing} does not verify"
    assert contents(pki) == before
    assert not (pki.parent / "other").exists()


def test_a_ca_that_fails_issues_revokes_and_lists_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {name: held(tmp_path) for name in ("ca", "issuing")}
    pki = make(tmp_path / "pki", keys=keys).directory
    for name in keys:
        (pki / f"private/{name}.uri").write_text(f"pkcs11:object={name}\n", encoding="utf-8")
    wrong = {f"pkcs11:object={name}": Wrong(key) for name, key in keys.items()}
    monkeypatch.setattr("fwsign.pki.entry_keys.open_key", lambda uri, _: wrong[uri])
    before = contents(pki)
    actions: list[Callable[[], object]] = [
        lambda: issue(pki, "new"),
        lambda: renew(pki, "release", ca_passphrase=no_passphrase, now=NOW),
        lambda: revoke(pki, "release", reason="superseded", ca_passphrase=no_passphrase, now=NOW),
    ]
    for action in actions:
        refused(action, "key.failed")
    failed: list[str] = []
    renew_crls(
        pki, lambda _: None, now=NOW, names=["issuing"], failed=lambda _, e: failed.append(e.code)
    )
    assert failed == ["key.failed"]
    assert contents(pki) == before


def test_the_key_at_a_uri_must_be_that_of_the_certificate(pki: Path) -> None:
    uri = uri_of(held(pki.parent))
    (pki / "private/issuing.uri").write_text(uri, encoding="utf-8")
    error = refused(lambda: open_authority(Pki(pki), "issuing", no_passphrase), "key.mismatch")
    assert error.message == f'{uri} is not the key of the CA "Acme Issuing CA"'


def test_a_renewal_with_a_key_elsewhere_sets_the_file_aside(pki: Path) -> None:
    key, other = held(pki.parent), held(pki.parent)

    def again(new: Any) -> None:
        renew(pki, "release", new_key=new, ca_passphrase=no_passphrase, now=NOW)

    found = Pki(pki)
    again(key)
    assert found.key_uri("release") == uri_of(key)
    assert found.certificate("release").public_key() == key.public_key
    assert (pki / "private/release.key.unused-1").exists()
    assert not (pki / "private/release.key").exists()
    again(lambda: other)
    assert found.key_uri("release") == uri_of(other)
    assert (pki / "private/release.uri.unused-1").read_text(encoding="utf-8").strip() == uri_of(key)
    again(other.public_key)
    assert found.key_uri("release") == uri_of(other)  # the same key stays where it is
    again(new_private_key("p256").public_key())
    assert not found.has_key("release")  # nobody said where the new one lives
    again(NewKey("", None))
    assert found.key_uri("release") == str(pki / "private/release.key")


def check(directory: Path) -> None:
    """Every entry has its key, wherever that lives."""
    pki = Pki(directory)
    for name in (*pki.roots(), *pki.names()):
        key = open_at(pki.key_uri(name), no_passphrase)
        assert key.public_key == pki.certificate(name).public_key(), name


ACTIONS: dict[str, Callable[[Path, HeldAt], object]] = {
    "issue": lambda pki, key: issue_it(
        pki, "signer", "new", key=key, ca_passphrase=no_passphrase, now=NOW
    ),
    "renew": lambda pki, key: renew(
        pki, "release", new_key=key, ca_passphrase=no_passphrase, now=NOW
    ),
    "back": lambda pki, _: renew(
        pki, "held", new_key=NewKey("", None), ca_passphrase=no_passphrase, now=NOW
    ),
    "replace": lambda pki, key: replace_issuing(
        pki, new_key=key, passphrase=lambda _: None, now=NOW
    ),
    "move": lambda pki, _: move_key(
        pki, "release", open_at(str(pki.parent / "release.key"), no_passphrase)
    ),
}


def at_change(count: int) -> None:
    """Kill this process before it changes a name for the `count`th time."""
    left = count

    def hook(event: str, _: object) -> None:
        nonlocal left
        if event in {"os.rename", "os.remove", "os.link", "os.mkdir", "tempfile.mkstemp"}:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def kill_at_each_step(base: Path) -> None:
    """Kill each change of a key's place at each name that it changes; print how often it was."""
    pki = make(base / "made").directory
    issue(pki, "held", key=held(base))
    shutil.copy(pki / "private/release.key", base / "release.key")
    key = held(base)
    for name, action in ACTIONS.items():
        count, lived = 0, False
        while not lived:
            count += 1
            place = base / f"{name}-{count}"
            shutil.copytree(pki, place)
            lived = fork(lambda: action(place, key), lambda: at_change(count))  # noqa: B023
            check(place)
        sys.stdout.write(f"{name} {count}\n")


@needs_fork
def test_killed_at_each_step(tmp_path: Path) -> None:
    counts = run_myself(__file__, "kill_at_each_step", tmp_path)
    assert set(counts) == set(ACTIONS)
    assert min(counts.values()) >= 3


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]))
