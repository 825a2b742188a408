# SPDX-License-Identifier: Apache-2.0
"""Read a PKI directory; this module has all that signing needs, and is quick to import.

The layout is that of easy-rsa: `ca.crt`, `private/ca.key`, `issued/NAME.crt`,
`private/NAME.key`, and `crl/NAME.pem` for each CA. `ca` is the root, `issuing` the CA below it,
every other name a leaf. A certificate makes an entry; a key alone does not.

A directory with `index.txt` is flat: easy-rsa also works on it. There `ca` issues leaves itself,
its CRL is `crl.pem`, and certificates that index.txt calls revoked are revoked.

`issuing` is for signers and time stampers, `issuing-tls` for TLS servers and clients. Without the
latter, `issuing` is for all.

In time there may be more: the roots `standby` and `ca-2` beside `ca.crt`, the issuing CAs
`issuing-2` and `issuing-tls-2`, and `issued/ca-2-by-ca.crt`, the root `ca-2` certified by `ca`. A
renewed certificate stays as `certs_by_serial/SERIAL.pem`. Nothing is ever renamed, so that each
step of a change adds or replaces one file.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.errors import Failed
from fwsign.files import io_error, read_bytes
from fwsign.pki.index import parse_index, serial_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

_T = TypeVar("_T")

ROOT: Final = "ca"
INDEX: Final = "index.txt"
ISSUING: Final = "issuing"
ISSUING_TLS: Final = "issuing-tls"
TLS: Final = ("server", "client", "idevid")
"""The kinds whose keys make handshakes, and nothing that has to last."""
BUNDLE: Final = "crl/bundle.pem"
"""The CRLs of all CAs in one file, to ship."""
REQUESTS: Final = "reqs"
"""The directory of the requests of issuing CAs; easy-rsa uses the same place."""

CERTIFICATE_LIMIT: Final = 64 * 1024
"""Octets of a certificate's file; ML-DSA-87 takes 10 kB in PEM, and easy-rsa adds text."""
CRL_LIMIT: Final = 2 * 1024 * 1024
"""Octets of a CRL's file: in PEM, more than an envelope can carry."""

_ROOT_NAME = re.compile(r"(ca|standby)(?:-([1-9][0-9]{0,3}))?")
_ISSUING_NAME = re.compile(r"(issuing(?:-tls)?)(?:-([1-9][0-9]{0,3}))?")
_SERIAL = re.compile(r"(?:0x)?([0-9a-f]{1,40})", re.IGNORECASE)

_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""Errors of cryptography for a certificate or CRL that it cannot decode."""


def is_root(name: str) -> bool:
    """Tell whether a name is a root's: `ca`, `standby`, `ca-2` and so on."""
    return _ROOT_NAME.fullmatch(name) is not None


def is_issuing(name: str) -> bool:
    """Tell whether a name is an issuing CA's: `issuing`, `issuing-tls`, `issuing-2` and so on."""
    return _ISSUING_NAME.fullmatch(name) is not None


def line_of(name: str) -> str:
    """Return the first of the CAs that an issuing CA succeeds: `issuing` or `issuing-tls`."""
    match = _ISSUING_NAME.fullmatch(name)
    return match[1] if match else name


def request_path(directory: Path, name: str) -> Path:
    """Return the path of an issuing CA's request, in its directory whose root is elsewhere."""
    return directory / REQUESTS / f"{name}.csr"


def serial_of(text: str) -> int | None:
    """Return the serial number in a text, as `Pki.by_serial` takes it; None for other texts."""
    match = _SERIAL.fullmatch(text.replace(":", ""))
    return int(match[1], 16) if match else None


def next_name(first: str, taken: tuple[str, ...]) -> str:
    """Return the first free name of `first`, `first-2` and so on."""
    name, number = first, 1
    while name in taken:
        number += 1
        name = f"{first}-{number}"
    return name


class _Missing(Exception):
    """A file is not there; never leaves this module."""


