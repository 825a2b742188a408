"""`fwsign cosign`: one more signature, of all of which every one is verified; and policies."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cli.kit import good, refused, run
from fwsign.errors import Failed
from fwsign.format import cbor
from fwsign.format.cose import decode_block
from fwsign.format.envelope import decode_envelope
from fwsign.keys.file import FileSigner
from fwsign.pki.directory import Pki
from hostile import blocks_in, with_blocks
from native_kit import key_file
from people_kit import key_of

ENVELOPE = "build.bin.suit"
PEOPLE = ("alice", "bob", "dora")


@pytest.fixture(scope="module")
def team_made(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with people, a post-quantum signer, and an envelope that alice has signed."""
    from fwsign.cli import inputs
    from support import NOW

    place = tmp_path_factory.mktemp("team") / "project"
    shutil.copytree(made, place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "now", lambda: NOW)
        patch.chdir(place)
        for one in PEOPLE:
            good("pki", "issue", "signer", one, "--no-passphrase")
        good("pki", "issue", "signer", "pq", "--alg", "ml-dsa-65", "--no-passphrase")
        good("sign", "build.bin", "--signer", "alice")
    return place


@pytest.fixture
def team(team_made: Path, tmp_path: Path) -> Path:
    shutil.copytree(team_made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def spki(name: str) -> str:
    return key_of(Pki(Path("pki")).certificate(name))


def policy(text: str, *algorithms: str, **roles: str) -> str:
    """Write a table [policy] whose roles are inline tables."""
    below = spki("issuing")
    names = {one: f'{{ name = "{one}", below = "{below}" }}' for one in (*PEOPLE, "pq", "carol")}
    lines = [f"{label} = {role}" for label, role in (names | roles).items()]
    kinds = f"algorithms = {json.dumps(list(algorithms))}\n" if algorithms else ""
    return f'[policy]\nsigners = "{text}"\n{kinds}[policy.roles]\n' + "\n".join(lines) + "\n"


def settle(text: str, *algorithms: str) -> None:
    """Put a policy into fwsign.toml."""
    path = Path("fwsign.toml")
    path.write_text(path.read_text() + policy(text, *algorithms))


def cosigned(*arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(good("cosign", *arguments, "--json"))
    return found


def signers(envelope: str = ENVELOPE) -> list[str]:
    told = json.loads(good("verify", envelope, "--json"))
    return [one["name"] for one in told["release"]["signers"]]


# --- one more signature ---------------------------------------------------------------------


@pytest.mark.usefixtures("team")
def test_a_second_signature_goes_in() -> None:
    before = Path(ENVELOPE).read_bytes()
    found = run("cosign", ENVELOPE, "--signer", "bob")
    assert (found.status, found.out) == (0, f"{ENVELOPE}\n")
    assert "fwsign: build.bin.suit: gateway-x1, acme.example, sequence" in found.err
    assert 'signed by "alice" (ESP256)' in found.err
    old, new = decode_envelope(before), decode_envelope(Path(ENVELOPE).read_bytes())
    assert new.blocks[:1] == old.blocks
    assert (new.digest, new.manifest, new.text) == (old.digest, old.manifest, old.text)
    assert signers() == ["alice", "bob"]
    assert run("verify", ENVELOPE, "--require", "2").status == 0


@pytest.mark.usefixtures("team")
def test_signing_again_changes_nothing_and_opens_no_key() -> None:
    first = cosigned(ENVELOPE, "--signer", "bob")
    assert [one["result"] for one in first["envelopes"]] == ["signed"]
    assert first["envelopes"][0]["signers"] == ['"alice" (ESP256)', '"bob" (ESP256)']
    before = Path(ENVELOPE).read_bytes()
    Path("pki/private/bob.key").unlink()
    again = cosigned(ENVELOPE, "--signer", "bob")
    assert [one["result"] for one in again["envelopes"]] == ["already signed"]
    assert Path(ENVELOPE).read_bytes() == before
    assert "already signed" in run("cosign", ENVELOPE, "--signer", "bob").err


@pytest.mark.usefixtures("team")
def test_the_same_key_with_another_certificate_is_refused() -> None:
    good("cosign", ENVELOPE, "--signer", "bob")
    before = Path(ENVELOPE).read_bytes()
    good("pki", "issue", "signer", "robert", "--from-key", "pki/private/bob.key")
    found = run("cosign", ENVELOPE, "--signer", "robert")
    assert found.status == 5
    assert found.errors[0].startswith('error: the key of "robert" has signed it already, as "bob"')
    assert "one key counts once" in found.errors[1]
    assert Path(ENVELOPE).read_bytes() == before


@pytest.mark.usefixtures("team")
def test_several_envelopes_in_one_login(monkeypatch: pytest.MonkeyPatch) -> None:
    from fwsign.cli.sign import identity

    for number in (1, 2, 3):
        Path(f"app{number}.bin").write_bytes(bytes(100 + number))
    names = [f"app{number}.bin" for number in (1, 2, 3)]
    good("sign", *names, "--signer", "alice")
    envelopes = [f"{one}.suit" for one in names]
    good("cosign", envelopes[1], "--signer", "bob")
    opened: list[object] = []
    real = identity.opened

    def counted(*more: Any) -> identity.Signing:
        opened.append(more)
        return real(*more)

    monkeypatch.setattr(identity, "opened", counted)
    told = cosigned(*envelopes, envelopes[0], "--signer", "bob")
    results = [(one["envelope"], one["result"]) for one in told["envelopes"]]
    assert results == [
        (envelopes[0], "signed"),
        (envelopes[1], "already signed"),
        (envelopes[2], "signed"),
    ]
    assert len(opened) == 1
    for one in envelopes:
        assert run("verify", one, "--require", "2").status == 0


@pytest.mark.usefixtures("team")
def test_classic_and_post_quantum() -> None:
    good("cosign", ENVELOPE, "--signer", "pq")
    assert signers() == ["alice", "pq"]
    algorithms = [decode_block(one).algorithm for one in blocks_in(Path(ENVELOPE).read_bytes())]
    assert algorithms == [-9, -49]


@pytest.mark.usefixtures("team")
def test_each_signature_is_logged_before_it_is_written() -> None:
    good("cosign", ENVELOPE, "--signer", "bob")
    last = json.loads(Path("pki/log.jsonl").read_text().splitlines()[-1])
    assert (last["kind"], last["name"], last["key"]) == ("cosign", ENVELOPE, spki("bob"))


@pytest.mark.usefixtures("team")
def test_a_dry_run_shows_and_writes_nothing() -> None:
    before = Path(ENVELOPE).read_bytes()
    Path("pki/private/bob.key").unlink()
    found = run("cosign", ENVELOPE, "--signer", "bob", "--dry-run")
    assert (found.status, found.out) == (0, "")
    assert "would be signed" in found.err
    told = json.loads(good("cosign", ENVELOPE, "--signer", "bob", "--dry-run", "--json"))
    assert told["verdict"] == "dry run"
    assert [one["result"] for one in told["envelopes"]] == ["to sign"]
    assert Path(ENVELOPE).read_bytes() == before


@pytest.mark.usefixtures("team")
def test_documents_and_native_signatures_are_shown_before_a_key_is_opened() -> None:
    text = b'{"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT"}'
    Path("sbom.json").write_bytes(text)
    Path("app.bin").write_bytes(bytes(5000))
    key_file(Path(), "p256")
    options = ("--native-option", "header-size=0x200", "--native-option", "pad-header")
    chip = ("--native", "mcuboot", "--native-key", "p256.key", *options)
    good("sign", "app.bin", "--signer", "alice", "--attach", "sbom.json", *chip)
    found = run("cosign", "app.signed.bin.suit", "--signer", "bob", "--dry-run")
    assert "    native mcuboot, by " in found.err
    size, digest = len(text), hashlib.sha256(text).hexdigest()
    assert f"  sbom.json, application/spdx+json, {size} bytes, {digest}\n" in found.err


@pytest.mark.usefixtures("team")
def test_only_the_release_that_was_reviewed() -> None:
    digest = cosigned(ENVELOPE, "--signer", "bob", "--dry-run")["envelopes"][0]["manifest_digest"]
    wrong = "0" * 64
    found = run("cosign", ENVELOPE, "--signer", "bob", "--digest", wrong)
    words = f"{ENVELOPE} has the manifest digest {digest}, --digest says {wrong}"
    hint = "it is another release than the one that was reviewed: do not sign it"
    assert (found.status, found.errors) == (5, [f"error: {words}", f"hint: {hint}"])
    good("cosign", ENVELOPE, "--signer", "bob", "--digest", digest.upper())
    assert signers() == ["alice", "bob"]


# --- what is not signed ---------------------------------------------------------------------


@pytest.mark.usefixtures("team")
def test_what_cannot_be_verified_is_not_signed(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    options = ("--org", "Other", "--vendor", "acme.example", "--product", "gateway-x1")
    good("init", "theirs", *options, "--no-passphrase")
    good("sign", "build.bin", "--pki", "theirs/pki", "--output", "theirs.suit")
    before = Path("theirs.suit").read_bytes()
    found = run("cosign", "theirs.suit", "--signer", "bob")
    assert found.status == 1
    assert "the path ends at issuer" in found.errors[0]
    assert "name the other signers' roots with --anchor PEM" in found.errors[1]
    assert Path("theirs.suit").read_bytes() == before
    both = ("--anchor", "theirs/pki/ca.crt", "--anchor", "pki/ca.crt")
    good("cosign", "theirs.suit", "--signer", "bob", *both)
    assert run("verify", "theirs.suit", "build.bin", "--require", "2", *both).status == 0


@pytest.mark.usefixtures("team")
def test_one_bad_signature_among_good_ones_is_not_passed_over() -> None:
    good("cosign", ENVELOPE, "--signer", "bob")
    envelope = Path(ENVELOPE).read_bytes()
    first, second = blocks_in(envelope)
    broken = bytearray(second)
    broken[-1] ^= 1
    unknown = cbor.encode(cbor.Tag(18, (cbor.encode({1: -999}), {}, None, b"x")))
    for blocks, code in (((first, bytes(broken)), "tampered"), ((first, unknown), "untrusted")):
        Path(ENVELOPE).write_bytes(with_blocks(envelope, *blocks))
        found = run("cosign", ENVELOPE, "--signer", "dora", "--json")
        told = json.loads(found.out)
        assert found.status == 1
        assert told["code"].startswith(code)
        assert Path(ENVELOPE).read_bytes() == with_blocks(envelope, *blocks)


@pytest.mark.usefixtures("team")
def test_an_envelope_is_full_at_eight() -> None:
    names = [f"extra{number}" for number in range(8)]
    for one in names:
        good("pki", "issue", "signer", one, "--no-passphrase")
    for one in names[:7]:
        good("cosign", ENVELOPE, "--signer", one)
    before = Path(ENVELOPE).read_bytes()
    found = run("cosign", ENVELOPE, "--signer", names[7])
    assert found.status == 5
    assert found.errors[0] == "error: the envelope has 8 signatures, at most 8 are allowed"
    assert Path(ENVELOPE).read_bytes() == before


@pytest.mark.usefixtures("team")
def test_nothing_is_written_over_what_somebody_else_signed_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = FileSigner.sign

    def slow(signer: FileSigner, message: bytes) -> bytes:
        monkeypatch.setattr(FileSigner, "sign", real)
        good("cosign", ENVELOPE, "--signer", "dora")
        return real(signer, message)

    monkeypatch.setattr(FileSigner, "sign", slow)
    found = run("cosign", ENVELOPE, "--signer", "bob")
    assert found.status == 5
    assert f"error: {ENVELOPE} has changed since it was read: nothing was written to it" in (
        found.errors
    )
    assert signers() == ["alice", "dora"]
    good("cosign", ENVELOPE, "--signer", "bob")
    assert signers() == ["alice", "dora", "bob"]


@pytest.mark.usefixtures("team")
def test_an_error_in_the_middle_leaves_each_envelope_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from fwsign import files
    from fwsign.cli.cosign import envelopes as work

    shutil.copy(ENVELOPE, "second.suit")
    before = Path("second.suit").read_bytes()
    real = files.write_atomic

    def full(path: Path, *more: Any, **extra: Any) -> None:
        if path.name == "second.suit":
            raise Failed("io.full", "no space left")
        real(path, *more, **extra)

    monkeypatch.setattr(work, "write_atomic", full)
    found = run("cosign", ENVELOPE, "second.suit", "--signer", "bob")
    assert found.status == 5
    assert f"fwsign: {ENVELOPE} is signed" in found.err
    assert signers() == ["alice", "bob"]
    assert Path("second.suit").read_bytes() == before


@pytest.mark.usefixtures("team")
def test_a_link_stays_a_link() -> None:
    Path("link.suit").symlink_to(ENVELOPE)
    good("cosign", "link.suit", "--signer", "bob")
    assert Path("link.suit").is_symlink()
    assert signers() == ["alice", "bob"]


@pytest.mark.usefixtures("team")
def test_what_has_no_meaning_is_a_usage_error() -> None:
    for arguments, words in (
        (("-", "--signer", "bob"), "cosign replaces files: - is none"),
        ((ENVELOPE, "--tsa-anchor", "pki/ca.crt"), "--tsa-anchor without --tsa"),
        ((ENVELOPE, "--key", "x.key"), "--key and --chain go together"),
    ):
        found = run("cosign", *arguments)
        assert found.status == 2
        assert found.errors[0] == f"error: {words}"
    assert run("cosign", "absent.suit", "--signer", "bob").status == 5
    assert run("cosign", "build.bin", "--signer", "bob").status == 1


# --- policies -------------------------------------------------------------------------------

RULE = "2 of (alice, bob, carol) and dora"


@pytest.mark.usefixtures("team")
def test_fwsign_toml_says_who_must_sign() -> None:
    settle(RULE, "classic")
    refused(
        run("verify", ENVELOPE),
        1,
        'policy "signers": 2 of (alice, bob, carol), found alice; dora, found none',
        "more people must sign: fwsign cosign ENVELOPE; or the policy asks for too many",
    )
    told = cosigned(ENVELOPE, "--signer", "bob")["envelopes"][0]["policy"]
    assert [(one["part"], one["met"], one["by"], one["missing"]) for one in told] == [
        ("2 of (alice, bob, carol)", True, ['"alice"', '"bob"'], []),
        ("dora", False, [], ["dora"]),
        ("classic", True, ['"alice"', '"bob"'], []),
    ]
    found = run("cosign", ENVELOPE, "--signer", "dora")
    assert f'{ENVELOPE}: policy "signers": 2 of (alice, bob, carol): met by' in found.err
    shown = good("verify", ENVELOPE)
    assert '  signers    2 of (alice, bob, carol): met by "alice", "bob"\n' in shown
    assert '  signers    dora: met by "dora"\n' in shown
    assert '  algorithms classic: met by "alice", "bob", "dora"\n' in shown
    told = json.loads(good("verify", ENVELOPE, "--json"))["release"]["policy"]
    assert [one["met"] for one in told] == [True, True, True]


@pytest.mark.usefixtures("team")
def test_show_says_what_is_met_and_what_is_missing() -> None:
    assert "policy" not in good("show", ENVELOPE)
    settle(RULE)
    shown = good("show", ENVELOPE)
    for line in ("policy\n", "  of: fwsign.toml\n", "  met: no\n", "    found: alice\n"):
        assert line in shown
    assert "    missing: bob\n    missing: carol\n" in shown
    good("cosign", ENVELOPE, "--signer", "bob")
    good("cosign", ENVELOPE, "--signer", "dora")
    told = json.loads(good("show", ENVELOPE, "--json"))["content"][0]["policy"]
    assert (told["of"], told["met"], told["not counted"]) == ("fwsign.toml", "yes", [])
    assert [one["by"] for one in told["demands"]] == [['"alice"', '"bob"'], ['"dora"']]


@pytest.mark.usefixtures("team")
def test_show_names_the_blocks_that_do_not_count() -> None:
    settle("alice or bob")
    envelope = Path(ENVELOPE).read_bytes()
    unknown = cbor.encode(cbor.Tag(18, (cbor.encode({1: -999}), {}, None, b"x")))
    Path(ENVELOPE).write_bytes(with_blocks(envelope, *blocks_in(envelope), unknown))
    told = json.loads(good("show", ENVELOPE, "--json"))["content"][0]["policy"]
    assert told["met"] == "yes"
    assert told["not counted"][0].startswith("COSE algorithm -999 is not one of")
    Path(ENVELOPE).write_bytes(envelope.replace(b"gateway-x1", b"gateway-x2"))
    told = json.loads(good("show", ENVELOPE, "--json"))["content"][0]["policy"]
    assert told["not judged"] == "the text is not the one that was signed"


@pytest.mark.usefixtures("team")
def test_a_hybrid_with_one_block_removed() -> None:
    good("cosign", ENVELOPE, "--signer", "pq")
    envelope = Path(ENVELOPE).read_bytes()
    classic, quantum = blocks_in(envelope)
    Path("both.toml").write_text('[policy]\nalgorithms = ["classic", "post-quantum"]\n')
    Path("classic.toml").write_text('[policy]\nalgorithms = ["classic"]\n')
    assert run("verify", ENVELOPE, "--policy", "both.toml").status == 0
    for block, there, missing in (
        (classic, 'classic: met by "alice"; post-quantum, found none', "both"),
        (quantum, 'classic, found none; post-quantum: met by "pq"', "both"),
        (quantum, "classic, found none", "classic"),
    ):
        Path(ENVELOPE).write_bytes(with_blocks(envelope, block))
        found = run("verify", ENVELOPE, "--policy", f"{missing}.toml")
        assert (found.status, found.errors[0]) == (1, f'error: policy "algorithms": {there}')
    Path(ENVELOPE).write_bytes(with_blocks(envelope, classic))
    shown = good("verify", ENVELOPE, "--policy", "classic.toml")
    assert '  algorithms classic: met by "alice"\n' in shown


@pytest.mark.usefixtures("team")
def test_device_toml_has_the_same_words() -> None:
    text = policy("alice and bob").replace("[policy]\n", "[policy]\nrequire = 2\n")
    pem = Path("pki/ca.crt").read_text()
    device = Path("device.toml")
    device.write_text(
        'vendor = "acme.example"\nproduct = "gateway-x1"\ntarget_dir = "/srv/x"\n'
        f'[[anchor]]\npem = """\n{pem}"""\n{text}'
    )
    device.chmod(0o644)
    Path("fwsign.toml").unlink()
    found = run("verify", ENVELOPE, "--policy", device)
    assert found.status == 1
    words = 'the policy demands 2 distinct signers, found 1; policy "signers": alice: met by'
    assert words in found.errors[0]
    told = json.loads(good("show", ENVELOPE, "--policy", device, "--json"))["content"][0]["policy"]
    assert (told["met"], told["signers that count"]) == ("no", "1, wanted are 2 or more")
    good("cosign", ENVELOPE, "--pki", "pki", "--signer", "bob", "--policy", device)
    assert "  signers    alice: met by" in good("verify", ENVELOPE, "--policy", device)
    for option in (("--vendor", "acme.example"), ("--anchor", "pki/ca.crt"), ("--require", "2")):
        refused(
            run("verify", ENVELOPE, "--policy", device, *option),
            2,
            f"{option[0]} with --policy device.toml",
            "that file says what the device demands",
        )
    good("verify", ENVELOPE, "--policy", device, "--min-sequence", "1")
    other = device.read_text().replace("gateway-x1", "gateway-x2")
    device.write_text(other)
    assert run("verify", ENVELOPE, "--policy", device).status == 4


@pytest.mark.usefixtures("team")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[policy]\n", 'p.toml: "policy" says nothing'),
        ("[policy]\nsigners = 'eve'", 'p.toml: the policy has no role "eve", the roles are none'),
        ("[policy]\nrequire = 2\nalgorithms = ['classic']", 'unknown key "policy.require"'),
        ("policy = 3", 'p.toml: "policy" is not a table'),
        ("[policy", "p.toml: "),
    ],
)
def test_a_policy_with_a_mistake_is_named(text: str, words: str) -> None:
    Path("p.toml").write_text(text)
    for command in ("verify", "show", "cosign"):
        found = run(command, ENVELOPE, "--policy", "p.toml")
        assert found.status == 5
        assert words in found.errors[0]


@pytest.mark.usefixtures("team")
def test_a_policy_without_anchors_is_not_judged() -> None:
    text = policy("alice")
    Path("fwsign.toml").write_text(text)
    told = json.loads(good("show", ENVELOPE, "--json"))["content"][0]["policy"]
    assert told["not judged"] == "fwsign.toml names no pki, and so no anchors"
    refused(
        run("show", "build.bin", "--policy", "fwsign.toml"),
        2,
        "--policy is for envelopes, and build.bin is none",
        "fwsign show --help shows how",
    )
