# SPDX-License-Identifier: Apache-2.0
"""Signers: one protocol for all of them, and the function that opens a key by its URI."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from fwsign.errors import Failed
from fwsign.format.algorithms import NEW_KEYS

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa

    from fwsign.keys.held import HeldKey

# Strings, so that naming a type does not import the module of every algorithm.
PublicKey: TypeAlias = (
    "ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey"
    " | mldsa.MLDSA65PublicKey | mldsa.MLDSA87PublicKey"
)
"""A public key of an algorithm that fwsign signs with."""
PrivateKey: TypeAlias = (
    "ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey"
    " | mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey"
)
"""The private half of a `PublicKey`."""
Passphrase: TypeAlias = Callable[[], bytes | None]
"""Asks for a passphrase, and is called only when one is needed; it returns None to give none."""

ALGORITHMS = tuple(alg for alg, (_, new) in NEW_KEYS.items() if not new.tls_alone)
"""Names of the keys that `new_private_key` makes."""
DEFAULT_ALGORITHM = ALGORITHMS[0]
"""The key that is made where nobody names another."""
TLS_ALONE = tuple(alg for alg, (_, new) in NEW_KEYS.items() if new.tls_alone)
"""Names of further keys for TLS servers and clients, which never sign a release."""
TLS_ALGORITHMS = (*ALGORITHMS, *TLS_ALONE)

KDFS = ("scrypt", "pbkdf2")
"""Derivations that protect keys in PKCS#8: GnuTLS and wolfSSL read only the second."""

# One letter before the colon is a Windows drive, not a scheme.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)

# The source of a PIN is a file; other values may be the PIN.
_PIN = re.compile(
    r"([?&;:][^?&;:=]*pin[^?&;:=]*(?:(?<!pin-source)=|=(?!file:|/|%2F)))[^?&;]*", re.IGNORECASE
)
# A token in the path of a pkcs11: URI is a device, so options alone count.
_TOKEN = re.compile(
    r"([?&][^?&=]*(?:token|secret|pass|jwt)[^?&=]*(?<!-file)(?<!-env)=)[^?&]*", re.IGNORECASE
)
_USER = re.compile(r"(?<=:)//[^/?]*@")


class Signer(Protocol):
    """A holder of a private key: a file, a token, a service."""

    @property
    def algorithm(self) -> int:
        """The COSE algorithm identifier (RFC 9053, 9864, 9964)."""

    @property
    def public_key(self) -> PublicKey:
        """The public half; it shows which certificate belongs to the key."""

    def sign(self, message: bytes) -> bytes:
        """Sign all of `message` and return the signature in COSE form.

        ECDSA: r and s, each as wide as the curve's order (RFC 9053 s.2.1); RSA: PSS;
        ML-DSA: with an empty context.

        Raises:
            Failed: `key.*`: the backend could not sign.
        """


_BACKENDS: Final = {
    "awskms": "awskms",
    "openbao": "transit",
    "pkcs11": "pkcs11",
    "ssh-agent": "ssh_agent",
    "vault": "transit",
}
"""Where keys may be, apart from files: the schemes of URIs, and the modules that open them."""
_EXTRAS: Final = {"awskms": "aws"}
"""The extras with the libraries of backends, where they have other names."""


def signer_from_uri(uri: str, passphrase: Passphrase) -> Signer:
    """Open the key that a URI names; a path is a URI too.

    Args:
        uri: a path, `file:` and a path (RFC 8089), or a URI of another backend: `pkcs11:`,
            `openbao:`, `vault:`, `awskms:`, `ssh-agent:`.
        passphrase: called only if the key needs one: an encrypted file, the PIN of a token.

    Raises:
        Failed: `key.unsupported`: no such backend, or a key of another algorithm;
            `key.format`, `key.passphrase`, `key.passphrase-missing`, `io.*`, other `key.*`.
    """
    if is_file(uri):
        from fwsign.keys.file import open_signer  # a backend is imported on use

        return open_signer(key_file(uri), passphrase)
    from fwsign.keys.held import HeldSigner

    return HeldSigner(open_key(uri, passphrase))


def open_key(uri: str, passphrase: Passphrase) -> HeldKey:
    """Open the key that a URI names, of whatever kind, for raw signatures.

    Args:
        uri: as for `signer_from_uri`; a `fwsign.keys.written.WrittenUri` is believed less.
        passphrase: as for `signer_from_uri`.

    Raises:
        Failed: as `signer_from_uri`, but keys of any algorithm are opened; `state.library`.
    """
    from importlib import import_module

    scheme = _scheme(uri)
    if scheme == "file":
        from fwsign.keys.file_key import FileKey

        return FileKey(key_file(uri), passphrase)
    from fwsign.keys import written

    written.check(uri)
    backend = _BACKENDS[scheme]
    try:
        opened: HeldKey = import_module(f"fwsign.keys.{backend}").open_key(uri, passphrase)
    except ModuleNotFoundError as error:
        library = str(error.name).partition(".")[0]
        raise Failed(
            "state.library",
            f"keys of {scheme}: need the library {library}, which is not installed",
            expected=library,
            found="nothing",
            hint=f"pip install 'fwsign[{_EXTRAS.get(backend, backend)}]'",
        ) from error
    return opened


def asks(passphrase: Passphrase) -> bool:
    """Tell whether a source of passphrases says by its attribute `asks` that it asks a person.

    Such a source is not called for the token of a service, which nobody types.
    """
    return bool(getattr(passphrase, "asks", False))


def is_file(uri: str) -> bool:
    """Tell whether a URI names a file.

    Raises:
        Failed: `key.unsupported`: no such backend.
    """
    return _scheme(uri) == "file"


def is_elsewhere(name: str) -> bool:
    """Tell whether a word is the URI of a key that is not in a file; other words are paths."""
    found = _SCHEME.fullmatch(name)
    return found is not None and found[1].lower() in _BACKENDS


def key_file(uri: str) -> str:
    """Return the path of the key file that a URI names.

    Raises:
        Failed: `key.unsupported`: the key is not in a file.
    """
    found = _SCHEME.fullmatch(uri)
    if not is_file(uri):
        raise Failed(
            "key.unsupported",
            f"{shown(uri)} is not a file, and this command needs a key in a file",
            expected="file",
            found=_scheme(uri),
        )
    return _path_of(found[2]) if found else uri


def shown(uri: str) -> str:
    """Return a key's URI as it may be shown: without a secret that somebody wrote into it."""
    return _USER.sub("//...@", _TOKEN.sub(r"\1...", _PIN.sub(r"\1...", uri)))


def _scheme(uri: str) -> str:
    """Return the scheme of a key's URI, "file" for a path."""
    found = _SCHEME.fullmatch(uri)
    scheme = found[1].lower() if found else "file"
    if scheme != "file" and scheme not in _BACKENDS:
        known = ", ".join(f"{one}:" for one in ("file", *_BACKENDS))
        raise Failed(
            "key.unsupported",
            f'no key backend for "{scheme}:", there are {known}',
            expected=known,
            found=scheme,
        )
    return scheme


def _path_of(rest: str) -> str:
    """Return the path in the text after `file:`, with or without an (empty) authority."""
    from urllib.parse import unquote  # few keys are written like this

    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host not in {"", "localhost"}:
            raise Failed(
                "key.unsupported",
                f'a key file must be on this machine, not on "{host}"',
                expected="no host",
                found=host,
            )
        rest = slash + path
    # RFC 8089 appendix E.2: a drive letter follows the slash that begins the path.
    return unquote(re.sub(r"^/(?=[A-Za-z]:[/\\])", "", rest))
