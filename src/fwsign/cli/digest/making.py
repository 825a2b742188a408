# SPDX-License-Identifier: Apache-2.0
"""Make signature requests: of files, of envelopes that others have signed, of other requests."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fwsign.cli import approvals, inputs, ui
from fwsign.cli.digest import files as request_files
from fwsign.cli.digest.options import AwayOptions, MadeRequest
from fwsign.cli.sign import contents, identity, naming, stated
from fwsign.cli.sign import options as option
from fwsign.cli.sign.attach_options import AttachOptions
from fwsign.cli.sign.native_options import NativeOptions, signed_natively
from fwsign.format.envelope import MAX_ENVELOPE_SIZE
from fwsign.signing.request import further_request, read_request, request

if TYPE_CHECKING:
    from fwsign.cli.config import Config
    from fwsign.cli.sign.identity import FoundSigner

_AWAY = "elsewhere"
"""The place of the signer's key; nothing opens it."""


def find(who: AwayOptions, settings: "Config", source: str | None) -> "FoundSigner":
    """Find the signer by name in a PKI, or by its certificates; the key is not looked for."""
    crls = who.crl or ()
    chain = who.chain
    if chain is None and not who.pki and not who.signer:
        chain = settings.chain
    if chain is not None:
        return identity.from_key(_AWAY, chain, source, crls)
    from fwsign.cli.config import find_pki

    name = who.signer or settings.signer or identity.DEFAULT_SIGNER
    return identity.from_pki(find_pki(who.pki), name, crls)


def _judge(found: "FoundSigner", permitted: stated.Permitted) -> None:
    """Refuse a signer whose signature no device would accept."""
    example, force = permitted.example_keys, permitted.force
    identity.check(found, inputs.now(), allow_example_keys=example, force=force)


class Asked(NamedTuple):
    """What was typed about new releases.

    Args:
        who: the signer.
        about: what the releases say of themselves.
        images: where files go on a device.
        content: how devices get the payloads.
        natives: the signature that the chip checks.
        attach: the documents about them.
        output: the request, for all files together; None for one of each.
        source: where the passphrase of the chain's file comes from.
    """

    who: AwayOptions
    about: option.AboutOptions
    images: option.ImageOptions
    content: option.ContentOptions
    natives: NativeOptions
    attach: AttachOptions
    output: Path | None
    source: str | None


def new(
    files: Sequence[Path], asked: Asked, settings: "Config", permitted: stated.Permitted
) -> "tuple[list[MadeRequest], FoundSigner]":
    """Make requests for files. The releases are described as `fwsign sign` does it."""
    who, about, images, content, natives, attach, output, source = asked
    product, together = stated.product(about, settings), output is not None
    about.notice()
    stated.check_content(content, apart=len(files) > 1 and not together)
    now = inputs.now()
    number, use_before = stated.numbers(about, now, force=permitted.force)
    names = naming.name_files(files, images.name or (), together=together, empty=permitted.empty)
    plan = natives.plan(settings.native, files, names)
    signed = [plan.path(file) if plan else file for file in files]
    paths = [output] if output else [Path(f"{one}{request_files.ENDING}") for one in signed]
    request_files.check(paths, [*files], force=permitted.force)
    documents = attach.read(images.waived)
    groups = contents.placed(files, names, images, together=together)
    found = find(who, settings, source)
    vendor = about.vendor or settings.vendor or stated.only_vendor(found)
    what = contents.What(vendor, product, about, number, use_before, content, documents)
    said = contents.check_images(groups, about.version, images)
    _judge(found, permitted)
    log = approvals.find_log(settings, who.pki or settings.pki)
    with signed_natively(plan, groups, log, now, force=permitted.force, dry_run=False) as groups:
        if plan is not None:
            said = contents.check_images(groups, about.version, images)
        releases = [contents.describe(one, what) for one in groups]
    said += documents.remarks(releases, files, together=together)
    for line in said:
        ui.note(f"warning: {line}")
    made = []
    for path, release in zip(paths, releases, strict=True):
        data = request(release, found.chain, found.crls)
        made.append(MadeRequest(path, data, read_request(data)))
    return made, found


def further(
    files: Sequence[Path], found: "FoundSigner", output: Path | None, permitted: stated.Permitted
) -> list[MadeRequest]:
    """Make requests for one more signature of envelopes, or of other requests."""
    if output is not None and len(files) > 1:
        ui.usage("--output with several envelopes", "each gets a request of its own")
    _judge(found, permitted)
    made = []
    for file in files:
        with inputs.expecting_envelope(file):
            data = inputs.read(file, MAX_ENVELOPE_SIZE)
            asked = further_request(data, found.chain, found.crls)
        wanted = read_request(asked)
        ending = request_files.ENDING if file.suffix == request_files.ENDING else ".suit"
        plain = request_files.stem(file, ending)
        word = request_files.signer_word(wanted.leaf.name)
        own = plain.with_name(f"{plain.name}.{word}{request_files.ENDING}")
        made.append(MadeRequest(output or own, asked, wanted))
    return made
