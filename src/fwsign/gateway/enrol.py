# SPDX-License-Identifier: Apache-2.0
"""A device's enrolment: `init` makes it, `status` shows it, `reset` makes it anew."""

import json
import os
import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fwsign.errors import Failed
from fwsign.files import refuse_reachable, write_atomic
from fwsign.gateway import hold
from fwsign.gateway.channel_memory import status_of
from fwsign.gateway.config.device import Device, load, parse_revocation, refuse_published
from fwsign.gateway.follow_memory import waiting_offer
from fwsign.gateway.run.log import Log
from fwsign.gateway.run.session import INSTALLED, INTENT, demands, opened, refuse_foreign, trusted
from fwsign.gateway.target import in_place, release_record
from fwsign.gateway.target.release_record import ReleaseRecord
from fwsign.gateway.trial.record import (
    PREVIOUS,
    FailedRelease,
    TrialRecord,
    read_failed,
    read_trial,
)
from fwsign.keys import Signer
from fwsign.memory.state import State
from fwsign.receipts.chain import line_digest, waivers
from fwsign.trust.lists import TrustState
from fwsign.x509.anchor import Anchor
from fwsign.x509.crl import parse_crl


class Enrolment(NamedTuple):
    """The enrolment of a device, as typed.

    Args:
        config: the path for device.toml.
        state: the path for the memory.
        vendor: the vendor's domain.
        product: the product's name.
        anchors: the trusted roots and keys.
        tsa_anchors: roots of time-stamp authorities.
        target_dir: the existing directory for files.
        revocation: "require", "off" or "allow-stale:TIME".
        require: the number of distinct signers.
        device_key: URI of the key that signs receipts.
        id: the device's name in its receipts; None for that of its certificate, else a new one.
        device_certificate: a PEM file: the certificate of that key, then each issuer's.
    """

    config: Path
    state: Path
    vendor: str
    product: str
    anchors: Sequence[Anchor]
    tsa_anchors: Sequence[Anchor]
    target_dir: Path
    revocation: str
    require: int
    device_key: str | None
    id: str | None = None
    device_certificate: Path | None = None


def init(wanted: Enrolment, at: datetime, signer: Signer | None) -> Device:
    """Enrol a device: write device.toml, and make its memory.

    A run that was interrupted between the two leaves a device.toml without a memory; `reset`
    completes it.

    Args:
        wanted: the enrolment.
        at: the clock's time, for the receipt.
        signer: signs the receipt.

    Raises:
        Untrusted: `untrusted.example-key`.
        Failed: `io.exists`: there is a device.toml or a memory; `io.*`, `state.*`.
    """
    parse_revocation(wanted.revocation)
    for anchor in (*wanted.anchors, *wanted.tsa_anchors):
        refuse_published(anchor)
    hints = {
        wanted.config: "fwsign device status shows it; fwsign device reset enrols anew",
        wanted.state: "put its device.toml back, or name another memory with --state",
    }
    for path, hint in hints.items():
        if os.path.lexists(path):
            raise Failed("io.exists", f"{path} exists already", found=path, hint=hint)
    refuse_foreign(wanted.state)
    for path in (wanted.config, wanted.target_dir):
        refuse_reachable(path)  # the next command would
    if not wanted.target_dir.is_dir():
        what = f"the target directory {wanted.target_dir} is not there"
        hint = "make it first: mkdir -p DIR"
        raise Failed("io.missing", what, expected="a directory", found="none", hint=hint)
    wanted.config.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    write_atomic(wanted.config, render(wanted), mode=0o644)
    device = load(wanted.config)
    with State.open(device.state, create=True) as state:
        if not state.is_new:
            raise Failed("io.exists", f"{device.state} exists already")
        Log(state, device, at, signer).add("enrolled", kind="device", anchors=_names(device))
    return device


def warnings(device: Device, trust: TrustState) -> list[str]:
    """Return warnings for the administrator of this device."""
    found = []
    if len(trust.anchors_for("release")) == 1:
        found.append(
            "a single anchor: if its key is lost or stolen, no update can reach this device; "
            "enrol a standby root too"
        )
    if device.policy.revocation == "off":
        found.append("revocation is off: a stolen key signs for this device until it expires")
    if device.device_key is None:
        found.append("without a device key, receipts are a log, not evidence")
    return found


def status(device: Device, *, check: bool = False, at: datetime | None = None) -> dict[str, Any]:
    """Return the facts about a device, the content of its memory, and whether it is in place.

    Args:
        device: the device.
        check: read all bytes of the installed files; else names and sizes are compared.
        at: the clock's time, to tell what the channel says now; None leaves it out.

    Raises:
        Failed: `state.*`, `io.*`.
    """
    with opened(device) as state:
        trust = trusted(device, state)
        policy, floor = state.policy(demands(device, state)[1], None)
        line = state.last_receipt()
        installed, intent, previous = (
            release_record.read(state, name) for name in (INSTALLED, INTENT, PREVIOUS)
        )
        trial, failed = read_trial(state), read_failed(state)
        number = floor.sequence if floor else 0
        waiting = _waiting(state, installed, number)
        waiting["channel"] = status_of(state, device, number, at) if at is not None else None
        receipts = state.receipt_count()
    begun = (intent, trial.release if trial else None)
    found = in_place.compare(device.target_dir, installed, begun, check=check)
    return {
        "config": str(device.path),
        "state": str(device.state),
        "target_dir": str(device.target_dir),
        "id": device.identity.name(),
        **_listed(trust),
        "revocation": policy.revocation,
        "allow_stale_hours": int(policy.allow_stale.total_seconds()) // 3600,
        "require": policy.needed,
        "require_token": policy.require_token,
        "floor": floor.sequence if floor else None,
        "time_floor": policy.time_floor.isoformat() if policy.time_floor else None,
        "crls": [_crl(one.data) for one in policy.held],
        "profile": policy.profile,
        "waived": list(waivers(device.policy)),
        "installed": installed.as_json() if installed else None,
        "unfinished": intent.as_json() if intent else None,
        **_tried(trial, failed),
        "in_place": found.as_json(),
        "previous": _previous(device, previous),
        **waiting,
        "receipts": receipts,
        "head": line_digest(line) if line else None,
        "warnings": warnings(device, trust),
    }


