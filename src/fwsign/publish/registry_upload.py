# SPDX-License-Identifier: Apache-2.0
"""Upload blobs to a registry, in parts; after a failure go on where an upload broke off."""

import re
import time
from typing import Final

from fwsign.errors import Failed
from fwsign.format.payload import CHUNK_SIZE
from fwsign.publish.registry_client import RegistryAnswer, RegistryClient
from fwsign.publish.store import Source

PART: Final = 16 * 1024 * 1024
"""Bytes of a part."""
PAUSES: Final = (0.2, 1.0, 4.0)
"""Seconds before each new try of a part."""
_OCTETS: Final = {"Content-Type": "application/octet-stream"}


def upload(client: RegistryClient, digest: str, source: Source, size: int) -> None:
    """Upload a blob.

    Args:
        client: the repository.
        digest: the blob's digest, which the registry checks.
        source: the blob, read once.
        size: its size.

    Raises:
        Failed: `io.*`.
    """
    if size <= PART:
        upload_bytes(client, digest, _take(source, size + 1))
        return
    place, offset = _begin(client), 0
    while data := _take(source, PART):
        place = _send_part(client, place, data, offset)
        offset += len(data)
    _finish(client, place, digest, b"")


def upload_bytes(client: RegistryClient, digest: str, data: bytes) -> None:
    """Upload a small blob, in one part.

    Raises:
        Failed: `io.*`.
    """
    _finish(client, _begin(client), digest, data)


def _take(source: Source, size: int) -> bytes:
    """Read a part; the source checks what it gave when there is no more."""
    data = bytearray()
    while len(data) < size and (more := source.read(min(CHUNK_SIZE, size - len(data)))):
        data += more
    return bytes(data)


def _begin(client: RegistryClient) -> str:
    return _location(client, client.ask("POST", "blobs/uploads/", good=(202,), body=b""))


def _send_part(client: RegistryClient, place: str, data: bytes, offset: int) -> str:
    """Send a part, what is missing of it if it broke off; return where the next one goes."""
    sent = 0
    for pause in (*PAUSES, None):
        rest, first = data[sent:], offset + sent
        headers = {**_OCTETS, "Content-Range": f"{first}-{first + len(rest) - 1}"}
        try:
            answer = client.ask("PATCH", place, good=(202,), headers=headers, body=rest)
        except Failed as error:
            if error.code != "io.place" or pause is None:
                raise
            time.sleep(pause)
            answer = client.ask("GET", place, good=(204,))
            arrived = _arrived(answer) - offset
            if not 0 <= arrived <= len(data):
                raise
            sent = arrived
            place = _location(client, answer, place)
            if sent < len(data):
                continue
        return _location(client, answer, place)
    raise AssertionError  # the last try returns or raises


def _finish(client: RegistryClient, place: str, digest: str, data: bytes) -> None:
    joint = "&" if "?" in place else "?"
    client.ask("PUT", f"{place}{joint}digest={digest}", good=(201,), headers=_OCTETS, body=data)


def _location(client: RegistryClient, answer: RegistryAnswer, otherwise: str = "") -> str:
    found = answer.headers.get("Location", "")
    if not found and not otherwise:
        raise Failed("io.place", f"the registry {client.base} names no place for an upload")
    return client.resolve(found) if found else otherwise


def _arrived(answer: RegistryAnswer) -> int:
    """Return how many bytes of an upload a registry has; docker's says 0-0 for none."""
    match = re.fullmatch(r"(?:bytes=)?0-([0-9]{1,18})", answer.headers.get("Range", ""))
    last = int(match[1]) if match else 0
    return last + 1 if last else 0
