# SPDX-License-Identifier: Apache-2.0
"""index.txt: lines as openssl writes them, and what is noted in them."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from easyrsa_kit import LATER, SIGNER, STOLEN
from fwsign.pki.crls import revoked_entry
from fwsign.pki.index import (
    add_line,
    line,
    lost_line,
    parse_index,
    revoke_line,
    serial_text,
    subject_text,
)
from support import DAY, NOW, refused

SERIAL = STOLEN.certificate.serial_number


def told(entry: x509.RevokedCertificate) -> str:
    return line(STOLEN.certificate, entry).split("\t")[2]


@pytest.mark.parametrize(
    ("reason", "since", "said"),
    [
        ("unspecified", None, "261122120000Z"),
        ("keyCompromise", None, "261122120000Z,keyCompromise"),
        ("cACompromise", None, "261122120000Z,CACompromise"),
        ("affiliationChanged", None, "261122120000Z,affiliationChanged"),
        ("superseded", None, "261122120000Z,superseded"),
        ("cessationOfOperation", None, "261122120000Z,cessationOfOperation"),
        ("privilegeWithdrawn", None, "261122120000Z"),
        ("keyCompromise", DAY, "261122120000Z,keyTime,20261121120000Z"),
        ("cACompromise", DAY, "261122120000Z,CAkeyTime,20261121120000Z"),
        ("superseded", DAY, "261121120000Z,superseded"),
        ("privilegeWithdrawn", DAY, "261121120000Z"),
    ],
)
def test_a_revocation_is_told_as_openssl_knows_it_or_stricter(
    tmp_path: Path, reason: str, since: timedelta | None, said: str
) -> None:
    entry = revoked_entry(SERIAL, reason, NOW, None if since is None else NOW - since)
    assert told(entry) == said
    path = tmp_path / "index.txt"
    path.write_text(line(STOLEN.certificate, entry) + "\n")
    [again] = parse_index(path)
    assert told(again) == said


def test_a_line_says_valid_or_revoked() -> None:
    end = SIGNER.certificate.not_valid_after_utc
    assert line(SIGNER.certificate).startswith(f"V\t{end:%y%m%d%H%M%S}Z\t\t")
    entry = revoked_entry(SIGNER.certificate.serial_number, "superseded", NOW)
    assert line(SIGNER.certificate, entry).startswith(f"R\t{end:%y%m%d%H%M%S}Z\t2611")


def test_a_revocation_whose_certificate_is_lost_has_a_line() -> None:
    entry = revoked_entry(0xABC, "keyCompromise", NOW)
    assert lost_line(entry, NOW.replace(year=2051)).split("\t") == [
        "R", "20511122120000Z", "261122120000Z,keyCompromise", "0ABC", "unknown", "/CN=unknown"
    ]  # fmt: skip


def test_serial_numbers_have_whole_octets() -> None:
    assert [serial_text(one) for one in (1, 0x10, 0xABC)] == ["01", "10", "0ABC"]


def test_subjects_are_on_one_line() -> None:
    parts = [(NameOID.ORGANIZATION_NAME, "Ac\tmé"), (NameOID.COMMON_NAME, "a"),
             (NameOID.SERIAL_NUMBER, "7")]  # fmt: skip
    name = x509.Name([x509.NameAttribute(*part) for part in parts])
    assert subject_text(name) == "/O=Ac\\x09m\\xC3\\xA9/CN=a/2.5.4.5=7"


def test_what_is_there_stays_to_the_octet(tmp_path: Path) -> None:
    path = tmp_path / "index.txt"
    before = line(SIGNER.certificate).encode() + b"\xff\r\n"
    path.write_bytes(before)
    for _ in range(2):  # the second time it is there
        add_line(path, STOLEN.certificate)
        assert path.read_bytes() == before + line(STOLEN.certificate).encode() + b"\n"
    entry = revoked_entry(SERIAL, "superseded", NOW)
    assert revoke_line(path, STOLEN.certificate, entry) == entry
    after = before + line(STOLEN.certificate, entry).encode() + b"\n"
    assert path.read_bytes() == after


def test_what_was_revoked_first_stays(tmp_path: Path) -> None:
    path = tmp_path / "index.txt"
    entries = [revoked_entry(SERIAL, one, NOW) for one in ("keyCompromise", "superseded")]
    path.write_bytes(b"")
    for entry in entries:
        counts = revoke_line(path, STOLEN.certificate, entry)
        assert told(counts) == told(entries[0])
    assert path.read_text() == line(STOLEN.certificate, entries[0]) + "\n"


def test_nothing_is_written_into_an_index_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "index.txt"
    for bad in ("V\n", line(SIGNER.certificate).replace("unknown", "x\ty")):
        path.write_text(bad)
        with refused("state.pki", "line 1 cannot be read"):
            add_line(path, LATER.certificate)
        with refused("state.pki", "line 1 cannot be read"):
            revoke_line(path, LATER.certificate, revoked_entry(1, "superseded", NOW))
        assert path.read_text() == bad
