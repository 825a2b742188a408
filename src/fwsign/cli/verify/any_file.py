# SPDX-License-Identifier: Apache-2.0
"""`fwsign verify` for signatures on files that are no release: hash envelopes and minisign's."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fwsign.cli import answer, inputs, payloads, ui
from fwsign.errors import Failed, FwsignError, Unsuitable
from fwsign.format.suit_labels import HASH_ENVELOPE_HEAD, MINISIG_HEAD

if TYPE_CHECKING:
    from fwsign.cli.verify.demands import Trust
    from fwsign.format.minisig import MinisignKey
    from fwsign.verify.any_file import VerifiedFile

HEADS: Final = (HASH_ENVELOPE_HEAD, MINISIG_HEAD)
_ENDINGS: Final = (".cose", ".minisig")


class Pair(NamedTuple):
    """A signature's path and content, and its file; None for the one of the same name."""

    signature: Path
    data: bytes
    file: Path | None

    @property
    def is_minisig(self) -> bool:
        """Whether it is minisign's."""
        return self.data.startswith(MINISIG_HEAD)

    @property
    def place(self) -> Path:
        """The path of the signed file.

        Raises:
            Failed: `io.payload-missing`: none was named, and the signature's name tells nothing.
        """
        if self.file is not None:
            return self.file
        if self.signature.suffix not in _ENDINGS:
            raise Failed(
                "io.payload-missing",
                f"the name of {self.signature} does not tell which file it signs",
                hint="name the file after it",
            )
        return self.signature.with_suffix("")


def pairs(first: Path, others: Sequence[Path]) -> list[Pair]:
    """Return the named signatures with their files; none if the first is no such signature.

    Raises:
        UsageFailure: two files after a signature.
    """
    from fwsign.format.envelope import MAX_ENVELOPE_SIZE  # after the line was understood

    found: list[Pair] = []
    for path in (first, *others):
        head = _head(path)
        if head.startswith(HEADS):
            found.append(Pair(path, inputs.read(path, MAX_ENVELOPE_SIZE), None))
        elif not found:
            return []
        elif found[-1].file is None:
            found[-1] = found[-1]._replace(file=path)
        else:
            ui.usage(f"{path} after {found[-1].file}", "a signature like this is of one file")
    return found


def _head(path: Path) -> bytes:
    """Return a file's first bytes; none of what is no file, or cannot be read.

    A pipe is left alone: it can be read only once, and opening it waits for its writer.
    """
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(max(map(len, HEADS)))
    except OSError:
        return b""


def minisign_keys(typed: str | None, anchors: Sequence[Path] | None) -> "list[MinisignKey]":
    """Return the keys that are trusted to sign as minisign does.

    Args:
        typed: a key in one line, as for `minisign -P`.
        anchors: files of minisign's keys, or of public keys of Ed25519.
    """
    from fwsign.errors import Malformed
    from fwsign.format import minisig

    keys = []
    if typed is not None:
        try:
            keys.append(minisig.decode_key(typed.encode(errors="replace")))
        except Malformed as error:
            ui.usage(f"--minisign-key: {error.message}")
    for path in anchors or ():
        data = inputs.read_pem(path)
        keys += [minisig.decode_key(data)] if data.startswith(MINISIG_HEAD) else _bare(path)
    if not keys:
        ui.usage(
            "no key given for a signature of minisign",
            "name it with --minisign-key KEY, or --anchor FILE",
        )
    return keys


def _bare(path: Path) -> "list[MinisignKey]":
    """Return the bare keys of Ed25519 in a file of PEM or DER."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from fwsign.format import minisig

    found = inputs.load_anchors([path])
    keys = [one.key for one in found if isinstance(one.key, Ed25519PublicKey)]
    if not keys:
        raise Failed(
            "io.format",
            f"{path} has no key of Ed25519, which minisign's signatures need",
            expected="a public key of minisign, or one of Ed25519",
            found="other keys",
        )
    return [minisig.key_of(one.public_bytes(Encoding.Raw, PublicFormat.Raw)) for one in keys]


def verify(
    every: Sequence[Pair],
    trust: "Trust | None",
    keys: "Sequence[MinisignKey]",
    at: datetime,
    *,
    as_json: bool,
) -> int:
    """Verify signatures and their files, print each verdict, and return the exit status.

    Args:
        every: the signatures.
        trust: anchors and demands for hash envelopes; None if there are none.
        keys: the keys for minisign's.
        at: the time to judge by.
        as_json: print JSON, a line for each if there are several.
    """
    statuses = []
    for pair in every:
        try:
            found = _judge(pair, trust, keys, at)
            with payloads.opened(pair.place) as source:
                size = found.check(source)
            _check_name(pair.place, found)
        except FwsignError as error:
            if len(every) == 1:
                raise
            statuses.append(answer.exit_status(error))
            ui.complain(f"{pair.signature}: {error.message}", answer.hint_for(error))
            if as_json:
                ui.print_json_line({**answer.refusal(error), "signature": str(pair.signature)})
            continue
        statuses.append(0)
        _show(pair, found, size, as_json=as_json, several=len(every) > 1)
    return answer.worst(statuses)


def _judge(
    pair: Pair, trust: "Trust | None", keys: "Sequence[MinisignKey]", at: datetime
) -> "VerifiedFile":
    from fwsign.verify.any_file import verify_hash_envelope, verify_minisig

    if trust is None or pair.is_minisig:
        return verify_minisig(pair.data, keys)
    return verify_hash_envelope(pair.data, trust.anchors, trust.policy, at=at)


def _check_name(place: Path, found: "VerifiedFile") -> None:
    """Refuse a file with another name than the signed one: it may be another product's.

    Raises:
        Unsuitable: `unsuitable.name`.
    """
    if found.name is not None and place.name != found.name:
        raise Unsuitable(
            "unsuitable.name",
            f'{place} was signed as "{found.name}"',
            expected=found.name,
            found=place.name,
            step=10,
        )


def _show(pair: Pair, found: "VerifiedFile", size: int, *, as_json: bool, several: bool) -> None:
    from fwsign.receipts.facts import signer_facts

    unchecked = [*found.unchecked, *([] if found.name else ["name"])]
    if as_json:
        facts: dict[str, Any] = {
            "file": str(pair.place),
            "size": size,
            "signature": str(pair.signature),
            "name": found.name,
            "comment": found.comment,
            "signer": signer_facts(found.signer) if found.signer else None,
            "notes": list(found.notes),
        }
        printed = answer.accepted("verified", unchecked, None, **facts)
        (ui.print_json_line if several else ui.print_json)(printed)
        return
    ui.painted("verified", "green", str(pair.place))
    ui.out(f"  file       {pair.place.name}, {size} bytes")
    path = found.signer.path if found.signer else None
    if path is not None and found.signer is not None:
        ui.out(f"  signer     {path.name}, {found.signer.algorithm}")
    if found.comment is not None:
        ui.out(f"  comment    {found.comment}")
    for line in found.notes:
        ui.note(f"warning: {line}")
    if unchecked:
        ui.out(f"  unchecked  {', '.join(unchecked)}")
    ui.note("it says nothing of devices and versions: fwsign install and flash do not take it")
