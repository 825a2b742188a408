# SPDX-License-Identifier: Apache-2.0
"""Take over a PKI of easy-rsa or `openssl ca` into a new directory, beside the old one.

Such a PKI has one CA, which issues signers itself. It becomes the root `ca`, and its certificates
stay unchanged. New issuing CAs below it issue from now on. Revocations come from the old CRL and
from index.txt; none is dropped, and the root's new CRL has them all. Keys are copied unchanged,
encrypted or not.

If the CA is below a root, it becomes `issuing` and stays unchanged. The root's key is elsewhere,
like that of every offline root; a request is made, by which the root can renew the CA.
"""

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.errors import Failed
from fwsign.files import read_bytes, write_atomic
from fwsign.keys import Passphrase
from fwsign.keys.file import KEY_FILE_LIMIT
from fwsign.keys.held import HeldKey
from fwsign.keys.stand_in import private_key
from fwsign.pki import crls, profiles
from fwsign.pki.authority import (
    add_authority,
    join,
    new_issuing,
    refuse_foreign_key,
)
from fwsign.pki.ca_keys import NO_KEYS
from fwsign.pki.certificates import common_name
from fwsign.pki.directory import Pki
from fwsign.pki.easyrsa.read import ForeignEntry, ForeignPki
from fwsign.pki.entry_keys import NewKey, entry_key
from fwsign.pki.entry_names import ISSUING, ISSUING_TLS, ROOT, request_path
from fwsign.pki.files import build_beside, make_directories
from fwsign.pki.index import INDEX_LIMIT
from fwsign.pki.key_uris import uri_of, write_uri
from fwsign.pki.log import log_certificate
from fwsign.pki.profiles import SIGNING, TLS_ONLY, Authority
from fwsign.pki.subjects import ROLES, organisation_of, subject_name
from fwsign.pki.validity import refuse_early, refuse_ended

_CN_LIMIT: Final = 64
_RECORDS: Final = ("index.txt", "index.txt.attr", "serial", "crlnumber", "crl.pem", "crl/crl.pem")


class NewIssuing(NamedTuple):
    """The vendors of the new issuing CA for signers; kind of key and passphrase of both CAs.

    `keys` has those that exist already, by `issuing` and `issuing-tls`.
    """

    vendors: Sequence[str]
    alg: str
    passphrase: bytes | Passphrase | None
    keys: Mapping[str, HeldKey] = NO_KEYS

    @property
    def key(self) -> NewKey:
        """The key to make."""
        return NewKey(self.alg, self.passphrase)


def why_no_issuing(source: ForeignPki, ca_key: HeldKey | None = None) -> str | None:
    """Return why no issuing CA can be made below the root; None if one can, or is there already.

    Args:
        source: the old PKI.
        ca_key: the root's key, if it is held elsewhere.
    """
    if source.above is not None:
        return None
    if source.key is None and ca_key is None:
        return "the root's key is not here"
    basic = source.ca.extensions.get_extension_for_class(x509.BasicConstraints).value
    if basic.path_length == 0:
        return "the root allows no CA below it (path length 0)"
    return None


def take_over(
    source: ForeignPki,
    target: str | os.PathLike[str],
    *,
    issuing: NewIssuing | None,
    ca_passphrase: Passphrase,
    now: datetime,
    ca_key: HeldKey | None = None,
) -> Pki:
    """Make a PKI of ours from a source that `fwsign.pki.easyrsa.read.read` returned.

    It is built beside `target` and then renamed. The source is never written.

    Args:
        source: the old PKI.
        target: must not exist, or be empty; not inside the source.
        issuing: the new issuing CAs; None if `why_no_issuing` gives a reason, or if the CA is
            below a root.
        ca_passphrase: called if the key of the old CA is encrypted.
        now: an aware time.
        ca_key: the old CA's key, if it is held elsewhere; it counts before one in the source.

    Raises:
        Failed: `state.pki`, `state.pki-exists`, `state.clock`, `key.*`, `io.*`.
    """
    now = profiles.utc(now)
    inside = Path(os.path.realpath(target))
    if inside.is_relative_to(os.path.realpath(source.directory)):
        raise Failed(
            "state.pki",
            f"{target} is inside {source.directory}, which must stay as it is",
            expected="a directory outside",
            found=str(target),
        )
    authority = None
    if source.key is not None or ca_key is not None:
        if issuing is not None and source.above is None:
            hint = "fwsign pki show reads it as it is; fwsign pki init makes another PKI"
            refuse_ended(source.ca, now, hint)
        refuse_early(source.ca, now)
        authority = _joined(source, ca_key, ca_passphrase)
    elif source.crl is None or source.unlisted:
        raise Failed(
            "state.pki",
            f"{source.directory} has no private key of its CA, and no CRL with all revocations",
            expected="the key, to make a CRL, or a complete crl.pem",
            found=f"{len(source.unlisted)} revoked certificates that are on no CRL",
        )
    uri = uri_of(ca_key) if ca_key is not None else ""
    build_beside(target, lambda scratch: _build(scratch, source, (authority, uri), issuing, now))
    return Pki(target)


