"""Every command that the documentation prints runs as it is printed.

All run in one process and one scratch folder, in the order in which they stand, on tiny phantoms; what a command is cut
short by stands in ``CUTS``, what is only parsed in ``PARSED``, each with its reason. A command that is in neither, and
that is no verb of ours or anomalib's, fails.
"""

from __future__ import annotations

import argparse
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAMS = (
    "anomalib", "anomalib-xray", "bash", "cp", "dask", "docker", "find", "make", "mypy", "pip", "podman", "pytest",
    "python", "python3", "ruff", "tensorboard", "uv", "/usr/bin/time",
)  # fmt: skip
"""First words by which a command is known outside of blocks that are marked as shell."""

PHANTOMS = "--data.patients 8 --data.positive_share 0.4"
HANDS = "--data.body_parts XR_HAND --data.test_on test"  # what the tree in MURA's place has
CHESTS = (
    "--data.sizes '{train: 4, val_normal: 2, val_abnormal: 2, test_normal: 2, test_abnormal: 2}' "
    "--data.pool '{size: 4, anomaly_rate: 0.5, reserve: 0.0, seed: 42}'"
)
SHORT = (
    "--trainer.max_epochs 2 --trainer.limit_train_batches 1 --trainer.limit_val_batches 2 "
    "--trainer.limit_test_batches 2 --trainer.check_val_every_n_epoch 2 --trainer.enable_progress_bar false "
    "--trainer.accelerator cpu --data.train_batch_size 2 --data.eval_batch_size 4 --data.num_workers 0"
)

CUTS = [  # beginning of a command by regular expression, what is appended to it
    (r"anomalib (train|test|predict)\b.*configs/data/(chest|rsna_pneumonia|vinbigdata)", f"{SHORT} {CHESTS}"),
    (r"anomalib train\b.*configs/latent_ensemble", f"{SHORT} --model.weights null --model.image_size 224"),
    (
        r"anomalib train\b.*configs/latent_detector",
        f"{SHORT} {PHANTOMS} --model.weights null --model.image_size 224",
    ),
    (r"anomalib (train|test|predict)\b.*configs/data/(mura_hand|fracatlas|hands_example)", SHORT),
    (  # with abnormal patients enough that one of them trains
        r"anomalib train\b.*configs/deep_sad.*phantom",
        f"{SHORT} --data.root more_phantoms --data.patients 40 --data.positive_share 0.4",
    ),
    (
        r"anomalib train\b.*configs/anogan.*phantom",
        f"{SHORT} {PHANTOMS} --model.search_steps 2 --model.validation_search_steps 2",
    ),
    (r"anomalib train\b.*configs/(alphagan|bigan)\.yaml.*phantom", f"{SHORT} {PHANTOMS} --model.width 8"),
    (r"anomalib train\b.*configs/paper/alphagan_report", f"{SHORT} {HANDS} --model.width 8"),
    (r"anomalib (train|test)\b.*(configs/data/phantom|tuning/best)", f"{SHORT} {PHANTOMS}"),
    (r"anomalib (train|test)\b", f"{SHORT} {HANDS}"),
    (r"anomalib predict\b", "--trainer.limit_predict_batches 2"),
    (r"anomalib-xray (benchmark|tune)\b", "--dry_run"),  # tests of their own run small ones
    (r"anomalib-xray phantom\b.*--out films", "--patients 2 --positive_share 0.4"),  # raw films take long to prepare
    (r"anomalib-xray phantom\b", "--patients 8 --positive_share 0.4"),
    (r"anomalib-xray prepare\b", "--workers 1"),
    (r"anomalib-xray bundle\b.*--false_alarms", "--int8 false --false_alarms 0.5"),  # of so few patients no less
    (r"anomalib-xray bundle\b", "--int8 false"),
    (r"anomalib-xray bench\b", "--runs 1 --threads 1"),
    (r"anomalib-xray app\b", "--port 0"),  # the server itself is left out
    (r"anomalib-xray train-foreground\b", "--steps 2 --images 2 --batch_size 1"),
    (r"anomalib-xray train-localizer\b", "--steps 1 --batch_size 1"),
    (r"anomalib-xray\b", ""),
    (r"find (archive|pacs) .*\| anomalib-xray predict\b", ""),
    (r"/usr/bin/time -v anomalib-xray\b", ""),
    (r"anomalib export\b", ""),
]

RUNS = {  # page: the run that it calls RUN, of an earlier command; other pages have one of a CAE, which exports fast
    "plugins/anomalib_xray_plugins/alpha_gan/README.md": "results/AlphaGan/XR_HAND/latest",
}

