"""The model card of a bundle: its purpose, data, figures and limits, in Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from anomalib_xray import NOTICE
from anomalib_xray.edge.description import Data, Description, Precision
from anomalib_xray.edge.scope import Scope

WEIGHTS_NAME = "model.safetensors"
"""File of a shared bundle with the weights for torch."""

_LICENCES = (
    *("apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0"),
    *("cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0"),
)
"""Names by which hubs know licences; all others are ``other`` with a name."""


def model_card(about: Description, *, shared: bool = False) -> str:
    """The card of a bundle, in Markdown; of a ``shared`` one with the front matter of hubs, and how to use it."""
    sections = [
        *([_front_matter(about)] if shared else []),
        f"# {about.model}\n\n**{NOTICE}**\n\n{_what(about)}",
        *([f"## Use\n\n{_USE}"] if shared else []),
        f"## Data\n\n{_data(about.data, about.scope)}",
        f"## Scores\n\n{_scores(about)}",
        f"## Agreement with torch\n\n{_parity(about.precisions)}",
        f"## 8-bit model\n\n{_int8(about.precisions)}",
        f"## Limits\n\n{_LIMITS}",
        f"## Versions\n\n{', '.join(f'{name} {version}' for name, version in about.versions.items())}.",
    ]
    return "\n\n".join(sections) + "\n"


def figures(about: Description) -> list[str]:
    """The figures for the console: agreement with torch, and the 8-bit model, a line each."""
    lines = [
        f"{form}: differs from torch by {_digits(parity.score)} (scores) and {_digits(parity.map)} (map) "
        f"over {parity.images} pictures."
        for precision in about.precisions.values()
        for form, parity in precision.parity.items()
    ]
    return [*lines, f"8 bits: {_int8(about.precisions)}"]


_USE = f"""\
Without torch, with this folder as it is (`pip install anomalib-xray`):

```sh
anomalib-xray predict --bundle THIS_FOLDER study/ --out predictions
```

In torch, from `{WEIGHTS_NAME}` (`pip install 'anomalib-xray[train]'`):

```python
import json

import anomalib_xray.models as models
from safetensors import safe_open

with safe_open("{WEIGHTS_NAME}", "pt") as file:
    about = file.metadata()
    weights = {{name: file.get_tensor(name) for name in file.keys()}}
model = getattr(models, about["model"])(**json.loads(about["settings"]))
model.load_state_dict(weights)
```

Files that a hub adds, and changes of this card, do no harm; every other file must be what it was when the bundle was
made, which each command checks (`bundle.sha256`)."""

_LIMITS = """\
- The scores tell how unusual a radiograph is beside the normal images above. They name no finding, and a low score does
  not mean that there is none.
- Thresholds and percentiles hold for images of the same kind, device and preparation as those above. They were taken
  from the 32-bit model; check them before using another precision.
- What contradicts the body parts, views and sizes above is called not comparable; a file that does not say what
  it shows contradicts nothing.
