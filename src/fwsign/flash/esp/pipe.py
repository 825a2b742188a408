# SPDX-License-Identifier: Apache-2.0
"""Messages between a board and its worker process: a few names and values, and bytes.

size of the names and values (4 bytes), size of the bytes (4 bytes), JSON, bytes
"""

import json
import struct
from typing import Any, BinaryIO, NamedTuple

_HEAD = struct.Struct(">II")


class Message(NamedTuple):
    """Names and values that JSON can carry, and the bytes that it cannot."""

    fields: dict[str, Any]
    data: bytes = b""


def send(pipe: BinaryIO, message: Message) -> None:
    """Write a message.

    Raises:
        OSError: the other end is closed.
    """
    text = json.dumps(message.fields, separators=(",", ":")).encode()
    pipe.write(_HEAD.pack(len(text), len(message.data)) + text)
    pipe.write(message.data)
    pipe.flush()


def receive(pipe: BinaryIO) -> Message | None:
    """Wait for a message; None if the other end is closed.

    Raises:
        OSError: the pipe broke.
    """
    head = pipe.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    text_size, data_size = _HEAD.unpack(head)
    text, data = pipe.read(text_size), pipe.read(data_size)
    if len(text) < text_size or len(data) < data_size:
        return None
    return Message(json.loads(text), data)
