# SPDX-License-Identifier: Apache-2.0
"""Keys in the transit engine of OpenBao and Vault: `openbao:KEY`, `vault:KEY`.

The address, the CA of the server and the login are in `fwsign.keys.transit_login`. A key has
versions: the latest when it is opened makes every signature, or the one that the URI names.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from fwsign.errors import Failed, FwsignError
from fwsign.format import library
from fwsign.format.cose import key_name
from fwsign.keys import uri
from fwsign.keys.confirm import checked
from fwsign.keys.held import Scheme, check_scheme
from fwsign.keys.transit_login import OPTIONS
from fwsign.keys.transit_session import NO_ROUTE, Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fwsign.keys import Passphrase, PublicKey
    from fwsign.keys.uri import KeyUri

MOUNT: Final = "transit"
"""Where the engine is mounted if the URI does not say."""
_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_MOUNT: Final = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")
_SIGNATURE: Final = re.compile(r"vault:v(\d{1,9}):([A-Za-z0-9+/=_-]+)")
_ML_DSA: Final = {1312: "44", 1952: "65", 2592: "87"}
"""Parameter sets by the size of the public key (FIPS 204 table 2)."""
_LISTED: Final = 10
"""Names of other keys that a refusal lists."""


def open_key(text: str, passphrase: Passphrase) -> TransitKey:
    """Open a key by its URI: `openbao:[//HOST[:PORT]/][MOUNT/]KEY[?OPTION=VALUE&...]`.

    Args:
        text: the URI; docs/keys.md has its options.
        passphrase: asked for the token if neither the URI nor the environment says where it is.

    Raises:
        Failed: `key.unsupported`: the URI, or a key that signs nothing; `key.missing`,
            `key.passphrase`, `key.passphrase-missing`, `key.locked`, `key.unreachable`,
            `key.failed`, `io.*`.
    """
    found = parse(text)
    mount, name = _path(found)
    version = found.number("version")
    session = Session(found, passphrase)
    try:
        return TransitKey(session, found.scheme, mount, name, version)
    except BaseException:
        session.close()
        raise


def parse(text: str) -> KeyUri:
    """Take a URI apart; raise `key.unsupported`."""
    found = uri.parse(text, (*OPTIONS, "mount", "version"))
    if found.host and not found.path:  # openbao://KEY, as cosign writes it
        found = found._replace(host=None, path=found.host)
    return found


class TransitKey:
    """A version of a key in a transit engine; a `fwsign.keys.held.HeldKey`.

    Args:
        session: the login, which the key closes.
        scheme: that of its URI.
        mount: where the engine is mounted.
        name: the key's name.
        version: the wanted version; None for the latest.

    Raises:
        Failed: as `open_key`.
    """

    def __init__(
        self, session: Session, scheme: str, mount: str, name: str, version: int | None
    ) -> None:
        self._session = session
        self._path = f"{mount}/sign/{name}"
        facts = _facts(session, mount, name)
        _check_use(facts, name)
        try:
            self._version = version or int(facts["latest_version"])
            versions = {int(number): one for number, one in facts["keys"].items()}
            self._public = None
            if self._version in versions:
                self._public = _public_key(str(facts["type"]), versions[self._version])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise Failed(
                "key.failed",
                f'what {session.address} says of the key "{name}" cannot be read',
                expected="a public key for each version",
                found=type(error).__name__,
            ) from None
        if self._public is None:
            there = ", ".join(map(str, sorted(versions)[-_LISTED:]))
            raise Failed(
                "key.missing",
                f'the key "{name}" at {session.address} has no version {self._version}, '
                f"there are {there}",
                expected=self._version,
                found=there,
            )
        options = {
            "address": session.address,
            "namespace": session.namespace or None,
            "version": self._version,
        }
        self._place = uri.make(scheme, f"{mount}/{name}", options)

    @property
    def place(self) -> str:
        """The URI, with the address and the version."""
        return self._place

    @property
    def public_key(self) -> PublicKey:
        """The public half of the version."""
        public: Any = self._public
        return public  # type: ignore[no-any-return]

    def sign_raw(self, scheme: Scheme, data: bytes, digest: str = "") -> bytes:
        """Sign; see `fwsign.keys.held.HeldKey.sign_raw`."""
        check_scheme(self.public_key, scheme)
        if scheme is Scheme.MU:
            name = key_name(self.public_key)
            raise Failed(
                "key.unsupported",
                f"a key of {name} makes no {scheme.value} signatures in a transit engine, which "
                f"takes whole messages: {self._place}",
                expected="a message",
                found=scheme.value,
            )
        body = {
            "input": base64.b64encode(data).decode(),
            "key_version": self._version,
            **_how(scheme, digest),
        }
        answer = self._session.ask("POST", self._path, body)
        signature = _signature(answer, self._version, url=scheme is Scheme.ECDSA)
        if signature is None:
            raise Failed(
                "key.failed",
                f"{self._place} gave no signature of version {self._version}",
                expected=f"vault:v{self._version}:...",
                found="another answer",
            )
        return checked(self, scheme, data, digest, signature)

    def close(self) -> None:
        """End the login."""
        self._session.close()


def _path(found: KeyUri) -> tuple[str, str]:
    """Return the mount and the key's name."""
    mount, _, name = found.path.strip("/").rpartition("/")
    given = found.options.get("mount", "").strip("/")
    if mount and given:
        raise uri.refusal(found.scheme, f'mount= and "{mount}/" exclude each other')
    mount = mount or given or MOUNT
    if not _NAME.fullmatch(name):
        raise uri.refusal(found.scheme, f'"{name}" is not the name of a key')
    if not _MOUNT.fullmatch(mount) or {".", ".."} & set(mount.split("/")):
        raise uri.refusal(found.scheme, f'"{mount}" is not a path of an engine')
    return mount, name


