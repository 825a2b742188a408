# SPDX-License-Identifier: Apache-2.0
"""All forms of keys and certificates, recognised by content, never by a file's name.

PEM, DER and the one-line or boxed text of OpenSSH; PKCS#8, SEC1, PKCS#1, PKCS#12, OpenSSH, JWK;
public keys, certificates, requests, CRLs, PKCS#7 bundles and JSON of cfssl with them.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from fwsign.errors import Failed
from fwsign.keys import Passphrase, asn1, ber, jwk, named, pem, unlock
from fwsign.keys.asn1 import Element, sequence_parts
from fwsign.keys.items import CONTAINER, LABELS, PRIVATE, TRUSTED, FileItem
from fwsign.keys.public_keys import der, public_key, spki, ssh_public_key

_SIGNED_DATA: Final = bytes.fromhex("2a864886f70d010702")  # 1.2.840.113549.1.7.2
_SSH_TYPES: Final = (b"ssh-ed25519 ", b"ssh-rsa ", b"ssh-dss ", b"ecdsa-sha2-", b"sk-")
_SSH2_BEGIN: Final = b"---- BEGIN SSH2 PUBLIC KEY ----"  # RFC 4716
_SSH2_END: Final = b"---- END SSH2 PUBLIC KEY ----"


def read_any(
    data: bytes, passphrase: Passphrase | None = None, *, name: object = "the file"
) -> tuple[FileItem, ...]:
    """List the things in a file, by its content.

    Args:
        data: the whole file, a few MiB at most.
        passphrase: called if something is encrypted; without it such keys stay locked.
        name: what to call the file in errors.

    Returns:
        All things in it, in order; nothing if none of the forms is known. Certificates,
        requests and CRLs are recognised, not validated.

    Raises:
        Failed: `key.passphrase`, `key.passphrase-missing`; `key.format`: a damaged private key;
            `key.unsupported`; `io.format`: damaged PEM.
    """
    return _read(data, _How(passphrase, name))


def read_opened(
    data: bytes, passphrase: Passphrase | None, *, name: object = "the file"
) -> tuple[FileItem, ...]:
    """List the things in a file, with the public halves of keys; open only encrypted PKCS#12.

    This is for callers that need certificates: no passphrases of private keys are asked for, and no
    private key is returned. So the primes of RSA keys are not tested, which takes most of the time.

    Args:
        data: as for `read_any`.
        passphrase: called for encrypted PKCS#12; None leaves it locked.
        name: what to call the file in errors.

    Raises:
        Failed: as `read_any`.
    """
    found = _read(data, _How(None, name, view=True))
    if passphrase is None or all(one.kind != CONTAINER for one in found):
        return found
    return _read(data, _How(passphrase, name, view=True))


def read_private_key(data: bytes, passphrase: Passphrase, name: object) -> Any:
    """Return the one private key in a file, whatever its form and algorithm.

    Args:
        data: as for `read_any`.
        passphrase: called when the key is encrypted.
        name: what to call the file in errors.

    Raises:
        Failed: as `read_any`; `key.format` if there is no private key, or more than one.
    """
    return only_key(read_any(data, passphrase, name=name), data, name)


def only_key(found: Iterable[FileItem], data: bytes, name: object) -> Any:
    """Return the one private key among the things that `read_any` found in `data`.

    Raises:
        Failed: `key.format`: there is none, or there are several to choose from.
    """
    keys = [one.key for one in found if one.key is not None]
    if not keys:
        raise unlock.no_key(data, name)
    if len(keys) > 1:
        raise Failed(
            "key.format",
            f"{name} has {len(keys)} private keys, expected one",
            expected="one private key",
            found=len(keys),
        )
    return keys[0]


class _How(NamedTuple):
    """The way to read a file: its name for errors, and whether public halves suffice."""

    passphrase: Passphrase | None
    name: object
    view: bool = False


def _read(data: bytes, how: _How) -> tuple[FileItem, ...]:
    data = pem.as_utf8(data)
    if (foreign := named.foreign(data)) is not None:
        return (
            FileItem(foreign.kind, foreign.format, foreign.encoding, data, detail=foreign.remedy),
        )
    if data[:1] == b"\x30":
        try:
            tags = sequence_parts(data)
        except ValueError:  # PKCS#12 in BER has indefinite lengths
            tags = []
        if tags or data[:2] == b"\x30\x80":
            return tuple(_from_der(data, tags, how))
    if (value := jwk.parse(data.lstrip())) is not None:
        return tuple(_from_json(value, how))
    if b"-----BEGIN " in data:
        return tuple(_from_blocks(data, how))
    return tuple(_from_text(data))


def _from_blocks(data: bytes, how: _How) -> Iterator[FileItem]:
    for block in pem.blocks(data, how.name):
        yield from _from_pem(block, how)


def _from_json(value: Any, how: _How) -> Iterator[FileItem]:
    for text in jwk.pem_in(value):
        yield from _from_blocks(text, how)
    for key in jwk.keys_in(value):
        kind = PRIVATE if "d" in key else "public key"
        if key["kty"] == "oct":
            yield FileItem("symmetric key", "JWK", "JSON", b"", detail="fwsign has no use for it")
            continue
        try:
            private, public = jwk.load(key, view=how.view)
        except ValueError as error:
            words = f"JWK that cannot be read: {error}"
            yield FileItem(f"damaged {kind}", "JWK", "JSON", b"", detail=words)
            continue
        content = b"" if private else spki(public)
        yield FileItem(kind, "JWK", "JSON", content, None if how.view else private, public)


def _from_pem(block: pem.PemBlock, how: _How) -> Iterator[FileItem]:
    kind, form = LABELS.get(block.label, ("unknown", block.label))
    if kind == PRIVATE:
        # Labels are sometimes wrong, the content never is (openssl also goes by the content).
        inside = None if unlock.DEK_INFO in block.headers else _private_form(block.content)
        if inside is None:
            yield _private(form, "PEM", block.text, how)
        else:
            yield _private(inside, "PEM", block.content, how, text=block.text)
    elif kind == "PKCS#7 bundle":
        yield from _bundle(block.content, "PEM")
    elif kind == CONTAINER:
        yield from _container(block.content, "PEM", how)
    elif kind == "public key":
        yield _public(block.content, form, "PEM")
    elif form == TRUSTED:
        yield _trusted(block.content, "PEM")
    else:
        yield FileItem(kind, form, "PEM", block.content)


def _from_der(data: bytes, parts: list[Element], how: _How) -> Iterator[FileItem]:
    """Recognise a form by the types of its outermost parts, which differ for all forms."""
    form = _private_form(data)
    if form is not None:
        yield _private(form, "DER", data, how)
        return
    match [part.tag for part in parts]:
        case []:  # BER
            if ber.is_pkcs7(data):
                yield from _bundle(data, "DER")
            elif (again := _definite(data)) is not None:
                yield from _signed(again, "BER")
            if not ber.is_pkcs7(data):
                yield from _container(data, "DER", how)
        case [asn1.INTEGER, asn1.SEQUENCE] | [asn1.INTEGER, asn1.SEQUENCE, asn1.SEQUENCE]:
            yield from _container(data, "DER", how)
        case [asn1.INTEGER, asn1.INTEGER]:
            yield from _if_public(data, "PKCS#1")
        case [asn1.SEQUENCE, asn1.BIT_STRING]:
            yield from _if_public(data, "SubjectPublicKeyInfo")
        case [asn1.OID, asn1.TAG_0]:
            yield from _bundle(data, "DER")
        case [asn1.SEQUENCE, asn1.SEQUENCE, asn1.BIT_STRING]:
            yield from _signed(data, "DER")


def _private_form(data: bytes) -> str | None:
    """Return the form of a DER private key by the types of its parts; None if it is none."""
    try:
        parts = sequence_parts(data)
    except ValueError:
        return None
    match [part.tag for part in parts]:
        case [asn1.SEQUENCE, asn1.OCTETS] | [asn1.INTEGER, asn1.SEQUENCE, asn1.OCTETS, *_]:
            return "PKCS#8"
        case [asn1.INTEGER, asn1.OCTETS, *_]:
            return "SEC1"
        case [asn1.INTEGER, asn1.INTEGER, *more] if len(more) in {4, 7}:
            return "PKCS#1" if len(more) == 7 else "OpenSSL traditional"
    return None


def _from_text(data: bytes) -> Iterator[FileItem]:
    """Read OpenSSH public keys: one per line, or in the box of RFC 4716."""
    if data.lstrip().startswith(_SSH2_BEGIN) and _SSH2_END in data:
        lines = data.partition(_SSH2_BEGIN)[2].partition(_SSH2_END)[0].replace(b"\\\n", b"")
        body = b"".join(line for line in lines.splitlines() if b":" not in line)
        yield from _ssh_line(b"".join(body.split()), "RFC 4716")
        return
    if b"\0" in data[:4096]:
        return
    for line in data.splitlines():
        if line.startswith(_SSH_TYPES):
            yield from _ssh_line(line.split(None, 2)[1] if b" " in line.strip() else b"", "OpenSSH")


def _ssh_line(base64: bytes, form: str) -> Iterator[FileItem]:
    key = ssh_public_key(base64)
    if key is not None:
        yield FileItem("public key", form, "text", spki(key), public_key=key)


def _private(
    form: str,
    encoding: str,
    data: bytes,
    how: _How,
    *,
    text: bytes | None = None,
) -> FileItem:
    try:
        key, public, encryption, detail = unlock.open_key(
            form, data, how.passphrase, how.name, text=text, view=how.view
        )
    except Failed as error:
        if how.passphrase is not None:
            raise
        return FileItem(PRIVATE, form, encoding, b"", detail=error.message)
    return FileItem(
        PRIVATE, form, encoding, b"", None if how.view else key, public, encryption, detail
    )


def _public(data: bytes, form: str, encoding: str) -> FileItem:
    key = public_key(data)
    content = data if key is None else spki(key)
    return FileItem("public key", form, encoding, content, public_key=key)


def _if_public(data: bytes, form: str) -> Iterator[FileItem]:
    found = _public(data, form, "DER")
    if found.public_key is not None or named.key_algorithm(data):
        yield found


def _signed(data: bytes, encoding: str) -> Iterator[FileItem]:
    """Distinguish certificate, request and CRL, which have the same outer shape."""
    kind = named.signed_kind(data)
    if kind is not None:
        form = "PKCS#10" if kind == "certificate signing request" else "X.509"
        yield FileItem(kind, form, encoding, data)


def _trusted(data: bytes, encoding: str) -> FileItem:
    """Take the certificate from OpenSSL's form, which has notes about trust after it."""
    try:
        first, *notes = asn1.elements(data)
    except ValueError:
        return FileItem("unknown", TRUSTED, encoding, data)
    words = named.trust(notes[0]) if notes else None
    return FileItem("certificate", TRUSTED, encoding, first.whole, detail=words)


