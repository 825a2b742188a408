# SPDX-License-Identifier: Apache-2.0
"""A PKI laid out for easy-rsa: the same commands, and its books kept."""

import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509

from fwsign.keys.file import load_private_key
from fwsign.pki.crls import next_number
from fwsign.pki.directory import Pki
from fwsign.pki.easyrsa.export import export
from fwsign.pki.easyrsa.read import read
from fwsign.pki.easyrsa.takeover import take_over
from fwsign.pki.index import parse_index
from fwsign.pki.offline import sign_request
from fwsign.pki.renewal import renew
from fwsign.pki.request import CertificateRequest
from fwsign.pki.rotation import replace_issuing, rotate, standby
from pki_kit import (
    DAY,
    NEW,
    NOW,
    SECOND,
    at_file_event,
    check_whole,
    contents,
    fork,
    issue,
    make,
    needs_fork,
    no_passphrase,
    openssl_verify,
    pyopenssl_verify,
    refused,
    renew_lists,
    run_myself,
    serials,
    withdraw,
)
from support import stride

LATER = NOW + DAY


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    return make(tmp_path / "pki", flat=True).directory


def statuses(pki: Path) -> dict[int, str]:
    lines = (pki / "index.txt").read_text().splitlines()
    return {int(one.split("\t")[3], 16): one[0] for one in lines}


def serial(pki: Path, name: str) -> int:
    return Pki(pki).certificate(name).serial_number


def note_revoked(pki: Path, name: str, reason: str = "keyCompromise") -> None:
    """Do what easy-rsa does, which makes no CRL."""
    lines = (pki / "index.txt").read_text().splitlines()
    found = f"{serial(pki, name):X}"
    for at, one in enumerate(lines):
        fields = one.split("\t")
        if fields[3].lstrip("0") == found.lstrip("0"):
            lines[at] = "\t".join(("R", fields[1], f"261031000000Z,{reason}", *fields[3:]))
    (pki / "index.txt").write_text("".join(f"{one}\n" for one in lines))


def test_the_one_ca_issues_and_is_limited(flat: Path) -> None:
    pki = Pki(flat)
    assert (pki.flat, pki.issuing(), pki.authorities()) == (True, "ca", ("ca",))
    assert (pki.names(), pki.issuers("release")) == (("release",), ("ca",))
    limits = pki.root.extensions.get_extension_for_class(x509.NameConstraints)
    # mbedTLS cannot read a CA with critical ones
    assert (limits.critical, limits.value.permitted_subtrees) == (
        False,
        [x509.DNSName("acme.example")],
    )
    assert statuses(flat) == {serial(flat, "release"): "V"}
    assert (pki.crl("ca").next_update_utc or SECOND) - SECOND == 90 * DAY
    assert not (flat / "crl").exists()
    for keys in ("private", "revoked/private_by_serial"):
        assert (flat / keys / ".gitignore").read_bytes() == b"*\n"
    refused(partial(issue, flat, "x", domains=["other.test"]), "state.ca-limit")


@pytest.mark.external
def test_openssl_takes_the_path(flat: Path) -> None:
    issue(flat, "broker.acme.example", "server")
    pyopenssl_verify(flat, "release", now=NOW)
    for name in ("release", "broker.acme.example"):
        done = openssl_verify(flat, name)
        assert done.returncode == 0, done.stderr
    withdraw(flat, "release")
    assert "certificate revoked" in openssl_verify(flat, "release").stderr


def test_what_is_issued_renewed_and_revoked_is_noted(flat: Path) -> None:
    issue(flat, "ci")
    first = serial(flat, "ci")
    old = Pki(flat).old_path(first).read_bytes()
    renew(flat, "ci", ca_passphrase=no_passphrase, now=LATER)
    second = serial(flat, "ci")
    assert Pki(flat).old_path(first).read_bytes() == old
    assert Pki(flat).old_path(second).exists()
    assert withdraw(flat, f"{first:X}", now=LATER) == flat / "crl.pem"
    assert statuses(flat) == {serial(flat, "release"): "V", first: "R", second: "V"}
    assert serials(Pki(flat).crl("ca")) == {first}
    refused(partial(withdraw, flat, f"{first:X}", now=LATER), "state.pki-exists")
    assert not (flat / "crl").exists()


