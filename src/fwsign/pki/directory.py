# SPDX-License-Identifier: Apache-2.0
"""Read a PKI directory; signing needs no more of `fwsign.pki`, and this is quick to import."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.errors import Failed
from fwsign.files import io_error
from fwsign.format.library import ML_DSA, require
from fwsign.pki.certificates import (
    MissingFile,
    common_name,
    crl_is_signed,
    is_ca,
    issuer_among,
    read_certificate,
    read_crl,
)
from fwsign.pki.entry_names import (
    ISSUING,
    ISSUING_TLS,
    ROOT,
    TLS,
    is_root,
    issuing_in,
    line_of,
    roots_in,
)
from fwsign.pki.index import parse_index, serial_of, serial_text
from fwsign.pki.key_uris import KeyPlaces
from fwsign.pki.places import BUNDLE, INDEX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from cryptography import x509


class Pki(KeyPlaces):
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
        require(ML_DSA, "a PKI")
        super().__init__(directory)
        try:
            self.root = self._read_certificate(ROOT)
        except MissingFile as error:
            raise Failed(
                "state.pki",
                f"{self.directory} is not a PKI: there is no ca.crt in it",
                expected="a directory with ca.crt",
                found="no ca.crt",
            ) from error

    def names(self) -> tuple[str, ...]:
        """Return the names of all entries but the roots, sorted.

        Raises:
            Failed: `state.pki`: there is no `issued`; `io.*`.
        """
        return tuple(sorted(_certificates_in(self.directory / "issued")))

    def roots(self) -> tuple[str, ...]:
        """Return the names of the roots, `ca` first."""
        return tuple(roots_in(_certificates_in(self.directory)))

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
        found = issuing_in(self.names())
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
        here = [name for name in found if self.has_key(name)]
        return (here or found)[-1]

    def in_use(self) -> tuple[str, ...]:
        """Return the CAs that issue now, by name, signers' first; none if there is only a root."""
        kinds = ("signer", "client") if self.flat or self.issuers_in_line(ISSUING) else ("client",)
        if not self.flat and not self.issuers_in_line():
            return ()
        return tuple(dict.fromkeys(map(self.issuing, kinds)))

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
        except MissingFile as error:
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
            with contextlib.suppress(MissingFile):
                return read_certificate(path)
        return None

    def held(self) -> Iterator[x509.Certificate]:
        """Yield all certificates that can be read, renewed ones included, and roots left out."""
        old = (self.directory / "certs_by_serial").glob("*.pem")
        for path in (*map(self.certificate_path, self.names()), *sorted(old)):
            with contextlib.suppress(
                Failed, MissingFile
            ):  # what cannot be read is no reason to stop
                yield read_certificate(path)

    def crl(self, name: str) -> x509.CertificateRevocationList:
        """Return the last CRL of a CA.

        Raises:
            Failed: `state.pki`: missing, not a CRL, or not issued by that CA; `io.*`.
        """
        path = self.crl_path(name)
        try:
            crl = read_crl(path)
        except MissingFile as error:
            here = self.has_key(name) or (self.directory / BUNDLE).exists()
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
        return read_certificate(self.certificate_path(name))

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


def _contradiction(message: str, expected: str, found: str, hint: str | None = None) -> Failed:
    return Failed("state.pki", message, expected=expected, found=found, hint=hint)
