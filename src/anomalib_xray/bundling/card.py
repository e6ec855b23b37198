"""The model card of a bundle: what it is, what it was measured on, what it cannot do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anomalib_xray.edge.bundle import NOTICE

_COLUMNS = ("form", "pictures", "largest difference of a score", "of the map", "within 1e-4")


def model_card(manifest: Mapping[str, Any]) -> str:
    """Writes the card.

    Args:
        manifest: Content of ``bundle.json``, its checksums aside.

    Returns:
        Markdown text.
    """
    sections = [
        f"# {manifest['model']}\n\n**{NOTICE}**\n\n{_what(manifest)}",
        f"## Data\n\n{_data(manifest['data'])}\n{_scope(manifest['scope'])}",
        f"## Scores\n\n{_scores(manifest)}",
        f"## Agreement with torch\n\n{_parity(manifest['precisions'])}",
        f"## 8-bit model\n\n{_int8(manifest['precisions'])}",
        f"## Limits\n\n{_LIMITS}",
        f"## Versions\n\n{_versions(manifest['versions'])}",
    ]
    return "\n\n".join(sections) + "\n"


def figures(manifest: Mapping[str, Any]) -> list[str]:
    """The figures that somebody who made a bundle should see at once.

    Args:
        manifest: Content of ``bundle.json``.

    Returns:
        Lines of text.
    """
    lines = []
    for precision in manifest["precisions"].values():
        for form, parity in precision["parity"].items():
            shown = "none" if parity["map"] is None else f"{parity['map']:.1e}"
            lines.append(
                f"{form}: differs from torch by {parity['score']:.1e} (scores) and {shown} (map) "
                f"over {parity['images']} pictures."
            )
    lines.append(f"8 bits: {_int8(manifest['precisions'])}")
    return lines


_LIMITS = """\
- The scores tell how unusual a radiograph is beside the normal images above. They name no finding, and a low score does
  not mean that there is none.
- Thresholds and percentiles hold for images of the same kind, device and preparation as those above. They were taken
  from the 32-bit model; check them before using another precision.
- What contradicts the body parts, views and sizes above is called not comparable; a file that does not say what
  it shows contradicts nothing.
- Radiographs with implants, casts or heavy processing may score high without being abnormal.
- Nothing here was tested in a clinic."""


def _what(manifest: Mapping[str, Any]) -> str:
    preparation = manifest["preparation"]
    shown = f"prepared by `{preparation}`" if preparation else "shown as they are"
    settings = ", ".join(f"{name} {value}" for name, value in manifest["settings"].items() if value is not None)
    return (
        f"An anomaly detector for radiographs, made on {manifest['created']} for the runtime of anomalib-xray. "
        f"Radiographs are {shown}. By default `{manifest['score']}` decides, in the precision "
        f"`{manifest['precision']}`.\n\nSettings: {settings}."
    )


def _data(data: Mapping[str, Any]) -> str:
    return "\n".join([
        f"- Source: {data['note']}",
        f"- Licence: {data['licence']}",
        f"- The model was trained on {data['trained_on']}.",
        *([f"- **{data['warning']}**"] if data["warning"] else []),
        f"- Images measured on: {data['images']} ({data['normal']} normal or not labelled, {data['abnormal']} "
        f"abnormal), shown as {data['pictures']} pictures",
    ])  # fmt: skip


def _scope(scope: Mapping[str, Any]) -> str:
    low, high = scope["sides"]
    return "\n".join([
        f"- Body parts: {', '.join(scope['body_parts']) or 'not known'}",
        f"- Views: {', '.join(scope['views']) or 'not known'}",
        f"- Sides: {low} to {high} pixels",
    ])  # fmt: skip


def _scores(manifest: Mapping[str, Any]) -> str:
    """A table of thresholds and of what normal images score."""
    rows = ["| score | threshold | origin | normal: median | 95 % | largest |", "|---|---|---|---|---|---|"]
    for name in manifest["scores"]:
        threshold, quantiles = manifest["thresholds"][name], manifest["distribution"][name]
        rows.append(
            f"| {name} | {_number(threshold)} | {manifest['data']['threshold_origin'][name]} | "
            f"{_number(quantiles[50])} | {_number(quantiles[95])} | {_number(quantiles[100])} |"
        )
    rows.append(f"\nPixels of the map: threshold {_number(manifest['pixel_threshold'])}.")
    return "\n".join(rows)


def _parity(precisions: Mapping[str, Any]) -> str:
    rows = [f"| {' | '.join(_COLUMNS)} |", "|---|---|---|---|---|"]
    for precision in precisions.values():
        for form, parity in precision.get("parity", {}).items():
            rows.append(
                f"| {form} | {parity['images']} | {parity['score']:.1e} | {_number(parity['map'])} | "
                f"{'yes' if parity['passed'] else 'no'} |"
            )
    return "Relative to torch, over all scores; see `parity` in bundle.json.\n\n" + "\n".join(rows)


def _int8(precisions: Mapping[str, Any]) -> str:
    if "int8" not in precisions:
        return "None was made."
    entry = precisions["int8"]
    figures = ", ".join(
        f"{name} {precisions[name]['auroc']:.4f}"
        for name in ("fp32", "fp16", "int8")
        if precisions.get(name, {}).get("auroc") is not None
    )
    measured = f" AUROC on the validation images: {figures}." if figures else ""
    return (f"Accepted.{measured}" if entry["accepted"] else f"Not accepted. {entry['reason']}{measured}").strip()


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items()) + "."


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"
