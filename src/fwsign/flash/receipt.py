# SPDX-License-Identifier: Apache-2.0
"""The receipt of a flasher's run on one board."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from fwsign import __version__
from fwsign.flash.boards.board import SECURE_BOOT, BoardInfo
from fwsign.flash.outcome import Checked, Outcome
from fwsign.receipts.facts import release_facts, signer_facts
from fwsign.verify.verified import VerifiedRelease


class Told(NamedTuple):
    """The facts of a run that are known before any board is asked.

    Args:
        port: the user's name for the board.
        clock: the time of this computer's clock, which is no proof.
        release: the release as verified before the board's own floor was known.
        waived: names of checks that were waived or loosened, as typed.
        left_out: names of components that were left out, as typed.
        first_use: whether the memory of boards was made for this run.
        label: the name of its slot; None if it has none.
    """

    port: str
    clock: datetime
    release: VerifiedRelease | None
    waived: Sequence[str] = ()
    left_out: Sequence[str] = ()
    first_use: bool = False
    label: str | None = None


def describe(outcome: Outcome, told: Told) -> dict[str, Any]:
    """Return a receipt's content; every value is text, a whole number, a list or null.

    Args:
        outcome: the outcome of the run.
        told: the facts known before.
    """
    info, error = outcome.info, outcome.error
    release = outcome.held.release if outcome.held else told.release
    return {
        "kind": "flash",
        "clock": told.clock.isoformat(),
        "result": outcome.status,
        "code": error.code if error else None,
        "message": _sound(error.message) if error else None,
        "notes": list(outcome.notes),
        "port": _sound(told.port),
        "label": told.label,
        "board": board_facts(info) if info else None,
        "release": _release(release) if release else None,
        "waived": list(told.waived),
        "left_out": list(told.left_out),
        "kept": [one._asdict() for one in outcome.kept],
        "device_data": outcome.filled.facts if outcome.filled else None,
        "permit": outcome.permit._asdict() if outcome.permit else None,
        "first_use": told.first_use,
        "floor": None if info is None else "own" if info.identity else "shared",
        "touched": outcome.touched,
        "written": outcome.written,
        "differing": outcome.differing,
        "regions": [_region(one) for one in outcome.regions],
        "attempts": outcome.attempts,
        "milliseconds": {name: round(1000 * spent) for name, spent in outcome.seconds},
        "fwsign": __version__,
    }


def board_facts(info: BoardInfo) -> dict[str, Any]:
    """Return the facts of a board as receipts and `fwsign board --json` have them."""
    return {
        "kind": info.kind,
        "chip": info.chip,
        "identity": info.identity,
        "flash_size": info.flash_size,
        "locks": list(info.locks),
        "secure_boot": _secure_boot(info) if SECURE_BOOT in info.locks else None,
        "details": dict(info.details),
        "simulated": info.simulated,
    }


def _secure_boot(info: BoardInfo) -> dict[str, Any]:
    """Return what a chip with secure boot knows, as `fwsign.flash.rehearse` reads it again."""
    known = info.boot_keys
    return {
        "kind": "rp2350" if info.kind == "pico-uf2" else "esp-secure-boot-v2",
        "key_digests": None if known is None else [one.hex() for one in known],
        "revoked": [one.hex() for one in info.revoked_keys],
        "security_version": info.security_version,
    }


def _sound(text: str) -> str:
    """Escape text that UTF-8 cannot express, such as a port's name in another encoding."""
    return text.encode(errors="backslashreplace").decode()


def _release(release: VerifiedRelease) -> dict[str, Any]:
    told = [signer_facts(one) for one, _ in release.counted]
    signers = [{name: one[name] for name in ("name", "key", "algorithm")} for one in told]
    return {**release_facts(release), "signers": signers}


def _region(one: Checked) -> dict[str, Any]:
    return {
        "component": one.region.component,
        "offset": one.region.offset,
        "size": one.region.size,
        "sha256": one.region.sha256.hex(),
        "verified_by": one.how,
        "written": one.written,
    }
