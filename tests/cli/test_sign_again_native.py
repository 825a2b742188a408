"""Signing again where the image gets a native signature first."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from cli.kit import good, run
from native_kit import app, key_file

SIGN = ("sign", "app.bin", "--sequence", "7", "--native", "esp-secure-boot-v2", "--json")


@pytest.mark.parametrize("key", ["p256", "rsa3072"])
def test_nothing_changes(project: Path, key: str) -> None:
    (project / "app.bin").write_bytes(app(secure_version=7))
    key_file(project, key)
    sign = (*SIGN, "--native-key", f"{key}.key")
    good(*sign)
    names = ("app.signed.bin", "app.signed.bin.suit")
    before = [(project / name).read_bytes() for name in names]
    told: Any = json.loads(good(*sign))
    assert [one["result"] for one in told["envelopes"]] == ["unchanged"]
    assert [(project / name).read_bytes() for name in names] == before


@pytest.mark.parametrize("which", ["app.bin", "app.signed.bin", "other"])
def test_a_provenance_may_be_of_the_image_before_or_after(project: Path, which: str) -> None:
    """A build attests to what it built; the native signature is added to that."""
    (project / "app.bin").write_bytes(app(secure_version=7))
    key_file(project, "p256")
    sign = (*SIGN, "--native-key", "p256.key")
    good(*sign)
    (project / "other").write_bytes(b"other")
    digest = hashlib.sha256((project / which).read_bytes()).hexdigest()
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "app", "digest": {"sha256": digest}}],
        "predicateType": "https://slsa.dev/provenance/v1",
    }
    (project / "slsa.json").write_text(json.dumps(statement))
    found = run(*sign, "--attach", "slsa.json", "--force")
    assert found.status == (4 if which == "other" else 0), found
