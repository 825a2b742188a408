# SPDX-License-Identifier: Apache-2.0
"""`fwsign key`: make keys, convert them, change their passphrase, show them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from fwsign.cli import inputs, quoting, ui
from fwsign.cli.command import Command, Group, examples
from fwsign.cli.key import checks
from fwsign.cli.keyfiles import (
    certificates_from,
    in_file,
    output_path,
    private_key,
    public_key,
    read,
)
from fwsign.cli.options import ALG, JSON, KDF, KEY_PASS, NO_PASSPHRASE, PASS, refuse_kdf
from fwsign.errors import Failed
from fwsign.files import write_atomic
from fwsign.keys import DEFAULT_ALGORITHM, is_elsewhere

if TYPE_CHECKING:
    from fwsign.keys import PublicKey
    from fwsign.keys.items import FileItem

_PUBLIC_MODE, _PRIVATE_MODE = 0o644, 0o600
_FORMS = ("pkcs8", "sec1", "pkcs1", "openssh", "p12", "public", "public-openssh")


def _form(value: str) -> str:
    if value not in _FORMS:
        ui.usage(f'"{value}" is not a form of keys', f"choose from {', '.join(_FORMS)}")
    return value


command = typer.Typer(
    cls=Group,
    rich_markup_mode=None,
    add_completion=False,
    help="Make keys, convert them, change their passphrase.",
)

_FILE: TypeAlias = Annotated[
    str, typer.Argument(metavar="FILE", help="A private key, in any form.")
]
_FORCE: TypeAlias = Annotated[
    bool,
    typer.Option("--force", help="Replace what is there: a key, a certificate, an empty file."),
]
_NEW_PASS: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--new-pass", metavar="SRC", help="Passphrase from now on. Written as for --pass."
    ),
]


@command.command(
    "new",
    cls=Command,
    epilog=examples(
        "fwsign key new release.key",
        "fwsign key new ci.key --alg ed25519",
        "fwsign key new 'pkcs11:token=acme;object=release' --pass env:PIN",
    ),
)
def new(
    name: Annotated[
        str,
        typer.Argument(
            metavar="KEY", help="The new key: a file, in PEM, or a pkcs11: URI with its label."
        ),
    ],
    *,
    alg: ALG = DEFAULT_ALGORITHM,
    pass_: PASS = None,
    no_passphrase: NO_PASSPHRASE = False,
    kdf: KDF = None,
    force: _FORCE = False,
) -> None:
    """Make a private key without a certificate.

    In a file it is PKCS#8, encrypted with AES-256, readable by you alone. In a token it never
    leaves it, and --pass is its PIN. fwsign pki issue makes keys that have a certificate.
    """
    if is_elsewhere(name):
        from fwsign.cli.key import held  # few keys are there

        held.new(name, alg, pass_, file_options=bool(no_passphrase or kdf or force))
        return
    from fwsign.keys.file import new_private_key, write_private_key

    file = in_file(name)
    refuse_kdf(kdf, none=no_passphrase)
    output = output_path(file, force=force)
    passphrase = inputs.new_passphrase(pass_, none=no_passphrase, what=f"the new key {file}")
    write_private_key(output, new_private_key(alg), passphrase, kdf or "scrypt", overwrite=force)
    ui.out(str(file))
    if passphrase is None:
        ui.note("warning: the key is not encrypted: whoever reads the file can use it")
    ui.next_command("key", "convert", file, file.with_suffix(".pub"), "--to", "public")


@command.command(
    "show",
    cls=Command,
    epilog=examples(
        "fwsign key show release.key",
        "fwsign key show release.p12 --pass env:P",
        "fwsign key show 'pkcs11:token=acme;object=release' --pass env:PIN",
    ),
)
def show(
    name: Annotated[
        str, typer.Argument(metavar="KEY", help="A file with a key, in any form, or a key's URI.")
    ],
    *,
    pass_: Annotated[
        str | None,
        typer.Option(
            "--pass",
            metavar="SRC",
            help="Passphrase, to look inside: env:NAME, file:PATH or fd:N. Never asked for.",
        ),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Show what kind a key is, how it is encrypted, its use.

    Without --pass an encrypted key is described from outside. The secret itself is never shown.
    """
    from fwsign.cli.show import cards
    from fwsign.cli.show.command import print_cards
    from fwsign.keys import formats, unlock

    if is_elsewhere(name):
        from fwsign.cli.key import held  # few keys are there

        held.show(name, pass_, as_json=as_json)
        return
    file = in_file(name)
    source = inputs.passphrase_source(pass_, str(file)) if pass_ else None
    data = inputs.read_pem(file)
    found = formats.read_any(data, source, name=file)
    if not any("key" in one.kind or one.kind == "PKCS#12 container" for one in found):
        raise unlock.no_key(data, file)
    shown = []
    for one in found:
        card = cards.card(one)
        if one.public_key is not None:
            card["can be used for"] = cards.uses(one.public_key)
        shown.append(card)
    print_cards(file, shown, as_json=as_json)
    if source is None and any(one.encryption and one.key is None for one in found):
        ui.note("it is encrypted; --pass shows the rest")


