# SPDX-License-Identifier: Apache-2.0
"""`fwsign rewrap`: encrypted payloads for other groups of devices."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from fwsign.cli import config, inputs, ui
from fwsign.cli.command import Command, examples, grouped
from fwsign.cli.decrypt import DecryptOptions
from fwsign.cli.options import OUTPUT_OF_ENVELOPE, PKI
from fwsign.cli.sign.encrypt_options import EncryptOptions
from fwsign.errors import FwsignError

if TYPE_CHECKING:
    from fwsign.cli.pki_trust import PkiTrust
    from fwsign.cli.sign.encrypt_options import For

command = typer.Typer(rich_markup_mode=None, add_completion=False)

_ENVELOPE: TypeAlias = Annotated[
    Path,
    typer.Argument(
        readable=False,
        metavar="ENVELOPE",
        help="A .suit file that verifies by the PKI; - is standard input.",
    ),
]


@command.command(
    cls=Command,
    epilog=examples(
        "fwsign rewrap build.bin.suit --encrypt-to thermostats --encrypt-to pilots \\",
        "    --decrypt thermostats.key",
    ),
)
@grouped
def rewrap(
    envelope: _ENVELOPE,
    *,
    encrypt: EncryptOptions,
    decrypt: DecryptOptions,
    pki: PKI = None,
    output: OUTPUT_OF_ENVELOPE = None,
) -> None:
    """Let other groups open an encrypted release.

    Neither is it encrypted again nor signed again.

    --encrypt-to names all groups that shall open it, also those that could before. A group that is
    left out may still have an earlier envelope.
    """
    from fwsign.cli.pki_trust import of_pki
    from fwsign.cli.sign.encrypt_options import Judges, find_keys, vendors_of
    from fwsign.files import write_atomic
    from fwsign.format.envelope import MAX_ENVELOPE_SIZE
    from fwsign.signing.rewrap import rewrap as rewrap_it

    settings = config.load()
    names = encrypt.groups(settings.encrypt_to)
    if not names:
        ui.usage("no --encrypt-to", "name all groups that shall open it")
    if not decrypt.decrypt:
        ui.usage("no --decrypt", "a key of a group that can open it now")
    directory = config.find_pki(pki)
    data = inputs.read(envelope, MAX_ENVELOPE_SIZE)
    trust = of_pki(directory)
    judges = Judges(trust.roots, tuple(trust.authorities), tuple(trust.crls), directory)
    with inputs.expecting_envelope(envelope):
        vendor = vendors_of(data)
        _judge(data, trust, vendor)
    keys = find_keys(names, judges, vendor, inputs.now())
    wrapped = rewrap_it(data, decrypt.keys(), keys)
    if (output or envelope) == inputs.STREAM:
        inputs.write_stream(wrapped)
        return
    # The target of a link is replaced, not the link.
    place = Path(os.path.realpath(envelope)) if envelope.is_symlink() else envelope
    write_atomic(output or place, wrapped, overwrite=output is None)
    ui.out(str(output or envelope))
    ui.note("what is signed stays as it was; a group that is left out may have an earlier envelope")
    ui.next_command("verify", output or envelope)


def _judge(data: bytes, trust: "PkiTrust", vendor: "For") -> None:
    """Verify a release by the PKI before its keys are wrapped for anybody.

    Else somebody of a group could put the wrapped keys of one release into another of his own, and
    have them wrapped for his group.

    Raises:
        FwsignError: as `Verifier.verify`.
    """
    from fwsign.verify.policy import DevicePolicy, pins_for
    from fwsign.verify.verifier import Verifier
    from fwsign.x509.constraints import is_domain

    known = is_domain(vendor.name)  # else the text was cut off
    policy = DevicePolicy(
        vendor=vendor.name if known else None,
        profile="compat",
        crls=tuple(trust.crls),
        pinned_vendors=pins_for(trust.roots, "compat", vendor.name) if known else {},
        tsa_anchors=tuple(trust.roots),
    )
    try:
        Verifier(trust.roots, policy).verify(data, at=inputs.now())
    except FwsignError as error:
        raise error.with_more("its keys are wrapped for nobody") from error
