from __future__ import annotations

import errno
import functools
import importlib.util
import inspect
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import get_type_hints

import pytest
from packaging.requirements import Requirement

from anomalib_xray import NOTICE, __version__, cli, plugins
from anomalib_xray.cli import VERBS, main
from anomalib_xray.errors import XrayError
from anomalib_xray.plugins import Plugin, find_plugins


def sample(images: list[Path], size: int = 3, level: float | None = None, out: Path = Path("here")) -> int:
    """Does nothing much.

    Args:
        images: Files to look at.
        size: Size in pixels.
        level: Level of something.
        out: Folder to write to.
    """
    print(repr((images, size, level, out)))
    return 1


def several(bundle: list[Path] | None = None) -> None:
    """Takes several.

    Args:
        bundle: Folders.
    """
    print(repr(bundle))


def switched(images: list[Path], dry_run: bool = False, keep_all: bool = True, out_dir: Path = Path("here")) -> None:
    """Has switches.

    Args:
        images: Files to look at.
        dry_run: Whether to do nothing.
        keep_all: Whether to keep all.
        out_dir: Folder to write to.
    """
    print(repr(([str(path) for path in images], dry_run, keep_all, str(out_dir))))


def full() -> None:
    """Writes to a full disk."""
    raise OSError(errno.ENOSPC, "No space left on device", "/data/x")


def interrupted() -> None:
    """Is interrupted."""
    raise KeyboardInterrupt


def refused() -> None:
    """Is refused."""
    raise XrayError("image1.png is broken; replace the file.")


@pytest.fixture
def _samples(monkeypatch: pytest.MonkeyPatch) -> None:
    own, function_of = [sample, several, switched, interrupted, refused, full], cli._function
    functions = {function.__name__: function for function in own}
    monkeypatch.setattr(cli, "VERBS", (*VERBS, *functions))
    monkeypatch.setattr(cli, "_function", lambda verb: functions.get(verb) or function_of(verb))


def test_help_lists_every_verb_and_the_notice(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert NOTICE in printed
    for verb in VERBS:
        line = next(line for line in printed.splitlines() if line.startswith(f"  {verb} "))
        assert line.endswith(".")


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: anomalib-xray {verb}")
    assert NOTICE in " ".join(printed.split())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"anomalib-xray {__version__}\n"


@pytest.mark.usefixtures("_samples")
def test_the_signature_gives_the_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "a.png", "b.png", "--level", "0.5", "--out", "there"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == repr(([Path("a.png"), Path("b.png")], 3, 0.5, Path("there")))
    assert main(["sample", "--help"]) == 0
    assert "Files to look at." in capsys.readouterr().out


@pytest.mark.usefixtures("_samples")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], None),
        (["--bundle", "a"], [Path("a")]),
        (["--bundle", "a", "--bundle=b"], [Path("a"), Path("b")]),
        (["--bundle", "[a, b]"], [Path("a"), Path("b")]),
    ],
)
def test_an_option_that_takes_a_list_is_given_once_for_each_item(
    arguments: list[str], expected: list[Path] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["several", *arguments]) == 0
    assert capsys.readouterr().out == f"{expected!r}\n"


