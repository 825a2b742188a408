# SPDX-License-Identifier: Apache-2.0
"""A permit from the options of the command line: its release read and verified, then signed."""

import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from fwsign.cli import config, inputs, ui
from fwsign.cli.sign import identity
from fwsign.cli.sign.identity import FoundSigner
from fwsign.format.envelope import MAX_ENVELOPE_SIZE
from fwsign.format.permit import ID_SIZE, MAX_LIFE, Permit
from fwsign.verify.policy import DevicePolicy
from fwsign.verify.verifier import Verifier
from fwsign.x509.anchor import Anchor


class WantedPermit(NamedTuple):
    """The command line: device, envelope, expiry, and the time of now."""

    device: str
    release: Path
    expires: datetime
    now: datetime


def find_signers(
    pki: Path | None,
    names: Sequence[str] | None,
    key: str | None,
    chain: Path | None,
    crls: Sequence[Path],
) -> list[FoundSigner]:
    """Find the signers: those named of a PKI, or a key with its chain."""
    if key is not None and chain is not None:
        return [identity.from_key(key, chain, None, crls)]
    settings = config.load()
    directory = config.find_pki(pki)
    chosen = names or [settings.signer or identity.DEFAULT_SIGNER]
    return [identity.from_pki(directory, name, crls) for name in dict.fromkeys(chosen)]


def permit_for(wanted: WantedPermit, anchor: Anchor, *, allow_example_keys: bool) -> Permit:
    """Return the permit for a release, which is verified as a device would that has no floor.

    Raises:
        FwsignError: as `Verifier.verify`, about the release.
    """
    with inputs.expecting_envelope(wanted.release):
        data = inputs.read(wanted.release, MAX_ENVELOPE_SIZE)
        policy = DevicePolicy(profile="compat", allow_example_keys=allow_example_keys)
        found = Verifier([anchor], policy).verify(data, at=wanted.now)
    if found.text is None:
        hint = "take the envelope as it was signed"
        ui.usage(f"{wanted.release} does not name its product: its text was cut off", hint)
    made, expires = int(wanted.now.timestamp()), int(wanted.expires.timestamp())
    if not 0 < expires - made <= MAX_LIFE:
        until = wanted.expires.isoformat()
        ui.usage(f"a permit ends within {MAX_LIFE // 86400} days, this one would at {until}")
    return Permit(
        found.vendor,
        found.text.product,
        wanted.device,
        found.manifest_digest,
        found.manifest.sequence_number,
        secrets.token_bytes(ID_SIZE),
        made,
        expires,
    )
