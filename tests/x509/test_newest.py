"""Which CRL of an issuer is the newest: one answer everywhere, and no revocation is forgotten."""

from functools import partial
from itertools import permutations
from pathlib import Path

import pytest
from cryptography import x509

from fwsign.format import cose
from fwsign.format.cose import MAX_CRL_SIZE, MAX_CRLS
from fwsign.format.envelope import decode_envelope
from fwsign.signing.stapling import staple
from fwsign.x509.crl import newest, parse_crl
from lint_kit import codes, fill, findings
from support import make_crl, make_pki, refused, sign_with, verify

PKI = make_pki()
crl = partial(make_crl, PKI.issuing)
ROOT_CRL = make_crl(PKI.root)
REVOKING = crl([PKI.leaf], number=5, days=(-3, 30))

FORGETS = {
    "the same number and time": crl(number=5, days=(-3, 30)),
    "the same number, later": crl(number=5, days=(-2, 30)),
    "the same number, earlier": crl(number=5, days=(-4, 30)),
    "a lower number, later": crl(number=4, days=(-1, 30)),
    "no number, earlier": crl(number=None, days=(-4, 30)),
    "no number, the same time": crl(number=None, days=(-3, 30)),
}
"""CRLs that forget what `REVOKING` says, and do not replace it."""
REPLACES = {
    "a higher number": crl(number=6, days=(-3, 30)),
    "a higher number, earlier": crl(number=6, days=(-4, 30)),
    "no number, later": crl(number=None, days=(-2, 30)),
}


def kept(*crls: bytes) -> set[bytes]:
    return {one.data for one in newest(map(parse_crl, crls))}


def stapled(envelope: bytes) -> tuple[bytes, ...]:
    return cose.decode_block(decode_envelope(envelope).blocks[0]).crls


@pytest.mark.parametrize("case", FORGETS)
def test_a_crl_that_forgets_does_not_replace_one_that_revokes(case: str) -> None:
    for order in permutations((REVOKING, FORGETS[case])):
        assert REVOKING in kept(*order)


@pytest.mark.parametrize("case", REPLACES)
def test_a_newer_crl_replaces_an_older_one(case: str) -> None:
    for order in permutations((REVOKING, REPLACES[case])):
        assert kept(*order) == {REPLACES[case]}


def test_of_crls_without_number_the_latest_counts_and_both_of_one_time() -> None:
    old, new = (crl(number=None, days=(day, 30)) for day in (-3, -2))
    other = crl([PKI.leaf], number=None, days=(-2, 30))
    assert kept(old, new) == {new}
    assert kept(old, new, other) == {new, other}


def test_crls_of_one_number_stay_together_beside_one_without() -> None:
    later = crl(number=5, days=(-2, 30))
    without = crl(number=None, days=(-2, 30))
    for order in permutations((REVOKING, later, without)):
        assert kept(*order) == {REVOKING, later, without}


def test_no_crls_have_no_newest() -> None:
    assert newest(()) == ()


# --- staple ---------------------------------------------------------------------------------


@pytest.mark.parametrize("case", FORGETS)
def test_stapling_never_drops_a_revocation(case: str) -> None:
    for old, new in permutations((REVOKING, FORGETS[case])):
        envelope = staple(sign_with(PKI, crls=(old, ROOT_CRL)), [new])
        assert REVOKING in stapled(envelope)
        with refused("untrusted.revoked", 'certificate "release" revoked'):
            verify(envelope, [PKI.root], profile="compat")


@pytest.mark.parametrize("case", REPLACES)
def test_stapling_keeps_what_the_verifier_takes(case: str) -> None:
    for old, new in permutations((REVOKING, REPLACES[case])):
        envelope = staple(sign_with(PKI, crls=(old, ROOT_CRL)), [new])
        assert set(stapled(envelope)) == {REPLACES[case], ROOT_CRL}
        verify(envelope, [PKI.root], profile="compat")


def test_stapling_twice_changes_nothing() -> None:
    once = staple(sign_with(PKI, crls=(REVOKING, ROOT_CRL)), [FORGETS["the same number, later"]])
    assert staple(once, [REVOKING, ROOT_CRL]) == once


def test_stapling_makes_no_envelope_that_nobody_reads() -> None:
    several = [crl(number=1, days=(-day, 30)) for day in range(1, MAX_CRLS + 1)]
    with refused("malformed.size", f"CRL list of {MAX_CRLS + 1}, at most {MAX_CRLS}"):
        staple(sign_with(PKI, crls=(ROOT_CRL,)), several)
    note = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), bytes(MAX_CRL_SIZE))
    large = crl(number=2, extensions=[(note, False)])
    with refused("malformed.size", f"CRL of {len(large)} bytes"):
        staple(sign_with(PKI), [large])


# --- lint -----------------------------------------------------------------------------------


def expired(folder: Path) -> set[str]:
    """Return what lint calls expired in two years: nothing that is revoked."""
    return {one.subject for one in findings(folder, days=700) if one.code == "lint.expired"}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("case", FORGETS)
def test_lint_takes_for_revoked_what_the_verifier_does(
    tmp_path: Path, case: str, turned: bool
) -> None:
    things = (PKI.root, PKI.issuing, PKI.leaf, ROOT_CRL)
    assert expired(fill(tmp_path, *things, FORGETS[case])) == {"release"}
    both = (REVOKING, FORGETS[case])
    assert expired(fill(tmp_path, *things, *(reversed(both) if turned else both))) == set()


@pytest.mark.parametrize("case", REPLACES)
def test_lint_takes_the_crl_that_replaces_another(tmp_path: Path, case: str) -> None:
    things = (PKI.root, PKI.issuing, PKI.leaf, ROOT_CRL)
    assert expired(fill(tmp_path, *things, REVOKING, REPLACES[case])) == {"release"}


def test_lint_says_a_thing_once_of_a_crl_in_two_files(tmp_path: Path) -> None:
    without = crl(number=None)
    folder = fill(tmp_path, PKI.root, PKI.issuing, PKI.leaf, ROOT_CRL, without, without)
    assert codes(folder).count("crl-number") == 1
