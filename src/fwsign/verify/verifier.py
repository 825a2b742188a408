# SPDX-License-Identifier: Apache-2.0
"""The verifier: ten numbered steps from bytes to a `VerifiedRelease` (docs/format.md).

     1  decode envelope, wrapper and blocks        6  enough of the right signers
     2  the manifest is the one that was signed    7  decode the manifest, match a template
     3  each block: path and signature             8  each signer may sign for this vendor
     4  each block: time                           9  the release is for this device, and fresh
     5  each block: revocation                    10  payload, while it streams

No file, socket, environment or clock is read here: time, anchors and CRLs are arguments.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from fwsign.errors import Code, Failed, Stale, Untrusted
from fwsign.format import suit
from fwsign.format.blocks import decode_block_lists
from fwsign.format.decryption import decode_encryptions
from fwsign.format.envelope import Envelope, check_manifest_digest, decode_envelope
from fwsign.format.identifiers import vendor_id
from fwsign.format.opening import decode_blocks, decode_content
from fwsign.format.text import Text
from fwsign.verify.block import BlockVerifier, step
from fwsign.verify.device import check_device
from fwsign.verify.policy import DevicePolicy, check_policy, missing_signers
from fwsign.verify.signers import Demand, judge_signers
from fwsign.verify.verified import VerifiedRelease, VerifiedSigner, counted, seal
from fwsign.x509.anchor import Anchor
from fwsign.x509.constraints import is_domain
from fwsign.x509.revocation import Issued, updates

MAX_CRL_LEAD: Final = timedelta(days=1)
"""How far a CRL's thisUpdate may be ahead of the clock, or a time stamp, and still be believed."""
_LAST: Final = datetime.max.replace(tzinfo=UTC)
EARLIEST: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""No release is older than this program, so a clock that shows an earlier time is wrong."""


class Verifier:
    """Verifies envelopes for one device.

    Args:
        anchors: what is pinned; at least one.
        policy: what the device demands.

    Raises:
        Failed: `state.policy`, `state.clock`.
    """

    def __init__(self, anchors: Iterable[Anchor], policy: DevicePolicy | None = None) -> None:
        self._anchors = tuple(anchors)
        self._policy = policy if policy is not None else DevicePolicy()
        if not self._anchors:
            raise Failed("state.policy", "no anchor given: nobody is trusted", expected="an anchor")
        for vendor in (name for anchor in self._anchors for name in anchor.vendors):
            if not is_domain(vendor):
                what = f'an anchor\'s vendor "{vendor}" is not a lower-case domain'
                raise Failed("state.policy", what, found=vendor)
        check_policy(self._policy)

    def verify(self, envelope: bytes, *, at: datetime) -> VerifiedRelease:
        """Run steps 1 to 9.

        Args:
            envelope: the content of a `.suit` file.
            at: the clock's time, with a zone. It may be wrong, so it is never trusted alone.

        Raises:
            FwsignError: with the code and the step at which the envelope was refused.
        """
        at = utc(at)
        decoded, manifest_digest, signers = self._read(envelope, at)
        with step(6):
            self._check_signers(signers)
        with step(7):
            manifest, text = decode_content(decoded)
            lists = decode_block_lists(manifest, decoded.integrated)
            recipients = decode_encryptions(manifest.components, decoded.integrated, lists)
        with step(8):
            signers = tuple(self._limit_to_vendor(one, manifest, text) for one in signers)
            demands = self._check_signers(signers)
        counting = [one for one, _ in counted(signers)]
        now = max(one.now for one in counting)
        with step(9):
            unchecked = check_device(self._policy, manifest, text, manifest_digest, now)
        if not all(one.revocation_checked for one in counting):
            unchecked = ("revocation", *unchecked)
        return seal(
            manifest=manifest,
            manifest_digest=manifest_digest,
            text=text,
            vendor=_vendor_name(self._policy.vendors_of(counted(signers)[0][1]), manifest) or "",
            signers=signers,
            demands=demands,
            unchecked=unchecked,
            notes=self._notes(counting),
            now=now,
            known_time=self._known_time(counting, at),
            integrated=decoded.integrated,
            block_lists=lists,
            recipients=recipients,
        )

    def teaching(self, envelope: bytes, *, at: datetime) -> tuple[Issued, ...]:
        """Return the CRLs that a refused envelope proves, for a device that remembers them.

        They are those of steps 3 to 5: verified for the path of a signer of this device's vendor to
        an anchor. Nothing is said of the release itself.

        Args:
            envelope: as for `verify`.
            at: as for `verify`.

        Returns:
            The certificates of these paths, with their issuers' CRLs; none without a vendor.

        Raises:
            FwsignError: as `verify`, of the steps 1 to 5.
        """
        _, _, signers = self._read(envelope, utc(at))
        vendor, policy = self._policy.vendor, self._policy
        mine = [one for one in signers if one.path and vendor in policy.vendors_of(one.path)]
        return tuple(issued for one in mine for issued in one.issued)

    def survey(
        self, envelope: bytes, *, at: datetime
    ) -> tuple[tuple[VerifiedSigner, ...], tuple[Demand, ...]]:
        """Judge each block, and what the blocks meet together of what roles demand.

        It is no verdict on the release: whether it suits this device is not asked.

        Args:
            envelope: as for `verify`.
            at: as for `verify`.

        Returns:
            The verdicts on all blocks, and the demands of the policy's roles, met or not.

        Raises:
            FwsignError: as `verify`, of the steps 1 to 5 and 7.
        """
        decoded, _, signers = self._read(envelope, utc(at))
        with step(7):
            manifest, text = decode_content(decoded)
        signers = tuple(self._limit_to_vendor(one, manifest, text) for one in signers)
        paths = [path for _, path in counted(signers)]
        return signers, judge_signers(self._policy.signers, paths) if self._policy.signers else ()

    def _read(
        self, envelope: bytes, at: datetime
    ) -> tuple[Envelope, bytes, tuple[VerifiedSigner, ...]]:
        """Run steps 1 to 5; return envelope, manifest digest, and the verdict on each block."""
        with step(1):
            decoded = decode_envelope(envelope)
            blocks = decode_blocks(decoded.blocks)
        with step(2):
            manifest_digest = check_manifest_digest(decoded)
        verifier = BlockVerifier(self._anchors, self._policy, at)
        signers = tuple(verifier.verify(block, decoded.digest) for block in blocks)
        return decoded, manifest_digest, signers

    def _check_signers(self, signers: Sequence[VerifiedSigner]) -> tuple[Demand, ...]:
        """Step 6: enough blocks count, of the right roles. Return what the roles demand, all met.

        A block's own refusal is raised, if there is one, stale last.
        """
        paths = [path for _, path in counted(signers)]
        missing = missing_signers(self._policy, paths)
        demands = judge_signers(self._policy.signers, paths) if self._policy.signers else ()
        unmet = [one for one in demands if not one.met]
        if missing is None and not unmet:
            return demands
        refusals = [one.refusal for one in signers if one.refusal is not None]
        if refusals:
            worst = min(refusals, key=lambda refusal: isinstance(refusal, Stale))
            raise worst.with_more(*map(str, unmet))
        code: Code = "untrusted.slot" if missing and self._policy.slots else "untrusted.signers"
        wanted = [*([missing] if missing else []), *(one.wanted for one in unmet)]
        words = [f"the policy demands {missing}"] if missing else []
        raise Untrusted(
            code,
            "; ".join((*words, *map(str, unmet))),
            expected="; ".join(wanted),
            found="; ".join(one.there for one in unmet) or None,
        )

    def _limit_to_vendor(
        self, signer: VerifiedSigner, manifest: suit.Manifest, text: Text | None
    ) -> VerifiedSigner:
        """Step 8: a leaf that does not list the manifest's vendor no longer counts."""
        if signer.path is None:
            return signer
        vendors = self._policy.vendors_of(signer.path)
        if _vendor_name(vendors, manifest) is not None:
            return signer._replace(for_vendor=True)
        if signer.refusal is not None:
            return signer
        allowed = ", ".join(vendors) or "no vendor"
        wanted = text.vendor if text else manifest.vendor_id.hex()
        refusal = Untrusted(
            "untrusted.vendor",
            f'"{signer.path.name}" may sign for {allowed}, the manifest is for {wanted}',
            step=8,
            expected=wanted,
            found=allowed,
        )
        return signer._replace(refusal=refusal)

    def _known_time(self, signers: Sequence[VerifiedSigner], at: datetime) -> datetime | None:
        """Find a time that has passed, from the CRLs of the signers that count (ADR 13).

        One of several signers must not move a device to a year in which no other signer is valid.
        So a CRL's time counts only if the clock or a token supports it. If the clock must be
        wrong, times count up to the latest that every signer's CRLs reach.
        """
        times = [updates(one.issued) for one in signers]
        clocks = [at, *(one.signed_at for one in signers if one.signed_at)]
        latest = max(clocks)  # the sum below must not overflow the calendar
        most = latest + min(MAX_CRL_LEAD, _LAST - latest)
        # A CRL may move the floor ahead by its lead: that does not prove the clock wrong.
        behind = (self._policy.time_floor or at) - at
        if (at < EARLIEST or behind > MAX_CRL_LEAD) and all(times):
            most = max(most, min(max(own) for own in times))
        return max((one for own in times for one in own if one <= most), default=None)

    def _notes(self, signers: Sequence[VerifiedSigner]) -> tuple[str, ...]:
        notes = [note for signer in signers for note in signer.notes]
        if self._policy.one_ca_suffices:
            why = "its roles name no two CAs" if self._policy.signers else "no slots are pinned"
            notes.append(f"a single CA could meet this policy alone: {why}")
        return tuple(dict.fromkeys(notes))


def utc(at: datetime) -> datetime:
    """Return a time in UTC, without fractions of a second."""
    if at.utcoffset() is None:
        raise Failed("state.clock", "the time given has no time zone")
    try:
        return at.astimezone(UTC).replace(microsecond=0)
    except OverflowError:
        raise Failed("state.clock", f"the time given is not possible: {at.isoformat()}") from None


def _vendor_name(vendors: Sequence[str], manifest: suit.Manifest) -> str | None:
    return next((name for name in vendors if vendor_id(name) == manifest.vendor_id), None)