def _facts(session: Session, mount: str, name: str) -> Mapping[str, Any]:
    """Ask what kind of key this is, and for its versions."""
    try:
        answer = session.ask("GET", f"{mount}/keys/{name}")
    except FwsignError as error:
        if error.code != "key.missing":
            raise
        if NO_ROUTE in error.message:
            raise Failed(
                "key.missing",
                f"{session.address} has no engine at {mount}/",
                expected=f"{mount}/",
                found=error.found,
                hint="mount= in the URI says where it is mounted",
            ) from None
        names = _names(session, mount)
        listed = ", ".join(f'"{one}"' for one in names[:_LISTED])
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        others = f", there are {listed}{more}" if names else ""
        raise Failed(
            "key.missing",
            f'{session.address} has no key "{name}" in {mount}/{others}',
            expected=name,
            found=listed or "none",
        ) from None
    facts = answer.get("data") if isinstance(answer, dict) else None
    return facts if isinstance(facts, dict) else {}


def _names(session: Session, mount: str) -> list[str]:
    """Return the names of all keys; none if the token may not list them."""
    try:
        return [str(one) for one in session.ask("LIST", f"{mount}/keys")["data"]["keys"]]
    except (FwsignError, KeyError, TypeError):
        return []


def _check_use(facts: Mapping[str, Any], name: str) -> None:
    """Refuse a key that cannot sign."""
    kind = str(facts.get("type", "unknown"))
    if facts.get("soft_deleted") is True:
        raise Failed("key.locked", f'the key "{name}" is deleted, and can be restored there')
    if facts and facts.get("supports_signing") is not True:
        words = f"of the type {kind}, which signs nothing"
    elif facts.get("derived") is True:
        words = "derived: another key for each context, and releases have none"
    else:
        return
    raise Failed(
        "key.unsupported", f'the key "{name}" is {words}', expected="a signing key", found=kind
    )


def _public_key(kind: str, version: Mapping[str, Any]) -> Any:
    """Return the public key of a version: PEM, or the key's own bytes in Base64.

    Raises:
        ValueError: it is another one.
    """
    text = str(version["public_key"])
    if text.startswith("-----BEGIN "):
        return serialization.load_pem_public_key(text.encode())
    raw = base64.b64decode(text, validate=True)
    if kind == "ed25519":
        return ed25519.Ed25519PublicKey.from_public_bytes(raw)
    if len(raw) not in _ML_DSA:
        raise ValueError(kind)
    library.require(library.ML_DSA, "a key of ML-DSA")
    from cryptography.hazmat.primitives.asymmetric import mldsa  # old versions lack it

    return getattr(mldsa, f"MLDSA{_ML_DSA[len(raw)]}PublicKey").from_public_bytes(raw)


def _how(scheme: Scheme, digest: str) -> dict[str, object]:
    """Return the parameters of a request for a signature."""
    if scheme is Scheme.PURE:
        return {}
    made: dict[str, object] = {
        "prehashed": True,
        "hash_algorithm": digest.lower().replace("sha-", "sha2-"),
    }
    if scheme is Scheme.ECDSA:
        return {**made, "marshaling_algorithm": "jws"}
    if scheme is Scheme.PSS:
        return {**made, "signature_algorithm": "pss", "salt_length": "hash"}
    return {**made, "signature_algorithm": "pkcs1v15"}


def _signature(answer: Any, version: int, *, url: bool) -> bytes | None:
    """Return the signature in an answer; None if it has none of this version."""
    try:
        found = _SIGNATURE.fullmatch(answer["data"]["signature"])
        if found is None or int(found[1]) != version:
            return None
        text = found[2] + "=" * (-len(found[2]) % 4)
        return base64.b64decode(text, b"-_" if url else None, validate=True)
    except (KeyError, TypeError, ValueError):
        return None