class Pki:
    """A PKI directory, read only.

    The root is read once and the rest anew with each call, so that changes by other processes
    are seen. A certificate is checked against its issuer in the directory, so that the returned
    files belong together. The verifier decides whether it is still valid.

    Args:
        directory: the directory with `ca.crt`.

    Raises:
        Failed: `state.pki`: no `ca.crt` in it, or not a certificate; `io.*`.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        try:
            self.root = self._read_certificate(ROOT)
        except _Missing as error:
            raise Failed(
                "state.pki",
                f"{self.directory} is not a PKI: there is no ca.crt in it",
                expected="a directory with ca.crt",
                found="no ca.crt",
            ) from error

    @property
    def flat(self) -> bool:
        """Whether it has easy-rsa's layout: one CA, and index.txt with all its certificates."""
        return (self.directory / INDEX).is_file()

    def names(self) -> tuple[str, ...]:
        """Return the names of all entries but the roots, sorted.

        Raises:
            Failed: `state.pki`: there is no `issued`; `io.*`.
        """
        return tuple(sorted(_certificates_in(self.directory / "issued")))

    def roots(self) -> tuple[str, ...]:
        """Return the names of the roots, `ca` first."""
        return tuple(_in_order(_ROOT_NAME, _certificates_in(self.directory)))

    def authorities(self) -> tuple[str, ...]:
        """Return the names of all CAs, roots first; raise like `names`."""
        if self.flat:
            return (ROOT,)
        return (*self.roots(), *self.issuers_in_line())

    def issuers_in_line(self, line: str | None = None) -> tuple[str, ...]:
        """Return the names of the issuing CAs, or of one line of them, in their order.

        Raises:
            Failed: `state.pki`: a certificate cannot be read; `io.*`.
        """
        found = _in_order(_ISSUING_NAME, self.names())
        mine = [name for name in found if line in (None, line_of(name))]
        # A leaf may have this name: it was not reserved at first.
        return tuple(one for one in mine if line_of(one) == ISSUING or is_ca(self.certificate(one)))

    def issuing(self, kind: str = "signer") -> str:
        """Return the name of the CA that issues now for a kind: the newest whose key is here.

        Args:
            kind: one of `fwsign.pki.leaves.KINDS`.

        Raises:
            Failed: `state.pki`: there is none; `io.*`.
        """
        if self.flat:
            return ROOT
        found = self.issuers_in_line(ISSUING_TLS) if kind in TLS else ()
        found = found or self.issuers_in_line(ISSUING)
        if not found:
            what = f" for a {kind}" if self.issuers_in_line() else ""
            raise _contradiction(
                f"there is no issuing CA{what} in {self.directory}", "issued/issuing.crt", "none"
            )
        here = [name for name in found if self.key_path(name).exists()]
        return (here or found)[-1]

    def in_use(self) -> tuple[str, ...]:
        """Return the names of the CAs that issue now, for signers first; none in a root alone."""
        kinds = ("signer", "client") if self.flat or self.issuers_in_line(ISSUING) else ("client",)
        if not self.flat and not self.issuers_in_line():
            return ()
        return tuple(dict.fromkeys(map(self.issuing, kinds)))

    def certificate_path(self, name: str) -> Path:
        """Return the path of an entry's certificate."""
        return self.directory / (f"{name}.crt" if is_root(name) else f"issued/{name}.crt")

    def old_path(self, serial: int) -> Path:
        """Return the path of an old, renewed certificate."""
        return self.directory / f"certs_by_serial/{serial_text(serial)}.pem"

    def key_path(self, name: str) -> Path:
        """Return the path of an entry's private key, which may be elsewhere."""
        plain = self.directory / f"private/{name}.key"
        if not self.certificate_path(name).exists():
            return plain
        try:
            renewed = self.renewed_key_path(name, self.certificate(name).serial_number)
            return renewed if renewed.exists() else plain
        except (Failed, OSError):  # no entry, or not yet
            return plain

    def renewed_key_path(self, name: str, serial: int) -> Path:
        """Return the path of a renewed certificate's key before it replaces the old one.

        Args:
            name: the entry.
            serial: the serial number of the renewed certificate.
        """
        return self.directory / f"private/{name}.key.{serial:X}"

    def crl_path(self, name: str) -> Path:
        """Return the path of a CA's CRL."""
        if name == ROOT and self.flat:
            return self.directory / "crl.pem"
        return self.directory / f"crl/{name}.pem"

    def certificate(self, name: str) -> x509.Certificate:
        """Return the certificate of an entry.

        Raises:
            Failed: `state.pki`: no such entry, or its file is not a certificate; `io.*`.
        """
        if name == ROOT:
            return self.root
        if "/" in name or "\\" in name or name.startswith("."):  # a name, never a path
            raise self._no_entry(name)
        try:
            return self._read_certificate(name)
        except _Missing as error:
            raise self._no_entry(name) from error

    def by_serial(self, text: str) -> x509.Certificate | None:
        """Return the certificate with a serial number, renewed ones and roots included.

        Args:
            text: hexadecimal, with or without colons and 0x; anything else finds nothing.

        Raises:
            Failed: `state.pki`: a file is not a certificate; `io.*`.
        """
        serial = serial_of(text)
        if serial is None:
            return None
        for name in (*self.names(), *self.roots()):
            if (found := self.certificate(name)).serial_number == serial:
                return found
        moved = f"revoked/certs_by_serial/{serial_text(serial)}.crt"  # by easy-rsa
        for path in (self.old_path(serial), self.directory / moved):
            with contextlib.suppress(_Missing):
                return _parse(_load_certificate, path, CERTIFICATE_LIMIT, "certificate")
        return None

    def held(self) -> Iterator[x509.Certificate]:
        """Yield all certificates that can be read, renewed ones included, and roots left out."""
        old = (self.directory / "certs_by_serial").glob("*.pem")
        for path in (*map(self.certificate_path, self.names()), *sorted(old)):
            with contextlib.suppress(Failed, _Missing):  # what cannot be read is no reason to stop
                yield _parse(_load_certificate, path, CERTIFICATE_LIMIT, "certificate")

    def crl(self, name: str) -> x509.CertificateRevocationList:
        """Return the last CRL of a CA.

        Raises:
            Failed: `state.pki`: missing, not a CRL, or not issued by that CA; `io.*`.
        """
        path = self.crl_path(name)
        try:
            crl = _parse(_load_crl, path, CRL_LIMIT, "CRL")
        except _Missing as error:
            here = self.key_path(name).exists() or (self.directory / BUNDLE).exists()
            hint = "make one: fwsign pki crl" if self.flat else "fwsign pki crl restores it"
            if not here:
                hint = f'it is where the key of the CA "{name}" is'
            raise _contradiction(f"{path} is missing", "a CRL", "nothing", hint) from error
        issuer = self.certificate(name)
        if crl.issuer != issuer.subject or not crl_is_signed(crl, issuer):
            raise _contradiction(
                f"{path} is not a CRL of {self.certificate_path(name)}",
                f'signed by "{common_name(issuer)}"',
                f'"{crl.issuer.rfc4514_string()}"',
            )
        return crl

    def issuer_of(self, certificate: x509.Certificate) -> str:
        """Return the name of the CA here that issued a certificate; the root issued itself.

        Raises:
            Failed: `state.pki`: none of them did; `io.*`.
        """
        authorities = self.authorities()
        found = issuer_among(certificate, ((one, self.certificate(one)) for one in authorities))
        if found is not None:
            return found
        below = self.flat and certificate == self.root
        raise _contradiction(
            f'no CA in {self.directory} issued "{common_name(certificate)}": '
            f'its issuer is "{certificate.issuer.rfc4514_string()}"',
            f"issued by {' or '.join(authorities)}",
            certificate.issuer.rfc4514_string(),
            f"a CA below a root: fwsign pki import {self.directory}" if below else None,
        )

    def issuers(self, name: str, *, at: datetime | None = None) -> tuple[str, ...]:
        """Return the names of the CAs above an entry, nearest first; the last is a root.

        If an older root certified a newer one, both are in the list, so that a device which pins
        either of them finds it in the path.

        Args:
            name: the entry.
            at: leave out older roots that lead no device to the newer one at this aware time any
                more, because the certificate between them has ended or the older CRL is stale.

        Raises:
            Failed: `state.pki`, `io.*`.
        """
        return tuple(issuer for _, issuer in self._climb(name, at))

    def anchor(self, name: str, *, at: datetime | None = None) -> x509.Certificate:
        """Return the root that ends the path of an entry.

        Args: as `issuers`.

        Raises: as `path`.
        """
        return self.certificate((name, *self.issuers(name, at=at))[-1])

    def path(self, name: str, *, at: datetime | None = None) -> tuple[bytes, ...]:
        """Return the certificates from an entry up to, and without, the root, as DER.

        Args: as `issuers`.

        Raises:
            Failed: `state.pki`: an entry is missing or does not belong here; `io.*`.
        """
        return tuple(one.public_bytes(Encoding.DER) for one, _ in self._climb(name, at))

    def crls(self, name: str, *, at: datetime | None = None) -> tuple[bytes, ...]:
        """Return the CRLs of the CAs above an entry, nearest first, as DER.

        Args: as `issuers`.

        Raises: as `path`.
        """
        return tuple(self.crl(ca).public_bytes(Encoding.DER) for ca in self.issuers(name, at=at))

    def revocation(self, name: str) -> x509.RevokedCertificate | None:
        """Return an entry's revocation on its issuer's CRL; raise like `path`."""
        return self.revocation_of(self.certificate(name))

    def revocation_of(self, certificate: x509.Certificate) -> x509.RevokedCertificate | None:
        """Return the revocation of a certificate, also a renewed one; raise like `path`."""
        serial = certificate.serial_number
        crl = self.crl(self.issuer_of(certificate))
        if (entry := crl.get_revoked_certificate_by_serial_number(serial)) is not None:
            return entry
        return next((one for one in self.noted() if one.serial_number == serial), None)

    def noted(self) -> tuple[x509.RevokedCertificate, ...]:
        """Return the revocations in index.txt, on the CRL or not yet on it; raise like `crl`."""
        return tuple(parse_index(self.directory / INDEX)) if self.flat else ()

    def _climb(self, name: str, at: datetime | None) -> Iterator[tuple[x509.Certificate, str]]:
        """Yield each certificate from an entry up, and the name of the CA that issued it."""
        seen = [name]
        while True:
            certificate = self._crossed(name, at) if is_root(name) else self.certificate(name)
            if certificate is None:
                return
            name = self.issuer_of(certificate)
            if name in seen:
                raise _contradiction(
                    f'the CA "{name}" in {self.directory} is above itself',
                    "a path to the root",
                    "a circle",
                )
            seen.append(name)
            yield certificate, name

    def _crossed(self, root: str, at: datetime | None) -> x509.Certificate | None:
        """Return a root's certificate by an older root, unless it was revoked, or leads nowhere."""
        if root == ROOT:
            return None
        for name in self.names():
            if name.startswith(f"{root}-by-") and self.revocation(name) is None:
                certificate = self.certificate(name)
                same = certificate.public_key() == self.certificate(root).public_key()
                if same and (at is None or self._leads(certificate, at)):
                    return certificate
        return None

    def _leads(self, crossed: x509.Certificate, at: datetime) -> bool:
        fresh = self.crl(self.issuer_of(crossed)).next_update_utc
        return at <= crossed.not_valid_after_utc and (fresh is None or at <= fresh)

    def _read_certificate(self, name: str) -> x509.Certificate:
        path = self.certificate_path(name)
        return _parse(_load_certificate, path, CERTIFICATE_LIMIT, "certificate")

    def _no_entry(self, name: str) -> Failed:
        there = ", ".join(self.names()) or "none"
        return Failed(
            "state.pki",
            f'no certificate "{name}" in {self.directory}, there are: {there}',
            expected=there,
            found=name,
        )


