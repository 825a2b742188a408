# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki renew CA --new-key`: another issuing CA, or the first one for TLS."""

from pathlib import Path
from typing import TYPE_CHECKING

from fwsign.cli import inputs, ui
from fwsign.cli.config import pki_words
from fwsign.cli.passphrases import CaPassphrases
from fwsign.cli.pki.renewed import why_bad

if TYPE_CHECKING:
    from fwsign.pki.entry_keys import KeyChoice


def replace(
    directory: Path, asked: str, new: "KeyChoice", secrets: CaPassphrases, words: Path | None
) -> None:
    """Make another issuing CA, and say what becomes of the one that issued."""
    from fwsign.pki.directory import Pki
    from fwsign.pki.entry_names import ISSUING_TLS, line_of
    from fwsign.pki.rotation import replace_issuing

    pki = Pki(directory)
    now = inputs.now()
    line = line_of(asked)
    before = pki.issuing("client" if line == ISSUING_TLS else "signer")
    old = pki.certificate(before)
    who = "the old one" if before == asked else f'"{before}"'  # another one may be older
    name = replace_issuing(
        directory,
        line,
        new_key=new,
        passphrase=secrets.get,
        now=now,
    )
    ui.out(str(pki.certificate_path(name)))
    good = f"what {who} issued stays good until {old.not_valid_after_utc:%Y-%m-%d} at most"
    gone = why_bad(pki, old, now)
    fate = f"{who} {gone}, and nothing that it issued counts" if gone else good
    what = " servers and clients" if line == ISSUING_TLS else ""
    ui.note(f'the CA "{name}" issues{what} from now on; {fate}')
    if gone:
        ui.next_command("pki", "renew", "--all", *pki_words(words))
    else:
        each = f", for each {'server and client' if what else 'signer'}"
        ui.next_command("pki", "renew", "NAME", *pki_words(words), after=each)


def add_tls(
    directory: Path, asked: str, new: "KeyChoice", secrets: CaPassphrases, words: Path | None
) -> None:
    """Make the first CA for TLS, or ask the root for it if its key is elsewhere."""
    from fwsign.pki.directory import Pki
    from fwsign.pki.offline import add_request
    from fwsign.pki.rotation import current_root, replace_issuing

    pki = Pki(directory)
    root = current_root(pki)
    if not pki.has_key(root):
        path = add_request(directory, new_key=new)
        ui.out(str(path))
        ui.note(f"the root's key is not here: {pki.key_path(root)} is missing")
        ui.note(f"next, where the root is: fwsign pki sign-ca {path.name} --pki DIR --tls")
        return
    name = replace_issuing(directory, asked, new_key=new, passphrase=secrets.get, now=inputs.now())
    ui.out(str(pki.certificate_path(name)))
    ui.note(f'the CA "{name}" issues servers and clients from now on; what is there stays good')
    ui.next_command("pki", "renew", "NAME", *pki_words(words), after=", for each server and client")
