"""`fwsign digest` and `fwsign attach`: the signature is made by other programs."""

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bao_kit import Bao, bao  # noqa: F401 - a fixture
from cli.kit import good, refused, run, tree
from fwsign.format.envelope import decode_envelope
from fwsign.keys.file import FileSigner, load_private_key
from fwsign.pki.log import read_log
from fwsign.signing import attach as attaching
from fwsign.signing.request import read_request
from softhsm_kit import SoftHsm, softhsm  # noqa: F401 - a fixture
from support import PAYLOAD, require_program

TBS = "build.bin.tbs"


def call(*arguments: object, stdin: bytes | None = None) -> bytes:
    """Run another program, which has to succeed; return its output."""
    program, *rest = map(str, arguments)
    done = subprocess.run(
        [require_program(program), *rest], capture_output=True, check=False, input=stdin, timeout=60
    )
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture
def away(project: Path) -> Path:
    """A project whose signer's key is elsewhere: in the file away.key."""
    shutil.move(project / "pki/private/release.key", project / "away.key")
    return project


def signer(directory: Path, alg: str, name: str) -> Path:
    """Issue a signer, and take its key away; return the key's path."""
    more = ("--vendor", "acme.example", "--alg", alg, "--no-passphrase")
    good("pki", "issue", "signer", name, *more)
    return Path(shutil.move(directory / f"pki/private/{name}.key", directory / f"{name}.key"))


def sign(key: Path, message: Path, to: Path) -> None:
    """Sign as fwsign itself would, where no other program is the subject."""
    to.write_bytes(FileSigner(load_private_key(key, lambda: None)).sign(message.read_bytes()))


def counted(envelope: str = "build.bin.suit", *more: object) -> list[str]:
    found = json.loads(good("verify", envelope, "--json", *more))
    return [one["name"] for one in found["release"]["signers"] if one["counts"]]


# --- the way there and back -------------------------------------------------------------------


@pytest.mark.usefixtures("away")
def test_the_page_is_the_same_on_both_sides(tmp_path: Path) -> None:
    here = good("digest", "build.bin", "--version", "2.4.1", "--sequence", "7")
    assert here.splitlines()[:8] == [
        "what is to be signed",
        "",
        "  product      gateway-x1 2.4.1",
        "  vendor       acme.example",
        "  sequence     7, as a time 1970-01-01 00:00:07 UTC",
        "  component    build.bin, 800 bytes, payload build.bin",
        *here.splitlines()[6:8],
    ]
    there = tmp_path / "there"
    there.mkdir()
    shutil.copy("build.bin.request", there)
    shown = good("digest", "--show", there / "build.bin.request")
    unseen = "no: compare its digest with that of the file that you approve"
    assert f"    here       {unseen}\n" in shown
    assert shown.replace(f"    here       {unseen}\n", "") == here
    shutil.copy("build.bin", there)
    shown = good("digest", "--show", there / "build.bin.request")
    assert "    here       yes, with this size and digest\n" in shown
    words = here.splitlines()[-4:]
    assert len("".join(words).replace("words", "").split()) == 16


@pytest.mark.usefixtures("away")
@pytest.mark.parametrize("letter", ["x", "\u754c"])
def test_no_text_looks_like_a_row_of_the_page(letter: str) -> None:
    fake = ["  words      ", "acorn acorn acorn acorn", *(" " * 50, "  to sign      94 bytes") * 9]
    page = good("digest", "build.bin", "--description", f"{letter * 40} {'  '.join(fake)}")
    lines = page.splitlines()
    assert max(len(one) + sum(not part.isascii() for part in one) for one in lines) < 80
    assert [one.split()[0] for one in lines if one[:4].strip()].count("to") == 1
    assert [one.split()[0] for one in lines if one[:4] == "    "].count("words") == 1
    assert len([one for one in lines if one.startswith(" " * 15)]) > 8


@pytest.mark.usefixtures("away")
def test_what_was_written() -> None:
    found = run("digest", "build.bin")
    assert found.err.splitlines() == [
        "fwsign: written: build.bin.request",
        "fwsign: written: build.bin.tbs",
        'fwsign: "release" signs build.bin.tbs',
        "fwsign: next: fwsign attach build.bin.request SIGNATURE",
    ]
    wanted = read_request(Path("build.bin.request").read_bytes())
    assert Path(TBS).read_bytes() == wanted.message
    assert good("show", "build.bin.request").startswith(
        "kind: signature request: fwsign digest --show FILE prints the page to compare\n"
    )
    (told,) = json.loads(good("show", "build.bin.request", "--json"))["content"]
    assert told["vendor"] == "acme.example"


