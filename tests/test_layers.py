"""Who may import whom, read from the source; and what the verify path brings along."""

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fwsign

SOURCE = Path(fwsign.__file__).parent

FLOORS: tuple[set[str], ...] = (
    {"errors", "nearest"},
    {"files", "format", "toml"},
    {"documents", "images", "x509"},
    {"names", "verify"},
    {"keys", "reading", "spans", "trust"},
    {"native", "pki.paths", "pki.view", "rollout", "signing"},
    {"device_data", "publish", "receipts"},
    {"flash.boards", "memory", "pki"},
    {"est", "flash.esp", "flash.pico", "flash.smp", "pki.report"},
    {"flash.simulate", "pki.lint"},
    {"flash", "pki.easyrsa"},
    {"gateway.config"},
    {"gateway.https"},
    {"gateway.target", "mqtt"},
    {"collect", "gateway.run"},
    {"fleet", "gateway.report", "gateway.trial"},
    {"gateway"},
    {"adapters", "gateway.follow"},
    {"cli"},
    {"cli.log", "cli.show", "cli.verify"},
    {"cli.fleet", "cli.key", "cli.sign"},
    {
        "cli.channel",
        "cli.cosign",
        "cli.digest",
        "cli.flash",
        "cli.permit",
        "cli.pki",
        "cli.publish",
    },
    {"cli.attach", "cli.device", "cli.rollout"},
    {"cli.receipts", "cli.trust"},
    {"__main__"},
)
"""The packages, and the modules beside them: each may import from floors below its own alone."""

FLOOR = {package: floor for floor, packages in enumerate(FLOORS) for package in packages}
PURE = ("errors", "format", "x509", "verify", "trust")
"""Where the verify path is: the standard library and cryptography, and no I/O."""
CRYPTOGRAPHY = "cryptography"
PLACES = {
    "boto3": ("keys.awskms",),
    "botocore": ("keys.awskms",),
    "typer": ("cli",),
    "click": ("cli",),
    "rich": ("cli",),
    "serial": ("flash.boards.port", "flash.ports", "flash.esp."),
    "esptool": ("flash.esp.",),
    "esp_pylib": ("flash.esp.",),
    "usb": ("flash.pico.usb",),
    "paho": ("mqtt.client",),
    "pkcs11": ("keys.pkcs11",),
    "obstore": ("publish.bucket",),
    "urllib3": ("publish.bucket", "publish.registry_client"),
    "anyio": ("collect.",),
    "psycopg": ("collect.store",),
    "starlette": ("collect.",),
    "uvicorn": ("collect.",),
}
"""Where a library may be imported: the beginnings of modules' names."""
NOT_YET = {"requests", "pydantic"}
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
SHOWN = "errors.codes"
"""The table of codes with their meanings; nothing that decides imports it."""
VERIFY_PATH = sorted(
    module
    for module, path in MODULES.items()
    if module.partition(".")[0] in PURE and path.name != "__init__.py" and module != SHOWN
)


def package_of(module: str) -> str:
    """Return the package that a module lies in; its own name if it lies beside the packages."""
    path = MODULES[module]
    return module if path.name == "__init__.py" else module.rpartition(".")[0] or module


@functools.cache
def tree(module: str) -> ast.Module:
    """Return the source of a module, parsed once."""
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@functools.cache
def imports(module: str, *, types: bool = True) -> set[str]:
    """Return what a module imports anywhere in it: dotted names, ours without `fwsign.`.

    Args:
        module: its dotted name below fwsign.
        types: count what type checkers alone import.
    """
    found: set[str] = set()
    nodes: list[ast.AST] = [tree(module)]
    for node in nodes:  # which grows
        if types or not types_alone(node):
            nodes.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            name = str(node.module)
            inside = {f"{name}.{alias.name}" for alias in node.names}
            ours = {one for one in inside if one.removeprefix("fwsign.") in MODULES}
            found |= ours if ours == inside else {*ours, name}
    return found


def own(module: str, *, types: bool = True) -> set[str]:
    """Return the modules of fwsign that a module imports."""
    found = imports(module, types=types)
    return {one.removeprefix("fwsign.") for one in found if one.startswith("fwsign.")}


def others(module: str) -> set[str]:
    """Return the top names of packages, neither ours nor the standard library's."""
    tops = {one.partition(".")[0] for one in imports(module)}
    return tops - {"fwsign"} - set(sys.stdlib_module_names)


