# SPDX-License-Identifier: Apache-2.0
"""`fwsign device`: enrol this gateway, show what it remembers, enrol it anew."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from fwsign.cli import answer, inputs, ui
from fwsign.cli.command import Command, Group, examples
from fwsign.cli.device.status import print_status
from fwsign.cli.options import JSON, KEY_PASS, named
from fwsign.cli.verify.demands import REQUIRE
from fwsign.errors import FwsignError

if TYPE_CHECKING:
    from fwsign.gateway.config.device import Device
    from fwsign.keys import Signer


command = typer.Typer(
    cls=Group,
    rich_markup_mode=None,
    add_completion=False,
    help="Enrol this gateway, and show what it remembers.",
)

CONFIG: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        readable=False,
        metavar="FILE",
        help="This device. Default: FWSIGN_DEVICE, else /etc/fwsign/device.toml.",
    ),
]


def device_signer(uri: str | None, source: str | None) -> "Signer | None":
    """Open the key that signs this device's receipts, if there is one.

    Args:
        uri: of device.toml.
        source: the source of its passphrase, as typed.

    Raises:
        Failed: `key.*`, `io.*`.
    """
    if uri is None:
        return None
    from fwsign.keys import signer_from_uri  # not every device has a key

    return signer_from_uri(uri, inputs.passphrase_source(source, "the device's key"))


def load_device(config: Path | None) -> "Device":
    """Read the device.toml that a command line names.

    Args:
        config: as typed.

    Raises:
        Failed: `state.platform`, `io.*`.
        Untrusted: `untrusted.example-key`.
    """
    from fwsign.gateway.config.device import find, load  # after the line was understood
    from fwsign.gateway.run.session import refuse_platform

    refuse_platform()
    path = find(config)
    try:
        return load(path)
    except FwsignError as error:
        if error.code == "io.missing" and not path.exists():
            hint = "enrol this device with: fwsign device init; or name its file with --config"
            raise error.with_hint(hint) from error
        raise


_STATE: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        readable=False,
        metavar="FILE",
        help="The memory, which must not be there yet. Default: /var/lib/fwsign/state.db.",
    ),
]
_VENDOR: TypeAlias = Annotated[
    str,
    typer.Option(metavar="DOMAIN", callback=named("vendor_domain"), help="The vendor."),
]
_PRODUCT: TypeAlias = Annotated[
    str,
    typer.Option(metavar="NAME", callback=named("product_name"), help="What this device is."),
]
_ANCHORS: TypeAlias = Annotated[
    list[Path],
    typer.Option(
        readable=False,
        metavar="PEM",
        help="What to trust: roots or public keys; repeat for several.",
    ),
]
_TARGET_DIR: TypeAlias = Annotated[
    Path,
    typer.Option(readable=False, metavar="DIR", help="Where files are installed: in DIR/current."),
]
_TSA_ANCHORS: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        readable=False,
        metavar="PEM",
        help="Roots of time-stamp authorities; repeat for several.",
    ),
]
_REVOCATION: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="require|off|allow-stale:TIME",
        help="require refuses without fresh CRLs; allow-stale:30d takes them so long after "
        "their next update; off ignores them.",
    ),
]
_DEVICE_KEY: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="URI", help="Sign receipts with this key: a path or file: URI."),
]


_DEVICE_CERTIFICATE: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        readable=False,
        metavar="PEM",
        help="The certificate of --device-key, then each issuer's: receipts carry them.",
    ),
]
_ID: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--id",
        metavar="NAME",
        callback=named("serial_number"),
        help="This device's name in its receipts, such as its serial number. Default: that of "
        "--device-certificate, else a new one.",
    ),
]


@command.command(
    "init",
    cls=Command,
    epilog=examples(
        "fwsign device init --vendor acme.example --product gateway-x1 --anchor ca.crt \\",
        "    --anchor standby.crt --target-dir /srv/gateway",
    ),
)
def init(
    *,
    config: CONFIG = None,
    state: _STATE = None,
    vendor: _VENDOR,
    product: _PRODUCT,
    anchor: _ANCHORS,
    target_dir: _TARGET_DIR,
    tsa_anchor: _TSA_ANCHORS = None,
    revocation: _REVOCATION = "require",
    require: REQUIRE = 1,
    device_key: _DEVICE_KEY = None,
    device_certificate: _DEVICE_CERTIFICATE = None,
    id_: _ID = None,
    pass_: KEY_PASS = None,
    as_json: JSON = False,
) -> None:
    """Enrol this gateway, once.

    Writes device.toml and makes the memory of floors, CRLs and receipts. A memory that is lost
    later is an error, never a fresh start: fwsign device reset makes a new one.
    """
    from fwsign.errors import Failed  # after the line was understood
    from fwsign.gateway import enrol
    from fwsign.gateway.config.device import DEFAULT_STATE, find, parse_revocation
    from fwsign.gateway.run.session import refuse_platform

    refuse_platform()
    try:
        parse_revocation(revocation)
    except Failed as error:
        ui.usage(error.message, f"choose {error.expected}")
    if device_key is not None and ":" not in device_key:
        device_key = str(Path(device_key).absolute())  # a daemon starts elsewhere
    wanted = enrol.Enrolment(
        find(config),
        state or DEFAULT_STATE,
        vendor,
        product,
        inputs.load_anchors(anchor),
        inputs.load_anchors(tsa_anchor or ()),
        target_dir,
        revocation,
        require,
        device_key,
        id_,
        device_certificate,
    )
    device = enrol.init(wanted, inputs.now(), device_signer(device_key, pass_))
    for line in enrol.warnings(device, device.trust):
        ui.note(f"warning: {line}")
    if as_json:
        ui.print_json(enrol.status(device, at=inputs.now()))
        return
    _enrolled(device, f"{vendor} {product}")
    ui.out(f"  config  {device.path}")
    ui.out(f"  memory  {device.state}")
    for one in device.trust.anchors:
        ui.out(f"  anchor  {one.anchor.name}, key {one.anchor.spki[:16]}")
    ui.next_command("install", "ENVELOPE", *(("--config", config) if config else ()))


_CHECK: TypeAlias = Annotated[
    bool, typer.Option("--check", help="Read every byte of the installed files.")
]


@command.command("status", cls=Command, epilog=examples("fwsign device status --json"))
def status(*, config: CONFIG = None, check: _CHECK = False, as_json: JSON = False) -> None:
    """Show what this gateway is, what it trusts, what it remembers, and what is in place.

    Names and sizes of the installed files are compared with the memory; with --check their bytes
    are read too, and the exit status is 3 if something differs.
    """
    from fwsign.gateway import enrol  # after the line was understood

    found = enrol.status(load_device(config), check=check, at=inputs.now())
    if as_json:
        ui.print_json(found)
    else:
        print_status(found)
    if check and found["in_place"]["faults"]:
        raise typer.Exit(answer.STALE)


@command.command("reset", cls=Command, epilog=examples("fwsign device reset"))
def reset(*, config: CONFIG = None, pass_: KEY_PASS = None, as_json: JSON = False) -> None:
    """Forget what was accepted, and enrol this gateway anew.

    For a device whose memory was lost, or that is repaired. Older releases are accepted again
    after this, so the product's name has to be typed, at a terminal. Receipts stay, and a new one
    says that it was done.
    """
    from fwsign.gateway import enrol  # after the line was understood

    device = load_device(config)
    if not ui.is_terminal(sys.stdin):
        ui.usage("fwsign device reset has to be typed at a terminal", "nothing was changed")
    product = device.trust.product
    ui.note(f"this forgets which releases {product} accepted: older ones are accepted again")
    typed: str = typer.prompt("Type the product's name to go on", err=True)
    if typed != product:
        ui.usage(f'"{typed}" is not the product "{product}"', "nothing was changed")
    had = enrol.reset(device, inputs.now(), device_signer(device.device_key, pass_))
    if as_json:
        ui.print_json(enrol.status(device, at=inputs.now()))
    else:
        what = "the memory begins anew" if had else "a new memory was made, the old one was lost"
        _enrolled(device, f"{device.trust.vendor} {product}: {what}")


def _enrolled(device: "Device", line: str) -> None:
    """Print that a device is enrolled, and the checks that it waives."""
    from fwsign.receipts.chain import waivers  # after the line was understood

    waived = ", ".join(waivers(device.policy))
    ui.painted("enrolled", "green", f"{line}, waived: {waived}" if waived else line)
