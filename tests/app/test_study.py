"""Studies in a browser: whose images are one, and what is saved of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anomalib_xray.edge.ensemble import Ensemble

from .browsing import IN_A_BROWSER, Page, add, expect
from .running import picture, png

pytestmark = IN_A_BROWSER


def report(page: Page, button: str) -> dict[str, Any]:
    """JSON that a button saves."""
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    content: dict[str, Any] = json.loads(Path(download.value.path()).read_text())
    return content


def test_images_of_several_patients_are_several_studies(
    page: Page, make_dicom: Callable[..., bytes], models: Ensemble
) -> None:
    bright = [0.3, 0.5, 0.45, 0.35]
    images = [picture(bright=each) for each in bright]
    scores = [models.predictors["Cae"].predict(image).value for image in images]
    add(
        page,
        a_dcm=make_dicom(images[0], PatientID="1"),
        b_dcm=make_dicom(images[1], PatientID="2"),
        c_dcm=make_dicom(images[2], PatientID=" 1 "),
        d_png=png(images[3]),
    )
    page.get_by_role("button", name="Study").click()
    owners = page.locator("#study-owners")
    expect(owners).to_contain_text("not of one patient: Patient 1, Patient 2, Unknown patient")
    expect(page.locator("#study tfoot th")).to_contain_text(["Patient 1", "Patient 2", "Unknown patient"])
    expected = [(scores[0] + scores[2]) / 2, scores[1], scores[3]]
    told = report(page, "Study JSON")
    first = [entry for entry in told["study"] if entry["model"] == "Cae"]
    assert [entry["patient"] for entry in first] == [1, 2, None]
    assert [entry["value"] for entry in first] == pytest.approx(expected, rel=1e-6)
    assert {image["name"]: image["patient"] for image in told["images"]} == {
        "a.dcm": 1, "c.dcm": 1, "b.dcm": 2, "d.png": None,
    }  # fmt: skip
    for name in ("b.dcm", "d.png"):
        page.get_by_role("checkbox", name=f"{name} in the study").uncheck()
    expect(owners).to_have_text("The ticked images are of one patient.")
    expect(page.locator("#study tfoot th")).to_have_text("Study, mean over the images")


def test_images_of_two_visits_are_pointed_out(page: Page, make_dicom: Callable[..., bytes]) -> None:
    add(page, a_dcm=make_dicom(picture()), b_dcm=make_dicom(picture(), StudyInstanceUID="1.2.9"))
    page.get_by_role("button", name="Study").click()
    expect(page.locator("#study-owners")).to_have_text("The ticked images are of one patient, but of 2 studies.")


def test_a_study_is_saved_while_a_file_that_failed_is_shown(page: Page) -> None:
    add(page, bad_txt=b"nothing", good_png=png(picture()))
    expect(page.get_by_role("button", name="Results JSON")).to_be_disabled()
    page.get_by_role("button", name="Study").click()
    told = report(page, "Study JSON")
    assert [image["name"] for image in told["images"]] == ["good.png"]
    page.get_by_role("checkbox", name="good.png in the study").uncheck()
    expect(page.get_by_role("button", name="Study JSON")).to_be_disabled()


def test_the_leave_to_copy_the_patient_is_given_for_one_radiograph(
    page: Page, make_dicom: Callable[..., bytes]
) -> None:
    add(page, a_dcm=make_dicom(picture()), b_dcm=make_dicom(picture()))
    tick = page.get_by_label("File the capture with the patient")
    tick.check()
    page.keyboard.press("p")  # the same radiograph
    expect(tick).to_be_checked()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#picture-name")).to_have_text("b.dcm")
    expect(tick).not_to_be_checked()
    page.keyboard.press("ArrowLeft")
    expect(tick).not_to_be_checked()


def test_the_record_names_the_bundles_and_the_file(
    page: Page, make_dicom: Callable[..., bytes], models: Ensemble
) -> None:
    add(page, a_dcm=make_dicom(picture()))
    digests = [predictor.bundle.digest for predictor in models.predictors.values()]
    image = report(page, "Results JSON")["image"]
    assert image["sop_instance_uid"] == "1.2.3.4"
    assert [model["bundle_digest"] for model in image["models"]] == digests
    page.get_by_role("button", name="Study").click()
    assert [model["bundle_digest"] for model in report(page, "Study JSON")["study"]] == digests
