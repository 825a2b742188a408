# SPDX-License-Identifier: Apache-2.0
"""`fwsign key` about keys that are held elsewhere."""

from typing import TYPE_CHECKING, Final

from fwsign.cli import inputs, ui
from fwsign.errors import Failed
from fwsign.keys import open_key, shown

if TYPE_CHECKING:
    from fwsign.keys import PublicKey

_OWN_TOOLS: Final = {
    "awskms": "aws kms create-key, for SIGN_VERIFY",
    "openbao": "bao write -f transit/keys/NAME type=ecdsa-p256",
    "ssh-agent": "ssh-keygen -t ed25519 -f FILE, then ssh-add FILE",
    "vault": "vault write -f transit/keys/NAME type=ecdsa-p256",
}
"""What makes a key that fwsign does not make."""


def new(uri: str, alg: str, source: str | None, *, file_options: bool) -> None:
    """Make a key in a token."""
    if file_options:
        ui.usage("--no-passphrase, --kdf and --force are for keys in files")
    if not uri.lower().startswith("pkcs11:"):
        scheme = uri.partition(":")[0].lower()
        raise Failed(
            "key.unsupported",
            f"keys of {scheme}: are made by its own tools",
            expected="a file or a pkcs11: URI",
            found=scheme,
            hint=f"as in: {_OWN_TOOLS[scheme]}",
        )
    from fwsign.keys.pkcs11_new import make_key

    made = make_key(uri, alg, inputs.passphrase_source(source, f"the token of {shown(uri)}"))
    ui.out(made.place)
    ui.next_command("key", "convert", made.place, "release.pub", "--to", "public")
    made.close()


def show(uri: str, source: str | None, *, as_json: bool) -> None:
    """Describe a key, without its secret; the passphrase or PIN is never asked for."""
    from fwsign.cli.show import cards
    from fwsign.cli.show.command import print_cards

    held = open_key(uri, inputs.passphrase_source(source, shown(uri)) if source else lambda: None)
    card = cards.held_card(held.place, held.public_key)
    held.close()
    print_cards(held.place, [card], as_json=as_json)


def public(uri: str, source: str | None) -> "PublicKey":
    """Return the public half of a key."""
    held = open_key(uri, inputs.passphrase_source(source, f"the key {shown(uri)}"))
    found = held.public_key
    held.close()
    return found
