# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki issue`: a certificate with a new key, for a request, or for a key that exists."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias

import typer

from fwsign.cli import inputs, ui
from fwsign.cli.command import Command, Group, examples
from fwsign.cli.config import find_pki, load, pki_words
from fwsign.cli.options import (
    CA_PASSES,
    JSON,
    KDF,
    NO_PASSPHRASE,
    PASS,
    PKI,
    named,
    refuse_kdf,
)
from fwsign.cli.passphrases import CaPassphrases, Passphrases
from fwsign.cli.pki import keys as pki_keys
from fwsign.cli.pki.extras import (
    CA_ISSUERS_URL,
    CRITICAL_EXTENSION,
    CRL_URL,
    EXTENSION,
    read_extras,
)
from fwsign.cli.pki.options import (
    COMPAT,
    KIND_OF_KEY,
    KIND_OF_TLS_KEY,
    LIFETIME,
    address,
    span,
    warn_of_rsa2048,
)
from fwsign.cli.quoting import quoted

if TYPE_CHECKING:
    from fwsign.pki.directory import Pki
    from fwsign.pki.leaves import Device
    from fwsign.pki.request import Request

_NAME: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]",
        callback=named("signer_name"),
        help="Names the certificate and its key; it is the CN, too.",
    ),
]
_PEER_NAME: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]",
        callback=named("peer_name"),
        help="Names the certificate and its key; it is the CN, too. Upper case is kept.",
    ),
]
_CSR: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--csr",
        readable=False,
        metavar="FILE",
        help="Certify the key of this request, which stays with its owner. From the request, "
        "only the hosts and addresses of a server and the identity of an idevid are taken, by the "
        "same rules. With a directory instead, all requests in it, and no NAME.",
    ),
]
_FROM_KEY: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--from-key",
        metavar="URI",
        help="Certify this key, a path or file: URI; --pass opens it, and it stays where it is.",
    ),
]
_NAMES: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--names",
        metavar="file|cn",
        help="With --csr DIR: name certificates after their files, which the requests may not "
        "contradict, or after the CN of the requests. Default: file.",
    ),
]
_KEEP_GOING: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--keep-going",
        help="With --csr DIR: issue those that can be. Default: none, if one of them cannot.",
    ),
]
_OUT: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--out",
        readable=False,
        metavar="DIR",
        help="With --csr DIR: write each certificate and the CAs above it to DIR/NAME.pem, too.",
    ),
]
_HELP = """

    The key goes to private/NAME.key, the certificate to issued/NAME.crt. --pass protects the new
    key, --ca-pass opens that of the issuing CA.
    """
_BATCH = """

    --csr DIR judges all requests in a directory first, and issues all or none of them. What was
    issued before for the same key stays as it is, so that an interrupted run can be repeated.
    """


class _More(NamedTuple):
    """The options of `fwsign.cli.pki.extras.read_extras`, in its order."""

    crl_urls: list[str] | None = None
    ca_issuers_urls: list[str] | None = None
    plain: list[str] | None = None
    critical: list[str] | None = None


class _Batch(NamedTuple):
    """The options that are for a directory of requests alone."""

    names: str | None = None
    keep_going: bool = False
    out: Path | None = None
    as_json: bool = False


class _Options(NamedTuple):
    pki: Path | None
    csr: Path | None
    from_key: str | None
    lifetime: str | None
    alg: str | None
    pass_: str | None
    no_passphrase: bool
    kdf: str | None
    ca_pass: list[str] | None
    compat: bool = False
    more: _More = _More()
    batch: _Batch = _Batch()


