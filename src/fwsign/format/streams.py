# SPDX-License-Identifier: Apache-2.0
"""The calls that move a payload, with errors that name its component; and the refusals of one."""

from collections.abc import Callable

from fwsign.errors import Code, Failed, Tampered, Unsuitable
from fwsign.format.component import Component


def read(component: Component, act: Callable[[int], bytes], size: int) -> bytes:
    """Read at most so many bytes."""
    try:
        return act(size)
    except OSError as error:
        raise failed("io.read", "reading", component, error) from error


def read_all(component: Component, act: Callable[[int], bytes], size: int) -> bytes:
    """Read exactly so many bytes, or up to the end."""
    data = b""
    while len(data) < size and (more := read(component, act, size - len(data))):
        data += more
    return data


def write(component: Component, act: Callable[[bytes], object], data: bytes) -> None:
    """Write all of the data."""
    try:
        written = act(data)
        if isinstance(written, int) and written != len(data):
            raise OSError(f"only {written} of {len(data)} bytes were taken")
    except OSError as error:
        raise failed("io.write", "writing", component, error) from error


def at(component: Component, act: Callable[[int], object], offset: int) -> None:
    """Go to a place in the file of an earlier try, or cut it there."""
    try:
        act(offset)
    except OSError as error:
        raise failed("io.write", "resuming", component, error) from error


def failed(code: Code, doing: str, component: Component, error: OSError) -> Failed:
    """Return the error of a source or sink that failed while "reading", say."""
    reason = (error.strerror or str(error)).lower()
    return Failed(
        code, f'{doing} the payload of "{component.name}" failed: {reason}', step=10, found=reason
    )


def wrong_size(component: Component, found: str) -> Tampered:
    """Return the refusal of a payload of a wrong size, such as "12 bytes"."""
    size = component.carried.size
    return Tampered(
        "tampered.payload-size",
        f'payload of "{component.name}" has {found}, the signed size is {size}',
        step=10,
        expected=f"{size} bytes",
        found=found,
    )


def check_digest(component: Component, signed: bytes, found: bytes) -> None:
    """Check the digest of the whole payload, as it is carried.

    Raises:
        Tampered: `tampered.payload-digest`.
    """
    if found != signed:
        raise _wrong_digest("tampered.payload-digest", "payload", component, signed, found)


def check_plaintext(component: Component, found: bytes) -> None:
    """Check the digest of what was decrypted.

    Raises:
        Tampered: `tampered.plaintext`.
    """
    if found != component.digest.value:
        signed = component.digest.value
        raise _wrong_digest("tampered.plaintext", "decrypted payload", component, signed, found)


def _wrong_digest(
    code: Code, what: str, component: Component, signed: bytes, found: bytes
) -> Tampered:
    return Tampered(
        code,
        f'{what} of "{component.name}" has digest {found.hex()}, the signed one is {signed.hex()}',
        step=10,
        expected=signed.hex(),
        found=found.hex(),
    )


def no_cipher(component: Component) -> Unsuitable:
    """Return the refusal of an encrypted payload for which no key is there."""
    return Unsuitable(
        "unsuitable.recipient",
        f'the payload of "{component.name}" is encrypted, and no key was given',
        step=10,
        expected="a key of a group that it is encrypted to",
        found="none",
    )
