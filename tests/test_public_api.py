"""The public names, which do not go without a release that warns; ``tests/public_api.txt`` lists them."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

from anomalib_xray.cli import VERBS

ROOT = Path(__file__).parents[1]

DOCUMENTED = {
    "errors": ("XrayError",),
    "edge.predictor": ("open_predictor",),
    "evaluation.fusion": ("ScoreFusion",),
    "networks.losses": ("masked_mse_loss",),
    "preparation.step": ("Plan", "Step"),
    "preparation.view": ("keep_background",),
    "training.autoencoder_model": ("AutoencoderModel",),
    "training.callbacks": ("ChannelsLast", "CompileNetworks", "ForegroundScores"),
    "training.fitted_model": ("FittedModel",),
    "training.gan_model": ("GanModel",),
    "training.post_processor": ("XrayPostProcessor",),
    "training.pseudo_auc": ("PseudoAuc", "pseudo_auc"),
    "training.radiograph_model": ("RadiographModel",),
    "training.reconstruction_model": ("MapModel", "ReconstructionModel"),
    "training.trained_model": ("TrainedModel",),
}
"""Names of modules without ``__all__`` that the documentation, configurations and the plugin template use."""

LIST = Path(__file__).with_name("public_api.txt")


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def public_names() -> Iterator[str]:
    """Names that packages export, arguments of verbs, entry points and extras; nothing is imported for it."""
    for root in (ROOT / "src", ROOT / "plugins"):
        for path in sorted(root.rglob("*.py")):
            module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            for node in parsed(path).body:
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                    names = ast.literal_eval(node.value) if isinstance(node.value, ast.List) else []
                    yield from (f"{module}.{name}" for name in names)
    for module, names in DOCUMENTED.items():
        body = parsed(ROOT / "src" / "anomalib_xray" / f"{module.replace('.', '/')}.py").body
        defined = {node.name for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
        yield from (f"anomalib_xray.{module}.{name}" for name in names if name in defined)
    for verb in VERBS:
        name = verb.replace("-", "_")
        body = parsed(ROOT / "src" / "anomalib_xray" / "commands" / f"{name}.py").body
        (function,) = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == name]
        yield f"anomalib-xray {verb}"
        yield from (f"anomalib-xray {verb} --{argument.arg}" for argument in function.args.args)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    yield from (f"extra {name}" for name in project["optional-dependencies"])
    for group, points in project["entry-points"].items():
        yield from (f"entry point {group}: {name}" for name in points)


def test_no_public_name_goes_unnoticed() -> None:
    listed, found = LIST.read_text().splitlines(), list(public_names())
    assert len(set(found)) == len(found)
    gone, new = [name for name in listed if name not in found], [name for name in found if name not in listed]
    assert not gone, (
        f"{gone} was public: keep it for one release with a DeprecationWarning that names what replaces it "
        f"(CONTRIBUTING, Release), and only then take its line out of {LIST.name}."
    )
    assert not new, (
        f"{new} is public from now on: add these lines to {LIST.name}, or give the name no place in __all__."
    )
