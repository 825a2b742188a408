"""What the documents show is true: the example is signed again, and verified."""

import base64
import io
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fwsign.cli import app
from fwsign.cli.inputs import load_pem
from fwsign.format import blocks, cbor, component, cose, envelope, suit, text, version
from fwsign.format.kinds import file_identifier
from fwsign.format.text import Text
from fwsign.keys import signer_from_uri
from fwsign.signing import release
from fwsign.signing.envelope import Identity, sign
from fwsign.signing.release import ReleaseFile, describe
from fwsign.verify.policy import DevicePolicy
from fwsign.verify.verifier import Verifier
from fwsign.x509.anchor import Anchor

ROOT = Path(__file__).parent.parent
FORMAT = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
KEYS = ROOT / "keys.example"
AT = datetime(2026, 11, 2, tzinfo=UTC)
PAYLOAD = b"hello, device\n"


def pem(*paths: str, label: str = "CERTIFICATE") -> tuple[bytes, ...]:
    return tuple(load_pem([KEYS / path for path in paths], label, "object"))


@pytest.fixture(scope="module")
def example() -> bytes:
    block = re.search(r"## Appendix.*?```\n(.*?)\n```", FORMAT, re.DOTALL)
    assert block
    return base64.b64decode(block[1])


def test_the_example_verifies(example: bytes) -> None:
    anchor = Anchor.from_certificate(pem("ca.crt")[0])
    policy = DevicePolicy(
        vendor="example.com", product="gateway-x1", min_sequence=0, allow_example_keys=True
    )
    verified = Verifier([anchor], policy).verify(example, at=AT)
    assert verified.unchecked == ()
    verified.receive("build.bin", io.BytesIO(PAYLOAD))


def test_signing_the_example_again_gives_the_same_bytes(example: bytes, tmp_path: Path) -> None:
    payload = tmp_path / "build.bin"
    payload.write_bytes(PAYLOAD)
    described = describe(
        [ReleaseFile(payload, file_identifier("build.bin"))],
        Text("example.com", "gateway-x1", "2.4.1"),
        sequence_number=1793577600,
    )
    identity = Identity(
        signer_from_uri(str(KEYS / "private" / "release.key"), lambda: None),
        pem("issued/release.crt", "issued/issuing.crt"),
        pem("crl/issuing.pem", "crl/ca.pem", label="X509 CRL"),
    )
    anchor = Anchor.from_certificate(pem("ca.crt")[0])
    envelope, _ = sign(described, [identity], [anchor], at=AT, allow_example_keys=True)
    assert envelope == example


def test_the_digests_shown_are_those_of_the_example(example: bytes) -> None:
    shown = re.findall(r"h'([0-9a-f]{8})…([0-9a-f]*)'", FORMAT)
    assert len(shown) == 11
    for begin, end in shown:
        assert re.search(f"{begin}[0-9a-f]*{end}", example.hex())


def test_the_readme_happy_path_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    console = re.search(r"```console\n(\$ fwsign init.*?)```", readme, re.DOTALL)
    python = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert console
    assert python
    monkeypatch.chdir(tmp_path)
    Path("build.bin").write_bytes(PAYLOAD)
    commands = re.findall(r"^\$ fwsign (.*)$", console[1], re.MULTILINE)
    assert len(commands) == 3
    output = ""
    for command in commands:
        extra = ["--no-passphrase"] if command.startswith("init") else []
        result = CliRunner().invoke(app, [*shlex.split(command), *extra])
        assert result.exit_code == 0, result.output
        output = result.stdout
    shown = re.findall(r"^  (\w+) ", console[1], re.MULTILINE)
    assert shown == re.findall(r"^  (\w+) ", output, re.MULTILINE)
    exec(compile(python[1], "README.md", "exec"), {})  # noqa: S102 - our own example
    assert Path("staged.bin").read_bytes() == PAYLOAD


LIMITED = (blocks, cbor, component, cose, envelope, release, suit, text, version)


@pytest.mark.parametrize("module", LIMITED)
def test_every_limit_is_in_the_table(module: object) -> None:
    limits = [name for name in vars(module) if name.startswith("MAX_")]
    assert limits
    for name in limits:
        assert name in FORMAT
