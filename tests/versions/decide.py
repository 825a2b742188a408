"""Judge vectors and mutants, and print what came of each: run by every version of cryptography.

usage: decide.py VECTORS MUTANTS >OUTCOMES
"""

import json
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cryptography import x509

from fwsign.errors import FwsignError
from fwsign.format.algorithms import ALGORITHMS
from fwsign.format.cose import decode_block
from fwsign.format.envelope import decode_envelope
from fwsign.x509.anchor import Anchor
from fwsign.x509.certificate import Certificate, parse_anchor, parse_certificate
from fwsign.x509.crl import Crl, parse_crl
from fwsign.x509.revocation import CrlReader, Issued
from mutation import Dice
from testkit.read import Bytes, run

FLIPS = 10
"""Copies of each accepted envelope with one other byte."""
SERIALS = (*range(1, 8), 0x1234)


def main() -> None:
    """Print a line of JSON for each vector, each changed envelope and each mutant."""
    warnings.simplefilter("ignore")  # of odd names
    vectors, mutants = map(Path, sys.argv[1:])
    for path in sorted(vectors.glob("*/*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        quantum = has_ml_dsa(document, Bytes(vectors))
        tell(path.stem, run(document, Bytes(vectors)), quantum=quantum)
        if document["expected"]["verdict"] == "accepted" and document["kind"] == "release":
            for number in range(FLIPS):
                changed = Flipped(vectors, document["envelope"], Dice((path.stem, number)))
                tell(f"{path.stem}, byte {number}", run(document, changed), quantum=quantum)
    with mutants.open(encoding="ascii") as lines:
        leaf = parse_certificate(bytes.fromhex(next(lines)))
        for line in lines:
            kind, _, text = line.partition(" ")
            tell(kind, judge(kind, bytes.fromhex(text), leaf))


def tell(name: str, found: Any, *, quantum: bool = False) -> None:
    """Print one outcome, and whether the envelope has a block of ML-DSA."""
    print(json.dumps([name, found, quantum], sort_keys=True))


def has_ml_dsa(document: Any, read: Bytes) -> bool:
    """Tell whether a block of a vector's envelope is signed with ML-DSA."""
    try:
        blocks = map(decode_block, decode_envelope(read(document["envelope"])).blocks)
        return any(ALGORITHMS[one.algorithm].name.startswith("ML-DSA") for one in blocks)
    except (FwsignError, KeyError):
        return False


class Flipped(Bytes):
    """Gives the byte strings of a vector, its envelope with one byte changed."""

    def __init__(self, folder: Path, envelope: Any, dice: Dice) -> None:
        super().__init__(folder)
        self._envelope, self._dice = envelope, dice

    def __call__(self, given: Any) -> bytes:
        """Return the bytes that a vector gives."""
        data = super().__call__(given)
        if given is not self._envelope:
            return data
        at = self._dice.below(len(data))
        return data[:at] + bytes([data[at] ^ 1 << self._dice.below(8)]) + data[at + 1 :]


def judge(kind: str, data: bytes, leaf: Certificate) -> Any:
    """Return what the verify path makes of a certificate, CRL or key."""
    try:
        match kind:
            case "certificate":
                return [certificate(parse_certificate(data)), outcome(lambda: parse_anchor(data))]
            case "crl":
                return crl(parse_crl(data), leaf)
        return Anchor.from_public_key(data).spki
    except FwsignError as error:
        return [error.code]


def outcome(call: Any) -> str:
    """Return the code of a refusal, or "fine"."""
    try:
        call()
    except FwsignError as error:
        return error.code
    return "fine"


def certificate(found: Certificate) -> Any:
    """Return the facts of a certificate that decisions use."""
    return [
        found.spki,
        *(name(one) for one in (found.subject, found.issuer)),
        str(found.not_before),
        str(found.not_after),
        [extension(one) for one in found.extensions],
    ]


def crl(found: Crl, leaf: Certificate) -> Any:
    """Return the facts of a CRL that decisions use, and its verdict on some serial numbers."""
    return [
        name(found.issuer),
        found.number,
        str(found.authority_key),
        *map(str, (found.this_update, found.next_update, found.keeps_since)),
        [general(one) for one in found.places],
        [extension(one) for one in found.parsed.extensions],
        [outcome(lambda: revoked(found, leaf, serial)) for serial in SERIALS],  # noqa: B023
    ]


def revoked(found: Crl, leaf: Certificate, serial: int) -> None:
    """Ask a CRL about a serial number."""
    parsed: Any = SimpleNamespace(serial_number=serial)
    one = leaf._replace(parsed=parsed)
    CrlReader("strict").check([Issued(one, one, (found,))], found.this_update)


def name(found: x509.Name) -> Any:
    """Return a name as types and values."""
    return [[[one.oid.dotted_string, repr(one.value)] for one in rdn] for rdn in found.rdns]


def general(found: x509.GeneralName) -> Any:
    """Return a general name as type and value."""
    value = found.value
    shown = name(value) if isinstance(value, x509.Name) else repr(value)
    return [type(found).__name__, shown]


def extension(found: x509.Extension[Any]) -> Any:
    """Return the facts of an extension that decisions use."""
    value: Any = found.value
    facts: Any = None
    match value:
        case x509.BasicConstraints():
            facts = [value.ca, value.path_length]
        case x509.KeyUsage():
            facts = [value.digital_signature, value.key_cert_sign, value.crl_sign]
        case x509.ExtendedKeyUsage():
            facts = [one.dotted_string for one in value]
        case x509.SubjectAlternativeName():
            facts = [general(one) for one in value]
        case x509.NameConstraints():
            trees = (value.permitted_subtrees, value.excluded_subtrees)
            facts = [
                value.public_bytes().hex(),
                *([general(x) for x in one or ()] for one in trees),
            ]
        case x509.SubjectKeyIdentifier():
            facts = value.digest.hex()
        case x509.AuthorityKeyIdentifier():
            facts = str(value.key_identifier)
        case x509.CRLDistributionPoints():
            facts = [
                [[general(x) for x in one.full_name or ()], bool(one.reasons), bool(one.crl_issuer)]
                for one in value
            ]
        case x509.IssuingDistributionPoint():
            facts = [[general(one) for one in value.full_name or ()], value.indirect_crl]
            facts += [value.only_contains_user_certs, value.only_contains_ca_certs]
            facts += [value.only_contains_attribute_certs, bool(value.only_some_reasons)]
        case x509.CRLNumber():
            facts = value.crl_number
    return [found.oid.dotted_string, found.critical, facts]


if __name__ == "__main__":
    main()
