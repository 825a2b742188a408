# SPDX-License-Identifier: Apache-2.0
"""`fwsign install`: a release, from a file or over HTTPS, into this gateway."""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from fwsign.cli import answer, inputs, ui
from fwsign.cli.command import Command, examples
from fwsign.cli.device.command import CONFIG, device_signer, load_device
from fwsign.cli.device.report import reporting
from fwsign.cli.options import JSON, KEY_PASS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fwsign.gateway.config.device import Device
    from fwsign.gateway.follow.known import FollowRequest
    from fwsign.gateway.run.session import Installed
    from fwsign.gateway.target.sources import Sources
    from fwsign.keys import Signer

command = typer.Typer(rich_markup_mode=None, add_completion=False)


_ENVELOPE: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        metavar="[ENVELOPE]",
        help="A .suit file, or an https address of one; or of a .channel, whose release it takes.",
    ),
]
_PAYLOADS: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PAYLOAD]...",
        help="Files or https addresses of payloads, by their signed names. Default: beside "
        "ENVELOPE, or where it says.",
    ),
]
_RESUME: TypeAlias = Annotated[
    bool, typer.Option("--resume", help="Go on with the release that was begun last.")
]
_DRY_RUN: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="Verify release and payloads, but change nothing.")
]
_CHECK: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--check",
        help="Tell what is offered and whether fwsign follow would install it; fetch only "
        "the envelope, and change nothing.",
    ),
]
_RETRY: TypeAlias = Annotated[
    bool,
    typer.Option("--retry", help="Install a release although it failed its trial here before."),
]
_DOWNLOAD_ONLY: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--download-only",
        help="Stage the verified payloads; fwsign install --resume needs no network then.",
    ),
]


_PERMIT: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--permit",
        readable=False,
        metavar="FILE",
        help="A permit for this release below the floor; it works once. See fwsign permit make.",
    ),
]


@command.command(
    cls=Command,
    epilog=examples(
        "fwsign install update.suit",
        "fwsign install https://updates.acme.example/x1/update.suit",
        "fwsign install https://updates.acme.example/x1/stable.channel",
        "fwsign install update.suit /media/usb/app.tar --dry-run",
        "fwsign install update.suit --download-only",
        "fwsign install --resume",
        "fwsign install old.suit --permit old.permit",
    ),
)
def install(
    envelope: _ENVELOPE = None,
    payloads: _PAYLOADS = None,
    *,
    config: CONFIG = None,
    resume: _RESUME = False,
    dry_run: _DRY_RUN = False,
    check: _CHECK = False,
    download_only: _DOWNLOAD_ONLY = False,
    retry: _RETRY = False,
    permit: _PERMIT = None,
    pass_: KEY_PASS = None,
    as_json: JSON = False,
) -> None:
    """Install a release on this gateway, if it is right for it.

    Everything is verified by what the gateway remembers, then staged, and only then put in its
    place: a crash or power loss leaves the old release or the new one. Files are in DIR/current
    then; other components go to the commands and boards that device.toml names. POSIX only.
    """
    from fwsign.format.envelope import MAX_ENVELOPE_SIZE
    from fwsign.gateway.run.session import InstallRequest, refuse_platform
    from fwsign.gateway.target.sources import Sources

    refuse_platform()
    from fwsign.gateway import install as gateway  # only on POSIX systems
    from fwsign.gateway.choice import is_channel

    aside = [name for name, given in _aside(dry_run, check, download_only).items() if given]
    if resume == bool(envelope) or (resume and aside):
        ui.usage("name an ENVELOPE, or --resume alone", "fwsign install update.suit")
    if len(aside) > 1:
        ui.usage(f"{aside[0]} and {aside[1]} exclude each other")
    if check and permit is not None:
        ui.usage("--check and --permit exclude each other", "--dry-run judges with a permit")
    device = load_device(config)
    sources = None
    if envelope is not None:
        sources = Sources(envelope, tuple(payloads or ()), device.fetch, ui.note)
    if check:
        _check(device, sources, as_json=as_json)
        return
    signer = None if dry_run else device_signer(device.device_key, pass_)
    if sources is not None and is_channel(sources.envelope):
        sources = _of_channel(device, sources, signer, record=not dry_run)
    request = InstallRequest(
        device,
        inputs.now(),
        signer,
        dry_run=dry_run,
        progress=_Progress(),
        tell=ui.note,
        download_only=download_only,
        retry=retry,
        permit=inputs.read(permit, MAX_ENVELOPE_SIZE) if permit is not None else None,
    )
    with contextlib.nullcontext() if dry_run else reporting(device), _expecting(envelope, permit):
        show(device, gateway.install(request, sources), as_json=as_json)


