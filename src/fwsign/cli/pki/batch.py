# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki issue --csr DIR`: certificates for a directory of requests."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fwsign.cli import answer, ui
from fwsign.errors import Failed

if TYPE_CHECKING:
    from fwsign.cli.pki.issue_options import BatchOptions
    from fwsign.keys import Passphrase
    from fwsign.pki.batch import JudgedRequest, Terms, Wanted


def issue_batch(
    directory: Path,
    requests: Path,
    terms: "Terms",
    source: "Passphrase",
    *,
    now: datetime,
    options: "BatchOptions",
) -> None:
    """Judge all requests of a directory, and issue all or none of them, or those that can be.

    Raises:
        typer.Exit: with the exit status, if one was refused.
    """
    from fwsign.pki.batch import issue_judged, judge, requests_in

    judged = judge(directory, requests_in(requests), terms, now=now)
    refused = [one for one in judged if one.error]
    wanted = [one for one in judged if one.wanted]
    held = bool(refused) and not options.keep_going
    if options.out and not held:
        _refuse_out(options.out, [one.name for one in wanted])
    if not held and wanted:
        issue_judged(directory, judged, source, kind=terms.kind, now=now)
    if options.out and not held:
        names = [one.name for one in judged if not one.error]
        _write_out(directory, options.out, names, terms.kind)
    if options.as_json:
        ui.print_json(_as_json(directory, judged, held=held))
    else:
        _tell(directory, judged, held=held)
    if refused:
        raise typer.Exit(
            answer.worst(answer.exit_status(one.error) for one in refused if one.error)
        )


def _tell(directory: Path, judged: "tuple[JudgedRequest, ...]", *, held: bool) -> None:
    from fwsign.pki.directory import Pki

    pki = Pki(directory)
    for one in judged:
        if one.error:
            hint = answer.hint_for(one.error)
            ui.complain(f"{one.file}: {one.error.message} ({one.error.code})", hint)
        elif one.wanted and not held:
            ui.out(str(pki.certificate_path(one.name)))
            if one.wanted.leaf.kind == "server":
                ui.note(f"{one.name}: hosts, as the request asks: {', '.join(_hosts(one.wanted))}")
    wanted = sum(one.wanted is not None for one in judged)
    refused = sum(one.error is not None for one in judged)
    there = len(judged) - wanted - refused
    parts = [f"{0 if held else wanted} issued"]
    parts += [f"{there} issued before"] if there else []
    parts += [f"{refused} refused"] if refused else []
    ui.note(f"{len(judged)} requests: {', '.join(parts)}")
    if held and wanted:
        ui.note(f"nothing was issued: --keep-going issues the other {wanted}")


def _hosts(wanted: "Wanted") -> list[str]:
    return [*wanted.leaf.domains, *map(str, wanted.leaf.addresses)]


def _as_json(directory: Path, judged: "tuple[JudgedRequest, ...]", *, held: bool) -> dict[str, Any]:
    from fwsign.pki.directory import Pki
    from fwsign.pki.index import serial_text

    pki = Pki(directory)
    each = []
    for one in judged:
        said: dict[str, Any] = {"file": str(one.file), "name": one.name}
        if one.error:
            words = {"code": one.error.code, "message": one.error.message}
            said |= {"verdict": "refused", **words, "hint": answer.hint_for(one.error)}
        elif one.wanted and held:
            said |= {"verdict": "held back"}
        else:
            verdict = "issued" if one.wanted else "issued before"
            serial = serial_text(pki.certificate(one.name).serial_number)
            path = str(pki.certificate_path(one.name))
            said |= {"verdict": verdict, "serial": serial, "path": path}
            if one.wanted and one.wanted.leaf.kind == "server":
                said |= {"hosts": _hosts(one.wanted)}
        each.append(said)
    refused = any(one.error for one in judged)
    return {"verdict": "refused" if refused else "issued", "requests": each}


def _refuse_out(out: Path, names: list[str]) -> None:
    there = next((one for name in names if (one := out / f"{name}.pem").exists()), None)
    if there is not None:
        raise _exists(there)


def _exists(path: Path) -> Failed:
    return Failed(
        "io.exists",
        f"{path} exists already",
        expected="a directory without these files",
        found=path,
        hint="--out names another directory",
    )


def _write_out(directory: Path, out: Path, names: list[str], kind: str) -> None:
    """Write each certificate with the CAs above it, as TLS clients and servers send them."""
    from cryptography.hazmat.primitives.serialization import Encoding

    from fwsign.cli.inputs import PEM_LIMIT
    from fwsign.files import io_error, read_bytes, write_atomic
    from fwsign.keys import pem
    from fwsign.pki.certificates import issuer_among
    from fwsign.pki.directory import Pki

    pki = Pki(directory)
    ca = pki.issuing(kind)
    issuer, above = (ca, pki.certificate(ca)), pki.path(ca)  # once: nearly all have this issuer
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise io_error(error, out, "write") from error
    for name in names:
        leaf = pki.certificate(name)
        known = issuer_among(leaf, (issuer,)) is not None
        path = (leaf.public_bytes(Encoding.DER), *above) if known else pki.path(name)
        text = b"".join(pem.encode("CERTIFICATE", der) for der in path)
        file = out / f"{name}.pem"
        if not file.exists():
            write_atomic(file, text)
        elif read_bytes(file, PEM_LIMIT) != text:  # the same is from a run that was interrupted
            raise _exists(file)
