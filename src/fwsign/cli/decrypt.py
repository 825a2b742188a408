# SPDX-License-Identifier: Apache-2.0
"""The options --decrypt and --decrypt-pass: the keys that open encrypted payloads."""

from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeAlias

import typer

from fwsign.cli import ui

if TYPE_CHECKING:
    from fwsign.format.key_wrap import AgreementKey

_DECRYPT: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--decrypt",
        metavar="KEY",
        help="The file of a group's key, which opens encrypted payloads; repeat for several.",
    ),
]
_PASS: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--decrypt-pass",
        metavar="SRC",
        help="Passphrase of that key, if it has one: env:NAME, file:PATH or fd:N.",
    ),
]


class DecryptOptions(NamedTuple):
    """Options: the keys that open encrypted payloads."""

    decrypt: _DECRYPT = None
    decrypt_pass: _PASS = None

    def keys(self) -> "tuple[AgreementKey, ...]":
        """Open the keys.

        Raises:
            Failed: as `fwsign.keys.agreement.open_agreement`.
        """
        if self.decrypt_pass and not self.decrypt:
            ui.usage("--decrypt-pass without --decrypt")
        if not self.decrypt:
            return ()
        from fwsign.cli.passphrases import Passphrases
        from fwsign.keys import shown
        from fwsign.keys.agreement import open_agreement

        asked = Passphrases()

        def one(uri: str) -> "AgreementKey":
            what = f"the key {shown(uri)}"
            ask = asked.existing(self.decrypt_pass, what, "--decrypt-pass", uri=lambda: uri)
            return open_agreement(uri, ask)

        return tuple(map(one, self.decrypt))