def _listed(trust: TrustState) -> dict[str, Any]:
    """Return the facts about a list of anchors."""
    return {
        "vendor": trust.vendor,
        "product": trust.product,
        "trust_list": trust.number,
        "epoch": trust.epoch,
        "trust_require": trust.threshold,
        "anchors": [
            {
                "name": one.anchor.name,
                "key": one.anchor.spki,
                "vendors": list(one.anchor.vendors),
                "roles": list(one.roles),
            }
            for one in trust.anchors
        ],
    }


def _waiting(state: State, installed: ReleaseRecord | None, floor: int) -> dict[str, Any]:
    """Return the hold, and the release that waits; one below the floor waits for nothing."""
    held, offer = hold.read(state), waiting_offer(state, installed)
    if offer is not None and offer.sequence < floor:
        offer = None
    return {
        "hold": held.as_json() if held else None,
        "offer": offer.as_json() if offer else None,
    }


def _tried(trial: TrialRecord | None, failed: Sequence[FailedRelease]) -> dict[str, Any]:
    """Return the release on trial, and those that failed one."""
    return {
        "trial": {**trial.as_json(), "seconds_left": trial.left} if trial else None,
        "failed": [one._asdict() for one in failed],
    }


def _previous(device: Device, release: ReleaseRecord | None) -> dict[str, Any] | None:
    if release is None:
        return None
    return {**release.as_json(), "kept": in_place.is_kept(device.target_dir, release)}


def reset(device: Device, at: datetime, signer: Signer | None) -> bool:
    """Forget floors, CRLs, times and trust updates; return whether there was a memory.

    Receipts stay, and a new one records the reset. The installed release stays as it is.

    Args:
        device: what `load` read.
        at: the clock's time, for the receipt.
        signer: signs the receipt; None if there is no key for it.

    Raises:
        Failed: `state.*`, `io.*`, `key.*`.
    """
    refuse_foreign(device.state)
    with State.open(device.state, create=True) as state, state.transaction():
        log = Log(state, device, at, signer)
        log.tell_dropped()
        state.forget()
        result = "enrolled anew: the memory was lost" if state.is_new else "enrolled anew"
        log.add(result, kind="device", anchors=_names(device))
        return not state.is_new


def render(wanted: Enrolment) -> bytes:
    """Return the device.toml of an enrolment, with the anchors in it."""
    lines = [
        "# This device, for fwsign; see docs/gateway.md. Anchors are here and not in files beside.",
        f"vendor = {_quoted(wanted.vendor)}",
        f"product = {_quoted(wanted.product)}",
        f"state = {_quoted(wanted.state.absolute())}",
        f"target_dir = {_quoted(wanted.target_dir.absolute())}",
    ]
    if wanted.device_key is not None:
        lines.append(f"device_key = {_quoted(wanted.device_key)}")
    if wanted.device_certificate is not None:
        certificate = _quoted(wanted.device_certificate.absolute())
        lines.append(f"device_certificate = {certificate}")
    if wanted.id is not None or wanted.device_certificate is None:
        lines.append(f"id = {_quoted(wanted.id or f'gw-{secrets.token_hex(6)}')}")
    lines += [
        "",
        "[policy]",
        f"revocation = {_quoted(wanted.revocation)}",
        f"require = {wanted.require}",
    ]
    for table, anchors in (("anchor", wanted.anchors), ("tsa_anchor", wanted.tsa_anchors)):
        for anchor in anchors:
            lines += ["", f"[[{table}]]", f'pem = """\n{_pem(anchor)}"""']
    return "\n".join([*lines, ""]).encode()


def _quoted(text: object) -> str:
    """Quote a text for TOML; for printable text, JSON has the same form."""
    if not str(text).isprintable():
        raise Failed("state.policy", f"{str(text)!r} is not printable text", found=repr(text))
    return json.dumps(str(text), ensure_ascii=False)


def _pem(anchor: Anchor) -> str:
    if anchor.certificate is not None:
        return anchor.certificate.parsed.public_bytes(Encoding.PEM).decode()
    data = anchor.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return str(data, "ascii")


def _names(device: Device) -> list[str]:
    return [
        f"{one.anchor.name} {one.anchor.spki} {'+'.join(one.roles)}" for one in device.trust.anchors
    ]


def _crl(data: bytes) -> dict[str, Any]:
    crl = parse_crl(data)
    issuer = crl.parsed.issuer.rfc4514_string()
    return {"issuer": issuer, "number": crl.number, "this_update": crl.this_update.isoformat()}
