from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from anomalib_xray.io.write import completed, scratch

KILLED = """
import os, pathlib, signal, sys
from anomalib_xray.io.write import scratch
with scratch(pathlib.Path(sys.argv[1])) as folder:
    (folder / "large").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_run_left_is_removed_by_the_next_and_what_another_run_uses_is_not(tmp_path: Path) -> None:
    out = tmp_path / "b[1]"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(out)], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    with scratch(tmp_path / "other"), scratch(out) as used:
        assert not left.exists()
        (used / "a").write_text("")
        with completed(out) as folder:
            (folder / "b").write_text("")
        assert (used / "a").exists()
    assert list(tmp_path.rglob("*")) == [out, out / "b"]
