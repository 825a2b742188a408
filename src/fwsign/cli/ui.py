# SPDX-License-Identifier: Apache-2.0
"""What people see: messages, hints, exit statuses, colour, progress."""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
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
        "untrusted.vendor": "issue one: fwsign pki issue signer NAME --vendor DOMAIN; where no "
        "certificate names a vendor, --vendor with --profile compat does",
        "untrusted.revoked": "do not install this; sign again with a signer that is not revoked",
        "untrusted.signers": "more people must sign, or the policy asks for too many",
        "malformed.cbor": "is this a .suit file? fwsign show FILE tells what it is",
        "malformed.envelope": "is this a .suit file? fwsign show FILE tells what it is",
        "malformed.profile": "fwsign verifies what fwsign signs; other SUIT manifests are refused",
        "malformed.image": "build it again; --target file signs it whatever it is",
        "malformed.token": "sign again, with another time-stamping authority or none",
        "io.tsa": "is the address right, and the authority reachable from here?",
        "tampered.manifest": "fetch it again from where it was signed",
        "tampered.signature": "fetch it again from where it was signed",
        "tampered.block": "this is not the file that was signed; fetch it again",
        "tampered.payload-digest": "this is not the file that was signed; fetch it again",
        "tampered.payload-size": "this is not the file that was signed; fetch it again",
        "unsuitable.vendor": "--vendor, or fwsign.toml, says whose device this is",
        "unsuitable.product": "--product, or fwsign.toml, says what this device is",
        "unsuitable.rollback": "install the newest release",
        "unsuitable.release": "releases are installed: fwsign install",
        "unsuitable.trust-update": "it is applied with: fwsign trust apply",
        "unsuitable.trust-gap": "apply those between too, joined in one file",
        "io.payload-missing": "put it beside the envelope, name it, or use --manifest-only",
        "io.config": "the keys of fwsign.toml are: vendor, product, pki, signer; "
        "docs/gateway.md has those of device.toml",
        "io.crl-unused": "leave it out, or give the CRL of an issuer of the signer",
        "key.format": "fwsign show FILE tells what it is",
        "key.passphrase": "is it the passphrase of this key?",
        "key.passphrase-missing": "give it with --pass or --ca-pass: env:NAME, file:PATH or fd:N",
        "state.ca-limit": "a CA's domains are set when it is made: fwsign pki init --permit DOMAIN",
        "unsuitable.chip": "is it the right board, and the right release?",
        "unsuitable.locked": "where it only cannot be verified: --accept-unverifiable",
        "device.port": "fwsign ports lists the ports; is it in use, and may you open it?",
        "device.absent": "is it connected, powered, and in its boot loader?",
        "device.changed": "put the first board back, or start again",
        "state.unchecked": "waive by name: --revocation off, --any-product, --no-rollback-check; "
        "the vendor is given with --vendor",
        "malformed.receipt": "where a crash cut off the last line, the next receipt removes it",
        "tampered.receipt-chain": "receipts were changed, moved or taken out; ask who kept a copy",
        "tampered.receipt-head": "receipts were changed or taken out; ask who kept a copy",
        "untrusted.receipt": "--key names what signed, --anchor its root",
        "state.lost": "fwsign flash makes one on first use; --state names another place",
        "state.home": "name a file for it with --state FILE",
        "state.foreign": "--state names the memory",
        "state.newer": "update fwsign",
        "state.damaged": "put back a copy, or begin anew with another file: --state",
        "state.conflict": "run it again",
        "state.unfinished": "finish it with: fwsign install --resume; or install a newer release",
        "state.nothing": "name a release: fwsign install ENVELOPE",
        "io.hook": "mend the command that device.toml names, then: fwsign install --resume",
        "io.fetch-connect": "is the server reachable from here? "
        "fetch.ca in device.toml says whom to trust for servers",
        "io.fetch-cut": "what came is kept; go on with: fwsign install --resume",
        "io.fetch-slow": "what came is kept; go on with: fwsign install --resume",
        "unsuitable.target": "device.toml says where components go: [exec] and [flash]",
        "tampered.staged": "something else writes to the target directory; find out what",
        "key.mismatch": "give the certificate of this key first in --chain",
    }
)


_KEYS: Final = (
    *("verdict", "code", "step", "message", "expected", "found", "hint"),
    *("unchecked", "release"),
)


class Console:
    """The options that all commands share; reset by each run."""

    quiet: ClassVar[bool] = False
    colour: ClassVar[bool] = True
    json_told: ClassVar[bool] = False
    """Whether --json was answered already: an error that ends the run is only said then."""