_IN: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="IN",
        help="A key in any form; for public keys a certificate, a request or a key's URI will do. "
        "- is standard input.",
    ),
]
_OUT: TypeAlias = Annotated[
    Path,
    typer.Argument(readable=False, metavar="OUT", help="The new file; - is standard output."),
]
_TO: TypeAlias = Annotated[
    str,
    typer.Option(metavar="FORM", callback=_form, help=f"What OUT is: {', '.join(_FORMS)}."),
]
_CERTS: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--cert",
        readable=False,
        metavar="PEM",
        help="Certificates to put into p12, the key's own among them; repeat for several. "
        "Default: those of IN.",
    ),
]
_LEGACY: TypeAlias = Annotated[
    bool,
    typer.Option("--legacy", help="p12 with 3DES and SHA-1, for old Windows and Java."),
]


@command.command(
    "convert",
    cls=Command,
    epilog=examples(
        "fwsign key convert release.key release.pub --to public",
        "fwsign key convert release.p12 release.key --pass env:P12 --new-pass env:KEY",
        "fwsign key convert release.key release.p12 --to p12 --cert release.crt --cert ca.crt",
    ),
)
def convert(
    name: _IN,
    output: _OUT,
    *,
    to: _TO = "pkcs8",
    der: Annotated[bool, typer.Option("--der", help="DER instead of PEM.")] = False,
    cert: _CERTS = None,
    legacy: _LEGACY = False,
    pass_: KEY_PASS = None,
    new_pass: _NEW_PASS = None,
    no_passphrase: NO_PASSPHRASE = False,
    kdf: KDF = None,
    force: _FORCE = False,
) -> None:
    """Write a key in the form that another program wants.

    IN is told by its content and stays as it is. pkcs8 is encrypted as --kdf says, openssh
    with bcrypt, p12 with PBKDF2; sec1 and pkcs1 cannot be.
    """
    checks.check_options(
        to, der=der, cert=cert, legacy=legacy, new_pass=new_pass, no_passphrase=no_passphrase
    )
    checks.check_kdf(to, kdf, none=no_passphrase)
    target = output_path(output, force=force)
    if to.startswith("public"):
        from fwsign.keys.convert import encode_public

        public = _public_half(name, pass_)
        _write(target, encode_public(public, to, der=der), force=force, mode=_PUBLIC_MODE)
    else:
        from fwsign.keys.convert import encode_private

        source = in_file(name)
        asked = inputs.passphrase_source(pass_, str(source))
        key, certificates = private_key(inputs.read_pem(source), asked, source)
        if cert:
            certificates = inputs.load_pem(cert, "CERTIFICATE", "certificate")
        if certificates and to != "p12":
            ui.note(f"the certificates in {source} are not in {output}; only p12 has them")
        passphrase = inputs.new_passphrase(
            new_pass, none=no_passphrase, what=f"the new key {output}", option="--new-pass"
        )
        encoded = encode_private(
            key,
            to,
            passphrase,
            kdf=kdf or "scrypt",
            der=der,
            certificates=certificates_from(certificates) if to == "p12" else (),
            legacy=legacy,
            name=output.stem,
        )
        _write(target, encoded, force=force, mode=_PRIVATE_MODE)
        checks.warn(legacy=legacy, encrypted=passphrase is not None)
    if output != inputs.STREAM:
        ui.out(str(output))