def register(command: typer.Typer) -> None:
    """Add the group to an application."""
    group = typer.Typer(cls=Group, rich_markup_mode=None)
    command.add_typer(
        group, name="issue", help="Issue certificates: signer, tsa, server, client, idevid."
    )
    pages: dict[Callable[..., None], tuple[str, ...]] = {
        signer: (
            "fwsign pki issue signer release-2027 --for 1y",
            "fwsign pki issue signer ci --pass env:CI_PASS --ca-pass file:/run/secrets/ca",
            "fwsign pki issue signer hsm --csr hsm.csr",
        ),
        tsa: ("fwsign pki issue tsa tsa-2027",),
        server: (
            "fwsign pki issue server broker.acme.example --ip 192.0.2.7",
            "fwsign pki issue server broker --csr broker.csr --host mqtt.acme.example",
            "fwsign pki issue server broker --host localhost",
        ),
        client: (
            "fwsign pki issue client gateway-0017 --no-passphrase",
            "fwsign pki issue client gateway-0017 --csr gateway.csr",
            "fwsign pki issue client TESTING --csr java.csr --compat",
            "fwsign pki issue client --csr requests --out certificates",
        ),
        idevid: (
            "fwsign pki issue idevid sn-0017 --serial-number SN-0017 --csr sn-0017.csr",
            "fwsign pki issue idevid --csr requests --ca-pass env:CA_PASS",
        ),
    }
    for function, lines in pages.items():
        help_ = (function.__doc__ or "").rstrip() + _HELP.rstrip() + _BATCH
        group.command(function.__name__, cls=Command, help=help_, epilog=examples(*lines))(function)


def signer(
    name: _NAME = None,
    *,
    pki: PKI = None,
    vendor: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DOMAIN",
            callback=named("vendor_domain"),
            help="A vendor that it may sign for; repeat for several. Default: the issuing CA's.",
        ),
    ] = None,
    csr: _CSR = None,
    from_key: _FROM_KEY = None,
    lifetime: LIFETIME = None,
    alg: KIND_OF_KEY = None,
    pass_: PASS = None,
    no_passphrase: NO_PASSPHRASE = False,
    kdf: KDF = None,
    ca_pass: CA_PASSES = None,
    crl_url: CRL_URL = None,
    ca_issuers_url: CA_ISSUERS_URL = None,
    extension: EXTENSION = None,
    critical_extension: CRITICAL_EXTENSION = None,
    names: _NAMES = None,
    keep_going: _KEEP_GOING = False,
    out: _OUT = None,
    as_json: JSON = False,
) -> None:
    """Issue a signer: whoever has its key signs releases, for two years."""
    more = _More(crl_url, ca_issuers_url, extension, critical_extension)
    batch = _Batch(names, keep_going, out, as_json)
    options = _Options(
        pki, csr, from_key, lifetime, alg, pass_, no_passphrase, kdf, ca_pass, False, more, batch
    )
    if _issue("signer", name, options, vendor or ()) is None:
        return
    if from_key:
        ui.next_command("sign", "FILE", "--key", from_key, "--chain", "PEM")
    elif not csr:
        product = () if load().product else ("--product", "NAME")
        ui.next_command("sign", "FILE", "--signer", name or "", *pki_words(pki), *product)


def tsa(
    name: _NAME = None,
    *,
    pki: PKI = None,
    csr: _CSR = None,
    from_key: _FROM_KEY = None,
    lifetime: LIFETIME = None,
    alg: KIND_OF_KEY = None,
    pass_: PASS = None,
    no_passphrase: NO_PASSPHRASE = False,
    kdf: KDF = None,
    ca_pass: CA_PASSES = None,
    crl_url: CRL_URL = None,
    ca_issuers_url: CA_ISSUERS_URL = None,
    extension: EXTENSION = None,
    critical_extension: CRITICAL_EXTENSION = None,
    names: _NAMES = None,
    keep_going: _KEEP_GOING = False,
    out: _OUT = None,
    as_json: JSON = False,
) -> None:
    """Issue a time stamper's certificate (RFC 3161), for five years."""
    more = _More(crl_url, ca_issuers_url, extension, critical_extension)
    batch = _Batch(names, keep_going, out, as_json)
    options = _Options(
        pki, csr, from_key, lifetime, alg, pass_, no_passphrase, kdf, ca_pass, False, more, batch
    )
    _issue("tsa", name, options)


