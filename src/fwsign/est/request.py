# SPDX-License-Identifier: Apache-2.0
"""Read a request of EST: its method, its password, and the certificate request in its body."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final

from fwsign.errors import FwsignError
from fwsign.est.http import Refused
from fwsign.pki.request import parse_request

if TYPE_CHECKING:
    from fwsign.est.http import HttpRequest
    from fwsign.pki.request import CertificateRequest

REALM: Final = "fwsign"


def demand_method(request: HttpRequest, method: str) -> None:
    """Refuse a request by another method."""
    if request.method != method:
        raise Refused(405, f"this is for {method}", Allow=method)


def basic(said: str) -> tuple[str, str]:
    """Return the name and password of an Authorization (RFC 7617)."""
    scheme, _, rest = said.partition(" ")
    if scheme.lower() != "basic":
        raise unknown()
    try:
        text = base64.b64decode(rest.strip(), validate=True).decode()
    except ValueError:  # not base64, or not UTF-8
        raise unknown() from None
    name, colon, password = text.partition(":")
    if not colon:
        raise unknown()
    return name, password


def unknown() -> Refused:
    """Return the one refusal of all who are not known, so that it says nothing about names."""
    header = f'Basic realm="{REALM}", charset="UTF-8"'
    return Refused(401, "no invitation of that name and password is open", WWW_Authenticate=header)


def certificate_request(request: HttpRequest, *, compat: bool) -> CertificateRequest:
    """Return the certificate request in a body: base64 of DER."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/pkcs10":
        raise Refused(415, "a request is application/pkcs10")
    try:
        data = base64.b64decode(b"".join(request.body.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Refused(400, "the body is not base64 of a request in DER") from None
    if not data.startswith(b"\x30"):
        raise Refused(400, "the body is not base64 of a request in DER")
    try:
        return parse_request(data, "the request", compat=compat)
    except FwsignError as error:
        raise Refused(400, error.message) from error
