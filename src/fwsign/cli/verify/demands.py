# SPDX-License-Identifier: Apache-2.0
"""The trust and the demands of `verify` and `flash`: from flags, then fwsign.toml."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeAlias

import typer

from fwsign import spans
from fwsign.cli import config, inputs, policies, ui
from fwsign.cli.options import PRODUCT_OF_DEVICE, TSA_ANCHORS, named

if TYPE_CHECKING:
    from fwsign.verify.policy import DevicePolicy, Revocation
    from fwsign.x509.anchor import Anchor
    from fwsign.x509.roles import Profile

PAYLOADS: TypeAlias = Annotated[
    list[Path] | None,
    typer.Argument(
        readable=False,
        metavar="[PAYLOAD]...",
        help="The files that were signed. Default: those of the signed names beside ENVELOPE.",
    ),
]
ANCHORS: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--anchor",
        readable=False,
        metavar="PEM",
        help="What to trust: roots or public keys; repeat for several. Default: the roots of "
        "fwsign.toml's PKI.",
    ),
]
VENDOR_OF_DEVICE: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--vendor",
        metavar="DOMAIN",
        callback=named("vendor_domain"),
        help="This device's vendor. Default: that of fwsign.toml.",
    ),
]
MIN_SEQUENCE: TypeAlias = Annotated[
    int | None,
    typer.Option("--min-sequence", metavar="N", min=0, help="The lowest sequence number accepted."),
]
REQUIRE: TypeAlias = Annotated[
    int,
    typer.Option(
        "--require", metavar="N", min=1, max=8, help="How many distinct signers must be there."
    ),
]
AT: TypeAlias = Annotated[
    str | None,
    typer.Option("--at", metavar="TIME", help="Judge by this time: RFC 3339. Default: the clock."),
]
PROFILE: TypeAlias = Annotated[
    str,
    typer.Option(
        "--profile",
        metavar="strict|compat",
        help="compat forgives habits of PKIs made by easy-rsa or openssl, and lists them.",
    ),
]


class DeviceOptions(NamedTuple):
    """Options: what this device is, and the least that it demands."""

    vendor: VENDOR_OF_DEVICE = None
    product: PRODUCT_OF_DEVICE = None
    min_sequence: MIN_SEQUENCE = None
    require: REQUIRE = 1


class TokenOptions(NamedTuple):
    """Options: the time stamps that count."""

    tsa_anchor: TSA_ANCHORS = None
    require_token: Annotated[
        bool,
        typer.Option(
            "--require-token", help="Demand a time stamp that counts; needs --tsa-anchor."
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)  # keywords only: two of them could be swapped unseen
class Demands:
    """The command line's demands on a release, as typed."""

    anchor: Sequence[Path] | None
    crl: Sequence[Path] | None
    device: DeviceOptions
    profile: str
    revocation: str | None
    allow_example_keys: bool
    token: TokenOptions | None = None
    policy: Path | None = None


class Trust(NamedTuple):
    """Anchors, the files they came from, the policy, and the file that it came from."""

    anchors: "Sequence[Anchor]"
    places: Sequence[Path]
    policy: "DevicePolicy"
    judged_by: Path | None = None


def gather(
    demands: Demands, settings: config.Config, *, without_crls: "Revocation" = "if-present"
) -> Trust:
    """Return the anchors and the policy to judge by.

    Args:
        demands: the demands, as typed.
        settings: the settings of fwsign.toml and the environment.
        without_crls: the revocation mode if the command line does not name one.
    """
    from fwsign.verify.policy import DevicePolicy, pins_for  # only once the line is read

    given = policies.chosen(demands.policy, settings)
    if given is not None and given.device is not None:
        return _as_device(demands, given, given.device)
    if demands.profile not in ("strict", "compat"):
        ui.usage(f'"{demands.profile}" is not a profile', "choose strict or compat")
    device, token = demands.device, demands.token or TokenOptions()
    vendor = device.vendor or settings.vendor
    if device.product and not vendor:
        ui.usage("--product without a vendor", "name it with --vendor DOMAIN, or in fwsign.toml")
    anchors, places = _anchors(demands.anchor, settings)
    if token.require_token and not token.tsa_anchor:
        ui.usage("--require-token without an authority", "say whom to believe: --tsa-anchor PEM")
    profile: Profile = "compat" if demands.profile == "compat" else "strict"
    revocation, allow_stale = _revocation(demands.revocation, without_crls)
    policy = DevicePolicy(
        vendor=vendor,
        product=(device.product or settings.product) if vendor else device.product,
        min_sequence=device.min_sequence,
        threshold=device.require,
        profile=profile,
        revocation=revocation,
        allow_stale=allow_stale,
        crls=tuple(inputs.load_pem(demands.crl or (), "X509 CRL", "CRL")),
        pinned_vendors=pins_for(anchors, profile, vendor) if vendor else {},
        allow_example_keys=demands.allow_example_keys,
        require_token=token.require_token,
        tsa_anchors=tuple(inputs.load_anchors(token.tsa_anchor or ())),
        signers=given.signers if given else None,
    )
    return Trust(anchors, places, policy, given.path if given else None)


def _as_device(
    demands: Demands,
    given: policies.GivenPolicy,
    device: "tuple[Sequence[Anchor], DevicePolicy]",
) -> Trust:
    """Judge as a device does by its device.toml, and by what only a memory would add."""
    own, token = demands.device, demands.token or TokenOptions()
    said = {
        "--anchor": demands.anchor,
        "--vendor": own.vendor,
        "--product": own.product,
        "--require": own.require != 1,
        "--profile": demands.profile != "strict",
        "--revocation": demands.revocation,
        "--tsa-anchor": token.tsa_anchor,
        "--require-token": token.require_token,
    }
    if typed := next((name for name, value in said.items() if value), None):
        ui.usage(f"{typed} with --policy {given.path}", "that file says what the device demands")
    anchors, policy = device
    more = policy._replace(
        min_sequence=own.min_sequence,
        crls=tuple(inputs.load_pem(demands.crl or (), "X509 CRL", "CRL")),
        allow_example_keys=demands.allow_example_keys,
    )
    return Trust(anchors, [given.path], more, given.path)


def _revocation(typed: str | None, without_crls: "Revocation") -> "tuple[Revocation, timedelta]":
    """Read --revocation: the mode, and the span for which stale CRLs are accepted."""
    if typed is None:
        return without_crls, timedelta(0)
    found = spans.parse_revocation(typed)
    if found is None:
        ui.usage(f'--revocation "{typed}" is not a choice', f"choose {spans.REVOCATION}")
    return found


def _anchors(
    given: Sequence[Path] | None, settings: config.Config
) -> "tuple[list[Anchor], list[Path]]":
    if not given:
        if settings.pki is None:
            ui.usage(
                "no anchor given, and no fwsign.toml found",
                "name a root with --anchor PEM; your own PKI is made by: fwsign init",
            )
        given = config.roots(settings.pki)
    return inputs.load_anchors(given), list(given)
