# SPDX-License-Identifier: Apache-2.0
"""Read the PKI directories of easy-rsa 3 and `openssl ca`; never change anything in them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from fwsign.errors import Failed
from fwsign.files import io_error, read_bytes
from fwsign.format.library import PARSE_ERRORS
from fwsign.keys import Passphrase
from fwsign.keys.published import refuse_published
from fwsign.names import peer_name, signer_name
from fwsign.pki.certificates import CERTIFICATE_LIMIT, CRL_LIMIT, common_name, crl_is_signed
from fwsign.pki.easyrsa.key_search import Keys
from fwsign.pki.index import parse_index
from fwsign.pki.lint.files import Folder, Seen
from fwsign.pki.lint.files import read as read_files
from fwsign.pki.paths.end import TLS
from fwsign.pki.places import INDEX
from fwsign.pki.view.entry import purposes_of, use_of
from fwsign.x509.certificate import key_digest
from fwsign.x509.crl import newest


class ToolLayout(NamedTuple):
    """The places of a tool's files; `folders` hold certificates."""

    tool: str
    certificate: str
    key: str
    folders: tuple[str, ...]
    crls: tuple[str, ...]


LAYOUTS: Final = (
    ToolLayout(
        "easy-rsa",
        "ca.crt",
        "private/ca.key",
        ("issued", "certs_by_serial", "revoked"),
        ("crl.pem",),
    ),
    ToolLayout(
        "openssl ca",
        "cacert.pem",
        "private/cakey.pem",
        ("certs", "newcerts"),
        ("crl.pem", "crl/crl.pem"),
    ),
)
_BELOW: Final = ("", "pki", "demoCA")
_CHAINS: Final = (".crt", ".pem", ".cer", ".crl")
"""Files beside the CA's certificate that may hold its root, and the root's CRL."""


class ForeignEntry(NamedTuple):
    """A found certificate, its new name, and its key if there is one.

    `by_name` tells that only the name of the key's file says whose it is.
    """

    name: str
    file: Path
    certificate: x509.Certificate
    key: Path | None
    by_name: bool = False


class RootAbove(NamedTuple):
    """The root above a CA, and that root's newest CRL."""

    root: x509.Certificate
    crl: x509.CertificateRevocationList


class ForeignPki(NamedTuple):
    """A directory's content. `old` are renewed and revoked certificates; a root has no `above`."""

    directory: Path
    tool: str
    ca: x509.Certificate
    key: Path | None
    entries: tuple[ForeignEntry, ...]
    old: tuple[x509.Certificate, ...]
    revoked: tuple[x509.RevokedCertificate, ...]
    crl: x509.CertificateRevocationList | None
    left_out: tuple[tuple[Path, str], ...]
    above: RootAbove | None

    @property
    def unlisted(self) -> tuple[int, ...]:
        """Serial numbers that are revoked in index.txt but not on the CRL."""
        listed = {one.serial_number for one in self.crl or ()}
        return tuple(one.serial_number for one in self.revoked if one.serial_number not in listed)


def read(
    directory: Path, above: Sequence[Path] = (), passphrase: Passphrase | None = None
) -> ForeignPki:
    """Read the directory of easy-rsa or `openssl ca`, or the one above it.

    Args:
        directory: of the CA.
        above: if the CA is below a root, files with the root's certificate and CRL; the files
            beside the CA's own certificate are searched, too.
        passphrase: tried on encrypted keys whose names fit no certificate; None: on none.

    Raises:
        Failed: `state.pki`: it is no such directory, or contradicts itself; `io.*`.
        Untrusted: `untrusted.example-key`: a key in it is published.
    """
    base, layout = _find(directory)
    ca = _load(base / layout.certificate)
    folders = [base / name for name in layout.folders if (base / name).is_dir()]
    found = [read_files(folder) for folder in folders]
    seen = [one for folder in found for one in folder.certificates]
    over = None if issued_by(ca, ca) else _above(ca, base, (*above, *_beside(base)), found)
    refuse_published(ca.public_key(), base / layout.certificate)
    for one in seen:
        refuse_published(one.parsed.public_key(), one.file)
    crl = next((_crl(base / name, ca) for name in layout.crls if (base / name).is_file()), None)
    listed = list(parse_index(base / INDEX))
    on_crl = {one.serial_number for one in crl or ()}
    revoked = (*(crl or ()), *(one for one in listed if one.serial_number not in on_crl))
    others = (ca, over.root) if over else (ca,)
    own = {one.der: one for one in reversed(seen) if one.parsed not in others}
    stems = (Path(layout.key).stem, *(one.file.stem for one in own.values()))
    keys = Keys.below(base, stems, passphrase)
    entries: list[ForeignEntry] = []
    old: list[x509.Certificate] = []
    left_out = [(one.file, one.what) for folder in found for one in folder.damaged]
    gone = {one.serial_number for one in revoked}
    for one in sorted(own.values(), key=lambda one: one.file):  # of two copies the first folder's
        if not issued_by(one.parsed, ca):
            left_out.append((one.file, "the CA did not issue it"))
        elif one.parsed.serial_number in gone or "serial" in one.file.parent.name:
            old.append(one.parsed)
        else:
            entries.append(_entry(one, keys, layout, {entry.name.lower() for entry in entries}))
    there = keys.of(_spki(ca), base / layout.key, even_another=True)
    known = {*(one.spki for one in own.values()), *map(_spki, others)}
    wanted = {_usual(base, entry.file): entry.key for entry in entries}
    left_out += keys.strange(known, {**wanted, base / layout.key: there and there.path})
    parts = (tuple(entries), tuple(old), revoked, crl, tuple(left_out), over)
    return ForeignPki(base, layout.tool, ca, there and there.path, *parts)


