# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki verify`: would this certificate be accepted?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from fwsign.cli import answer, config, inputs, ui
from fwsign.cli.command import Command, examples
from fwsign.cli.options import ALLOW_EXAMPLE, CRLS, JSON, P12_PASS, PKI, named
from fwsign.cli.pki_trust import of_pki
from fwsign.cli.verify.demands import PROFILE
from fwsign.errors import Failed, FwsignError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fwsign.pki.paths.purpose import AcceptedPath, Host, Purpose
    from fwsign.x509.anchor import Anchor

_KINDS = {
    "channel": "channel",
    "timestamp": "tsa",
    "server": "server",
    "client": "client",
    "encryption": "encryption",
}
_FOR_VENDORS = ("codesign", "channel", "encryption")
_OTHERS = {
    "stale.certificate": "issue it anew: fwsign pki renew NAME",
    "untrusted.eku": "issue one for that: fwsign pki issue {kind} NAME",
    "untrusted.key-usage": "issue one for that: fwsign pki issue {kind} NAME",
    "untrusted.vendor": "issue one with a name: fwsign pki issue {kind} NAME --host HOST",
}
"""Hints where the certificate is for another purpose than signing code."""


def register(command: typer.Typer) -> None:
    """Add `verify` to the commands of `fwsign pki`."""
    command.command(
        "verify",
        cls=Command,
        epilog=examples(
            "fwsign pki verify pki/issued/release.crt",
            "fwsign pki verify release.crt issuing.crt --anchor ca.crt --crl crls.pem",
            "fwsign pki verify gateway.crt --purpose server --at 1y --json",
            "fwsign pki verify broker.crt --purpose server --host broker.acme.example",
        ),
    )(verify)


_CERTIFICATE: TypeAlias = Annotated[
    Path,
    typer.Argument(
        readable=False,
        metavar="CERT",
        help="The certificate, in PEM, DER, PKCS#7 or PKCS#12; the others in the file are its "
        "chain.",
    ),
]
_CHAIN: TypeAlias = Annotated[
    list[Path] | None,
    typer.Argument(
        readable=False,
        metavar="[CHAIN]...",
        help="Certificates above it, in any order. Default: the CAs of the PKI.",
    ),
]
_ANCHORS: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        readable=False,
        metavar="PEM",
        help="What to trust: roots or public keys; repeat for several. Default: the roots of "
        "the PKI.",
    ),
]
_AT: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Judge by this time: RFC 3339, or 90d. Default: now."),
]
_PURPOSE: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="PURPOSE",
        help="What it is to be used for: codesign, channel, timestamp, server, client, encryption.",
    ),
]
_HOST: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="For a server: the name or address that clients call it by. Default: any of its "
        "names.",
    ),
]


def verify(
    certificate: _CERTIFICATE,
    chain: _CHAIN = None,
    *,
    anchor: _ANCHORS = None,
    at: _AT = None,
    purpose: _PURPOSE = "codesign",
    host: _HOST = None,
    profile: PROFILE = "strict",
    crl: CRLS = None,
    pki: PKI = None,
    pass_: P12_PASS = None,
    allow_example_keys: ALLOW_EXAMPLE = False,
    as_json: JSON = False,
) -> None:
    """Tell whether a certificate is accepted.

    And, if not, which rule refuses it. For codesign the rules are those of fwsign verify. With
    --anchor, nothing is taken from the PKI of fwsign.toml; without, its roots, CAs and CRLs are
    used. Exit statuses are those of fwsign verify.
    """
    from fwsign.cli.keyfiles import certificates
    from fwsign.pki.paths.purpose import belonging, judge_pool

    chosen = _chosen(purpose, profile, host)
    called = None if host is None else _host(host)
    now = inputs.now()
    time = inputs.parse_time(at, now) if at else now
    leaf, *rest = certificates(certificate, pass_)
    pool = [*rest, *(one for path in chain or () for one in certificates(path, pass_))]
    given = [inputs.load_pem([path], "X509 CRL", "CRL") for path in crl or ()]
    anchors, authorities, crls = _trusted(anchor, pki)
    pool += authorities
    crls += belonging([one for file in given for one in file], [leaf, *pool], anchors)
    judged, verdict = judge_pool(
        leaf,
        pool,
        anchors,
        purpose=chosen,
        at=time,
        profile="compat" if profile == "compat" else "strict",
        crls=crls,
        host=called,
        allow_example_keys=allow_example_keys,
    )
    if isinstance(verdict, FwsignError):
        verdict = _with_hint(verdict, chosen, leaf)
        _refuse(verdict, judged, as_json=as_json)
        raise typer.Exit(answer.exit_status(verdict))
    verdict = verdict._replace(notes=(*verdict.notes, *_about_unused(given, verdict)))
    if as_json:
        ui.print_json(_as_json(verdict, purpose))
    else:
        _show(certificate, verdict, purpose)


def _chosen(purpose: str, profile: str, host: str | None) -> "Purpose":
    """Return the purpose; refuse options that have no meaning together."""
    from fwsign.pki.paths.purpose import PURPOSES

    chosen = next((one for one in PURPOSES if one == purpose), None)
    if chosen is None:
        ui.usage(f'"{purpose}" is not a purpose', f"choose from {', '.join(PURPOSES)}")
    if profile not in ("strict", "compat"):
        ui.usage(f'"{profile}" is not a profile', "choose strict or compat")
    if host is not None and chosen != "server":
        ui.usage(
            "--host is for --purpose server",
            "add --purpose server" if chosen == "codesign" else None,
        )
    return chosen


