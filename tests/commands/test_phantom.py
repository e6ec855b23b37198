from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from anomalib_xray.commands.phantom import phantom


def test_it_says_what_lies_where_and_how_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    phantom(tmp_path / "set", patients=2)
    said = capsys.readouterr().out
    count = len([*(tmp_path / "set").glob("*/XR_HAND/**/*.png")])
    assert f"{tmp_path / 'set'}: {count} phantom radiographs of 2 patients" in said
    assert "anomalib train --config configs/cae.yaml --config configs/data/phantom.yaml" in said


def test_importing_the_command_imports_nothing_heavy() -> None:
    script = "import sys, anomalib_xray.commands.phantom; print(*sorted({'cv2', 'numpy', 'torch'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


def test_the_generator_needs_numpy_and_opencv_only() -> None:
    script = (
        "import sys; from anomalib_xray.phantom import *; "
        "print(*sorted({'torch', 'anomalib', 'scipy', 'pandas', 'rich'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


def test_unknown_names_are_attribute_errors() -> None:
    import anomalib_xray.phantom as package

    with pytest.raises(AttributeError, match="paint_everything"):
        package.paint_everything  # noqa: B018  # reading the attribute is the test