def _spki(certificate: x509.Certificate) -> str:
    return key_digest(certificate.public_key())


def _usual(base: Path, certificate: Path) -> Path:
    return base / f"private/{certificate.stem}.key"


def _entry(one: Seen, keys: Keys, layout: ToolLayout, taken: set[str]) -> ForeignEntry:
    name = _name(one.file, one.parsed, layout.tool, taken)
    key = keys.of(_spki(one.parsed), _usual(keys.base, one.file))
    locked = key is not None and key.spki is None
    return ForeignEntry(name, one.file, one.parsed, key.path if key else None, locked)


def _beside(base: Path) -> list[Path]:
    return [path for path in sorted(base.glob("*")) if path.suffix in _CHAINS]


def _above(
    ca: x509.Certificate, base: Path, files: Sequence[Path], known: list[Folder]
) -> RootAbove:
    """Find the root above a CA, and the root's CRL, which may revoke the CA."""
    folders = [*(read_files(file) for file in files), *known]
    seen = [one.parsed for folder in folders for one in folder.certificates]
    issuers = [one for one in seen if issued_by(ca, one)]
    if not issuers:
        hint = "give the root's certificate and its CRL: --root FILE"
        raise _incomplete(ca, base, "whose certificate is not here", hint)
    # Another root may have certified this root; then the CA has two issuer certificates.
    issuer = next((one for one in issuers if issued_by(one, one)), issuers[0])
    if not issued_by(issuer, issuer):
        other = f'"{common_name(issuer)}", which is not a root either'
        raise _incomplete(ca, base, other, "a CA must be directly below its root")
    refuse_published(issuer.public_key(), base)
    crls = {one.der: one for folder in folders for one in folder.crls}
    named = [one for one in crls.values() if one.parsed.issuer == issuer.subject]
    own = newest(one for one in named if crl_is_signed(one.parsed, issuer))
    hint = "make one where the root is, easyrsa gen-crl or openssl ca -gencrl: --root FILE"
    if not own:
        raise _incomplete(ca, base, f'"{common_name(issuer)}", of which there is no CRL', hint)
    if len(own) > 1:  # with only one of them, the revocations of the other would be lost
        both = f"{own[0].file} and {own[1].file}"
        what = f'"{common_name(issuer)}", of which {both} are CRLs, neither newer'
        raise _incomplete(ca, base, what, hint)
    return RootAbove(issuer, own[0].parsed)


def _incomplete(ca: x509.Certificate, base: Path, other: str, hint: str) -> Failed:
    return Failed(
        "state.pki",
        f'the CA "{common_name(ca)}" of {base} is below another one, {other}',
        expected="the certificate and the CRL of its root",
        found=f"issued by {ca.issuer.rfc4514_string()}",
        hint=hint,
    )


def _find(directory: Path) -> tuple[Path, ToolLayout]:
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
        else f"{directory} is not a PKI of easy-rsa or openssl ca: it lacks {wanted}",
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
        if crl_is_signed(crl, ca):
            return crl
        fault = f'it is not signed by "{common_name(ca)}"'
    except PARSE_ERRORS as error:
        fault = f"it is not a CRL in PEM: {error}"
    raise Failed("state.pki", f"{path}: {fault}", expected="a CRL of the CA", found=fault)


def issued_by(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    """Tell whether a CA issued a certificate; a root issued its own."""
    try:
        certificate.verify_directly_issued_by(ca)
    except (InvalidSignature, *PARSE_ERRORS):
        return False
    return True


def _name(path: Path, certificate: x509.Certificate, tool: str, taken: set[str]) -> str:
    """Return the name for an entry: its file's name, if such an entry can have it."""
    text = path.stem if tool == "easy-rsa" else common_name(certificate)
    use = use_of(purposes_of(certificate))
    check, text = (peer_name, text) if use in TLS else (signer_name, text.lower())
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("._-")[:50] or use
    try:
        check(name)
    except Failed:  # reserved, such as "ca" and "issuing"
        name = f"imported-{name}"
    return name if name.lower() not in taken else f"{name}-{certificate.serial_number:x}"[:64]
