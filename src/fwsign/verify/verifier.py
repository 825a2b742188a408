# SPDX-License-Identifier: Apache-2.0
"""The verifier: ten numbered steps from bytes to a `VerifiedRelease` (docs/format.md).

     1  decode envelope, wrapper and blocks        6  enough of the right signers
     2  the manifest is the one that was signed    7  decode the manifest, match a template
     3  each block: path and signature             8  each signer may sign for this vendor
     4  each block: time                           9  the release is for this device, and fresh
     5  each block: revocation                    10  payload, while it streams

No file, socket, environment or clock is read here: time, anchors and CRLs are arguments.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, TypeVar

from fwsign.errors import Code, Failed, Stale, Untrusted
from fwsign.format import channel as channel_format
from fwsign.format import permit as permit_format
from fwsign.format import suit
from fwsign.format.blocks import decode_block_lists
from fwsign.format.decryption import decode_encryptions
from fwsign.format.envelope import Envelope, check_manifest_digest, decode_envelope
from fwsign.format.identifiers import vendor_id
from fwsign.format.opening import decode_blocks, decode_content
from fwsign.format.statement import Content, Form, open_statement
from fwsign.verify import permit as permits
from fwsign.verify.block import BlockVerifier, step
from fwsign.verify.channel import SeenChannel, channel_policy, check_followed
from fwsign.verify.device import Candidate, Named, check_device
from fwsign.verify.permit import VerifiedPermit
from fwsign.verify.policy import DevicePolicy, check_policy, missing_signers
from fwsign.verify.signers import Demand, judge_signers
from fwsign.verify.verified import (
    Proven,
    VerifiedChannel,
    VerifiedRelease,
    VerifiedSigner,
    counted,
    seal,
    seal_channel,
)
from fwsign.x509.anchor import Anchor
from fwsign.x509.constraints import is_domain
from fwsign.x509.revocation import Issued, updates
from fwsign.x509.roles import Use

MAX_CRL_LEAD: Final = timedelta(days=1)
"""How far a CRL's thisUpdate may be ahead of the clock, or a time stamp, and still be believed."""
_Said = TypeVar("_Said", bound=Named)
_LAST: Final = datetime.max.replace(tzinfo=UTC)
EARLIEST: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""No release is older than this program, so a clock that shows an earlier time is wrong."""


class _Read(NamedTuple):
    """An envelope after steps 1 to 5, with the verdict on each block, and the clock's time."""

    envelope: Envelope
    manifest_digest: bytes
    signers: tuple[VerifiedSigner, ...]
    at: datetime


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
        read = self._read(envelope, utc(at), "codeSigning")
        with step(6):
            self._check_signers(read.signers)
        with step(7):
            manifest, text = decode_content(read.envelope)
            lists = decode_block_lists(manifest, read.envelope.integrated)
            keys = decode_encryptions(manifest.components, read.envelope.integrated, lists)
        facts, demands = self._judge("release", read, manifest, text)
        return seal(
            facts,
            text=text,
            demands=demands,
            integrated=read.envelope.integrated,
            block_lists=lists,
            recipients=keys,
        )

    def verify_channel(
        self, data: bytes, *, at: datetime, name: str | None = None, seen: SeenChannel | None = None
    ) -> VerifiedChannel:
        """Run steps 1 to 9 for a channel: its signer's key is for channels alone.

        Args:
            data: the content of a `.channel` file.
            at: the clock's time, as for `verify`.
            name: the name of the channel that the device follows; None takes any.
            seen: the last channel of that name that the device took; None if there was none. Older
                ones are refused, and another of the same number.

        Raises:
            FwsignError: with the code and the step at which the channel was refused.
        """
        one_signer = Verifier(self._anchors, channel_policy(self._policy, seen))
        facts, channel = one_signer._verify_statement(
            channel_format.FORM, "configSigning", data, channel_format.decode_channel, at
        )
        with step(9):
            check_followed(channel, name, max(facts.now, EARLIEST))
        return seal_channel(facts, channel)

    def verify_permit(
        self, data: bytes, *, at: datetime, device: str | None, release: bytes
    ) -> VerifiedPermit:
        """Run steps 1 to 9 for a permit: its signers are those of releases, as many of them.

        Args:
            data: the content of a `.permit` file.
            at: the clock's time, as for `verify`; a permit needs one that is right.
            device: this device's id; None if it has none.
            release: the manifest digest of the release that shall be let in.

        Raises:
            FwsignError: with the code and the step at which the permit was refused.
        """
        at = utc(at)
        own = Verifier(self._anchors, permits.permit_policy(self._policy))
        facts, permit = own._verify_statement(
            permit_format.FORM, "codeSigning", data, permit_format.decode_permit, at
        )
        with step(9):
            permits.check_permitted(permit, device, release)
            permits.check_time(permit, at, facts.now)
        return permits.seal_permit(facts, permit)

    def _verify_statement(
        self,
        form: Form,
        use: Use,
        data: bytes,
        decode: Callable[[Content], _Said],
        at: datetime,
    ) -> tuple[Proven, _Said]:
        """Run steps 1 to 9 for a statement; return its facts, and its content as decoded."""
        read = self._read(data, utc(at), use)
        with step(6):
            self._check_signers(read.signers)
        with step(7):
            content = open_statement(form, read.envelope)
            said = decode(content)
        return self._judge(form.kind, read, content.manifest, said)[0], said

    def _judge(
        self, kind: suit.Kind, read: _Read, manifest: suit.Manifest, names: Named | None
    ) -> tuple[Proven, tuple[Demand, ...]]:
        """Run steps 8 and 9; return the facts, and the demands of roles, all met."""
        with step(8):
            signers = tuple(self._limit_to_vendor(one, manifest, names) for one in read.signers)
            demands = self._check_signers(signers)
        counting = [one for one, _ in counted(signers)]
        now = max(one.now for one in counting)
        with step(9):
            asked = Candidate(kind, manifest, read.manifest_digest)
            unchecked = check_device(self._policy, asked, names, now)
        if not all(one.revocation_checked for one in counting):
            unchecked = ("revocation", *unchecked)
        facts = Proven(
            manifest,
            read.manifest_digest,
            _vendor_name(self._policy.vendors_of(counted(signers)[0][1]), manifest) or "",
            signers,
            unchecked,
            self._notes(counting),
            now,
            self._known_time(counting, read.at),
        )
        return facts, demands

    def teaching(
        self, envelope: bytes, *, at: datetime, use: Use = "codeSigning"
    ) -> tuple[Issued, ...]:
        """Return the CRLs that a refused envelope proves, for a device that remembers them.

        They are those of steps 3 to 5: verified for the path of a signer of this device's vendor to
        an anchor. Nothing is said of the release itself.

        Args:
            envelope: as for `verify`.
            at: as for `verify`.
            use: what the signers' keys are for; "configSigning" for a channel.

        Returns:
            The certificates of these paths, with their issuers' CRLs; none without a vendor.

        Raises:
            FwsignError: as `verify`, of the steps 1 to 5.
        """
        signers = self._read(envelope, utc(at), use).signers
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
        read = self._read(envelope, utc(at), "codeSigning")
        with step(7):
            manifest, text = decode_content(read.envelope)
        signers = tuple(self._limit_to_vendor(one, manifest, text) for one in read.signers)
        paths = [path for _, path in counted(signers)]
        return signers, judge_signers(self._policy.signers, paths) if self._policy.signers else ()

    def _read(self, data: bytes, at: datetime, use: Use) -> _Read:
        """Run steps 1 to 5."""
        with step(1):
            envelope = decode_envelope(data)
            blocks = decode_blocks(envelope.blocks)
        with step(2):
            manifest_digest = check_manifest_digest(envelope)
        verifier = BlockVerifier(self._anchors, self._policy, at, use)
        signers = tuple(verifier.verify(block, envelope.digest) for block in blocks)
        return _Read(envelope, manifest_digest, signers, at)

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
        self, signer: VerifiedSigner, manifest: suit.Manifest, names: Named | None
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
        wanted = names.vendor if names else manifest.vendor_id.hex()
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