def test_the_number_of_the_next_crl_is_left_for_easyrsa(flat: Path) -> None:
    for now in (NOW, LATER):
        renew_lists(flat, now)
        number = next_number(Pki(flat).crl("ca"))
        assert int((flat / "crlnumber").read_text(), 16) == number


def test_what_easyrsa_has_revoked_counts_and_goes_on_the_crl(flat: Path) -> None:
    issue(flat, "ci")
    note_revoked(flat, "release")
    note_revoked(flat, "ci", "superseded")
    pki = Pki(flat)
    assert pki.revocation("release") is not None
    refused(partial(renew, flat, "release", ca_passphrase=no_passphrase, now=NOW), "state.pki")
    withdraw(flat, "ci", "keyCompromise")  # revoked, and on no CRL: there it goes, as it was
    entries = {entry.serial_number: entry for entry in pki.crl("ca")}
    assert entries.keys() == {serial(flat, "release"), serial(flat, "ci")}
    reason = entries[serial(flat, "ci")].extensions.get_extension_for_class(x509.CRLReason)
    assert reason.value.reason is x509.ReasonFlags.superseded
    assert not (entries.keys() - {one.serial_number for one in parse_index(flat / "index.txt")})


def test_what_easyrsa_has_moved_away_is_found_by_its_serial_number(flat: Path) -> None:
    found = serial(flat, "release")
    path = Pki(flat).old_path(found)
    note_revoked(flat, "release")
    path.rename(flat / f"revoked/certs_by_serial/{path.stem}.crt")
    (flat / "issued/release.crt").unlink()
    withdraw(flat, f"{found:X}")
    assert serials(Pki(flat).crl("ca")) == {found}
    issue(flat, "release")  # the name is free
    assert statuses(flat)[serial(flat, "release")] == "V"


def test_a_certificate_that_is_called_as_ours_is_no_ca(flat: Path) -> None:
    (flat / "issued/release.crt").rename(flat / "issued/issuing.crt")  # easy-rsa reserves no name
    assert (Pki(flat).authorities(), Pki(flat).issuing()) == (("ca",), "ca")
    withdraw(flat, "issuing")
    assert statuses(flat) == {serial(flat, "issuing"): "R"}


def test_without_a_crl_one_is_made(flat: Path) -> None:
    note_revoked(flat, "release")
    (flat / "crl.pem").unlink()
    error = refused(partial(issue, flat, "ci"), "state.pki")
    assert (error.message, error.hint) == (
        f"{flat / 'crl.pem'} is missing",
        "make one: fwsign pki crl",
    )
    renew_lists(flat)
    assert serials(Pki(flat).crl("ca")) == {serial(flat, "release")}
    issue(flat, "ci")


def test_an_index_that_cannot_be_read_refuses_all(flat: Path) -> None:
    (flat / "index.txt").write_text("nonsense\n")
    before = contents(flat)
    for action in (
        partial(issue, flat, "ci"),
        partial(withdraw, flat, "release"),
        partial(renew_lists, flat),
    ):
        assert "line 1 cannot be read" in refused(action, "state.pki").message
    kept = contents(flat)
    assert {path: kept[path] for path in before} == before
    assert Pki(flat).names() == ("release",)


def test_there_is_no_second_ca(flat: Path) -> None:
    key = Pki(flat).root.public_key()
    request = CertificateRequest(key, "Acme", (), (), (), (), "")  # type: ignore[arg-type]
    before = contents(flat)
    for action in (
        partial(standby, flat, new_key=NEW, now=NOW),
        partial(rotate, flat, root_key=NEW, new_key=NEW, passphrase=lambda _: None, now=NOW),
        partial(replace_issuing, flat, new_key=NEW, passphrase=lambda _: None, now=NOW),
        partial(sign_request, flat, request, permitted=["acme.example"],
                root_passphrase=no_passphrase, now=NOW),
    ):  # fmt: skip
        error = refused(action, "state.pki")
        assert error.message == f"{flat} is laid out for easy-rsa, which has one CA"
        assert error.hint == f"fwsign pki import {flat} makes one with this CA as the root"
    assert contents(flat) == before


