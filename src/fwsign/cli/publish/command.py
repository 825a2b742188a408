# SPDX-License-Identifier: Apache-2.0
"""`fwsign publish`: releases and channels to the place from which devices fetch them."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple, TypeAlias

import typer

from fwsign.cli import answer, config, inputs, ui
from fwsign.cli.command import Command, examples, grouped
from fwsign.cli.options import ALLOW_EXAMPLE, CRLS, JSON
from fwsign.cli.policies import POLICY
from fwsign.cli.verify.demands import (
    ANCHORS,
    PROFILE,
    Demands,
    DeviceOptions,
    TokenOptions,
    gather,
)

if TYPE_CHECKING:
    from fwsign.publish.publishing import PublishedPaths
    from fwsign.publish.store import Store

command = typer.Typer(rich_markup_mode=None, add_completion=False)

_WOULD: Final = {"written": "would write", "repaired": "would repair"}
_ENVELOPES: TypeAlias = Annotated[
    list[Path] | None,
    typer.Argument(
        readable=False,
        metavar="[ENVELOPE]...",
        help="The .suit files, each with its payloads after it, or beside it.",
    ),
]


class StoreOptions(NamedTuple):
    """Options: where to publish, and how to get in."""

    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="PLACE",
            help="A folder, s3://BUCKET, gs://BUCKET, az://CONTAINER, each with a prefix if you "
            "like, or oci://HOST/NAME.",
        ),
    ]
    auth: Annotated[
        Path | None,
        typer.Option(
            "--auth",
            readable=False,
            metavar="FILE",
            help="The login of a registry: a file with USER:PASSWORD, or one of docker's. Default: "
            "where docker login and podman login keep it.",
        ),
    ] = None
    token_host: Annotated[
        list[str] | None,
        typer.Option(
            "--token-host",
            metavar="HOST",
            help="A token server that may have the login, beside the registry's host and names "
            "below it; repeat for several.",
        ),
    ] = None


class GarbageOptions(NamedTuple):
    """Options: what to remove."""

    collect_garbage: Annotated[
        bool,
        typer.Option(
            "--collect-garbage",
            help="Publish nothing; remove payloads and envelopes that no channel there names.",
        ),
    ] = False
    older: Annotated[
        str | None,
        typer.Option(
            "--older",
            metavar="SPAN",
            help="Of these, leave what was written in the last 7d, or another span.",
        ),
    ] = None


@command.command(
    cls=Command,
    epilog=examples(
        "fwsign publish build.bin.suit --to /srv/updates --channel stable.channel",
        "fwsign publish *.suit --to s3://acme-updates/x1 --channel stable.channel",
        "fwsign publish build.bin.suit --to oci://registry.acme.example/firmware/x1",
        "fwsign publish --to /srv/updates --collect-garbage --older 30d",
    ),
)
@grouped
def publish(
    envelopes: _ENVELOPES = None,
    *,
    place: StoreOptions,
    channel: Annotated[
        list[Path] | None,
        typer.Option(
            "--channel",
            readable=False,
            metavar="FILE",
            help="A channel, written last; repeat for several. What it names must be given, or "
            "there.",
        ),
    ] = None,
    anchor: ANCHORS = None,
    device: DeviceOptions,
    crl: CRLS = None,
    policy: POLICY = None,
    profile: PROFILE = "strict",
    token: TokenOptions,
    check: Annotated[
        bool,
        typer.Option("--check", help="Fetch the payloads that are there, and hash them."),
    ] = False,
    garbage: GarbageOptions,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, and write nothing.")
    ] = False,
    allow_example_keys: ALLOW_EXAMPLE = False,
    as_json: JSON = False,
) -> None:
    """Publish releases and channels, where devices can fetch them.

    Everything is verified first, as fwsign verify does it. Then payloads are written that are not
    there, then envelopes, then channels. A run that was stopped leaves the place as it was for
    devices; the next one goes on. What was written is read back.
    """
    if garbage.collect_garbage:
        _collect(place, garbage, envelopes, channel, dry_run=dry_run, as_json=as_json)
        return
    if garbage.older is not None:
        ui.usage("--older without --collect-garbage")
    if not envelopes and not channel:
        ui.usage("nothing to publish", "name envelopes, or a channel with --channel FILE")
    demands = Demands(
        anchor=anchor,
        crl=crl,
        device=device,
        profile=profile,
        revocation=None,
        allow_example_keys=allow_example_keys,
        token=token,
        policy=policy,
    )
    given = envelopes or (), channel or ()
    store, done = _publish(place, demands, *given, check=check, dry_run=dry_run)
    _show(store, done, dry_run=dry_run, as_json=as_json)
    if not channel and not dry_run:
        suits = [one for one in envelopes or () if one.suffix == ".suit"]
        ui.next_command("channel", "make", "stable", *suits)


def _publish(
    place: StoreOptions,
    demands: Demands,
    envelopes: Sequence[Path],
    channels: Sequence[Path],
    *,
    check: bool,
    dry_run: bool,
) -> "tuple[Store, PublishedPaths]":
    """Verify everything, then publish it."""
    from fwsign.cli.publish import publishing  # after the line was understood
    from fwsign.publish.places import open_store

    trust = gather(demands, config.load())
    store = open_store(place.to, place.auth, place.token_host or ())
    judge = publishing.PublishJudge(trust, inputs.now())
    found = judge.releases(envelopes), judge.channels(channels)
    return store, publishing.run(store, *found, judge, check=check, dry_run=dry_run)


def _show(store: "Store", done: "PublishedPaths", *, dry_run: bool, as_json: bool) -> None:
    word = "would publish" if dry_run else "published"
    if as_json:
        paths = [{"path": path, "outcome": what} for path, what in done.outcomes.items()]
        more = {"place": store.place, "paths": paths, "guarded": done.guarded}
        ui.print_json(answer.accepted(word.replace(" ", "-"), [], None, **more))
        return
    for path, what in done.outcomes.items():
        ui.out(f"{_WOULD.get(what, what):14}{path}" if dry_run else f"{what:12}{path}")
    written = sum(what in _WOULD for what in done.outcomes.values())
    there = len(done.outcomes) - written
    said = f"{written} {'to write' if dry_run else 'written'}"
    ui.painted_parts(word, "green", [said, f"{there} there", store.place])
    if done.guarded is False:
        ui.note(f"{store.place} has no conditional writes: let one publisher work at a time")


def _collect(
    place: StoreOptions,
    garbage: GarbageOptions,
    envelopes: list[Path] | None,
    channel: list[Path] | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Collect garbage."""
    if envelopes or channel:
        ui.usage("--collect-garbage publishes nothing", "publish first, then collect")
    from datetime import timedelta

    from fwsign import spans
    from fwsign.publish.garbage import Collector, total  # few runs collect
    from fwsign.publish.places import open_store

    span = timedelta(days=7) if garbage.older is None else inputs.parse_span(garbage.older)
    store = open_store(place.to, place.auth, place.token_host or ())
    found = Collector(store, span.total_seconds(), time.time, dry_run=dry_run).run()
    word = "would remove" if dry_run else "removed"
    if as_json:
        removed = [{"path": one.path, "size": one.size} for one in found.removed]
        more = {"place": store.place, "paths": removed, "kept": found.kept}
        ui.print_json(answer.accepted(word.replace(" ", "-"), [], None, **more))
        return
    for one in found.removed:
        ui.out(f"{word}  {one.path}")
    facts = [f"{len(found.removed)} of {len(found.removed) + found.kept}"]
    ui.painted_parts(word, "green", [*facts, f"{total(found.removed)} bytes", store.place])
    apart = timedelta(seconds=abs(found.ahead))
    if apart > spans.CLOCK_TOLERANCE:
        words = spans.plain_span(apart)
        side = "ahead of" if found.ahead > 0 else "behind"
        ui.note(f"the clock here is {words} {side} that of {store.place}: the earlier one counts")
