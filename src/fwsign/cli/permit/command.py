# SPDX-License-Identifier: Apache-2.0
"""`fwsign permit`: let one device install one release that is below its floor, once."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from fwsign.cli import approvals, config, inputs, outputs, ui
from fwsign.cli.command import Command, Group, examples, grouped
from fwsign.cli.options import (
    ALLOW_EXAMPLE,
    CHAIN_OF_KEY,
    JSON,
    KEY_PASS,
    KEY_WITHOUT_PKI,
    PKI,
)
from fwsign.cli.sign.evidence_options import EvidenceOptions

if TYPE_CHECKING:
    from fwsign.format.permit import Permit

command = typer.Typer(
    cls=Group,
    rich_markup_mode=None,
    add_completion=False,
    help="Let one device install one older release, once.",
)


class PermitOptions(NamedTuple):
    """Options: what the permit says."""

    device: Annotated[
        str,
        typer.Option(metavar="ID", help="The device, by its id: fwsign device status shows it."),
    ]
    release: Annotated[
        Path,
        typer.Option(readable=False, metavar="ENVELOPE", help="The release that it may install."),
    ]
    expires: Annotated[
        str, typer.Option(metavar="TIME", help="When it ends, such as 24h; 90d at most.")
    ] = "7d"
    output: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="FILE",
            help="The permit, which must not be there yet. Default: ENVELOPE with .permit.",
        ),
    ] = None

    @property
    def path(self) -> Path:
        """The file of the permit."""
        name = f"{self.release.name.removesuffix('.suit')}.permit"
        return self.output or self.release.with_name(name)


class PermitSigners(NamedTuple):
    """Options: the signers."""

    signer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A signer of the PKI; repeat for several. Default: that of fwsign.toml, else "
            "release.",
        ),
    ] = None
    pki: PKI = None
    key: KEY_WITHOUT_PKI = None
    chain: CHAIN_OF_KEY = None

    def check(self) -> None:
        """Refuse options that have no meaning together."""
        if (self.key is None) != (self.chain is None):
            ui.usage("--key and --chain go together", "--pki and --signer name a signer of a PKI")
        if self.key is not None and (self.pki is not None or self.signer):
            ui.usage("--key excludes --pki and --signer")


@command.command(
    "make",
    cls=Command,
    epilog=examples(
        "fwsign permit make --device gw-0007 --release old.bin.suit",
        "fwsign permit make --device gw-0007 --release old.bin.suit --expires 24h --signer alice "
        "--signer bob",
    ),
)
@grouped
def make(
    *,
    say: PermitOptions,
    who: PermitSigners,
    evidence: EvidenceOptions,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Sign with a clock behind the CRLs, or CRLs that go stale within a day."
        ),
    ] = False,
    pass_: KEY_PASS = None,
    allow_example_keys: ALLOW_EXAMPLE = False,
    as_json: JSON = False,
) -> None:
    """Make a permit, and sign it as a release is signed.

    The device's floor stays where it is: nothing but this release gets past it, and a permit works
    once. The device needs a clock that is right. Give the permit to fwsign install --permit.
    """
    from fwsign.cli.permit import making
    from fwsign.cli.sign import statements
    from fwsign.cli.sign.command import time_stamping
    from fwsign.cli.sign.making import SigningTerms
    from fwsign.files import write_atomic
    from fwsign.signing.permit import sign

    who.check()
    evidence.check()
    now, settings, path = inputs.now(), config.load(), say.path
    found = making.find_signers(who.pki, who.signer, who.key, who.chain, evidence.crl or ())
    wanted = making.WantedPermit(say.device, say.release, inputs.parse_time(say.expires, now), now)
    permit = making.permit_for(wanted, found[0].anchor, allow_example_keys=allow_example_keys)
    outputs.check(path)
    terms = SigningTerms(
        now=now,
        stamping=time_stamping(evidence, found[0]),
        allow_example_keys=allow_example_keys,
        force=force,
    )
    made = statements.sign(partial(sign, permit), found, terms, pass_)
    log = approvals.find_log(settings, (who.pki or settings.pki) if who.key is None else None)
    approvals.record(log, approvals.of_permit(path, made.verified, made.keys), now)
    write_atomic(path, made.data)
    if as_json:
        digest = made.verified.manifest_digest.hex()
        about = {"file": str(path), "manifest_digest": digest, **_facts(permit)}
        ui.print_json({"verdict": "signed", "permit": about})
        return
    ui.out(str(path))
    _tell(permit, made.verified.counted)
    ui.next_command("install", say.release, "--permit", path)


@command.command("show", cls=Command, epilog=examples("fwsign permit show old.bin.permit"))
def show(
    file: Annotated[
        Path, typer.Argument(readable=False, metavar="FILE", help="A permit; - is standard input.")
    ],
    *,
    as_json: JSON = False,
) -> None:
    """Show what a permit says, and who claims to have signed it.

    Nothing is verified here: the device does that, and knows whether the permit was used.
    """
    from fwsign.cli.permit import showing

    permit, claimed = showing.read(file)
    if as_json:
        ui.print_json({"file": str(file), **_facts(permit), "claimed_signers": claimed})
        return
    ui.out(f"permit {permit.id.hex()}")
    for name, value in _lines(permit):
        ui.out(f"  {name:<9}{value}")
    for name in claimed:
        ui.out(f"  signer   {name} (claimed)")


def _tell(permit: "Permit", counted: Any) -> None:
    for name, value in _lines(permit):
        ui.note(f"{name:<9}{value}")
    for one, path in counted:
        ui.note(f"signer   {path.name}, {one.algorithm}")


def _lines(permit: "Permit") -> list[tuple[str, str]]:
    facts = _facts(permit)
    return [
        ("device", permit.device),
        ("for", f"{permit.vendor} {permit.product}"),
        ("release", f"sequence {permit.sequence_number}, manifest {permit.release.hex()}"),
        ("made", facts["made"]),
        ("expires", facts["expires"]),
    ]


def _facts(permit: "Permit") -> dict[str, Any]:
    from fwsign.receipts.facts import permit_facts

    return permit_facts(permit)
