# SPDX-License-Identifier: Apache-2.0
"""The approval log: every signature that was made, by whom, when, with which key, from which run.

It is a file of receipts without signatures (see `fwsign.receipts`): each line names the digest of
the line before, so that a line that was changed or removed shows, and a head kept elsewhere shows
whether the end is there. The line comes before the signature is in use: a killed run leaves at most
a line for a certificate or an envelope that was never handed out.

Lines about certificates and CRLs are in the directory of their PKI. Lines about releases, trust
updates and native signatures are in the same file, or in one that the caller names.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

from cryptography.hazmat.primitives import hashes

from fwsign import __version__
from fwsign.errors import FwsignError, Tampered
from fwsign.pki.ci_run import ci_run
from fwsign.pki.directory import Pki
from fwsign.pki.index import serial_text
from fwsign.receipts.chain import judge_lines, parse_line, pruned_before, verify_lines
from fwsign.receipts.file import append_all, read_whole_lines
from fwsign.receipts.fit import fit
from fwsign.x509.certificate import key_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from cryptography import x509

    from fwsign.receipts.chain import Receipt, Summary

FILE: Final = "log.jsonl"
Kind: TypeAlias = Literal[
    "release", "cosign", "attach", "trust", "channel", "permit", "native", "file"
]
"""What was signed: a release; one that others signed before; one whose signature was made
elsewhere; a list of anchors; a channel; a permit; an image, for the ROM or boot loader; any other
file."""
ELSEWHERE: Final = "elsewhere"
"""The place of a key that made a signature on another machine."""
_SIGNED_HERE: Final = ("issue", "renew", "certify")
"""The kinds of certificates that a key of the same PKI signs; others come from elsewhere."""


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


class Signature(NamedTuple):
    """A signature of a release, a trust update or an image.

    Args:
        kind: what was signed.
        name: the same for people: a file's name.
        sha256: the digest of what was signed, in hex: of a release or trust update that of its
            manifest, as devices and receipts name it; of an image that of the image.
        key: SHA-256 of the public key (SPKI), in hex.
        place: where the key is, without any secret: `HeldKey.place`, or `ELSEWHERE`.
        facts: more about it, such as product and version; texts, numbers and lists.
    """

    kind: Kind
    name: str
    sha256: str
    key: str
    place: str
    facts: Mapping[str, Any] = {}


def log_signatures(
    file: Path, signatures: Iterable[Signature], now: datetime, *, origin: Origin = OWN
) -> None:
    """Log signatures before they are put into use, in their order, with one sync for all.

    Other processes that write to the same log wait; no lock of the caller is needed.

    Args:
        file: the log, made if there is none: `FILE` in the directory of a PKI, or another.
        signatures: the signatures that were made.
        now: when they were made, which is no proof.
        origin: who wanted them.

    Raises:
        Failed: `io.*`; `io.format`: the file ends in something else.
    """
    lines = (
        (
            one.kind,
            {
                **one.facts,
                "name": one.name,
                "sha256": one.sha256,
                "key": one.key,
                "place": one.place,
            },
        )
        for one in signatures
    )
    _append(file, lines, now, origin)


def log_signature(file: Path, signature: Signature, now: datetime, *, origin: Origin = OWN) -> None:
    """Log one signature; see `log_signatures`."""
    log_signatures(file, [signature], now, origin=origin)


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
        **(_issuer_key(directory, certificate) if kind in _SIGNED_HERE else {}),
    }
    _append(directory / FILE, [(kind, facts)], now, origin)


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
    _append(directory / FILE, [("revoke", facts)], now)


def log_crl(
    directory: Path,
    name: str,
    crl: x509.CertificateRevocationList,
    number: int | None,
    issuer: x509.Certificate | None = None,
) -> None:
    """Log a CRL before it is written; the caller holds the lock; raise like `log_certificate`.

    Args:
        directory: the PKI's.
        name: the CA's name.
        crl: the new CRL.
        number: its number, None if it has none.
        issuer: the CA's certificate, where it is not written yet.
    """
    facts = {
        "name": name,
        # A CRL may have a number of 20 octets, and JSON's numbers have 53 bits.
        "number": None if number is None else str(number),
        "revoked": len(crl),
        "sha256": crl.fingerprint(hashes.SHA256()).hex(),
        **_key(directory, name, issuer),
    }
    _append(directory / FILE, [("crl", facts)], crl.last_update_utc)


def _issuer_key(directory: Path, certificate: x509.Certificate) -> dict[str, str]:
    """Return which key signed a certificate and where it is; nothing if the CA is not here."""
    with contextlib.suppress(FwsignError):
        return _key(directory, Pki(directory).issuer_of(certificate))
    return {}


def _key(directory: Path, name: str, certificate: x509.Certificate | None = None) -> dict[str, str]:
    """Return which key an entry of a PKI has, and where it is: a URI, or a path in the PKI.

    Args:
        directory: the PKI's.
        name: the entry's name.
        certificate: its certificate; None for the one that is written already.
    """
    with contextlib.suppress(FwsignError):
        pki = Pki(directory)
        found = key_digest((certificate or pki.certificate(name)).public_key())
        return {"key": found, "place": pki.key_uri(name).removeprefix(f"{directory}{os.sep}")}
    return {}


def read_log(place: Path) -> Iterator[Receipt]:
    """Judge and yield the lines of a log, the oldest first; none if there is no log.

    Args:
        place: the log's file, or the directory of a PKI.

    Raises:
        Malformed, Tampered: `malformed.receipt`, `tampered.receipt-chain`.
        Failed: `io.*`.
    """
    return judge_lines(_lines(place))


def verify_log(place: Path, head: str | None = None) -> Summary:
    """Judge a whole log.

    Args:
        place: as for `read_log`.
        head: a digest that was exported before, in hex; its line must still be there.

    Raises:
        Tampered: `tampered.receipt-head`, and as `read_log`.
    """
    return verify_lines(_lines(place), head=head)


def judged_log(place: Path, head: str | None = None) -> tuple[Summary, Iterator[dict[str, Any]]]:
    """Judge a whole log once; return the verdict and the contents of its lines.

    Args and errors as for `verify_log`.
    """
    lines = list(_lines(place))
    whole = verify_lines(lines, head=head)
    return whole, (parse_line(line, number) for number, line in enumerate(lines, 1))


def _lines(place: Path) -> Iterator[str]:
    """Yield the lines of a log; a part of a line that a killed writer left is none.

    A record of pruned lines, with which receipts may begin, is refused: it could stand for the
    line of an exported head, and so for all that was taken out before it.
    """
    path = place / FILE if place.is_dir() else place
    for number, line in enumerate(read_whole_lines(path) if os.path.lexists(path) else (), 1):
        if number == 1 and (gone := pruned_before(line)) is not None:
            raise Tampered(
                "tampered.receipt-chain",
                f"receipt 1 says that {gone} were pruned before it, an approval log is never "
                "pruned",
                expected="the first line of the log",
                found=f"a record of {gone} pruned lines",
            )
        yield line


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
    file: Path,
    lines: Iterable[tuple[str, Mapping[str, Any]]],
    now: datetime,
    origin: Origin = OWN,
) -> None:
    """Add lines, each with its kind; every text in them is cut to a size that fits a line."""
    same: dict[str, Any] = {"who": origin.who or user(), "clock": now.isoformat()}
    if (run := ci_run()) is not None:
        same["run"] = run
    same["fwsign"] = __version__
    append_all(file, [fit({**facts, "kind": kind, **same}) for kind, facts in lines])
