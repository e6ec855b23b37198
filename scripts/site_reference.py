"""MkDocs hook: the reference of verbs, settings and the API, read from the source code without importing it.

A verb is a function in ``commands/``, a setting an argument of a constructor; both are documented there only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
API = "reference/api/"

SHARED, CALLBACKS = "Shared by models", "Thresholds, monitors and other callbacks"
GROUPS = {
    "Models": "What a model adds to the settings that it shares. They stand below `model: init_args:`.",
    SHARED: "Each model has the settings of the kinds that its entry above names, and of the kinds that those name.",
    "Data": "Below `data: init_args:` of a configuration, on the command line `--data.NAME`.",
    "Pictures before the model": "Resizing, padding, equalisation and augmentation.",
    CALLBACKS: "Below `model: init_args:` or `trainer: callbacks:`.",
    "Preparation steps": "In a pipeline's YAML file, below the name of the step.",
}
"""Headings of the page of settings, and what stands below each."""

DATA = ("UnlabelledPool", "SplitSizes", "Phantom")
"""Classes with settings of data whose bases do not say so."""


def on_files(files: Files, config: Any) -> Files:
    """Adds a page of verbs, one of settings, and one for each part of the API that the navigation names."""
    loaded = [griffe.load(name, search_paths=[ROOT / "src", ROOT / "plugins"], docstring_parser="google")
              for name in ("anomalib_xray", "anomalib_xray_plugins")]  # fmt: skip
    pages = {"reference/verbs.md": verbs(loaded[0]), "reference/settings.md": settings(*loaded)}
    for page in entries(config["nav"]):
        if page.startswith(API):
            name = Path(page).stem
            pages[page] = f"# anomalib_xray.{name}\n\n::: anomalib_xray.{name}\n"
    for page, content in pages.items():
        files.append(File.generated(config, page, content=content))
    return files


def entries(nav: Any) -> Iterator[str]:
    """Paths in a navigation."""
    for entry in nav if isinstance(nav, list) else nav.values() if isinstance(nav, dict) else ():
        if isinstance(entry, str):
            yield entry
        else:
            yield from entries(entry)


def verbs(package: Any) -> str:
    """The page of all verbs of ``anomalib-xray``."""
    parts = [
        "# Verbs",
        "Models are trained, tested and exported with anomalib's own command: `anomalib train|test|predict|export`. "
        "All else is a verb of `anomalib-xray`; `anomalib-xray VERB --help` prints what stands here, and "
        "`--config FILE` reads arguments from a YAML file. Names of options may be written with `-` for `_`. "
        "Research use only. Not a medical device.",
    ]
    for name, module in sorted(package["commands"].modules.items()):
        function = module.functions.get(name)
        if function is None:
            continue
        parts += [f"## {name.replace('_', '-')}", prose(function.docstring)]
        parts += ["**Returns** " + text_of(section) for section in sections(function.docstring, "returns")]
        parts.append(
            table(function, "option", lambda argument: f"--{argument.name}" if argument.default else argument.name)
        )
    return "\n\n".join(parts) + "\n"


def settings(package: Any, plugins: Any) -> str:
    """The page of all settings of configurations."""
    shared = [kind for kind in classes(package["training"]) if kind.name.endswith(("Model", "Settings"))]
    shared += [kind for kind in classes(plugins) if "TrainedModel" in bases(kind)[:1] or kind.name == "PairTraining"]
    models = [kind for kind in classes(plugins) if "AnomalibModule" in bases(kind)]
    found = {
        "Models": models,
        SHARED: [kind for kind in shared if kind not in models],
        "Data": [kind for kind in classes(package["data"]) if kind.name in DATA or "DataModule" in str(bases(kind))],
        "Pictures before the model": list(classes(package["transforms"])),
        CALLBACKS: [
            kind
            for kind in classes(package["training"])
            if kind.name.endswith("PostProcessor") or "Callback" in bases(kind)
        ],
        "Preparation steps": list(classes(package["preparation"]["steps"])),
    }
    names = {kind.name for kind in found[SHARED]}
    parts = [
        "# Settings",
        "Every argument that a configuration can set, from the constructors' own documentation. "
        "`anomalib train --config FILE --print_config` prints a whole configuration with its defaults.",
    ]
    for group, kinds in found.items():
        parts += [f"## {group}", GROUPS[group]]
        for kind in kinds:
            rows = table(kind, "setting", lambda argument: argument.name)
            if rows or kind in models:
                also = ", ".join(f"[`{base}`](#{base.lower()})" for base in bases(kind) if base in names)
                parts += [f"### {kind.name}", prose(kind.docstring, first=True), f"Also: {also}." if also else "", rows]
    return "\n\n".join(filter(None, parts)) + "\n"


def bases(kind: Any) -> list[str]:
    """Names of the classes that a class derives from directly."""
    return [str(base) for base in kind.bases]


def classes(package: Any) -> Iterator[Any]:
    """Public classes that a package defines, those of its modules included."""
    yield from (kind for kind in package.classes.values() if not kind.is_alias and not kind.name.startswith("_"))
    for _, module in sorted(package.modules.items()):
        if not module.is_alias:
            yield from classes(module)


def sections(docstring: Any, kind: str) -> Iterable[Any]:
    """Sections of one kind in a docstring."""
    return [section for section in docstring.parsed if section.kind.value == kind] if docstring else []


def prose(docstring: Any, *, first: bool = False) -> str:
    """The text of a docstring, or its first sentence or paragraph."""
    text = "\n\n".join(plain(section.value) for section in sections(docstring, "text"))
    return " ".join(text.partition("\n\n")[0].split()) if first else text


def text_of(section: Any) -> str:
    """What a section says, without the names and types that griffe reads into it."""
    return " ".join(plain(entry.description) for entry in section.value)


def plain(text: str) -> str:
    """A docstring's text in Markdown: no roles, no ``>>>`` that would be read as a quotation."""
    return "\n".join(line for line in without_roles(text).splitlines() if not line.lstrip().startswith(">>>")).strip()


def without_roles(text: str) -> str:
    """Names in place of Sphinx's roles."""
    return re.sub(r":(?:mod|class|func|meth|attr|data):`~?([^`]+)`", r"`\1`", text)


def table(documented: Any, heading: str, name_of: Any) -> str:
    """A row per documented argument of a function or constructor: name, meaning, default, type."""
    arguments = {argument.name: argument for argument in documented.parameters}
    rows = []
    for section in sections(documented.docstring, "parameters"):
        for described in section.value:
            argument = arguments.get(described.name)
            meaning = " ".join(plain(described.description).split())
            if argument is None:  # a shared setting, of which this class says something else
                cells = [f"`{described.name}`", escaped(meaning), "", ""]
            else:
                default = "required" if argument.default is None else f"`{argument.default}`"
                cells = [f"`{name_of(argument)}`", escaped(meaning), default, f"`{argument.annotation}`"]
            rows.append("| " + " | ".join(cells) + " |")
    return "\n".join([f"| {heading} | meaning | default | type |", "|---|---|---|---|", *rows]) if rows else ""


def escaped(text: str) -> str:
    """A table's cell with no bar outside of code that would end it."""
    return "".join(
        part if number % 2 else part.replace("|", "\\|") for number, part in enumerate(re.split("(`+[^`]*`+)", text))
    )


class Docstrings(griffe.Extension):
    """Reads what docstrings here write in another way than mkdocstrings expects: examples, roles, literal blocks."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrites the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            text = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = re.sub(r"::$", ":", without_roles(text), flags=re.MULTILINE)
