"""The model card of a bundle: its purpose, data, figures and limits, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping

from anomalib_xray import NOTICE
from anomalib_xray.edge.description import Data, Description, Precision
from anomalib_xray.edge.scope import Scope


def model_card(about: Description) -> str:
    """The card of a bundle, in Markdown."""
    sections = [
        f"# {about.model}\n\n**{NOTICE}**\n\n{_what(about)}",
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


_LIMITS = """\
- The scores tell how unusual a radiograph is beside the normal images above. They name no finding, and a low score does
  not mean that there is none.
- Thresholds and percentiles hold for images of the same kind, device and preparation as those above. They were taken
  from the 32-bit model; check them before using another precision.
- What contradicts the body parts, views and sizes above is called not comparable; a file that does not say what
  it shows contradicts nothing.
- Radiographs with implants, casts or heavy processing may score high without being abnormal.
- Nothing here was tested in a clinic."""


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
