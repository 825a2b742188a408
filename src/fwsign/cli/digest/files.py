# SPDX-License-Identifier: Apache-2.0
"""The files of a signature request: their names, and what may be replaced."""

import re
from pathlib import Path
from typing import Final

from fwsign.cli.inputs import STREAM
from fwsign.cli.sign import existing
from fwsign.errors import Failed, Tampered
from fwsign.files import read_bytes, write_atomic
from fwsign.format.algorithms import ALGORITHMS
from fwsign.signing.request import Form, Request, to_sign

ENDING: Final = ".request"
"""How the name of a request ends; its other files have the same name with other endings."""
ENVELOPE: Final = ".suit"
BYTES: Final = ".tbs"
_LIMIT: Final = 4096
"""Bytes of a file with what is to be signed, which has 95 at most."""
_HEAD: Final = b"\x84jSignature1"
"""How a Sig_structure begins."""
_SIZES: Final = {32, 48, 64}
"""Bytes of digests and of a mu."""


def stem(path: Path, ending: str) -> Path:
    """Return a path without an ending."""
    return path.with_name(path.name.removesuffix(ending) or path.name)


def signer_word(name: str) -> str:
    """Return a signer's name as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:32] or "signer"


def bytes_path(request: Path, wanted: Request, form: Form) -> Path:
    """Return the path of what is to be signed in a form, beside a request."""
    plain = stem(request, ENDING)
    own = ALGORITHMS[wanted.block.algorithm].digest
    more = {"message": "", "mu": ".mu", "digest": f".{own.replace('-', '').lower()}"}[form]
    return plain.with_name(f"{plain.name}{BYTES}{more}")


def check(paths: list[Path], read: list[Path], *, force: bool) -> None:
    """Refuse to replace files: without --force any, with it those of another kind.

    Args:
        paths: the requests to write, and after them what is to be signed.
        read: the files that are read for them.
        force: replace requests and what is to be signed.

    Raises:
        Failed: `io.exists`, `io.*`.
    """
    for path in paths:
        if path == STREAM or not path.exists():
            continue
        if not force:
            hint = "--force replaces requests, and what is to be signed"
            raise Failed("io.exists", f"{path} exists already", hint=hint)
        if BYTES not in path.suffixes[-2:]:
            existing.check([path], read, force=True)
            continue
        old = read_bytes(path, _LIMIT)
        if not old.startswith(_HEAD) and len(old) not in _SIZES:
            raise Failed(
                "io.exists",
                f"{path} exists already and is not what is to be signed",
                expected="a Sig_structure, a digest, or no such file",
                found="something else",
                hint="choose another name, or remove it yourself",
            )


def write(request: Path, data: bytes, wanted: Request, form: Form) -> list[Path]:
    """Write what is to be signed, then the request; return the paths."""
    forms: list[Form] = ["message"] if form == "message" else ["message", form]
    written = []
    for one in forms:
        path = bytes_path(request, wanted, one)
        write_atomic(path, to_sign(wanted, one), overwrite=True)
        written.append(path)
    write_atomic(request, data, overwrite=True)
    return [request, *written]


def compare(request: Path, wanted: Request) -> list[Path]:
    """Compare what lies beside a request to be signed with what the request asks for.

    Returns:
        The files that were there, and are right.

    Raises:
        Tampered: `tampered.manifest`.
    """
    good = []
    forms: tuple[Form, ...] = ("message", "digest", "mu")
    for form in forms:
        try:
            expected = to_sign(wanted, form)
        except Failed:  # this key signs no such form
            continue
        path = bytes_path(request, wanted, form)
        if not path.is_file():
            continue
        found = read_bytes(path, _LIMIT)
        if found != expected:
            raise Tampered(
                "tampered.manifest",
                f"{path} is not what {request} asks to sign: it has {found.hex()[:32]}, expected "
                f"{expected.hex()[:32]}",
                expected=expected.hex(),
                found=found.hex(),
                hint="do not sign it; find out who brought it",
            )
        good.append(path)
    return good
