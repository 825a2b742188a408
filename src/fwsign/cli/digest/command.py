# SPDX-License-Identifier: Apache-2.0
"""`fwsign digest`: requests for signatures that are made elsewhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fwsign.cli import config, inputs, ui
from fwsign.cli.command import Command, examples, grouped
from fwsign.cli.digest.options import (
    FILES,
    OUTPUT,
    AwayOptions,
    FormOptions,
    MadeRequest,
    ModeOptions,
)
from fwsign.cli.options import ALLOW_EXAMPLE, JSON, KEY_PASS
from fwsign.cli.sign import options as option
from fwsign.cli.sign.attach_options import AttachOptions
from fwsign.cli.sign.native_options import NativeOptions

if TYPE_CHECKING:
    from fwsign.cli.sign.identity import FoundSigner
    from fwsign.signing.request import Form

command = typer.Typer(rich_markup_mode=None, add_completion=False)


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
    files: FILES,
    *,
    who: AwayOptions,
    about: option.AboutOptions,
    images: option.ImageOptions,
    content: option.ContentOptions,
    natives: NativeOptions,
    attach: AttachOptions,
    forms: FormOptions,
    modes: ModeOptions,
    force: option.FORCE = False,
    pass_: KEY_PASS = None,
    allow_empty: option.ALLOW_EMPTY = False,
    output: OUTPUT = None,
    allow_example_keys: ALLOW_EXAMPLE = False,
    as_json: JSON = False,
) -> None:
    """Write what another machine shall sign, with a page to compare.

    FILE.request is the envelope without its signature, FILE.tbs has the bytes to sign. Whoever has
    the key reads the page on the other machine, too, with --show, and compares its words. fwsign
    attach takes the signature.
    """
    from fwsign.cli.digest import making  # where requests are made
    from fwsign.cli.sign import stated

    form = forms.form
    who.check()
    if output == inputs.STREAM:
        ui.usage("--output - has no room for a request and what is to be signed", "name a file")
    if modes.cosign and modes.show:
        ui.usage("--cosign and --show exclude each other")
    if modes.show:
        _show(files, output, form, force=force, as_json=as_json)
        return
    settings = config.load()
    permitted = stated.Permitted(force, allow_empty, allow_example_keys)
    if modes.cosign:
        found = making.find(who, settings, pass_)
        made = making.further(files, found, output, permitted)
    else:
        if settings.encrypt_to:
            ui.usage(
                "fwsign.toml has encrypt_to, and a request for files does not encrypt them",
                "fwsign sign encrypts; fwsign digest --cosign asks for a further signature of "
                "its envelope",
            )
        asked = making.Asked(who, about, images, content, natives, attach, output, pass_)
        made, found = making.new(files, asked, settings, permitted)
    _write(made, form, found, files, force=force, as_json=as_json)


def _write(
    made: Sequence[MadeRequest],
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
    with inputs.expecting_envelope(request, files.ENDING):
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
