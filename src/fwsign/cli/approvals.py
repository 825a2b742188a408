# SPDX-License-Identifier: Apache-2.0
"""The approval log of a command line: which file it is, and the lines of what was signed."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fwsign.cli import config, inputs, ui
from fwsign.errors import Failed

if TYPE_CHECKING:
    from fwsign.keys import Signer
    from fwsign.pki.log import Kind, Signature
    from fwsign.trust.lists import Update
    from fwsign.verify.permit import VerifiedPermit
    from fwsign.verify.verified import VerifiedChannel, VerifiedRelease


def find_log(settings: config.Config, pki: Path | None) -> Path | None:
    """Return the file of the log: that of fwsign.toml, else the PKI's; None if there is neither.

    Args:
        settings: the settings of fwsign.toml and the environment.
        pki: the PKI whose key signs, or whose log is wanted.
    """
    if settings.log is not None or pki is None:
        return settings.log
    from fwsign.pki.log import FILE

    return pki / FILE


def record(file: Path | None, signatures: "Sequence[Signature]", now: datetime) -> None:
    """Log signatures before they are put into use; say so where there is no log.

    Args:
        file: as `find_log` returned it.
        signatures: all signatures of this run, in their order: they need one sync.
        now: when they were made.

    Raises:
        Failed: `io.*`: then nothing that was signed may be written.
    """
    if not signatures:
        return
    if file is None:
        ui.note('in no log: the key is of no PKI, and fwsign.toml has no log = "FILE"')
        return
    from fwsign.pki.log import log_signatures

    try:
        log_signatures(file, signatures, now)
    except Failed as error:
        if not error.code.startswith("io."):
            raise
        hint = 'what is signed is logged first, so nothing was written; log = "FILE" in '
        raise error.with_hint(f"{hint}fwsign.toml names another log") from error


def of_release(
    kind: "Kind",
    name: object,
    verified: "VerifiedRelease",
    keys: Iterable[tuple[str, str]],
) -> "list[Signature]":
    """Return the lines for signatures of one release.

    Args:
        kind: "release", "cosign" or "attach".
        name: the envelope's path.
        verified: the release with these signatures, verified.
        keys: of each new signature the key's SHA-256 (SPKI) in hex, and its place without secrets.
    """
    from fwsign.receipts.facts import release_facts

    facts = release_facts(verified)
    about = {one: facts[one] for one in ("vendor", "product", "version", "sequence_number")}
    return _of(kind, name, facts["manifest_digest"], about, keys)


def of_channel(
    name: object, verified: "VerifiedChannel", keys: Iterable[tuple[str, str]]
) -> "list[Signature]":
    """Return the lines for the signatures of a channel; the arguments are as for `of_release`."""
    said = verified.channel
    about = {
        "vendor": said.vendor,
        "product": said.product,
        "channel": said.name,
        "number": str(said.number),
    }
    return _of("channel", name, verified.manifest_digest.hex(), about, keys)


def of_permit(
    name: object, verified: "VerifiedPermit", keys: Iterable[tuple[str, str]]
) -> "list[Signature]":
    """Return the lines for the signatures of a permit; the arguments are as for `of_release`."""
    said = verified.permit
    about = {
        "vendor": said.vendor,
        "product": said.product,
        "device": said.device,
        "sequence_number": str(said.sequence_number),
    }
    return _of("permit", name, verified.manifest_digest.hex(), about, keys)


def _of(
    kind: "Kind",
    name: object,
    digest: str,
    about: dict[str, Any],
    keys: Iterable[tuple[str, str]],
) -> "list[Signature]":
    from fwsign.pki.log import Signature

    return [Signature(kind, str(name), digest, key, place, about) for key, place in keys]


def record_update(
    name: object, data: bytes, update: "Update", signers: "Iterable[tuple[Signer, str]]"
) -> None:
    """Log the new signatures of a trust update, in the log of fwsign.toml or of its PKI.

    Args:
        name: the update's path.
        data: the signed update.
        update: its content.
        signers: those who signed now, each with the URI that names its key.
    """
    from fwsign.format.envelope import check_manifest_digest, decode_envelope
    from fwsign.keys.held import place_of
    from fwsign.pki.log import Signature
    from fwsign.x509.certificate import key_digest

    chosen = config.load()
    digest = check_manifest_digest(decode_envelope(data)).hex()
    trust = update.trust
    about = {"vendor": trust.vendor, "product": trust.product, "number": str(trust.number)}
    lines = [
        Signature("trust", str(name), digest, key_digest(one.public_key), place_of(one, uri), about)
        for one, uri in signers
    ]
    record(find_log(chosen, chosen.pki), lines, inputs.now())
