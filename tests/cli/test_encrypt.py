"""Confidential payloads on the command line: who gets them, who may read them, and who is told."""

import itertools
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.kit import SAMPLES, good, program, refused, run, tree
from fwsign.cli import inputs
from fwsign.cli.show import native
from fwsign.cli.sign import written
from fwsign.errors import Failed
from fwsign.files import write_atomic
from fwsign.format.component import keys_uri
from fwsign.format.envelope import Envelope, decode_envelope, encode_envelope
from fwsign.format.native import StatedNative
from fwsign.format.opening import decode_content
from secret_kit import described, encrypted
from support import NOW, make_ca, make_envelope, make_leaf, require_package

if os.name == "posix":
    import fcntl

SECRET = b"".join(b"the secret of line %d\n" % number for number in range(4000))
KEY = "pki/private/gateways.key"


@pytest.fixture(scope="module")
def _groups(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two groups of devices, made once."""
    place = tmp_path_factory.mktemp("groups")
    shutil.copytree(made, place, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "now", lambda: NOW)
        patch.chdir(place)
        for name in ("gateways", "pilots"):
            good("pki", "issue", "encryption", name, "--no-passphrase")
    (place / "secret.bin").write_bytes(SECRET)
    return place


@pytest.fixture
def groups(_groups: Path, tmp_path: Path) -> Path:
    shutil.copytree(_groups, tmp_path, dirs_exist_ok=True)
    return tmp_path


def key_of(name: str) -> str:
    """Return the key id of a group, as people find it."""
    found: str = shown(f"pki/issued/{name}.crt")["key sha256"]
    return found


def shown(path: str) -> dict[str, Any]:
    """Return what `fwsign show` says of a file."""
    (found,) = json.loads(good("show", path, "--json"))["content"]
    return dict(found)


def sign(*more: object) -> None:
    good("sign", "secret.bin", "--encrypt-to", "gateways", *more)


# --- sign, verify, show ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [(), ("--embed",), ("--block-size", 4096)], ids=["beside", "inside", "in blocks"]
)
def test_a_group_opens_what_is_signed_for_it(groups: Path, options: tuple[object, ...]) -> None:
    sign(*options)
    files = (groups / "secret.bin.suit", groups / "secret.bin.enc")
    assert all(b"the secret" not in path.read_bytes() for path in files if path.exists())
    assert (groups / "secret.bin.enc").exists() == ("--embed" not in options)
    found = json.loads(good("verify", "secret.bin.suit", "--json"))
    assert "plaintext" in found["unchecked"]
    found = json.loads(good("verify", "secret.bin.suit", "--decrypt", KEY, "--json"))
    (component,) = found["release"]["components"]
    assert "plaintext" not in found["unchecked"]
    assert (component["decrypted"], component["checked_by"]) == (True, "digest")
    assert component["recipients"] == [key_of("gateways")]


def test_people_read_for_whom_it_is(groups: Path) -> None:
    sign("--encrypt-to", "pki/issued/pilots.crt")
    to = shown("secret.bin.suit")["components"][0]["encrypted"]["to"]
    assert [one["name"] for one in to] == ["gateways", "pilots"]
    assert [one["key sha256"] for one in to] == [key_of("gateways"), key_of("pilots")]
    out = good("verify", "secret.bin.suit")
    ids = ", ".join(f"{key_of(one)[:16]}..." for one in ("gateways", "pilots"))
    assert f"  encrypted  to {ids}\n" in out
    assert "  unchecked  plaintext (it is encrypted: give --decrypt KEY)\n" in out
    assert "and decrypted here" in good("verify", "secret.bin.suit", "--decrypt", KEY)
    (groups / "fwsign.toml").unlink()
    assert "name" not in shown("secret.bin.suit")["components"][0]["encrypted"]["to"][0]


def test_fwsign_toml_names_the_groups(groups: Path) -> None:
    with (groups / "fwsign.toml").open("a") as file:
        file.write('encrypt_to = "gateways, pilots"\n')
    good("sign", "secret.bin")
    assert len(shown("secret.bin.suit")["components"][0]["encrypted"]["to"]) == 2


def test_several_files_of_one_release(groups: Path) -> None:
    good("sign", "secret.bin", "build.bin", "-o", "all.suit", "--encrypt-to", "gateways")
    assert {path.name for path in groups.glob("*.enc")} == {"secret.bin.enc", "build.bin.enc"}
    found = json.loads(good("verify", "all.suit", "--decrypt", KEY, "--json"))
    assert [one["decrypted"] for one in found["release"]["components"]] == [True, True]


def test_addresses_that_end_in_a_query(groups: Path) -> None:
    """The verifier looks for the ciphertext where it is, and not for the file itself."""
    sign("--base-url", "https://acme.example/get?file=")
    assert [path.name for path in groups.glob("*.enc")] == ["secret.bin.enc"]
    good("verify", "secret.bin.suit", "--decrypt", KEY)
    (groups / "secret.bin").unlink()
    good("publish", "secret.bin.suit", "--to", "served")


def test_a_dry_run_writes_nothing(groups: Path) -> None:
    before = tree(groups)
    found = run("sign", "secret.bin", "--encrypt-to", "gateways", "--dry-run")
    assert (found.status, tree(groups)) == (0, before)
    assert "secret.bin.enc" in found.out


def test_a_refused_signature_leaves_no_ciphertext(groups: Path) -> None:
    before = tree(groups)
    (groups / "pki/private/release.key").write_bytes(b"no key")
    found = run("sign", "secret.bin", "--encrypt-to", "gateways")
    assert found.status == 5
    (groups / "pki/private/release.key").write_bytes(before["pki/private/release.key"] or b"")
    assert tree(groups) == before


def test_ciphertext_that_exists_is_not_replaced(groups: Path) -> None:
    sign()
    before = tree(groups)
    words = "cannot write secret.bin.enc: exists already"
    hint = "--force replaces ciphertexts and envelopes that exist"
    refused(run("sign", "secret.bin", "--encrypt-to", "gateways"), 5, words, hint)
    assert tree(groups) == before
    sign("--force")
    assert (groups / "secret.bin.enc").read_bytes() != before["secret.bin.enc"]
    good("verify", "secret.bin.suit", "--decrypt", KEY)


def test_ciphertext_never_replaces_what_is_signed(groups: Path) -> None:
    (groups / "secret.bin.enc").write_bytes(b"a file of somebody")
    found = run(
        "sign",
        "secret.bin",
        "secret.bin.enc",
        "-o",
        "x.suit",
        "--encrypt-to",
        "gateways",
        "--force",
    )
    assert found.status == 2
    assert "secret.bin.enc would replace a file that is read" in found.err
    assert (groups / "secret.bin.enc").read_bytes() == b"a file of somebody"


def test_two_signs_share_no_key(groups: Path) -> None:
    """Nonce reuse: the same file, signed twice, gives ciphertexts that have nothing in common."""
    sign("--block-size", 4096)
    first = (groups / "secret.bin.enc").read_bytes()
    sign("--block-size", 4096, "--force")
    second = (groups / "secret.bin.enc").read_bytes()
    blocks = [{data[at : at + 16] for at in range(0, len(data), 16)} for data in (first, second)]
    assert not blocks[0] & blocks[1]


@pytest.mark.usefixtures("groups")
def test_a_signature_on_a_file_alone_hides_nothing() -> None:
    found = run("sign", "secret.bin", "--encrypt-to", "gateways", "--hash-envelope")
    assert found.status == 2
    assert "--encrypt-to is for releases" in found.err


def test_empty_files_too(groups: Path) -> None:
    (groups / "none").write_bytes(b"")
    good("sign", "none", "--allow-empty", "--encrypt-to", "gateways")
    assert (groups / "none.enc").stat().st_size == 16
    good("verify", "none.suit", "--decrypt", KEY)


def test_a_log_that_cannot_be_written_keeps_the_ciphertext_that_is_there(groups: Path) -> None:
    """The envelope that stays belongs to the ciphertext before."""
    sign()
    (groups / "pki/log.jsonl").unlink()
    (groups / "pki/log.jsonl").mkdir()
    before = tree(groups)
    found = run("sign", "secret.bin", "--encrypt-to", "gateways", "--force")
    hint = "what is signed is logged first, so nothing was written; "
    words = "cannot write pki/log.jsonl: is a directory"
    refused(found, 5, words, f'{hint}log = "FILE" in fwsign.toml names another log')
    assert tree(groups) == before
    good("verify", "secret.bin.suit", "--decrypt", KEY)


def test_a_request_does_not_leave_out_what_fwsign_toml_demands(groups: Path) -> None:
    with (groups / "fwsign.toml").open("a") as file:
        file.write('encrypt_to = "gateways"\n')
    before = tree(groups)
    found = run("digest", "secret.bin")
    words = "fwsign.toml has encrypt_to, and a request for files does not encrypt them"
    hint = (
        "fwsign sign encrypts; fwsign digest --cosign asks for a further signature of its envelope"
    )
    assert found.status == 2
    assert found.errors == [f"error: {words}", f"hint: {hint}"]
    assert tree(groups) == before
    good("pki", "issue", "signer", "second", "--no-passphrase")
    for more in ((), ("--embed", "--force")):
        good("sign", "secret.bin", *more)
        good("digest", "secret.bin.suit", "--cosign", "--signer", "second", "--force")
        found = json.loads(good("digest", "secret.bin.second.request", "--show", "--json"))
        words = "only encrypted, as it is to be signed: compare the digest with that of the file "
        assert found["payloads"] == {"secret.bin": f"{words}that you approve"}


@pytest.mark.usefixtures("groups")
def test_what_is_not_here_was_not_decrypted() -> None:
    sign()
    Path("secret.bin.enc").unlink()
    words = ("verify", "secret.bin.suit", "--manifest-only", "--decrypt", KEY)
    found = json.loads(good(*words, "--json"))
    (component,) = found["release"]["components"]
    assert (component["payload"], component["decrypted"]) == (None, False)
    assert "payload" in found["unchecked"]
    assert "and decrypted here" not in good(*words)


# --- who gets nothing -----------------------------------------------------------------------


def encrypting_to(group: object) -> list[str]:
    found = run("sign", "secret.bin", "--encrypt-to", group)
    assert found.status != 0
    assert not Path("secret.bin.enc").exists()
    assert not Path("secret.bin.suit").exists()
    return found.errors


@pytest.mark.usefixtures("groups")
def test_nothing_is_encrypted_to_a_signer() -> None:
    error, hint = encrypting_to("release")
    assert 'key usage of "release" must be keyAgreement and nothing else' in error
    assert 'nothing is encrypted to "release"' in error
    assert "fwsign pki issue encryption GROUP makes one" in hint


@pytest.mark.usefixtures("groups")
def test_nothing_is_encrypted_to_a_ca_or_a_tls_client() -> None:
    good("pki", "issue", "client", "broker.acme.example", "--no-passphrase")
    for name in ("issuing", "broker.acme.example"):
        assert f'nothing is encrypted to "{name}"' in encrypting_to(name)[0]


@pytest.mark.usefixtures("groups")
def test_nothing_is_encrypted_to_a_revoked_group() -> None:
    good("pki", "revoke", "gateways", "--reason", "keyCompromise")
    assert "revoked" in encrypting_to("gateways")[0]


@pytest.mark.usefixtures("groups")
def test_nothing_is_encrypted_to_an_expired_group(monkeypatch: pytest.MonkeyPatch) -> None:
    good("pki", "issue", "encryption", "short", "--for", "5d", "--no-passphrase")
    monkeypatch.setattr(inputs, "now", lambda: NOW + timedelta(6))
    assert 'certificate "short" expired' in encrypting_to("short")[0]


def test_the_group_of_another_ca_gets_nothing(groups: Path) -> None:
    where = ("--org", "Mallory", "--vendor", "acme.example", "--no-passphrase")
    good("pki", "init", "other", *where)
    good("pki", "issue", "encryption", "gateways", "--pki", "other", "--no-passphrase")
    error, _ = encrypting_to(groups / "other/issued/gateways.crt")
    assert 'the path ends at issuer "Mallory Issuing CA"' in error


@pytest.mark.usefixtures("groups")
def test_the_group_of_another_vendor_gets_nothing() -> None:
    where = ("--org", "Acme", "--vendor", "acme.example", "--permit", "b.example")
    good("pki", "init", "two", *where, "--no-passphrase")
    own = ("--pki", "two", "--no-passphrase")
    good("pki", "issue", "encryption", "theirs", "--vendor", "b.example", *own)
    found = run("sign", "secret.bin", "--pki", "two", "--encrypt-to", "theirs")
    words = 'the group "theirs" is for b.example, the release for acme.example'
    assert (found.status, found.errors[0]) == (1, f"error: {words}")


@pytest.mark.usefixtures("groups")
def test_an_unknown_group() -> None:
    error, hint = encrypting_to("nobody")
    assert error == 'error: there is no group "nobody" in pki, and no such file'
    assert hint == "hint: fwsign pki issue encryption nobody"


@pytest.mark.usefixtures("groups")
def test_a_group_of_another_curve_gets_no_certificate() -> None:
    found = run("pki", "issue", "encryption", "x", "--alg", "ed25519", "--no-passphrase")
    words = 'the key of "x" is Ed25519, payloads are encrypted to P-256 or P-384'
    assert (found.status, found.errors) == (5, [f"error: {words}"])
    assert not Path("pki/issued/x.crt").exists()
    good("pki", "issue", "encryption", "y", "--alg", "p384", "--no-passphrase")
    good("sign", "secret.bin", "--encrypt-to", "y")
    good("verify", "secret.bin.suit", "--decrypt", "pki/private/y.key")


@pytest.mark.usefixtures("groups")
def test_a_group_signs_nothing() -> None:
    found = run("sign", "secret.bin", "--signer", "gateways")
    assert found.status == 1
    assert 'key usage of "gateways" must have digitalSignature' in found.err


def test_a_groups_certificate_is_renewed_as_one(groups: Path) -> None:
    good("pki", "renew", "gateways", "--new-key", "--no-passphrase")
    good("pki", "verify", "pki/issued/gateways.crt", "--purpose", "encryption")
    assert not [one for one in run("pki", "lint").out.splitlines() if one.startswith("error")]
    sign()
    good("verify", "secret.bin.suit", "--decrypt", groups / KEY)


# --- keys that open it ----------------------------------------------------------------------


def test_another_group_is_told_for_whom_it_is(groups: Path) -> None:
    sign()
    own, wanted = key_of("pilots"), key_of("gateways")
    refused(
        run("verify", "secret.bin.suit", "--decrypt", groups / "pki/private/pilots.key"),
        4,
        f'the payload of "secret.bin" is encrypted to the keys {wanted}, this device has {own}',
        "--decrypt KEY is the key of such a group; fwsign show FILE lists the groups",
    )


@pytest.mark.usefixtures("groups")
def test_a_key_with_a_passphrase() -> None:
    env = {"GROUP_PASS": "correct horse battery"}
    protected = ("--pass", "env:GROUP_PASS")
    good("pki", "issue", "encryption", "locked", *protected, env=env)
    good("sign", "secret.bin", "--encrypt-to", "locked")
    opening = ("verify", "secret.bin.suit", "--decrypt", "pki/private/locked.key")
    good(*opening, "--decrypt-pass", "env:GROUP_PASS", env=env)
    found = run(*opening, "--decrypt-pass", "env:GROUP_PASS", env={"GROUP_PASS": "wrong"})
    assert found.status == 5
    assert "passphrase" in found.errors[0]
    assert "wrong" not in found.err.replace("wrong passphrase", "")
    found = run("verify", "secret.bin.suit", "--decrypt-pass", "env:GROUP_PASS", env=env)
    assert (found.status, "--decrypt-pass without --decrypt" in found.err) == (2, True)


@pytest.mark.usefixtures("groups")
def test_a_key_of_another_kind() -> None:
    sign()
    good("key", "new", "sign.key", "--alg", "ed25519", "--no-passphrase")
    found = run("verify", "secret.bin.suit", "--decrypt", "sign.key")
    words = "sign.key is a key of the kind Ed25519, payloads are encrypted to P-256 or P-384"
    assert (found.status, found.errors[0]) == (5, f"error: {words}")
    found = run("verify", "secret.bin.suit", "--decrypt", "pkcs11:object=group")
    words = "pkcs11:object=group is not in a file: tokens and services only sign here"
    assert (found.status, found.errors[0]) == (5, f"error: {words}")


def test_exchanged_keys_are_refused(groups: Path) -> None:
    """Whoever holds the channel can put the wrapped keys of another release there, and no more."""
    sign("--embed")
    first = decode_envelope((groups / "secret.bin.suit").read_bytes())
    sign("--embed", "--force")
    second = decode_envelope((groups / "secret.bin.suit").read_bytes())
    uri = keys_uri(0)
    swapped = {**second.integrated, uri: first.integrated[uri]}
    (groups / "x.suit").write_bytes(encode_envelope(second._replace(integrated=swapped)))
    found = run("verify", "x.suit", "--decrypt", KEY)
    assert found.status == 1
    assert "have a nonce, a header or an algorithm other than the signed one" in found.errors[0]


# --- rewrap ---------------------------------------------------------------------------------


def test_a_group_is_added_without_encrypting_or_signing(groups: Path) -> None:
    sign()
    before = tree(groups)
    digest = json.loads(good("verify", "secret.bin.suit", "--json"))["release"]["manifest_digest"]
    both = ("--encrypt-to", "gateways", "--encrypt-to", "pilots")
    shutil.rmtree(groups / "pki/private/release.key", ignore_errors=True)
    (groups / "pki/private/release.key").unlink()
    found = run("rewrap", "secret.bin.suit", *both, "--decrypt", KEY)
    assert (found.status, found.out) == (0, "secret.bin.suit\n")
    for name in ("gateways", "pilots"):
        key = f"pki/private/{name}.key"
        again = json.loads(good("verify", "secret.bin.suit", "--decrypt", key, "--json"))
        assert again["release"]["manifest_digest"] == digest
    assert (groups / "secret.bin.enc").read_bytes() == before["secret.bin.enc"]


@pytest.mark.parametrize("text", [True, False])
def test_the_keys_of_one_release_in_another_are_wrapped_for_nobody(
    groups: Path, text: bool
) -> None:
    """Else whoever holds the bucket could have a release opened for a group of his choice."""
    sign()
    decoded = decode_envelope((groups / "secret.bin.suit").read_bytes())
    manifest, _ = decode_content(decoded)
    stranger = make_ca("Nobody")
    signers = [(make_leaf(stranger), [stranger], ())]
    changed = manifest._replace(sequence_number=9)
    said = decoded.text if text else None
    forged = make_envelope(changed, signers, text=said, integrated=decoded.integrated)
    (groups / "demo.suit").write_bytes(forged)
    found = run("rewrap", "demo.suit", "--encrypt-to", "pilots", "--decrypt", KEY)
    assert found.status == 1
    words = 'the path ends at issuer "Nobody", the anchors are "Acme Root CA"'
    assert found.errors[0] == f"error: {words}; its keys are wrapped for nobody"
    assert (groups / "demo.suit").read_bytes() == forged


def test_a_release_without_its_text_is_wrapped_too(groups: Path) -> None:
    sign()
    path = groups / "secret.bin.suit"
    path.write_bytes(encode_envelope(decode_envelope(path.read_bytes())._replace(text=None)))
    good("rewrap", path, "--encrypt-to", "pilots", "--decrypt", KEY)
    good("verify", path, "--decrypt", "pki/private/pilots.key")


@pytest.mark.usefixtures("groups")
def test_a_group_that_is_left_out_cannot_open_it() -> None:
    sign()
    good("rewrap", "secret.bin.suit", "--encrypt-to", "pilots", "--decrypt", KEY, "-o", "new.suit")
    assert run("verify", "new.suit", "secret.bin.enc", "--decrypt", KEY).status == 4
    good("verify", "new.suit", "secret.bin.enc", "--decrypt", "pki/private/pilots.key")
    good("verify", "secret.bin.suit", "--decrypt", KEY)


def test_rewrap_needs_a_key_that_opens_it(groups: Path) -> None:
    sign()
    before = tree(groups)
    key = groups / "pki/private/pilots.key"
    found = run("rewrap", "secret.bin.suit", "--encrypt-to", "pilots", "--decrypt", key)
    assert (found.status, "is encrypted to the keys" in found.err) == (4, True)
    assert run("rewrap", "secret.bin.suit", "--encrypt-to", "pilots").status == 2
    assert run("rewrap", "secret.bin.suit", "--decrypt", KEY).status == 2
    good("pki", "revoke", "pilots", "--reason", "keyCompromise")
    found = run("rewrap", "secret.bin.suit", "--encrypt-to", "pilots", "--decrypt", KEY)
    assert (found.status, "revoked" in found.err) == (1, True)
    assert {one: before[one] for one in before if not one.startswith("pki")} == {
        name: data for name, data in tree(groups).items() if not name.startswith("pki")
    }


@pytest.mark.usefixtures("groups")
def test_rewrap_of_what_is_not_encrypted() -> None:
    good("sign", "build.bin")
    found = run("rewrap", "build.bin.suit", "--encrypt-to", "pilots", "--decrypt", KEY)
    words = "error: nothing in this release is encrypted"
    assert (found.status, found.errors[0]) == (5, words)


@pytest.mark.parametrize("inside", [True, False])
def test_show_compares_no_ciphertext_with_a_native_signature(tmp_path: Path, inside: bool) -> None:
    made, ciphertext = encrypted()
    (part,), _, members = described({"app.bin": made})
    (tmp_path / "app.bin.enc").write_bytes(ciphertext)
    if inside:
        part, members = part._replace(uri="#app.bin.enc"), {**members, "#app.bin.enc": ciphertext}
    envelope = Envelope(b"", (), b"", None, members)
    stated = StatedNative("esp-secure-boot-v2", None, (bytes(32),))
    found = native.card(tmp_path / "app.suit", envelope, part, stated)
    assert found["in the image"] == "not compared: the image is encrypted"


# --- boards ---------------------------------------------------------------------------------


@pytest.fixture
def image(groups: Path) -> Path:
    """An encrypted application for an ESP32-C3."""
    require_package("serial")
    require_package("esptool")
    shutil.copy(SAMPLES / "blink-esp32c3.bin", groups / "app.bin")
    good("sign", "app.bin", "--encrypt-to", "gateways")
    (groups / "app.bin").unlink()
    return groups


def test_a_station_of_the_group_flashes_the_plaintext(image: Path) -> None:
    port = "sim:esp32c3?flash=one.flash"
    good("flash", "app.bin.suit", "--port", port, "--decrypt", KEY)
    content = (SAMPLES / "blink-esp32c3.bin").read_bytes()
    assert content in (image / "one.flash").read_bytes()


def test_a_station_outside_the_group_flashes_nothing(image: Path) -> None:
    flashing = ("flash", "app.bin.suit", "--port", "sim:esp32c3?flash=one.flash")
    found = run(*flashing, "--decrypt", "pki/private/pilots.key")
    assert (found.status, "is encrypted to the keys" in found.errors[0]) == (4, True)
    found = run(*flashing)
    words = 'the payload of "esp32c3@0x10000" is encrypted, and no key was given'
    hint = "--decrypt KEY is the key of such a group; fwsign show FILE lists the groups"
    assert (found.status, found.errors) == (4, [f"error: {words}", f"hint: {hint}"])
    assert not (image / "one.flash").exists()


@pytest.mark.usefixtures("image")
def test_no_plaintext_for_a_chip_that_demands_ciphertext() -> None:
    """The chip's own flash encryption is another thing: it would decrypt what it reads."""
    port = "sim:esp32c3?lock=flash-encryption&flash=one.flash"
    found = run("flash", "app.bin.suit", "--port", port, "--decrypt", KEY)
    assert found.status == 4
    assert "flash encryption" in found.err
    assert "fwsign cannot flash boards with flash encryption" in found.err


# --- nothing secret leaves ------------------------------------------------------------------


def test_key_and_plaintext_are_in_no_output(groups: Path) -> None:
    sign()
    arguments = ("verify", "secret.bin.suit", "--decrypt", KEY)
    env = {**os.environ, "FWSIGN_DEBUG": "1"}
    pem = (groups / KEY).read_text().splitlines()[1]
    spoilt = bytearray((groups / "secret.bin.enc").read_bytes())
    spoilt[70] ^= 1
    statuses = []
    for content in ((groups / "secret.bin.enc").read_bytes(), bytes(spoilt)):
        (groups / "secret.bin.enc").write_bytes(content)
        for more in ((), ("--json",)):
            found = run(*arguments, *more, env=env)
            assert pem not in found.out + found.err
            assert "the secret of" not in found.out + found.err
            statuses.append(found.status)
    assert statuses == [0, 0, 1, 1]


def test_a_large_payload_is_not_in_memory(today: Path) -> None:
    """Signing and verifying take a bounded amount of memory, whatever the payload's size."""
    good("pki", "issue", "encryption", "gateways", "--no-passphrase")
    with (today / "large").open("wb") as file:
        file.truncate(192 << 20)
    for arguments in (
        ("sign", "large", "--encrypt-to", "gateways"),
        ("verify", "large.suit", "--decrypt", KEY),
    ):
        done = program(*arguments, preexec_fn=_limit)
        assert done.returncode == 0, done.stderr


def _limit() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (160 << 20, 160 << 20))