def server(
    name: _PEER_NAME = None,
    *,
    pki: PKI = None,
    host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            callback=named("host_name"),
            help="A name that clients call it by, or a single label, which is no public name; "
            "repeat for several. NAME is one, too, if there is a dot in it, or no other.",
        ),
    ] = None,
    ip: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDR", help="An address that clients call it by; repeat for several."
        ),
    ] = None,
    csr: _CSR = None,
    from_key: _FROM_KEY = None,
    lifetime: LIFETIME = None,
    alg: KIND_OF_TLS_KEY = None,
    compat: COMPAT = False,
    pass_: PASS = None,
    no_passphrase: NO_PASSPHRASE = False,
    kdf: KDF = None,
    ca_pass: CA_PASSES = None,
    crl_url: CRL_URL = None,
    ca_issuers_url: CA_ISSUERS_URL = None,
    extension: EXTENSION = None,
    critical_extension: CRITICAL_EXTENSION = None,
    names: _NAMES = None,
    keep_going: _KEEP_GOING = False,
    out: _OUT = None,
    as_json: JSON = False,
) -> None:
    """Issue a TLS server's certificate, such as an MQTT broker's, for 397 days.

    The CA is issuing-tls, which has no limit on names. In an older PKI without one, names must lie
    within the domains of the issuing CA; fwsign pki renew issuing-tls adds the CA for TLS. In
    another network, another machine may have the same single label, and its own certificate.
    """
    more = _More(crl_url, ca_issuers_url, extension, critical_extension)
    batch = _Batch(names, keep_going, out, as_json)
    options = _Options(
        pki, csr, from_key, lifetime, alg, pass_, no_passphrase, kdf, ca_pass, compat, more, batch
    )
    if csr and csr.is_dir() and (host or ip):
        ui.usage("--csr DIR takes hosts and addresses from the requests")
    if path := _issue("server", name, options, host or (), [*map(address, ip or ())]):
        _say_who_needs(path, "server", pki)


def client(
    name: _PEER_NAME = None,
    *,
    pki: PKI = None,
    csr: _CSR = None,
    from_key: _FROM_KEY = None,
    lifetime: LIFETIME = None,
    alg: KIND_OF_TLS_KEY = None,
    compat: COMPAT = False,
    pass_: PASS = None,
    no_passphrase: NO_PASSPHRASE = False,
    kdf: KDF = None,
    ca_pass: CA_PASSES = None,
    crl_url: CRL_URL = None,
    ca_issuers_url: CA_ISSUERS_URL = None,
    extension: EXTENSION = None,
    critical_extension: CRITICAL_EXTENSION = None,
    names: _NAMES = None,
    keep_going: _KEEP_GOING = False,
    out: _OUT = None,
    as_json: JSON = False,
) -> None:
    """Issue a TLS client's certificate, such as a device's, for two years.

    NAME is the CN, which MQTT brokers take as the user name; with a dot in it, it is a host name,
    too.
    """
    more = _More(crl_url, ca_issuers_url, extension, critical_extension)
    batch = _Batch(names, keep_going, out, as_json)
    options = _Options(
        pki, csr, from_key, lifetime, alg, pass_, no_passphrase, kdf, ca_pass, compat, more, batch
    )
    if path := _issue("client", name, options):
        _say_who_needs(path, "client", pki)


