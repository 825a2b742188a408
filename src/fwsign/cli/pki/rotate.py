# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki standby` and `fwsign pki rotate`: other roots."""

from typing import TYPE_CHECKING, Annotated

import typer

from fwsign.cli import inputs, ui
from fwsign.cli.command import Command, examples, grouped
from fwsign.cli.config import find_pki, pki_words
from fwsign.cli.held_keys import KEY, HeldOptions, key_choice, new_key_source, opened
from fwsign.cli.options import CA_PASSES, NO_PASSPHRASE, PASS, PKI
from fwsign.cli.passphrases import CaPassphrases, Passphrases
from fwsign.cli.pki.options import KIND_OF_CA_KEY

if TYPE_CHECKING:
    from fwsign.pki.directory import Pki


def register(command: typer.Typer) -> None:
    """Add the commands to an application."""
    command.command(
        "standby",
        cls=Command,
        epilog=examples(
            "fwsign pki standby --pass env:STANDBY_PASS",
            "fwsign pki standby --key 'pkcs11:token=acme;object=standby' --pass env:PIN",
        ),
    )(standby)
    command.command(
        "rotate",
        cls=Command,
        epilog=examples(
            "fwsign pki rotate --pass env:NEW_PASS --root-pass env:ROOT_PASS",
            "fwsign pki rotate --no-passphrase --standby-pass file:/media/standby/pass",
            "fwsign pki rotate --root-key 'pkcs11:token=acme;object=ca-2' --pass env:PIN \\",
            "    --key issuing=openbao:issuing-2 --key issuing-tls=openbao:tls-2",
        ),
    )(grouped(rotate))


def standby(
    *,
    pki: PKI = None,
    alg: KIND_OF_CA_KEY = None,
    key: KEY = None,
    pass_: PASS = None,
    no_passphrase: NO_PASSPHRASE = False,
) -> None:
    """Make a second root, for the day when the first is lost.

    Devices pin standby.crt beside ca.crt. It issues nothing until fwsign pki rotate; keep its key
    offline, in another place than the first root's.
    """
    from fwsign.pki.directory import Pki
    from fwsign.pki.rotation import standby as make_standby

    directory = find_pki(pki)
    found = Pki(directory)
    what = "the standby's key"
    own = key_choice(key, alg, Passphrases(), pass_, none=no_passphrase, what=what)
    name = make_standby(directory, new_key=own, now=inputs.now())
    path = found.certificate_path(name)
    ui.out(str(path))
    ui.note(f"give {path} to every device, beside {found.certificate_path(_root_in_use(found))}")
    ui.note(f"keep {found.key_uri(name)} offline, not where the key of the first root is")


def _root_in_use(pki: "Pki") -> str:
    """Return the root above the CA that issues now; the first, if no CA issues yet."""
    from fwsign.pki.entry_names import ROOT, is_issuing

    issues = any(map(is_issuing, pki.names()))
    return pki.issuer_of(pki.certificate(pki.issuing())) if issues else ROOT


def rotate(
    *,
    pki: PKI = None,
    alg: KIND_OF_CA_KEY = None,
    held: HeldOptions,
    pass_: PASS = None,
    no_passphrase: NO_PASSPHRASE = False,
    root_pass: Annotated[
        str | None,
        typer.Option(
            "--root-pass", metavar="SRC", help="Passphrase of the old root's key. As for --pass."
        ),
    ] = None,
    standby_pass: Annotated[
        str | None,
        typer.Option(
            "--standby-pass", metavar="SRC", help="Passphrase of the standby's key. As for --pass."
        ),
    ] = None,
    ca_pass: CA_PASSES = None,
) -> None:
    """Go over to another root and other issuing CAs.

    The new root is the standby, if there is one. The old root certifies it, so that devices that
    know only the old root accept what is signed from now on; without its key, only devices that
    know the standby do. All that is there stays as it is and can be revoked. --root-key and --key
    are keys of the new CAs, which --pass opens: NAME is issuing or issuing-tls.
    """
    from fwsign.pki.directory import Pki
    from fwsign.pki.entry_keys import NewKey
    from fwsign.pki.entry_names import ISSUING, ISSUING_TLS, ROOT
    from fwsign.pki.rotation import current_root
    from fwsign.pki.rotation import rotate as rotate_it

    directory = find_pki(pki)
    found = Pki(directory)
    old = current_root(found)
    asked_for, uris = Passphrases(), held.uris((ROOT, ISSUING, ISSUING_TLS))
    keys = opened(uris, asked_for, pass_)
    source = new_key_source(pass_, none=no_passphrase, held=bool(keys))
    secret = asked_for.new(source, none=no_passphrase, what="the new keys")
    new_key = NewKey(alg or "", secret)
    others = [name for name in found.roots() if name != old]
    own = [("--root-pass", root_pass, [old]), ("--standby-pass", standby_pass, others)]
    secrets = CaPassphrases(asked_for, ca_pass, found, own)
    done = rotate_it(
        directory,
        root_key=keys.get(ROOT, new_key),
        new_key=new_key,
        keys=keys,
        passphrase=secrets.get,
        now=inputs.now(),
    )
    for name in filter(None, (done.root, done.crossed, done.tls, done.issuing)):
        ui.out(str(found.certificate_path(name)))
    ui.note(f"give {found.certificate_path(done.root)} to new devices, beside those before")
    if done.crossed is None:
        ui.note(f'warning: devices that know only "{old}" refuse what is signed from now on')
    ui.note(f"keep {found.key_uri(done.root)} offline; signing does not need it")
    ui.next_command("pki", "renew", "NAME", *pki_words(pki), after=", for each signer")
