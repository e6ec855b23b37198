"""The site's navigation: nothing of the documentation, and no room of the code, is left out of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import docstring_parser
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


def test_every_room_has_a_page() -> None:
    rooms = {path.parent.name for path in SOURCE.glob("*/__init__.py")} | {path.stem for path in SOURCE.glob("*.py")}
    pages = {Path(page).stem for page in NAV if page.startswith("reference/api/")}
    assert pages == {room for room in rooms if not room.startswith("_")} - NOT_OF_THE_API


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def defined(name: str) -> tuple[str, str | None]:
    """The module that defines a name, which packages export, and the name's docstring; nothing is imported."""
    module, _, last = name.rpartition(".")
    path = ROOT / ("plugins" if module.startswith("anomalib_xray_plugins") else "src") / module.replace(".", "/")
    tree = parsed(path / "__init__.py" if path.is_dir() else path.with_suffix(".py"))
    for node, after in pairwise([*tree.body, ast.Pass()]):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == last:
            return module, ast.get_docstring(node)
        if isinstance(node, ast.Assign | ast.AnnAssign) and ast.unparse(node).startswith((f"{last} =", f"{last}:")):
            text = after.value if isinstance(after, ast.Expr) else None
            return module, str(text.value) if isinstance(text, ast.Constant) else None
    for imported in (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)):
        for alias in imported.names:
            if last == (alias.asname or alias.name):
                return defined(f"{imported.module}.{alias.name}")
    raise AssertionError(f"{module} defines no {last}.")


def test_every_public_name_is_documented() -> None:
    """The reference shows what has a docstring and stands in a module without an underscore."""
    public = (ROOT / "tests" / "public_api.txt").read_text(encoding="utf-8").splitlines()
    names = [line for line in public if line.startswith(("anomalib_xray.", "anomalib_xray_plugins."))]
    assert len(names) > 100
    for name in names:
        module, text = defined(name)
        assert text, f"{module} says nothing of {name}."
        parts = module.split(".")
        pages = {f"reference/api/{parts[1]}.md", f"reference/models/{parts[1]}.md"}
        assert pages & set(NAV), f"No page shows {name}."
        assert not any(part.startswith("_") for part in parts), f"The reference leaves out {module}."
    for line in public:
        if line.startswith("anomalib-xray ") and "--" in line:
            verb, _, option = line.removeprefix("anomalib-xray ").partition(" --")
            _, text = defined(f"anomalib_xray.commands.{verb.replace('-', '_')}.{verb.replace('-', '_')}")
            described = {argument.arg_name for argument in docstring_parser.parse(text or "").params}
            assert option in described, f"The verb {verb} says nothing of --{option}."


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
