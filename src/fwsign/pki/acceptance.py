# SPDX-License-Identifier: Apache-2.0
"""Accept the certificates and CRLs of an offline root into an issuing CA's directory.

`ca.crt` is written last and makes it a PKI; after a killed run, simply run the command again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.atomic import read_bytes, write_atomic
from fwsign.crl import newest
from fwsign.errors import Failed
from fwsign.keys.file import load_private_key
from fwsign.pki import crls, profiles
from fwsign.pki.directory import ISSUING, REQUEST, ROOT, Pki, common_name
from fwsign.pki.files import write_certificate
from fwsign.pki.lock import exclusive
from fwsign.pki.log import log_certificate, log_crl
from fwsign.pki.profiles import Authority
from fwsign.pki.renewal import Replacement, replace_certificate
from fwsign.pki.request import REQUEST_LIMIT, Request, parse_request
from fwsign.pki.term import refuse_early

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from fwsign.keys import Passphrase


class _Answer(NamedTuple):
    """The files that came back from the root."""

    root: x509.Certificate
    issuing: x509.Certificate | None
    crl: x509.CertificateRevocationList | None


def accept(
    directory: str | os.PathLike[str],
    blobs: Sequence[bytes],
    *,
    passphrase: Passphrase,
    now: datetime,
) -> tuple[Path, ...]:
    """Accept files that the root has signed into an issuing CA's directory; return the new paths.

    The first time these are the root, the CA's certificate and the root's CRL, and the CA's key
    signs the CA's first CRL. Later, each file may come alone.

    Args:
        directory: a directory from `create_request`.
        blobs: certificates and CRLs, in DER.
        passphrase: called if the key of the issuing CA is needed and encrypted.
        now: an aware time.

    Raises:
        Failed: `state.pki`: they do not belong together, or a file is missing or older than the
            present one; `state.clock`, `key.*`, `io.*`.
    """
    now = profiles.utc(now)
    place = Path(directory)
    path = place / REQUEST
    request = parse_request(read_bytes(path, REQUEST_LIMIT), str(path))
    with exclusive(place):
        held = Pki(place) if os.path.lexists(place / "ca.crt") else None
        answer = _sort(blobs, request, held)
        _check(answer, held)
        return _write(place, answer, held, passphrase, now)


def _sort(blobs: Sequence[bytes], request: Request, held: Pki | None) -> _Answer:
    root, issuing, crl = (held.root if held else None), None, None
    for blob in blobs:
        found = _parse(blob)
        if isinstance(found, x509.CertificateRevocationList):
            if crl is not None and crl != found:
                raise _unfit("two different CRLs were given", "one CRL", "two")
            crl = found
        elif found.public_key() == request.public_key:
            issuing = found
        elif found.issuer == found.subject and (root is None or root == found):
            root = found
        elif found.issuer == found.subject:
            raise _unfit(
                f'"{common_name(found)}" is not the root that is here',
                "the root in ca.crt",
                "another",
            )
        else:
            raise _unfit(
                f'"{common_name(found)}" is neither the root nor the CA of the request',
                "the key of the request",
                "another key",
            )
    if root is None:
        raise _unfit("the root's certificate is missing", "ca.crt", "none")
    return _Answer(root, issuing, crl)


def _parse(blob: bytes) -> x509.Certificate | x509.CertificateRevocationList:
    try:
        return x509.load_der_x509_certificate(blob)
    except ValueError:
        pass
    try:
        return x509.load_der_x509_crl(blob)
    except ValueError:
        raise _unfit(
            "neither a certificate nor a CRL", "what the root has signed", "else"
        ) from None


def _check(answer: _Answer, held: Pki | None) -> None:
    """Refuse files that do not belong together, are incomplete, or older than the present ones."""
    root, issuing, crl = answer
    if not _issued_by(root, root):
        raise _unfit(f'"{common_name(root)}" did not sign itself', "a root", "a damaged one")
    if issuing is not None and not _issued_by(issuing, root):
        raise _unfit(
            f'the CA "{common_name(issuing)}" was not issued by "{common_name(root)}"',
            common_name(root),
            issuing.issuer.rfc4514_string(),
        )
    if crl is not None and not (
        crl.issuer == root.subject and crl.is_signature_valid(root.public_key())  # type: ignore[arg-type]
    ):
        raise _unfit(
            f'the CRL was not issued by "{common_name(root)}"',
            common_name(root),
            crl.issuer.rfc4514_string(),
        )
    if held is None and issuing is None:
        raise _unfit("the CA's certificate is missing", "issuing.crt", "none")
    if held is None and crl is None:
        raise _unfit("the root's CRL is missing", "crl/ca.pem", "none")
    before = crls.last_crl(held, ROOT) if held else None
    if before is not None and crl is not None:
        _check_newer(crl, before)
    current = crl if crl is not None else before
    if (
        issuing is not None
        and current is not None
        and current.get_revoked_certificate_by_serial_number(issuing.serial_number)
    ):
        raise _unfit(f'the CA "{common_name(issuing)}" is revoked', "one that is not", "revoked")


def _check_newer(crl: x509.CertificateRevocationList, held: x509.CertificateRevocationList) -> None:
    """Refuse a CRL that does not replace the present one: it may lack revocations of that."""
    given, here = crls.Ranked(crl), crls.Ranked(held)
    there = newest((given, here))
    if crl == held or there == (given,):
        return
    found, expected = _rank(given), _rank(here)
    if there == (here,):
        words = f"the CRL is older than the one here: {found}, not after {expected}"
    else:
        words = f"the CRL and the one here differ, and both have {found}"
    raise _unfit(words, f"a CRL after {expected}", found)


def _rank(crl: crls.Ranked) -> str:
    """Say what orders a CRL: its number, or the time of one that has none."""
    if crl.number is not None:
        return f"number {crl.number}"
    return f"no number, time {crl.this_update:%Y-%m-%d %H:%M:%S}"


def _issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _write(
    place: Path, answer: _Answer, held: Pki | None, passphrase: Passphrase, now: datetime
) -> tuple[Path, ...]:
    """Write the new files: first all that a PKI needs, then `ca.crt`, then the bundle."""
    root, issuing, crl = answer
    written = []
    own = place / "crl/issuing.pem"
    if issuing is not None and not os.path.lexists(own):
        refuse_early(issuing, now)
        key = load_private_key(place / "private/issuing.key", passphrase)
        if key.public_key() != issuing.public_key():
            raise Failed("key.mismatch", f"{place}/private/issuing.key is not the key of {REQUEST}")
        first = crls.first_crl(ISSUING, Authority(issuing, key), now)
        log_crl(place, ISSUING, x509.load_pem_x509_crl(first), int(now.timestamp()))
        write_atomic(own, first)
        written.append(own)
    if crl is not None:
        path = place / "crl/ca.pem"
        write_atomic(path, crl.public_bytes(Encoding.PEM), overwrite=True)
        written.append(path)
    if issuing is not None:
        path = place / "issued/issuing.crt"
        if held is not None and (old := held.certificate(ISSUING)) != issuing:
            change = Replacement(ISSUING, old, issuing, now, kind="accept")
            replace_certificate(held, change)
        else:
            log_certificate(place, ISSUING, issuing, now, kind="accept")
            write_certificate(path, issuing, overwrite=True)
        written.append(path)
    if held is None:
        log_certificate(place, ROOT, root, now, kind="accept")
        write_certificate(place / "ca.crt", root)
        written.append(place / "ca.crt")
    crls.write_bundle(Pki(place))
    return tuple(written)


def _unfit(message: str, expected: object, found: object) -> Failed:
    return Failed("state.pki", message, expected=expected, found=found)
