# SPDX-License-Identifier: Apache-2.0
"""The verifier: ten numbered steps from bytes to a `VerifiedRelease` (docs/format.md).

     1  decode envelope, wrapper and blocks        6  enough of the right signers
     2  the manifest is the one that was signed    7  decode the manifest, match a template
     3  each block: path and signature             8  each signer may sign for this vendor
     4  each block: time                           9  the release is for this device, and fresh
     5  each block: revocation                    10  payload, while it streams

No file, socket, environment or clock is read here: time, anchors and CRLs are arguments.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from fwsign.errors import (
    Code,
    Failed,
    FwsignError,
    Stale,
    Tampered,
    Unsuitable,
    Untrusted,
)
from fwsign.format import suit
from fwsign.format.algorithms import ALGORITHMS, SHA256
from fwsign.format.blocks import decode_block_lists
from fwsign.format.cose import (
    Block,
    allowed_rsa_size,
    key_kind,
    sig_structure,
    verify_signature,
)
from fwsign.format.opening import check_manifest_digest, decode_blocks, decode_content
from fwsign.format.payload import digest
from fwsign.verify.policy import (
    DevicePolicy,
    Recorded,
    Slot,
    check_policy,
    missing_signers,
    refuse_example,
)
from fwsign.verify.token import Stamp, judge_token
from fwsign.verify.verified import VerifiedRelease, VerifiedSigner, seal
from fwsign.x509.anchor import Anchor
from fwsign.x509.chain import CertificationPath, check_dates, validate_path
from fwsign.x509.constraints import is_domain
from fwsign.x509.revocation import CrlReader, Issued, check_kept, updates

__all__ = [
    "Anchor",
    "DevicePolicy",
    "Recorded",
    "Slot",
    "VerifiedRelease",
    "VerifiedSigner",
    "Verifier",
]


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
        at = _utc(at)
        with _step(1):
            decoded = suit.decode_envelope(envelope)
            blocks = decode_blocks(decoded.blocks)
        with _step(2):
            manifest_digest = check_manifest_digest(decoded)
        crls = self._policy.crl_reader()
        signers = tuple(self._judge(block, decoded.digest, at, crls) for block in blocks)
        with _step(6):
            self._check_signers(signers)
        with _step(7):
            manifest, text = decode_content(decoded)
            lists = decode_block_lists(manifest, decoded.integrated)
        with _step(8):
            signers = tuple(self._limit_to_vendor(one, manifest, text) for one in signers)
            self._check_signers(signers)
        counted = [(one, one.path) for one in signers if one.path and one.refusal is None]
        now = max(one.now for one, _ in counted)
        with _step(9):
            unchecked = self._check_device(manifest, text, manifest_digest, now)
        if not all(one.revocation_checked for one, _ in counted):
            unchecked = ("revocation", *unchecked)
        return seal(
            manifest=manifest,
            manifest_digest=manifest_digest,
            text=text,
            vendor=_vendor_name(self._policy.vendors_of(counted[0][1]), manifest) or "",
            signers=signers,
            unchecked=unchecked,
            notes=self._notes([one for one, _ in counted]),
            now=now,
            known_time=self._known_time([one for one, _ in counted], at),
            integrated=decoded.integrated,
            block_lists=lists,
        )

    def _judge(self, block: Block, payload: bytes, at: datetime, crls: CrlReader) -> VerifiedSigner:
        """Steps 3 to 5. A trust failure leaves the block uncounted; all else refuses."""
        known = ALGORITHMS.get(block.algorithm)
        signer = VerifiedSigner(known.name if known else str(block.algorithm), at)
        try:
            with _step(3):
                signer = signer._replace(path=(path := self._authenticate(block, payload)))
            with _step(5):  # the CRLs are collected first: step 4 needs their times
                issued, forgiven = crls.collect(path, block.crls)
            with _step(4):
                stamp, now = self._judge_token(block, issued, at, crls)
                every = (*issued, *(stamp.issued if stamp else ()))
                signer = signer._replace(stamp=stamp, issued=every, now=now)
                notes = self._check_time(path, issued, stamp, now, behind=at < now)
            with _step(5):
                checked, stale = self._check_revocation(block, path, signer, issued, crls)
            notes = (*notes, *stale, *path.forgiven, *forgiven)
            return signer._replace(revocation_checked=checked, notes=notes)
        except FwsignError as refusal:
            if not _leaves_uncounted(refusal, block, signer):
                raise
            _add_token_refusal(refusal, signer.stamp)
            return signer._replace(refusal=refusal)

    def _authenticate(self, block: Block, payload: bytes) -> CertificationPath:
        """Step 3: algorithm, x5t, path without dates, signature."""
        if block.algorithm not in ALGORITHMS:
            raise Untrusted(
                "untrusted.algorithm",
                f"COSE algorithm {block.algorithm} is not one of "
                + ", ".join(algorithm.name for algorithm in ALGORITHMS.values()),
                found=block.algorithm,
            )
        message = sig_structure(block.protected, payload)
        if not block.chain:
            path = self._find_bare_key(block, message)
        else:
            if digest(SHA256, block.chain[0]) != block.x5t:
                raise Tampered("tampered.x5t", "the leaf certificate is not the one x5t names")
            path = validate_path(block.chain, self._anchors, profile=self._policy.profile)
            leaf = path.certificates[0]
            verify_signature(block.algorithm, leaf.key, message, block.signature)
        refuse_example(self._policy, path)
        return path

    def _find_bare_key(self, block: Block, message: bytes) -> CertificationPath:
        kind = ALGORITHMS[block.algorithm].key
        failure: FwsignError = Untrusted(
            "untrusted.no-anchor",
            f"the block has no certificate, and no bare {kind} key is pinned",
            expected=f"a pinned {kind} key",
            found="none",
        )
        bare = (anchor for anchor in self._anchors if anchor.certificate is None)
        for anchor in bare:
            if key_kind(anchor.key) == kind and allowed_rsa_size(anchor.key):
                try:
                    verify_signature(block.algorithm, anchor.key, message, block.signature)
                except Tampered as error:
                    failure = error
                else:
                    return CertificationPath((), anchor)
        raise failure

    def _judge_token(
        self, block: Block, issued: Sequence[Issued], at: datetime, crls: CrlReader
    ) -> tuple[Stamp | None, datetime]:
        """Step 4: judge the token, and find `now`, the latest time that is known to have passed.

        A wrong clock cannot lower it. A token that counts moves it for its own block only.
        """
        known = max(at, self._policy.time_floor or at, *updates(issued))
        if block.token is None:
            return None, known
        stamp = judge_token(
            block.token,
            block.signature,
            self._policy,
            crls,
            stapled=block.crls,
            known=known,
            at_hand=bool(block.crls) or any(one.crls for one in issued),
        )
        return stamp, max(known, stamp.signed_at or known, *updates(stamp.issued))

    def _check_time(
        self,
        path: CertificationPath,
        issued: Sequence[Issued],
        stamp: Stamp | None,
        now: datetime,
        *,
        behind: bool,
    ) -> tuple[str, ...]:
        """Step 4: certificates are valid at the token's time, else at `now`. Return notes."""
        if stamp is not None and stamp.signed_at is not None:
            check_dates(path, stamp.signed_at, when="its time stamp says")
            check_kept(issued, now)
            return stamp.notes
        refusal = stamp.refusal if stamp else None
        if self._policy.require_token:
            message = f'"{path.name}" gives no time-stamp token'
            raise refusal or Untrusted("untrusted.token-required", message)
        check_dates(path, now, not_before=not behind)
        unproven = ("freshness unproven: the clock is behind",) if behind else ()
        return (*unproven, *([f"time-stamp token not counted: {refusal}"] if refusal else []))

    def _check_revocation(
        self,
        block: Block,
        path: CertificationPath,
        signer: VerifiedSigner,
        issued: Sequence[Issued],
        crls: CrlReader,
    ) -> tuple[bool, tuple[str, ...]]:
        """Step 5: one CRL at hand means that every issuer needs one. Tell if all were judged."""
        stamp = signer.stamp if signer.signed_at else None
        checked = stamp is None or stamp.revocation_checked
        at_hand = bool(block.crls) or any(one.crls for one in issued)
        if not self._policy.judges_revocation(at_hand=at_hand):
            return checked and not path.certificates and self._policy.revocation != "off", ()
        allowed = self._policy.allow_stale
        notes = crls.check(issued, signer.now, signer.signed_at, allow_stale=allowed)
        return checked, notes

    def _check_signers(self, signers: Sequence[VerifiedSigner]) -> None:
        """Step 6: enough blocks count. Raise a block's own refusal, if there is one, stale last."""
        counted = [one.path for one in signers if one.path and one.refusal is None]
        missing = missing_signers(self._policy, counted)
        if missing is None:
            return
        refusals = [one.refusal for one in signers if one.refusal is not None]
        if refusals:
            raise min(refusals, key=lambda refusal: isinstance(refusal, Stale))
        code: Code = "untrusted.slot" if self._policy.slots else "untrusted.signers"
        raise Untrusted(code, f"the policy demands {missing}", expected=missing)

    def _limit_to_vendor(
        self, signer: VerifiedSigner, manifest: suit.Manifest, text: suit.Text | None
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

    def _check_device(
        self,
        manifest: suit.Manifest,
        text: suit.Text | None,
        manifest_digest: bytes,
        now: datetime,
    ) -> tuple[str, ...]:
        """Step 9: vendor, product, sequence, expiry. Return the names of the steps not run."""
        policy = self._policy
        if policy.vendor is not None and suit.vendor_id(policy.vendor) != manifest.vendor_id:
            found = text.vendor if text else manifest.vendor_id.hex()
            raise _not_for_this_device("vendor", policy.vendor, found)
        if (
            policy.vendor is not None
            and policy.product is not None
            and suit.class_id(policy.vendor, policy.product) != manifest.class_id
        ):
            found = text.product if text else manifest.class_id.hex()
            raise _not_for_this_device("product", policy.product, found)
        _check_sequence(policy, manifest, manifest_digest)
        if manifest.use_before is not None and now.timestamp() >= manifest.use_before:
            until = datetime.fromtimestamp(manifest.use_before, UTC).isoformat()
            raise Stale(
                "stale.release",
                f"the release was to be used before {until}, it is {now.isoformat()}",
                expected=f"a time before {until}",
                found=now.isoformat(),
            )
        said = (policy.vendor, policy.product, policy.min_sequence)
        names = ("vendor", "product", "rollback")
        return tuple(name for name, value in zip(names, said, strict=True) if value is None)

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
            notes.append("a single CA could meet this policy alone: no slots are pinned")
        return tuple(dict.fromkeys(notes))


def _utc(at: datetime) -> datetime:
    """Return a time in UTC, without fractions of a second."""
    if at.utcoffset() is None:
        raise Failed("state.clock", "the time given has no time zone")
    try:
        return at.astimezone(UTC).replace(microsecond=0)
    except OverflowError:
        raise Failed("state.clock", f"the time given is not possible: {at.isoformat()}") from None


@contextmanager
def _step(number: int) -> Iterator[None]:
    """Give a refusal the number of the step that made it."""
    try:
        yield
    except FwsignError as error:
        error.step = error.step or number
        raise


def _vendor_name(vendors: Sequence[str], manifest: suit.Manifest) -> str | None:
    return next((name for name in vendors if suit.vendor_id(name) == manifest.vendor_id), None)


def _not_for_this_device(
    what: Literal["vendor", "product"], expected: str, found: str
) -> Unsuitable:
    return Unsuitable(
        "unsuitable.vendor" if what == "vendor" else "unsuitable.product",
        f'the release is for {what} "{found}", this device is "{expected}"',
        expected=expected,
        found=found,
    )


def _leaves_uncounted(refusal: FwsignError, block: Block, signer: VerifiedSigner) -> bool:
    """Tell whether a refusal only leaves its block uncounted; any other refuses the envelope."""
    if isinstance(refusal, Untrusted | Stale):
        return True
    if signer.stamp is not None and refusal is signer.stamp.refusal:
        return True  # the policy demands a token, and a bad one counts like a missing one
    # A block without certificates names no key: a device that pins another key may take it.
    return isinstance(refusal, Tampered) and not block.chain and signer.path is None


def _add_token_refusal(refusal: FwsignError, stamp: Stamp | None) -> None:
    """Add to a block's refusal why its token, which might have helped, does not count."""
    if stamp is not None and stamp.refusal not in (None, refusal):
        refusal.message += f"; its time-stamp token does not count: {stamp.refusal}"
        refusal.args = (refusal.message,)


def _check_sequence(policy: DevicePolicy, manifest: suit.Manifest, manifest_digest: bytes) -> None:
    number, floor = manifest.sequence_number, policy.min_sequence
    if floor is None or number > floor:
        return
    if number < floor:
        raise Unsuitable(
            "unsuitable.rollback",
            f"sequence number {number} is below {floor}, the lowest that is still accepted",
            expected=f"{floor} or more",
            found=number,
        )
    if any(manifest_digest == recorded.manifest_digest for recorded in policy.recorded):
        return
    taken = {_place(place) for recorded in policy.recorded for place in recorded.components}
    shared = [item.name for item in manifest.components if _place(item.identifier) in taken]
    if shared:
        raise Unsuitable(
            "unsuitable.conflict",
            f'another release with sequence number {number} has "{shared[0]}" already',
            expected="the release accepted before, or a higher sequence number",
            found=manifest_digest.hex(),
        )


def _place(identifier: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return a component's place, in lower case: file systems may ignore the case of a name."""
    return (*identifier[:1], *(part.lower() for part in identifier[1:2]), *identifier[2:])