def test_the_envelope_is_verified_written_and_logged(away: Path) -> None:
    good("digest", "build.bin")
    sign(away / "away.key", away / TBS, away / "sig")
    found = run("attach", "build.bin.request", "sig")
    assert (found.status, found.out) == (0, "build.bin.suit\n")
    assert found.err == (
        'fwsign: signed by "release"; valid signatures: "release"\n'
        "fwsign: next: fwsign verify build.bin.suit\n"
    )
    assert counted() == ["release"]
    *_, line = read_log(away / "pki")
    told = json.loads(good("verify", "build.bin.suit", "--json"))
    assert line.content["kind"] == "attach"
    assert line.content["place"] == "elsewhere"
    assert line.content["sha256"] == told["release"]["manifest_digest"]


def test_programs_read_it_as_json(away: Path) -> None:
    told = json.loads(good("digest", "build.bin", "--json"))
    assert told["verdict"] == "requested"
    (one,) = told["requests"]
    assert one["files"] == ["build.bin.request", TBS]
    assert bytes.fromhex(one["to_sign"]) == Path(TBS).read_bytes()
    shown = json.loads(good("digest", "--show", "build.bin.request", "--json"))
    assert shown["to_sign"] == one["to_sign"]
    assert shown["compared"] == [TBS]
    assert shown["payloads"] == {"build.bin": "yes, with this size and digest"}
    sign(away / "away.key", away / TBS, away / "sig")
    found = json.loads(good("attach", "build.bin.request", "sig", "--json"))
    assert (found["verdict"], found["envelope"]) == ("attached", "build.bin.suit")
    assert [one["name"] for one in found["signers"]] == ["release"]


def test_without_a_pki_the_certificates_name_the_signer(away: Path, tmp_path: Path) -> None:
    names = ("issued/release.crt", "issued/issuing.crt", "ca.crt")
    chain = b"".join((away / "pki" / name).read_bytes() for name in names)
    (tmp_path / "chain.pem").write_bytes(chain)
    (tmp_path / "root.pem").write_bytes((away / "pki/ca.crt").read_bytes())
    shutil.move(away / "pki", away / "hidden")
    (away / "fwsign.toml").unlink()
    crls = ("--crl", "hidden/crl/issuing.pem", "--crl", "hidden/crl/ca.pem")
    good("digest", "build.bin", "--chain", "chain.pem", "--product", "gateway-x1", *crls)
    sign(away / "away.key", away / TBS, away / "sig")
    found = run("attach", "build.bin.request", "sig")
    refused(
        found,
        2,
        "no anchor given, and no fwsign.toml found",
        "name the root with --anchor PEM; a PKI with --pki DIR",
    )
    found = run("attach", "build.bin.request", "sig", "--anchor", "root.pem")
    assert found.status == 0
    assert (
        'fwsign: in no log: the key is of no PKI, and fwsign.toml has no log = "FILE"' in found.err
    )
    assert counted("build.bin.suit", "--anchor", "root.pem") == ["release"]


def test_several_files_and_several_components(away: Path) -> None:
    (away / "other.bin").write_bytes(b"other")
    found = good("digest", "build.bin", "other.bin")
    assert found.count("what is to be signed\n") == 2
    assert {"build.bin.request", "other.bin.request"} <= tree(away).keys()
    good("digest", "build.bin", "other.bin", "-o", "all.request")
    assert read_request((away / "all.request").read_bytes()).manifest.components[1].size == 5
    sign(away / "away.key", away / "all.tbs", away / "sig")
    assert good("attach", "all.request", "sig") == "all.suit\n"


def test_payloads_inside_go_with_the_request(away: Path) -> None:
    good("digest", "build.bin", "--embed")
    (away / "build.bin").unlink()
    assert "    here       yes, in the request\n" in good("digest", "--show", "build.bin.request")
    sign(away / "away.key", away / TBS, away / "sig")
    good("attach", "build.bin.request", "sig")
    assert counted() == ["release"]


def test_documents_are_on_the_page_and_in_the_envelope(away: Path) -> None:
    (away / "sbom.spdx.json").write_text('{"spdxVersion": "SPDX-2.3"}')
    page = good("digest", "build.bin", "--attach", "sbom.spdx.json")
    assert "  document     sbom.spdx.json, 27 bytes, " in page
    sign(away / "away.key", away / TBS, away / "sig")
    good("attach", "build.bin.request", "sig")
    assert counted() == ["release"]