def _joined(source: ForeignPki, ca_key: HeldKey | None, passphrase: Passphrase) -> Authority:
    if ca_key is None:
        return join(source.ca, str(source.key), passphrase)
    refuse_foreign_key(source.ca, ca_key.public_key, ca_key.place)
    return Authority(source.ca, private_key(ca_key))


def _build(
    directory: Path,
    source: ForeignPki,
    held: tuple[Authority | None, str],
    issuing: NewIssuing | None,
    now: datetime,
) -> None:
    authority, uri = held
    make_directories(directory)
    ca = ROOT if source.above is None else ISSUING
    _write(directory / "ca.crt", source.ca if source.above is None else source.above.root)
    pki = Pki(directory)
    if source.above is not None:
        write_atomic(pki.crl_path(ROOT), source.above.crl.public_bytes(Encoding.PEM))
        _write(pki.certificate_path(ISSUING), source.ca)
    if uri:
        write_uri(pki.uri_file(ca), uri)
    elif source.key is not None:
        _copy(source.key, pki.key_path(ca), KEY_FILE_LIMIT, mode=0o600)
    log_certificate(directory, ca, source.ca, now, kind="import")
    for entry in source.entries:
        _entry(pki, entry, now)
    old = directory / "certs_by_serial"
    old.mkdir(exist_ok=True)
    for certificate in source.old:
        if not pki.old_path(certificate.serial_number).exists():
            _write(pki.old_path(certificate.serial_number), certificate)
    records = directory / "imported"
    records.mkdir()
    for name in _RECORDS:
        if (path := source.directory / name).is_file():
            _copy(path, records / path.name, INDEX_LIMIT)
    if authority is not None:
        number = max(crls.next_number(source.crl), int(now.timestamp()))
        pem = crls.make_crl(ca, authority, number, source.revoked, now)
    else:
        assert source.crl is not None  # noqa: S101 - the caller has looked
        pem = source.crl.public_bytes(Encoding.PEM)
    crls.write_crl(pki, ca, pem)
    if authority is not None and source.above is not None:
        _write_request(directory, authority)
    elif authority is not None and issuing is not None:
        _add_issuing(pki, authority, issuing, now)
    crls.write_bundle(pki)


def _add_issuing(pki: Pki, root: Authority, issuing: NewIssuing, now: datetime) -> None:
    names = (ISSUING, ISSUING_TLS)
    new = issuing.key if all(map(issuing.keys.get, names)) else issuing.key.settled()
    signing = SIGNING._replace(permitted=tuple(issuing.vendors))
    for name, limits in ((ISSUING, signing), (ISSUING_TLS, TLS_ONLY)):
        end = f" {ROLES[name]}"
        room = _CN_LIMIT - len(end)
        common = common_name(root.certificate).encode()[:room].decode(errors="ignore") + end
        subject = subject_name(organisation_of(root.certificate), common)
        key = entry_key(issuing.keys.get(name, new), issuing.alg)
        add_authority(pki, name, new_issuing(key, subject, limits, root, now), key, now)


def _write_request(directory: Path, issuing: Authority) -> None:
    """Write the request that `fwsign pki accept` needs when the root sends new files."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(issuing.certificate.subject)
    request = builder.sign(issuing.key, profiles.signature_hash(issuing.key))
    path = request_path(directory, ISSUING)
    path.parent.mkdir()
    write_atomic(path, request.public_bytes(Encoding.PEM))


def _entry(pki: Pki, entry: ForeignEntry, now: datetime) -> None:
    log_certificate(pki.directory, entry.name, entry.certificate, now, kind="import")
    if entry.key is not None:
        _copy(entry.key, pki.key_path(entry.name), KEY_FILE_LIMIT, mode=0o600)
    _write(pki.certificate_path(entry.name), entry.certificate)


def _copy(source: Path, target: Path, limit: int, mode: int = 0o644) -> None:
    write_atomic(target, read_bytes(source, limit), mode=mode)


def _write(path: Path, certificate: x509.Certificate) -> None:
    write_atomic(path, certificate.public_bytes(Encoding.PEM))