# --- two files, one pair --------------------------------------------------------------------

AGAIN = ("sign", "secret.bin", "--encrypt-to", "gateways", "--force")
TORN = "where a run of fwsign sign was stopped, sign again with --force"
posix = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")


def pair() -> tuple[bytes, bytes]:
    return Path("secret.bin.suit").read_bytes(), Path("secret.bin.enc").read_bytes()


def fits() -> bool:
    """Tell whether envelope and ciphertext are of one signing; if not, the hint says what to do."""
    found = run("verify", "secret.bin.suit", "--decrypt", KEY)
    if found.status == 0:
        return True
    assert found.status == 1, found
    assert "the signed one is" in found.errors[0], found
    assert TORN in found.errors[1], found
    return False


@posix
def test_a_kill_at_each_step_leaves_a_pair_or_a_refusal_that_helps(
    groups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(groups)
    sign()
    old, states, step = pair(), [], 0
    while True:
        for name, data in zip(("secret.bin.suit", "secret.bin.enc"), old, strict=True):
            Path(name).write_bytes(data)
        child = os.fork()
        if child == 0:  # it dies before or after the rename of this number, as by SIGKILL
            _die_at(step)
            try:
                run(*AGAIN)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        new = pair()
        states.append((new[0] != old[0], new[1] != old[1], fits()))
        assert states[-1][2] is (states[-1][0] is states[-1][1])
        if os.waitstatus_to_exitcode(status) == 0:
            break
        step += 1
    assert states[0] == (False, False, True)
    assert (False, True, False) in states  # the one moment in which it is torn
    assert states[-1] == (True, True, True)
    good(*AGAIN)
    assert fits()


def _die_at(step: int) -> None:
    """Let this process die before (even steps) or after a rename."""
    rename, seen = Path.replace, itertools.count()

    def replace(self: Path, target: Path) -> Path:
        if next(seen) == step:
            os._exit(9)
        done = rename(self, target)
        if next(seen) == step:
            os._exit(9)
        return done

    Path.replace = replace  # type: ignore[method-assign, assignment]


@posix
def test_a_full_disk_after_the_ciphertext_says_what_to_do(
    groups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(groups)
    sign()
    old = pair()

    def full(path: Path, *_: object, **__: object) -> None:
        raise Failed("io.full", f"cannot write {path}: no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("fwsign.cli.sign.written.write_atomic", full)
        hint = "the new ciphertext is there, and fits the new envelope alone; the same command"
        message = "cannot write secret.bin.suit: no space left on device"
        found = run(*AGAIN)
        refused(found, 5, message, f"{hint} with --force signs anew")
        found = run(*AGAIN, "--json")
        assert found.status == 5
        assert hint in json.loads(found.out)["hint"]
    assert pair()[0] == old[0]
    assert not fits()
    good(*AGAIN)
    assert fits()


@posix
def test_two_that_sign_one_file_at_once_take_turns(
    groups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(groups)
    sign()
    write, tries = write_atomic, []

    def between(path: Path, data: bytes, **more: Any) -> None:
        handle = os.open(groups, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tries.append("waits")
        finally:
            os.close(handle)
        write(path, data, **more)

    monkeypatch.setattr(written, "write_atomic", between)
    good(*AGAIN)
    assert tries == ["waits"]
    handle = os.open(groups, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it is free again
    os.close(handle)
    monkeypatch.setattr(written, "write_atomic", write)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(program, *AGAIN, cwd=groups) for _ in range(2)]
    assert [one.result().returncode for one in both] == [0, 0]
    assert fits()
    assert not [one for one in groups.iterdir() if one.name.startswith((".secret", ".lock"))]