# --- several people ---------------------------------------------------------------------------


def test_several_people_sign_one_envelope(away: Path) -> None:
    bob, carol = signer(away, "ed25519", "bob"), signer(away, "ml-dsa-65", "carol")
    good("digest", "build.bin")
    good("digest", "--cosign", "build.bin.request", "--signer", "bob")
    sign(away / "away.key", away / TBS, away / "sig")
    good("attach", "build.bin.request", "sig")
    sign(bob, away / "build.bin.bob.tbs", away / "bob.sig")
    found = run("attach", "build.bin.bob.request", "bob.sig")
    assert found.out == "build.bin.suit\n"
    assert 'signed by "bob"; valid signatures: "release", "bob"\n' in found.err
    good("digest", "--cosign", "build.bin.suit", "--signer", "carol", "--mu")
    sign(carol, away / "build.bin.carol.tbs", away / "carol.sig")
    good("attach", "build.bin.carol.request", "carol.sig")
    assert counted("build.bin.suit", "--require", 3) == ["release", "bob", "carol"]
    kinds = [(one.content["kind"], one.content["name"]) for one in read_log(away / "pki")]
    assert kinds[-3:] == [("attach", "build.bin.suit")] * 3


def test_a_request_says_who_has_signed(away: Path) -> None:
    signer(away, "p256", "bob")
    good("digest", "build.bin")
    sign(away / "away.key", away / TBS, away / "sig")
    good("attach", "build.bin.request", "sig")
    page = good("digest", "--cosign", "build.bin.suit", "--signer", "bob")
    assert "  signed by    release, which is not verified here\n" in page
    assert "  signer       bob, with ESP256\n" in page
    refused(
        run("digest", "--cosign", "build.bin.suit"),
        5,
        'the key of "release" has signed this already',
        "a key counts once; ask somebody else, or nobody",
    )


def test_a_signature_of_the_wrong_person_is_told(away: Path) -> None:
    bob = signer(away, "p256", "bob")
    good("digest", "build.bin")
    sign(bob, away / TBS, away / "sig")
    refused(
        run("attach", "build.bin.request", "sig"),
        5,
        'the signature is by the key of "bob", this request is for "release"',
        "attach it to the request that was made for that signer",
    )


