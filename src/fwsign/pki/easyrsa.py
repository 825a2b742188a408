# SPDX-License-Identifier: Apache-2.0
"""Reading the PKI directories of easy-rsa 3 and `openssl ca`; nothing in them is ever changed."""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from fwsign.atomic import io_error, read_bytes
from fwsign.certificate import PARSE_ERRORS
from fwsign.errors import Failed, Untrusted
from fwsign.names import signer_name
from fwsign.pki.directory import CERTIFICATE_LIMIT, CRL_LIMIT, common_name
from fwsign.pki.known_keys import is_published
from fwsign.pki.lint_files import read as read_files

INDEX_LIMIT: Final = 16 * 1024 * 1024
"""Octets of index.txt: more than a hundred thousand certificates."""

_FIELDS = 6
_TIME = re.compile(r"(\d{2}|\d{4})(\d{10})Z")
_FLAGS: Final = {flag.value.lower(): flag for flag in x509.ReasonFlags}
# What openssl writes for reasons that carry a time: since when the key was known.
_TIMED: Final = {
    "keytime": x509.ReasonFlags.key_compromise,
    "cakeytime": x509.ReasonFlags.ca_compromise,
    "holdinstruction": x509.ReasonFlags.certificate_hold,
}


class Layout(NamedTuple):
    """Where a tool keeps its files; `folders` hold certificates."""

    tool: str
    certificate: str
    key: str
    folders: tuple[str, ...]
    crls: tuple[str, ...]


LAYOUTS: Final = (
    Layout(
        "easy-rsa",
        "ca.crt",
        "private/ca.key",
        ("issued", "certs_by_serial", "revoked"),
        ("crl.pem",),
    ),
    Layout(
        "openssl ca",
        "cacert.pem",
        "private/cakey.pem",
        ("certs", "newcerts"),
        ("crl.pem", "crl/crl.pem"),
    ),
)
_BELOW: Final = ("", "pki", "demoCA")


class Entry(NamedTuple):
    """A certificate found: the name it gets, and its key where there is one."""

    name: str
    file: Path
    certificate: x509.Certificate
    key: Path | None


class Source(NamedTuple):
    """What a directory has. `old` are renewed and revoked certificates."""

    directory: Path
    tool: str
    ca: x509.Certificate
    key: Path | None
    entries: tuple[Entry, ...]
    old: tuple[x509.Certificate, ...]
    revoked: tuple[x509.RevokedCertificate, ...]
    crl: x509.CertificateRevocationList | None
    left_out: tuple[tuple[Path, str], ...]

    @property
    def unlisted(self) -> tuple[int, ...]:
        """Serial numbers that are revoked in index.txt and not in the CRL."""
        listed = {one.serial_number for one in self.crl or ()}
        return tuple(one.serial_number for one in self.revoked if one.serial_number not in listed)


def read(directory: Path) -> Source:
    """Read the directory of easy-rsa or `openssl ca`, or the one above it.

    Raises:
        Failed: `state.pki`: it is no such directory, or contradicts itself; `io.*`.
        Untrusted: `untrusted.example-key`: a key in it is published.
    """
    base, layout = _find(directory)
    ca = _load(base / layout.certificate)
    if not _issued(ca, ca):
        raise Failed(
            "state.pki",
            f'the CA "{common_name(ca)}" of {base} is below another one',
            expected="a root, which issued itself",
            found=f"issued by {ca.issuer.rfc4514_string()}",
        )
    crl = next((_crl(base / name, ca) for name in layout.crls if (base / name).is_file()), None)
    listed = list(parse_index(base / "index.txt"))
    known = {one.serial_number for one in crl or ()}
    revoked = (*(crl or ()), *(one for one in listed if one.serial_number not in known))
    folders = [base / name for name in layout.folders if (base / name).is_dir()]
    found = [read_files(folder) for folder in folders]
    seen = [one for folder in found for one in folder.certificates]
    own = {one.der: one for one in reversed(seen) if one.parsed != ca}  # the first folder wins
    _refuse_published([(ca, base / layout.certificate), *((one.parsed, one.file) for one in seen)])
    gone = {one.serial_number for one in revoked}
    entries: list[Entry] = []
    old: list[x509.Certificate] = []
    left_out = [(one.file, one.what) for folder in found for one in folder.damaged]
    for one in sorted(own.values(), key=lambda one: one.file):
        if not _issued(one.parsed, ca):
            left_out.append((one.file, "the CA did not issue it"))
        elif one.parsed.serial_number in gone or "serial" in one.file.parent.name:
            old.append(one.parsed)
        else:
            name = _name(one.file, one.parsed, layout.tool, {entry.name for entry in entries})
            key = base / f"private/{one.file.stem}.key"
            entries.append(Entry(name, one.file, one.parsed, key if key.is_file() else None))
    key = base / layout.key
    there = key if key.is_file() else None
    return Source(
        base, layout.tool, ca, there, tuple(entries), tuple(old), revoked, crl, tuple(left_out)
    )


