# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki lint`: what devices will refuse in a PKI, and what will cause trouble."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from fwsign.cli import answer, inputs, ui
from fwsign.cli.command import Command, examples
from fwsign.cli.config import find_pki
from fwsign.cli.options import JSON, P12_PASS, PKI

if TYPE_CHECKING:
    from fwsign.pki.lint.run import Report

_COLOURS: Final = {"error": "red", "warning": "yellow", "note": "cyan"}


def register(command: typer.Typer) -> None:
    """Add `lint` to the commands of `fwsign pki`."""
    command.command(
        "lint",
        cls=Command,
        epilog=examples(
            "fwsign pki lint", "fwsign pki lint ~/easy-rsa/pki", "fwsign pki lint ca.crt --json"
        ),
    )(lint)


def lint(
    place: Annotated[
        Path | None,
        typer.Argument(
            readable=False,
            metavar="[FILE|DIR]",
            help="A PKI of fwsign, easy-rsa or openssl, any folder with certificates, or one file: "
            "PEM, DER, PKCS#7, PKCS#12. Default: the PKI of fwsign.toml.",
        ),
    ] = None,
    *,
    pki: PKI = None,
    pass_: P12_PASS = None,
    as_json: JSON = False,
) -> None:
    """Find what devices will refuse in a PKI.

    And what will cause trouble, what each finding costs, and how to mend it. Certificates, CRLs
    and private keys are looked over; nothing is written. A passphrase is asked for where FILE is
    PKCS#12, never for a key. The exit status is 3 where there are errors or warnings, 0 where there
    is at most a note.
    """
    from fwsign.cli.keyfiles import opener
    from fwsign.errors import Failed
    from fwsign.pki.lint.run import lint as look_over

    if place is not None and pki is not None:
        ui.usage("DIR and --pki exclude each other")
    place = place or find_pki(pki)
    report = look_over(place, now=inputs.now(), passphrase=opener(pass_, place))
    if not any((report.certificates, report.crls, report.keys, report.findings)):
        raise Failed(
            "io.format",
            f"there is no certificate, CRL or private key in {place}",
            expected="certificates, CRLs or private keys",
            found="none",
        )
    if as_json:
        ui.print_json(_as_json(report))
    else:
        _show(report)
    if not report.clean:
        raise typer.Exit(answer.STALE)


def _show(report: "Report") -> None:
    for one in report.findings:
        what = f'{one.code}  "{one.subject}": {one.message}'
        ui.painted(f"{one.severity:7}", _COLOURS[one.severity], what)
        ui.out(f"         file  {one.file}")
        ui.out(f"         cost  {one.cost}")
        ui.out(f"         mend  {one.mend}")
    found = ", ".join(
        _plural(report.count(severity), severity) for severity in ("error", "warning", "note")
    )
    things = (
        _plural(report.certificates, "certificate"),
        _plural(report.crls, "CRL"),
        _plural(report.keys, "private key"),
    )
    word, colour = ("clean", "green") if report.clean else ("findings", "red")
    ui.painted(word, colour, f"{found} in {', '.join(things)}")


def _plural(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _as_json(report: "Report") -> dict[str, object]:
    return {
        "verdict": "clean" if report.clean else "findings",
        "certificates": report.certificates,
        "crls": report.crls,
        "keys": report.keys,
        "findings": [
            {
                "code": one.code,
                "severity": one.severity,
                "subject": one.subject,
                "file": str(one.file),
                "message": one.message,
                "cost": one.cost,
                "mend": one.mend,
            }
            for one in report.findings
        ],
    }
