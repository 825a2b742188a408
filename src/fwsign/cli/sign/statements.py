# SPDX-License-Identifier: Apache-2.0
"""Channels and permits: signed with the keys of the signers that were found."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from fwsign.cli import inputs
from fwsign.cli.sign import identity
from fwsign.verify.verified import Verified

if TYPE_CHECKING:
    from fwsign.cli.sign.identity import FoundSigner
    from fwsign.cli.sign.making import SigningTerms

_Accepted = TypeVar("_Accepted", bound=Verified)


class SignedStatement(NamedTuple, Generic[_Accepted]):
    """A signed statement.

    Args:
        data: its bytes.
        verified: the result of verifying it.
        keys: of each signature the SHA-256 of the key's SPKI in hex, and the key's place.
    """

    data: bytes
    verified: _Accepted
    keys: Sequence[tuple[str, str]]


def sign(
    statement: Callable[..., tuple[bytes, _Accepted]],
    found: "Sequence[FoundSigner]",
    terms: "SigningTerms",
    source: str | None,
) -> SignedStatement[_Accepted]:
    """Sign a statement with the key of each signer.

    Args:
        statement: signs it, as `fwsign.signing.channel.sign` does; what it says is bound already.
        found: the signers.
        terms: how to sign.
        source: where the passphrase comes from, as typed.

    Raises:
        FwsignError: as `fwsign.signing.statement.sign_statement`; `io.format`: a CRL of no use.
    """
    opened = [identity.opened(one, source) for one in found]
    data, verified = statement(
        identities=[one.identity for one in opened],
        anchors=[one.anchor for one in opened],
        at=terms.now,
        tsa=terms.stamping,
        allow_example_keys=terms.allow_example_keys,
        force=terms.force,
    )
    inputs.refuse_unused([crl for one in opened for crl in one.identity.crls], verified)
    keys = [(one.spki, where.place) for one, where in zip(found, opened, strict=True)]
    return SignedStatement(data, verified, keys)