def types_alone(node: ast.AST) -> bool:
    """Tell whether a statement is run by type checkers alone."""
    if not isinstance(node, ast.If):
        return False
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def circles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """Return the groups of modules that import each other, by way of others too."""
    reach = {module: set(targets) for module, targets in graph.items()}
    for middle in graph:  # Warshall
        for module in graph:
            if middle in reach[module]:
                reach[module] |= reach[middle]
    back = {module: {one for one in reach[module] if module in reach[one]} for module in graph}
    return {frozenset(group) for group in back.values() if group}


PAGE = (Path(__file__).parent.parent / "docs" / "design.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## The verify path")[2].partition("\n## ")[0]
READING = re.findall(r"^\| `([\w.]+)` \|", SECTION, re.MULTILINE)
"""The modules of the verify path in the order in which the page wants them to be read."""


@pytest.mark.parametrize("module", READING)
def test_verify_path_imports_only_what_was_read_before(module: str) -> None:
    before = READING[: READING.index(module)]
    packages = {one.rpartition(".")[0] for one in before}  # such as fwsign.errors, which re-exports
    assert own(module, types=False) <= {*before, *packages}


def test_the_page_about_the_design_has_the_one_list_of_the_verify_path() -> None:
    assert sorted(READING) == VERIFY_PATH
    # What it says of their size is true within a tenth.
    lines, modules, code = (
        int(one.replace(",", ""))
        for one in re.findall(r"about ([\d,]+) lines in (\d+) modules, about ([\d,]+) of", SECTION)[
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
    assert len(VERIFY_PATH) > 20
    assert own("verify.block") >= {"x509.chain", "x509.revocation", "verify.policy"}


def test_each_package_has_its_floor() -> None:
    assert FLOOR.keys() == {package_of(module) for module in MODULES} - {"__init__"}
    assert sum(map(len, FLOORS)) == len(FLOOR)


def test_each_package_imports_only_from_floors_below() -> None:
    wrong = {}
    for module in MODULES.keys() - {"__init__"}:
        package = package_of(module)
        used = {package_of(one) for one in own(module) & MODULES.keys()} - {package, "__init__"}
        wrong[module] = {one for one in used if FLOOR[one] >= FLOOR[package]}
    assert {module: found for module, found in wrong.items() if found} == {}


def test_no_decision_imports_the_meanings_of_codes() -> None:
    code = "import sys, fwsign.verify, fwsign.trust.update; assert 'fwsign.errors' in sys.modules"
    loaded_by(f"{code}; assert 'fwsign.{SHOWN}' not in sys.modules")
    loaded_by(
        f"import sys; from fwsign.errors import CODES; assert 'fwsign.{SHOWN}' in sys.modules"
    )


def test_few_modules_lie_beside_the_packages() -> None:
    beside = [module for module, path in MODULES.items() if path.parent == SOURCE]
    assert len(beside) <= 8


def test_no_modules_import_each_other() -> None:
    graph = {module: own(module, types=False) & MODULES.keys() for module in MODULES}
    for module, targets in graph.items():
        targets.discard(module.rpartition(".")[0])  # its package, which Python loads first anyway
    assert graph["verify.block"] >= {"x509.chain", "x509.revocation", "verify.policy"}
    assert circles(graph) == set()


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a", "e"}, "e": {"e"}, "f": set[str]()}
    assert circles(graph) == {frozenset("abc"), frozenset("e")}


@pytest.mark.parametrize("module", VERIFY_PATH)
def test_verify_path_needs_only_cryptography(module: str) -> None:
    assert others(module) <= {CRYPTOGRAPHY}


WITH_KEYS = ("format.library", "format.cose", "format.ciphertext", "format.key_wrap")
FORMATS = [one for one in VERIFY_PATH if one.startswith("format.") and one not in WITH_KEYS]


@pytest.mark.parametrize("module", ["errors.classes", SHOWN, "x509.der", *FORMATS])
def test_formats_need_no_cryptography(module: str) -> None:
    assert others(module) == set()


@pytest.mark.parametrize("module", VERIFY_PATH)
def test_verify_path_reads_no_clock_file_or_environment(module: str) -> None:
    assert not imports(module) & IO_MODULES
    calls = [node.func for node in ast.walk(tree(module)) if isinstance(node, ast.Call)]
    attributes = {call.attr for call in calls if isinstance(call, ast.Attribute)}
    names = {call.id for call in calls if isinstance(call, ast.Name)}
    assert not attributes & CLOCKS
    assert not names & {"open", "print", "input", "exec", "eval", "__import__"}


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("seal", "verify.verified"),
        ("seal_channel", "verify.verified"),
        ("seal_permit", "verify.permit"),
    ],
)
def test_only_verify_seals(name: str, place: str) -> None:
    users = [module for module in MODULES if name in names_used(module)]
    assert sorted(users) == [place, "verify.verifier"]


