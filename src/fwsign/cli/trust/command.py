# SPDX-License-Identifier: Apache-2.0
"""`fwsign trust`: lists of anchors for devices, made, signed, shown, rehearsed and applied."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from fwsign.cli import approvals, inputs, outputs, ui
from fwsign.cli import config as settings
from fwsign.cli.command import Command, Group, examples
from fwsign.cli.device.command import CONFIG, device_signer, load_device
from fwsign.cli.options import JSON, KEY_PASS, PRODUCT_OF_DEVICE, named
from fwsign.cli.trust import rehearse as trust_rehearse

if TYPE_CHECKING:
    from fwsign.keys import Signer
    from fwsign.trust.lists import Floors, TrustState, Update


command = typer.Typer(
    cls=Group,
    rich_markup_mode=None,
    add_completion=False,
    help="Change whom devices trust, by signed lists of anchors.",
)

_KEYS: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--key", metavar="URI", help="A trust key: a path or file: URI; repeat for several."
    ),
]
_BASE: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--from",
        readable=False,
        metavar="FILE",
        help="The list that devices have now: a trust update, or the device.toml of one.",
    ),
]


def _role(what: str, words: str) -> Any:
    return typer.Option(
        f"--{what}",
        metavar="[DOMAIN,=]PEM",
        help=f"Let a root or public key {words}; repeat for several. With domains, for these only.",
    )


_OUTPUT: TypeAlias = Annotated[
    Path,
    typer.Argument(
        readable=False, metavar="FILE", help="Where the trust update goes; not replaced."
    ),
]
_VENDOR: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="DOMAIN",
        callback=named("vendor_domain"),
        help="Whose devices, without --from. Default: that of fwsign.toml.",
    ),
]
_REMOVE: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PEM|HEX", help="Leave an anchor out: its file, or the begin of its key's hash."
    ),
]
_REQUIRE: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        max=4,
        help="How many trust keys must sign the next list. Default: as before, else 1.",
    ),
]
_FLOOR: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        help="Set the lowest sequence number accepted, up or down; raises the epoch.",
    ),
]
_FLOOR_TIME: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Set the time that devices know to have passed, RFC 3339; raises the epoch.",
    ),
]


@command.command(
    "make",
    cls=Command,
    epilog=examples(
        "fwsign trust make 1.trust --from device.toml --release new.crt --trust new.crt \\",
        "    --key old.key --key new.key",
        "fwsign trust make 2.trust --from 1.trust --remove old.crt --require 2 --key new.key",
        "fwsign trust make 3.trust --from 2.trust --floor 1795339738 --key new.key",
    ),
)
def make(
    output: _OUTPUT,
    *,
    base: _BASE = None,
    vendor: _VENDOR = None,
    product: PRODUCT_OF_DEVICE = None,
    release: Annotated[list[str] | None, _role("release", "vouch for releases")] = None,
    trust: Annotated[list[str] | None, _role("trust", "sign trust updates")] = None,
    tsa: Annotated[list[str] | None, _role("tsa", "vouch for time stamps")] = None,
    remove: _REMOVE = None,
    require: _REQUIRE = None,
    floor: _FLOOR = None,
    floor_time: _FLOOR_TIME = None,
    key: _KEYS = None,
    pass_: KEY_PASS = None,
) -> None:
    """Make the next list of anchors, and sign it.

    The result is a whole list: what is not named stays as it was. Devices take it if enough trust
    keys of the list that they have, and enough of its own, have signed; further people add theirs
    with fwsign trust sign.
    """
    from fwsign.cli.trust import lists
    from fwsign.files import write_atomic
    from fwsign.signing.trust_update import make_update

    old = lists.read_list(base) if base else None
    if base and (vendor or product):
        ui.usage("--from says vendor and product")
    start = old or _empty(vendor, product)
    floors = _floors(floor, floor_time)
    changes = lists.Changes(release or (), trust or (), tsa or (), remove or (), require, floors)
    update = lists.changed(start, changes)
    outputs.check(output)
    signers = _signers(key, pass_)
    data = make_update(update, signers)
    approvals.record_update(output, data, update, zip(signers, key or (), strict=True))
    write_atomic(output, data)
    ui.out(str(output))
    _warn(update)
    _say_what_is_missing(output, update, data, old)


@command.command(
    "sign",
    cls=Command,
    epilog=examples(
        "fwsign trust sign 2.trust --key standby.key --from 1.trust",
        "fwsign trust sign 2.trust --key one.key --key two.key --pass env:KEY_PASS",
    ),
)
def sign(
    file: Annotated[
        Path,
        typer.Argument(
            readable=False, metavar="FILE", help="One trust update; the result replaces it."
        ),
    ],
    *,
    key: _KEYS = None,
    base: _BASE = None,
    pass_: KEY_PASS = None,
) -> None:
    """Sign a trust update that others have made.

    Read it with fwsign trust show first.
    """
    from fwsign.cli.trust import lists
    from fwsign.files import write_atomic
    from fwsign.signing.trust_update import make_update
    from fwsign.trust.envelope import decode_update

    if not key:
        ui.usage("no key given", "name it with --key URI")
    updates = lists.read_updates(file)
    if len(updates) != 1:
        ui.usage(f"{file} has {len(updates)} trust updates", "sign each before they are joined")
    old = lists.read_list(base) if base else None
    update = decode_update(updates[0])
    signers = _signers(key, pass_)
    data = make_update(update, signers, signed=updates[0])
    approvals.record_update(file, data, update, zip(signers, key, strict=True))
    write_atomic(file, data, overwrite=True)
    ui.out(str(file))
    _say_what_is_missing(file, update, data, old)


@command.command(
    "show",
    cls=Command,
    epilog=examples("fwsign trust show 2.trust", "fwsign trust show chain.trust --json"),
)
def show(
    file: Annotated[
        Path,
        typer.Argument(readable=False, metavar="FILE", help="Trust updates, one after another."),
    ],
    *,
    as_json: JSON = False,
) -> None:
    """Show what trust updates say, and who signed.

    Only signatures by keys that are in the list itself are looked for.
    """
    from fwsign.cli.trust import lists
    from fwsign.trust.envelope import decode_update

    with inputs.expecting_envelope(file, ".trust"):
        found = [(decode_update(data), data) for data in lists.read_updates(file)]
    if as_json:
        ui.print_json({"updates": [lists.as_json(*one) for one in found]})
        return
    for one in found:
        lists.show(*one)


command.command("rehearse", cls=Command, epilog=trust_rehearse.EXAMPLES)(trust_rehearse.rehearse)


@command.command(
    "apply",
    cls=Command,
    epilog=examples(
        "fwsign trust apply 2.trust", "fwsign trust apply 1.trust 2.trust --config device.toml"
    ),
)
def apply(
    files: Annotated[
        list[Path],
        typer.Argument(
            readable=False, metavar="FILE...", help="Trust updates, in the order of their numbers."
        ),
    ],
    *,
    config: CONFIG = None,
    pass_: KEY_PASS = None,
    as_json: JSON = False,
) -> None:
    """Let this device trust whom trust updates say.

    Updates that it is past are left out, so one file serves devices of any age. Either all the
    others are applied, or none.
    """
    from fwsign.cli.trust.lists import as_json as list_as_json
    from fwsign.cli.trust.lists import read_updates
    from fwsign.gateway.trust import apply as apply_them
    from fwsign.trust.lists import Update

    device = load_device(config)
    data = b"".join(update for path in files for update in read_updates(path))
    signer = device_signer(device.device_key, pass_)
    with contextlib.ExitStack() as named:
        for path in files:
            named.enter_context(inputs.expecting_envelope(path, ".trust"))
        before, after = apply_them(device, data, inputs.now(), signer)
    if as_json:
        ui.print_json(
            {"verdict": "applied", "before": before.number, **list_as_json(Update(after))}
        )
    elif before.number == after.number:
        ui.painted("unchanged", "green", f"this device has list {after.number} already")
    else:
        ui.painted("applied", "green", f"list {before.number} is now list {after.number}")


def _empty(vendor: str | None, product: str | None) -> "TrustState":
    from fwsign.trust.lists import TrustState

    known = settings.load()
    vendor, product = vendor or known.vendor, product or known.product
    if vendor is None or product is None:
        ui.usage("no vendor or no product given", "name the list before with --from FILE")
    return TrustState(vendor, product, 0, 0, 1, ())


def _floors(sequence: int | None, time: str | None) -> "Floors":
    from fwsign.format.suit import MAX_SEQUENCE_NUMBER
    from fwsign.trust.lists import Floors

    if sequence is not None and sequence > MAX_SEQUENCE_NUMBER:
        ui.usage(f"--floor {sequence}, expected 0 to {MAX_SEQUENCE_NUMBER}")
    seconds = int(inputs.parse_time(time, inputs.now()).timestamp()) if time else None
    return Floors(sequence, seconds)


def _signers(uris: Sequence[str] | None, source: str | None) -> "list[Signer]":
    from fwsign.keys import shown, signer_from_uri

    return [
        signer_from_uri(uri, inputs.passphrase_source(source, f"the key {shown(uri)}"))
        for uri in uris or ()
    ]


def _warn(update: "Update") -> None:
    keys = len(update.trust.anchors_for("trust"))
    if update.trust.threshold == keys:
        ui.note(
            f"warning: all {keys} trust keys must sign: if one is lost, no list can follow this one"
            if keys > 1
            else "warning: a single trust key: if it is lost, no list can follow this one"
        )


def _say_what_is_missing(
    path: Path, update: "Update", data: bytes, old: "TrustState | None"
) -> None:
    from fwsign.cli.trust.lists import count, is_enough

    own = f"signed by {count(update.trust, data)} of its own trust keys"
    before = (
        f"{count(old, data)} of list {old.number}" if old else "that of the list before is unknown"
    )
    ui.note(f"{own}; {before}")
    if is_enough(update.trust, data) and (old is None or is_enough(old, data)):
        then = "; then on devices: fwsign trust apply FILE"
        ui.next_command("trust", "rehearse", "DIR", path, after=then)
    else:
        ui.next_command("trust", "sign", path, "--key", "URI")