@contextlib.contextmanager
def _expecting(envelope: str | None, permit: Path | None) -> "Iterator[None]":
    """Add to a refusal what the file is, if one of another kind was named."""
    with contextlib.ExitStack() as named:
        for path, ending in ((permit, ".permit"), (_file(envelope), ".suit")):
            if path is not None:
                named.enter_context(inputs.expecting_envelope(path, ending))
        yield


def _file(envelope: str | None) -> Path | None:
    """Return the file that is to be installed; None for an address and for a channel."""
    from fwsign.format.component import is_url
    from fwsign.gateway.choice import is_channel

    named = envelope is not None and not is_url(envelope) and not is_channel(envelope)
    return Path(envelope) if named and envelope else None


def show(device: "Device", done: "Installed", *, as_json: bool) -> None:
    """Print the result of an install."""
    if as_json:
        ui.print_json(_as_json(device, done))
    else:
        _show(device, done)


def _aside(dry_run: bool, check: bool, download_only: bool) -> dict[str, bool]:
    """Return the options that install nothing."""
    return {"--dry-run": dry_run, "--check": check, "--download-only": download_only}


def _check(device: "Device", sources: "Sources | None", *, as_json: bool) -> None:
    from fwsign.cli.device.offers import show_polled  # only for --check
    from fwsign.gateway.choice import is_channel
    from fwsign.gateway.follow import polling as follow

    place = sources.envelope if sources is not None else ""
    offered = None if is_channel(place) else sources
    show_polled(device, follow.check(_request(device, place), offered), as_json=as_json)


def _of_channel(
    device: "Device", sources: "Sources", signer: "Signer | None", *, record: bool
) -> "Sources":
    """Return the release that a channel has for this device; `signer` signs a refusal."""
    from fwsign.gateway.follow import channels  # few type a channel

    if sources.payloads:
        hint = "name the channel alone: its payloads lie beside it"
        ui.usage("a channel has no payloads of its own", hint)
    request = _request(device, sources.envelope)._replace(signer=signer)
    return channels.to_install(request, record=record)


def _request(device: "Device", place: str) -> "FollowRequest":
    from fwsign.format.component import is_url
    from fwsign.gateway.follow.known import FollowRequest

    address = place if is_url(place) or not place else str(Path(place).absolute())
    return FollowRequest(device, address, inputs.now, tell=ui.note)


class _Progress:
    """Shows each payload's progress on a terminal."""

    def __init__(self) -> None:
        self._shown = -1

    def __call__(self, name: str, done: int, size: int) -> None:
        """Take a component's name, its bytes done and its size."""
        if ui.Console.quiet or not ui.is_terminal(sys.stderr):
            return
        percent = 100 * done // size if size else 100
        if percent != self._shown:
            self._shown = percent
            end = "\n" if percent == 100 else ""
            typer.echo(f"\r{ui.clean(name)}: {percent} %{end}", nl=False, err=True)


def _as_json(device: "Device", done: "Installed") -> dict[str, Any]:
    from fwsign.receipts.chain import waivers  # beside the installer
    from fwsign.receipts.facts import installed_facts

    return answer.accepted(
        done.verdict,
        done.release.unchecked,
        {**installed_facts(done.release), "notes": list(done.release.notes)},
        waived=list(waivers(device.policy)),
        notes=list(done.notes),
        current=str(device.target_dir / "current"),
    )


def _show(device: "Device", done: "Installed") -> None:
    from fwsign.receipts.chain import waivers  # after the installer
    from fwsign.receipts.facts import notice_words

    release, text = done.release, done.release.text
    named = f"{text.product} {text.version or ''}".rstrip() if text else "text was cut off"
    waived = ", ".join(waivers(device.policy))
    line = f"{named}, sequence {release.manifest.sequence_number}"
    colour = "yellow" if done.verdict == "on trial" else "green"
    ui.painted(done.verdict, colour, f"{line}, waived: {waived}" if waived else line)
    if text and (words := notice_words(text.notice)):
        ui.out(f"  notice     {words}")
    for component in release.components:
        digest = component.digest.value.hex()
        ui.out(f"  component  {component.name}, {component.size} bytes, {digest[:16]}...")
    for one, path in release.counted:
        ui.out(f"  signer     {path.name}, {one.algorithm}")
    for demand in release.demands:
        for part in demand.clauses:
            ui.out(f"  {demand.name:<10} {part}")
    for name in release.unchecked:
        ui.painted("  unchecked", "yellow", f"{name} (by {Path(device.path)})")
    for line in (*release.notes, *done.notes):
        ui.painted("  note", "yellow", f"     {line}")
