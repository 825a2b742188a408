# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwsign.errors import Failed
from fwsign.names import (
    host_name,
    organisation,
    peer_name,
    product_from,
    product_name,
    signer_name,
    vendor_domain,
)
from fwsign.x509.constraints import is_domain


def failure(check: Callable[[str], str], text: str) -> Failed | None:
    """Return the error, or None; anything but a Failed goes through."""
    try:
        check(text)
    except Failed as error:
        return error
    return None


LONGEST_LABEL = "a" * 63
LONGEST_DOMAIN = ".".join((LONGEST_LABEL, LONGEST_LABEL, LONGEST_LABEL, "b" * 61))


@pytest.mark.parametrize(
    "text",
    ["acme.example", "a.b", "xn--bcher-kva.example", "4.acme-2.example", LONGEST_DOMAIN],
)
def test_vendor_domain_is_returned_as_it_is(text: str) -> None:
    assert vendor_domain(text) == text
    assert is_domain(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "only one label"),
        ("acme", "only one label"),
        ("*.acme.example", "a wildcard would let a signer speak for others"),
        ("*", "a wildcard would let a signer speak for others"),
        ("acme.example.", 'ends with a dot; "acme.example" would be accepted'),
        (".", "ends with a dot"),
        ("Acme.Example", 'lower-case ASCII; "acme.example" would be accepted'),
        ("bücher.example", 'ASCII; "xn--bcher-kva.example" would be accepted'),
        ("BÜCHER.Example", 'ASCII; "xn--bcher-kva.example" would be accepted'),
        ("acme..example", 'label ""'),
        (".acme.example", 'label ""'),
        ("-a.example", 'label "-a"'),
        ("a-.example", 'label "a-"'),
        ("a_b.example", 'label "a_b"'),
        ("acme.example\n", "label"),
        ("ab--c.example", '(third and fourth only after "xn")'),
        ("192.0.2.1", "it is an address"),
        ("a" * 64 + ".example", "1 to 63 letters"),
        (LONGEST_DOMAIN + "b", "has 254 characters, at most 253"),
    ],
)
def test_vendor_domain_refusals_say_why(text: str, words: str) -> None:
    assert not is_domain(text)
    with pytest.raises(Failed) as caught:
        vendor_domain(text)
    assert caught.value.code == "state.policy"
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "*.acme.example",
            (
                'host "*.acme.example" is not a domain name such as "acme.example": '
                "a wildcard would let a server speak for others"
            ),
        ),
        (
            "Vendor.Example",
            (
                'host "Vendor.Example" is not a domain name such as "acme.example": it must be '
                'written in lower-case ASCII; "vendor.example" would be accepted'
            ),
        ),
        (LONGEST_DOMAIN + "b", "host domain has 254 characters, at most 253 are allowed"),
    ],
)
def test_host_name_refusals_speak_of_hosts(text: str, message: str) -> None:
    error = failure(host_name, text)
    assert error is not None
    assert (error.code, error.message) == ("state.policy", message)


@pytest.mark.parametrize("text", ["straße.example", "bu\u0308cher.example", "a\u3002example.org"])
def test_no_spelling_is_offered_that_may_be_another_domain(text: str) -> None:
    with pytest.raises(Failed) as caught:
        vendor_domain(text)
    assert "would be accepted" not in caught.value.message


@given(st.text(max_size=300))
def test_what_an_error_offers_is_accepted(text: str) -> None:
    error = failure(vendor_domain, text)
    if error is not None and "would be accepted" in error.message:
        assert error.expected is not None
        assert vendor_domain(error.expected) == error.expected


@pytest.mark.parametrize("text", ["a", "0", "thermostat", "gw-2_b.v1", "a" * 64])
def test_product_name_is_returned_as_it_is(text: str) -> None:
    assert product_name(text) == text


@pytest.mark.parametrize("text", ["", "-a", ".a", "_a", "A", "a b", "a/b", "ä", "a\n", "a" * 65])
def test_product_name_refusals(text: str) -> None:
    with pytest.raises(Failed) as caught:
        product_name(text)
    assert caught.value.code == "state.policy"
    assert caught.value.message.startswith(f'product "{text}" is not a name of 1 to 64 of a-z')


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("thermostat", "thermostat"),
        ("My Board (v2)", "my-board-v2"),
        ("_build", "build"),
        ("a" * 100, "a" * 64),
        ("a" * 63 + " b", "a" * 63),
        ("Gerät 7", "ger-t-7"),
    ],
)
def test_product_from_a_directory(text: str, name: str) -> None:
    assert product_from(text) == name


