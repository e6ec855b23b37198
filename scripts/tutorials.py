"""Runs the tutorials that need no download, and keeps what their commands print and draw for the site.

    python scripts/tutorials.py                # into build/docs; two at a time
    python scripts/tutorials.py --workers 1

Every block of a page marked as ``sh`` or ``python`` is run as it stands, in an empty folder with the ``configs`` and
``templates`` of this repository. ``scripts/site_pages.py`` puts the outputs behind the blocks, and the pictures in the
place of ``<!-- picture: PATTERN | CAPTION -->``: files of the run, four of them side by side at most. Of
``BUNDLE<PATTERN`` the picture is the viewer of that bundle with these radiographs open.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"
PRODUCED = ROOT / "build" / "docs"
"""What is kept: per tutorial a folder with ``<number of the block>.txt`` and ``<number of the picture>.png``."""

CHAINS = (
    ("first_hour", "edge_device", "archive"),  # each goes on where the one before ended
    ("model_plugin", "preparation_step"),
    ("own_radiographs",),
)
LINES = 18
"""Printed lines that a page shows of a block: the first few, and the last."""

SIDE, WIDTH, AT_MOST = 320, 1600, 4
"""Height of pictures that stand side by side, their width in all, in pixels, and their number."""

SLOWEST_ANSWER = 60_000
"""Milliseconds that the viewer has for each thing that is waited for, on a busy machine too."""

BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(r"^<!-- picture: (\S+) \| .+? -->$", re.MULTILINE)
MARK = "\x1e"

PRELUDE = """set -euo pipefail
# In the build nothing is downloaded: `pip install` makes the wheel of the current folder and unpacks it.
pip() {
  rm -rf "$INSTALLED.wheel"
  python -m hatchling build --target wheel --directory "$INSTALLED.wheel" >/dev/null 2>&1
  python -m zipfile -e "$INSTALLED.wheel"/*.whl "$INSTALLED"
}
anomalib-xray() { [ "$1" = app ] || command anomalib-xray "$@"; }  # a server would not end
"""


def main() -> int:
    """Runs all chains; the exit status is 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2, help="chains that run at once")
    parser.add_argument("--only", help="a tutorial; those before it in its chain run too")
    arguments = parser.parse_args()
    chains = [chain[: chain.index(arguments.only) + 1] for chain in CHAINS if arguments.only in chain]
    with ThreadPoolExecutor(arguments.workers) as pool:
        return int(not all(pool.map(run_chain, chains or CHAINS)))


def run_chain(pages: tuple[str, ...]) -> bool:
    """Runs the pages one after another in one folder."""
    folder = ROOT / "build" / "tutorials" / pages[0]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("configs", "templates"):
        (folder / name).symlink_to(ROOT / name)
    for page in pages:
        started = time.monotonic()
        done = run_page(page, folder)
        print(f"{page}: {'done' if done else 'FAILED'} in {time.monotonic() - started:.0f} s", flush=True)
        if not done:
            return False
    return True


def run_page(page: str, folder: Path) -> bool:
    """Runs the blocks of a page; keeps its outputs and pictures."""
    text = (TUTORIALS / f"{page}.md").read_text(encoding="utf-8")
    blocks = [block if language == "sh" else f"python - <<'PYTHON'\n{block}PYTHON\n"
              for language, block in BLOCK.findall(text)]  # fmt: skip
    script = PRELUDE + f"printf '{MARK}'\n".join(blocks)
    kept = PRODUCED / page
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    errors = folder / f"{page}.log"
    with errors.open("w") as log:
        ran = subprocess.run(
            ["bash", "-c", script], cwd=folder, env=environment(folder), stdout=subprocess.PIPE, stderr=log, text=True
        )
    for number, printed in enumerate(ran.stdout.split(MARK)):
        (kept / f"{number}.txt").write_text(shortened(printed, folder), encoding="utf-8")
    if ran.returncode != 0:
        print(ran.stdout[-2000:], errors.read_text()[-4000:], sep="\n", file=sys.stderr)
        return False
    kept_all = True
    for number, pattern in enumerate(PICTURE.findall(text)):
        kept_all &= keep_picture(folder, pattern, kept / f"{number}.png")
    return kept_all


def environment(folder: Path) -> dict[str, str]:
    """The environment of the commands: this interpreter's programs, and a place for what a tutorial installs."""
    installed = folder.resolve() / "installed"
    path = [str(ROOT / "src"), str(ROOT / "plugins"), str(installed)]
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(path),
        "INSTALLED": str(installed),
        "PYTHONWARNINGS": "ignore",
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "100",
        "NO_COLOR": "1",
        "TERM": "dumb",
    }


def shortened(printed: str, folder: Path) -> str:
    """What a page shows of an output: the last state of lines that were written over, no paths of this machine."""
    printed = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", printed).replace(f"{folder.resolve()}/", "")
    lines = [line.rpartition("\r")[2].rstrip() for line in printed.replace("\r\n", "\n").splitlines()]
    lines = [line for line in lines if not re.search(r"━{5} .*\d:\d\d:\d\d", line)]  # bars of progress
    if len(lines) > LINES:
        lines = [*lines[: LINES // 3], "[...]", *lines[-2 * LINES // 3 :]]
    return "\n".join(lines)


def keep_picture(folder: Path, pattern: str, out: Path) -> bool:
    """Writes the pictures that a pattern finds as one; of a page of HTML or a bundle's viewer, what a browser shows."""
    bundle, _, pattern = pattern.rpartition("<")
    found = sorted(path for path in folder.glob(pattern) if path.is_file())[:AT_MOST]
    if not found:
        print(f"No file fits {pattern}.", file=sys.stderr)
        return False
    if bundle:
        return photographed_viewer(folder, bundle, found, out)
    if found[0].suffix == ".html":
        return photographed(found[0], out)
    import cv2

    pictures = [cv2.imread(str(path), cv2.IMREAD_COLOR) for path in found]
    if len(pictures) > 1:
        pictures = [cv2.resize(one, (round(one.shape[1] * SIDE / one.shape[0]), SIDE)) for one in pictures]
    while len(pictures) > 1 and sum(one.shape[1] for one in pictures) > WIDTH:
        del pictures[-1]
    return bool(cv2.imwrite(str(out), cv2.hconcat(pictures), [cv2.IMWRITE_PNG_COMPRESSION, 9]))


def browser_for(what: str) -> str | None:
    """The installed Chromium; none, and a line that says so, where there is none."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        print(f"No Chromium is installed, so the site shows no picture of {what}.")
    return found


def photographed(page: Path, out: Path) -> bool:
    """A picture of the top of a page."""
    browser = browser_for(page.name)
    if browser is None:
        return True
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1200,1400"]
    ran = subprocess.run(
        [browser, *options, f"--screenshot={out}", page.resolve().as_uri()], capture_output=True, check=False
    )
    return ran.returncode == 0 and out.is_file()


def photographed_viewer(folder: Path, bundle: str, radiographs: list[Path], out: Path) -> bool:
    """A picture of the viewer when it has answered."""
    browser = browser_for("the viewer")
    if browser is None:
        return True
    from playwright.sync_api import sync_playwright

    command = ["anomalib-xray", "app", "--bundle", bundle, "--port", "0", "--threads", "1"]
    unbuffered = {**environment(folder), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=folder, env=unbuffered, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = next(filter(None, (re.search(r"http://\S+", line) for line in server.stdout)))[0]
            with sync_playwright() as running:
                opened = running.chromium.launch(executable_path=browser, args=["--no-sandbox"])
                page = opened.new_page(viewport={"width": 1200, "height": 800})
                page.set_default_timeout(SLOWEST_ANSWER)
                page.goto(address)
                page.locator("#open[data-ready]").wait_for()
                page.locator("#files").set_input_files(radiographs)
                page.locator(".thumb.done").nth(len(radiographs) - 1).wait_for()
                page.screenshot(path=out)
                opened.close()
        finally:
            server.terminate()
    return out.is_file()


if __name__ == "__main__":
    sys.exit(main())
