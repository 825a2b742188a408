"""Steps 4 and 5 with time-stamp tokens: what a token proves, and what it does not."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from cryptography import x509

from fwsign.format.envelope import decode_envelope, encode_envelope
from fwsign.x509 import der
from support import CODE_SIGNING, DAY, NOW, Pki, make_crl, make_leaf, make_pki, sign_with, tlv
from testkit.fixed import shared
from testkit.vector import Case, Vector, accepted, case, pki, refused
from tsa_kit import (
    TIME_STAMPING,
    Tsa,
    by_sha1,
    hash_identifier,
    integer,
    make_tsa,
    oid,
    sequence,
    signatures,
    signed_attributes,
    stamped,
    tst_info,
    with_tokens,
)

SUPERSEDED = x509.ReasonFlags.superseded
KEEPS = x509.UnrecognizedExtension(
    x509.ObjectIdentifier("2.5.29.60"), tlv(0x18, b"20260101000000Z")
)
BEFORE = NOW - 5 * DAY
"""A time at which an expired signer below was still valid."""


@shared
def tsa() -> Tsa:
    """Return the authority that most vectors of one run share."""
    return make_tsa()


@shared
def other_tsa() -> Tsa:
    """Return another authority."""
    return make_tsa()


@shared
def stranger() -> Pki:
    """Return a PKI that has nothing to do with the authority."""
    return make_pki()


def token(of: Callable[[], Tsa] = tsa, **more: Any) -> Callable[[], Case]:
    """Stamp a good envelope; `policy` is the device's, the rest goes to `make_token`."""
    policy = more.pop("policy", {})

    def build() -> Case:
        authority = of()
        return trusted(stamped(pki(), authority, **more), authority, **policy)

    return build


def trusted(envelope: bytes, *authorities: Tsa, **policy: Any) -> Case:
    """Judge an envelope on a device that pins these authorities."""
    return case(envelope, tsa_anchors=tuple(one.root.anchor for one in authorities), **policy)


def aged(
    crls: Callable[[Pki], Sequence[bytes]], *, at: Any = BEFORE, **policy: Any
) -> Callable[[], Case]:
    """Sign with a leaf that has expired since, with CRLs of this PKI, and stamp it."""

    def build() -> Case:
        old = pki()._replace(leaf=make_leaf(pki().issuing, days=(-10, -2)))
        return trusted(
            stamped(old, tsa(), crls=(*crls(old), *tsa().crls), gen_time=at), tsa(), **policy
        )

    return build


def keeping(one: Pki) -> tuple[bytes, ...]:
    """Make CRLs of CAs that keep what has expired."""
    return make_crl(one.issuing, extensions=[(KEEPS, False)]), make_crl(one.root)


def revoked(
    reason: Any = SUPERSEDED, since: Any = NOW - DAY, at: Any = BEFORE, *, strip: bool = False
) -> Callable[[], Case]:
    """Revoke the signer, stamped at a time."""

    def build() -> Case:
        listed = make_crl(pki().issuing, [pki().leaf], reason=reason, since=since)
        crls = (listed, make_crl(pki().root), *tsa().crls)
        envelope = stamped(pki(), tsa(), crls=crls, gen_time=at)
        return trusted(with_tokens(envelope, None) if strip else envelope, tsa())

    return build


def of_revoked_tsa(**policy: Any) -> Case:
    """Stamp with an authority that was superseded later."""
    lists = make_crl(tsa().root, [tsa().leaf], reason=SUPERSEDED, since=NOW)
    return trusted(
        stamped(pki(), tsa(), crls=(*pki().crls, lists), gen_time=BEFORE), tsa(), **policy
    )


def moved(**policy: Any) -> Case:
    """Take the token of another envelope."""
    other, own = (sign_with(make_pki(), crls=()), sign_with(pki()))
    return trusted(with_tokens(own, tsa().stamp(*signatures(other))), tsa(), **policy)


def swapped() -> Case:
    """Let two blocks change tokens."""
    one = sign_with(pki(), crls=(*pki().crls, *tsa().crls))
    decoded = decode_envelope(one)
    second = pki()._replace(leaf=make_leaf(pki().issuing))
    both = decoded.blocks + decode_envelope(sign_with(second)).blocks
    envelope = encode_envelope(decoded._replace(blocks=both))
    tokens = [tsa().stamp(signature) for signature in signatures(envelope)]
    return trusted(with_tokens(envelope, *reversed(tokens)), tsa(), **DEMANDED)


def two_signers() -> Case:
    """Sign the token twice."""

    def twice(signature: bytes) -> bytes:
        cms = der.DerReader(tsa().stamp(signature))
        inside = der.DerReader(cms.content(0x30))
        kind = inside.whole(6)
        parts = der.DerReader(der.DerReader(inside.content(0xA0)).content(0x30))
        found = [parts.whole(tag) for tag in (2, 0x31, 0x30, 0xA0)]
        signers = parts.content(0x31)
        return sequence(kind, tlv(0xA0, sequence(*found, tlv(0x31, signers, signers))))

    envelope = sign_with(pki())
    return trusted(with_tokens(envelope, twice(signatures(envelope)[0])), tsa(), **DEMANDED)