def _certificates_in(directory: Path) -> list[str]:
    try:
        found = os.listdir(directory)  # noqa: PTH208 - an object for each of 10,000 files is slow
    except FileNotFoundError as error:
        raise _contradiction(f"{directory} is missing", "a directory", "nothing") from error
    except OSError as error:
        raise io_error(error, directory) from error
    # Another process is writing the files whose names begin with a dot.
    return [
        name.removesuffix(".crt")
        for name in found
        if name.endswith(".crt") and not name.startswith(".")
    ]


def _in_order(pattern: re.Pattern[str], names: Iterable[str]) -> list[str]:
    """Return the names that a pattern matches: by their word, then by their number."""
    found = filter(None, map(pattern.fullmatch, names))
    return [match[0] for match in sorted(found, key=lambda match: (match[1], int(match[2] or 1)))]


def is_ca(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate says that it is a CA's."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def issuer_among(
    certificate: x509.Certificate, authorities: Iterable[tuple[str, x509.Certificate]]
) -> str | None:
    """Return the name of the first CA that issued a certificate; None if none of them did."""
    for name, authority in authorities:
        # Another name, another kind of key, or another key.
        with contextlib.suppress(*_UNREADABLE, InvalidSignature):
            certificate.verify_directly_issued_by(authority)
            return name
    return None


