"""Steps 4 and 5: time and revocation."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509

from hostile import with_block
from support import (
    DAY,
    NOW,
    Pki,
    ca_extensions,
    certify,
    key_usage,
    make_ca,
    make_crl,
    make_leaf,
    name,
    new_key,
    sign_with,
)
from testkit.vector import Case, Vector, accepted, case, pki, refused

BEHIND = "freshness unproven: the clock is behind"


def leaf(days: tuple[int, int], **policy: Any) -> Callable[[], Case]:
    """Sign with a leaf of another validity, in days from now."""
    return lambda: case(
        sign_with(pki()._replace(leaf=make_leaf(pki().issuing, days=days))), **policy
    )


def issuing(days: tuple[int, int]) -> Case:
    """Sign under an intermediate of another validity."""
    middle = make_ca("Issuing", pki().root, days=days)
    chain = Pki(pki().root, middle, make_leaf(middle))
    return case(sign_with(chain))


def root(days: tuple[int, int]) -> Case:
    """Sign under an anchor of another validity."""
    top = make_ca("Root", days=days)
    middle = make_ca("Issuing", top)
    return case(sign_with(Pki(top, middle, make_leaf(middle))), top)


def at(moment: datetime, **policy: Any) -> Callable[[], Case]:
    """Judge a good envelope at another time."""
    return lambda: case(sign_with(pki()), at=moment, **policy)


def lists(make: Callable[[], Sequence[bytes]], **policy: Any) -> Callable[[], Case]:
    """Staple CRLs; `held` are the device's own."""

    def build() -> Case:
        held = policy.pop("held", tuple)
        return case(sign_with(pki(), crls=make()), crls=tuple(held()), **policy)

    return build


def of_issuing(*revoked: str, **more: Any) -> bytes:
    """Make a CRL of the issuing CA."""
    return make_crl(pki().issuing, [getattr(pki(), one) for one in revoked], **more)


def of_root(*revoked: str, **more: Any) -> bytes:
    """Make a CRL of the root."""
    return make_crl(pki().root, [getattr(pki(), one) for one in revoked], **more)


def no_crl_sign() -> Case:
    """Sign a CRL with a CA that may not."""
    extensions = [ca_extensions()[0], (key_usage("key_cert_sign"), True)]
    middle = certify(new_key(), name("Issuing"), pki().root, extensions)
    return case(sign_with(Pki(pki().root, middle, make_leaf(middle))))


def forged_crl() -> bytes:
    """Sign a CRL in the issuing CA's name with another key."""
    return make_crl(pki().issuing, signer=pki().leaf)


STALE = refused(4, "stale.certificate")
EARLY = refused(4, "stale.not-yet-valid")
REVOKED = refused(5, "untrusted.revoked")
UNUSABLE = refused(5, "untrusted.crl")
DELTA = (x509.DeltaCRLIndicator(1), True)
PARTIAL = (
    x509.IssuingDistributionPoint(
        full_name=None,
        relative_name=None,
        only_contains_user_certs=True,
        only_contains_ca_certs=False,
        only_some_reasons=None,
        indirect_crl=False,
        only_contains_attribute_certs=False,
    ),
    False,
)
OLD = NOW - 400 * DAY
LAST = NOW + 365 * DAY

