"""A process that holds one backend and answers when it is told to, so that several can take turns.

It reads a line of JSON, ``{"backend": {...}, "threads": n, "pictures": [paths]}``, loads the backend, answers for the
first picture, and writes ``{"ready": true}``. Then it reads numbers of pictures, one a line, and writes for each how
many seconds the answer took and the memory of the process. It ends with its input.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from anomalib_xray.errors import XrayError


def main() -> None:
    """Serves one backend."""
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        _serve(json.loads(sys.stdin.readline()), answers)
    except XrayError as error:
        print(json.dumps({"error": str(error)}), file=answers)
    except Exception as error:  # a row of the table says what any backend raises
        print(json.dumps({"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}), file=answers)


def _serve(job: dict[str, Any], answers: Any) -> None:  # noqa: ANN401  # a text stream
    from anomalib_xray.bench.backends import Backend, export_graph, open_backend
    from anomalib_xray.io.read import read_radiograph

    backend = Backend(**job["backend"])
    if backend.kind == "export":
        export_graph(Path(job["checkpoint"]), backend.option or None, Path(backend.path))
        print(json.dumps({"ready": True}), file=answers)
        return
    run = open_backend(backend, job["threads"])
    run(read_radiograph(job["pictures"][0]))
    print(json.dumps({"ready": True, "memory": resident_bytes()}), file=answers)
    pictures = [read_radiograph(path) for path in job["pictures"]]
    for line in sys.stdin:
        start = perf_counter()
        run(pictures[int(line)])
        seconds = perf_counter() - start
        print(json.dumps({"seconds": seconds, "memory": resident_bytes()}), file=answers)


def resident_bytes() -> int | None:
    """Largest resident memory of this process so far in bytes; ``None`` where the system does not say."""
    try:
        # Not resource.getrusage: what it gives includes the parent's memory at the moment of the fork.
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


if __name__ == "__main__":
    main()