def _trusted(
    anchor: "Sequence[Path] | None", pki: Path | None
) -> "tuple[list[Anchor], list[bytes], list[bytes]]":
    """Return the anchors, and the CAs and CRLs of the PKI, if one counts."""
    if anchor and not pki:
        return inputs.load_anchors(anchor), [], []
    roots, authorities, crls = of_pki(config.find_pki(pki))
    return inputs.load_anchors(anchor) if anchor else roots, authorities, crls


def _with_hint(error: FwsignError, purpose: str, leaf: bytes) -> FwsignError:
    """Return a refusal with the hint that fits a purpose and a certificate."""
    if purpose != "codesign":
        if error.code in _OTHERS and error.hint is None:
            return error.with_hint(_OTHERS[error.code].format(kind=_KINDS[purpose]))
    elif use := _use_of(leaf):
        return error.with_hint(f"it is made for another use; judge it with --purpose {use}")
    return error


def _use_of(leaf: bytes) -> str | None:
    """Return the purpose that a certificate was made for, None if that is to sign code."""
    from cryptography import x509

    from fwsign.pki.leaves import leaf_of

    try:
        found = leaf_of(x509.load_der_x509_certificate(leaf))
    except ValueError:
        return None
    kinds = {**{kind: purpose for purpose, kind in _KINDS.items()}, "idevid": "client"}
    return kinds.get(found.kind) if found else None


def _host(text: str) -> "Host":
    from ipaddress import ip_address

    from cryptography import x509

    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        name = text.removesuffix(".")
    if "*" in name:
        hint = "a client calls a server by one name: ask for that"
        ui.usage(f'"{text}" is a wildcard, expected the name of one host', hint)
    if not (name and name.isascii() and name.isprintable()):
        named("host_name")(name)  # a usage error, perhaps with the spelling in A-labels
    return x509.DNSName(name)


def _about_unused(files: "Sequence[Sequence[bytes]]", accepted: "AcceptedPath") -> tuple[str, ...]:
    """Return a note about CRLs of other issuers than those in the path.

    A bundle has the CRLs of a whole PKI. A file without any that belongs was given by mistake.
    """
    used = {crl.data for issued in accepted.issued for crl in issued.crls}
    if any(used.isdisjoint(crls) for crls in files):
        raise Failed("io.crl-unused", "a CRL given belongs to no issuer in the path")
    unused = len({crl for crls in files for crl in crls} - used)
    what = "a CRL given belongs" if unused == 1 else f"{unused} CRLs given belong"
    return (f"{what} to no issuer in the path: not used",) if unused else ()


def _refuse(error: FwsignError, chain: "Sequence[bytes]", *, as_json: bool) -> None:
    """Print the refused path and the rule; the path as given comes first."""
    certificates = _described(chain)
    for one in certificates:
        ui.note(f"{one['name']}, {one['from']} to {one['until']}")
    ui.note(f"refused by the rule {error.code}")
    ui.complain(error.message, answer.hint_for(error))
    if as_json:
        ui.print_json({**answer.refusal(error), "path": certificates})


def _described(chain: "Sequence[bytes]") -> list[dict[str, Any]]:
    from fwsign.x509.certificate import parse_certificate

    found = []
    for data in chain:
        try:
            one = parse_certificate(data)
        except FwsignError:  # this certificate is the refused one
            continue
        found.append(_entry(one))
    return found


def _entry(one: Any) -> dict[str, Any]:
    return {
        "name": one.name,
        "key": one.spki,
        "from": f"{one.parsed.not_valid_before_utc:%Y-%m-%d}",
        "until": f"{one.parsed.not_valid_after_utc:%Y-%m-%d}",
    }


def _path(accepted: "AcceptedPath") -> list[dict[str, Any]]:
    path = accepted.path
    root = path.anchor.certificate
    bare = {"name": path.anchor.name, "key": path.anchor.spki, "from": None, "until": None}
    return [*map(_entry, path.certificates), _entry(root) if root else bare]


def _as_json(accepted: "AcceptedPath", purpose: str) -> dict[str, Any]:
    nothing = ("code", "step", "message", "expected", "found", "hint")
    return {
        "verdict": "verified",
        **dict.fromkeys(nothing),
        "unchecked": [] if accepted.revocation_checked else ["revocation"],
        "release": None,
        "purpose": purpose,
        "judged_at": accepted.now.isoformat(),
        "path": _path(accepted),
        "vendors": list(accepted.path.vendors) if purpose in _FOR_VENDORS else [],
        "notes": list(accepted.notes),
    }


def _show(certificate: Path, accepted: "AcceptedPath", purpose: str) -> None:
    ui.painted("verified", "green", f"{certificate} for {purpose}, {accepted.now:%Y-%m-%d}")
    *below, anchor = _path(accepted)
    for one in below:
        ui.out(f"  path       {one['name']}, {one['from']} to {one['until']}")
    dates = f", {anchor['from']} to {anchor['until']}" if anchor["from"] else ""
    ui.out(f"  anchor     {anchor['name']}{dates}")
    if purpose in _FOR_VENDORS:
        vendors = ", ".join(accepted.path.vendors) or "none: devices must pin one for its key"
        ui.out(f"  vendors    {vendors}")
    for issued in accepted.issued:
        for crl in issued.newest:
            ui.out(f"  crl        {crl.name}, until {crl.next_update:%Y-%m-%d}")
    if not accepted.revocation_checked:
        ui.painted("  unchecked", "yellow", "revocation (no CRLs: give --crl)")
    for line in accepted.notes:
        ui.painted("  note", "yellow", f"     {line}")