def idevid(
    name: _PEER_NAME = None,
    *,
    pki: PKI = None,
    serial_number: Annotated[
        str | None,
        typer.Option(
            "--serial-number",
            metavar="TEXT",
            callback=named("serial_number"),
            help="The device's serial number, in the subject; no other has it. Default: that of "
            "the request.",
        ),
    ] = None,
    hw_type: Annotated[
        str | None,
        typer.Option(
            "--hw-type",
            metavar="OID",
            help="The type of its hardware module: hardwareModuleName (RFC 4108) in the "
            "alternative names.",
        ),
    ] = None,
    hw_serial: Annotated[
        str | None,
        typer.Option(
            "--hw-serial",
            metavar="HEX",
            help="The serial number of that module. Default: the characters of --serial-number.",
        ),
    ] = None,
    csr: _CSR = None,
    from_key: _FROM_KEY = None,
    alg: KIND_OF_TLS_KEY = None,
    compat: COMPAT = False,
    pass_: PASS = None,
    no_passphrase: NO_PASSPHRASE = False,
    kdf: KDF = None,
    ca_pass: CA_PASSES = None,
    crl_url: CRL_URL = None,
    ca_issuers_url: CA_ISSUERS_URL = None,
    extension: EXTENSION = None,
    critical_extension: CRITICAL_EXTENSION = None,
    names: _NAMES = None,
    keep_going: _KEEP_GOING = False,
    out: _OUT = None,
    as_json: JSON = False,
) -> None:
    """Issue the identity that a device is born with (IDevID, IEEE 802.1AR), without an end date.

    It is a TLS client's certificate, with which a device proves its serial number. It lives as long
    as a certificate of its issuing CA is good: renew that with its old key before its end. In use,
    devices need another certificate: fwsign pki serve.
    """
    more = _More(crl_url, ca_issuers_url, extension, critical_extension)
    batch = _Batch(names, keep_going, out, as_json)
    options = _Options(
        pki, csr, from_key, None, alg, pass_, no_passphrase, kdf, ca_pass, compat, more, batch
    )
    if hw_serial and not hw_type:
        ui.usage("--hw-serial is for --hw-type")
    if csr and csr.is_dir() and (serial_number or hw_type):
        ui.usage("--csr DIR takes serial numbers from the requests")
    if path := _issue("idevid", name, options, device=(serial_number, hw_type, hw_serial)):
        _say_who_needs(path, "device", pki)


def _issue(
    kind: str,
    name: str | None,
    options: _Options,
    domains: Sequence[str] = (),
    addresses: Sequence[Any] = (),
    *,
    device: tuple[str | None, str | None, str | None] = (None, None, None),
) -> Path | None:
    """Issue one certificate and return its path; None after a batch."""
    from fwsign.pki.directory import Pki
    from fwsign.pki.issuance import issue
    from fwsign.pki.log import Origin

    now = inputs.now()
    lifetime = span(options.lifetime, now)
    directory = find_pki(options.pki)
    _check(name, options)
    more = read_extras(*options.more)
    asked_for = Passphrases()
    pki = Pki(directory)
    secrets = CaPassphrases(asked_for, options.ca_pass, pki)

    def source() -> bytes | None:
        return secrets.get(pki.issuing(kind))

    csr, compat = options.csr, options.compat
    if csr and csr.is_dir():
        from fwsign.cli.pki.batch import issue_batch
        from fwsign.pki.batch import Terms

        batch = options.batch
        terms = Terms(kind, batch.names == "cn", domains, more, lifetime, compat)
        issue_batch(directory, csr, terms, source, now=now, options=batch)
        return None
    assert name is not None  # noqa: S101 - `_check` has looked
    request = pki_keys.read_request(csr, compat=compat) if csr else None
    if request and kind == "server" and not domains and not addresses:
        domains, addresses = request.domains, request.addresses
        asked = ", ".join([*domains, *map(str, addresses)]) or "nothing"
        ui.note(f"hosts, as the request asks: {asked}")
    path = issue(
        directory,
        kind,
        name,
        key=request.public_key if request else _key(name, options, asked_for),
        domains=domains,
        addresses=addresses,
        device=_device(request, *device) if kind == "idevid" else None,
        more=more,
        lifetime=lifetime,
        compat=options.compat,
        origin=Origin(request=request.digest if request else None),
        ca_passphrase=source,
        now=now,
    )
    ui.out(str(path))
    warn_of_rsa2048(path)
    return path


