# SPDX-License-Identifier: Apache-2.0
"""The files that `fwsign key` reads and writes."""

import stat
from pathlib import Path
from typing import Any

from fwsign.cli import inputs
from fwsign.errors import Failed, Malformed
from fwsign.files import io_error

_FORCE_HINT = "--force replaces a key, a certificate or an empty file"


def output_path(path: Path, *, force: bool) -> Path:
    """Return the path to write, if that is allowed; follow a link to its target."""
    if path == inputs.STREAM:
        return path
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return path
    except OSError as error:
        raise io_error(error, path, "write") from error
    if stat.S_ISDIR(mode):
        raise Failed("io.directory", f"cannot write {path}: is a directory")
    if not force:
        raise _exists(path, "", _FORCE_HINT)
    if not stat.S_ISREG(mode) or not _is_ours(path):
        raise _exists(path, " and is not a key", "choose another name, or remove it yourself")
    return path.resolve()


def _exists(path: Path, what: str, hint: str) -> Failed:
    return Failed("io.exists", f"{path} exists already{what}", hint=hint)


def _is_ours(path: Path) -> bool:
    """Tell whether --force may replace a file."""
    from fwsign.keys.formats import read_any
    from fwsign.keys.items import READ

    data = inputs.read_pem(path)
    try:
        found = read_any(data, name=path)
        # JSON and key stores of others may have more in them than a key.
        return not data or (
            data.lstrip()[:1] not in (b"{", b"[") and any(one.kind in READ for one in found)
        )
    except Failed:
        return False


def in_file(name: str) -> Path:
    """Return the path of a key that has to be in a file.

    Raises:
        Failed: `key.unsupported`: it is elsewhere.
    """
    from fwsign.keys import is_elsewhere, key_file

    return Path(key_file(name) if is_elsewhere(name) or name.startswith("file:") else name)


def read(data: bytes, passphrase: Any, name: Path) -> list[Any]:
    """Return the things in a file, without the EC parameters that openssl puts before a key."""
    from fwsign.keys.formats import read_any

    found = read_any(data, passphrase, name=name)
    return [one for one in found if one.kind != "EC parameters"]


def private_key(data: bytes, passphrase: Any, name: Path) -> tuple[Any, list[bytes]]:
    """Return the one private key of a file, and the certificates beside it."""
    from fwsign.keys.formats import only_key

    found = read(data, passphrase, name)
    return only_key(found, data, name), [one.content for one in found if one.kind == "certificate"]


def public_key(data: bytes, passphrase: Any, name: Path) -> Any:
    """Return the public key of a file; ask for a passphrase only if there is no other way."""
    from cryptography import x509

    from fwsign.keys.public_keys import public_key_of, quietly

    loaders: dict[str, Any] = {
        "certificate": x509.load_der_x509_certificate,
        "certificate signing request": x509.load_der_x509_csr,
    }
    for one in read(data, None, name):
        found = one.public_key
        if one.kind in loaders:
            found = public_key_of(quietly(loaders[one.kind], one.content))
        if found is not None:
            return found
    return private_key(data, passphrase, name)[0].public_key()


def opener(pass_: str | None, place: Path) -> Any:
    """Return a function that reads a PKCS#12 passphrase, for commands that need certificates.

    Without --pass, it prompts for a single file. Files in a folder stay locked.
    """
    if pass_ is None and place.is_dir():
        return None
    return inputs.passphrase_source(pass_, str(place))


def certificates(path: Path, pass_: str | None) -> list[bytes]:
    """Return the certificates of a file of PEM, DER, PKCS#7 or PKCS#12, in DER, a leaf first.

    The leaf is the first that has issued no other; the rest is in the file's order.

    Raises:
        Failed: as `inputs.select`.
    """
    data = inputs.read_pem(path)
    found = inputs.select(path, data, "CERTIFICATE", "certificate", opener(pass_, path))
    if len(found) == 1:
        return found
    from fwsign.pki.paths.build import leaf_of  # only for several

    leaf = leaf_of(found)
    return [leaf, *(one for one in found if one != leaf)]


def certificates_from(contents: list[bytes]) -> list[Any]:
    """Load certificates in DER, of any kind and quality."""
    from cryptography import x509

    from fwsign.keys.public_keys import public_key_of, quietly

    found = [quietly(x509.load_der_x509_certificate, content) for content in contents]
    for one in found:
        if one is None or public_key_of(one) is None:
            raise Malformed("malformed.certificate", "not a certificate that can be read")
    return found