PARSED = [  # beginning of a command by regular expression, why it is not run
    (r"(uv )?pip install\b", "installs"),
    (r"pip download\b", "needs a network"),
    (r"python3? -m venv\b|uv venv\b|\. \.venv/", "installs"),
    (r"cd ", "changes the folder of a shell"),
    (r"make (demo|test|lint|docs|release)\b", "installs"),
    (r"bash scripts/demo\.sh", "takes minutes; its steps are run one by one by other tests"),
    (r"(pytest|mypy|ruff|typos)\b", "checks the repository itself"),
    (r"python benchmarks/", "measures for minutes or hours"),
    (r"(podman|docker) ", "needs a container engine"),
    (r"dask ", "needs a cluster"),
    (r"anomalib-xray prepare .*--scheduler", "needs a cluster"),
    (r"wait$|last=|(ls|grep|sed|find hour\S*) ", "a shell's own"),
    (r"anomalib train .*\$\{last", "goes on with a training of an earlier job"),
    (r"anomalib-xray train-recogniser\b", "needs several body parts; tests/preparation_models trains one"),
    (r"tensorboard ", "a server of others"),
    (r"anomalib-xray train-foreground .*--masks", "needs drawn masks; tests/preparation_models draws some"),
    (r"anomalib-xray tune .*--trials", "a search that ships, each of which tests/experiments checks"),
    (r"anomalib-xray bench .*--checkpoint", "starts torch anew in three processes; tests/bundling runs it"),
    (r"cp -r templates/plugin", "installs a copy of the template, which a test of its own does"),
    (r"anomalib (train|export) --config config\.yaml", "needs an installed copy of the template"),
]


PYTHON = {  # first line of a block of Python: what is put for something else in it; None where it is only compiled
    "import anomalib_xray.models  # makes the plugins known to anomalib": {
        "max_epochs=20": "max_epochs=1, limit_train_batches=1, limit_val_batches=2, limit_test_batches=2",
        'root="few_phantoms"': "patients=8, positive_share=0.4, train_batch_size=2, num_workers=0",
    },
    "from anomalib_xray.edge.predictor import open_predictor": {},
    "from anomalib_xray.data import FracAtlas": {},
    "from pathlib import Path": {},
    "import csv": {},
    "import json": {},
    "import numpy as np": {},
    "from dask_jobqueue import SLURMCluster": None,
    "from safetensors import safe_open": None,  # tests/bundling runs it
    "import pandas as pd": None,  # of a benchmark's results, which tests/e2e reads
    "import fiftyone as fo": None,
    "from anomalib_xray.models import AlphaGan": None,  # an export takes minutes; tests/plugins/alpha_gan has one
    "class TestMyModel(ModelContract):": None,
    "from anomalib_xray.testing import StepContract": None,
}


def documents() -> list[Path]:
    """Pages and configurations that print commands, in the order in which they are run: that of the navigation."""
    navigation = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    pages += [path for path in (ROOT / "docs" / page for page in navigation) if path.is_file()]
    for folder in ("datasets", "plugins", "templates", "deploy", "src"):
        pages += sorted((ROOT / folder).rglob("README.md"))
    configs = sorted((ROOT / "configs").rglob("*.yaml"))
    return [*pages, *configs, *sorted((ROOT / "templates").rglob("*.yaml"))]


def commands_of(text: str, *, is_page: bool) -> Iterator[str]:
    """Commands of a page (blocks of shell and Python, and known programs between backticks) or of a file's comments."""
    if not is_page:
        comments = "\n".join(line.removeprefix("#") for line in text.splitlines() if line.startswith("#"))
        for line in joined(comments, {}):
            if line.startswith(PROGRAMS) and line.split(maxsplit=1)[0] in PROGRAMS and _has_arguments(line):
                yield line
        return
    values: dict[str, str] = {}
    for language, block in re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
        if language == "python":
            yield textwrap.dedent(block)
            continue
        for line in joined(block, values):
            if language in ("sh", "bash", "shell", "console"):
                yield from (part.strip() for part in re.split(r"&&|(?<=\s)&(?=\s|$)", line) if part.strip())
            else:
                assert not _is_command(line), f"The block with {line!r} is not marked as sh."
    prose = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose):
        line = " ".join(span.split())
        if _is_command(line) and _has_arguments(line):
            yield line