def _device(
    request: "Request | None", serial_number: str | None, hw_type: str | None, hw_serial: str | None
) -> "Device | None":
    """Return the identity that options give, or that a request asks for."""
    from fwsign.pki.extras import check_oid
    from fwsign.pki.leaves import Device

    asked = request.device if request else None
    if serial_number is None:
        serial_number = asked.serial_number if asked else None
    if serial_number is None:
        return None
    hardware = asked.hardware if asked else None
    if hw_type is not None:
        try:
            octets = bytes.fromhex(hw_serial) if hw_serial else serial_number.encode()
        except ValueError:
            ui.usage(f'--hw-serial "{hw_serial}" is not hexadecimal', "as in 00a1b2c3")
        hardware = (check_oid(hw_type), octets)
    return Device(serial_number, hardware)


def _check(name: str | None, options: _Options) -> None:
    """Refuse options that have no meaning together."""
    refuse_kdf(options.kdf, none=options.no_passphrase)
    several = options.csr is not None and options.csr.is_dir()
    if several == (name is not None):
        if several:
            ui.usage(
                "--csr DIR and NAME exclude each other", "the files or the requests have the names"
            )
        ui.usage(
            "missing argument NAME", f"{options.csr} is not a directory" if options.csr else None
        )
    for option, given in zip(
        ("--names", "--keep-going", "--out", "--json"), options.batch, strict=True
    ):
        if given and not several:
            ui.usage(f"{option} is for --csr DIR")
    if options.batch.names not in (None, "file", "cn"):
        ui.usage(f'--names is file or cn, not "{options.batch.names}"')
    if options.compat and not options.csr and not options.from_key:
        ui.usage(
            "--compat is for a key that exists: --csr or --from-key",
            "a new key of that kind: --alg rsa2048",
        )
    pki_keys.refuse_clash(
        options.csr,
        options.from_key,
        alg=options.alg,
        kdf=options.kdf,
        pass_=options.pass_,
        no_passphrase=options.no_passphrase,
    )


def _key(name: str, options: _Options, asked_for: Passphrases) -> Any:
    from fwsign.pki.issuance import NewKey

    if options.from_key is None:
        what, none = f'the key "{name}"', options.no_passphrase
        return NewKey(
            options.alg or "", asked_for.new(options.pass_, none=none, what=what), options.kdf or ""
        )
    source = asked_for.existing(options.pass_, f"the key {options.from_key}")
    return pki_keys.opens(options.from_key, source, compat=options.compat)


def _say_who_needs(path: Path, who: str, given: Path | None) -> None:
    from fwsign.pki.directory import Pki

    pki = Pki(path.parent.parent)
    *below, root = pki.issuers(path.stem)
    chain = f" and {pki.certificate_path(below[0])}, in this order" if below else ""
    ui.note(f"the {who} sends {path}{chain}")
    ui.note(f"the other side trusts {pki.certificate_path(root)}")
    _say_who_cannot(pki, (*below, root), given)


def _say_who_cannot(pki: "Pki", names: Sequence[str], given: Path | None) -> None:
    """Warn of a path that mbedTLS cannot read, as ESP-IDF has it."""
    from cryptography.x509 import NameConstraints

    from fwsign.pki.directory import ISSUING_TLS, is_root

    for name in names:
        found = [one for one in pki.certificate(name).extensions if one.critical]
        if any(isinstance(one.value, NameConstraints) for one in found):
            words = ("fwsign", "pki", "renew", ISSUING_TLS, *pki_words(given))
            way = "" if is_root(name) else f": {' '.join(map(quoted, words))} makes one for TLS"
            ui.note(f'mbedTLS, as in ESP-IDF, cannot read the CA "{name}"{way}')
