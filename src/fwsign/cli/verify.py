# SPDX-License-Identifier: Apache-2.0
"""`fwsign verify`: all ten steps on files."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fwsign.cli import config, inputs, ui
from fwsign.cli.command import Command, examples
from fwsign.cli.options import ALLOW_EXAMPLE, CRLS, JSON, PRODUCT_OF_DEVICE, named
from fwsign.errors import FwsignError

if TYPE_CHECKING:
    from fwsign.verify import Anchor


_CERTIFICATE_LIMIT = 64 * 1024  # bytes

command = typer.Typer(rich_markup_mode=None, add_completion=False)


@command.command(
    cls=Command,
    epilog=examples(
        "fwsign verify build.bin.suit",
        "fwsign verify update.suit app.bin boot.bin --anchor ca.crt --json",
        "fwsign verify build.bin.suit --anchor ca.crt --vendor acme.example --product x1 \\",
        "    --min-sequence 1795339738 --revocation require",
    ),
)
def verify(
    envelope: Annotated[
        Path,
        typer.Argument(
            readable=False, metavar="ENVELOPE", help="A .suit file. At most 32 MiB; a pipe will do."
        ),
    ],
    payloads: Annotated[
        list[Path] | None,
        typer.Argument(
            readable=False,
            metavar="[PAYLOAD]...",
            help="The files that were signed. Default: those of the signed names beside ENVELOPE.",
        ),
    ] = None,
    *,
    anchor: Annotated[
        list[Path] | None,
        typer.Option(
            readable=False,
            metavar="PEM",
            help="What to trust: roots or public keys; repeat for several. Default: the roots of "
            "fwsign.toml's PKI.",
        ),
    ] = None,
    vendor: Annotated[
        str | None,
        typer.Option(
            metavar="DOMAIN",
            callback=named("vendor_domain"),
            help="This device's vendor. Default: that of fwsign.toml.",
        ),
    ] = None,
    product: PRODUCT_OF_DEVICE = None,
    min_sequence: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="The lowest sequence number accepted."),
    ] = None,
    require: Annotated[
        int,
        typer.Option(metavar="N", min=1, max=8, help="How many distinct signers must be there."),
    ] = 1,
    crl: CRLS = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Judge by this time: RFC 3339. Default: the clock."),
    ] = None,
    profile: Annotated[
        str,
        typer.Option(
            metavar="strict|compat",
            help="compat forgives habits of PKIs made by easy-rsa or openssl, and lists them.",
        ),
    ] = "strict",
    revocation: Annotated[
        str | None,
        typer.Option(
            metavar="require|off",
            help="require refuses where there are no CRLs, off ignores them. Default: judged if "
            "there are any, else listed as unchecked.",
        ),
    ] = None,
    manifest_only: Annotated[
        bool,
        typer.Option("--manifest-only", help="Leave payloads that are not here unchecked."),
    ] = False,
    allow_example_keys: ALLOW_EXAMPLE = False,
    as_json: JSON = False,
) -> None:
    """Verify an envelope and its payloads.

    The exit status is 0 only if signature, path, revocation, device and payloads are good; what
    could not be checked is listed as unchecked.
    """
    from fwsign.atomic import read_bytes  # noqa: PLC0415
    from fwsign.cli import received, results, verdict  # noqa: PLC0415
    from fwsign.suit import MAX_ENVELOPE_SIZE  # noqa: PLC0415
    from fwsign.verify import DevicePolicy, Verifier  # noqa: PLC0415

    if profile not in ("strict", "compat"):
        ui.usage(f'"{profile}" is not a profile', "choose strict or compat")
    if revocation not in (None, "require", "off"):
        ui.usage(f'--revocation "{revocation}"', "choose require or off")
    settings = config.load()
    vendor = vendor or settings.vendor
    if product and not vendor:
        ui.usage("--product without a vendor", "name it with --vendor DOMAIN, or in fwsign.toml")
    now = inputs.now()
    time = inputs.parse_time(at, now) if at else now
    data = read_bytes(envelope, MAX_ENVELOPE_SIZE)
    _refuse_certificate(envelope, data)
    for path in payloads or ():
        _refuse_certificate(path, _head_of_small(path))
    anchors, places = _anchors(anchor, settings)
    crls = inputs.load_pem(crl or (), "X509 CRL", "CRL")
    policy = DevicePolicy(
        vendor=vendor,
        product=(product or settings.product) if vendor else product,
        min_sequence=min_sequence,
        threshold=require,
        profile="compat" if profile == "compat" else "strict",
        revocation="require" if revocation == "require" else "off" if revocation else "if-present",
        crls=tuple(crls),
        pinned_vendors=_pins(anchors, vendor, profile),
        allow_example_keys=allow_example_keys,
    )
    release = Verifier(anchors, policy).verify(data, at=time)
    if policy.revocation != "off":
        results.refuse_unused(crls, release)
    found = received.receive(release, envelope, payloads or (), manifest_only=manifest_only)
    unchecked = [*release.unchecked, *(["payload"] if None in found.values() else [])]
    view = verdict.Verdict(release, unchecked, found, places, revocation)
    if as_json:
        ui.print_json(verdict.as_json(view))
    else:
        verdict.show(envelope, view)


def _head_of_small(path: Path) -> bytes:
    """Return a small file's content; nothing of a pipe, which can be read only once."""
    try:
        if path.is_file() and path.stat().st_size <= _CERTIFICATE_LIMIT:
            return path.read_bytes()
    except OSError:  # said where it is read
        pass
    return b""


def _refuse_certificate(path: Path, data: bytes) -> None:
    if b"-----BEGIN CERTIFICATE-----" in data and b"\0" not in data:
        ui.usage(f"{path} is a certificate, not a payload", f"did you mean --anchor {path}")
    if data[:1] != b"\x30" or len(data) > _CERTIFICATE_LIMIT:
        return
    from fwsign.certificate import parse_certificate  # noqa: PLC0415

    try:
        parse_certificate(data)
    except FwsignError:
        return
    ui.usage(f"{path} is a certificate, not a payload", f"did you mean --anchor {path}")


def _anchors(
    given: Sequence[Path] | None, settings: config.Config
) -> "tuple[list[Anchor], list[Path]]":
    if not given:
        if settings.pki is None:
            ui.usage("no anchor given, and no fwsign.toml found", "name a root with --anchor PEM")
        given = config.roots(settings.pki)
    return inputs.load_anchors(given), list(given)


def _pins(
    anchors: "Sequence[Anchor]", vendor: str | None, profile: str
) -> dict[str, tuple[str, ...]]:
    """Let --vendor speak for signers whose certificates cannot: bare keys, and older PKIs."""
    if vendor is None:
        return {}
    speechless = [one for one in anchors if one.certificate is None or profile == "compat"]
    return {one.spki: (vendor,) for one in speechless}