def named(*attributes: bytes) -> Callable[[], Case]:
    """Stamp with other signed attributes beside the two that every token has."""

    def build() -> Case:
        envelope = sign_with(pki(), crls=(*pki().crls, *tsa().crls))
        (signature,) = signatures(envelope)
        info = tst_info(signature, NOW, "sha256")
        needed = signed_attributes(info, tsa().leaf.der, "sha256")[:2]
        token = tsa().stamp(signature, info=info, attributes=[*needed, *attributes])
        return trusted(with_tokens(envelope, token), tsa(), **DEMANDED)

    return build


def altered(change: Callable[[bytes], bytes], **policy: Any) -> Callable[[], Case]:
    """Alter the token's bytes."""

    def build() -> Case:
        envelope = sign_with(pki(), crls=(*pki().crls, *tsa().crls))
        token = change(tsa().stamp(*signatures(envelope)))
        return trusted(with_tokens(envelope, token), tsa(), **policy)

    return build


def not_counted(why: str) -> dict[str, Any]:
    """Expect acceptance without the token."""
    return accepted(f"time-stamp token not counted: {why}")


BAD = refused(4, "malformed.token")
DEMANDED = {"require_token": True}
EXPIRED = refused(4, "stale.certificate")
NO_CRL = 'no CRL of "TSA Root", the issuer of "TSA 1"'