def test_only_verification_makes_what_is_sealed() -> None:
    users = [module for module in MODULES if "verify.sealed" in own(module)]
    assert sorted(users) == ["verify.any_file", "verify.permit", "verify.verified"]


@functools.cache
def names_used(module: str) -> set[str]:
    nodes = list(ast.walk(tree(module)))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    names |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    names |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    return names | {node.name for node in nodes if isinstance(node, ast.alias)}


def test_nobody_imports_the_command_line() -> None:
    users = {
        module
        for module in MODULES
        if any(one.split(".")[0] == "cli" for one in own(module))
        and module.split(".", maxsplit=1)[0] not in ("cli", "__main__")
    }
    assert users == set()


def test_each_library_is_used_where_it_belongs() -> None:
    used = {(module, library) for module in MODULES for library in others(module)}
    assert {one for one in used if not one[0].startswith(PLACES.get(one[1], ""))} == set()
    assert not {library for _, library in used} & NOT_YET


@pytest.mark.parametrize("module", [one for one in sorted(MODULES) if one.startswith("images.")])
def test_images_know_nothing_else(module: str) -> None:
    found = {one for one in own(module) if not one.startswith("images")}
    assert found <= {"errors", "format.payload"}  # of the latter, the size of pieces
    assert others(module) == set()


READS = re.compile(r"read\w*\(")
READ_TO_A_LIMIT = {"format.streams", "gateway.https.fetch", "keys.exchange", "receipts.file"}
"""Loops that read what is small as a whole, such as a block, or line by line."""


def test_all_that_is_hashed_is_read_in_pieces_of_one_size() -> None:
    loops: dict[str, list[str]] = {}
    for module in MODULES:
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.While):
                head = ast.unparse(node.test)
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "iter":
                head = ast.unparse(node)
            else:
                continue
            if READS.search(head):
                loops.setdefault(module, []).append(head)
    assert {"format.payload", "signing.release"} <= loops.keys()
    for module in loops.keys() - READ_TO_A_LIMIT - {"reading"}:  # the last fills a buffer
        assert all("CHUNK_SIZE" in head for head in loops[module]), (module, loops[module])
    for module in ("reading", "gateway.target.stage", "images.base"):
        assert "CHUNK_SIZE" in names_used(module)
    named = [module for module in MODULES if "CHUNK_SIZE: Final" in MODULES[module].read_text()]
    assert named == ["format.payload"]


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


NEVER = {
    "asyncio",
    "boto3",
    "concurrent",
    "esptool",
    "http",
    "json",
    "logging",
    "multiprocessing",
    "paho",
    "pickle",
    "pydantic",
    "pydantic_core",
    "queue",
    "requests",
    "rich",
    "serial",
    "sqlite3",
    "ssl",
    "unittest",
    "usb",
    "xml",
}
"""What neither signing nor verifying a file has a use for; the start of a process pays for each."""


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a PKI and a signed file."""
    place = tmp_path_factory.mktemp("signed")
    (place / "build.bin").write_bytes(bytes(1000))
    loaded_by_command(
        place, "init", "--org", "A", "--vendor", "a.example", "--product", "p", "--no-passphrase"
    )
    loaded_by_command(place, "sign", "build.bin")
    return place


def loaded_by_command(place: Path, *arguments: str) -> set[str]:
    """Return the top names of what a command has loaded at its end, which is a good one."""
    return loaded_by(f"""
import os, sys
os.chdir({str(place)!r})
sys.argv = ["fwsign", "--quiet", *{arguments!r}]
from fwsign.cli import main
try:
    main()
except SystemExit as done:
    assert done.code in (0, None), done.code
""")


@pytest.mark.parametrize(
    ("command", "used"),
    [
        (("sign", "--force", "build.bin"), {"json"}),  # for the line of the log
        (("verify", "--min-sequence", "0", "build.bin.suit"), set()),
    ],
)
def test_signing_and_verifying_load_nothing_in_vain(
    signed: Path, command: tuple[str, ...], used: set[str]
) -> None:
    found = loaded_by_command(signed, *command)
    assert {"typer", CRYPTOGRAPHY, "fwsign"} <= found
    assert found & NEVER == used


def test_the_verifier_loads_nothing_in_vain() -> None:
    never = {"bz2", "dataclasses", "inspect", "mmap", "pathlib", "platform", "shutil", "uuid"}
    alone = loaded_by("import cryptography.hazmat.primitives.serialization, cryptography.x509")
    found = loaded_by("import fwsign.verify")
    assert "fwsign" in found
    assert (found - alone) & (never | NEVER) == set()
