# SPDX-License-Identifier: Apache-2.0
"""The dates of a server's certificates, on a gateway whose clock may be wrong (ADR 37).

OpenSSL judges dates by the clock alone. Two cases need more, and the second is never laxer:

- The clock is more than a day behind a time that has passed for certain: it is wrong. OpenSSL is
  told not to look at dates, and every certificate of the chain must end after that time.
- It is behind by less: OpenSSL judges by the clock, and the same is demanded besides.
"""

import ssl
from datetime import UTC, datetime
from typing import Any, Final

from fwsign.errors import Failed
from fwsign.x509 import der

_NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which Python has no name for."""


def now() -> datetime:
    """Return the clock's time, which OpenSSL uses too."""
    return datetime.now(UTC)


def is_wrong(since: datetime | None) -> bool:
    """Tell whether the clock cannot be right, since a later time has passed."""
    if since is None or now() >= since:
        return False
    from fwsign.verify.verifier import MAX_CRL_LEAD  # only where the clock is behind

    return since - now() > MAX_CRL_LEAD


def ignore_dates(context: ssl.SSLContext) -> None:
    """Let OpenSSL check everything but dates."""
    context.verify_flags |= _NO_CHECK_TIME


def check_dates(sock: ssl.SSLSocket, since: datetime | None) -> None:
    """Refuse a server with a certificate that ended before a time that has passed.

    Args:
        sock: the connected socket; OpenSSL has verified the chain.
        since: a time that has passed for certain; None if none is known.

    Raises:
        Failed: `io.fetch-connect`, also if the chain cannot be read.
    """
    ignored = bool(sock.context.verify_flags & _NO_CHECK_TIME)
    if not ignored and (since is None or now() >= since):
        return
    passed = max(filter(None, (since, now())))
    chain = verified_chain(sock)
    if not chain:
        raise _refused("its certificates cannot be read, so their dates are not known")
    for number, certificate in enumerate(chain):
        end = _end(certificate)
        if end < passed:
            times = (
                f"ended {end.isoformat()}, and {passed.isoformat(timespec='seconds')} has passed"
            )
            raise _refused(f"certificate {number} of its chain {times}")


def verified_chain(sock: Any) -> list[bytes]:
    """Return the verified chain of the other side: its certificate, the CAs, and the root.

    Python 3.13 has a method for it. Before, the object inside the socket has the same since 3.10.
    """
    read = getattr(sock, "get_verified_chain", None)
    if read is not None:
        return list(read())
    read = getattr(getattr(sock, "_sslobj", None), "get_verified_chain", None)
    found = read() if read is not None else None
    return [ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in found or ()]


def _end(certificate: bytes) -> datetime:
    """Return the time of a certificate's end; only this is read (RFC 5280 s.4.1)."""
    try:
        fields = der.DerReader(certificate).inside(der.SEQUENCE).inside(der.SEQUENCE)
        fields.optional(der.VERSION)
        fields.content(der.INTEGER)
        for _ in ("signature", "issuer"):
            fields.content(der.SEQUENCE)
        validity = fields.inside(der.SEQUENCE)
        _time(validity)
        return _time(validity)
    except ValueError as error:
        raise _refused(f"a certificate of its chain cannot be read: {error}") from None


def _time(reader: der.DerReader) -> datetime:
    """Return the next element's time, of either form (RFC 5280 s.4.1.2.5)."""
    short = reader.optional(der.UTC_TIME)
    if short is None:
        return der.generalized_time(reader.content(der.GENERALIZED_TIME))
    return der.generalized_time((b"19" if short >= b"50" else b"20") + short)


def _refused(found: str) -> Failed:
    return Failed(
        "io.fetch-connect",
        f"the server is not trusted: {found}",
        expected="a valid certificate",
        found=found,
        hint="the server needs a new certificate",
    )