def joined(text: str, values: dict[str, str]) -> Iterator[str]:
    """Logical lines without their comments, the values of shell variables put into them."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        line = re.sub(r"(^|\s)#.*", "", line).strip()
        if assignment := re.fullmatch(r"([A-Z_]+)=(\S+)", line):
            values[assignment[1]] = assignment[2]
        elif line:
            yield re.sub(r"\$([A-Z_]+)", lambda name: values.get(name[1], name[0]), line)


def _is_command(line: str) -> bool:
    return line.removeprefix("OMP_NUM_THREADS=1 ").split(" ")[0] in PROGRAMS and " " in line


def _has_arguments(line: str) -> bool:
    """Whether it is more than the name of a verb, such as ``anomalib-xray fuse``."""
    words = line.split()
    return len(words) > 2 or words[0] not in ("anomalib", "anomalib-xray", "pip", "python", "find")


def documented() -> dict[str, str]:
    """Each command and block of Python once, with where it stands first."""
    found: dict[str, str] = {}
    for path in documents():
        for line in commands_of(path.read_text(encoding="utf-8"), is_page=path.suffix == ".md"):
            told = line if "\n" in line else re.sub(r"\s+", " ", line.removeprefix("OMP_NUM_THREADS=1 "))
            found.setdefault(told, str(path.relative_to(ROOT)))
    return found


DOCUMENTED = documented()


def first(table: list[tuple[str, str]], command: str) -> str | None:
    """What a table says to the first of its entries that fits."""
    return next((told for pattern, told in table if re.match(pattern, command)), None)


class _ParsedError(Exception):
    """The arguments were accepted; no more is wanted."""


def parse(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the arguments of a command checked by the program's own parser where it is ours."""
    words = shlex.split(command)
    if words[0] == "anomalib-xray":
        from anomalib_xray import cli

        monkeypatch.setattr(cli, "_function", _checked_only(cli._function))
        assert cli.main(words[1:]) == 0
    elif words[0] in ("python", "python3") and words[1].startswith("benchmarks/"):
        original = argparse.ArgumentParser.parse_args

        def parse_args(self: argparse.ArgumentParser, *arguments: object) -> None:
            original(self, *arguments)  # type: ignore[arg-type, call-overload]
            raise _ParsedError

        monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
        monkeypatch.setattr(sys, "argv", words[1:])
        monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))  # as Python does for a script
        with pytest.raises(_ParsedError):
            runpy.run_path(str(ROOT / words[1]), run_name="__main__")
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif words[0] == "bash":
        subprocess.run(["bash", "-n", ROOT / words[1]], check=True)
    elif words[0] == "anomalib":
        assert words[1] in ("train", "export")


def _checked_only(
    function_of: Callable[[str], Callable[..., int | None]],
) -> Callable[[str], Callable[..., int | None]]:
    """Stand-ins of the verbs' functions that have their arguments and do nothing."""
    import functools

    def stand_in(verb: str) -> Callable[..., int | None]:
        @functools.wraps(function_of(verb))
        def nothing(*_: object, **__: object) -> None:
            return None

        return nothing

    return stand_in


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a command in this process where it can be."""
    words = shlex.split(command)
    if "|" in words:
        # The environment that runs the tests need not be the active one.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        script = f"set -euo pipefail; {command}"
        subprocess.run(["bash", "-c", script], check=True, timeout=120, env={**os.environ, "PATH": path})
        return
    if words[0].endswith("time"):
        words = words[2:]
    if words[0] == "anomalib":
        from anomalib.cli.cli import AnomalibCLI

        monkeypatch.setattr(sys, "argv", words)
        AnomalibCLI()
        return
    from anomalib_xray.app import listen
    from anomalib_xray.cli import main

    if words[1] == "bundle":  # the scratch folder has some already
        shutil.rmtree(words[words.index("--out") + 1], ignore_errors=True)
    monkeypatch.setattr(listen, "listen", lambda *_: 0)
    assert main(words[1:]) in (0, 1 if words[1] == "predict" else 0)


def run_python(block: str, where: str) -> None:
    """Runs a block of Python, or compiles it only."""
    opening = block.partition("\n")[0]
    assert opening in PYTHON, f"{where}: put the block that begins with {opening!r} into PYTHON."
    changes = PYTHON[opening]
    for printed, short in (changes or {}).items():
        assert printed in block
        block = block.replace(printed, short)
    code = compile(block, where, "exec")
    if changes is not None:
        exec(code, {"__name__": "documented"})


def test_the_documentation_is_read() -> None:
    assert len(DOCUMENTED) > 80
    assert {"README.md", "docs/reference/edge.md", "configs/ae_ssim.yaml"} <= set(DOCUMENTED.values())


@pytest.mark.slow
@pytest.mark.parametrize("command", DOCUMENTED, ids=[command.partition("\n")[0] for command in DOCUMENTED])
def test_command_runs_as_printed(command: str, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(scratch)
    where = DOCUMENTED[command]
    if "\n" in command:
        run_python(command, where)
        return
    assert "…" not in command, f"{where}: {command!r} cannot be run as it is printed."
    if first(PARSED, command) is not None:
        parse(command, monkeypatch)
        return
    cut = first(CUTS, command)
    assert cut is not None, f"{where}: put {command!r} into CUTS or, with a reason, into PARSED."
    run(re.sub(r"\bRUN/", f"{RUNS.get(where, 'RUN')}/", f"{command} {cut}"), monkeypatch)


@pytest.mark.slow
def test_what_phantom_prints_trains_on_its_phantoms(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(scratch)
    run("anomalib-xray phantom --out phantoms --patients 8 --positive_share 0.4", monkeypatch)
    printed = re.search(r"anomalib train .*", capsys.readouterr().out)
    assert printed is not None
    run(f"{printed[0]} {SHORT}", monkeypatch)


@pytest.mark.parametrize("command", [command for command in DOCUMENTED if re.search(r"\bpip install\b", command)])
def test_what_is_installed_is_a_clone_and_has_the_extras(command: str) -> None:
    """No release exists, so that no registry knows the distribution."""
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert "anomalib-xray" not in command
    words = shlex.split(command.partition("pip install")[2])
    (path,) = (word for word in words if word.startswith("."))
    assert set(filter(None, re.split(r"[.\[\],]", path))) <= extras.keys()
    if "-c" in words:
        assert (ROOT / words[words.index("-c") + 1]).is_file()
