# SPDX-License-Identifier: Apache-2.0
"""Export the issuing CA as a new PKI for easy-rsa, which then continues it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.errors import Failed
from fwsign.files import exclusive, read_bytes, write_atomic
from fwsign.format.library import PARSE_ERRORS
from fwsign.keys import is_file, key_file
from fwsign.keys.file import KEY_FILE_LIMIT
from fwsign.pki import crls
from fwsign.pki.certificates import CERTIFICATE_LIMIT
from fwsign.pki.directory import Pki
from fwsign.pki.easyrsa.read import issued_by
from fwsign.pki.files import build_beside, write_certificate
from fwsign.pki.flat import make_flat
from fwsign.pki.index import line, lost_line, serial_text

if TYPE_CHECKING:
    import os

ABOVE: Final = "above.pem"
"""The certificates and CRLs of the CAs above; easy-rsa has no place for them."""


class Exported(NamedTuple):
    """The exported names: the CA's and its entries'; `left_out` belong to other CAs."""

    ca: str
    names: tuple[str, ...]
    left_out: tuple[str, ...]


class _Content(NamedTuple):
    """A CA and its certificates; the old ones were renewed since."""

    ca: str
    names: tuple[str, ...]
    old: tuple[x509.Certificate, ...]
    crl: x509.CertificateRevocationList


def export(
    pki_dir: str | os.PathLike[str], target: str | os.PathLike[str], ca: str | None = None
) -> Exported:
    """Make an easy-rsa PKI from an issuing CA and all its certificates.

    It is built beside `target` and then renamed. Keys are copied as they are, encrypted or not.

    Args:
        pki_dir: the PKI; it is not changed.
        target: must not exist, or be empty.
        ca: the issuing CA's name; None: the one that issues signers now.

    Raises:
        Failed: `state.pki-exists`: there is something in `target`; `state.pki`: the PKI is one
            for easy-rsa already, or has no such CA; `key.unsupported`: a key stays elsewhere;
            `io.missing`: the CA's key is not here; `io.*`.
    """
    pki = Pki(pki_dir)
    if pki.flat:
        raise Failed(
            "state.pki",
            f"{pki.directory} is laid out for easy-rsa already: copy it",
            expected="a PKI with roots and issuing CAs",
            found=pki.directory,
        )
    with exclusive(pki.directory):
        ca = pki.issuing() if ca is None else _known(pki, ca)
        own = tuple(name for name in pki.names() if pki.issuer_of(pki.certificate(name)) == ca)
        _refuse_held(pki, ca)
        content = _Content(ca, own, _renewed(pki, own, ca), pki.crl(ca))
        build_beside(target, lambda scratch: _build(scratch, pki, content))
    return Exported(ca, own, tuple(name for name in pki.names() if name not in (*own, ca)))


def _known(pki: Pki, name: str) -> str:
    known = pki.issuers_in_line()
    if name in known:
        return name
    raise Failed(
        "state.pki",
        f'"{name}" is not an issuing CA of {pki.directory}, there are: {", ".join(known)}',
        expected=" or ".join(known),
        found=name,
    )


def _refuse_held(pki: Pki, name: str) -> None:
    """Refuse a key that cannot be copied, since it stays in its token or service."""
    if is_held(pki, name):
        uri = pki.key_uri(name)
        raise Failed(
            "key.unsupported",
            f'the key of "{name}" stays where it is, at {uri}: easy-rsa wants it in a file',
            expected="a key in a file",
            found=uri,
            hint="go on with this PKI here, where fwsign pki uses the key",
        )


def _renewed(pki: Pki, names: tuple[str, ...], ca: str) -> tuple[x509.Certificate, ...]:
    """Return the CA's certificates that were renewed since."""
    folder = pki.directory / "certs_by_serial"
    paths = sorted(path for path in folder.glob("*.pem") if not path.name.startswith("."))
    try:
        found = [
            x509.load_pem_x509_certificate(read_bytes(one, CERTIFICATE_LIMIT)) for one in paths
        ]
    except PARSE_ERRORS as error:
        raise Failed("state.pki", f"{folder} has a file that is no certificate: {error}") from error
    issuer = pki.certificate(ca)
    # A killed renewal leaves a copy of a certificate that is still in use.
    current = [pki.certificate(name) for name in names]
    return tuple(one for one in found if one not in current and issued_by(one, issuer))


def _build(directory: Path, pki: Pki, content: _Content) -> None:
    revoked = {entry.serial_number: entry for entry in content.crl}
    current = {name: pki.certificate(name) for name in content.names}
    issued = {one.serial_number: one for one in (*content.old, *current.values())}
    issuer = pki.certificate(content.ca)
    lines = [line(one, revoked.get(serial)) for serial, one in issued.items()]
    end = issuer.not_valid_after_utc
    lines += [lost_line(entry, end) for serial, entry in revoked.items() if serial not in issued]
    make_flat(directory, "".join(f"{one}\n" for one in lines))
    write_certificate(directory / "ca.crt", issuer)
    _copy_key(_file(pki, content.ca), directory / "private/ca.key")
    for name, certificate in current.items():
        _place(directory, pki, name, certificate, gone=certificate.serial_number in revoked)
    for certificate in content.old:
        _place_old(directory, certificate, gone=certificate.serial_number in revoked)
    write_atomic(directory / "crl.pem", content.crl.public_bytes(Encoding.PEM))
    number = serial_text(crls.next_number(content.crl))
    write_atomic(directory / crls.CRL_NUMBER, f"{number}\n".encode(), overwrite=True)
    above = b"".join(
        pki.certificate(name).public_bytes(Encoding.PEM) + pki.crl(name).public_bytes(Encoding.PEM)
        for name in pki.issuers(content.ca)
    )
    write_atomic(directory / ABOVE, above)


def _place(
    directory: Path, pki: Pki, name: str, certificate: x509.Certificate, *, gone: bool
) -> None:
    """Write an entry to easy-rsa's place for it, which differs for revoked ones."""
    _place_old(directory, certificate, gone=gone)
    serial = serial_text(certificate.serial_number)
    if not gone:
        write_certificate(directory / f"issued/{name}.crt", certificate)
    if not is_held(pki, name) and (key := _file(pki, name)).exists():
        private = f"revoked/private_by_serial/{serial}.key" if gone else f"private/{name}.key"
        _copy_key(key, directory / private)


def _place_old(directory: Path, certificate: x509.Certificate, *, gone: bool) -> None:
    serial = serial_text(certificate.serial_number)
    place = f"revoked/certs_by_serial/{serial}.crt" if gone else f"certs_by_serial/{serial}.pem"
    write_certificate(directory / place, certificate)


def is_held(pki: Pki, name: str) -> bool:
    """Tell whether the key of an entry lives in a token or service."""
    return not is_file(pki.key_uri(name))


def _file(pki: Pki, name: str) -> Path:
    return Path(key_file(pki.key_uri(name)))


def _copy_key(source: Path, target: Path) -> None:
    write_atomic(target, read_bytes(source, KEY_FILE_LIMIT), mode=0o600)