@pytest.mark.usefixtures("_samples")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("study/", (["study"], False, True, "here")),
        ("--dry_run study/", (["study"], True, True, "here")),
        ("study/ --dry_run", (["study"], True, True, "here")),
        ("--dry-run study/", (["study"], True, True, "here")),
        ("--dry_run true study/", (["study"], True, True, "here")),
        ("--dry-run false study/", (["study"], False, True, "here")),
        ("--dry-run=false study/", (["study"], False, True, "here")),
        ("--dry-run=true study/", (["study"], True, True, "here")),
        ("--dry_run --dry_run False study/", (["study"], False, True, "here")),
        ("--keep-all false --dry-run study/", (["study"], True, False, "here")),
        ("--dry study/", (["study"], True, True, "here")),
        ("--dry_run ./true", (["true"], True, True, "here")),
        ("--dry_run -- true", (["true"], True, True, "here")),
        ("--out-dir there a --dry-run b --keep-all=false - ", (["a", "b", "-"], True, False, "there")),
        ("--out-dir=a-b_c=d study/", (["study"], False, True, "a-b_c=d")),
    ],
)
def test_switches_work_bare_and_names_of_options_with_hyphens(
    line: str, expected: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["switched", *line.split()]) == 0
    assert capsys.readouterr().out == f"{expected!r}\n"


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_switch_and_every_option_of_every_verb_can_be_written_with_hyphens(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The verb's own signature with another body, so that only the arguments are tried."""
    function = cli._function(verb)
    parameters = inspect.signature(function).parameters
    hints = get_type_hints(function)
    switches = [name for name, entry in parameters.items() if hints[name] is bool and entry.default is not entry.empty]
    values: dict[str, object] = {}

    @functools.wraps(function)
    def stand_in(**given: object) -> None:
        values.update(given)

    monkeypatch.setattr(cli, "_function", lambda _: stand_in)
    required = [name for name, entry in parameters.items() if entry.default is entry.empty]
    arguments = [part for name in required if hints[name] != list[Path] for part in (f"--{_hyphens(name)}", "x")]
    positional = [name for name in required if hints[name] == list[Path]]
    arguments += [f"--{_hyphens(name)}" for name in switches] + ["x" for _ in positional]
    assert main([verb, *arguments]) == 0, capsys.readouterr().err
    assert all(values[name] is True for name in switches)
    assert all(values[name] == [Path("x")] for name in positional)
    assert main([verb, "--help"]) == 0
    printed = capsys.readouterr().out
    for name in parameters.keys() - positional:
        assert f"--{name} [true|false]" in printed if name in switches else f"--{name} " in printed


def _hyphens(name: str) -> str:
    return name.replace("_", "-")


@pytest.mark.usefixtures("_samples")
def test_arguments_can_stand_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sample.yaml").write_text("size: 7\nlevel: 2.5\n")
    assert main(["sample", "--config", str(tmp_path / "sample.yaml"), "a.png", "--level", "1"]) == 1
    assert capsys.readouterr().out == repr(([Path("a.png")], 7, 1.0, Path("here"))) + "\n"


@pytest.mark.usefixtures("_samples")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            [],
            "Name a verb: app, attention, bench, benchmark, bundle, examples, explain, fuse, phantom, plugins",
        ),
        (["trian"], "There is no verb 'trian'"),
        (["sample"], "The argument images is missing"),
        (["sample", "a.png", "--size", "big"], "'big' is no value for the argument size"),
        (["sample", "a.png", "--level", "high"], "'high' is no value for the argument level"),
        (["sample", "a.png", "--nope", "1"], "Unrecognized arguments: --nope 1"),
        (["sample", "a.png", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["refused"], "image1.png is broken; replace the file."),
    ],
)
def test_mistakes_are_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert sentence in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.usefixtures("_samples")
def test_an_interruption_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["interrupted"]) == 130
    assert capsys.readouterr().err == "Interrupted.\n"


@pytest.mark.usefixtures("_samples")
def test_a_full_disk_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["full"]) == 2
    assert capsys.readouterr().err == (
        "error: There is no room left on the disk of /data/x: make some, or write to another disk.\n"
    )


def test_a_reader_that_has_gone_is_no_error() -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; sys.stdin.read(); from anomalib_xray.cli import main; sys.exit(main(['--help']))",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 141
    process.stderr.close()


def test_plugins_says_which_work_and_why_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = Plugin("Cae", "somewhere.cae:Cae", "third-party 1.0", find_plugins("console_scripts")[0].entry_point)

    def checked() -> Iterator[tuple[Plugin, str | None]]:
        yield plugin, None
        yield Plugin("Broken", "b:B", "third-party 1.0", plugin.entry_point), "ImportError: no [red] module"

    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(plugins, "check_models", checked)
    assert main(["plugins"]) == 1
    printed = capsys.readouterr().out
    for text in ("Cae", "somewhere.cae:Cae", "third-party 1.0", "ok", "Broken", "ImportError: no [red] module"):
        assert text in printed


def test_plugins_without_anomalib_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert main(["plugins"]) == 0
    printed = capsys.readouterr().out
    assert "Cae" in printed
    assert "not checked" in printed
    assert "pip install 'anomalib-xray[train]'" in printed


@pytest.mark.parametrize(("name", "without"), [("jsonargparse", "5.0.0"), ("lightning", "3.0.0")])
def test_a_version_that_lacks_what_is_used_is_not_installed(name: str, without: str) -> None:
    """jsonargparse 5 has no ``instantiate_classes``; of Lightning, progress inside its loops is read."""
    content = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    requirements = [*content["dependencies"], *content["optional-dependencies"]["train"]]
    (requirement,) = [found for found in map(Requirement, requirements) if found.name == name]
    assert without not in requirement.specifier
    assert version(name) in requirement.specifier
