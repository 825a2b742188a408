"""`fwsign key` about keys in a token of a real SoftHSM2."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from cli.kit import good, refused, run
from fwsign.keys import open_key
from keys.contract import NAMES, raw_signatures
from softhsm_kit import PIN, SoftHsm

MADE = ("p256", "p384", "ed25519", "rsa3072")


def there(softhsm: SoftHsm, label: str) -> str:
    """Make a key with `fwsign key new` and return its URI."""
    return good("key", "new", softhsm.uri(label), "--pass", softhsm.pass_file).strip()


@pytest.mark.parametrize("alg", MADE)
def test_new_makes_a_key_that_never_leaves(softhsm: SoftHsm, alg: str) -> None:
    asked = softhsm.uri(f"new {alg}")
    found = run("key", "new", asked, "--alg", alg, "--pass", softhsm.pass_file)
    assert found.status == 0, found
    uri = found.out.strip()
    assert uri.startswith(asked.partition("?")[0] + ";id=%")
    assert f"fwsign: next: fwsign key convert '{uri}' release.pub --to public\n" in found.err
    held = open_key(uri, PIN.encode)
    assert [*raw_signatures(held)]
    held.close()
    listed = softhsm.list(f"new {alg}")
    for words in ("sensitive, always sensitive, never extractable", "Usage:      sign", "local"):
        assert words in listed, listed
    for words in ("decrypt", "unwrap", "derive"):
        assert words not in listed
    again = run("key", "new", asked, "--alg", alg, "--pass", softhsm.pass_file)
    refused(
        again,
        5,
        f"the token has an object with the label of {asked} already",
        "choose another one; the tools of the token delete what is there",
    )
    assert softhsm.list(f"new {alg}") == listed


def test_new_takes_an_id_that_is_free(softhsm: SoftHsm) -> None:
    asked = softhsm.uri("by id").replace("?", ";id=%7F%01?")
    assert good("key", "new", asked, "--pass", softhsm.pass_file).strip() == asked
    other = asked.replace("by%20id", "by%20another")
    refused(
        run("key", "new", other, "--pass", softhsm.pass_file),
        5,
        f"the token has an object with the id of {other} already",
        "choose another one; the tools of the token delete what is there",
    )


@pytest.mark.parametrize(
    ("more", "status", "error"),
    [
        (("--alg", "ml-dsa-65"), 5, "keys of ML-DSA-65 cannot be made in tokens yet"),
        (("--force",), 2, "--no-passphrase, --kdf and --force are for keys in files"),
        (("--no-passphrase",), 2, "--no-passphrase, --kdf and --force are for keys in files"),
        (("--kdf", "scrypt"), 2, "--no-passphrase, --kdf and --force are for keys in files"),
    ],
)
def test_new_refuses_what_a_token_has_not(
    softhsm: SoftHsm, more: tuple[str, ...], status: int, error: str
) -> None:
    found = run("key", "new", softhsm.uri("none"), "--pass", softhsm.pass_file, *more)
    assert (found.status, found.errors[0]) == (status, f"error: {error}")
    assert softhsm.list("none") == ""


def test_new_wants_a_label_and_a_token(softhsm: SoftHsm) -> None:
    uri = softhsm.uri("x").replace("object=x", "id=%01")
    refused(
        run("key", "new", uri, "--pass", softhsm.pass_file),
        5,
        f"{uri} gives the new key no label",
        "name it: object=LABEL",
    )
    for scheme, begin in (
        ("awskms", "aws kms create-key"),
        ("openbao", "bao write -f transit/keys/NAME"),
        ("ssh-agent", "ssh-keygen -t ed25519"),
        ("vault", "vault write -f transit/keys/NAME"),
    ):
        found = run("key", "new", f"{scheme}:x")
        assert (found.status, found.errors[0]) == (
            5,
            f"error: keys of {scheme}: are made by its own tools",
        )
        assert found.errors[1].startswith(f"hint: as in: {begin}")


def test_show_describes_a_key(softhsm: SoftHsm) -> None:
    uri = there(softhsm, "shown")
    shown = json.loads(good("key", "show", uri, "--pass", softhsm.pass_file, "--json"))
    (card,) = shown["content"]
    assert (card["kind"], card["place"], card["key"]) == ("private key", uri, NAMES["p256"])
    assert card["can be used for"] == "fwsign sign, as ESP256"
    sourced = f"{uri}&pin-source=file:{softhsm.pin_file}"
    text = good("key", "show", sourced)
    assert f"place: {uri}\n" in text
    assert "pin" not in text
    refused(
        run("key", "show", uri),
        5,
        f"{uri} needs a PIN and none was given",
        "give it with --pass: env:NAME, file:PATH or fd:N",
    )


def test_convert_writes_the_public_half_alone(softhsm: SoftHsm, tmp_path: Path) -> None:
    uri = there(softhsm, "converted")
    good("key", "convert", uri, "own.pub", "--to", "public", "--pass", softhsm.pass_file)
    held = open_key(uri, PIN.encode)
    assert load_pem_public_key((tmp_path / "own.pub").read_bytes()) == held.public_key
    held.close()
    line = good("key", "convert", uri, "-", "--to", "public-openssh", "--pass", softhsm.pass_file)
    assert line.startswith("ecdsa-sha2-nistp256 ")
    refused(
        run("key", "convert", uri, "own.key", "--pass", softhsm.pass_file),
        5,
        f"{uri} is not a file, and this command needs a key in a file",
        None,
    )
    assert not (tmp_path / "own.key").exists()


def test_keys_in_a_token_sign_trust_updates(softhsm: SoftHsm, tmp_path: Path) -> None:
    """Two keys of one token, and one PIN."""
    uris = [there(softhsm, label) for label in ("trust one", "trust two")]
    secret = ("--pass", softhsm.pass_file)
    for uri, name in zip(uris, ("one.pub", "two.pub"), strict=True):
        good("key", "convert", uri, name, "--to", "public", *secret)
    about = ("--vendor", "acme.example", "--product", "x1", "--require", 2)
    anchors = ("--release", "one.pub", "--trust", "one.pub", "--trust", "two.pub")
    keys = [word for uri in uris for word in ("--key", uri)]
    good("trust", "make", "1.trust", *about, *anchors, *keys, *secret)
    shown = good("trust", "show", "1.trust")
    assert (tmp_path / "1.trust").is_file()
    assert PIN not in shown


def test_a_passphrase_is_of_files_alone(softhsm: SoftHsm) -> None:
    uri = softhsm.uri("any")
    words = f"{uri} is not a file, and this command needs a key in a file"
    refused(run("key", "passwd", uri), 5, words)


def test_a_file_with_a_colon_in_its_name_is_a_file(tmp_path: Path) -> None:
    good("key", "new", "a:b.key", "--no-passphrase")
    assert (tmp_path / "a:b.key").is_file()
    good("key", "new", f"file:{tmp_path}/c.key", "--no-passphrase")
    assert good("key", "show", "file:c.key") == good("key", "show", "c.key")


def test_a_pin_in_a_uri_is_never_repeated(softhsm: SoftHsm) -> None:
    uri = f"{softhsm.uri('any')}&pin-value={PIN}"
    for words in (("new", uri), ("show", uri), ("passwd", uri), ("convert", uri, "x")):
        found = run("key", *words, *(() if words[0] == "passwd" else ("--pass", "env:NO")))
        assert found.status == 5, found
        assert PIN not in found.out + found.err
        assert found.errors[0].startswith("error: ")
