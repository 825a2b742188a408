# SPDX-License-Identifier: Apache-2.0
"""Texts of devices, made harmless for readers."""

from __future__ import annotations

from typing import Final

from fwsign.pki.view.entry import visible
from fwsign.receipts.fit import cut

MAX_SHOWN: Final = 160
"""Bytes of a text from a device; an escaped one becomes longer, and is cut again."""


def plain(text: object, most: int = MAX_SHOWN) -> str | None:
    """Return a text that neither deceives nor floods; None for None."""
    if text is None:
        return None
    return cut(visible(cut(str(text), most)), most)
