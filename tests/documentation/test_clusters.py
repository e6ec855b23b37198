"""Scripts and manifests of the page on clusters: they are what their readers take, and their commands parse."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from anomalib_xray import cli
from anomalib_xray.shards import Shard

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "clusters.md").read_text(encoding="utf-8")


def block(language: str, opening: str) -> str:
    (found,) = re.findall(rf"^```{language}\n({opening}.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def arguments_of(command: str, verb: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments with which a command line calls its verb."""
    given: dict[str, Any] = {}
    function = cli._function(verb)

    def stand_in(_: str) -> Callable[..., None]:
        import functools

        return functools.wraps(function)(lambda **values: given.update(values))

    monkeypatch.setattr(cli, "_function", stand_in)
    words = shlex.split(command)
    assert cli.main(words[words.index(verb) :]) == 0
    return given


def test_the_array_of_slurm_runs_every_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    script = block("text", "#!/bin/bash")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    subprocess.run(["bash", "-n"], input=block("text", "job="), text=True, check=True)
    array = re.search(r"--array=0-(\d+)", script)
    assert array is not None
    count = int(array[1]) + 1
    (command,) = (line for line in script.splitlines() if line.startswith("srun "))
    for number in range(count):
        told = command.replace("$SLURM_ARRAY_TASK_ID", str(number)).replace("$SLURM_ARRAY_TASK_COUNT", str(count))
        given = arguments_of(told, "benchmark", monkeypatch)
        monkeypatch.undo()
        assert Shard.parse(given["shard"]) == Shard(number, count)


def test_the_job_of_kubernetes_runs_every_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    job = yaml.safe_load(block("yaml", "apiVersion: batch/v1"))
    assert (job["kind"], job["spec"]["completionMode"]) == ("Job", "Indexed")
    pod = job["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # which a policy of failures needs
    (container,) = pod["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    count = job["spec"]["completions"]
    shell, option, line, name = container["command"]
    echoing = [shell, option, line.replace("anomalib-xray", "echo"), name, *container["args"]]
    told = subprocess.run(
        echoing, env={"JOB_COMPLETION_INDEX": str(count - 1)}, capture_output=True, text=True, check=True
    ).stdout
    given = arguments_of(told, "prepare", monkeypatch)
    assert Shard.parse(given["shard"]) == Shard(count - 1, count)
    for status, end in ((0, 0), (1, 0), (2, 1), (130, 1)):  # done in part is an end, what was stopped is none
        ran = subprocess.run([shell, option, re.sub(r"anomalib-xray.*/\d+", f"(exit {status})", line)], check=False)
        assert ran.returncode == end
