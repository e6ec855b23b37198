"""MkDocs hook: pages that are kept elsewhere than below docs/, links between them, and what commands printed.

The front page is README.md, the model cards are those of the plugins, and the API is that of the docstrings; none of
them is copied. ``scripts/tutorials.py`` writes what this hook puts behind the commands of a tutorial.
"""

from __future__ import annotations

import logging
import os
import re
from itertools import count
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PRODUCED = ROOT / "build" / "docs"
"""Where ``scripts/tutorials.py`` writes."""

log = logging.getLogger("mkdocs.hooks.site_pages")

OUTSIDE = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Files of the repository and the pages that they become; the cards of models and data sets follow by pattern."""
FOLDERS = {"plugins/anomalib_xray_plugins": "explanation/sources.md", "datasets": "reference/datasets/phantom.md"}
"""Folders that pages link to, and the pages that tell of what is in them."""
CARDS = (
    ("plugins/anomalib_xray_plugins/*/README.md", "reference/models"),
    ("datasets/*/README.md", "reference/datasets"),
    ("deploy/README.md", "reference"),
    ("templates/plugin/README.md", "reference"),
)
FROM_SOURCE = ("reference/api/", "reference/verbs.md", "reference/settings.md")
"""Pages of ``scripts/site_reference.py``."""
SHELL_BLOCK = re.compile(r"^```(?:sh|python)\n.*?^```$", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(r"^<!-- picture: (\S+) \| (.+?) -->$", re.MULTILINE)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def pages_outside() -> dict[str, str]:
    """Each file of the repository that is a page of the site, with its place in it."""
    found = dict(OUTSIDE)
    for pattern, folder in CARDS:
        for path in sorted(ROOT.glob(pattern)):
            found[str(path.relative_to(ROOT))] = f"{folder}/{path.parent.name}.md"
    return found


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that are kept elsewhere, and the pictures of the tutorials."""
    for source, page in pages_outside().items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for picture in sorted(PRODUCED.glob("*/*.png")):
        files.append(File.generated(config, f"tutorials/{picture.parent.name}/{picture.name}", abs_src_path=picture))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:  # noqa: ARG001
    """Puts outputs and pictures in, and lets links lead to pages of the site."""
    place = page.file.src_uri
    if place.startswith(FROM_SOURCE):
        return markdown
    outside = pages_outside()
    pages = {**FOLDERS, **outside, **{f"docs/{file.src_uri}": file.src_uri for file in files}}
    source = next((path for path, there in outside.items() if there == place), f"docs/{place}")

    def link(match: re.Match[str]) -> str:
        target, _, anchor = match[3].partition("#")
        if not target or ":" in target:
            return match[0]
        path = os.path.normpath(os.path.join(os.path.dirname(source), target))  # noqa: PTH118, PTH120
        if path not in pages:
            if not (ROOT / path).exists():
                log.warning("%s links to %s, which does not exist.", source, target)
            return f"{match[2]} (`{path}`)"
        there = os.path.relpath(pages[path], os.path.dirname(place) or ".")  # noqa: PTH120
        return f"{match[1]}[{match[2]}]({there}{'#' * bool(anchor)}{anchor})"

    parts = re.split(r"(^ *```.*?^ *```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    markdown = "".join(part if number % 2 else LINK.sub(link, part) for number, part in enumerate(parts))
    return with_output(markdown, Path(place).stem) if place.startswith("tutorials/") else markdown


def with_output(markdown: str, name: str) -> str:
    """A tutorial with what each of its blocks printed, and its pictures, where the build has run it."""
    folder = PRODUCED / name
    blocks, pictures = count(), count()

    def block(match: re.Match[str]) -> str:
        path = folder / f"{next(blocks)}.txt"
        printed = path.read_text(encoding="utf-8").strip("\n") if path.is_file() else ""
        return f'{match[0]}\n\n```text title="prints"\n{printed}\n```' if printed else match[0]

    def picture(match: re.Match[str]) -> str:
        path = folder / f"{next(pictures)}.png"
        shown = f"{name}/{path.name}"  # in a phone's width and, by a click, in its own
        return f"[![{match[2]}]({shown})]({shown})\n*{match[2]}*" if path.is_file() else ""

    if not folder.is_dir() and PICTURE.search(markdown):
        log.warning("The outputs of %s lack: run scripts/tutorials.py first, or `make docs`.", name)
    return PICTURE.sub(picture, SHELL_BLOCK.sub(block, markdown))
