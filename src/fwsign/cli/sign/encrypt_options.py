# SPDX-License-Identifier: Apache-2.0
"""The option --encrypt-to of `fwsign sign` and `fwsign rewrap`: the groups that may read a payload.

A group's certificate is judged before anything is encrypted: its path has to lead to the root of
the signer, no part of it revoked or expired, and it has to be for the vendor of the release.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple, Self, TypeAlias

import typer

from fwsign.cli import ui
from fwsign.errors import Failed, FwsignError, Untrusted

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric import ec

    from fwsign.format.payload import PayloadSink
    from fwsign.signing.encrypting import Encrypting
    from fwsign.x509.anchor import Anchor

ENCRYPT_TO: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--encrypt-to",
        metavar="GROUP",
        help="Encrypt to a group of devices: its name in the PKI, or the file of its certificate; "
        "repeat for several. fwsign sign writes FILE.enc beside the envelope.",
    ),
]


TORN: Final = (
    "the new ciphertext is there, and fits the new envelope alone; the same command with --force "
    "signs anew"
)


class EncryptOptions(NamedTuple):
    """Options: who alone can read the files."""

    encrypt_to: ENCRYPT_TO = None

    def groups(self, usual: Sequence[str]) -> tuple[str, ...]:
        """Return the groups that were typed, else those of fwsign.toml."""
        return tuple(dict.fromkeys(self.encrypt_to or usual))


class Judges(NamedTuple):
    """What groups are judged by.

    Args:
        anchors: the roots that count.
        pool: certificates of CAs, in DER.
        crls: CRLs, in DER.
        pki: the PKI whose groups have names; None if there is none.
    """

    anchors: "Sequence[Anchor]"
    pool: tuple[bytes, ...]
    crls: tuple[bytes, ...]
    pki: Path | None


class For(NamedTuple):
    """The vendor of a release: its name for people, and its identifier."""

    name: str
    identifier: bytes

    @classmethod
    def named(cls, vendor: str) -> Self:
        """Return the vendor of a domain."""
        from fwsign.format.identifiers import vendor_id

        return cls(vendor, vendor_id(vendor))


def vendors_of(envelope: bytes) -> For:
    """Return the vendor of a release that is signed already.

    Raises:
        Malformed, Tampered, Unsuitable: it is no release.
    """
    from fwsign.format.envelope import decode_envelope
    from fwsign.format.opening import decode_content

    manifest, text = decode_content(decode_envelope(envelope))
    return For(text.vendor if text else manifest.vendor_id.hex(), manifest.vendor_id)


def find_keys(
    names: Sequence[str], judges: Judges, vendor: For, now: "datetime"
) -> "tuple[ec.EllipticCurvePublicKey, ...]":
    """Return the public keys of groups, each judged.

    Args:
        names: names of entries in the PKI, or files of certificates.
        judges: what they are judged by.
        vendor: the vendor of the release.
        now: the present time.

    Raises:
        FwsignError: a group's certificate is not accepted; `key.unsupported`, `io.*`.
    """
    keys = [_key(name, judges, vendor, now) for name in names]
    return tuple({key.public_numbers(): key for key in keys}.values())


def _key(name: str, judges: Judges, vendor: For, now: "datetime") -> "ec.EllipticCurvePublicKey":
    from cryptography.hazmat.primitives.asymmetric import ec

    from fwsign.format.cose import key_name
    from fwsign.format.identifiers import vendor_id
    from fwsign.format.key_wrap import CURVES, curve_of
    from fwsign.pki.paths.purpose import belonging, judge_pool

    leaf, *others = _certificates(name, judges, now)
    pool, anchors = [*others, *judges.pool], judges.anchors
    crls = belonging(judges.crls, [leaf, *pool], anchors)
    judged = judge_pool(leaf, pool, anchors, purpose="encryption", at=now, crls=crls).verdict
    if isinstance(judged, FwsignError):
        hint = "fwsign pki issue encryption GROUP makes one; fwsign pki verify --purpose encryption"
        raise judged.with_more(f'nothing is encrypted to "{name}"').with_hint(hint)
    group, vendors = judged.path.name, judged.path.vendors
    if vendor.identifier not in map(vendor_id, vendors):
        allowed = ", ".join(vendors) or "no vendor"
        raise Untrusted(
            "untrusted.vendor",
            f'the group "{group}" is for {allowed}, the release for {vendor.name}',
            expected=vendor.name,
            found=allowed,
        )
    if not judged.revocation_checked:
        ui.note(f'warning: no CRL says whether "{group}" is revoked: give --crl')
    key = judged.path.certificates[0].key
    if not isinstance(key, ec.EllipticCurvePublicKey) or curve_of(key) is None:
        raise Failed(
            "key.unsupported",
            f'the key of "{group}" is {key_name(key)}, payloads are encrypted to {CURVES}',
            expected=CURVES,
            found=key_name(key),
        )
    return key


def _certificates(name: str, judges: Judges, now: "datetime") -> list[bytes]:
    """Return the certificate of a group, and those beside it."""
    from fwsign.cli import keyfiles

    path = Path(name)
    if judges.pki is not None and path.name == name and not path.exists():
        from fwsign.pki.directory import Pki

        pki = Pki(judges.pki)
        if name in pki.names():
            return list(pki.path(name, at=now))
        raise Failed(
            "io.missing",
            f'there is no group "{name}" in {judges.pki}, and no such file',
            expected="a group of the PKI, or the file of its certificate",
            found=name,
            hint=f"fwsign pki issue encryption {name}",
        )
    return keyfiles.certificates(path, None)


class Ciphertexts:
    """The files of ciphertexts, which get their names together, or not at all; a context manager.

    Envelopes get theirs in a moment after that, within `held`. So of two that sign the same file
    at once, the pair of one is in place at the end. A kill in that moment leaves a ciphertext
    beside an envelope that it does not fit; `fwsign verify` says what to do then.

    Args:
        keys: the public keys of the groups; none if nothing is encrypted.
        read: the files that are read, which no ciphertext replaces.
        force: replace files that exist.
        dry_run: write nothing.
    """

    def __init__(
        self,
        keys: "Sequence[ec.EllipticCurvePublicKey]",
        read: Sequence[Path],
        *,
        force: bool,
        dry_run: bool,
    ) -> None:
        self._keys, self._read = tuple(keys), read
        self._force, self._dry_run = force, dry_run
        self._files, self._turns = contextlib.ExitStack(), contextlib.ExitStack()
        self._places: set[Path] = set()

    def __enter__(self) -> Self:
        self._files.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is not None:
            self._turns.close()
        if error[0] is None and self._dry_run:
            return
        # After `keep` there is nothing left to do. Before it, no file gets its name.
        self._files.__exit__(_Given, _Given(), None)

    def beside(self, envelope: Path) -> "Encrypting | None":
        """Return the encryption of a release, with its ciphertexts beside its envelope."""
        if not self._keys:
            return None
        from fwsign.signing.encrypting import Encrypting  # where something is encrypted

        return Encrypting(self._keys, lambda name: self._place(envelope.parent / name))

    def keep(self) -> None:
        """Give the files their names; others that sign here wait from now to the end of `held`.

        Raises:
            Failed: `io.*`.
        """
        for place in sorted(self._places):  # in the same order for all who wait
            self._turns.enter_context(_taking_turns(place))
        self._files.pop_all().close()

    @contextlib.contextmanager
    def held(self) -> "Iterator[None]":
        """Let the envelopes of these ciphertexts be written before anybody else's turn."""
        with self._turns:
            yield

    @property
    def torn(self) -> str | None:
        """The hint for an envelope that could not be written after its ciphertext."""
        return TORN if self._places else None

    @contextlib.contextmanager
    def _place(self, path: Path) -> "Iterator[PayloadSink]":
        from fwsign.files import atomic_writer

        if self._dry_run:
            yield _Nowhere()
            return
        if any(path.exists() and path.samefile(one) for one in self._read if one.exists()):
            ui.usage(
                f"{path} would replace a file that is read", "--output-dir names another place"
            )
        try:
            file = self._files.enter_context(atomic_writer(path, overwrite=self._force))
            self._places.add(path.parent.resolve())
        except FwsignError as error:
            if error.code != "io.exists":
                raise
            raise error.with_hint("--force replaces ciphertexts and envelopes that exist") from None
        yield file


@contextlib.contextmanager
def _taking_turns(directory: Path) -> "Iterator[None]":
    """Wait for others that sign here. No file is left: the lock is the directory's own.

    Where the system has no such locks, as on Windows, nobody waits.
    """
    from fwsign.files import wait_for

    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            handle = os.open(directory, os.O_RDONLY)
            held.callback(os.close, handle)
            wait_for(handle)
        yield


class _Given(Exception):
    """The ciphertexts are not wanted any more."""


class _Nowhere:
    """Takes the ciphertext of a dry run."""

    def write(self, data: bytes, /) -> int:
        """Take bytes, and forget them."""
        return len(data)
