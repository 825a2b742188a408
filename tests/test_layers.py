"""Who may import whom, read from the source; and what the verify path brings along."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fwsign

SOURCE = Path(fwsign.__file__).parent

LAYERS = (
    {"errors", "der", "example_keys"},
    {"cbor", "component"},
    {"cose", "suit", "payload"},
    {"certificate", "blocks"},
    {"constraints"},
    {"chain"},
    {"crl", "policy", "trust_list"},
    {"timestamp"},
    {"verified"},
    {"verify"},
    {"trust"},
)
"""The verify path: a module imports only from layers above its own in this list."""

VERIFY_PATH = sorted(set.union(*LAYERS))
LEVEL = {module: level for level, layer in enumerate(LAYERS) for module in layer}
CRYPTOGRAPHY = "cryptography"
PLACES = {
    "typer": ("cli",),
    "click": ("cli",),
    "rich": ("cli",),
    "serial": ("flash.port", "flash.ports", "flash.esp_"),
    "esptool": ("flash.esp_",),
    "esp_pylib": ("flash.esp_",),
    "usb": ("flash.pico_usb",),
}
"""Where a library may be imported: the beginnings of modules' names."""
NOT_YET = {"pkcs11", "boto3", "botocore", "paho", "requests", "pydantic"}
CLOCKS = {"now", "utcnow", "today", "time", "time_ns", "monotonic"}
IO_MODULES = {"os", "socket", "subprocess", "time", "random", "secrets", "urllib", "pathlib"}


def modules() -> dict[str, Path]:
    """Return every module of the package by its dotted name below fwsign."""
    found = {}
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__") or "__init__"] = path
    return found


MODULES = modules()


def imports(module: str) -> set[str]:
    """Return what a module imports anywhere in it: dotted names, ours without `fwsign.`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            name = str(node.module)
            inside = {f"{name}.{alias.name}" for alias in node.names}
            ours = {one for one in inside if one.removeprefix("fwsign.") in MODULES}
            found |= ours if name == "fwsign" and ours else {name}
    return found


def own(module: str) -> set[str]:
    """Return the modules of fwsign that a module imports."""
    return {one.removeprefix("fwsign.") for one in imports(module) if one.startswith("fwsign.")}


def others(module: str) -> set[str]:
    """Return the top names of packages, neither ours nor the standard library's."""
    tops = {one.partition(".")[0] for one in imports(module)}
    return tops - {"fwsign"} - set(sys.stdlib_module_names)


def test_the_page_about_the_design_has_the_one_list_of_the_verify_path() -> None:
    page = (Path(__file__).parent.parent / "docs" / "design.md").read_text(encoding="utf-8")
    section = page.partition("## The verify path")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert sorted(listed) == VERIFY_PATH
    # What it says of their size is true within a tenth.
    lines, modules, code = (
        int(one.replace(",", ""))
        for one in re.findall(r"about ([\d,]+) lines in (\d+) modules, about ([\d,]+) of", section)[
            0
        ]
    )
    texts = [MODULES[module].read_text(encoding="utf-8") for module in VERIFY_PATH]
    assert modules == len(VERIFY_PATH)
    assert lines == pytest.approx(sum(text.count("\n") for text in texts), rel=0.1)
    assert code == pytest.approx(sum(map(lines_of_code, texts)), rel=0.1)


def lines_of_code(text: str) -> int:
    """Count the lines that are no docstring, comment or blank."""
    documented: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            documented.update(range(node.lineno, (node.end_lineno or 0) + 1))
    return sum(
        bool(line.strip()) and not line.strip().startswith("#") and number not in documented
        for number, line in enumerate(text.splitlines(), 1)
    )


def test_the_modules_are_there() -> None:
    assert len(MODULES) > 30
    assert set(VERIFY_PATH) <= MODULES.keys()
    assert own("verify") >= {"suit", "chain", "crl", "policy"}


@pytest.mark.parametrize("module", VERIFY_PATH)
def test_verify_path_imports_only_downwards(module: str) -> None:
    up = {one for one in own(module) if LEVEL.get(one, 99) >= LEVEL[module]}
    assert up == set()


@pytest.mark.parametrize("module", VERIFY_PATH)
def test_verify_path_needs_only_cryptography(module: str) -> None:
    assert others(module) <= {CRYPTOGRAPHY}


@pytest.mark.parametrize("module", ["errors", "cbor", "component", "suit", "der", "payload"])
def test_formats_need_no_cryptography(module: str) -> None:
    assert others(module) == set()


@pytest.mark.parametrize("module", VERIFY_PATH)
def test_verify_path_reads_no_clock_file_or_environment(module: str) -> None:
    assert not imports(module) & IO_MODULES
    calls = [
        node.func
        for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]
    attributes = {call.attr for call in calls if isinstance(call, ast.Attribute)}
    names = {call.id for call in calls if isinstance(call, ast.Name)}
    assert not attributes & CLOCKS
    assert not names & {"open", "print", "input", "exec", "eval", "__import__"}


def test_only_verify_seals() -> None:
    users = [module for module in MODULES if "seal" in names_used(module)]
    assert sorted(users) == ["verified", "verify"]


def names_used(module: str) -> set[str]:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    return names | {node.name for node in ast.walk(tree) if isinstance(node, ast.alias)}


def test_nobody_imports_the_command_line() -> None:
    users = {
        module
        for module in MODULES
        if any(one.split(".")[0] == "cli" for one in own(module))
        and module.split(".", maxsplit=1)[0] not in ("cli", "__main__")
    }
    assert users == set()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_each_library_is_used_where_it_belongs(module: str) -> None:
    found = others(module)
    for library in found & PLACES.keys():
        assert module.startswith(PLACES[library]), library
    assert not found & NOT_YET


@pytest.mark.parametrize("module", [one for one in sorted(MODULES) if one.startswith("images.")])
def test_images_know_nothing_else(module: str) -> None:
    assert {one for one in own(module) if not one.startswith("images")} <= {"errors"}
    assert others(module) == set()


def test_landing_page_imports_nothing() -> None:
    assert imports("__init__") == set()


# --- what really happens --------------------------------------------------------------------


def loaded_by(code: str) -> set[str]:
    """Return the top names of what a fresh interpreter has loaded after some code."""
    code += "\nimport sys\nprint('\\n'.join(sys.modules))"
    command = [
        sys.executable,
        "-I",
        "-c",
        f"import sys; sys.path.insert(0, {str(SOURCE.parent)!r})\n{code}",
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in run.stdout.split()}


def third_party(names: set[str]) -> set[str]:
    before = loaded_by("")
    return names - before - {"fwsign"} - set(sys.stdlib_module_names)


def test_the_verifier_loads_nothing_but_cryptography() -> None:
    found = third_party(loaded_by("import fwsign.verify"))
    # bcrypt: cryptography loads it where it is installed.
    assert found <= {CRYPTOGRAPHY, "cffi", "_cffi_backend", "_openssl", "bcrypt"}
    assert CRYPTOGRAPHY in found


def test_the_package_loads_nothing() -> None:
    assert third_party(loaded_by("import fwsign")) == set()


def test_the_command_line_never_loads_pydantic() -> None:
    code = """
import sys
sys.argv = ["fwsign", "--version"]
from fwsign.cli import main
try:
    main()
except SystemExit as done:
    assert done.code in (0, None), done.code
"""
    found = loaded_by(code)
    assert "typer" in found
    assert not found & {"pydantic", "pydantic_core", "esptool", "boto3"}