def parse_index(path: Path) -> Iterator[x509.RevokedCertificate]:
    """Return what index.txt says is revoked, as entries of a CRL.

    Raises:
        Failed: `state.pki`: a line is not as openssl writes it; `io.*`.

    Source: openssl-ca(1): status, expiry, revocation with reason, serial, file, subject; tabs.
    """
    text = read_bytes(path, INDEX_LIMIT).decode(errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        fields = line.split("\t")
        try:
            if len(fields) != _FIELDS or fields[0] not in ("V", "E", "R"):
                raise ValueError("not six fields after V, E or R")
            if fields[0] == "R":
                yield _revoked(int(fields[3], 16), fields[2])
        except (ValueError, OverflowError) as error:
            raise Failed(
                "state.pki",
                f"{path} line {number} cannot be read: {error}",
                expected="status, expiry, revocation, serial, file and subject, with tabs",
                found=line[:120],
            ) from None


def _revoked(serial: int, said: str) -> x509.RevokedCertificate:
    since, _, rest = said.partition(",")
    word, _, more = rest.partition(",")
    word = word.lower()
    builder = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(_time(since))
    flag = _TIMED.get(word) or _FLAGS.get(word, x509.ReasonFlags.unspecified)
    if flag not in (x509.ReasonFlags.unspecified, x509.ReasonFlags.remove_from_crl):
        builder = builder.add_extension(x509.CRLReason(flag), critical=False)
    if word in ("keytime", "cakeytime"):
        date = x509.InvalidityDate(_time(more).replace(tzinfo=None))
        builder = builder.add_extension(date, critical=False)
    return builder.build()


def _time(text: str) -> datetime:
    match = _TIME.fullmatch(text)
    if not match:
        raise ValueError(f'"{text}" is not a time')
    year = match[1]
    if len(year) == 2:  # RFC 5280 section 4.1.2.5.1
        year = f"{'20' if int(year) < 50 else '19'}{year}"
    return datetime.strptime(f"{year}{match[2]}", "%Y%m%d%H%M%S").replace(tzinfo=UTC)


def _find(directory: Path) -> tuple[Path, Layout]:
    try:
        for base in (directory / name for name in _BELOW):
            for layout in LAYOUTS:
                if (base / layout.certificate).is_file() and (base / "index.txt").is_file():
                    return base, layout
    except OSError as error:
        raise io_error(error, directory) from error
    ours = (directory / "ca.crt").is_file() and (directory / "crl").is_dir()
    wanted = "ca.crt or cacert.pem, and index.txt"
    raise Failed(
        "state.pki",
        f"{directory} is a PKI of fwsign already"
        if ours
        else f"{directory} is not a PKI of easy-rsa or openssl ca: it has not {wanted}",
        expected=wanted,
        found="a PKI of fwsign" if ours else "neither",
    )


def _load(path: Path) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(read_bytes(path, CERTIFICATE_LIMIT))
        _ = certificate.extensions, certificate.subject
    except PARSE_ERRORS as error:
        raise Failed("state.pki", f"{path} is not a certificate in PEM: {error}") from None
    return certificate


def _crl(path: Path, ca: x509.Certificate) -> x509.CertificateRevocationList:
    try:
        crl = x509.load_pem_x509_crl(read_bytes(path, CRL_LIMIT))
        _ = [entry.extensions for entry in crl]
        if crl.is_signature_valid(ca.public_key()):  # type: ignore[arg-type]
            return crl
        fault = f'it is not signed by "{common_name(ca)}"'
    except PARSE_ERRORS as error:
        fault = f"it is not a CRL in PEM: {error}"
    raise Failed("state.pki", f"{path}: {fault}", expected="a CRL of the CA", found=fault)


def _issued(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(ca)
    except (InvalidSignature, *PARSE_ERRORS):
        return False
    return True


def _refuse_published(certificates: Sequence[tuple[x509.Certificate, Path]]) -> None:
    from fwsign.certificate import key_digest  # noqa: PLC0415 - beside its only use

    for certificate, path in certificates:
        key = certificate.public_key()
        if whose := is_published(key_digest(key)):
            raise Untrusted(
                "untrusted.example-key",
                f"{path} has {whose}, whose private half is published",
                found=str(path),
            )


def _name(path: Path, certificate: x509.Certificate, tool: str, taken: set[str]) -> str:
    """Return the name that an entry gets: its file's, where that can be the name of a signer."""
    text = path.stem if tool == "easy-rsa" else common_name(certificate)
    name = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("._-")[:50] or "signer"
    try:
        signer_name(name)
    except Failed:  # reserved, such as "ca" and "issuing"
        name = f"imported-{name}"
    return name if name not in taken else f"{name}-{certificate.serial_number:x}"[:64]
