# SPDX-License-Identifier: Apache-2.0
"""One error root, six classes cut by what the caller does next, and the table of codes.

A code is stable: scripts may match it. Messages are for people and may change.

```python
from datetime import UTC, datetime
from pathlib import Path

from fwsign.errors import CODES, Failed, FwsignError, Stale, Unsuitable
from fwsign.verify import Anchor, DevicePolicy, Verifier

anchor = Anchor.from_pem(Path("pki/ca.crt").read_bytes())
verifier = Verifier([anchor], DevicePolicy(vendor="acme.example", product="thermostat"))
try:
    verifier.verify(Path("build.bin.suit").read_bytes(), at=datetime.now(UTC))
    answer = "receive its payloads"
except Stale:
    answer = "fetch a newer release, or newer CRLs"
except Unsuitable as refusal:
    answer = f"for another device: {refusal.found}, not {refusal.expected}"
except Failed as failure:
    answer = f"repair it and try again: {failure.message}"
except FwsignError as refusal:  # Malformed, Tampered, Untrusted
    answer = f"never use it: {refusal.code}, at step {refusal.step}: {CODES[refusal.code]}"
assert answer == "for another device: gateway-x1, not thermostat"
```
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal, Self, TypeAlias

__all__ = [
    "CODES",
    "Code",
    "Failed",
    "FwsignError",
    "Malformed",
    "Stale",
    "Tampered",
    "Unsuitable",
    "Untrusted",
]

if TYPE_CHECKING:
    Code: TypeAlias = Literal[
        "malformed.size",
        "malformed.cbor",
        "malformed.envelope",
        "malformed.header",
        "malformed.algorithm",
        "malformed.certificate",
        "malformed.crl",
        "malformed.token",
        "malformed.profile",
        "malformed.component",
        "malformed.block-list",
        "malformed.unreferenced-payload",
        "malformed.trust",
        "malformed.receipt",
        "malformed.image",
        "malformed.device-data",
        "tampered.manifest",
        "tampered.text",
        "tampered.signature",
        "tampered.certificate",
        "tampered.crl",
        "tampered.token",
        "tampered.x5t",
        "tampered.payload-digest",
        "tampered.payload-size",
        "tampered.block",
        "tampered.block-list",
        "tampered.payload-absent",
        "tampered.staged",
        "tampered.receipt-chain",
        "tampered.receipt-head",
        "untrusted.no-anchor",
        "untrusted.algorithm",
        "untrusted.issuer",
        "untrusted.path-length",
        "untrusted.ca-as-leaf",
        "untrusted.key-usage",
        "untrusted.eku",
        "untrusted.extension",
        "untrusted.criticality",
        "untrusted.key-identifier",
        "untrusted.name-constraint",
        "untrusted.serial",
        "untrusted.duplicate",
        "untrusted.revoked",
        "untrusted.crl",
        "untrusted.example-key",
        "untrusted.signers",
        "untrusted.slot",
        "untrusted.vendor",
        "untrusted.token-required",
        "untrusted.receipt",
        "stale.certificate",
        "stale.not-yet-valid",
        "stale.crl",
        "stale.crl-missing",
        "stale.release",
        "unsuitable.vendor",
        "unsuitable.product",
        "unsuitable.rollback",
        "unsuitable.conflict",
        "unsuitable.component",
        "unsuitable.trust-update",
        "unsuitable.release",
        "unsuitable.trust-gap",
        "unsuitable.epoch",
        "unsuitable.chip",
        "unsuitable.revision",
        "unsuitable.flash-size",
        "unsuitable.flash-mode",
        "unsuitable.region",
        "unsuitable.locked",
        "unsuitable.partition",
        "unsuitable.bootable",
        "unsuitable.target",
        "unsuitable.payload",
        "unsuitable.device-data",
        "io.missing",
        "io.payload-missing",
        "io.permission",
        "io.full",
        "io.exists",
        "io.directory",
        "io.empty",
        "io.read",
        "io.write",
        "io.format",
        "io.config",
        "io.hook",
        "io.fetch-address",
        "io.fetch-redirect",
        "io.fetch-connect",
        "io.fetch-status",
        "io.fetch-range",
        "io.fetch-protocol",
        "io.fetch-slow",
        "io.fetch-cut",
        "io.tsa",
        "io.crl-unused",
        "io.listen",
        "device.port",
        "device.absent",
        "device.lost",
        "device.protocol",
        "device.refused",
        "device.mismatch",
        "device.changed",
        "device.stopped",
        "device.left-out",
        "device.support",
        "key.passphrase",
        "key.passphrase-missing",
        "key.format",
        "key.mismatch",
        "key.unsupported",
        "key.failed",
        "state.unchecked",
        "state.policy",
        "state.clock",
        "state.pki",
        "state.pki-exists",
        "state.lost",
        "state.home",
        "state.foreign",
        "state.newer",
        "state.damaged",
        "state.busy",
        "state.conflict",
        "state.unfinished",
        "state.nothing",
        "state.platform",
        "state.library",
        "state.limit",
        "state.receipt",
        "state.ca-limit",
    ]
else:  # building that type costs more than the rest of this module
    Code: TypeAlias = str
"""The codes that may be raised, for type checkers; `CODES` has the meanings."""


class FwsignError(Exception):
    """The root of everything that a public function of fwsign raises.

    Args:
        code: a key of `CODES`.
        message: lower case, no full stop, with the expected and the found value.
        step: number of the verification step (docs/format.md), if one applies.
        expected: the expected value, in words.
        found: the found value, in words.
        hint: the next action, if the raising code knows it better than `fwsign.cli.hints`.
    """

    prefixes: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        step: int | None = None,
        expected: object = None,
        found: object = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code: Code = code
        self.message = message
        self.step = step
        self.expected = None if expected is None else str(expected)
        self.found = None if found is None else str(found)
        self.hint = hint

    def with_hint(self, hint: str) -> Self:
        """Return the same refusal with another hint."""
        return type(self)(
            self.code,
            self.message,
            step=self.step,
            expected=self.expected,
            found=self.found,
            hint=hint,
        )


class Malformed(FwsignError):
    """The input is not what it claims to be. Do not use it."""

    prefixes = ("malformed",)


class Tampered(FwsignError):
    """A digest or a signature does not match. Do not use it; an attack is possible."""

    prefixes = ("tampered",)


class Untrusted(FwsignError):
    """Well formed and intact, but not from someone this verifier trusts for it."""

    prefixes = ("untrusted",)


class Stale(FwsignError):
    """Expired, not valid yet, or without fresh revocation data. A newer one may be fine."""

    prefixes = ("stale",)


class Unsuitable(FwsignError):
    """Genuine, but not for this device: other vendor, product or chip, or older than allowed."""

    prefixes = ("unsuitable",)


class Failed(FwsignError):
    """Nothing is known about the input: a file, key, state or device did not do its part."""

    prefixes = ("io", "key", "state", "device")


CODES: Mapping[Code, str] = MappingProxyType(
    {
        # The bytes.
        "malformed.size": "larger than the limit that docs/format.md states",
        "malformed.cbor": "not deterministic CBOR as RFC 8949 section 4.2.1 defines it",
        "malformed.envelope": "not a SUIT envelope of this profile",
        "malformed.header": "COSE header outside the closed list, or a label in both buckets",
        "malformed.algorithm": "the algorithm cannot be used with the key of this block",
        "malformed.certificate": "a certificate that is not DER or breaks RFC 5280",
        "malformed.crl": "a CRL that is not DER or breaks RFC 5280",
        "malformed.token": "a time-stamp token that is not DER or breaks RFC 3161",
        "malformed.profile": "valid SUIT, but outside the profile: no template matches",
        "malformed.component": "a component identifier or name that is not allowed",
        "malformed.block-list": "a block list that does not fit the payload that it describes",
        "malformed.unreferenced-payload": "an integrated payload that no component names",
        "malformed.trust": "a trust update whose list breaks its template or locks devices out",
        "malformed.receipt": "a receipt that is not canonical JSON, or whose JWS cannot be read",
        "malformed.image": "a firmware image whose structure or checksum is wrong",
        "malformed.device-data": "a policy or a file of per-device data that breaks its rules",
        # The signatures and digests.
        "tampered.manifest": "the manifest is not the one that was signed",
        "tampered.text": "the text is not the one that was signed",
        "tampered.signature": "the signature does not verify",
        "tampered.certificate": "a certificate's signature does not verify",
        "tampered.crl": "a CRL's signature does not verify",
        "tampered.token": "a time-stamp token for another signature, or one that does not verify",
        "tampered.x5t": "the certificate is not the one that the signer named",
        "tampered.payload-digest": "the payload's digest is not the signed one",
        "tampered.payload-size": "the payload's size is not the signed one",
        "tampered.block": "a block of the payload is not the one that was signed",
        "tampered.block-list": "a block list is not the one that was signed",
        "tampered.payload-absent": "an integrated payload was taken out",
        "tampered.staged": "a staged file is not the one that was verified",
        "tampered.receipt-chain": "a receipt is not the next one of its chain",
        "tampered.receipt-head": "the receipts do not lead to the head that was kept elsewhere",
        # Who signed.
        "untrusted.no-anchor": "the path does not end at an anchor",
        "untrusted.algorithm": "an algorithm or key size that is not allowed",
        "untrusted.issuer": "a certificate that may not issue, or may not issue this one",
        "untrusted.path-length": "more intermediates than a CA allows",
        "untrusted.ca-as-leaf": "the signer's certificate is that of a CA",
        "untrusted.key-usage": "key usage does not allow this use",
        "untrusted.eku": "extended key usage does not allow this use",
        "untrusted.extension": "a critical extension that the verifier does not know",
        "untrusted.criticality": "an extension that must be critical is not",
        "untrusted.key-identifier": "authority and subject key identifiers are absent or differ",
        "untrusted.name-constraint": "a name outside what a CA or anchor permits",
        "untrusted.serial": "a serial number that RFC 5280 forbids",
        "untrusted.duplicate": "the same certificate twice in one path",
        "untrusted.revoked": "the certificate is revoked",
        "untrusted.crl": "a CRL that this verifier must not use",
        "untrusted.example-key": "a published example key, known to everyone",
        "untrusted.signers": "fewer distinct signers than the policy demands",
        "untrusted.slot": "a signer that the policy demands is not there",
        "untrusted.vendor": "the signer may not sign for this vendor",
        "untrusted.token-required": "policy demands a time-stamp token",
        "untrusted.receipt": "a receipt that is not signed, or signed by a key that was not given",
        # When.
        "stale.certificate": "a certificate has expired",
        "stale.not-yet-valid": "a certificate is not valid yet",
        "stale.crl": "a CRL is past its next update",
        "stale.crl-missing": "no CRL of an issuer in the path",
        "stale.release": "the release is past its use-before time",
        # For whom.
        "unsuitable.vendor": "the release is for another vendor's devices",
        "unsuitable.product": "the release is for another product",
        "unsuitable.rollback": "older than what the device accepts",
        "unsuitable.conflict": "another release with the same sequence number was accepted",
        "unsuitable.component": "the release has no such component",
        "unsuitable.trust-update": "a trust update is not a release",
        "unsuitable.release": "a release is not a trust update",
        "unsuitable.trust-gap": "trust updates before this one were not applied",
        "unsuitable.epoch": "a trust update that lowers the epoch, or states floors without it",
        "unsuitable.chip": "the image, its target and the board do not name the same chip",
        "unsuitable.revision": "the image is for another revision of the chip",
        "unsuitable.flash-size": "the board's flash is too small",
        "unsuitable.flash-mode": "the image is built for another kind of flash",
        "unsuitable.region": "a region of flash that overlaps another or cannot be written",
        "unsuitable.locked": "a protection of the board forbids this",
        "unsuitable.partition": "the partition table has no room for this where it is to go",
        "unsuitable.bootable": "the board would not start what is written",
        "unsuitable.target": "a component that this device has no place for",
        "unsuitable.payload": "a payload that this kind of board cannot be flashed with",
        "unsuitable.device-data": "per-device data that this board or release cannot have",
        # Files.
        "io.missing": "no such file or directory",
        "io.payload-missing": "a payload that the release names is not there",
        "io.permission": "the operating system does not allow it",
        "io.full": "no space left",
        "io.exists": "would overwrite a file",
        "io.directory": "a directory where a file should be, or the reverse",
        "io.empty": "an empty file, which is probably not meant to be signed",
        "io.read": "reading failed",
        "io.write": "writing failed",
        "io.format": "a file of another kind than the command needs",
        "io.config": "fwsign.toml or device.toml has a mistake",
        "io.hook": "a command of device.toml failed",
        "io.fetch-address": "an address that fwsign must not fetch from",
        "io.fetch-redirect": "too many redirects, or one to nowhere",
        "io.fetch-connect": "the server cannot be reached, or does not prove who it is",
        "io.fetch-status": "the server does not have it, or refuses to give it",
        "io.fetch-range": "the server sent another part than the one requested",
        "io.fetch-protocol": "an answer that is not valid HTTP",
        "io.fetch-slow": "the transfer stalled, or took longer than device.toml allows",
        "io.fetch-cut": "the transfer ended before its end, again and again",
        "io.tsa": "a time-stamping authority gave no token",
        "io.crl-unused": "a CRL was given that belongs to no issuer in the path",
        "io.listen": "the server cannot listen at the address",
        # Boards.
        "device.port": "the port cannot be opened",
        "device.absent": "no boot loader answers at the port",
        "device.lost": "the connection to the board was lost",
        "device.protocol": "an answer that the boot loader's protocol does not allow",
        "device.refused": "the boot loader refused a command",
        "device.mismatch": "the flash does not hold what was written",
        "device.changed": "the port now has another board than before",
        "device.stopped": "stopped by the user before the end",
        "device.left-out": "a component is not for flash, and was not left out by name",
        "device.support": "software that this kind of board needs is not installed",
        # Keys and the PKI.
        "key.passphrase": "wrong passphrase, or one where none is needed",
        "key.passphrase-missing": "the key is encrypted and no passphrase was given",
        "key.format": "not a private key, or of a kind that is not supported",
        "key.mismatch": "key and certificate do not belong together",
        "key.unsupported": "no such key backend or algorithm",
        "key.failed": "the key did not produce a signature that verifies",
        # What the caller set up.
        "state.unchecked": "something was neither checked nor waived by name",
        "state.policy": "the policy or the anchors given cannot be used",
        "state.clock": "a time without a zone, or one that is not possible",
        "state.pki": "the PKI directory is not complete or contradicts itself",
        "state.pki-exists": "the PKI has such an entry already",
        "state.lost": "the device's memory is not there",
        "state.home": "no home directory to keep the memory in",
        "state.foreign": "a file that is not a device's memory",
        "state.newer": "the memory of a newer fwsign",
        "state.damaged": "the memory was damaged, or changed by another program",
        "state.busy": "another process keeps the memory locked",
        "state.conflict": "the memory changed after the release was judged",
        "state.unfinished": "another release was begun here, and has to be finished first",
        "state.nothing": "there is nothing to resume or reset",
        "state.platform": "this works on POSIX systems only",
        "state.library": "a library that fwsign needs is not there, or too old",
        "state.limit": "more than the memory can hold",
        "state.receipt": "a value that a receipt cannot hold",
        "state.ca-limit": "outside the names that the issuing CA is limited to",
    }
)
"""Every code that fwsign raises, with its meaning: those of `Code`, in the same order."""


def check_limit(found: int, limit: int, words: str) -> None:
    """Refuse a size or count above a named limit.

    Args:
        found: the size or count.
        limit: the most that is allowed.
        words: the thing found, as in "envelope of 12 bytes".

    Raises:
        Malformed: `malformed.size`.
    """
    if found > limit:
        raise Malformed(
            "malformed.size",
            f"{words}, at most {limit} are allowed",
            expected=limit,
            found=found,
        )
