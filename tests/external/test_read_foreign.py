"""`tools/read-foreign` over the certificates that cryptography is tested with."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from support import require_package, require_program

TOOL = Path(__file__).parent.parent.parent / "tools/read-foreign"
pytestmark = pytest.mark.external


@pytest.mark.parametrize(
    ("folder", "count"),
    [("x509/custom", 124), ("x509/requests", 26), ("pkcs7", 10), ("asymmetric/PKCS8", 55)],
)
def test_no_tracebacks_no_false_words_and_no_refusals(folder: str, count: int) -> None:
    require_package("cryptography_vectors")
    require_program("openssl")
    spec = find_spec("cryptography_vectors")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    place = Path(spec.submodule_search_locations[0]) / folder
    found = subprocess.run(
        [sys.executable, TOOL, place], capture_output=True, text=True, check=False
    )
    assert (found.stdout, found.returncode) == (f"files {count}\n", 0), found.stderr
