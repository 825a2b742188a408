"""`tools/read-foreign` finds the faults that it is for."""

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from support import make_ca, require_program

TOOL = Path(__file__).parent.parent / "tools/read-foreign"


@pytest.fixture
def tool() -> Any:
    if not TOOL.exists():
        pytest.skip("the tests run without the tools")
    require_program("openssl")
    loader = SourceFileLoader("read_foreign", str(TOOL))
    spec = spec_from_loader("read_foreign", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "a.crt").write_bytes(make_ca().certificate.public_bytes(Encoding.PEM))
    (tmp_path / "b.txt").write_text("neither")
    return tmp_path


def run(
    tool: Any, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, list[str]]:
    monkeypatch.setattr("sys.argv", ["read-foreign", str(place)])
    status = tool.main()
    return status, capsys.readouterr().out.splitlines()


def test_good_files(
    tool: Any, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tool, place, monkeypatch, capsys) == (0, ["files 2"])


@pytest.mark.parametrize(
    "case",
    [
        (70, "Traceback\nKeyError: 1", "show: traceback: {file}: KeyError: 1"),
        (0, "kind: <AuthorityInformationAccess(x)>", "show: false words: {file}: <Auth"),
        (0, "ParseError { kind: InvalidTag }", "show: false words: {file}: ParseError"),
        (0, "kind: unknown", "show: refused: {file}: kind: unknown"),
        (1, "fwsign: error: no", "show: refused: {file}: fwsign: error: no"),
    ],
)
def test_faults_are_listed(
    tool: Any,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    case: tuple[int, str, str],
) -> None:
    status, said, fault = case
    monkeypatch.setattr(tool, "run", lambda *_: (status, said))
    ended, lines = run(tool, place, monkeypatch, capsys)
    assert ended == 1
    assert any(line.startswith(fault.format(file=place / "a.crt")) for line in lines), lines
