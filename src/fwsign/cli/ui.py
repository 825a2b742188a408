# SPDX-License-Identifier: Apache-2.0
"""What people see: messages, hints, exit statuses, colour, progress."""

import os
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Final, NoReturn

import typer

from fwsign.errors import Failed, FwsignError, Stale, Unsuitable

REFUSED, USAGE, STALE, UNSUITABLE, FAILED, INTERNAL, INTERRUPTED = 1, 2, 3, 4, 5, 70, 130
"""Exit statuses; 0 is verified or done."""

HINTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "stale.crl": "make new ones with: fwsign pki crl; and for signed files: fwsign staple",
        "stale.crl-missing": "put it into the envelope with: fwsign staple ENVELOPE --crl PEM",
        "stale.certificate": "issue a new signer with: fwsign pki issue signer NAME",
        "stale.not-yet-valid": "is the clock right? --at gives another time",
        "stale.release": "sign a newer release; --not-after sets the expiry",
        "untrusted.no-anchor": "give the right root with --anchor PEM",
        "untrusted.criticality": "PKIs that easy-rsa or openssl made need --profile compat",
        "untrusted.key-usage": "PKIs that easy-rsa or openssl made need --profile compat",
        "untrusted.crl": "PKIs that easy-rsa or openssl made need --profile compat",
        "untrusted.example-key": "make your own PKI: fwsign init; for tests: --allow-example-keys",
        "untrusted.eku": "issue a signer with: fwsign pki issue signer NAME",
        "untrusted.ca-as-leaf": "CAs issue signers: fwsign pki issue signer NAME",
        "untrusted.vendor": "issue a signer for that vendor: fwsign pki issue signer NAME --vendor",
        "untrusted.revoked": "do not install this; sign again with a signer that is not revoked",
        "untrusted.signers": "more people must sign, or the policy asks for too many",
        "malformed.cbor": "is this a .suit file? fwsign show FILE tells what it is",
        "malformed.envelope": "is this a .suit file? fwsign show FILE tells what it is",
        "malformed.profile": "fwsign verifies what fwsign signs; other SUIT manifests are refused",
        "malformed.image": "build it again, or sign it as it is with --target file",
        "malformed.component": "rename the file",
        "malformed.token": "update fwsign, or sign again without a time stamp",
        "tampered.manifest": "fetch it again from where it was signed",
        "tampered.signature": "fetch it again from where it was signed",
        "tampered.payload-digest": "this is not the file that was signed; fetch it again",
        "tampered.payload-size": "this is not the file that was signed; fetch it again",
        "unsuitable.rollback": "install the newest release",
        "io.payload-missing": "put it beside the envelope, name it, or use --manifest-only",
        "io.exists": "use --force to replace it",
        "io.config": "the keys of fwsign.toml are: vendor, product, pki, signer",
        "io.crl-unused": "leave it out, or give the CRL of an issuer of the signer",
        "key.passphrase": "is it the passphrase of this key?",
        "key.passphrase-missing": "give it with --pass env:NAME, file:PATH or fd:N",
        "key.mismatch": "give the certificate of this key first in --chain",
        "state.pki": "fwsign init makes a PKI; --pki names one",
        "state.pki-exists": "choose another name or directory",
    }
)


class Console:
    """The options that all commands share; reset by each run."""

    quiet: ClassVar[bool] = False
    colour: ClassVar[bool] = True


def clean(text: object) -> str:
    """Escape what could deceive a reader or a terminal: control and bidi characters."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in str(text)
    )


def out(text: str = "") -> None:
    """Print a line of the result to standard output."""
    typer.echo("\n".join(map(clean, text.split("\n"))))


def note(text: str) -> None:
    """Print a line for people to standard error, unless --quiet."""
    if not Console.quiet:
        typer.echo(f"fwsign: {clean(text)}", err=True)


def paint(text: str, colour: str) -> str:
    """Colour a text where a terminal shows it; the text itself is cleaned."""
    text = clean(text)
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not Console.colour
    return text if plain or not sys.stdout.isatty() else typer.style(text, fg=colour, bold=True)


def print_json(value: object) -> None:
    """Print exactly one JSON object to standard output."""
    import json  # noqa: PLC0415 - most runs print none

    typer.echo(json.dumps(value, ensure_ascii=True, indent=2))


def usage(message: str, hint: str | None = None) -> NoReturn:
    """Refuse a command line: exit status 2."""
    raise UsageFailure(message, hint)


class UsageFailure(Exception):
    """A command line that cannot be meant; never leaves the command-line interface."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def exit_status(error: FwsignError) -> int:
    """Return the exit status of a refusal."""
    match error:
        case Stale():
            return STALE
        case Unsuitable():
            return UNSUITABLE
        case Failed():
            return FAILED
    return REFUSED


def worst(statuses: Sequence[int]) -> int:
    """Return the worst of several exit statuses."""
    order = (INTERNAL, REFUSED, FAILED, UNSUITABLE, STALE, 0)
    return min(statuses, key=order.index, default=0)


def refusal(error: FwsignError, **more: Any) -> dict[str, Any]:
    """Return a refusal as the JSON object that --json prints."""
    return {
        "verdict": "refused",
        "code": error.code,
        "step": error.step,
        "message": error.message,
        "expected": error.expected,
        "found": error.found,
        "hint": hint_for(error),
        "unchecked": [],
        "release": None,
        **more,
    }


def hint_for(error: FwsignError) -> str | None:
    """Return what to do next about a refusal, if there is something."""
    return error.hint or HINTS.get(error.code)


def complain(message: object, hint: str | None = None) -> None:
    """Print an error, and a hint below it, to standard error."""
    typer.echo(f"fwsign: error: {clean(message)}", err=True)
    if hint:
        typer.echo(f"fwsign: hint: {clean(hint)}", err=True)
