"""URIs of keys in services and agents: taken apart, made again, and shown without secrets."""

import pytest

from fwsign.keys import shown
from fwsign.keys.uri import KeyUri, make, parse
from support import refused


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("openbao:a/b?ca=c", KeyUri("openbao", None, "a/b", {"ca": "c"})),
        ("OpenBao:a", KeyUri("openbao", None, "a", {})),
        ("awskms:///alias/a", KeyUri("awskms", "", "alias/a", {})),
        ("awskms://h:1/a%20b?ca=%26%25", KeyUri("awskms", "h:1", "a b", {"ca": "&%"})),
        ("ssh-agent:", KeyUri("ssh-agent", None, "", {})),
        ("ssh-agent:SHA256:a+b/c?ca=d=e", KeyUri("ssh-agent", None, "SHA256:a+b/c", {"ca": "d=e"})),
        ("ssh-agent:me@laptop?", KeyUri("ssh-agent", None, "me@laptop", {})),
    ],
)
def test_a_uri_is_taken_apart(text: str, expected: KeyUri) -> None:
    assert parse(text, ("ca",)) == expected


@pytest.mark.parametrize("value", ["a", "a&b=c", "50%", "ä ö", "a?b#c", "https://h:8200", "C:\\x"])
def test_what_is_made_is_read_again(value: str) -> None:
    made = make("openbao", f"t/{value}", {"ca": value, "role": None})
    assert parse(made, ("ca",)) == KeyUri("openbao", None, f"t/{value}", {"ca": value})
    assert make("openbao", "t/k", {}) == "openbao:t/k"


@pytest.mark.parametrize("text", ["1", "17", "999999999"])
def test_a_number_is_one(text: str) -> None:
    assert parse(f"openbao:k?version={text}", ("version",)).number("version") == int(text)
    assert parse("openbao:k", ()).number("version") is None


@pytest.mark.parametrize("text", ["0", "-1", "+1", "1.0", "1e3", "x", "%C2%B2", "1000000000"])
def test_another_is_none(text: str) -> None:
    with refused("key.unsupported", "in the openbao: URI of the key, version= is", "from 1 on"):
        parse(f"openbao:k?version={text}", ("version",)).number("version")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("openbao:k?token=s.1&ca=a", "openbao:k?token=...&ca=a"),
        ("openbao:k?ca=a&X-Vault-Token=s.1", "openbao:k?ca=a&X-Vault-Token=..."),
        ("openbao:k?secret-id=1", "openbao:k?secret-id=..."),
        ("ssh-agent:k?passphrase=s.1", "ssh-agent:k?passphrase=..."),
        ("pkcs11:object=a?pin-source=1793&x=y", "pkcs11:object=a?pin-source=...&x=y"),
        ("openbao:k?jwt=e.y.j", "openbao:k?jwt=..."),
        ("openbao://user:s.1@h/k", "openbao://...@h/k"),
        ("awskms://AKIA:secret@h/alias/a?password=b", "awskms://...@h/alias/a?password=..."),
    ],
)
def test_a_secret_in_a_uri_is_not_shown(text: str, expected: str) -> None:
    assert shown(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "openbao:k?token-file=/run/token&secret-id-file=/run/id&jwt-env=CI&jwt-file=a",
        "pkcs11:token=fwsign;object=release?pin-source=file:/run/pin",
        "pkcs11:object=a?pin-source=/run/pin",
        "pkcs11:object=a?PIN-source=%2Frun%2Fpin",
        "ssh-agent:me@laptop",
        "release.key",
        "dir//me@laptop/release.key",
    ],
)
def test_what_is_no_secret_is_shown(text: str) -> None:
    assert shown(text) == text