def test_two_people_who_attach_at_once_lose_no_signature(
    away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = signer(away, "p256", "bob")
    good("digest", "build.bin")
    good("digest", "--cosign", "build.bin.request", "--signer", "bob")
    sign(away / "away.key", away / TBS, away / "sig")
    sign(bob, away / "build.bin.bob.tbs", away / "bob.sig")
    real = attaching.accepted

    def meanwhile(*given: Any, **more: Any) -> Any:
        monkeypatch.setattr(attaching, "accepted", real)
        good("attach", "build.bin.bob.request", "bob.sig")
        return real(*given, **more)

    monkeypatch.setattr(attaching, "accepted", meanwhile)
    refused(
        run("attach", "build.bin.request", "sig"),
        5,
        "build.bin.suit has changed since it was read: somebody else attaches a signature",
        "attach it again: both signatures are then in it",
    )
    assert counted() == ["bob"]
    good("attach", "build.bin.request", "sig")
    assert counted("build.bin.suit", "--require", 2) == ["bob", "release"]


# --- refusals ---------------------------------------------------------------------------------


def test_nothing_is_replaced_unless_forced(away: Path) -> None:
    good("digest", "build.bin")
    before = tree(away)
    hint = "--force replaces requests, and what is to be signed"
    refused(run("digest", "build.bin"), 5, "build.bin.request exists already", hint)
    assert tree(away) == before
    good("digest", "build.bin", "--sequence", "9", "--force")
    assert tree(away)[TBS] != before[TBS]
    (away / TBS).write_text("notes of mine, which are no bytes to sign")
    refused(
        run("digest", "build.bin", "--force"),
        5,
        "build.bin.tbs exists already and is not what is to be signed",
        "choose another name, or remove it yourself",
    )


def test_an_envelope_of_another_release_stays(away: Path) -> None:
    good("digest", "build.bin", "--sequence", "7")
    sign(away / "away.key", away / TBS, away / "sig")
    good("attach", "build.bin.request", "sig")
    good("digest", "build.bin", "--sequence", "8", "--force")
    sign(away / "away.key", away / TBS, away / "sig")
    before = tree(away)
    refused(
        run("attach", "build.bin.request", "sig"),
        5,
        "build.bin.suit exists already, and is not of this release",
        "--force replaces another envelope; --output names another file",
    )
    assert tree(away) == before
    good("attach", "build.bin.request", "sig", "--force")
    assert json.loads(good("verify", "build.bin.suit", "--json"))["release"]["sequence_number"] == 8
    refused(
        run("attach", "build.bin.request", "sig", "-o", "build.bin.request"),
        5,
        "build.bin.request is a request itself",
        "name the envelope with --output FILE",
    )
    refused(
        run("attach", "build.bin.request", "sig", "-o", "build.bin", "--force"),
        5,
        "build.bin exists already and is not an envelope",
        "choose another name, or remove it yourself",
    )


def test_changed_files_on_the_other_side_are_refused(away: Path) -> None:
    good("digest", "build.bin")
    (away / "build.bin").write_bytes(PAYLOAD[:-1] + b"x")
    found = run("digest", "--show", "build.bin.request")
    assert (found.status, found.out) == (1, "")
    assert "build.bin" in found.errors[0]
    (away / "build.bin").write_bytes(PAYLOAD)
    (away / TBS).write_bytes(b"\x84jSignature1 of something else")
    found = run("digest", "--show", "build.bin.request")
    assert (found.status, found.out) == (1, "")
    assert found.errors[0].startswith(
        "error: build.bin.tbs is not what build.bin.request asks to sign: it has 846a5369"
    )
    assert found.errors[1] == "hint: do not sign it; find out who brought it"


def test_a_request_that_was_changed_on_the_way_fits_no_signature(away: Path) -> None:
    good("digest", "build.bin", "--sequence", "7")
    first = (away / "build.bin.request").read_bytes()
    sign(away / "away.key", away / TBS, away / "sig")
    good("digest", "build.bin", "--sequence", "8", "--force")
    before = tree(away)
    found = run("attach", "build.bin.request", "sig")
    assert (found.status, found.out) == (1, "")
    assert found.errors[0].startswith(
        'error: not the signature of "release" that the request asks for: it is over other bytes '
        "than those with SHA-256 "
    )
    assert tree(away) == before
    (away / "build.bin.request").write_bytes(first)
    good("attach", "build.bin.request", "sig")


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (("--cosign", "--show", "x"), "--cosign and --show exclude each other", None),
        (
            ("build.bin", "-o", "-"),
            "--output - has no room for a request and what is to be signed",
            "name a file",
        ),
        (("--prehash", "--mu", "x"), "--prehash and --mu exclude each other", "--mu is for ML-DSA"),
        (
            ("build.bin", "--chain", "a.pem", "--signer", "b"),
            "--chain and --signer exclude each other",
            None,
        ),
        (
            ("--cosign", "a.suit", "b.suit", "-o", "x"),
            "--output with several envelopes",
            "each gets a request of its own",
        ),
        (
            ("--show", "build.bin.request", "wrong.bin", "build.bin"),
            "wrong.bin is no payload of the request",
            "its payloads are build.bin",
        ),
    ],
)
@pytest.mark.usefixtures("away")
def test_options_that_mean_nothing(
    arguments: tuple[str, ...], error: str, hint: str | None
) -> None:
    good("digest", "build.bin")
    found = run("digest", *arguments)
    refused(found, 2, error, hint or "fwsign digest --help shows how")


def test_what_is_no_request(away: Path) -> None:
    good("digest", "build.bin")
    sign(away / "away.key", away / TBS, away / "sig")
    good("attach", "build.bin.request", "sig")
    found = run("attach", "build.bin.suit", "sig")
    assert found.status == 5
    assert found.errors[0].startswith("error: no signature request: 0 of 1 blocks wait")
    found = run("digest", "--show", "build.bin")
    assert found.status == 1
    assert found.errors[1] == "hint: did you mean build.bin.request?"
    found = run("attach", "pki/ca.crt", "sig")
    assert found.errors[1] == (
        "hint: pki/ca.crt is not an envelope; fwsign show pki/ca.crt tells what it is"
    )


