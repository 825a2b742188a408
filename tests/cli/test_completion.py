"""Completion scripts, run by the shells themselves."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli.kit import good, refused, run

CASES = {
    "fwsign ver": {"verify", "version"},
    "fwsign pki iss": {"issue"},
    "fwsign pki issue si": {"signer"},
    "fwsign --quiet pki ex": {"expire", "export"},
    "fwsign pki issue signer --ca-p": {"--ca-pass"},
    "fwsign sign x --dry": {"--dry-run"},
    "fwsign verify --min-": {"--min-sequence"},
    "fwsign key convert --le": {"--legacy"},
}

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs a POSIX system")


def shell(name: str, *arguments: str) -> str:
    """Run a shell, if there is one of that name; return its standard output."""
    if shutil.which(name) is None:
        if os.environ.get("FWSIGN_REQUIRE_EXTERNAL") == "1":
            pytest.fail(f"there is no {name}")
        pytest.skip(f"there is no {name}")
    found = subprocess.run([name, *arguments], capture_output=True, text=True, check=False)
    assert found.stderr == ""
    return found.stdout


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Where a script is written."""
    return tmp_path / "script"


@pytest.mark.external
@pytest.mark.parametrize("line", CASES)
def test_bash(script: Path, line: str) -> None:
    script.write_text(good("completion", "bash"))
    words = line.split()
    run_it = (
        f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _fwsign; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    assert set(shell("bash", "--norc", "-c", run_it).split()) == CASES[line]


@pytest.mark.external
def test_bash_leaves_files_to_itself(script: Path) -> None:
    script.write_text(good("completion", "bash"))
    run_it = (
        f'source {script}; COMP_WORDS=(fwsign sign ""); COMP_CWORD=2; _fwsign; '
        'echo "${#COMPREPLY[@]}"; complete -p fwsign'
    )
    assert shell("bash", "--norc", "-c", run_it) == "0\ncomplete -o default -F _fwsign fwsign\n"


@pytest.mark.external
@pytest.mark.parametrize("line", CASES)
def test_fish(script: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(script.parent))
    script.write_text(good("completion", "fish"))
    out = shell("fish", "--no-config", "-c", f"source {script}; complete -C '{line}'")
    found = {entry.split("\t")[0] for entry in out.splitlines()}
    assert found == CASES[line]


@pytest.mark.external
@pytest.mark.parametrize("line", [one for one, found in CASES.items() if len(found) == 1])
def test_zsh(script: Path, line: str) -> None:
    shell("zsh", "-fc", "true")
    script.write_text(good("completion", "zsh"))
    typed = (
        "zmodload zsh/zpty; zpty shell zsh -f -i; "
        "zpty -w shell 'PS1=; autoload -U compinit; compinit -D -u; "
        f"source {script}; zstyle :completion:\\* list-prompt \"\"; print rea''dy'; "
        "zpty -r shell out '*ready*ready*' 2>/dev/null || zpty -r shell out '*ready*'; "
        f"zpty -w -n shell $'{line}\\t'; sleep 1; zpty -w -n shell $'\\x15'; "
        "while zpty -r -t shell out; do print -r -- $out; done; zpty -d shell"
    )
    (word,) = CASES[line]
    assert word in shell("zsh", "-fc", typed)


@pytest.mark.external
@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_the_script_is_one_that_the_shell_reads(script: Path, name: str) -> None:
    script.write_text(good("completion", name))
    assert shell(name, "-n", str(script)) == ""


def test_another_shell_is_refused() -> None:
    refused(
        run("completion", "tcsh"),
        2,
        '"tcsh" is not a shell that is known here',
        "choose bash, zsh, fish",
    )


def test_all_commands_and_options_are_in_it() -> None:
    from cli.test_hints import COMMANDS  # built when imported

    text = good("completion", "bash")
    for path, one in COMMANDS.items():
        assert f"' {' '.join(path)}') commands=''" in text
        options = {name for option in one.params for name in option.opts if name[:2] == "--"}
        (line,) = (
            each for each in text.splitlines() if each.strip().startswith(f"' {' '.join(path)}') c")
        )
        assert options <= set(line.split("options='")[1].split("'")[0].split())


def test_no_other_program_is_started_to_complete() -> None:
    for name in ("bash", "zsh", "fish"):
        assert sys.executable not in good("completion", name)
        assert "$(fwsign" not in good("completion", name)
        assert "(fwsign" not in good("completion", name)
