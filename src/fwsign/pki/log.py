# SPDX-License-Identifier: Apache-2.0
"""The log of a PKI: who issued, renewed, revoked what, when, and from which request.

It is a file of receipts without signatures (see `fwsign.receipts`): each line names the digest of
the line before, so that a line that was changed or removed shows, and a head kept elsewhere shows
whether the end is there. The line comes before the certificate is in use: a killed run leaves at
most a line for a certificate that was never handed out.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cryptography.hazmat.primitives import hashes

from fwsign import __version__
from fwsign.pki.index import serial_text
from fwsign.receipts.chain import judge_lines, parse_line, verify_lines
from fwsign.receipts.file import append, read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from cryptography import x509

    from fwsign.receipts.chain import Receipt, Summary

FILE: Final = "log.jsonl"


class Origin(NamedTuple):
    """Who wanted a certificate, and by which request.

    Args:
        who: the user of a server, or another account; empty: the user of this process.
        request: SHA-256 of the certificate request in DER, in hex; None if there was none.
    """

    who: str = ""
    request: str | None = None


OWN: Final = Origin()
"""The user of this process, without a request."""


def log_certificate(
    directory: Path,
    name: str,
    certificate: x509.Certificate,
    now: datetime,
    *,
    kind: str = "issue",
    origin: Origin = OWN,
) -> None:
    """Log a certificate before it is put into use; the caller holds the lock.

    Args:
        directory: the PKI's.
        name: the entry's name.
        certificate: the new certificate.
        now: when it is issued, which is no proof.
        kind: "issue", "renew", "certify" (a CA elsewhere, or a root by another), "accept" (a
            certificate that a root elsewhere has signed) or "import".
        origin: who wanted it.

    Raises:
        Failed: `io.*`; `io.format`: the log ends in something else.
    """
    facts = {
        "name": name,
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial": serial_text(certificate.serial_number),
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
        "ends": certificate.not_valid_after_utc.isoformat(),
        "request": origin.request,
    }
    _append(directory, kind, now, facts, origin)


def log_revocation(
    directory: Path, name: str, entry: x509.RevokedCertificate, reason: str, now: datetime
) -> None:
    """Log a revocation before the CRL with it is written; the caller holds the lock.

    Args:
        directory: the PKI's.
        name: what the user named: an entry, or a serial number.
        entry: the CRL's entry.
        reason: see `fwsign.pki.revocation.REASONS`.
        now: when it is revoked.

    Raises:
        Failed: as `log_certificate`.
    """
    facts = {"name": name, "serial": serial_text(entry.serial_number), "reason": reason}
    _append(directory, "revoke", now, facts)


def log_crl(
    directory: Path, name: str, crl: x509.CertificateRevocationList, number: int | None
) -> None:
    """Log a CRL before it is written; the caller holds the lock; raise like `log_certificate`."""
    facts = {
        "name": name,
        # A CRL may have a number of 20 octets, and JSON's numbers have 53 bits.
        "number": None if number is None else str(number),
        "revoked": len(crl),
        "sha256": crl.fingerprint(hashes.SHA256()).hex(),
    }
    _append(directory, "crl", crl.last_update_utc, facts)


def read_log(directory: Path) -> Iterator[Receipt]:
    """Judge and yield the lines of a directory's log, the oldest first; none if there is no log.

    Raises:
        Malformed, Tampered: `malformed.receipt`, `tampered.receipt-chain`.
        Failed: `io.*`.
    """
    return judge_lines(_lines(directory))


def verify_log(directory: Path, head: str | None = None) -> Summary:
    """Judge the whole log of a directory.

    Args:
        directory: the PKI's.
        head: a digest that was exported before, in hex; its line must still be there.

    Raises:
        Tampered: `tampered.receipt-head`, and as `read_log`.
    """
    return verify_lines(_lines(directory), head=head)


def judged_log(
    directory: Path, head: str | None = None
) -> tuple[Summary, Iterator[dict[str, Any]]]:
    """Judge the whole log once; return the verdict and the contents of its lines.

    Args and errors as for `verify_log`.
    """
    lines = list(_lines(directory))
    whole = verify_lines(lines, head=head)
    return whole, (parse_line(line, number) for number, line in enumerate(lines, 1))


def _lines(directory: Path) -> Iterator[str]:
    path = directory / FILE
    return read_lines(path) if os.path.lexists(path) else iter(())


def user() -> str:
    """Return the user and machine of this process, as the operating system names them."""
    if os.name == "nt":
        import getpass

        return f"{getpass.getuser()}@{os.environ.get('COMPUTERNAME', '')}"
    import pwd

    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user is often in no list
        name = f"uid {os.getuid()}"
    behind = os.environ.get("SUDO_USER")
    return f"{name}@{os.uname().nodename}" + (f" for {behind}" if behind else "")


def _append(
    directory: Path, kind: str, now: datetime, facts: dict[str, Any], origin: Origin = OWN
) -> None:
    line = {
        "kind": kind,
        "clock": now.isoformat(),
        "who": origin.who or user(),
        **facts,
        "fwsign": __version__,
    }
    append(directory / FILE, line)
