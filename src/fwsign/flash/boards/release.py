# SPDX-License-Identifier: Apache-2.0
"""A verified release with its verified payloads in memory, ready for boards."""

import io
from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple, TypeAlias, cast, final

from fwsign.device_data.policy import MAX_POLICY, parse
from fwsign.errors import Failed, Malformed, Unsuitable, check_limit
from fwsign.flash.boards.waivers import RAW
from fwsign.format.component import Component
from fwsign.format.key_wrap import AgreementKey
from fwsign.format.kinds import FlashPlace
from fwsign.format.payload import PayloadSource
from fwsign.images import Image, recognise
from fwsign.signing.release import DEVICE_DATA
from fwsign.verify.verified import VerifiedRelease

MAX_HELD: Final = 256 * 1024 * 1024
"""Bytes of all payloads for flash together; twice the largest flash that an ESP chip takes."""

Find: TypeAlias = Callable[[Component], PayloadSource | None]
"""Opens the payload of a component; None if it is inside the envelope."""


class Payload(NamedTuple):
    """A component for flash, its bytes, and the image found in them."""

    component: Component
    data: bytes
    image: Image

    @property
    def place(self) -> FlashPlace:
        """The signed place."""
        return cast(FlashPlace, self.component.flash)  # no other component becomes a payload

    @property
    def chip(self) -> str:
        """The signed chip."""
        return self.place.chip

    @property
    def offset(self) -> int:
        """The signed offset, in bytes from the start of the flash."""
        return self.place.offset

    def misplaced(self, expected: str, found: str, hint: str | None = None) -> Unsuitable:
        """Return the refusal to write this to its signed place."""
        return Unsuitable(
            "unsuitable.region",
            f"{self.component.name} cannot be written where it is to go: "
            f"expected {expected}, found {found}",
            expected=expected,
            found=found,
            hint=hint,
        )


@final
class HeldRelease:
    """A release to flash. Only a `VerifiedRelease` makes one, and it keeps the verified bytes.

    Args:
        release: a release that passed steps 1 to 9 for this board.
        find: opens payloads; each is read once, through step 10.
        waived: names in `release.unchecked` that the user has waived; with "raw" a damaged image
            is taken as bytes without a format.
        left_out: names of components that are not for flash and that the user has left out; the
            policy for per-device data among them is not read.
        elsewhere: names of components that the caller delivers elsewhere.
        keys: the keys for encrypted payloads; None if `find` opens what was decrypted already.

    Raises:
        Failed: `state.unchecked`; `io.*` where a payload cannot be read.
        Tampered: `tampered.payload-size`, `tampered.payload-digest`, `tampered.native`,
            `tampered.content-key`, `tampered.plaintext`.
        Untrusted: `untrusted.native-key`: the native signature is by other keys than stated.
        Unsuitable: `unsuitable.payload`: there is nothing for flash in it;
            `unsuitable.security-version`; `unsuitable.recipient`: no key of this station opens it.
        Malformed: `malformed.size`, `malformed.image`, `malformed.device-data`.
    """

    __slots__ = (
        "elsewhere",
        "left_out",
        "payloads",
        "policy",
        "policy_data",
        "release",
        "unplaced",
    )

    def __init__(
        self,
        release: VerifiedRelease,
        find: Find,
        waived: Collection[str] = (),
        *,
        left_out: Collection[str] = (),
        elsewhere: Collection[str] = (),
        keys: Sequence[AgreementKey] | None = (),
    ) -> None:
        if not isinstance(release, VerifiedRelease):  # for callers without a type checker
            raise TypeError("only a VerifiedRelease can be flashed")
        _refuse_unchecked(release, waived)
        here = [one for one in release.components if one.name not in elsewhere]
        wanted = [one for one in here if one.flash is not None]
        others = [one.name for one in here if one.flash is None]
        rules = [one for one in here if one.name == DEVICE_DATA and one.name not in left_out]
        if not wanted:
            names = ", ".join(one.name for one in release.components)
            raise Unsuitable(
                "unsuitable.payload",
                f"nothing in this release is for flash, it has {names}",
                expected="a component such as esp32c3@0x10000",
                found=names,
                hint="what is for a board is signed so: fwsign sign FILE --target CHIP@OFFSET",
            )
        total = sum(one.size for one in wanted)
        check_limit(total, MAX_HELD, f"payloads for flash of {total} bytes")
        self.release: Final = release
        self.elsewhere: Final = tuple(sorted(elsewhere))
        self.left_out: Final = tuple(name for name in others if name in left_out)
        used = (*left_out, *(one.name for one in rules))
        self.unplaced: Final = tuple(name for name in others if name not in used)
        self.policy_data: Final = _receive_policy(release, rules[0], find) if rules else None
        self.policy: Final = None if self.policy_data is None else parse(self.policy_data)
        raw = RAW in waived
        self.payloads: Final = tuple(_receive(release, one, find, keys, raw=raw) for one in wanted)


def _receive(
    release: VerifiedRelease,
    component: Component,
    find: Find,
    keys: Sequence[AgreementKey] | None,
    *,
    raw: bool,
) -> Payload:
    memory = io.BytesIO()
    if keys is None:
        release.receive_decrypted(component, find(component), memory)
    else:
        release.receive(component, find(component), memory, keys)
    try:
        image = recognise(memory)
    except Malformed as error:
        if not raw:
            raise
        image = Image("unknown", notes=(error.message,))
    if (stated := release.native(component)) is not None:
        from fwsign.native.agreement import check  # where the release states one

        check(component.name, stated, memory.getvalue())
    return Payload(component, memory.getvalue(), image)


def _receive_policy(release: VerifiedRelease, component: Component, find: Find) -> bytes:
    """Return the policy for per-device data, which says what a station may write."""
    check_limit(component.size, MAX_POLICY, f"{component.name} of {component.size} bytes")
    memory = io.BytesIO()
    release.receive(component, find(component), memory)
    return memory.getvalue()


def _refuse_unchecked(release: VerifiedRelease, waived: Collection[str]) -> None:
    left = [name for name in release.unchecked if name not in waived]
    if left:
        words = ", ".join(left)
        raise Failed(
            "state.unchecked",
            f"not checked, and not waived by name: {words}",
            expected="every check, or its waiver",
            found=words,
        )
