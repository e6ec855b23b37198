"""Networks of steps: OpenVINO or ONNX files, loaded once a process and run on one thread."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import openvino  # type: ignore[import-untyped]  # openvino ships no types

from anomalib_xray.errors import XrayError

_State: TypeAlias = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class ModelFile:
    """A model on disk. Cheap to make; nothing is read before it is used.

    Attributes:
        path: The ``.xml`` or ``.onnx`` file.
        companions: Files beside it that belong to it.
        kind: What messages call it.
    """

    path: Path
    companions: tuple[Path, ...]
    kind: str

    def compiled(self) -> Any:  # noqa: ANN401  # openvino ships no types
        """The model, ready to run; loaded again when a file was replaced.

        Raises:
            XrayError: A file cannot be read or is no model.
        """
        return _compiled(self, self.state())

    def fingerprint(self) -> str:
        """SHA-256 of all files together.

        Raises:
            XrayError: A file cannot be read.
        """
        return _digest(self, self.state())

    def state(self) -> _State:
        """Size and time of each file, which tell a replaced model from the one that was loaded before.

        Raises:
            XrayError: A file cannot be read.
        """
        try:
            stats = [file.stat() for file in (self.path, *self.companions)]
        except OSError as error:
            raise self._unreadable(error) from error
        return tuple((stat.st_size, stat.st_mtime_ns) for stat in stats)

    def digest(self) -> str:
        """SHA-256 of all files together, read anew."""
        digest = hashlib.sha256()
        try:
            for file in (self.path, *self.companions):
                digest.update(file.read_bytes())
        except OSError as error:
            raise self._unreadable(error) from error
        return digest.hexdigest()

    def _unreadable(self, error: OSError) -> XrayError:
        return XrayError(f"The {self.kind} {self.path} cannot be read: {error.filename}: {error.strerror}.")


@lru_cache(maxsize=8)
def _digest(model: ModelFile, state: _State) -> str:
    del state
    return model.digest()


@lru_cache(maxsize=8)
def _compiled(model: ModelFile, state: _State) -> Any:  # noqa: ANN401  # openvino ships no types
    del state
    # One thread: pictures are spread over processes instead.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    try:
        return openvino.Core().compile_model(model.path, "CPU", settings)
    except RuntimeError as error:
        raise XrayError(
            f"The {model.kind} {model.path} cannot be loaded: give an .xml file with its .bin beside it, or .onnx."
        ) from error