@pytest.mark.parametrize("command", ["verify", "cosign", "flash"])
def test_a_request_in_the_place_of_an_envelope_is_told(command: str, away: Path) -> None:
    good("digest", "build.bin")
    (away / "build.bin.suit").write_bytes((away / "build.bin.request").read_bytes())
    more = ("--port", "sim:esp32c3", "--no-rollback-check") if command == "flash" else ()
    for name in ("build.bin.request", "build.bin.suit"):
        refused(
            run(command, name, *more),
            1,
            "ESP256 signature does not verify",
            "it waits for its signature: fwsign attach REQUEST SIGNATURE",
        )
    data = bytearray((away / "build.bin.request").read_bytes())
    data[0] ^= 1  # no envelope at all: the hint of those stays
    (away / "build.bin.request").write_bytes(data)
    assert "waits for its signature" not in run(command, "build.bin.request", *more).err


def test_a_signer_that_no_device_would_accept_is_not_asked(away: Path) -> None:
    good("pki", "revoke", "release", "--reason", "keyCompromise")
    before = tree(away)
    found = run("digest", "build.bin")
    assert found.status == 1
    assert "revoked" in found.errors[0]
    assert tree(away) == before


def test_a_log_that_cannot_be_written_lets_nothing_out(away: Path) -> None:
    good("digest", "build.bin")
    sign(away / "away.key", away / TBS, away / "sig")
    (away / "pki/log.jsonl").unlink()
    (away / "pki/log.jsonl").mkdir()
    before = tree(away)
    found = run("attach", "build.bin.request", "sig")
    assert found.status == 5
    assert found.errors[0] == "error: cannot write pki/log.jsonl: is a directory"
    assert found.errors[1].startswith(
        "hint: what is signed is logged first, so nothing was written"
    )
    assert tree(away) == before


# --- the tools --------------------------------------------------------------------------------


def openssl(key: object, to: str, *more: object, message: str = TBS) -> None:
    call("openssl", "pkeyutl", "-sign", "-inkey", key, "-in", message, "-out", to, *more)


PSS = ("-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:digest")
SHA256 = ("-digest", "sha256")


@pytest.mark.parametrize(
    ("alg", "digest", "options"),
    [
        ("p256", "sha256", ()),
        ("p384", "sha384", ("-digest", "sha384")),
        ("ed25519", "", ()),
        ("rsa3072", "sha256", (*SHA256, *PSS)),
    ],
)
def test_openssl_signs_it(away: Path, alg: str, digest: str, options: tuple[str, ...]) -> None:
    key = signer(away, alg, "one")
    more = ("--prehash",) if digest else ()
    good("digest", "build.bin", "--signer", "one", *more)
    openssl(key, "one.sig", "-rawin", *options)
    assert good("attach", "build.bin.request", "one.sig") == "build.bin.suit\n"
    assert counted() == ["one"]
    if not digest:
        return
    unhashed = ("-pkeyopt", f"digest:{digest}", *options[2:])
    openssl(key, "two.sig", *unhashed, message=f"{TBS}.{digest}")
    assert good("attach", "build.bin.request", "two.sig", "-o", "two.suit") == "two.suit\n"
    assert counted("two.suit", "build.bin") == ["one"]


def test_openssl_with_wrong_options_is_told_which(away: Path) -> None:
    good("digest", "build.bin", "--prehash")
    key = "away.key"
    attempts: list[tuple[tuple[str, ...], str, str]] = [
        (("-rawin", "-digest", "sha384"), TBS, "made with SHA-384, expected SHA-256"),
        (("-rawin",), f"{TBS}.sha256", "the SHA-256 of these bytes, hashed once more"),
        (("-rawin",), "build.bin.request", "it is over the request itself, not the bytes beside"),
    ]
    for options, message, words in attempts:
        openssl(key, "sig", *options, message=message)
        found = run("attach", "build.bin.request", "sig")
        assert (found.status, words in found.errors[0]) == (1, True), found
    rsa = signer(away, "rsa3072", "two")
    good("digest", "build.bin", "--signer", "two", "--force")
    for options, words in (
        (SHA256, "the padding of PKCS #1 v1.5, expected PSS"),
        ((*SHA256, *PSS[:3], "rsa_pss_saltlen:20"), "a salt of 20 bytes, expected SHA-256 and 32"),
        ((*SHA256, *PSS[:3], "rsa_pss_saltlen:max"), "a salt of 350 bytes"),
    ):
        openssl(rsa, "sig", "-rawin", *options)
        found = run("attach", "build.bin.request", "sig")
        assert (found.status, words in found.errors[0]) == (1, True), found
    assert not (away / "build.bin.suit").exists()


