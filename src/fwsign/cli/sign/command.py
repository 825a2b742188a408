# SPDX-License-Identifier: Apache-2.0
"""`fwsign sign`: files to envelopes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from fwsign.cli import approvals, config, inputs, ui
from fwsign.cli.command import Command, examples, grouped
from fwsign.cli.options import ALLOW_EXAMPLE, JSON, KEY_PASS
from fwsign.cli.sign import options as option
from fwsign.cli.sign import stated
from fwsign.cli.sign.attach_options import AttachOptions
from fwsign.cli.sign.encrypt_options import Ciphertexts, EncryptOptions
from fwsign.cli.sign.evidence_options import EvidenceOptions
from fwsign.cli.sign.form import AloneOptions, Task
from fwsign.cli.sign.native_options import NativeOptions, signed_natively

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric import ec

    from fwsign.cli.sign.identity import FoundSigner
    from fwsign.cli.sign.making import Made, SigningTerms
    from fwsign.pki.log import Signature
    from fwsign.signing.envelope import TimeStamping
    from fwsign.signing.release import Release

command = typer.Typer(rich_markup_mode=None, add_completion=False)


@command.command(
    cls=Command,
    epilog=examples(
        "fwsign sign build.bin",
        "fwsign sign app.bin boot.bin --output update.suit --version 2.4.1 --not-after 90d",
        "fwsign sign app.bin --target esp32c3@0x10000 --pass env:KEY_PASS",
        "fwsign sign build/*.bin --embed --output-dir dist --json",
        "fwsign sign build.bin --key release.key --chain chain.pem --crl ca.crl --product x1",
        "fwsign sign build.bin --encrypt-to thermostats",
        "fwsign sign app.bin --native esp-secure-boot-v2 --native-key boot.key --attach sbom.json",
    ),
)
@grouped
def sign(
    files: option.FILES,
    *,
    who: option.SignerOptions,
    about: option.AboutOptions,
    images: option.ImageOptions,
    content: option.ContentOptions,
    evidence: EvidenceOptions,
    natives: NativeOptions,
    attach: AttachOptions,
    encrypt: EncryptOptions,
    place: option.OutputOptions,
    form: AloneOptions,
    force: option.FORCE = False,
    pass_: KEY_PASS = None,
    allow_empty: option.ALLOW_EMPTY = False,
    dry_run: option.DRY_RUN = False,
    allow_example_keys: ALLOW_EXAMPLE = False,
    as_json: JSON = False,
) -> None:
    """Sign files; each gets its own envelope.

    FILE.suit appears beside FILE, verified as a device would before it is written. With --output
    all FILEs become components of one release. An envelope that says the same already stays as it
    is, and needs no key.
    """
    settings = config.load()
    who.check(settings.key, settings.chain)
    permitted = stated.Permitted(force, allow_empty, allow_example_keys)
    groups = (who, about, images, content, evidence, natives, attach, encrypt, place, permitted)
    typed = _Typed(files, *groups)
    if form.given:
        if encrypt.encrypt_to:
            ui.usage("--encrypt-to is for releases", "a signature on a file alone hides nothing")
        form.check(about, images, content, natives, attach, evidence._replace(crl=None))
        form.check_output(place, dry_run=dry_run)
        task = Task(files, form, place, force, allow_example_keys)
        _sign_alone(task, who, evidence, settings, pass_, as_json=as_json)
    else:
        _sign_releases(typed, settings, pass_, dry_run=dry_run, as_json=as_json)


class _Typed(NamedTuple):
    """The files and groups of options of the command line."""

    files: Sequence[Path]
    who: option.SignerOptions
    about: option.AboutOptions
    images: option.ImageOptions
    content: option.ContentOptions
    evidence: EvidenceOptions
    natives: NativeOptions
    attach: AttachOptions
    encrypt: EncryptOptions
    place: option.OutputOptions
    permitted: stated.Permitted


def _sign_releases(
    typed: _Typed, settings: config.Config, source: str | None, *, dry_run: bool, as_json: bool
) -> None:
    """Sign files as releases: one, or one for each."""
    from fwsign.cli.sign import contents, existing, making, naming  # only signing needs these

    files, who, about, images, content, evidence, natives, attach, encrypt, place, permitted = typed
    force, together = permitted.force, place.output is not None
    product = stated.product(about, settings)
    about.notice()
    _check_options(content, evidence, place, several=len(files) > 1, as_json=as_json)
    now = inputs.now()
    number, until = stated.numbers(about, now, force=force)
    names = naming.name_files(files, images.name or (), together=together, empty=permitted.empty)
    plan = natives.plan(settings.native, files, names)
    signed = [plan.path(file) if plan else file for file in files]
    envelopes = place.envelopes(signed)
    documents = attach.read(images.waived)
    given = (who.chain, content.device_data, *(evidence.crl or ()), *documents.paths)
    read = (*files, *filter(None, given))
    existing.check(envelopes, read, force=force)
    groups = contents.placed(files, names, images, together=together)
    found = find_signer(who, evidence, settings, source)
    vendor = about.vendor or settings.vendor or stated.only_vendor(found)
    what = contents.What(vendor, product, about, number, until, content, documents)
    said = contents.check_images(groups, about.version, images)
    waived = {"allow_example_keys": permitted.example_keys, "force": force}
    readers = encrypt.groups(settings.encrypt_to)
    keys = _group_keys(readers, found, who.pki or settings.pki, vendor, now)
    hidden = Ciphertexts(keys, read, force=force, dry_run=dry_run)
    terms = making.SigningTerms(now=now, stamping=time_stamping(evidence, found), **waived)
    log = log_of(who, settings)
    native = signed_natively(plan, groups, log, now, force=force, dry_run=dry_run)
    with hidden, native as groups:
        if plan is not None:
            said = contents.check_images(groups, about.version, images)
        places = [files[0] if one == inputs.STREAM else one for one in envelopes]
        releases = [
            contents.describe(one, what._replace(encryption=hidden.beside(beside)))
            for one, beside in zip(groups, places, strict=True)
        ]
        said += documents.remarks(releases, files, together=together)
        order = _Order(envelopes, signed, releases, found, terms, said)
        if dry_run:
            _show(order, as_json=as_json)
            return
        made = order.made(source)
        # Without its line in the log nothing gets its name, the ciphertexts as little as the rest.
        approvals.record(log, _lines(envelopes, made, found), now)
        hidden.keep()
    with hidden.held():
        _write(order, made, who.pki, hidden.torn, as_json=as_json)


class _Order(NamedTuple):
    """All that is decided before a key is opened.

    Args:
        envelopes: the path of each envelope.
        files: the files of the releases.
        releases: the content of each envelope.
        found: the signer.
        terms: how to sign.
        said: the remarks about the files themselves.
    """

    envelopes: Sequence[Path]
    files: Sequence[Path]
    releases: "Sequence[Release]"
    found: "FoundSigner"
    terms: "SigningTerms"
    said: Sequence[str]

    @property
    def kept(self) -> "list[Made | None]":
        """The envelopes that exist and stay."""
        from fwsign.cli.sign import making

        pairs = zip(self.envelopes, self.releases, strict=True)
        return [making.kept(*one, self.found, self.terms) for one in pairs]

    def made(self, source: str | None) -> "list[Made]":
        """Return all envelopes; those that are not kept are signed."""
        from fwsign.cli.sign import making

        return making.missing(self.releases, self.kept, self.found, self.terms, source)


def _group_keys(
    names: Sequence[str], found: "FoundSigner", pki: Path | None, vendor: str, now: "datetime"
) -> "Sequence[ec.EllipticCurvePublicKey]":
    """Return the keys of the groups to encrypt to; none if nothing is encrypted."""
    if not names:
        return ()
    from fwsign.cli.sign.encrypt_options import For, Judges, find_keys

    judges = Judges([found.anchor], found.chain[1:], found.crls, pki)
    return find_keys(names, judges, For.named(vendor), now)


def _show(order: _Order, *, as_json: bool) -> None:
    """Print what would be signed."""
    from fwsign.cli.sign import identity, written

    kept, terms = order.kept, order.terms
    identity.check(
        order.found, terms.now, allow_example_keys=terms.allow_example_keys, force=terms.force
    )
    pairs = list(zip(order.envelopes, order.releases, strict=True))
    written.show_plan(pairs, order.found, kept, order.said, as_json=as_json)


def _write(
    order: _Order, made: "Sequence[Made]", pki: Path | None, torn: str | None, *, as_json: bool
) -> None:
    from fwsign.cli.sign import written

    about = (order.envelopes, order.files, made, order.terms.now, order.said)
    all_made = written.SignedFiles(*about, torn)
    written.write(all_made, pki=pki, force=order.terms.force, as_json=as_json)


def _sign_alone(
    task: Task,
    who: option.SignerOptions,
    evidence: EvidenceOptions,
    settings: config.Config,
    source: str | None,
    *,
    as_json: bool,
) -> None:
    """Sign files that are no release."""
    from fwsign.cli.sign import any_file  # few files are signed so

    found = find_signer(who, evidence, settings, source)
    any_file.sign(task, found, source, log_of(who, settings), as_json=as_json)


def _check_options(
    content: option.ContentOptions,
    evidence: EvidenceOptions,
    place: option.OutputOptions,
    *,
    several: bool,
    as_json: bool,
) -> None:
    """Refuse options that have no meaning together."""
    stated.refuse_pairs(
        ("--output", place.output, "--output-dir", place.output_dir),
        ("--output -", place.output == inputs.STREAM, "--json", as_json),
    )
    stated.check_content(content, apart=several and place.output is None)
    evidence.check()


def find_signer(
    who: option.SignerOptions,
    evidence: EvidenceOptions,
    settings: config.Config,
    source: str | None,
) -> "FoundSigner":
    """Find the signer: of the PKI, or a key with its chain."""
    from fwsign.cli.sign import identity

    crls = evidence.crl or ()
    key, chain = who.key, who.chain
    if who.pki is None and who.signer is None:
        key, chain = key or settings.key, chain or settings.chain
    if key is None or chain is None:
        name = who.signer or settings.signer or identity.DEFAULT_SIGNER
        return identity.from_pki(config.find_pki(who.pki), name, crls)
    return identity.from_key(key, chain, source, crls)


def log_of(who: option.SignerOptions, settings: config.Config) -> Path | None:
    """Return the log: of the PKI whose signer it is, unless fwsign.toml names another."""
    in_pki = not (who.key or (settings.key and who.pki is None and who.signer is None))
    return approvals.find_log(settings, (who.pki or settings.pki) if in_pki else None)


def _lines(
    envelopes: Sequence[Path], made: "Sequence[Made]", found: "FoundSigner"
) -> "list[Signature]":
    """Return the lines of the log for what was signed now, in the order of the envelopes."""
    spki = found.spki
    return [
        line
        for path, one in zip(envelopes, made, strict=True)
        if one.place is not None
        for line in approvals.of_release("release", path, one.verified, [(spki, one.place)])
    ]


def time_stamping(evidence: EvidenceOptions, found: "FoundSigner") -> "TimeStamping | None":
    """Return the source of time stamps, if one is wanted."""
    if not evidence.tsa:
        return None
    from functools import partial  # only for time stamps

    from fwsign.signing.envelope import TimeStamping
    from fwsign.signing.tsa_client import request_token

    believed = inputs.load_anchors(evidence.tsa_anchor or ()) or [found.anchor]
    return TimeStamping(partial(request_token, evidence.tsa), tuple(believed))
