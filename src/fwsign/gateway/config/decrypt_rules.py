# SPDX-License-Identifier: Apache-2.0
"""The tables `[[decrypt]]` of device.toml: the keys of the groups that this device belongs to."""

from pathlib import Path
from typing import Final, NamedTuple

from fwsign.toml import TomlTable

MAX_GROUPS: Final = 16
"""Groups that one device belongs to."""


class DecryptKey(NamedTuple):
    """The key of a group of devices.

    Args:
        key: the file of the private key, without a passphrase: nobody is there to type one.
        certificate: the file of its certificate; None if it is not compared.
    """

    key: Path
    certificate: Path | None = None


def parse_decrypt(top: TomlTable) -> tuple[DecryptKey, ...]:
    """Read the tables `[[decrypt]]`.

    Raises:
        Failed: `io.config`.
    """
    found: list[DecryptKey] = []
    for table in top.tables("decrypt"):
        one = DecryptKey(table.place("key"), table.maybe_place("certificate"))
        table.end()
        if any(one.key == other.key for other in found):
            raise table.wrong("key", "a key that is there once", str(one.key))
        found.append(one)
    if len(found) > MAX_GROUPS:
        raise top.wrong("decrypt", f"at most {MAX_GROUPS} tables", len(found))
    return tuple(found)
