# SPDX-License-Identifier: Apache-2.0
"""Keys in tokens of PKCS#11: HSMs, smart cards, TPMs, SoftHSM."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pkcs11.constants import Attribute, ObjectClass
from pkcs11.mechanisms import MGF, Mechanism

from fwsign.errors import Failed
from fwsign.keys import asn1, is_file, key_file, pkcs11_login, pkcs11_public, secret_file
from fwsign.keys.confirm import checked
from fwsign.keys.held import Scheme, check_scheme
from fwsign.keys.pkcs11_uri import TokenUri, parse_uri

if TYPE_CHECKING:
    from collections.abc import Callable

    from fwsign.keys import Passphrase, PublicKey

_HASHES: Final = {
    "SHA-256": (Mechanism.SHA256, MGF.SHA256, 32, "2.16.840.1.101.3.4.2.1"),
    "SHA-384": (Mechanism.SHA384, MGF.SHA384, 48, "2.16.840.1.101.3.4.2.2"),
    "SHA-512": (Mechanism.SHA512, MGF.SHA512, 64, "2.16.840.1.101.3.4.2.3"),
}
"""Mechanism, MGF1, size and object identifier of digests, by name."""
_MOST_LISTED: Final = 20


class TokenKey:
    """A private key in a token; a `fwsign.keys.held.HeldKey`. `open_key` makes it.

    Args:
        place: the URI, without a secret.
        login: a login to the token.
        key: python-pkcs11's private key.
        public: its public half.
        pin: returns the PIN, for keys that want it with each signature.
    """

    def __init__(
        self,
        place: str,
        login: pkcs11_login.Login,
        key: Any,
        public: PublicKey,
        pin: Callable[[], str] | None,
    ) -> None:
        self._place, self._public = place, public
        self._login, self._key, self._pin = login, key, pin
        self._open = True
        self._refusal: Failed | None = None

    @property
    def place(self) -> str:
        """The URI without the source of the PIN."""
        return self._place

    @property
    def public_key(self) -> PublicKey:
        """The public half, as the token gives it."""
        return self._public

    def sign_raw(self, scheme: Scheme, data: bytes, digest: str = "") -> bytes:
        """Sign; see `fwsign.keys.held.HeldKey.sign_raw`."""
        check_scheme(self._public, scheme)
        mechanism, parameter, message = _request(scheme, data, digest)
        if not self._open:
            raise Failed("key.unreachable", f"{self._place} was closed", found="closed")
        raw = self._sign(message, mechanism, parameter)
        return checked(self, scheme, data, digest, raw)

    def _sign(self, message: bytes, mechanism: Mechanism, parameter: Any) -> bytes:
        if self._refusal is not None:  # each wrong PIN brings the token nearer to its lock
            raise self._refusal
        pin = self._pin() if self._pin else None
        how = {"mechanism": mechanism, "mechanism_param": parameter, "pin": pin}
        try:
            with self._login.session("sign"):
                signed: bytes = self._key.sign(message, **how)
                return signed
        except Failed as error:
            if error.code == "key.passphrase":
                self._refusal = error
            raise

    def close(self) -> None:
        """Log out if no other key uses the login."""
        if self._open:
            self._open = False
            self._login.close()


def open_key(uri: str, passphrase: Passphrase) -> TokenKey:
    """Log in to a token and find a private key; see `fwsign.keys.open_key`.

    Args:
        uri: a `pkcs11:` URI.
        passphrase: called for the PIN, if the token wants one and the URI has no pin-source.

    Raises:
        Failed: `key.*`, `io.*`.
    """
    parsed = parse_uri(uri)

    def pin() -> str:
        return read_pin(parsed, passphrase)

    login = pkcs11_login.log_in(parsed, pin)
    try:
        with login.session(f"give the key {parsed.place}") as session:
            key = _find(session, parsed, login.name)
            always = pkcs11_public.attribute(key, Attribute.ALWAYS_AUTHENTICATE)
            public = _public(session, key, parsed)
        return TokenKey(parsed.place, login, key, public, pin if always else None)
    except BaseException:
        login.close()
        raise


def read_pin(uri: TokenUri, passphrase: Passphrase) -> str:
    """Return the PIN of a token: from the URI's pin-source, or from who is asked.

    Raises:
        Failed: `key.passphrase-missing`, `key.passphrase` if it is not text; `io.*`.
    """
    source = uri.query.get("pin-source")
    if source is not None:
        secret: bytes | None = secret_file.read_secret(Path(_pin_file(source)), "the PIN")
    else:
        secret = passphrase()
    if not secret:
        raise Failed(
            "key.passphrase-missing",
            f"{uri.place} needs a PIN and none was given",
            expected="a PIN",
            found="none",
            hint="give it with --pass: env:NAME, file:PATH or fd:N",
        )
    try:
        return secret.decode()
    except UnicodeDecodeError:
        pass  # outside of it: the error has the PIN in it
    raise Failed(
        "key.passphrase",
        f"the PIN for {uri.place} is not UTF-8 text",
        expected="UTF-8",
        found="other bytes",
    )


def _pin_file(source: str) -> str:
    if not source.startswith(("file:", "/")) or not is_file(source):
        raise Failed(
            "key.unsupported",
            "pin-source in the URI is not the path of a file",  # perhaps it is the PIN
            expected="file:/PATH",
        )
    return key_file(source)


def _find(session: Any, uri: TokenUri, token: str) -> Any:
    """Return the one private key that a URI describes."""
    wanted: dict[Attribute, Any] = {Attribute.CLASS: ObjectClass.PRIVATE_KEY}
    if "object" in uri.path:
        wanted[Attribute.LABEL] = uri.text("object")
    if "id" in uri.path:
        wanted[Attribute.ID] = uri.path["id"]
    found = list(session.get_objects(wanted))
    if len(found) != 1:
        others = found or session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})
        there = sorted(map(_described, others))
        listed = ", ".join(there[:_MOST_LISTED]) or "none"
        more = ", ..." if len(there) > _MOST_LISTED else ""
        what = f"{len(found)} keys fit {uri.place}:" if found else f"no key fits {uri.place},"
        raise Failed(
            "key.missing",
            f"{what} {'' if found else f'{token} has '}{listed}{more}",
            expected="one key",
            found=f"{len(found)}",
            hint="say which with object=LABEL or id=%01 in the URI",
        )
    (key,) = found
    if not hasattr(key, "sign"):
        raise Failed(
            "key.unsupported",
            f"{uri.place} may not sign: its CKA_SIGN is false",
            expected="a key that signs",
            found="CKA_SIGN=false",
        )
    return key


def _described(key: Any) -> str:
    """Name a key as a URI does."""
    label = pkcs11_public.attribute(key, Attribute.LABEL)
    identifier = pkcs11_public.attribute(key, Attribute.ID) or b""
    known = {"object": (label or "").encode(), "id": identifier}
    return TokenUri({name: value for name, value in known.items() if value}, {}).place[7:]


def _public(session: Any, key: Any, uri: TokenUri) -> Any:
    try:
        public = pkcs11_public.public_key(session, key)
    except ValueError:
        public = None
    if public is None:
        raise Failed(
            "key.unsupported",
            f"{uri.place} has no public key or certificate beside it that can be read",
            expected="a public key of P-256, P-384, P-521, secp256k1, Ed25519 or RSA with its id",
            found="none",
            hint="put the public key, or the certificate, into the token with the same id",
        )
    return public


def _request(scheme: Scheme, data: bytes, digest: str) -> tuple[Mechanism, Any, bytes]:
    """Return mechanism, parameter and data of a signature; the digest was made on the host."""
    if scheme is Scheme.ECDSA:
        return Mechanism.ECDSA, None, data
    if scheme is Scheme.PURE:
        return Mechanism.EDDSA, None, data
    hashed, mask, size, oid = _HASHES[digest]
    if scheme is Scheme.PSS:
        return Mechanism.RSA_PKCS_PSS, (hashed, mask, size), data
    # RFC 8017 s.9.2, DigestInfo: CKM_RSA_PKCS pads what it gets, and does not say which digest.
    algorithm = asn1.sequence(asn1.object_identifier(oid), asn1.tlv(0x05, b""))
    return Mechanism.RSA_PKCS, None, asn1.sequence(algorithm, asn1.octets(data))
