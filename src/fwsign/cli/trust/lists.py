# SPDX-License-Identifier: Apache-2.0
"""Lists of anchors on the command line: read, changed as options say, shown."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from fwsign.cli import inputs, ui
from fwsign.errors import Failed
from fwsign.trust.envelope import decode_update, is_update, split_updates
from fwsign.trust.lists import ROLES, Floors, Role, TrustAnchor, TrustState, Update
from fwsign.trust.update import signers
from fwsign.x509.anchor import Anchor

_LIMIT = 32 * 1024 * 1024  # bytes


class Changes(NamedTuple):
    """The changes for `fwsign trust make`: `[DOMAIN,...=]PEM` for each role, and so on."""

    release: Sequence[str]
    trust: Sequence[str]
    tsa: Sequence[str]
    remove: Sequence[str]
    require: int | None
    floors: Floors


def read_updates(path: Path) -> tuple[bytes, ...]:
    """Return the trust updates of a file.

    Raises:
        Malformed: `malformed.*`.
        Failed: `io.*`.
    """
    from fwsign.files import read_bytes

    return split_updates(read_bytes(path, _LIMIT))


def read_list(path: Path) -> TrustState:
    """Return the list of a trust update (the last of the file), or of a device.toml.

    Raises:
        Malformed: `malformed.*`.
        Failed: `io.*`.
    """
    from fwsign.files import read_bytes
    from fwsign.gateway.config.device import load  # most lists are updates

    data = read_bytes(path, _LIMIT)
    if is_update(data) or data[:1] == b"\xd8":
        return decode_update(split_updates(data)[-1]).trust
    return load(path).trust


def changed(base: TrustState, changes: Changes) -> Update:
    """Return the next list, with the changes of the options."""
    anchors = {one.anchor.spki: one for one in base.anchors}
    for text in changes.remove:
        for spki in _named(text, anchors):
            del anchors[spki]
    for role, given in zip(ROLES, (changes.release, changes.trust, changes.tsa), strict=True):
        for anchor in (one for text in given for one in _anchors(text)):
            known = anchors.get(anchor.spki, TrustAnchor(anchor, ()))
            wanted = {*known.roles, role}
            roles: tuple[Role, ...] = tuple(one for one in ROLES if one in wanted)
            vendors = anchor.vendors or known.anchor.vendors
            anchors[anchor.spki] = TrustAnchor(known.anchor._replace(vendors=vendors), roles)
    raised = changes.floors != Floors()
    trust = base._replace(
        number=base.number + 1,
        epoch=base.epoch + raised,
        threshold=base.threshold if changes.require is None else changes.require,
        anchors=tuple(anchors.values()),
    )
    return Update(trust, changes.floors)


def _named(text: str, anchors: Iterable[str]) -> list[str]:
    """Return the keys that --remove names: a PEM file's, or those with given first hex digits."""
    if Path(text).exists():
        found = [one.spki for one in inputs.load_anchors([Path(text)])]
    else:
        found = [spki for spki in anchors if len(text) >= 8 and spki.startswith(text)]
    if not found or not set(found) <= set(anchors):
        ui.usage(f'--remove "{text}": the list has no such anchor', "fwsign trust show lists them")
    return found


def _anchors(text: str) -> list[Anchor]:
    from fwsign.keys.published import refuse_published
    from fwsign.names import vendor_domain

    domains, equals, path = text.rpartition("=")
    if equals and not Path(text).exists():
        try:
            vendors = tuple(map(vendor_domain, domains.split(",")))
        except Failed as error:
            ui.usage(error.message)
    else:
        vendors, path = (), text
    found = inputs.load_anchors([Path(path)])
    for one in found:
        refuse_published(one.spki, path)
    return [one._replace(vendors=vendors) for one in found]


def count(trust: TrustState, data: bytes) -> str:
    """Return the number of a list's trust keys that have signed, as in "1 of 2"."""
    return f"{len(signers(trust.anchors_for('trust'), data))} of {trust.threshold}"


def is_enough(trust: TrustState, data: bytes) -> bool:
    """Tell whether enough keys have signed for a list's threshold."""
    return len(signers(trust.anchors_for("trust"), data)) >= trust.threshold


def as_json(update: Update, data: bytes | None = None) -> dict[str, Any]:
    """Return a list as the JSON object that --json prints."""
    trust, floors = update
    signed = signers((one.anchor for one in trust.anchors), data) if data else ()
    return {
        "vendor": trust.vendor,
        "product": trust.product,
        "number": trust.number,
        "epoch": trust.epoch,
        "require": trust.threshold,
        "floors": {"sequence": floors.sequence, "time": _time(floors.time)},
        "anchors": [
            {
                "name": one.anchor.name,
                "kind": "certificate" if one.anchor.certificate else "public key",
                "key": one.anchor.spki,
                "roles": list(one.roles),
                "vendors": list(one.anchor.vendors),
                "signed": one.anchor.spki in signed,
            }
            for one in trust.anchors
        ],
    }


def show(update: Update, data: bytes) -> None:
    """Print a list for people."""
    found = as_json(update, data)
    ui.out(
        f"trust update {found['number']}  {found['vendor']} {found['product']}, not verified here"
    )
    ui.out(f"  epoch      {found['epoch']}")
    ui.out(
        f"  require    {found['require']} of {len(update.trust.anchors_for('trust'))} trust keys"
    )
    for name, floor in found["floors"].items():
        if floor is not None:
            ui.out(f"  floor      {name} {floor}")
    for one in found["anchors"]:
        limits = ", ".join(one["vendors"]) or "any vendor"
        signed = ", signed this" if one["signed"] else ""
        roles = "+".join(one["roles"])
        ui.out(f"  anchor     {one['name']}, {roles}, {limits}, key {one['key'][:16]}{signed}")


def _time(seconds: int | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
