"""Documents that others' libraries wrote are recognised."""

import hashlib
import json
from importlib import import_module
from typing import Any

import pytest

from fwsign.documents.document import Subject
from fwsign.documents.recognise import recognise
from support import require_package

DIGESTS = {
    name: hashlib.new(name, b"firmware").hexdigest() for name in ("sha256", "sha384", "sha512")
}


def written(form: str, version: str) -> bytes:
    """Return a bill of a firmware, and of a library in it, by the library of CycloneDX."""
    require_package("cyclonedx")
    parts: Any = {
        name: import_module(f"cyclonedx.{place}")
        for name, place in (
            ("model", "model"),
            ("bom", "model.bom"),
            ("component", "model.component"),
            ("output", "output"),
            ("schema", "schema"),
        )
    }
    model, component = parts["model"], parts["component"]
    own = [
        model.HashType(alg=model.HashAlgorithm[name.replace("sha", "SHA_")], content=digest)
        for name, digest in DIGESTS.items()
    ]
    other = model.HashType(alg=model.HashAlgorithm.SHA_256, content="00" * 32)
    library = component.Component(name="library", hashes=[other])
    bill = parts["bom"].Bom(components=[library])
    bill.metadata.component = component.Component(
        name="build.bin", type=component.ComponentType.FIRMWARE, hashes=own
    )
    bill.register_dependency(bill.metadata.component, [library])
    schema = parts["schema"]
    made = parts["output"].make_outputter(
        bill, schema.OutputFormat[form], schema.SchemaVersion[f"V{version.replace('.', '_')}"]
    )
    return str(made.output_as_string()).encode()


@pytest.mark.parametrize("version", ["1.3", "1.4", "1.5", "1.6", "1.7"])
@pytest.mark.parametrize("form", ["JSON", "XML"])
def test_cyclonedx(form: str, version: str) -> None:
    found = recognise(written(form, version))
    assert found is not None
    assert found.media_type == f"application/vnd.cyclonedx+{form.lower()}"
    assert found.words == f"SBOM, CycloneDX {version}"
    assert found.subjects == {Subject(name, digest) for name, digest in DIGESTS.items()}


@pytest.mark.parametrize("form", ["JSON", "XML"])
def test_a_bill_that_is_cut_is_none(form: str) -> None:
    data = written(form, "1.6").rstrip()
    assert recognise(data) is not None
    for size in range(0, len(data), 97):
        assert recognise(data[:size]) is None


def test_a_bill_with_a_changed_digest_has_another_subject() -> None:
    content = json.loads(written("JSON", "1.6"))
    content["metadata"]["component"]["hashes"] = [{"alg": "SHA-256", "content": "11" * 32}]
    found = recognise(json.dumps(content).encode())
    assert found is not None
    assert found.subjects == {Subject("sha256", "11" * 32)}