VECTORS = (
    Vector("time-leaf-expired", "the leaf has expired", STALE, leaf((-10, -2))),
    Vector(
        "time-issuing-expired", "the intermediate CA has expired", STALE, lambda: issuing((-10, -2))
    ),
    Vector("time-root-expired", "an anchor may have expired", accepted(), lambda: root((-10, -2))),
    Vector("time-leaf-early", "the leaf is not valid yet", EARLY, leaf((2, 9))),
    Vector(
        "time-issuing-early", "the intermediate CA is not valid yet", EARLY, lambda: issuing((2, 9))
    ),
    Vector(
        "time-last-second",
        "the leaf is in the last second of its validity",
        accepted(),
        at(NOW + 30 * DAY),
    ),
    Vector(
        "time-clock-behind",
        "thisUpdate of a CRL is later than the clock",
        accepted(BEHIND),
        at(OLD),
    ),
    Vector(
        "time-floor-expires",
        "the time floor is after the leaf's end",
        STALE,
        at(OLD, time_floor=LAST + timedelta(seconds=1)),
    ),
    Vector(
        "time-crl-expires",
        "thisUpdate shows that the leaf has expired",
        STALE,
        leaf((-10, -2), at=NOW - 5 * DAY),
    ),
    Vector(
        "time-token-required",
        "the policy demands a token, and there is none",
        refused(4, "untrusted.token-required"),
        at(NOW, require_token=True),
    ),
    Vector(
        "crl-leaf-revoked",
        "the leaf is revoked",
        REVOKED,
        lists(lambda: [of_issuing("leaf"), of_root()]),
    ),
    Vector(
        "crl-issuing-revoked",
        "the intermediate CA is revoked",
        REVOKED,
        lists(lambda: [of_issuing(), of_root("issuing")]),
    ),
    Vector(
        "crl-revoked-superseded",
        "the leaf was superseded, and no token says when it signed",
        REVOKED,
        lists(lambda: [of_issuing("leaf", reason=x509.ReasonFlags.superseded), of_root()]),
    ),
    Vector(
        "crl-held-is-newer",
        "an old list stapled, the device holds a newer one",
        REVOKED,
        lists(
            lambda: [of_issuing(number=1), of_root()],
            held=lambda: [of_issuing("leaf", number=2)],
        ),
    ),
    Vector(
        "crl-stapled-is-newer",
        "a newer list stapled than the device holds",
        accepted(),
        lists(
            lambda: [of_issuing(number=3), of_root()],
            held=lambda: [of_issuing("leaf", number=2)],
        ),
    ),
    Vector(
        "crl-same-number",
        "revoked in one of two with the same number",
        REVOKED,
        lists(lambda: [of_issuing(), of_issuing("leaf"), of_root()]),
    ),
    Vector(
        "crl-missing-issuing",
        "no CRL of the issuing CA",
        refused(5, "stale.crl-missing"),
        lists(lambda: [of_root()]),
    ),
    Vector(
        "crl-missing-root",
        "no CRL of the root",
        refused(5, "stale.crl-missing"),
        lists(lambda: [of_issuing()]),
    ),
    Vector(
        "crl-none",
        "no CRL is at hand, and the policy demands none",
        accepted(unchecked=["revocation"]),
        lists(list),
    ),
    Vector(
        "crl-none-required",
        "no CRL is at hand, and the policy demands them",
        refused(5, "stale.crl-missing"),
        lists(list, revocation="require"),
    ),
    Vector(
        "crl-off",
        "the policy judges no revocation",
        accepted(unchecked=["revocation"]),
        lists(lambda: [of_issuing("leaf"), of_root()], revocation="off"),
    ),
    Vector(
        "crl-stale",
        "a CRL is past its nextUpdate",
        refused(5, "stale.crl"),
        lists(lambda: [of_issuing(days=(-9, -1)), of_root()]),
    ),
    Vector(
        "crl-stale-beside-fresh",
        "the CRL of the highest number counts, even if an older one is fresh",
        refused(5, "stale.crl"),
        lists(lambda: [of_issuing(number=2, days=(-9, -1)), of_issuing(number=1), of_root()]),
    ),
    Vector(
        "crl-forged",
        "a CRL is signed by another key than its issuer's",
        refused(5, "tampered.crl"),
        lists(lambda: [forged_crl(), of_root()]),
    ),
    Vector(
        "crl-junk",
        "bytes that are no CRL",
        refused(5, "malformed.crl"),
        lists(lambda: [b"0", of_root()]),
    ),
    Vector(
        "crl-no-number",
        "a CRL without number",
        UNUSABLE,
        lists(lambda: [of_issuing(number=None), of_root()]),
    ),
    Vector(
        "crl-no-number-compat",
        "a CRL without number, in profile compat",
        accepted('CRL of "Issuing" has no number'),
        lists(lambda: [of_issuing(number=None), of_root()], profile="compat"),
    ),
    Vector(
        "crl-delta",
        "a delta CRL is no complete one",
        UNUSABLE,
        lists(lambda: [of_issuing(extensions=[DELTA]), of_root()]),
    ),
    Vector(
        "crl-partial",
        "a CRL for some certificates",
        UNUSABLE,
        lists(lambda: [of_issuing(extensions=[PARTIAL]), of_root()]),
    ),
    Vector(
        "crl-no-crl-sign", "a CA without cRLSign", refused(5, "untrusted.key-usage"), no_crl_sign
    ),
    Vector(
        "crl-unused",
        "a CRL of a stranger is not used",
        accepted(),
        lists(lambda: [*pki().crls, make_crl(make_ca("Else"))]),
    ),
    Vector(
        "crl-taken-out",
        "one of two CRLs taken out on the way",
        refused(5, "stale.crl-missing"),
        lambda: case(
            with_block(
                sign_with(pki()),
                lambda parts: parts[1].update({-1719104356: parts[1][-1719104356][1:]}),
            )
        ),
    ),
)
