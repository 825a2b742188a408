"""The log of a PKI: every certificate, revocation and CRL, chained."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.errors import Malformed, Tampered
from fwsign.files import io_error
from fwsign.pki import log
from fwsign.pki.acceptance import accept
from fwsign.pki.authority import create
from fwsign.pki.directory import Pki
from fwsign.pki.easyrsa.read import read as read_old
from fwsign.pki.easyrsa.takeover import NewIssuing, take_over
from fwsign.pki.log import FILE, Origin, read_log, user, verify_log
from fwsign.pki.offline import create_requests, sign_request
from fwsign.pki.renewal import renew
from fwsign.pki.request import parse_request
from fwsign.pki.rotation import replace_issuing, rotate, standby
from fwsign.x509.certificate import key_digest
from pki_kit import NEW, NOW, contents, issue, make, no_passphrase, refused, renew_lists, withdraw

DAY = timedelta(1)


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    return make(tmp_path / "pki").directory


def lines(directory: Path, after: int = 0) -> list[dict[str, Any]]:
    return [dict(one.content) for one in read_log(directory)][after:]


def new(directory: Path, action: Callable[[], object]) -> list[tuple[str, str]]:
    """Return the kinds and names of the lines that an action adds."""
    before = len(lines(directory))
    action()
    return [(one["kind"], one["name"]) for one in lines(directory, before)]


def digest(directory: Path, name: str) -> str:
    return sha256(Pki(directory).certificate(name).public_bytes(Encoding.DER)).hexdigest()


def test_every_certificate_and_crl_of_a_new_pki_is_in_it(pki: Path) -> None:
    found = lines(pki)
    made = {one["name"]: one["sha256"] for one in found if one["kind"] == "issue"}
    names = ("ca", *Pki(pki).names())
    assert made == {name: digest(pki, name) for name in names}
    assert {one["name"] for one in found if one["kind"] == "crl"} == set(Pki(pki).authorities())
    assert found[0]["previous"] is None
    assert {one["who"] for one in found} == {user()}


def test_a_line_says_who_what_when_and_by_which_request(pki: Path) -> None:
    issue(pki, "ci", origin=Origin("est:gateway-7", "ab" * 32))
    certificate = Pki(pki).certificate("ci")
    [line] = [one for one in lines(pki) if one["name"] == "ci"]
    assert line | {"previous": None, "fwsign": None} == {
        "kind": "issue",
        "clock": "2026-11-01T12:30:15+00:00",
        "who": "est:gateway-7",
        "name": "ci",
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial": f"{certificate.serial_number:040X}".lstrip("0").rjust(len(line["serial"]), "0"),
        "sha256": digest(pki, "ci"),
        "ends": certificate.not_valid_after_utc.isoformat(),
        "request": "ab" * 32,
        "key": key_digest(Pki(pki).certificate("issuing").public_key()),
        "place": "private/issuing.key",
        "previous": None,
        "fwsign": None,
    }


def test_what_each_command_adds(pki: Path) -> None:
    issuing = Pki(pki).issuing()
    assert new(pki, partial(issue, pki, "ci")) == [("issue", "ci")]
    again = partial(renew, pki, "ci", ca_passphrase=no_passphrase, now=NOW)
    assert new(pki, again) == [("renew", "ci")]
    assert new(pki, partial(withdraw, pki, "ci", "keyCompromise")) == [
        ("revoke", "ci"),
        ("revoke", "ci"),  # the one before the renewal, which has the same key
        ("crl", issuing),
    ]
    revoked = [one for one in lines(pki) if one["kind"] == "revoke"]
    assert {one["reason"] for one in revoked} == {"keyCompromise"}
    assert Pki(pki).certificate("ci").serial_number in [int(one["serial"], 16) for one in revoked]
    found = new(pki, partial(renew_lists, pki))
    assert found == [("crl", name) for name in Pki(pki).authorities()]
    another = partial(replace_issuing, pki, new_key=NEW, passphrase=lambda _: None, now=NOW)
    assert new(pki, another) == [("crl", "issuing-2"), ("issue", "issuing-2")]
    assert new(pki, partial(standby, pki, new_key=NEW, now=NOW)) == [
        ("crl", "standby"),
        ("issue", "standby"),
    ]
    turn = partial(rotate, pki, root_key=NEW, new_key=NEW, passphrase=lambda _: None, now=NOW)
    added = new(pki, turn)
    assert ("certify", "standby-by-ca") in added
    assert {("issue", "issuing-3"), ("issue", "issuing-tls-2")} <= set(added)
    assert verify_log(pki).receipts == len(lines(pki))


def test_a_root_elsewhere(tmp_path: Path) -> None:
    root, away = tmp_path / "root", tmp_path / "away"
    make(root, root_only=True)
    path, _ = create_requests(away, org="Acme", vendor="acme.example", new_key=NEW)
    request = parse_request(path.read_bytes(), "x")
    certify = partial(
        sign_request,
        root,
        request,
        permitted=["acme.example"],
        root_passphrase=no_passphrase,
        now=NOW,
    )
    assert new(root, certify) == [("certify", "issuing")]
    assert lines(root)[-1]["request"] == request.digest
    reader = Pki(root)
    blobs = [
        reader.root.public_bytes(Encoding.DER),
        reader.certificate("issuing").public_bytes(Encoding.DER),
        reader.crl("ca").public_bytes(Encoding.DER),
    ]
    added = new(away, partial(accept, away, blobs, passphrase=no_passphrase, now=NOW))
    assert added == [("crl", "issuing"), ("accept", "issuing"), ("accept", "ca")]


def test_a_flat_pki_and_its_import(tmp_path: Path) -> None:
    old = make(tmp_path / "old", flat=True).directory
    assert [one["name"] for one in lines(old) if one["kind"] == "issue"] == ["ca", "release"]
    target = tmp_path / "new"
    take_over(
        read_old(old),
        target,
        issuing=NewIssuing(["acme.example"], "p256", None),
        ca_passphrase=no_passphrase,
        now=NOW,
    )
    kinds = {one["name"]: one["kind"] for one in lines(target) if one["kind"] != "crl"}
    assert kinds["ca"] == kinds["release"] == "import"
    assert kinds["issuing"] == kinds["issuing-tls"] == "issue"


def test_nothing_is_issued_that_cannot_be_logged(
    pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(pki)

    def full(path: Path, *_: object, **__: object) -> None:
        raise io_error(OSError(28, "no space"), path, "write")

    monkeypatch.setattr(log, "append_all", full)
    refused(partial(issue, pki, "ci"), "io.full")
    refused(partial(withdraw, pki, "release"), "io.full")
    refused(partial(renew_lists, pki), "io.full")
    after = contents(pki)
    assert "issued/ci.crt" not in after
    assert {name: after[name] for name in before} == before


def test_a_refused_action_adds_nothing(pki: Path) -> None:
    before = contents(pki)
    refused(partial(issue, pki, "release"), "state.pki-exists")
    refused(partial(withdraw, pki, "release", now=NOW - 2 * DAY), "state.clock")
    assert contents(pki) == before


def test_a_changed_line_a_missing_one_and_a_lost_end(pki: Path) -> None:
    file = pki / FILE
    whole = file.read_text()
    head = verify_log(pki).head
    issue(pki, "ci")
    assert verify_log(pki, head).since == 1
    file.write_text(whole.replace("release", "relaese", 1))
    with pytest.raises(Tampered, match="as the one before it"):
        verify_log(pki)
    file.write_text("".join(whole.splitlines(keepends=True)[1:]))
    with pytest.raises(Tampered):
        verify_log(pki)
    file.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    assert verify_log(pki).since is None
    with pytest.raises(Tampered, match="the end was cut off or rewritten"):
        verify_log(pki, head)
    file.write_text("no log\n")
    with pytest.raises(Malformed):
        verify_log(pki)
    error = refused(partial(issue, pki, "next"), "io.format")
    assert error.message == f"{file} does not end in a receipt"


def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    pwd = pytest.importorskip("pwd", reason="users have numbers on POSIX")

    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert user().startswith("uid ")
    monkeypatch.setenv("SUDO_USER", "alice")
    assert user().endswith(" for alice")


def test_create_takes_its_time(tmp_path: Path) -> None:
    create(
        tmp_path / "pki",
        org="Acme",
        vendor="acme.example",
        alg="p256",
        root_passphrase=None,
        passphrase=None,
        now=NOW,
    )
    assert {one["clock"] for one in lines(tmp_path / "pki")} == {"2026-11-01T12:30:15+00:00"}