@pytest.mark.parametrize("text", ["", "...", "прошивка"])
def test_product_from_nothing_usable(text: str) -> None:
    with pytest.raises(Failed) as caught:
        product_from(text)
    assert caught.value.code == "state.policy"
    assert caught.value.message == (
        f'no product name can be made of "{text}": it has no letter a-z and no digit'
    )


@given(st.text())
def test_product_from_gives_a_product_name_or_an_error(text: str) -> None:
    try:
        name = product_from(text)
    except Failed:
        return
    assert product_name(name) == name == product_from(name)


@pytest.mark.parametrize("text", ["release", "release-2027", "a", "ci.eu_1", "console"])
def test_signer_name_is_returned_as_it_is(text: str) -> None:
    assert signer_name(text) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ca", '"ca" is the name of a CA'),
        ("issuing", '"issuing" is the name of a CA'),
        ("nul", '"nul" cannot name a signer: Windows reserves it'),
        ("com1.x", "Windows reserves it"),
        ("Release", "it is not 1 to 64 of a-z"),
        ("../ca", "it is not 1 to 64 of a-z"),
        ("", "it is not 1 to 64 of a-z"),
        ("a" * 65, "it is not 1 to 64 of a-z"),
    ],
)
def test_signer_name_refusals(text: str, words: str) -> None:
    with pytest.raises(Failed) as caught:
        signer_name(text)
    assert caught.value.code == "state.policy"
    assert words in caught.value.message


@pytest.mark.parametrize("text", ["Acme", "Müller & Söhne", "x" * 53])
def test_organisation_is_returned_as_it_is(text: str) -> None:
    assert organisation(text) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "printable text without spaces around it"),
        (" Acme", "printable text"),
        ("Acme\n", "printable text"),
        ("Ac\u202eme", "printable text"),
        ("\ud800", "printable text"),
        ("x" * 54, "it has 54 octets, at most 53 are allowed"),
        ("ü" * 27, "it has 54 octets, at most 53 are allowed"),
    ],
)
def test_organisation_refusals(text: str, words: str) -> None:
    with pytest.raises(Failed) as caught:
        organisation(text)
    assert caught.value.code == "state.policy"
    assert words in caught.value.message


@pytest.mark.parametrize(
    "check", [vendor_domain, product_name, product_from, signer_name, organisation]
)
@given(text=st.text())
def test_nothing_but_failed_is_raised(check: Callable[[str], str], text: str) -> None:
    error = failure(check, text)
    assert error is None or error.code == "state.policy"


@pytest.mark.parametrize("text", ["localhost", "factorycube-server-vernemq", "a", "b.acme.example"])
def test_host_name_may_be_a_single_label(text: str) -> None:
    assert host_name(text) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Localhost", 'it must be written in lower-case ASCII; "localhost" would be accepted'),
        ("localhost.", 'it ends with a dot; "localhost" would be accepted'),
        ("my_broker", 'label "my_broker" is not 1 to 63 letters, digits and inner hyphens'),
        ("42", "it is an address, not a name"),
        ("", 'label "" is not 1 to 63 letters'),
        ("*", "a wildcard would let a server speak for others"),
    ],
)
def test_host_name_refusals(text: str, words: str) -> None:
    error = failure(host_name, text)
    assert error is not None
    assert error.message.startswith(f'host "{text}" is not a domain name such as "acme.example": ')
    assert words in error.message


def test_a_vendor_is_never_a_single_label() -> None:
    error = failure(vendor_domain, "localhost")
    assert error is not None
    assert "it has only one label" in error.message


@pytest.mark.parametrize("text", ["TESTING", "gateway-0017", "Broker.acme.example", "a" * 64])
def test_peer_name_is_returned_as_it_is(text: str) -> None:
    assert peer_name(text) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("CA", '"CA" is the name of a CA, a server or client needs another'),
        ("Issuing-2", '"Issuing-2" is the name of a CA'),
        ("NUL", '"NUL" cannot name a server or client: Windows reserves it'),
        ("../ca", "it is not 1 to 64 of A-Z, a-z, 0-9"),
        ("a" * 65, "it is not 1 to 64 of A-Z, a-z, 0-9"),
    ],
)
def test_peer_name_refusals(text: str, words: str) -> None:
    error = failure(peer_name, text)
    assert error is not None
    assert words in error.message
