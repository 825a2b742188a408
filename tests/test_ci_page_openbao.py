"""docs/ci.md with a real OpenBao: its commands set it up, and its job signs without a secret."""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bao_kit import Bao, running
from cli.kit import REPOSITORY, good, program
from keys.test_transit_login import jwt
from support import require_program

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the page's commands are for a shell")
PAGE = (REPOSITORY / "docs/ci.md").read_text(encoding="utf-8")
ISSUER = "https://token.actions.githubusercontent.com"


def commands() -> str:
    """Return the page's commands, with an issuer of our own: nobody asks GitHub here."""
    (block,) = re.findall(r"```\n(bao auth enable.*?)```", PAGE, re.DOTALL)
    discovery = f"oidc_discovery_url={ISSUER}"
    assert discovery in block
    return str(block).replace(discovery, "jwt_validation_pubkeys=@issuer.pem")


def test_a_job_signs_by_its_identity_alone(tmp_path: Path) -> None:
    bash = require_program("bash")
    issuer = ec.generate_private_key(ec.SECP256R1())
    pem = issuer.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "issuer.pem").write_bytes(pem)
    (tmp_path / "bao").mkdir()
    with running(tmp_path / "bao") as bao:
        bao.make("p256", "release")
        path = os.pathsep.join((str(Path(bao.program).parent), os.environ["PATH"]))
        found = subprocess.run(
            (bash, "-e", "-c", commands()),
            cwd=tmp_path,
            env={**bao.environment(), "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == 0, found
        _repository(bao, tmp_path)
        _sign(bao, issuer, tmp_path)


def _repository(bao: Bao, directory: Path) -> None:
    """Make the PKI elsewhere, and the files that the page puts into the repository."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        names = ("--org", "Acme", "--vendor", "acme.example", "--product", "x1")
        good("init", ".", *names, "--no-passphrase")
        good("pki", "issue", "signer", "ci", "--key", bao.uri("release"))
    for lines in re.findall(r"^\$ (c.*)$", PAGE, re.MULTILINE):
        (directory / "keys").mkdir(exist_ok=True)
        line = lines.replace("issued/release.crt", "issued/ci.crt")
        subprocess.run(("sh", "-ec", line), cwd=directory, check=True)
    (directory / "fwsign.toml").write_text(
        'vendor = "acme.example"\nproduct = "x1"\nchain = "keys/chain.pem"\n'
        f'key = "openbao:release?role=firmware&jwt-env=CI_IDENTITY&ca={bao.ca}"\n'
    )


def _sign(bao: Bao, issuer: ec.EllipticCurvePrivateKey, directory: Path) -> None:
    now = int(time.time())
    claims: dict[str, object] = {
        "iss": ISSUER,
        "aud": "https://bao.acme.example",
        "sub": "repo:acme/firmware:environment:release",
        "repository": "acme/firmware",
        "environment": "release",
        "ref_type": "tag",
        "iat": now,
        "exp": now + 300,
    }
    (directory / "build.bin").write_bytes(b"firmware")
    command = ("sign", "build.bin", "--crl", "keys/crls.pem", "--sequence", "7", "--json")

    def sign(**change: str) -> "subprocess.CompletedProcess[str]":
        token = jwt(issuer, **{**claims, **change})
        env = {"BAO_ADDR": bao.address, "CI_IDENTITY": token, "HOME": str(directory)}
        found = program(*command, env=env, cwd=directory)
        assert token not in found.stdout + found.stderr
        return found

    for change in (
        {"repository": "mallory/firmware"},  # a fork
        {"ref_type": "branch"},
        {"environment": "test"},
        {"aud": "https://other.example"},
        {"iss": "https://other.example"},
    ):
        found = sign(**change)
        assert (found.returncode, json.loads(found.stdout)["code"]) == (5, "key.passphrase"), found
        assert not (directory / "build.bin.suit").exists()
    found = sign()
    assert found.returncode == 0, found
    (one,) = json.loads(found.stdout)["envelopes"]
    assert one["result"] == "signed"
    assert str(bao.port) in one["key"]
    assert one["key"].startswith("openbao:")
    # ECDSA of the service is random: the second run keeps the first signature, and asks nobody.
    before = (directory / "build.bin.suit").read_bytes()
    bao.stop()
    found = sign()
    assert (found.returncode, json.loads(found.stdout)["envelopes"][0]["result"]) == (
        0,
        "unchanged",
    )
    assert (directory / "build.bin.suit").read_bytes() == before
    assert (
        program("verify", "build.bin.suit", "--anchor", "keys/root.crt", cwd=directory).returncode
        == 0
    )
