"""What signing and verifying remember of what they have parsed, and what they do not."""

import pytest

from fwsign.errors import FwsignError
from fwsign.signing import parsed
from fwsign.x509.certificate import MAX_REMEMBERED, parse_certificate
from support import make_ca, make_crl, make_leaf, new_key


def test_the_same_bytes_give_the_same_value() -> None:
    root = make_ca()
    leaf, crl = make_leaf(root), make_crl(root)
    assert parse_certificate(leaf.der) is parse_certificate(bytes([*leaf.der]))
    assert parsed.certificate(leaf.der) is parsed.certificate(bytes([*leaf.der]))
    assert parsed.crl(crl) is parsed.crl(bytes([*crl]))


def test_one_bit_makes_another_value() -> None:
    """A certificate that was changed is parsed anew, whatever was parsed before."""
    leaf = make_leaf(make_ca())
    first = parse_certificate(leaf.der)
    changed = leaf.der[:-1] + bytes([leaf.der[-1] ^ 1])
    assert parse_certificate(changed) != first
    assert parse_certificate(changed).signed != first.signed


def test_a_refusal_is_not_remembered_as_a_value() -> None:
    leaf = make_leaf(make_ca())
    for _ in range(3):
        with pytest.raises(FwsignError) as caught:
            parse_certificate(leaf.der[:-1])
        assert caught.value.code == "malformed.certificate"


def test_only_so_many_are_remembered() -> None:
    root, key = make_ca(), new_key()
    for number in range(MAX_REMEMBERED + 5):
        parse_certificate(make_leaf(root, f"leaf {number}", key=key).der)
    assert parse_certificate.cache_info().currsize == MAX_REMEMBERED
