# SPDX-License-Identifier: Apache-2.0
"""Find the certificates and CRLs of a PKI that end soon."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from fwsign.errors import Failed
from fwsign.pki import profiles
from fwsign.pki.directory import Pki
from fwsign.pki.rotation import spare_roots

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

CRL_SHARE: Final = 3
"""A CRL ends soon in the last third of its time: CRLs are renewed often by design."""


class Ending(NamedTuple):
    """A certificate or CRL that ends soon, or has ended."""

    end: datetime
    kind: str
    name: str
    path: Path


def ending(
    pki_dir: str | os.PathLike[str], within: timedelta, *, now: datetime
) -> tuple[Ending, ...]:
    """Return the certificates and CRLs that end soon, in the order of their ends.

    Revoked certificates do not count, nor does the CRL of a standby root, which is not in use yet.

    Args:
        pki_dir: the PKI.
        within: the span from `now`. A CRL counts only in the last third of its time.
        now: an aware time.

    Raises:
        Failed: `state.pki`, `state.clock`, `io.*`.
    """
    now = profiles.utc(now)
    if within < timedelta(0):
        raise Failed("state.clock", f"{within.days} days from now is in the past")
    pki = Pki(pki_dir)
    found = []
    for name in (*pki.roots(), *pki.names()):
        end = pki.certificate(name).not_valid_after_utc
        if end - now <= within and pki.revocation(name) is None:
            found.append(Ending(end, "certificate", name, pki.certificate_path(name)))
    spare = spare_roots(pki)
    for name in pki.authorities():
        path = pki.crl_path(name)
        if name in spare or not os.path.lexists(path):  # that CA's key and CRL are elsewhere
            continue
        crl = pki.crl(name)
        end = crl.next_update_utc or crl.last_update_utc
        if end - now <= min(within, (end - crl.last_update_utc) / CRL_SHARE):
            found.append(Ending(end, "CRL", name, path))
    return tuple(sorted(found))
