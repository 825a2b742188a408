# SPDX-License-Identifier: Apache-2.0
"""`fwsign verify`: all ten steps on files."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fwsign.cli import config, inputs, ui
from fwsign.cli.options import ALLOW_EXAMPLE, CRLS, JSON
from fwsign.errors import Failed

if TYPE_CHECKING:
    from fwsign.component import Component
    from fwsign.policy import DevicePolicy
    from fwsign.verify import Anchor, Signer, VerifiedRelease


command = typer.Typer(rich_markup_mode=None, add_completion=False)


@command.command()
def verify(
    envelope: Annotated[Path, typer.Argument(metavar="ENVELOPE", help="A .suit file.")],
    payloads: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PAYLOAD]...", help="Default: the signed names beside ENVELOPE."),
    ] = None,
    *,
    anchor: Annotated[
        list[Path] | None,
        typer.Option(metavar="PEM", help="Roots, or public keys. Default: fwsign.toml's PKI."),
    ] = None,
    vendor: Annotated[
        str | None, typer.Option(metavar="DOMAIN", help="This device's vendor.")
    ] = None,
    product: Annotated[str | None, typer.Option(metavar="NAME", help="This device.")] = None,
    min_sequence: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="The lowest sequence accepted.")
    ] = None,
    require: Annotated[
        int, typer.Option(metavar="N", min=1, max=8, help="How many distinct signers.")
    ] = 1,
    crl: CRLS = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="Judge by this time. Default: the clock.")
    ] = None,
    profile: Annotated[
        str,
        typer.Option(metavar="strict|compat", help="compat: PKIs made by easy-rsa or openssl."),
    ] = "strict",
    revocation: Annotated[
        str | None, typer.Option(metavar="require|off", help="Default: judged if CRLs are there.")
    ] = None,
    manifest_only: Annotated[
        bool, typer.Option("--manifest-only", help="Leave payloads that are not here unchecked.")
    ] = False,
    allow_example_keys: ALLOW_EXAMPLE = False,
    as_json: JSON = False,
) -> None:
    """Verify an envelope and its payloads; exit status 0 only if all of it is good."""
    from fwsign.atomic import read_bytes  # noqa: PLC0415
    from fwsign.suit import MAX_ENVELOPE_SIZE  # noqa: PLC0415
    from fwsign.verify import DevicePolicy, Verifier  # noqa: PLC0415

    if profile not in ("strict", "compat"):
        ui.usage(f'"{profile}" is not a profile', "choose strict or compat")
    if revocation not in (None, "require", "off"):
        ui.usage(f'--revocation "{revocation}"', "choose require or off")
    settings = config.load()
    now = inputs.now()
    data = read_bytes(envelope, MAX_ENVELOPE_SIZE)
    for path in (envelope, *(payloads or ())):
        _refuse_certificate(path)
    anchors, places = _anchors(anchor, settings)
    crls = inputs.load_pem(crl or (), "X509 CRL", "CRL")
    vendor = vendor or settings.vendor
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
    release = Verifier(anchors, policy).verify(data, at=inputs.parse_time(at, now) if at else now)
    _refuse_unused(crls, release, policy)
    unchecked = list(release.unchecked)
    found = _receive(release, envelope, payloads or (), manifest_only=manifest_only)
    if None in found.values():
        unchecked.append("payload")
    if as_json:
        ui.print_json(_as_json(release, unchecked, found, places))
    else:
        _print(envelope, release, unchecked, found, places)


def _refuse_certificate(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError:
        return  # said where it is read
    if b"-----BEGIN CERTIFICATE" in head:
        ui.usage(f"{path} is a certificate, not a payload", f"did you mean --anchor {path}")


def _anchors(
    given: Sequence[Path] | None, settings: config.Config
) -> "tuple[list[Anchor], list[Path]]":
    from fwsign.verify import Anchor  # noqa: PLC0415

    if not given:
        if settings.pki is None:
            ui.usage("no anchor given, and no fwsign.toml found", "name a root with --anchor PEM")
        given = [settings.pki / "ca.crt"]
    anchors = []
    for path in given:
        blocks = inputs.pem_blocks(data := inputs.read_pem(path))
        keys = [content for label, content in blocks if label == "PUBLIC KEY"]
        anchors += [Anchor.from_public_key(key) for key in keys]
        if not keys or len(keys) < len(blocks):
            found = inputs.select(path, data, "CERTIFICATE", "certificate or public key")
            anchors += [Anchor.from_certificate(certificate) for certificate in found]
    return anchors, list(given)


def _pins(
    anchors: "Sequence[Anchor]", vendor: str | None, profile: str
) -> dict[str, tuple[str, ...]]:
    """Let --vendor speak for signers whose certificates cannot: bare keys, and older PKIs."""
    if vendor is None:
        return {}
    speechless = [one for one in anchors if one.certificate is None or profile == "compat"]
    return {one.spki: (vendor,) for one in speechless}


def _refuse_unused(
    given: Sequence[bytes], release: "VerifiedRelease", policy: "DevicePolicy"
) -> None:
    used = {crl.data for one in release.signers for issued in one.issued for crl in issued.crls}
    if policy.revocation != "off" and not used.issuperset(given):
        raise Failed("io.crl-unused", "a CRL given belongs to no issuer in the signer's path")


def _receive(
    release: "VerifiedRelease", envelope: Path, given: Sequence[Path], *, manifest_only: bool
) -> dict[str, Path | None]:
    """Step 10 for each component; return where each payload was, None where it was not."""
    from fwsign.cli.payloads import opened  # noqa: PLC0415

    found: dict[str, Path | None] = {}
    places = _places(release.components, envelope, given)
    for component in release.components:
        if component.uri.startswith("#"):
            release.receive(component)
            found[component.name] = envelope
            continue
        path = places[component.name]
        if not path.exists():
            if manifest_only:
                found[component.name] = None
                continue
            raise Failed(
                "io.payload-missing",
                f'the payload of "{component.name}" is not there: {path}',
                expected=path,
                found="nothing",
            )
        with opened(path) as source:
            release.receive(component, source)
        found[component.name] = path
    return found


def _places(
    components: "Sequence[Component]", envelope: Path, given: Sequence[Path]
) -> dict[str, Path]:
    """Say where each payload should be: as given, by name, or beside the envelope."""
    names = {component.uri.rpartition("/")[2]: component.name for component in components}
    places = {component: envelope.parent / name for name, component in names.items()}
    if len(given) == 1 and len(components) == 1:  # whatever it is called
        return {components[0].name: given[0]}
    for path in given:
        if path.name not in names:
            ui.usage(f'the release has no payload called "{path.name}"', ", ".join(names))
        places[names[path.name]] = path
    return places


def _as_json(
    release: "VerifiedRelease",
    unchecked: Sequence[str],
    found: dict[str, Path | None],
    places: Sequence[Path],
) -> dict[str, Any]:
    text, manifest = release.text, release.manifest
    return {
        "verdict": "verified",
        "code": None,
        "step": None,
        "expected": None,
        "found": None,
        "hint": None,
        "unchecked": list(unchecked),
        "release": {
            "vendor": release.vendor,
            "product": text.product if text else None,
            "version": text.version if text else None,
            "description": text.description if text else None,
            "sequence_number": manifest.sequence_number,
            "use_before": _time(manifest.use_before),
            "manifest_digest": release.manifest_digest.hex(),
            "judged_at": release.now.isoformat(),
            "components": [
                {
                    "name": component.name,
                    "size": component.size,
                    "digest": component.digest.value.hex(),
                    "uri": component.uri,
                    "payload": str(path) if (path := found[component.name]) else None,
                }
                for component in release.components
            ],
            "signers": [_signer_as_json(one) for one in release.signers],
            "anchors": [str(place) for place in places],
            "notes": list(release.notes),
        },
    }


def _signer_as_json(one: "Signer") -> dict[str, Any]:
    path = one.path
    return {
        "name": path.name if path else None,
        "algorithm": one.algorithm,
        "path": [*(c.name for c in path.certificates), path.anchor.name] if path else [],
        "key": path.keys[0] if path else None,
        "counts": one.refusal is None,
        "code": one.refusal.code if one.refusal else None,
        "message": one.refusal.message if one.refusal else None,
    }


def _time(seconds: int | None) -> str | None:
    from datetime import UTC  # noqa: PLC0415

    return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds is not None else None


_HOW_TO_CHECK = {
    "revocation": "no CRLs: staple them, or give --crl",
    "vendor": "give --vendor",
    "product": "give --product",
    "rollback": "give --min-sequence",
    "payload": "it is not here",
}


def _print(
    envelope: Path,
    release: "VerifiedRelease",
    unchecked: Sequence[str],
    found: dict[str, Path | None],
    places: Sequence[Path],
) -> None:
    typer.echo(f"{ui.paint('verified', 'green')}  {ui.clean(envelope)}")
    text = release.text
    named = f"{text.product} {text.version or ''}".rstrip() if text else "text was cut off"
    ui.out(f"  release    {named}, {release.vendor}, sequence {release.manifest.sequence_number}")
    if release.manifest.use_before is not None:
        ui.out(f"  use before {_time(release.manifest.use_before)}")
    for one in release.signers:
        if one.path is None or one.refusal is not None:
            ui.out(f"  not counted: {one.refusal}")
            continue
        names = [*(c.name for c in one.path.certificates), one.path.anchor.name]
        ui.out(f"  signer     {' < '.join(names)}, {one.algorithm}")
    for component in release.components:
        where = found[component.name]
        digest = component.digest.value.hex()
        ui.out(f"  payload    {component.name}, {component.size} bytes, {digest[:16]}..., {where}")
    for place in places:
        ui.out(f"  anchor     {place}")
    for name in unchecked:
        ui.out(f"  {ui.paint('unchecked', 'yellow')}  {name} ({_HOW_TO_CHECK[name]})")
    for line in release.notes:
        ui.note(f"note: {line}")
