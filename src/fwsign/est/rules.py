# SPDX-License-Identifier: Apache-2.0
"""What a server of EST grants, and when."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from fwsign.pki.extras import NO_EXTRAS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from fwsign.pki.extras import Extras

AUTO, MANUAL = "auto", "manual"


class EnrolmentRules(NamedTuple):
    """What the server grants.

    Args:
        approve: `auto`, `manual`, or patterns of names that need no operator.
        lifetime: of the certificates; None: as usual for their kind. It ends with the CA at most.
        more: extensions to add.
        compat: certify RSA of 2048 bits, too.
        retry_seconds: when a client asks again whose request waits for the operator.
    """

    approve: Sequence[str] = (AUTO,)
    lifetime: timedelta | None = None
    more: Extras = NO_EXTRAS
    compat: bool = False
    retry_seconds: int = 60

    def approves(self, name: str) -> bool:
        """Tell whether a request for a name needs no operator."""
        rules = [one for one in self.approve if one != MANUAL]
        return any(one == AUTO or fnmatchcase(name, one) for one in rules)