def _public_half(name: str, pass_: str | None) -> "PublicKey":
    if is_elsewhere(name):
        from fwsign.cli.key import held  # few keys are there

        return held.public(name, pass_)
    source = in_file(name)
    asked = inputs.passphrase_source(pass_, str(source))
    found: PublicKey = public_key(inputs.read_pem(source), asked, source)
    return found


def _write(target: Path, data: bytes, *, force: bool, mode: int) -> None:
    if target == inputs.STREAM:
        inputs.write_stream(data)
    else:
        write_atomic(target, data, overwrite=force, mode=mode)


@command.command(
    "passwd",
    cls=Command,
    epilog=examples(
        "fwsign key passwd release.key",
        "fwsign key passwd release.key --pass env:OLD --new-pass env:NEW",
    ),
)
def passwd(
    name: _FILE,
    *,
    pass_: KEY_PASS = None,
    new_pass: _NEW_PASS = None,
    no_passphrase: NO_PASSPHRASE = False,
    kdf: KDF = None,
) -> None:
    """Change the passphrase of a key.

    Whatever encrypted it before, FILE becomes PKCS#8 with AES-256. PBKDF2 stays if it is strong,
    because a program may read nothing else. FILE is replaced whole, and only
    after the new content was read back.
    """
    from fwsign.keys import convert, unlock

    file = in_file(name)
    refuse_kdf(kdf, none=no_passphrase)
    data = inputs.read_pem(file)
    source = inputs.passphrase_source(pass_, str(file))
    checks.refuse_clash(new_pass, none=no_passphrase)
    found = read(data, source, file)
    keys = [one for one in found if one.key is not None]
    if not keys:
        raise unlock.no_key(data, file)
    if len(found) > 1 or found[0].format == "PKCS#12":
        raise Failed(
            "key.format",
            f"{file} has more in it than a key, which would be lost",
            expected="a private key alone",
            found=", ".join(f"{one.kind} ({one.format})" for one in found)[:200],
            hint=f"write a new file: fwsign key convert {quoting.quoted(file)} OUT",
        )
    (one,) = keys
    passphrase = inputs.new_passphrase(
        new_pass, none=no_passphrase, what=f"{file} from now on", option="--new-pass"
    )
    der = one.encoding == "DER"
    kdf = kdf or _kdf_of(one)
    encoded = convert.encode_private(one.key, "pkcs8", passphrase, kdf=kdf, der=der)
    write_atomic(file.resolve(), encoded, overwrite=True, mode=_PRIVATE_MODE)
    ui.out(str(file))
    if one.format != "PKCS#8":
        ui.note(f"it was {one.format} and is PKCS#8 now; fwsign key convert turns it back")
    if passphrase is None:
        ui.note("warning: the key is not encrypted: whoever reads the file can use it")


def _kdf_of(one: "FileItem") -> str:
    """Return the derivation that a key keeps: PBKDF2 if it is strong, else scrypt."""
    there = one.encryption
    if there is None or (there.scheme, there.verdict) != ("PBES2", "good"):
        return "scrypt"
    return "pbkdf2" if there.kdf.startswith("PBKDF2") else "scrypt"
