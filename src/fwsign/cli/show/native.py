# SPDX-License-Identifier: Apache-2.0
"""What a release states of the chip's own signature, and whether the image at hand agrees."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fwsign.cli.inputs import STREAM
from fwsign.errors import FwsignError
from fwsign.files import read_bytes
from fwsign.format.component import is_inside, is_url
from fwsign.format.payload import digest
from fwsign.native import agreement

if TYPE_CHECKING:
    from fwsign.format.component import Component
    from fwsign.format.envelope import Envelope
    from fwsign.format.native import StatedNative


def card(
    file: Path, envelope: "Envelope", component: "Component", stated: "StatedNative"
) -> dict[str, Any]:
    """Describe a stated native signature, and compare it with the image.

    Args:
        file: the envelope's file; an image may lie beside it.
        envelope: the envelope; an image may be inside it.
        component: the component.
        stated: what the release states of its image.
    """
    facts = {name.replace("_", " "): one for name, one in stated.as_json().items()}
    return {**facts, "in the image": _compared(file, envelope, component, stated)}


def _compared(
    file: Path, envelope: "Envelope", component: "Component", stated: "StatedNative"
) -> str:
    """Return in words whether an image agrees; a viewer tells of trouble, and raises none."""
    if component.encrypted is not None:
        return "not compared: the image is encrypted"
    try:
        image = _image(file, envelope, component)
        if image is None:
            return "not compared: the image is not here"
        if digest(component.digest.algorithm, image) != component.digest.value:
            return "not compared: the image here is not the one that was signed"
        agreement.check(component.name, stated, image)
    except FwsignError as error:
        return f"differs: {error.message}"
    return "the same"


def _image(file: Path, envelope: "Envelope", component: "Component") -> bytes | None:
    if is_inside(component.uri):
        return envelope.integrated.get(component.uri)
    beside = file.parent / component.payload_name
    if file == STREAM or is_url(component.uri) or not beside.is_file():
        return None
    return read_bytes(beside, agreement.MAX_IMAGE)
