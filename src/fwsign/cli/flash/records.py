# SPDX-License-Identifier: Apache-2.0
"""The records of a run of `fwsign flash`: the memory of boards, and receipts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fwsign.cli import inputs, ui

if TYPE_CHECKING:
    from fwsign.flash.outcome import Outcome
    from fwsign.keys import Signer
    from fwsign.verify.verified import VerifiedRelease


class Where(NamedTuple):
    """The places of the records, as typed.

    Args:
        state: the memory of boards.
        receipts: a file of lines; None for the memory.
        key: the URI of the key that signs receipts.
        certificate: a file with the certificate of that key, and those of its issuers.
        passphrase: the source of its passphrase.
    """

    state: Path
    receipts: Path | None
    key: str | None
    certificate: Path | None
    passphrase: str | None


class Records:
    """The records of a run, opened before the first board is asked, so that faults show early.

    Args:
        where: the files.
        release: the release, as verified before any board was asked.
        waived: names of checks that were waived or loosened.
        left_out: names of components that were left out.
        dry_run: keep nothing.
        labels: the names of slots by their ports.
    """

    def __init__(
        self,
        where: Where,
        release: "VerifiedRelease",
        waived: Sequence[str],
        left_out: Sequence[str],
        *,
        dry_run: bool,
        labels: Mapping[str, str],
    ) -> None:
        self._labels = labels
        self._where, self._dry_run = where, dry_run
        self._release, self._waived, self._left_out = release, waived, left_out
        self._first_use = False
        self._signer: Signer | None = None
        self._chain: tuple[bytes, ...] = ()

    def open(self) -> None:
        """Open the key, the file and the memory; announce a new memory.

        Raises:
            Failed: `key.*`, `state.*`, `io.*`.
        """
        where = self._where
        if where.key is not None:
            from fwsign.keys import signer_from_uri  # few runs sign receipts

            passphrase = inputs.passphrase_source(where.passphrase, "the receipts' key")
            self._signer = signer_from_uri(where.key, passphrase)
            if where.certificate is not None:
                self._chain = _chain_of(where.certificate, self._signer)
        if self._dry_run:
            return
        if where.receipts is not None:
            from fwsign.receipts.file import prepare  # as wanted

            prepare(where.receipts)
        from fwsign.memory.state import State  # not for a dry run

        with State.open(where.state, create=True) as memory:
            self._first_use = memory.is_new
        if self._first_use:
            ui.note(f"first use: what boards accept is remembered in {where.state} from now on")

    def label(self, port: str) -> str | None:
        """Return the name of a port's slot; None if it has none."""
        from fwsign.cli.flash.labels import labels_of  # beside the command

        return labels_of([port], self._labels).get(port)

    def describe(self, port: str, outcome: "Outcome") -> dict[str, Any]:
        """Return a board's receipt."""
        from fwsign.flash.receipt import Told, describe  # beside the engine

        told = Told(
            port,
            inputs.now(),
            self._release,
            self._waived,
            self._left_out,
            self._first_use,
            self.label(port),
        )
        return describe(outcome, told)

    def keep(self, receipt: dict[str, Any]) -> None:
        """Write a receipt.

        Raises:
            Failed: `state.*`, `key.*`, `io.*`.
        """
        where = self._where
        if self._dry_run:
            return
        if where.receipts is not None:
            from fwsign.receipts.file import append  # as wanted
            from fwsign.receipts.fit import fit

            append(where.receipts, fit(receipt), self._signer, self._chain)
        else:
            from fwsign.memory.state import State  # as wanted

            with State.open(where.state, create=False) as memory:
                memory.append_receipt(receipt, self._signer, self._chain)


def _chain_of(path: Path, signer: "Signer") -> tuple[bytes, ...]:
    """Return the path of a receipt key, without the root, which whoever verifies has.

    Raises:
        Failed: `key.mismatch`: the first certificate is of another key; `io.*`.
    """
    from fwsign.cli.keyfiles import certificates
    from fwsign.errors import Failed
    from fwsign.pki.paths.build import in_order
    from fwsign.x509.certificate import key_digest, parse_certificate

    leaf, *others = certificates(path, None)
    parsed, own = parse_certificate(leaf), key_digest(signer.public_key)
    if parsed.spki != own:
        raise Failed(
            "key.mismatch",
            f'{path}: certificate "{parsed.name}" is not that of the receipts\' key',
            expected=own,
            found=parsed.spki,
        )
    ordered = in_order(leaf, others, inputs.now())
    return tuple(data for data in ordered if not _is_root(data))


def _is_root(data: bytes) -> bool:
    from fwsign.x509.certificate import parse_anchor

    parsed = parse_anchor(data)
    return parsed.subject == parsed.issuer
