# SPDX-License-Identifier: Apache-2.0
"""The device's memory: accepted releases, the time floor, CRLs, and receipts.

Only `accept` and trust updates move floors. `fwsign.memory.file` keeps the file whole.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Self

from fwsign.format import identifiers
from fwsign.keys import Signer
from fwsign.memory import floors, receipts
from fwsign.memory import rows as state_rows
from fwsign.memory.channels import Channels, forget_channels
from fwsign.memory.crls import held_crls, keep_crls, knows_crls, teaching
from fwsign.memory.file import StateFile
from fwsign.memory.floors import Floor
from fwsign.memory.schema import check_text
from fwsign.trust.lists import TrustState, decode_trust, encode_trust
from fwsign.trust.update import apply_chain
from fwsign.verify.policy import DevicePolicy
from fwsign.verify.verified import VerifiedRelease
from fwsign.x509.revocation import Issued

_TRUST: Final = "SELECT value FROM facts WHERE name = 'trust'"
_TEXT: Final = "SELECT value FROM facts WHERE name = ?"


class State:
    """The open memory; a context manager. Only `open` makes it, and one thread uses it.

    Attributes:
        is_new: whether `open` made the file.
    """

    def __init__(self, file: StateFile) -> None:
        self._file = file
        self.is_new = file.is_new

    @classmethod
    def open(cls, path: Path, *, create: bool = False) -> Self:
        """Open a memory, and check that it is whole.

        Args:
            path: the file.
            create: make the file and its directory, if there is none.

        Raises:
            Failed: `state.lost`, `state.foreign`, `state.newer`, `state.damaged`, `state.busy`,
                `io.*`.
        """
        return cls(StateFile.open(path, create=create))

    def close(self) -> None:
        """Close the file; undo uncommitted changes."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def transaction(self) -> AbstractContextManager[None]:
        """Make all changes inside it one step: all of them are kept, or none.

        Raises:
            Failed: `state.busy`, `io.*`.
        """
        return self._file.transaction("write")

    def floor(self, identity: str | None, vendor: str, product: str) -> Floor | None:
        """Return the floor of a product on a board; None if it has none yet.

        Args:
            identity: the board's identity; None for boards without one, which share a floor.
            vendor: the vendor's domain.
            product: the product's name.

        Raises:
            Failed: `state.limit`, `state.damaged`, `state.busy`, `io.*`.
        """
        key = floors.key(
            identity, identifiers.vendor_id(vendor), identifiers.class_id(vendor, product)
        )
        with self._file.transaction("read"):  # both tables at one moment
            return floors.get(self._file, key)

    def policy(
        self, base: DevicePolicy, identity: str | None, release: VerifiedRelease | None = None
    ) -> tuple[DevicePolicy, Floor | None]:
        """Add the memory's floors and CRLs to a policy, for `Verifier`.

        If the policy names vendor and product, or a release is given, "rollback" is checked from
        the first release on. The time floor is the vendor's: CRLs of other vendors never move it.

        Args:
            base: the device's own policy; the stricter demand counts.
            identity: the board's identity.
            release: the release to verify for this board; its product's floor counts.

        Returns:
            The policy, and the floor for `accept`; None on first use.

        Raises:
            Failed: as `floor`.
        """
        vendor = release.manifest.vendor_id if release else floors.vendor_of(base)
        with self._file.transaction("read"):
            time = floors.time(self._file, vendor) if vendor is not None else None
            policy = base._replace(
                held=(*base.held, *held_crls(self._file)),
                time_floor=max(filter(None, (base.time_floor, time)), default=None),
            )
            if release is not None:
                manifest = release.manifest
                key = floors.key(identity, manifest.vendor_id, manifest.class_id)
                floor = floors.get(self._file, key)
            elif base.vendor is None or base.product is None:
                return policy, None
            else:
                floor = self.floor(identity, base.vendor, base.product)
        return floors.raised(policy, floor), floor

    def accept(
        self,
        identity: str | None,
        release: VerifiedRelease,
        expected: Floor | None,
        *,
        on_trial: bool = False,
    ) -> None:
        """Remember that a release was accepted under a policy from `policy`.

        The floor only rises. A release with a waived rollback check never lowers it, and is not
        recorded at it. The clock is not remembered, only the release's `known_time`, and only for
        its vendor. CRLs that came with blocks for this vendor are kept, whether the blocks count
        or not: a revocation may be the very reason why a block does not count.

        Args:
            identity: the board's identity.
            release: the verified release.
            expected: the floor that `policy` returned; not compared if that check was waived.
            on_trial: keep time and CRLs, and let no floor rise yet.

        Raises:
            Failed: `state.conflict`: another release was accepted meanwhile, verify again;
                `state.limit`, `state.damaged`, `state.busy`, `io.*`.
        """
        manifest = release.manifest
        key = floors.key(identity, manifest.vendor_id, manifest.class_id)
        with self.transaction():
            floor = floors.get(self._file, key)
            known = floor or Floor(-1)
            if all(release.manifest_digest != one.manifest_digest for one in known.recorded):
                if "rollback" not in release.unchecked:
                    floors.check_unmoved(floor, expected)
                if not on_trial:
                    floors.rise(self._file, key, known, release)
            floors.keep_time(self._file, key.vendor, release.known_time)
            keep_crls(self._file, teaching(release))

    def knows(self, release: VerifiedRelease) -> bool:
        """Tell whether `accept` would learn nothing from the CRLs of a release.

        Raises:
            Failed: `state.limit`, `state.busy`, `io.*`.
        """
        with self._file.transaction("read"):
            return knows_crls(self._file, teaching(release))

    def learn(self, issued: Sequence[Issued]) -> bool:
        """Keep CRLs that came alone, verified for paths of this vendor; tell if any was new.

        Raises:
            Failed: `state.limit`, `state.busy`, `io.*`.
        """
        with self._file.transaction("read"):
            known = knows_crls(self._file, issued)
        if not known:  # a device that asks every minute must not wear the disk out
            with self.transaction():
                keep_crls(self._file, issued)
        return not known

    def trust(self) -> TrustState | None:
        """Return the list of anchors from trust updates; None if there was no update yet.

        Raises:
            Failed: `state.damaged`, `state.busy`, `io.*`.
        """
        with self._file.transaction("read"):
            found = self._file.run(_TRUST).fetchone()
        with self._file.whole("the list of anchors"):
            return decode_trust(found[0]) if found else None

    def apply_trust(
        self, updates: Sequence[bytes], enrolled: TrustState, identity: str | None = None
    ) -> TrustState:
        """Verify trust updates, keep the last list, and reset floors as they state, in one step.

        `fwsign.gateway.trust.advance` also ends what a gateway had begun.

        Args:
            updates: in the order of their numbers; see `fwsign.trust.update.apply_chain`.
            enrolled: the list that counts if none was kept yet.
            identity: the device's identity, as for `floor`.

        Raises:
            FwsignError: as `fwsign.trust.update.apply_chain`; the memory is then unchanged.
            Failed: `state.limit`, `state.busy`, `io.*`.
        """
        with self.transaction():
            current = self.trust() or enrolled
            update = apply_chain(current, updates)
            if update.trust.number > current.number:
                kept = encode_trust(update.trust)
                self._file.run("REPLACE INTO facts VALUES ('trust', ?)", kept)
                floors.reset(self._file, update, identity)
            if update.trust.epoch > current.epoch:
                forget_channels(self._file, current.vendor, current.product)
        return update.trust

    def channels(self) -> Channels:
        """Return the channels that were taken last."""
        return Channels(self._file)

    def append_receipt(
        self, receipt: Mapping[str, Any], signer: Signer | None = None, chain: Sequence[bytes] = ()
    ) -> str:
        """Add a receipt to the chain and return its line; see `fwsign.receipts.chain.make_line`.

        Raises:
            Failed: `state.receipt`, `state.busy`, `io.*`, `key.*`.
        """
        with self.transaction():
            return receipts.append(self._file, receipt, signer, chain)

    def prune_receipts(
        self,
        drop: int,
        facts: Mapping[str, Any],
        signer: Signer | None = None,
        chain: Sequence[bytes] = (),
    ) -> int:
        """Remove the oldest receipts; see `fwsign.memory.receipts.prune`.

        Raises:
            Failed: `state.receipt`, `state.busy`, `io.*`, `key.*`.
        """
        with self.transaction():
            return receipts.prune(self._file, drop, facts, signer, chain)

    def serial_of(self, batch: state_rows.Batch, identity: str) -> str | None:
        """Return the serial number of the row of device data that a board has; None without one.

        Raises:
            Failed: `state.busy`, `io.*`.
        """
        with self._file.transaction("read"):
            return state_rows.serial_of(self._file, batch, identity)

    def board_of(self, batch: state_rows.Batch, serial: str) -> str | None:
        """Return the identity of the board that has a row of device data; None if it is free.

        Raises:
            Failed: `state.busy`, `io.*`.
        """
        with self._file.transaction("read"):
            return state_rows.board_of(self._file, batch, serial)

    def first_free(self, batch: state_rows.Batch, serials: Iterable[str]) -> str | None:
        """Return the first of several serial numbers that no board has; None if all are taken.

        Raises:
            Failed: `state.busy`, `io.*`.
        """
        with self._file.transaction("read"):
            return state_rows.first_free(self._file, batch, serials)

    def allot(self, batch: state_rows.Batch, identity: str, serial: str) -> bool:
        """Give a row of device data to a board for ever; return whether the board has it now.

        Raises:
            Failed: `state.limit`, `state.busy`, `io.*`.
        """
        floors.key(identity, batch.vendor, batch.klass)
        with self.transaction():
            return state_rows.allot(self._file, batch, identity, serial)

    def last_receipt(self) -> str | None:
        """Return the line of the newest receipt.

        Raises:
            Failed: `state.busy`, `io.*`.
        """
        with self._file.transaction("read"):
            return receipts.last(self._file)

    def remembered(self, name: str) -> str | None:
        """Return a text that `remember` kept; None if there is none.

        Raises:
            Failed: `state.busy`, `io.*`.
        """
        with self._file.transaction("read"):
            found = self._file.run(_TEXT, f"text:{name}").fetchone()
        return str(found[0]) if found else None

    def remember(self, name: str, text: str | None) -> None:
        """Keep a text under a name; None removes it.

        Raises:
            Failed: `state.limit`: it has more than `MAX_TEXT` characters; `state.busy`, `io.*`.
        """
        check_text(text or "")
        with self.transaction():
            self._file.run("DELETE FROM facts WHERE name = ?", f"text:{name}")
            if text is not None:
                self._file.run("INSERT INTO facts VALUES (?, ?)", f"text:{name}", text)

    def forget(self) -> None:
        """Forget everything that affects decisions, for a new enrolment; the receipts stay.

        Raises:
            Failed: `state.busy`, `io.*`.
        """
        with self.transaction():
            for table in ("floors", "recorded", "crls", "times", "facts"):
                self._file.run(f"DELETE FROM {table}")  # noqa: S608 - our own names

    def receipt_lines(self) -> Iterator[str]:
        """Return the receipts' lines from the first on, for `fwsign.receipts`.

        Raises:
            Failed: `state.damaged`, `state.busy`, `io.*`.
        """
        return receipts.lines(self._file)

    def numbered_receipts(self, after: int) -> Iterator[tuple[int, str]]:
        """Return the lines after a number, with their numbers; raise as `receipt_lines`."""
        return receipts.numbered(self._file, after)

    def receipt_count(self) -> int:
        """Return the number of receipts, one for pruned ones; raise as `receipt_lines`."""
        with self._file.transaction("read"):
            return receipts.count(self._file)