@pytest.mark.parametrize(
    ("alg", "options"),
    [
        ("p256", ("--mechanism", "ECDSA")),
        ("p256", ("--mechanism", "ECDSA", "--signature-format", "openssl")),
        ("p384", ("--mechanism", "ECDSA")),
        ("ed25519", ("--mechanism", "EDDSA")),
        ("rsa3072", ("--mechanism", "RSA-PKCS-PSS", "--hash-algorithm", "SHA256")),
    ],
)
def test_a_token_signs_it_with_pkcs11_tool(
    away: Path,
    softhsm: SoftHsm,  # noqa: F811 - the fixture
    alg: str,
    options: tuple[str, ...],
) -> None:
    label = f"attach-{alg}-{len(options)}"
    key = signer(away, alg, "one")
    softhsm.put(load_private_key(key, lambda: None), label)
    digested = alg != "ed25519"
    good("digest", "build.bin", "--signer", "one", *(["--prehash"] if digested else []))
    digest = {"p384": ".sha384", "ed25519": ""}.get(alg, ".sha256")
    login = ("--login", "--pin", softhsm.pin, "--token-label", softhsm.token)
    own = max(softhsm.folder.glob("*.p8")).stem  # pkcs11-tool finds keys by their ids alone
    what = ("--sign", "--id", own, "--input-file", TBS + digest, "--output-file", "sig")
    if alg == "rsa3072":
        options = (*options, "--mgf", "MGF1-SHA256", "--salt-len", "32")
    call("pkcs11-tool", "--module", softhsm.module, *login, *what, *options)
    good("attach", "build.bin.request", "sig")
    assert counted() == ["one"]


def test_ssh_keygen_signs_another_structure_and_is_told_so(away: Path) -> None:
    key = signer(away, "ed25519", "one")
    good("digest", "build.bin", "--signer", "one")
    good("key", "convert", key, "ssh.key", "--to", "openssh", "--no-passphrase")
    Path("ssh.key").chmod(0o600)
    call("ssh-keygen", "-Y", "sign", "-f", "ssh.key", "-n", "file", TBS)
    found = run("attach", "build.bin.request", f"{TBS}.sig")
    assert found.status == 5
    assert "a signature of ssh-keygen, which signs a structure of its own" in found.errors[0]


def test_ml_dsa_by_its_mu(away: Path) -> None:
    key: Any = load_private_key(signer(away, "ml-dsa-65", "one"), lambda: None)
    good("digest", "build.bin", "--signer", "one", "--mu")
    mu = (away / f"{TBS}.mu").read_bytes()
    assert len(mu) == 64
    (away / "sig").write_bytes(key.sign_mu(mu))
    good("attach", "build.bin.request", "sig")
    assert counted() == ["one"]


@pytest.mark.parametrize(("alg", "hashed"), [("p256", "sha2-256"), ("ml-dsa-65", None)])
def test_what_openbao_prints_is_attached(
    away: Path,
    bao: Bao,  # noqa: F811 - the fixture
    alg: str,
    hashed: str | None,
) -> None:
    key = bao.make(alg, f"attach-{alg}")
    vendor = ("--vendor", "acme.example")
    good("pki", "issue", "signer", "one", *vendor, "--key", key, env=bao.environment())
    good("digest", "build.bin", "--signer", "one")
    asked = {"input": base64.b64encode((away / TBS).read_bytes()).decode()}
    path = f"transit/sign/attach-{alg}" + (f"/{hashed}" if hashed else "")
    (away / "sig").write_text(bao.api("POST", path, asked).body["data"]["signature"])
    assert (away / "sig").read_text().startswith("vault:v1:")
    good("attach", "build.bin.request", "sig")
    assert counted() == ["one"]


def test_the_offline_side_writes_the_bytes_from_the_request_alone(away: Path) -> None:
    good("digest", "build.bin", "--prehash")
    for path in away.glob("build.bin.tbs*"):
        path.rename(path.with_suffix(path.suffix + ".old"))
    good("digest", "--show", "build.bin.request", "-o", "mine.tbs")
    assert (away / "mine.tbs").read_bytes() == (away / f"{TBS}.old").read_bytes()
    good("digest", "--show", "build.bin.request", "--prehash", "-o", "mine.sha256")
    assert (away / "mine.sha256").read_bytes() == (away / f"{TBS}.sha256.old").read_bytes()


def test_a_signature_comes_by_a_pipe(away: Path) -> None:
    good("digest", "build.bin")
    sign(away / "away.key", away / TBS, away / "sig")
    data = (away / "sig").read_bytes().hex()
    assert good("attach", "build.bin.request", "-", stdin=data) == "build.bin.suit\n"
    assert decode_envelope((away / "build.bin.suit").read_bytes()).blocks
