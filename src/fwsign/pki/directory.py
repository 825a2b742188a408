# SPDX-License-Identifier: Apache-2.0
"""Reading a PKI directory: what signing needs, and quick to import.

The layout is that of easy-rsa: `ca.crt`, `private/ca.key`, `issued/NAME.crt`,
`private/NAME.key`, and `crl/NAME.pem` for each CA. `ca` is the root, `issuing` the CA below it,
every other name a signer. The certificate is what makes an entry; a key alone is none.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.atomic import io_error, read_bytes
from fwsign.errors import Failed

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

_T = TypeVar("_T")

ROOT: Final = "ca"
ISSUING: Final = "issuing"
AUTHORITIES: Final = (ROOT, ISSUING)
"""The entries that are CAs, the root first."""

CERTIFICATE_LIMIT: Final = 64 * 1024
"""Octets of a certificate's file. One of ML-DSA-87 has 10 kB in PEM; easy-rsa puts text before."""
CRL_LIMIT: Final = 2 * 1024 * 1024
"""Octets of a CRL's file: PEM of more than what an envelope can carry."""

_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What cryptography raises for a certificate or CRL that it cannot decode."""


class _Missing(Exception):
    """A file is not there; never leaves this module."""


class Pki:
    """A PKI directory, read only.

    The root is read once, the rest anew with each call, so that what another process has
    written since is seen. A certificate is checked against the issuer that the directory has
    for it, so that what is returned belongs together; whether it is still good is for the
    verifier to say.

    Args:
        directory: where `ca.crt` is.

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

    def names(self) -> tuple[str, ...]:
        """Return the names of all entries but the root, sorted.

        Raises:
            Failed: `state.pki`: there is no `issued`; `io.*`.
        """
        issued = self.directory / "issued"
        try:
            found = [entry.name for entry in issued.iterdir()]
        except FileNotFoundError as error:
            raise _contradiction(f"{issued} is missing", "a directory", "nothing") from error
        except OSError as error:
            raise io_error(error, issued) from error
        # A name that begins with a dot is a file that another process is writing just now.
        return tuple(
            sorted(
                name.removesuffix(".crt")
                for name in found
                if name.endswith(".crt") and not name.startswith(".")
            )
        )

    def certificate_path(self, name: str) -> Path:
        """Return where the certificate of an entry is."""
        return self.directory / ("ca.crt" if name == ROOT else f"issued/{name}.crt")

    def key_path(self, name: str) -> Path:
        """Return where the private key of an entry is, if it is in a file at all."""
        return self.directory / f"private/{name}.key"

    def crl_path(self, name: str) -> Path:
        """Return where the CRL of a CA is."""
        return self.directory / f"crl/{name}.pem"

    def certificate(self, name: str) -> x509.Certificate:
        """Return the certificate of an entry.

        Raises:
            Failed: `state.pki`: no such entry, or its file is no certificate; `io.*`.
        """
        if name == ROOT:
            return self.root
        if "/" in name or "\\" in name or name.startswith("."):  # a name, never a path
            raise self._no_entry(name)
        try:
            return self._read_certificate(name)
        except _Missing as error:
            raise self._no_entry(name) from error

    def crl(self, name: str) -> x509.CertificateRevocationList:
        """Return the CRL that a CA has issued last.

        Raises:
            Failed: `state.pki`: missing, not a CRL, or not issued by that CA; `io.*`.
        """
        path = self.crl_path(name)
        try:
            crl = _parse(_load_crl, path, CRL_LIMIT, "CRL")
        except _Missing as error:
            raise _contradiction(f"{path} is missing", "a CRL", "nothing") from error
        issuer = self.certificate(name)
        if crl.issuer != issuer.subject or not _crl_is_signed(crl, issuer):
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
        for name in AUTHORITIES:
            try:
                certificate.verify_directly_issued_by(self.certificate(name))
            except (
                *_UNREADABLE,
                InvalidSignature,
            ):  # another name, another kind of key, another key
                continue
            return name
        raise _contradiction(
            f'no CA in {self.directory} issued "{common_name(certificate)}": '
            f'its issuer is "{certificate.issuer.rfc4514_string()}"',
            f"issued by {' or '.join(AUTHORITIES)}",
            certificate.issuer.rfc4514_string(),
        )

    def issuers(self, name: str) -> tuple[str, ...]:
        """Return the names of the CAs above an entry, nearest first; the last is the root.

        Raises:
            Failed: `state.pki`, `io.*`.
        """
        above: list[str] = []
        while name != ROOT:
            name = self.issuer_of(self.certificate(name))
            if name in above:
                raise _contradiction(
                    f'the CA "{name}" in {self.directory} is above itself',
                    "a path to the root",
                    "a circle",
                )
            above.append(name)
        return tuple(above)

    def path(self, name: str) -> tuple[bytes, ...]:
        """Return the certificates from an entry up to, and without, the root, as DER.

        Raises:
            Failed: `state.pki`: an entry is missing or does not belong here; `io.*`.
        """
        entries = (name, *self.issuers(name))
        return tuple(
            self.certificate(entry).public_bytes(Encoding.DER) for entry in entries if entry != ROOT
        )

    def crls(self, name: str) -> tuple[bytes, ...]:
        """Return the CRLs of the CAs above an entry, nearest first, as DER; raises as `path`."""
        return tuple(self.crl(ca).public_bytes(Encoding.DER) for ca in self.issuers(name))

    def revocation(self, name: str) -> x509.RevokedCertificate | None:
        """Return the entry for a certificate on its issuer's CRL; raises as `path`."""
        certificate = self.certificate(name)
        crl = self.crl(self.issuer_of(certificate))
        return crl.get_revoked_certificate_by_serial_number(certificate.serial_number)

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


def common_name(certificate: x509.Certificate) -> str:
    """Return the CN of a certificate's subject, or the whole subject where there is none."""
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
    # These are decoded on first use; a mistake in them shall show here.
    _ = certificate.subject, certificate.issuer, certificate.extensions
    return certificate


def _load_crl(pem: bytes) -> x509.CertificateRevocationList:
    crl = x509.load_pem_x509_crl(pem)
    _ = crl.issuer, crl.extensions
    return crl


def _crl_is_signed(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except _UNREADABLE:  # a kind of key that signs no CRL
        return False


def _contradiction(message: str, expected: str, found: str) -> Failed:
    return Failed("state.pki", message, expected=expected, found=found)
