# SPDX-License-Identifier: Apache-2.0
"""Accept the certificates and CRLs of an offline root into the directory of issuing CAs.

`ca.crt` is written last and makes it a PKI; after a killed run, simply run the command again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.errors import Failed
from fwsign.files import exclusive, io_error, read_bytes, write_atomic
from fwsign.pki import crls, profiles
from fwsign.pki.certificates import common_name, is_ca
from fwsign.pki.directory import Pki
from fwsign.pki.entry_keys import open_private
from fwsign.pki.entry_names import (
    ISSUING,
    ISSUING_TLS,
    REQUESTS,
    ROOT,
    is_issuing,
    line_of,
    request_path,
)
from fwsign.pki.files import write_certificate
from fwsign.pki.key_uris import KeyPlaces
from fwsign.pki.log import log_certificate
from fwsign.pki.places import Places
from fwsign.pki.profiles import TLS_ONLY, Authority, usages_of
from fwsign.pki.renewal import Replacement, replace_certificate
from fwsign.pki.request import REQUEST_LIMIT, CertificateRequest, parse_request
from fwsign.pki.validity import refuse_early
from fwsign.x509.crl import newest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from fwsign.keys import Passphrase


class _Answer(NamedTuple):
    """The files that came back from the root; `issuing` has the CAs by their names here."""

    root: x509.Certificate
    issuing: dict[str, x509.Certificate]
    crl: x509.CertificateRevocationList | None


def accept(
    directory: str | os.PathLike[str],
    blobs: Sequence[bytes],
    *,
    passphrase: Passphrase,
    now: datetime,
) -> tuple[Path, ...]:
    """Accept files that the root has signed into a directory of issuing CAs; return the new paths.

    The first time these are the root, the certificate of a CA and the root's CRL, and the CA's key
    signs the CA's first CRL. Later, each file may come alone.

    Args:
        directory: a directory from `create_requests`.
        blobs: certificates and CRLs, in DER.
        passphrase: called if the key of an issuing CA is needed and encrypted.
        now: an aware time.

    Raises:
        Failed: `state.pki`: they do not belong together, or a file is missing or older than the
            present one; `state.clock`, `key.*`, `io.*`.
    """
    now = profiles.utc(now)
    place = Path(directory)
    requests = _requests(place)
    with exclusive(place):
        held = Pki(place) if os.path.lexists(place / "ca.crt") else None
        answer = _sort(blobs, requests, held)
        _check(answer, held)
        return _write(place, answer, held, passphrase, now)


def _requests(place: Path) -> dict[str, CertificateRequest]:
    """Return the requests here, by the names of their CAs."""
    try:
        names = sorted(path.stem for path in (place / REQUESTS).glob("*.csr"))
    except OSError as error:
        raise io_error(error, place / REQUESTS) from error
    paths = {name: request_path(place, name) for name in filter(is_issuing, names)}
    paths = paths or {ISSUING: request_path(place, ISSUING)}  # it is missing
    # An imported CA may have RSA-2048. Its root has judged that key, not we.
    return {
        name: parse_request(read_bytes(path, REQUEST_LIMIT), str(path), compat=True)
        for name, path in paths.items()
    }


def _sort(
    blobs: Sequence[bytes], requests: dict[str, CertificateRequest], held: Pki | None
) -> _Answer:
    root, crl = (held.root if held else None), None
    issuing: dict[str, x509.Certificate] = {}
    for blob in blobs:
        found = _parse(blob)
        name = _asked_by(found, requests)
        if isinstance(found, x509.CertificateRevocationList):
            if crl is not None and crl != found:
                raise _unfit("two different CRLs were given", "one CRL", "two")
            crl = found
        elif name is not None:
            issuing[name] = found
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


def _asked_by(
    found: x509.Certificate | x509.CertificateRevocationList,
    requests: dict[str, CertificateRequest],
) -> str | None:
    """Return the name of the CA here that asked for a certificate."""
    if isinstance(found, x509.CertificateRevocationList):
        return None
    key = found.public_key()
    return next((name for name, one in requests.items() if one.public_key == key), None)


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
    for name, one in issuing.items():
        _check_use(name, one)
        if not _issued_by(one, root):
            raise _unfit(
                f'the CA "{common_name(one)}" was not issued by "{common_name(root)}"',
                common_name(root),
                one.issuer.rfc4514_string(),
            )
    if crl is not None and not (
        crl.issuer == root.subject and crl.is_signature_valid(root.public_key())  # type: ignore[arg-type]
    ):
        raise _unfit(
            f'the CRL was not issued by "{common_name(root)}"',
            common_name(root),
            crl.issuer.rfc4514_string(),
        )
    if held is None and not issuing:
        raise _unfit("the CA's certificate is missing", "issuing.crt", "none")
    if held is None and crl is None:
        raise _unfit("the root's CRL is missing", "crl/ca.pem", "none")
    before = crls.last_crl(held, ROOT) if held else None
    if before is not None and crl is not None:
        _check_newer(crl, before)
    current = crl if crl is not None else before
    for one in issuing.values():
        if current is not None and current.get_revoked_certificate_by_serial_number(
            one.serial_number
        ):
            raise _unfit(f'the CA "{common_name(one)}" is revoked', "one that is not", "revoked")


def _check_use(name: str, certificate: x509.Certificate) -> None:
    """Refuse what is no CA, and a CA of signers in the place of one for TLS, or the reverse."""
    if not _may_certify(certificate):
        raise _unfit(
            f'the root has certified the key of "{name}", but not as a CA',
            "CA:TRUE, and the key usage certificate sign",
            "a certificate that cannot issue others",
        )
    usages = set(usages_of(certificate))
    is_tls = bool(usages) and usages <= set(TLS_ONLY.usages)
    if is_tls != (line_of(name) == ISSUING_TLS):
        uses = {True: "for TLS servers and clients", False: "for signers"}
        raise _unfit(
            f'the root has certified the CA "{name}" {uses[is_tls]}',
            f"a CA {uses[not is_tls]}",
            uses[is_tls],
        )


def _may_certify(certificate: x509.Certificate) -> bool:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:  # an imported CA's
        return is_ca(certificate)
    return is_ca(certificate) and usage.key_cert_sign


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
    for name, one in issuing.items():
        own = place / f"crl/{name}.pem"
        if not os.path.lexists(own):
            first = _first_crl(place, name, one, passphrase, now)
            crls.write_crl(Places(place), name, first, one)
            written.append(own)
    if crl is not None:
        path = place / "crl/ca.pem"
        write_atomic(path, crl.public_bytes(Encoding.PEM), overwrite=True)
        written.append(path)
    for name, one in issuing.items():
        path = place / f"issued/{name}.crt"
        if held is not None and name in held.names() and held.certificate(name) != one:
            change = Replacement(name, held.certificate(name), one, now, kind="accept")
            replace_certificate(held, change)
        else:
            log_certificate(place, name, one, now, kind="accept")
            write_certificate(path, one, overwrite=True)
        written.append(path)
    if held is None:
        log_certificate(place, ROOT, root, now, kind="accept")
        write_certificate(place / "ca.crt", root)
        written.append(place / "ca.crt")
    crls.write_bundle(Pki(place))
    return tuple(written)


def _first_crl(
    place: Path, name: str, issuing: x509.Certificate, passphrase: Passphrase, now: datetime
) -> bytes:
    refuse_early(issuing, now)
    uri = KeyPlaces(place).key_uri(name)
    key = open_private(uri, passphrase)
    if key.public_key() != issuing.public_key():
        request = request_path(place, name).relative_to(place)
        raise Failed("key.mismatch", f"{uri} is not the key of {request}")
    return crls.first_crl(name, Authority(issuing, key), now)


def _unfit(message: str, expected: object, found: object) -> Failed:
    return Failed("state.pki", message, expected=expected, found=found)