def common_name(certificate: x509.Certificate) -> str:
    """Return the CN of a certificate's subject, or the whole subject if it has no CN."""
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string()


def _parse(load: Callable[[bytes], _T], path: Path, limit: int, kind: str) -> _T:
    try:
        return load(read_bytes(path, limit))
    except _UNREADABLE as error:
        raise _contradiction(
            f"{path} is not a {kind} in PEM", f"PEM {kind}", "something else"
        ) from error
    except Failed as error:
        if error.code in {"io.missing", "io.directory"}:
            raise _Missing from error
        raise


def _load_certificate(pem: bytes) -> x509.Certificate:
    certificate = x509.load_pem_x509_certificate(pem)
    # These are decoded on first use; a mistake in them must show here.
    _ = certificate.subject, certificate.issuer, certificate.extensions
    return certificate


def _load_crl(pem: bytes) -> x509.CertificateRevocationList:
    crl = x509.load_pem_x509_crl(pem)
    _ = crl.issuer, crl.extensions
    return crl


def crl_is_signed(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    """Tell whether the key of a CA has signed a CRL."""
    try:
        return crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except _UNREADABLE:  # a kind of key that signs no CRL
        return False


def _contradiction(message: str, expected: str, found: str, hint: str | None = None) -> Failed:
    return Failed("state.pki", message, expected=expected, found=found, hint=hint)
