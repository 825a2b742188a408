# SPDX-License-Identifier: Apache-2.0
"""The files that a request is about, as far as they are here."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fwsign.cli import ui
from fwsign.cli.payloads import opened
from fwsign.format.component import is_inside
from fwsign.format.payload import receive

if TYPE_CHECKING:
    from fwsign.signing.request import Request


_CIPHERTEXT: Final = (
    "only encrypted, as it is to be signed: compare the digest with that of the file that you "
    "approve"
)
"""What is known of a payload whose ciphertext was compared: the digest is the plaintext's."""


def check(wanted: "Request", request: Path, given: Sequence[Path]) -> dict[str, str]:
    """Hash the payloads that are here, typed or beside the request.

    Args:
        wanted: the request.
        request: its path.
        given: the files that were typed; each must be the payload of a component.

    Returns:
        What is known of each component's payload, by the component's name.

    Raises:
        Tampered: `tampered.payload-size`, `tampered.payload-digest`.
    """
    components = wanted.manifest.components
    names = {one.payload_name for one in components}
    if len(given) == len(components) == 1:
        typed = {components[0].payload_name: given[0]}
    else:
        typed = {path.name: path for path in given}
        for name in typed.keys() - names:
            ui.usage(
                f"{typed[name]} is no payload of the request",
                f"its payloads are {', '.join(sorted(names))}",
            )
    seen = {}
    for one in components:
        if is_inside(one.uri):
            receive(one, BytesIO(wanted.envelope.integrated[one.uri]))
            seen[one.name] = _CIPHERTEXT if one.encrypted else "yes, in the request"
            continue
        path = typed.get(one.payload_name, request.parent / one.payload_name)
        if one.payload_name not in typed and not path.is_file():
            seen[one.name] = "no: compare its digest with that of the file that you approve"
            continue
        with opened(path, "pipes" if one.payload_name in typed else "files") as source:
            receive(one, source)
        seen[one.name] = _CIPHERTEXT if one.encrypted else "yes, with this size and digest"
    return seen
