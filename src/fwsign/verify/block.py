# SPDX-License-Identifier: Apache-2.0
"""Steps 3 to 5: who signed a block, when, and whether a certificate was revoked."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from fwsign.errors import FwsignError, Malformed, Stale, Tampered, Untrusted
from fwsign.format.algorithms import ALGORITHMS, SHA256
from fwsign.format.cose import Block, sig_structure, verify_signature
from fwsign.format.payload import digest
from fwsign.verify.policy import UNPROVEN, DevicePolicy, refuse_example
from fwsign.verify.stamp import Stamp, judge_token
from fwsign.verify.verified import VerifiedSigner
from fwsign.x509.anchor import Anchor
from fwsign.x509.chain import CertificationPath, check_dates, validate_path
from fwsign.x509.revocation import Issued, check_kept, updates
from fwsign.x509.roles import USES, Use


@contextmanager
def step(number: int) -> Iterator[None]:
    """Give a refusal the number of the step that made it."""
    try:
        yield
    except FwsignError as error:
        error.step = error.step or number
        raise


class BlockVerifier:
    """Verifies the blocks of one envelope.

    Args:
        anchors: the pinned anchors.
        policy: the device's demands.
        at: the clock's time, in UTC.
        use: what the signers' keys must be for.
    """

    def __init__(
        self, anchors: Sequence[Anchor], policy: DevicePolicy, at: datetime, use: Use
    ) -> None:
        self._anchors, self._policy, self._at, self._use = anchors, policy, at, use
        self._crls = policy.crl_reader()

    def verify(self, block: Block, payload: bytes) -> VerifiedSigner:
        """Judge one block. A trust failure leaves it uncounted; all else refuses the envelope.

        Args:
            block: the decoded block.
            payload: the bytes that it signs.

        Raises:
            FwsignError: as `Verifier.verify`.
        """
        known = ALGORITHMS.get(block.algorithm)
        signer = VerifiedSigner(known.name if known else str(block.algorithm), self._at)
        try:
            with step(3):
                path = self._authenticate(block, payload)
                signer = signer._replace(path=path)
            with step(5):  # the CRLs are collected first: step 4 needs their times
                issued, forgiven = self._crls.collect(path, block.crls)
                at_hand = bool(block.crls) or any(one.crls for one in issued)
            with step(4):
                signer = self._judge_token(signer, block, issued, at_hand=at_hand)
                notes = self._check_time(path, issued, signer)
            with step(5):
                checked, stale = self._check_revocation(path, issued, signer, at_hand=at_hand)
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
            path = validate_path(
                block.chain, self._anchors, profile=self._policy.profile, use=self._use
            )
            leaf = path.certificates[0]
            verify_signature(block.algorithm, leaf.key, message, block.signature)
        refuse_example(self._policy, path)
        return path

    def _find_bare_key(self, block: Block, message: bytes) -> CertificationPath:
        if not USES[self._use].bare_signer:
            raise Untrusted(
                "untrusted.eku",
                f"the block has no certificate: only one for {self._use} may sign "
                f"{USES[self._use].signs}",
                expected=self._use,
                found="no certificate",
            )
        kind = ALGORITHMS[block.algorithm].key
        failure: FwsignError = Untrusted(
            "untrusted.no-anchor",
            f"the block has no certificate, and no bare {kind} key is pinned",
            expected=f"a pinned {kind} key",
            found="none",
        )
        for anchor in self._anchors:
            if anchor.certificate is not None:
                continue
            try:
                verify_signature(block.algorithm, anchor.key, message, block.signature)
            except Malformed:  # a key that does not fit the algorithm
                continue
            except Tampered as error:
                failure = error
            else:
                return CertificationPath((), anchor)
        raise failure

    def _judge_token(
        self, signer: VerifiedSigner, block: Block, issued: tuple[Issued, ...], *, at_hand: bool
    ) -> VerifiedSigner:
        """Step 4: judge the token, and find `now`, the latest time that is known to have passed.

        A wrong clock cannot lower it. A token that counts moves it for its own block only.
        """
        known = max(self._at, self._policy.time_floor or self._at, *updates(issued))
        if block.token is None:
            return signer._replace(issued=issued, now=known)
        stamp = judge_token(
            block.token,
            block.signature,
            self._policy,
            self._crls,
            stapled=block.crls,
            known=known,
            at_hand=at_hand,
        )
        now = max(known, stamp.signed_at or known, *updates(stamp.issued))
        return signer._replace(issued=(*issued, *stamp.issued), now=now, stamp=stamp)

    def _check_time(
        self, path: CertificationPath, issued: Sequence[Issued], signer: VerifiedSigner
    ) -> tuple[str, ...]:
        """Step 4: certificates are valid at the token's time, else at `now`. Return notes."""
        stamp, now = signer.stamp, signer.now
        if stamp is not None and stamp.signed_at is not None:
            check_dates(path, stamp.signed_at, when="its time stamp says")
            check_kept(issued, now)
            return stamp.notes
        refusal = stamp.refusal if stamp else None
        if self._policy.require_token:
            message = f'"{path.name}" gives no time-stamp token'
            raise refusal or Untrusted("untrusted.token-required", message)
        behind = self._at < now
        check_dates(path, now, not_before=not behind)
        unproven = (UNPROVEN,) if behind else ()
        return (*unproven, *([f"time-stamp token not counted: {refusal}"] if refusal else []))

    def _check_revocation(
        self,
        path: CertificationPath,
        issued: Sequence[Issued],
        signer: VerifiedSigner,
        *,
        at_hand: bool,
    ) -> tuple[bool, tuple[str, ...]]:
        """Step 5: one CRL at hand means that every issuer needs one. Tell if all were judged."""
        stamp = signer.stamp if signer.signed_at else None
        checked = stamp is None or stamp.revocation_checked
        if not self._policy.judges_revocation(at_hand=at_hand):
            return checked and not path.certificates and self._policy.revocation != "off", ()
        allowed = self._policy.allow_stale
        notes = self._crls.check(issued, signer.now, signer.signed_at, allow_stale=allowed)
        return checked, notes


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