def _definite(data: bytes) -> bytes | None:
    try:
        return ber.definite(data)
    except ValueError:
        return None


def _bundle(data: bytes, encoding: str) -> Iterator[FileItem]:
    """Yield the certificates and CRLs in SignedData: RFC 5652 s.5.1; name other messages."""
    try:
        again = _definite(data) or data
        encoding = encoding if again == data else "BER"
        kind, content = sequence_parts(again)
        if kind.content != _SIGNED_DATA:
            if (words := named.message(kind)) is not None:
                yield FileItem("PKCS#7 message", "PKCS#7", encoding, data, detail=words)
            return
        found = [
            FileItem(
                "certificate" if part.tag == asn1.TAG_0 else "CRL", "PKCS#7", encoding, one.whole
            )
            for part in content.parts()[0].parts()
            if part.tag in {asn1.TAG_0, asn1.TAG_1}
            for one in part.parts()
            if one.tag == asn1.SEQUENCE
        ] or [
            FileItem(
                "PKCS#7 message",
                "PKCS#7",
                encoding,
                data,
                detail="signed data without certificates",
            )
        ]
    except (ValueError, IndexError):
        found = [FileItem("unknown", "PKCS#7", encoding, data)]
    yield from found


def _container(data: bytes, encoding: str, how: _How) -> Iterator[FileItem]:
    opened, encryption = unlock.open_container(data, how.passphrase, how.name)
    form = "PKCS#12"
    if opened is None:
        if encryption is not None:
            yield FileItem(CONTAINER, form, encoding, b"", encryption=encryption)
        return
    if opened.key is not None:
        public = opened.key.public_key()
        private = None if how.view else opened.key
        yield FileItem(PRIVATE, form, encoding, b"", private, public, encryption)
    own = [] if opened.cert is None else [opened.cert]
    for one in (*own, *opened.additional_certs):
        words = one.friendly_name.decode(errors="replace") if one.friendly_name else None
        content = der(one.certificate)
        yield FileItem("certificate", form, encoding, content, encryption=encryption, detail=words)