VECTORS = (
    Vector(
        "token-good",
        "a token that counts, where one is required",
        accepted(),
        token(policy={"require_token": True}),
    ),
    Vector(
        "token-not-pinned",
        "a token, where no authority is pinned: as if there were none",
        not_counted("no time-stamping authority is pinned"),
        lambda: case(stamped(pki(), tsa())),
    ),
    Vector(
        "token-of-another",
        "a token of an authority that is not pinned",
        not_counted('the path ends at issuer "TSA Root", the anchors are "Root"'),
        lambda: case(stamped(pki(), tsa()), tsa_anchors=(pki().root.anchor,)),
    ),
    Vector(
        "token-of-another-required",
        "a token of an authority that is not pinned, where one is required",
        refused(4, "untrusted.no-anchor"),
        lambda: case(stamped(pki(), tsa()), tsa_anchors=(pki().root.anchor,), require_token=True),
    ),
    Vector(
        "token-after-expiry",
        "stamped before the leaf expired, and its CA keeps expired certificates on its CRL",
        accepted(),
        aged(keeping),
    ),
    Vector(
        "token-after-expiry-forgotten",
        "stamped before the leaf expired, but its CA may have forgotten that it was revoked",
        EXPIRED,
        aged(lambda one: one.crls),
    ),
    Vector(
        "token-after-expiry-too-late",
        "stamped when the leaf had expired",
        EXPIRED,
        aged(keeping, at=NOW),
    ),
    Vector(
        "token-before-validity",
        "stamped before the leaf was valid",
        refused(4, "stale.not-yet-valid"),
        token(lambda: make_tsa(days=(-99, 99)), gen_time=NOW - 11 * DAY, crls=(), policy={}),
    ),
    Vector(
        "token-superseded",
        "the leaf was superseded after it signed, says its token",
        accepted(),
        revoked(),
    ),
    Vector(
        "token-superseded-stripped",
        "the leaf was superseded after it signed, but the token is taken out",
        refused(5, "untrusted.revoked"),
        revoked(strip=True),
    ),
    Vector(
        "token-compromised",
        "the leaf's key was stolen: refused whatever the token's time",
        refused(5, "untrusted.revoked"),
        revoked(x509.ReasonFlags.key_compromise),
    ),
    Vector(
        "token-superseded-before",
        "the leaf was superseded before it signed, says its token",
        refused(5, "untrusted.revoked"),
        revoked(since=BEFORE),
    ),
    Vector(
        "token-clock-behind",
        "with a token notBefore is judged, by its time",
        accepted(),
        token(policy={"at": NOW - 400 * DAY}),
    ),
    Vector(
        "token-stale-crl",
        "a CRL is judged by now, never by the token's time",
        refused(5, "stale.crl"),
        lambda: trusted(
            stamped(
                pki(),
                tsa(),
                crls=(make_crl(pki().issuing, days=(-9, -1)), make_crl(pki().root), *tsa().crls),
                gen_time=BEFORE,
            ),
            tsa(),
        ),
    ),
    Vector(
        "token-stale-crl-allowed",
        "a CRL past its nextUpdate, which the policy takes for two days",
        accepted('stale revocation: CRL of "Issuing" was to be replaced by 2026-11-21'),
        lambda: case(
            sign_with(pki(), crls=(make_crl(pki().issuing, days=(-9, -1)), make_crl(pki().root))),
            allow_stale=timedelta(days=2),
        ),
    ),
    Vector(
        "token-revoked-tsa",
        "a token of an authority that was revoked, whatever the reason",
        not_counted('certificate "TSA 1" revoked 2026-11-22 (superseded)'),
        of_revoked_tsa,
    ),
    Vector(
        "token-revoked-tsa-required",
        "a token of an authority that was revoked, where one is required",
        refused(4, "untrusted.revoked"),
        lambda: of_revoked_tsa(require_token=True),
    ),
    Vector(
        "token-tsa-without-crl",
        "a token of an authority for which there is no CRL",
        not_counted(NO_CRL),
        lambda: trusted(stamped(pki(), tsa(), crls=pki().crls), tsa()),
    ),
    Vector(
        "token-tsa-expired",
        "stamped when the authority had expired, where a token is required",
        refused(4, "stale.certificate"),
        token(lambda: make_tsa(days=(-10, -2)), policy={"require_token": True}),
    ),
    Vector(
        "token-future",
        "an authority whose clock is far ahead: past its own end",
        refused(4, "stale.certificate"),
        token(gen_time="20990101000000Z", policy={"require_token": True}),
    ),
    Vector(
        "token-eku-not-critical",
        "an authority's certificate whose timeStamping is not critical",
        refused(4, "untrusted.criticality"),
        token(
            lambda: make_tsa(critical=False),
            policy={"require_token": True, "profile": "compat"},
        ),
    ),
    Vector(
        "token-eku-not-alone",
        "an authority's certificate for time stamps and code",
        refused(4, "untrusted.eku"),
        token(
            lambda: make_tsa(
                usages=(
                    TIME_STAMPING,
                    CODE_SIGNING,
                )
            ),
            policy={"require_token": True},
        ),
    ),
    Vector(
        "token-moved",
        "a token of another envelope, where one is required",
        refused(4, "tampered.token"),
        lambda: moved(**DEMANDED),
    ),
    Vector(
        "token-moved-expired",
        "a token of another envelope, for a leaf that has expired",
        EXPIRED,
        lambda: moved(at=NOW + 800 * DAY),
    ),
    Vector(
        "token-swapped",
        "a token of another block, where one is required",
        refused(4, "tampered.token"),
        swapped,
    ),
    Vector(
        "token-forged",
        "a token signed by another key, where one is required",
        refused(4, "tampered.token"),
        token(key=stranger().leaf.key, policy=DEMANDED),
    ),
    Vector(
        "token-forged-not-required",
        "a token signed by another key, where none is required: as if there were none",
        not_counted("the time-stamp token's own signature does not verify"),
        token(key=stranger().leaf.key),
    ),
    Vector(
        "token-v1", "a token that names its certificate by SHA-1", accepted(), named(by_sha1(tsa()))
    ),
    Vector(
        "token-v1-of-another",
        "a token that names by SHA-1 a certificate that is not there",
        BAD,
        named(by_sha1(other_tsa())),
    ),
    Vector(
        "token-attribute-certificate",
        "a token with an attribute certificate beside the authority's own",
        accepted(),
        token(certificate_set=tlv(0xA0, tsa().leaf.der, tlv(0xA2, b"")), policy=DEMANDED),
    ),
    Vector("token-two-signers", "a token with two SignerInfos", BAD, two_signers),
    Vector(
        "token-trailing",
        "a byte follows the token",
        BAD,
        altered(lambda data: data + b"\0", **DEMANDED),
    ),
    Vector(
        "token-cut",
        "the token's last byte is gone, where one is required",
        BAD,
        altered(lambda data: data[:-1], **DEMANDED),
    ),
    Vector(
        "token-cut-not-required",
        "the token's last byte is gone, where none is required: as if there were none",
        not_counted("time-stamp token: an element that goes beyond the end at byte 0"),
        altered(lambda data: data[:-1]),
    ),
    Vector(
        "token-ber",
        "a token with an indefinite length",
        BAD,
        altered(lambda data: b"\x30\x80" + data[4:] + b"\0\0", **DEMANDED),
    ),
    Vector(
        "token-version",
        "a token whose SignedData is of version 1",
        BAD,
        token(version=integer(1), policy=DEMANDED),
    ),
    Vector(
        "token-sha1",
        "a token with a digest that is not allowed",
        refused(4, "untrusted.algorithm"),
        token(
            imprint=sequence(sequence(bytes.fromhex("06052b0e03021a")), tlv(4, bytes(20))),
            policy={"require_token": True},
        ),
    ),
    Vector(
        "token-not-tst-info",
        "a token whose signed data is of another type",
        BAD,
        token(content=sequence(oid("data"), tlv(0xA0, tlv(4, b"data"))), policy=DEMANDED),
    ),
    Vector(
        "token-two-digests",
        "a token with two digest algorithms",
        BAD,
        token(
            digests=tlv(0x31, hash_identifier("sha256"), hash_identifier("sha384")),
            policy=DEMANDED,
        ),
    ),
    Vector(
        "token-large",
        "a token of more than 64 KiB",
        refused(1, "malformed.size"),
        altered(lambda _: bytes(65537)),
    ),
)
