# SPDX-License-Identifier: Apache-2.0
"""`fwsign digest`: requests for signatures that are made elsewhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias

import typer

from fwsign.cli import config, inputs, ui
from fwsign.cli.command import Command, examples, grouped
from fwsign.cli.options import ALLOW_EXAMPLE, CRLS, JSON, KEY_PASS, PKI
from fwsign.cli.sign import options as option

if TYPE_CHECKING:
    from fwsign.cli.sign.identity import FoundSigner
    from fwsign.signing.request import Form, Request

command = typer.Typer(rich_markup_mode=None, add_completion=False)

_FILES: TypeAlias = Annotated[
    list[Path],
    typer.Argument(
        readable=False,
        metavar="FILE...",
        help="What to sign. With --cosign envelopes or requests; with --show a request and the "
        "files that it is about.",
    ),
]
_CHAIN: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        readable=False,
        metavar="PEM",
        help="Who shall sign, where there is no PKI: the certificate first, the root last.",
    ),
]
_OUTPUT: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        readable=False,
        metavar="FILE",
        help="The request, for all FILEs together; with --show a file for what is to be signed. "
        "Default: FILE.request for each.",
    ),
]


class FormOptions(NamedTuple):
    """Options: what the other machine's tool signs."""

    prehash: Annotated[
        bool,
        typer.Option("--prehash", help="Also write the digest, for tools that do not hash."),
    ] = False
    mu: Annotated[
        bool,
        typer.Option("--mu", help="Also write the mu of ML-DSA, 64 bytes, for tools that take it."),
    ] = False

    @property
    def form(self) -> "Form":
        """The form that was asked for."""
        if self.prehash and self.mu:
            ui.usage("--prehash and --mu exclude each other", "--mu is for ML-DSA")
        return "digest" if self.prehash else "mu" if self.mu else "message"


class AwayOptions(NamedTuple):
    """Options: the signer, whose key is elsewhere."""

    pki: PKI = None
    signer: option.SIGNER = None
    chain: _CHAIN = None
    crl: CRLS = None

    def check(self) -> None:
        """Refuse options that have no meaning together."""
        for name, given in (("--pki", self.pki), ("--signer", self.signer)):
            if self.chain and given:
                ui.usage(f"--chain and {name} exclude each other")


class ModeOptions(NamedTuple):
    """Options: another use than new releases."""

    cosign: Annotated[
        bool,
        typer.Option(
            "--cosign",
            help="Ask for one more signature of envelopes, or for another one of requests.",
        ),
    ] = False
    show: Annotated[
        bool,
        typer.Option(
            "--show", help="Print the page of a request, and check the files that are beside it."
        ),
    ] = False


class Made(NamedTuple):
    """A request that was made: its path, its bytes and its content."""

    path: Path
    data: bytes
    wanted: "Request"


@command.command(
    cls=Command,
    epilog=examples(
        "fwsign digest build.bin",
        "fwsign digest build.bin --chain release.pem --product x1 --prehash",
        "fwsign digest --cosign build.bin.suit --signer bob",
        "fwsign digest --show build.bin.request build.bin",
    ),
)
@grouped
def digest(
    files: _FILES,
    *,
    who: AwayOptions,
    about: option.AboutOptions,
    images: option.ImageOptions,
    content: option.ContentOptions,
    forms: FormOptions,
    modes: ModeOptions,
    force: option.FORCE = False,
    pass_: KEY_PASS = None,
    allow_empty: option.ALLOW_EMPTY = False,
    output: _OUTPUT = None,
    allow_example_keys: ALLOW_EXAMPLE = False,
    as_json: JSON = False,
) -> None:
    """Write what is to be signed on another machine, and print a page to compare.

    FILE.request is the envelope without its signature, FILE.tbs has the bytes to sign. Whoever has
    the key reads the page on the other machine, too, with --show, and compares its words. fwsign
    attach takes the signature.
    """
    from fwsign.cli.digest import making  # where requests are made

    form = forms.form
    who.check()
    if modes.cosign and modes.show:
        ui.usage("--cosign and --show exclude each other")
    if modes.show:
        _show(files, output, form, force=force, as_json=as_json)
        return
    settings = config.load()
    permitted = making.Permitted(force, allow_empty, allow_example_keys)
    if modes.cosign:
        found = making.find(who, settings, pass_)
        made = making.further(files, found, output, permitted)
    else:
        made, found = making.new(
            files, who, (about, images, content), settings, output, permitted, pass_
        )
    _write(made, form, found, files, force=force, as_json=as_json)


def _write(
    made: Sequence[Made],
    form: "Form",
    found: "FoundSigner",
    read: Sequence[Path],
    *,
    force: bool,
    as_json: bool,
) -> None:
    """Write the requests, and print their pages."""
    from fwsign.cli.digest import files
    from fwsign.cli.request_page import page
    from fwsign.signing.request import about, to_sign

    for one in made:
        to_sign(one.wanted, form)  # refuses a form before anything is written
    paths = [one.path for one in made]
    paths += [files.bytes_path(one.path, one.wanted, "message") for one in made]
    paths += [files.bytes_path(one.path, one.wanted, form) for one in made]
    files.check([*dict.fromkeys(paths)], [*read], force=force)
    told: list[dict[str, Any]] = []
    for number, one in enumerate(made):
        written = files.write(one.path, one.data, one.wanted, form)
        told.append({"files": [str(path) for path in written], **about(one.wanted)})
        if as_json:
            continue
        if number:
            ui.out()
        for line in page(one.wanted):
            ui.out(line)
        for path in written:
            ui.note(f"written: {path}")
    if as_json:
        ui.print_json({"verdict": "requested", "requests": told})
        return
    ui.note(f'"{found.name}" signs {files.bytes_path(made[0].path, made[0].wanted, form)}')
    ui.next_command("attach", made[0].path, "SIGNATURE")


def _show(
    given: Sequence[Path], output: Path | None, form: "Form", *, force: bool, as_json: bool
) -> None:
    """Print the page of a request, and check what is here."""
    from fwsign.cli.digest import files
    from fwsign.cli.digest.payloads import check
    from fwsign.cli.request_page import page
    from fwsign.files import write_atomic
    from fwsign.format.envelope import MAX_ENVELOPE_SIZE
    from fwsign.signing.request import about, read_request, to_sign

    request, *payloads = given
    with inputs.expecting_envelope(request):
        wanted = read_request(inputs.read(request, MAX_ENVELOPE_SIZE))
    right = files.compare(request, wanted)
    seen = check(wanted, request, payloads)
    if output is not None:
        files.check([output], [request, *payloads], force=force)
        write_atomic(output, to_sign(wanted, form), overwrite=force)
    if as_json:
        compared = {"compared": [str(path) for path in right], "payloads": seen}
        ui.print_json({"verdict": "read", **about(wanted), **compared})
        return
    for line in page(wanted, seen):
        ui.out(line)
    for path in right:
        ui.note(f"{path} is what this request asks to sign")
    if output is not None:
        ui.note(f"written: {output}")
