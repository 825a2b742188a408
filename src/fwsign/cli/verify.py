# SPDX-License-Identifier: Apache-2.0
"""`fwsign verify`: all ten steps on files."""

from pathlib import Path
from typing import Annotated

import typer

from fwsign.cli import config, inputs, ui
from fwsign.cli.command import Command, examples
from fwsign.cli.demands import (
    ANCHORS,
    MIN_SEQUENCE,
    PAYLOADS,
    PROFILE,
    REQUIRE,
    VENDOR_OF_DEVICE,
    Demands,
    gather,
)
from fwsign.cli.options import ALLOW_EXAMPLE, CRLS, JSON, PRODUCT_OF_DEVICE, TSA_ANCHORS
from fwsign.errors import FwsignError

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
    payloads: PAYLOADS = None,
    *,
    anchor: ANCHORS = None,
    vendor: VENDOR_OF_DEVICE = None,
    product: PRODUCT_OF_DEVICE = None,
    min_sequence: MIN_SEQUENCE = None,
    require: REQUIRE = 1,
    crl: CRLS = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Judge by this time: RFC 3339. Default: the clock."),
    ] = None,
    profile: PROFILE = "strict",
    revocation: Annotated[
        str | None,
        typer.Option(
            metavar="require|off|allow-stale:TIME",
            help="require refuses where there are no CRLs, off ignores them, allow-stale:30d is "
            "require, but takes old CRLs so long past their next update. Default: judged if "
            "there are any, else listed as unchecked.",
        ),
    ] = None,
    tsa_anchor: TSA_ANCHORS = None,
    require_token: Annotated[
        bool,
        typer.Option(
            "--require-token", help="Demand a time stamp that counts; needs --tsa-anchor."
        ),
    ] = False,
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
    from fwsign.verify import Verifier  # noqa: PLC0415

    now = inputs.now()
    time = inputs.parse_time(at, now) if at else now
    settings = config.load()
    demands = Demands(
        anchor,
        crl,
        vendor,
        product,
        min_sequence,
        require,
        profile,
        revocation,
        allow_example_keys,
        tsa_anchor or (),
        require_token,
    )
    data = read_bytes(envelope, MAX_ENVELOPE_SIZE)
    _refuse_certificate(envelope, data)
    for path in payloads or ():
        _refuse_certificate(path, _head_of_small(path))
    trust = gather(demands, settings)
    release = Verifier(trust.anchors, trust.policy).verify(data, at=time)
    if trust.policy.revocation != "off":
        results.refuse_unused(trust.policy.crls, release)
    found = received.receive(release, envelope, payloads or (), manifest_only=manifest_only)
    unchecked = [*release.unchecked, *(["payload"] if None in found.values() else [])]
    view = verdict.Verdict(release, unchecked, found, trust.places, revocation)
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
