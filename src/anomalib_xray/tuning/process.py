"""Runs a trial in a process of its own, which reports after each epoch and is ended where it is given up."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomalib_xray.evaluation.runner import environment_of, read_outcome
from anomalib_xray.io.write import write_atomically
from anomalib_xray.tuning.plan import Search
from anomalib_xray.tuning.space import with_values
from anomalib_xray.tuning.study import Outcome

if TYPE_CHECKING:
    from optuna import Trial

TRIALS, TRIAL, PAINTED = "trials", "trial.json", "painted"


class TrialProcess:
    """Tries values in a new interpreter, whose memory and whose failures are its own.

    Args:
        search: The search.
        out: Its folder; a trial's configuration, result and log stay in ``trials/``, what it trained does not.
    """

    def __init__(self, search: Search, out: Path) -> None:
        self.search = search
        self.out = out

    def __call__(self, trial: Trial, values: dict[str, Any]) -> Outcome:
        """Trains with these values and measures.

        Args:
            trial: Takes the measure of each epoch, and says when it is given up.
            values: Values by dotted name.

        Returns:
            How it went.
        """
        folder = self.out / TRIALS / f"{trial.number:04d}"
        task = {
            "config": with_values(self.search.config, values),
            "objective": asdict(self.search.objective),
            "seed": self.search.seed,
            "painted": str((self.out / PAINTED).resolve()),
        }
        write_atomically(folder / TRIAL, json.dumps(task, indent=1, default=str) + "\n")
        start = time.perf_counter()
        status, pruned = self._run(folder, trial)
        seconds = time.perf_counter() - start
        # Checkpoints and pictures of a search would fill a disk.
        shutil.rmtree(folder / "run", ignore_errors=True)
        if pruned:
            return Outcome("pruned", seconds=seconds)
        result = read_outcome(folder, status)
        return Outcome(result["status"], result.get("value"), result.get("reason", ""), seconds)

    @staticmethod
    def _run(folder: Path, trial: Trial) -> tuple[int, bool]:
        """Runs the process; its exit status, and whether it was ended because it is given up."""
        reading, writing = os.pipe()
        with os.fdopen(reading, encoding="utf-8") as reports, (folder / "log.txt").open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "anomalib_xray.tuning.trial", str(folder.resolve()), str(writing)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment_of(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))),
                pass_fds=[writing],
            )
            os.close(writing)
            try:
                for line in reports:
                    epoch, value = json.loads(line)
                    trial.report(value, epoch)
                    if trial.should_prune():
                        return 0, True
                return process.wait(), False
            finally:
                process.kill()
                process.wait()
