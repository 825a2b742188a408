# SPDX-License-Identifier: Apache-2.0
"""The words after a certificate for TLS was issued: who needs what."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fwsign.cli import ui
from fwsign.cli.config import pki_words
from fwsign.cli.quoting import quoted

if TYPE_CHECKING:
    from fwsign.pki.directory import Pki


def say_who_needs(path: Path, who: str, given: Path | None) -> None:
    """Say which certificates a peer sends, which the other side trusts, and who cannot read them.

    Args:
        path: the certificate of the peer.
        who: the word for it, such as "server".
        given: the PKI's directory as it was given.
    """
    from fwsign.pki.directory import Pki

    pki = Pki(path.parent.parent)
    *below, root = pki.issuers(path.stem)
    chain = f" and {pki.certificate_path(below[0])}, in this order" if below else ""
    ui.note(f"the {who} sends {path}{chain}")
    ui.note(f"the other side trusts {pki.certificate_path(root)}")
    _say_who_cannot(pki, (*below, root), given)


def _say_who_cannot(pki: "Pki", names: Sequence[str], given: Path | None) -> None:
    """Warn of a path that mbedTLS cannot read, as ESP-IDF has it."""
    from cryptography.x509 import NameConstraints

    from fwsign.pki.entry_names import ISSUING_TLS, is_root

    for name in names:
        found = [one for one in pki.certificate(name).extensions if one.critical]
        if any(isinstance(one.value, NameConstraints) for one in found):
            words = ("fwsign", "pki", "renew", ISSUING_TLS, *pki_words(given))
            way = "" if is_root(name) else f": {' '.join(map(quoted, words))} makes one for TLS"
            ui.note(f'mbedTLS, as in ESP-IDF, cannot read the CA "{name}"{way}')