def clean(text: object) -> str:
    """Escape what could deceive a reader or a terminal: control and bidi characters."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in str(text)
    )


def out(text: str = "") -> None:
    """Print a line of the result to standard output."""
    _write(clean(text))


def note(text: str) -> None:
    """Print a line for people to standard error, unless --quiet."""
    if not Console.quiet:
        _tell(f"fwsign: {clean(text)}")


def paint(text: str, colour: str) -> str:
    """Colour a text where a terminal shows it; the text itself is cleaned."""
    text = clean(text)
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not Console.colour
    return text if plain or not is_terminal(sys.stdout) else typer.style(text, fg=colour, bold=True)


def painted(word: str, colour: str, text: str) -> None:
    """Print a line of the result that begins with a coloured word."""
    _write(f"{paint(word, colour)}  {clean(text)}")


def pieces(parts: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Print a line of the result in parts, each cleaned, and styled where a terminal shows it."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not Console.colour
    if plain or not is_terminal(sys.stdout):
        out("".join(text for text, _ in parts).rstrip())
    else:
        _write("".join(typer.style(clean(text), **style) for text, style in parts))


def is_terminal(stream: Any) -> bool:
    """Tell whether somebody sits at a stream; nobody does where it is closed (None)."""
    return stream is not None and stream.isatty()


def print_json(value: object) -> None:
    """Print exactly one JSON object to standard output."""
    import json  # noqa: PLC0415 - most runs print none

    _write(json.dumps(value, ensure_ascii=True, indent=2))


def print_json_line(value: object) -> None:
    """Print a JSON object on one line of standard output."""
    import json  # noqa: PLC0415 - most runs print none

    _write(json.dumps(value, ensure_ascii=True))


def end_line() -> None:
    """Leave the line that a prompt or a progress bar has begun."""
    if is_terminal(sys.stderr):
        _tell("")


def flush() -> None:
    """Hand on what standard output still holds.

    Raises:
        Failed: `io.*`: there is no room for it.
        ReaderGone: nobody reads it.
    """
    if sys.stdout is not None:
        with _output():
            sys.stdout.flush()


def settle() -> None:
    """Let the interpreter end without a word about streams that cannot be written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            with contextlib.suppress(OSError):  # a test's stream has no number
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _write(text: str) -> None:
    with _output():
        typer.echo(text)


def _tell(text: str) -> None:
    # What a command does never depends on whether somebody reads what it says meanwhile.
    with contextlib.suppress(OSError):
        typer.echo(text, err=True)


@contextlib.contextmanager
def _output() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # not left to Typer, which would exit with 1
        raise ReaderGone from None
    except OSError as error:
        from fwsign.atomic import io_error  # noqa: PLC0415

        raise io_error(error, "standard output", "write") from error


def usage(message: str, hint: str | None = None) -> NoReturn:
    """Refuse a command line: exit status 2."""
    raise UsageFailure(message, hint)


class UsageFailure(Exception):
    """A command line that cannot be meant; never leaves the command-line interface."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ReaderGone(Exception):
    """Nobody reads standard output any more; never leaves the command-line interface."""


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


def refused(code: str, message: str, *, hint: str | None = None, **more: object) -> dict[str, Any]:
    """Return the JSON object for what did not come to be."""
    return _answer(verdict="refused", code=code, message=message, hint=hint, **more)


def accepted(
    verdict: str, unchecked: Iterable[str], release: Mapping[str, Any], **more: object
) -> dict[str, Any]:
    """Return the JSON object for a release that was accepted."""
    return _answer(verdict=verdict, unchecked=list(unchecked), release=release, **more)


def _answer(**facts: object) -> dict[str, Any]:
    """Return a JSON object with all the keys that it always has."""
    return {**dict.fromkeys(_KEYS), "unchecked": [], **facts}


def refusal(error: FwsignError) -> dict[str, Any]:
    """Return a refusal as the JSON object that --json prints."""
    facts = {"step": error.step, "expected": error.expected, "found": error.found}
    return refused(error.code, error.message, hint=hint_for(error), **facts)


def hint_for(error: FwsignError) -> str | None:
    """Return what to do next about a refusal, if there is something."""
    return error.hint or HINTS.get(error.code)


def complain(message: object, hint: str | None = None) -> None:
    """Print an error, and a hint below it, to standard error."""
    _tell(f"fwsign: error: {clean(message)}")
    if hint:
        _tell(f"fwsign: hint: {clean(hint)}")
