# SPDX-License-Identifier: Apache-2.0
"""From releases to envelopes: those that exist already stay, the others are signed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from fwsign.cli import inputs
from fwsign.cli.sign import existing, identity
from fwsign.signing.envelope import sign, verify_signed

if TYPE_CHECKING:
    from fwsign.cli.sign.identity import FoundSigner, Signing
    from fwsign.signing.envelope import TimeStamping
    from fwsign.signing.release import Release
    from fwsign.verify.verified import VerifiedRelease


class Made(NamedTuple):
    """An envelope as it shall be.

    Args:
        envelope: its bytes.
        verified: the result of verifying it.
        result: "signed", "unchanged", or "refreshed" for one that got newer CRLs.
        place: where the key that signed is; None where none was opened.
    """

    envelope: bytes
    verified: "VerifiedRelease"
    result: Literal["signed", "unchanged", "refreshed"]
    place: str | None = None


@dataclass(frozen=True, kw_only=True)
class SigningTerms:
    """How to sign.

    Args:
        now: the present time.
        stamping: the source of time stamps.
        allow_example_keys: sign with published keys.
        force: replace envelopes that exist, and waive what `fwsign.signing.envelope.sign` waives.
    """

    now: datetime
    stamping: "TimeStamping | None"
    allow_example_keys: bool
    force: bool


def kept(
    path: Path,
    release: "Release",
    found: "FoundSigner",
    terms: SigningTerms,
) -> Made | None:
    """Return the envelope at a path if it stays; None if it has to be made.

    Raises:
        Failed: `io.exists`: there is another envelope.
    """
    if terms.force:
        return None
    judge = partial(
        verify_signed,
        leaf=found.chain[0],
        anchors=[found.anchor],
        at=terms.now,
        tsa=terms.stamping,
        allow_example_keys=terms.allow_example_keys,
    )
    old = existing.kept(path, release, found, judge)
    if old is None:
        return None
    return Made(old.envelope, old.verified, "refreshed" if old.refreshed else "unchanged")


def missing(
    releases: "Sequence[Release]",
    kept: Sequence[Made | None],
    found: "FoundSigner",
    terms: SigningTerms,
    source: str | None,
) -> list[Made]:
    """Sign the releases whose envelopes are not kept; no key is opened where all are.

    Args:
        releases: the content of each envelope.
        kept: the envelopes that stay.
        found: the signer.
        terms: how to sign.
        source: where the passphrase comes from, as typed.
    """
    made = [one for one in kept if one is not None]
    if len(made) == len(releases):
        return made
    signing = identity.opened(found, source)
    return [
        old or Made(*_sign(release, signing, terms), "signed", signing.place)
        for release, old in zip(releases, kept, strict=True)
    ]


def _sign(
    release: "Release", signing: "Signing", terms: SigningTerms
) -> "tuple[bytes, VerifiedRelease]":
    signed = sign(
        release,
        [signing.identity],
        [signing.anchor],
        at=terms.now,
        tsa=terms.stamping,
        allow_example_keys=terms.allow_example_keys,
        force=terms.force,
    )
    inputs.refuse_unused(signing.identity.crls, signed[1])
    return signed
