# SPDX-License-Identifier: Apache-2.0
"""Make a key in a token, which it never leaves."""

from __future__ import annotations

import contextlib
import secrets
from typing import TYPE_CHECKING, Any, Final

from pkcs11.constants import DEFAULT, Attribute, MechanismFlag, ObjectClass
from pkcs11.exceptions import PKCS11Error
from pkcs11.mechanisms import KeyType

from fwsign.errors import Failed
from fwsign.format.algorithms import NEW_KEYS
from fwsign.keys import pkcs11_login
from fwsign.keys.held import HeldSigner
from fwsign.keys.pkcs11 import open_key, read_pin
from fwsign.keys.pkcs11_public import attribute
from fwsign.keys.pkcs11_uri import TokenUri, parse_uri

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fwsign.keys import Passphrase
    from fwsign.keys.pkcs11 import TokenKey

_CURVES: Final = {
    "p256": (KeyType.EC, "06082a8648ce3d030107"),
    "p384": (KeyType.EC, "06052b81040022"),
    "ed25519": (KeyType.EC_EDWARDS, "06032b6570"),
}
"""Key type and CKA_EC_PARAMS by the value of --alg."""
_ID_BYTES: Final = 8
_LENIENT: Final = ("tpm2-software.github.io",)
"""Makers of libraries that take no template that forbids the other uses of a key."""
_PRIVATE: Final = {
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
}


def make_key(uri: str, alg: str, passphrase: Passphrase) -> TokenKey:
    """Make a key pair in a token, and sign with it once.

    Args:
        uri: a `pkcs11:` URI with the label of the new key in object, and perhaps its id.
        alg: one of `fwsign.keys.ALGORITHMS`.
        passphrase: as for `fwsign.keys.open_key`.

    Raises:
        Failed: `io.exists` if an object has this label or id; `key.unsupported` for ML-DSA, or a
            token that would give the key away; other `key.*`.
    """
    parsed = parse_uri(uri)
    if "object" not in parsed.path:
        raise Failed(
            "key.unsupported",
            f"{parsed.place} gives the new key no label",
            expected="object=LABEL",
            found="none",
            hint="name it: object=LABEL",
        )
    kind = NEW_KEYS[alg][0]
    if kind.family == "ML-DSA":
        raise Failed(
            "key.unsupported",
            f"keys of {kind.name} cannot be made in tokens yet",
            expected="P-256, P-384, Ed25519 or RSA",
            found=kind.name,
        )
    identifier = parsed.path.get("id") or secrets.token_bytes(_ID_BYTES)
    made = TokenUri({**parsed.path, "id": identifier}, parsed.query)
    login = pkcs11_login.log_in(parsed, lambda: read_pin(parsed, passphrase))
    try:
        with login.session("make a key"), _writing(login) as session:
            _refuse_others(session, parsed, identifier)
            lenient = login.library in _LENIENT
            label = parsed.text("object")
            pair = _generate(session, alg, label, identifier, lenient=lenient)
            _refuse_open(pair, made, login.name)
        held = open_key(made.place, passphrase)
        HeldSigner(held).sign(b"a new key signs once")  # and the signature is checked
        return held
    finally:
        login.close()


@contextlib.contextmanager
def _writing(login: pkcs11_login.Login) -> Iterator[Any]:
    """Open a session that may write; it shares the login of the other one."""
    session = login.token.open(rw=True)
    try:
        yield session
    finally:
        with contextlib.suppress(PKCS11Error):
            session.close()


def _refuse_others(session: Any, uri: TokenUri, identifier: bytes) -> None:
    """Refuse a label or an id that is in use: later it would be unclear which key is meant."""
    for name, value in ((Attribute.LABEL, uri.text("object")), (Attribute.ID, identifier)):
        for one in session.get_objects({name: value}):
            if attribute(one, Attribute.CLASS) == ObjectClass.DATA:
                continue
            what = "label" if name is Attribute.LABEL else "id"
            raise Failed(
                "io.exists",
                f"the token has an object with the {what} of {uri.place} already",
                expected=f"a {what} that is not in use",
                found="an object with it",
                hint="choose another one; the tools of the token delete what is there",
            )


def _generate(
    session: Any, alg: str, label: str | None, identifier: bytes, *, lenient: bool
) -> Any:
    """Generate a key that signs and does nothing else, or leave other uses to the token."""
    unset = DEFAULT if lenient else False
    others = (Attribute.DECRYPT, Attribute.UNWRAP, Attribute.DERIVE)
    given: dict[str, Any] = {
        "store": True,
        "label": label,
        "id": identifier,
        "capabilities": MechanismFlag.SIGN | MechanismFlag.VERIFY,
        "private_template": {**_PRIVATE, **dict.fromkeys(others, unset)},
        "public_template": dict.fromkeys((Attribute.ENCRYPT, Attribute.WRAP), unset),
    }
    if alg not in _CURVES:
        return session.generate_keypair(KeyType.RSA, NEW_KEYS[alg][1].bits, **given)
    kind, curve = _CURVES[alg]
    curves = {Attribute.EC_PARAMS: bytes.fromhex(curve)}
    return session.create_domain_parameters(kind, curves, local=True).generate_keypair(**given)


def _refuse_open(pair: tuple[Any, Any], made: TokenUri, token: str) -> None:
    """Delete a key that the token would give away, and refuse."""
    private = pair[1]
    if private[Attribute.SENSITIVE] and not private[Attribute.EXTRACTABLE]:
        return
    _delete(pair)
    raise Failed(
        "key.unsupported",
        f"{token} would give away the key {made.place}, which was deleted",
        expected="a key that is sensitive and not extractable",
        found="another",
    )


def _delete(pair: tuple[Any, Any]) -> None:
    for one in pair:
        with contextlib.suppress(PKCS11Error):
            one.destroy()
