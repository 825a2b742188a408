# SPDX-License-Identifier: Apache-2.0
"""`fwsign cosign`: one more signature in envelopes that others signed."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from fwsign.cli import approvals, config, inputs, policies, ui
from fwsign.cli.command import Command, examples, grouped
from fwsign.cli.options import ALLOW_EXAMPLE, JSON, KEY_PASS
from fwsign.cli.sign import options as option
from fwsign.cli.sign.command import find_signer, log_of, time_stamping
from fwsign.cli.sign.evidence_options import EvidenceOptions
from fwsign.cli.verify.demands import ANCHORS

if TYPE_CHECKING:
    from fwsign.cli.cosign.envelopes import Cosigned
    from fwsign.cli.sign.identity import FoundSigner
    from fwsign.x509.anchor import Anchor

command = typer.Typer(rich_markup_mode=None, add_completion=False)

_ENVELOPES: TypeAlias = Annotated[
    list[Path],
    typer.Argument(
        readable=False,
        metavar="ENVELOPE...",
        help="The .suit files to sign, in one login; each is replaced by one with one more "
        "signature.",
    ),
]
_FORCE: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--force", help="Allow a clock behind the CRLs, and CRLs that go stale within a day."
    ),
]
_DIGEST: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--digest",
        metavar="HEX",
        help="Sign only the release with this manifest digest, which somebody reviewed.",
    ),
]
_DRY_RUN: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Verify and show what would be signed; open no key, write nothing."
    ),
]


@command.command(
    cls=Command,
    epilog=examples(
        "fwsign cosign build.bin.suit --signer bob",
        "fwsign cosign app.suit boot.suit --key pkcs11:token=bob --chain bob.pem --anchor ca.crt",
        "fwsign cosign build.bin.suit --signer release-pq --json",
    ),
)
@grouped
def cosign(
    envelopes: _ENVELOPES,
    *,
    who: option.SignerOptions,
    anchor: ANCHORS = None,
    policy: policies.POLICY = None,
    evidence: EvidenceOptions,
    digest: _DIGEST = None,
    force: _FORCE = False,
    pass_: KEY_PASS = None,
    dry_run: _DRY_RUN = False,
    allow_example_keys: ALLOW_EXAMPLE = False,
    as_json: JSON = False,
) -> None:
    """Add a signature to envelopes that others signed.

    Every signature that is there must count by your own anchors, and you see the release before
    your key is opened. All signatures are verified again, then ENVELOPE is replaced at once. An
    envelope that the signer has signed already stays as it is, and needs no key. Policies decide
    who must sign: it says which parts are met, and what is missing.
    """
    from fwsign.cli.cosign import envelopes as work  # only once the line is read

    settings = config.load()
    who.check(settings.key, settings.chain)
    evidence.check()
    given = policies.chosen(policy, settings)
    now = inputs.now()
    found = find_signer(who, evidence, settings, pass_)
    terms = work.CosignTerms(
        anchors=_anchors(anchor, who.pki, settings, found),
        stamping=time_stamping(evidence, found),
        now=now,
        allow_example_keys=allow_example_keys,
        force=force,
    )
    seen = [work.examine(path, found, terms, digest) for path in _distinct(envelopes)]
    work.describe(seen)
    if not dry_run:
        seen = work.sign(seen, found, terms, pass_)
        _log(seen, found, log_of(who, settings), now)
        work.write(seen)
    work.report(seen, given, dry_run=dry_run, as_json=as_json)


def _distinct(paths: Sequence[Path]) -> list[Path]:
    for path in paths:
        if path == inputs.STREAM:
            ui.usage("cosign replaces files: - is none", "write the envelope to a file first")
    return list(dict.fromkeys(paths))


def _anchors(
    typed: Sequence[Path] | None,
    pki: Path | None,
    settings: config.Config,
    found: "FoundSigner",
) -> "list[Anchor]":
    """Return the signer's own anchors: those of its PKI, and that of its own chain."""
    directory = pki or settings.pki
    places = typed or (config.roots(directory) if directory is not None else [])
    return list(dict.fromkeys([*inputs.load_anchors(places), found.anchor]))


def _log(
    seen: "Sequence[Cosigned]", found: "FoundSigner", file: Path | None, now: datetime
) -> None:
    lines = [
        line
        for one in seen
        if one.place is not None
        for line in approvals.of_release("cosign", one.path, one.release, [(found.spki, one.place)])
    ]
    approvals.record(file, lines, now)
