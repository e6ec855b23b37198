"""The site's navigation: nothing of the documentation, and no room of the code, is left out of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "anomalib_xray"
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

NOT_OF_THE_API = {"commands", "models"}
"""Rooms with pages of their own: the verbs, and the models, whose names come from the plugins."""

FROM_SOURCE = {"reference/verbs.md", "reference/settings.md"}
ELSEWHERE = {"index.md", "contributing.md", "changelog.md", "reference/deploy.md", "reference/plugin.md"}
"""Pages that are README.md and others outside of docs/."""


def entries(nav: Any) -> Iterator[str]:
    for entry in nav if isinstance(nav, list) else nav.values() if isinstance(nav, dict) else ():
        if isinstance(entry, str):
            yield entry
        else:
            yield from entries(entry)


NAV = list(entries(SITE["nav"]))


def cards(pattern: str, folder: str) -> set[str]:
    return {f"reference/{folder}/{path.parent.name}.md" for path in ROOT.glob(pattern)}


def test_every_page_stands_in_the_navigation_once() -> None:
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    models = cards("plugins/anomalib_xray_plugins/*/README.md", "models")
    data = cards("datasets/*/README.md", "datasets")
    api = {page for page in NAV if page.startswith("reference/api/")}
    assert sorted(NAV) == sorted(pages | models | data | api | FROM_SOURCE | ELSEWHERE)


def test_every_public_name_has_a_page() -> None:
    # That each of them has a docstring is what ruff's rules D check.
    rooms = {path.parent.name for path in SOURCE.glob("*/__init__.py")} | {path.stem for path in SOURCE.glob("*.py")}
    pages = {Path(page).stem for page in NAV if page.startswith("reference/api/")}
    assert pages == {room for room in rooms if not room.startswith("_")} - NOT_OF_THE_API


def test_every_plugin_has_a_card() -> None:
    plugins = {path.parent.name for path in (ROOT / "plugins/anomalib_xray_plugins").glob("*/__init__.py")}
    assert {Path(page).stem for page in NAV if page.startswith("reference/models/")} == plugins


def test_the_site_asks_no_other_server() -> None:
    assert SITE["theme"]["font"] is False
    assert {"offline", "search"} <= {plugin for plugin in SITE["plugins"] if isinstance(plugin, str)}
    # The plugin offline names a server for this script unless the site brings it.
    assets = [*SITE["extra"]["polyfills"], *SITE["extra_css"]]
    assert any("iframe-worker" in asset for asset in assets)
    assert all((ROOT / "docs" / asset).is_file() for asset in assets)
    assert not {"extra_javascript", "repo_url"} & SITE.keys()
    assert SITE["strict"] is True
