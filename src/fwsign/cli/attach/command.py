# SPDX-License-Identifier: Apache-2.0
"""`fwsign attach`: a signature that was made elsewhere into its envelope."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from fwsign.cli import approvals, config, inputs, ui
from fwsign.cli.command import Command, examples
from fwsign.cli.options import ALLOW_EXAMPLE, JSON, PKI, TSA_ANCHORS
from fwsign.cli.verify.demands import ANCHORS

if TYPE_CHECKING:
    from fwsign.signing.envelope import TimeStamping
    from fwsign.verify.verified import VerifiedRelease
    from fwsign.x509.anchor import Anchor
    from fwsign.x509.certificate import Certificate

command = typer.Typer(rich_markup_mode=None, add_completion=False)

_REQUEST: TypeAlias = Annotated[
    Path,
    typer.Argument(
        readable=False, metavar="REQUEST", help="A request that fwsign digest has made."
    ),
]
_SIGNATURE: TypeAlias = Annotated[
    Path,
    typer.Argument(
        readable=False,
        metavar="SIGNATURE",
        help="What the tool has made: raw or, for ECDSA, DER; also in base64 or hex. - is standard "
        "input.",
    ),
]
_OUTPUT: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        readable=False,
        metavar="FILE",
        help="The envelope. If it is there, of the same release and without this signer, it gets "
        "one more signature. Default: as the request, with .suit.",
    ),
]
_FORCE: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Replace an envelope of another release; allow a clock behind the CRLs, and CRLs that "
        "go stale within a day.",
    ),
]
_TSA: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Have a time-stamping authority (RFC 3161) prove when the signature was made; "
        "--crl of fwsign digest gives the CRLs of its issuers.",
    ),
]


@command.command(
    cls=Command,
    epilog=examples(
        "fwsign attach build.bin.request build.bin.sig",
        "fwsign attach build.bin.bob.request bob.sig --output build.bin.suit",
        "fwsign attach build.bin.request build.bin.sig --anchor root.pem",
    ),
)
def attach(
    request: _REQUEST,
    signature: _SIGNATURE,
    *,
    output: _OUTPUT = None,
    anchor: ANCHORS = None,
    pki: PKI = None,
    tsa: _TSA = None,
    tsa_anchor: TSA_ANCHORS = None,
    force: _FORCE = False,
    allow_example_keys: ALLOW_EXAMPLE = False,
    as_json: JSON = False,
) -> None:
    """Put a signature into the envelope that waits for it.

    The envelope is verified as a device would before it is written; nothing is written otherwise.
    Several people sign one envelope by a request each.
    """
    from fwsign.cli.attach import place
    from fwsign.cli.digest.files import ENDING
    from fwsign.files import write_atomic
    from fwsign.format.envelope import MAX_ENVELOPE_SIZE
    from fwsign.pki.log import ELSEWHERE
    from fwsign.signing.attach import accepted, completed
    from fwsign.signing.foreign import MAX_FILE
    from fwsign.signing.request import read_request

    settings = config.load()
    now = inputs.now()
    with inputs.expecting_envelope(request, ENDING):
        data = inputs.read(request, MAX_ENVELOPE_SIZE)
        wanted = read_request(data)
    anchors = _anchors(anchor, pki, settings)
    stamping = _time_stamping(tsa, tsa_anchor, anchors)
    path = output or place.default(request, wanted)
    into = place.existing_envelope(path, wanted, force=force)
    made = completed(
        wanted,
        inputs.read(signature, MAX_FILE),
        into=into,
        stamp=stamping.request if stamping else None,
        instead={"the request itself, not the bytes beside it": data},
        others=_signers(pki or settings.pki),
    )
    permitted = {"allow_example_keys": allow_example_keys, "force": force}
    verified = accepted(made, wanted.leaf, anchors, at=now, tsa=stamping, **permitted)
    place.refuse_changed(path, wanted, into, force=force)
    lines = approvals.of_release("attach", path, verified, [(wanted.leaf.spki, ELSEWHERE)])
    approvals.record(approvals.find_log(settings, pki or settings.pki), lines, now)
    write_atomic(path, made, overwrite=force or into is not None)
    _tell(path, verified, wanted.leaf.name, anchor or (), as_json=as_json)


def _tell(
    path: Path,
    verified: "VerifiedRelease",
    signer: str,
    anchors: Sequence[Path],
    *,
    as_json: bool,
) -> None:
    """Print the envelope's path, and who has signed it now."""
    if as_json:
        from fwsign.receipts.facts import release_facts, signer_facts

        told = {"verdict": "attached", "envelope": str(path), **release_facts(verified)}
        told["signers"] = [signer_facts(one) for one, _ in verified.counted]
        ui.print_json(told)
        return
    ui.out(str(path))
    names = ", ".join(f'"{one.name}"' for _, one in verified.counted)
    ui.note(f'signed by "{signer}"; valid signatures: {names}')
    ui.next_command("verify", path, *(word for one in anchors for word in ("--anchor", one)))


def _anchors(
    given: Sequence[Path] | None, pki: Path | None, settings: config.Config
) -> "list[Anchor]":
    """Return what devices pin: what was typed, else the roots of the PKI."""
    if given and pki:
        ui.usage("--anchor and --pki exclude each other")
    if given:
        return inputs.load_anchors(given)
    if pki is None and settings.pki is None:
        ui.usage(
            "no anchor given, and no fwsign.toml found",
            "name the root with --anchor PEM; a PKI with --pki DIR",
        )
    return inputs.load_anchors(config.roots(config.find_pki(pki)))


def _time_stamping(
    url: str | None, given: Sequence[Path] | None, anchors: "list[Anchor]"
) -> "TimeStamping | None":
    if given and url is None:
        ui.usage("--tsa-anchor without --tsa")
    if not url:
        return None
    from functools import partial  # only for time stamps

    from fwsign.signing.envelope import TimeStamping
    from fwsign.signing.tsa_client import request_token

    believed = inputs.load_anchors(given or ()) or anchors
    return TimeStamping(partial(request_token, url), tuple(believed))


def _signers(pki: Path | None) -> "list[Certificate]":
    """Return the certificates of a PKI, to tell whose a signature is that is not the right one."""
    if pki is None:
        return []
    from cryptography.hazmat.primitives.serialization import Encoding

    from fwsign.errors import FwsignError
    from fwsign.pki.directory import Pki
    from fwsign.x509.certificate import parse_certificate

    found = []
    try:
        reader = Pki(pki)
        for name in reader.names()[:200]:
            data = reader.certificate(name).public_bytes(Encoding.DER)
            found.append(parse_certificate(data))
    except FwsignError:  # it only helps to explain
        return found
    return found