def test_keys_are_encrypted_and_asked_for(tmp_path: Path) -> None:
    pki = make(tmp_path / "pki", flat=True, root_passphrase=b"root", passphrase=b"key")
    for name in ("ca", "release"):
        text = pki.key_path(name).read_text()
        assert "ENCRYPTED" in text
        assert os.name == "nt" or pki.key_path(name).stat().st_mode & 0o077 == 0
    refused(partial(issue, pki.directory, "ci", ca_passphrase=lambda: b"key"), "key.passphrase")
    issue(pki.directory, "ci", ca_passphrase=lambda: b"root")


# --- killed ---------------------------------------------------------------------------------


def each_kill(what: str, base: Path, origin: Path | None, act: Callable[[Path], object],
              check: Callable[[Path], None]) -> None:  # fmt: skip
    """Kill an action on a fresh copy at its first file event, its second and so on."""
    step, lived = 0, False
    while not lived:
        step += stride(7)
        copy = base / f"{what}-{step}"
        if origin is not None:
            shutil.copytree(origin, copy)
        lived = fork(partial(act, copy), partial(at_file_event, step))
        check(copy)
        shutil.rmtree(copy, ignore_errors=True)
    print(what, step)  # for the test that started this


def again(pki: Path) -> object:
    return renew(pki, "release", new_key=NEW, ca_passphrase=no_passphrase, now=LATER)


def check_books(pki: Path) -> None:
    """All that is in use is noted, and all that is on the CRL is noted as revoked."""
    check_whole_flat(pki)
    noted = statuses(pki)
    reader = Pki(pki)
    for name in reader.names():
        assert noted[serial(pki, name)] in "VR"
        assert reader.old_path(serial(pki, name)).exists()
    assert {one for one, status in noted.items() if status == "R"} >= serials(reader.crl("ca"))


def check_whole_flat(pki: Path) -> None:
    reader = Pki(pki)
    for name in reader.names():
        assert len(reader.path(name)) == len(reader.crls(name)) == 1


def issued_again(pki: Path) -> None:
    check_books(pki)
    if "ci" not in Pki(pki).names():
        issue(pki, "ci")
        check_books(pki)


def renewed_again(pki: Path) -> None:
    check_books(pki)
    again(pki)
    check_books(pki)
    check_keys(pki)


def check_keys(pki: Path) -> None:
    reader = Pki(pki)
    for name in ("ca", *reader.names()):
        key = load_private_key(reader.key_path(name), no_passphrase)
        assert key.public_key() == reader.certificate(name).public_key()


def revoked_again(pki: Path) -> None:
    check_books(pki)
    found = serial(pki, "release")
    if found not in serials(Pki(pki).crl("ca")):
        withdraw(pki, "release")
    assert serials(Pki(pki).crl("ca")) == {found}
    assert statuses(pki)[found] == "R"


def whole_or_absent(directory: Path) -> None:
    if directory.exists():
        check_books(directory)


def export_whole_or_absent(directory: Path) -> None:
    if directory.exists():
        assert read(directory).above is not None


def import_whole_or_absent(directory: Path) -> None:
    if directory.exists():
        check_whole(directory, set())


def kill(base: Path) -> None:
    each_kill("create", base, None, lambda pki: make(pki, flat=True), whole_or_absent)
    pki = make(base / "flat", flat=True).directory
    each_kill("issue", base, pki, lambda copy: issue(copy, "ci"), issued_again)
    each_kill("renew", base, pki, again, renewed_again)
    each_kill("revoke", base, pki, lambda copy: withdraw(copy, "release"), revoked_again)
    tiers = make(base / "tiers").directory
    issue(tiers, "ci")
    withdraw(tiers, "ci")
    each_kill("export", base, None, lambda to: export(tiers, to), export_whole_or_absent)
    export(tiers, base / "easyrsa")
    source = read(base / "easyrsa")
    more = {"issuing": None, "ca_passphrase": no_passphrase, "now": NOW}
    each_kill(
        "import",
        base,
        None,
        lambda to: take_over(source, to, **more),  # type: ignore[arg-type]
        import_whole_or_absent,
    )


@needs_fork
def test_killed_at_each_step_both_can_go_on(tmp_path: Path) -> None:
    steps = run_myself(__file__, "kill", tmp_path)
    assert set(steps) == {"create", "issue", "renew", "revoke", "export", "import"}
    assert all(count > 10 for count in steps.values()), steps


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]))