- Radiographs with implants, casts or heavy processing may score high without being abnormal.
- Nothing here was tested in a clinic."""


def _front_matter(about: Description) -> str:
    """The head of a card that hubs read, in YAML, in the form of Hugging Face."""
    import yaml

    data = about.data
    licence = data.licence.lower().replace(" ", "-")
    content: dict[str, Any] = {"library_name": "anomalib", "license": licence}
    if licence not in _LICENCES:
        content |= {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", licence).strip("-") or "not-stated"}
        content["license_link"] = "README.md"
    content["tags"] = [
        *("anomalib", "anomalib-xray", "anomaly-detection", "radiograph", "x-ray", "medical-imaging", "openvino"),
        *("safetensors", about.model.lower(), *(f"body-part-{part.lower()}" for part in about.scope.body_parts)),
    ]
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", data.note):
        content["datasets"] = [data.note]
    aurocs = {name: entry.auroc for name, entry in about.precisions.items() if entry.auroc is not None}
    if aurocs:
        metrics = [
            {"type": "roc_auc", "value": round(value, 4), "name": f"AUROC of {about.score} per image, {name}"}
            for name, value in aurocs.items()
        ]
        result = {
            "task": {"type": "image-classification", "name": "anomaly detection"},
            "dataset": {"type": "radiographs", "name": data.note or "not stated"},
            "metrics": metrics,
        }
        content |= {"metrics": ["roc_auc"], "model-index": [{"name": about.model, "results": [result]}]}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{text}---"


def _what(about: Description) -> str:
    preparation = about.preparation
    shown = f"prepared by `{preparation}`" if preparation else "shown as they are"
    settings = ", ".join(f"{name} {value}" for name, value in about.settings.items() if value is not None)
    return (
        f"An anomaly detector for radiographs, made on {about.created} for the runtime of anomalib-xray. "
        f"Radiographs are {shown}. By default `{about.score}` decides, in the precision "
        f"`{about.precision}`.\n\nSettings: {settings}."
    )


def _data(data: Data, scope: Scope) -> str:
    low, high = scope.sides or ("unknown", "unknown")
    return "\n".join([
        f"- Source: {data.note}",
        f"- Licence: {data.licence}",
        f"- The model was trained on {data.trained_on}.",
        *([f"- **{data.warning}**"] if data.warning else []),
        f"- Images measured on: {data.images} ({data.normal} normal or not labelled, {data.abnormal} "
        f"abnormal), shown as {data.pictures} pictures",
        f"- Body parts: {', '.join(scope.body_parts) or 'not known'}",
        f"- Views: {', '.join(scope.views) or 'not known'}",
        f"- Sides: {low} to {high} pixels",
    ])  # fmt: skip


def _scores(about: Description) -> str:
    """A table of thresholds and of what normal images score."""
    rows = ["| score | threshold | origin | normal: median | 95 % | largest |", "|---|---|---|---|---|---|"]
    for name in about.scores:
        threshold, quantiles = about.thresholds[name], about.distribution[name]
        rows.append(
            f"| {name} | {_number(threshold)} | {about.data.threshold_origin[name]} | "
            f"{_number(quantiles[50])} | {_number(quantiles[95])} | {_number(quantiles[100])} |"
        )
    if about.normal_units:
        whose = f"{about.normal_units} normal {'images' if about.data.normal_patients is None else 'patients'}"
        rows.append(
            f"\nPercentiles are of {whose}: a share below {100 / (about.normal_units + 1):.2g} % means nothing."
        )
    rows.append(f"\nPixels of the map: threshold {_number(about.pixel_threshold)}.")
    return "\n".join(rows)


def _parity(precisions: Mapping[str, Precision]) -> str:
    rows = [
        f"| {form} | {parity.images} | {_digits(parity.score)} | {_number(parity.map)} | "
        f"{'yes' if parity.passed else 'no'} |"
        for precision in precisions.values()
        for form, parity in precision.parity.items()
    ]
    return "\n".join([
        "Relative to torch, over all scores; see `parity` in bundle.json.",
        "",
        "| form | pictures | largest difference of a score | of the map | within 1e-4 |",
        "|---|---|---|---|---|",
        *rows,
    ])  # fmt: skip


def _int8(precisions: Mapping[str, Precision]) -> str:
    if "int8" not in precisions:
        return "None was made."
    entry = precisions["int8"]
    figures = ", ".join(
        f"{name} {precision.auroc:.4f}" for name, precision in precisions.items() if precision.auroc is not None
    )
    measured = f" AUROC on the validation images: {figures}." if figures else ""
    return (f"Accepted.{measured}" if entry.accepted else f"Not accepted. {entry.reason}{measured}").strip()


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"


def _digits(value: float | None) -> str:
    return "none" if value is None else f"{value:.1e}"
