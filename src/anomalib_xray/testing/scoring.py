"""Part of the contract: scores and maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from anomalib_xray.errors import XrayError
from anomalib_xray.scores import ScoredBatch
from anomalib_xray.testing.base import (
    ContractBase,
    Training,
    as_input,
    assert_same,
    pre_process,
    prepared,
    radiographs,
    score,
)


class ScoringContract(ContractBase):
    """A score depends on its image alone and is a finite number, whatever the image."""

    def test_gives_named_scores_one_per_image(self, trained: Training) -> None:
        """Every score is ``(N,)``, finite and float32, and the chosen one is the predicted score."""
        images = prepared(trained.model)
        output = score(trained.model, images)
        assert isinstance(output, ScoredBatch), "in evaluation the network must return a ScoredBatch"
        for name, values in {"pred_score": output.pred_score, **output.scores}.items():
            assert values.shape == (len(images),), name
            assert values.dtype == torch.float32, name
            assert values.isfinite().all(), name
        assert torch.equal(output.pred_score, output.scores[trained.model.hparams["score"]])

    def test_map_has_the_size_of_the_image(self, trained: Training) -> None:
        """A map is ``(N, S, S)``, finite, float32 and at least 0."""
        images = prepared(trained.model)
        anomaly_map = score(trained.model, images).anomaly_map
        if anomaly_map is None:
            pytest.skip(f"{self.model.__name__} gives no map")
        assert anomaly_map.shape == (len(images), *images.shape[2:])
        assert anomaly_map.dtype == torch.float32
        assert anomaly_map.isfinite().all()
        assert (anomaly_map >= 0).all()

    def test_every_score_can_be_chosen(self, trained: Training) -> None:
        """``score=`` makes any of the named scores the predicted one."""
        images = prepared(trained.model)
        for name in score(trained.model, images).scores:
            output = score(self.make_model(score=name), images)
            assert torch.equal(output.pred_score, output.scores[name]), name

    @pytest.mark.parametrize("setting", [{"score": "no_such_score"}, {"image_size": 0}])
    def test_refuses_a_setting_that_it_does_not_have(self, setting: dict[str, Any]) -> None:
        """A wrong setting is an :class:`~anomalib_xray.errors.XrayError` that names the value."""
        (value,) = setting.values()
        with pytest.raises(XrayError, match=str(value)):
            self.make_model(**setting)

    def test_score_does_not_depend_on_the_batch(self, trained: Training) -> None:
        """An image alone has the scores and the map that it has among others."""
        images = prepared(trained.model)
        together = score(trained.model, images)
        for index in range(len(images)):
            alone = score(trained.model, images[index : index + 1])
            for name, values in together.scores.items():
                assert_same(alone.scores[name], values[index : index + 1], f"{name} of image {index}")
            if together.anomaly_map is not None and alone.anomaly_map is not None:
                assert_same(alone.anomaly_map[0], together.anomaly_map[index], f"map of image {index}")

    def test_prediction_does_not_depend_on_the_batch(self, trained: Training) -> None:
        """The same for the whole model with its pre- and post-processor."""
        images = torch.cat([prepared(trained.model), prepared(trained.model).flip(3) * 0.5])
        with torch.no_grad():
            together = trained.model(images)
            alone = [trained.model(image[None]) for image in images]
        assert_same(torch.cat([output.pred_score for output in alone]), together.pred_score, "pred_score")
        if together.anomaly_map is not None:
            assert_same(torch.cat([output.anomaly_map for output in alone]), together.anomaly_map, "anomaly_map")

    def test_evaluation_is_deterministic(self, trained: Training) -> None:
        """Evaluating twice gives the same numbers: there is no random draw, and nothing is learnt on the way."""
        images = prepared(trained.model)
        first, second = score(trained.model, images), score(trained.model, images)
        for name, values in first.scores.items():
            assert torch.equal(second.scores[name], values), name
        if first.anomaly_map is not None and second.anomaly_map is not None:
            assert torch.equal(second.anomaly_map, first.anomaly_map)

    def test_double_precision_agrees(self, trained: Training) -> None:
        """In float64 the scores are the same up to rounding; a formula that cancels would show here."""
        images = prepared(trained.model)
        double = self.make_model()
        double.load_state_dict(trained.model.state_dict())
        output = score(double.double(), images.double())
        for name, values in score(trained.model, images).scores.items():
            assert output.scores[name].dtype == torch.float64, name
            assert_same(values.double(), output.scores[name], name)

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float16])
    def test_refuses_images_of_another_type(self, trained: Training, dtype: torch.dtype) -> None:
        """Images are float in [0, 1]; anything else is refused instead of scored wrongly."""
        with pytest.raises(XrayError, match="dtype"):
            trained.model(as_input(radiographs()[0]).to(dtype))

    def test_background_is_never_anomalous(self, trained: Training) -> None:
        """The map is exactly 0 where the image is."""
        images = prepared(trained.model)
        anomaly_map = score(trained.model, images).anomaly_map
        if anomaly_map is None:
            pytest.skip(f"{self.model.__name__} gives no map")
        background = images.amax(1) == 0
        assert background.any()
        assert (anomaly_map[background] == 0).all()
        assert (anomaly_map[~background] > 0).any()

    def test_padding_changes_nothing(self, trained: Training) -> None:
        """An image that was padded to a square before has the scores and the map of the unpadded one."""
        for radiograph in radiographs():
            height, width = radiograph.shape
            missing = max(height, width) - np.array([height, width])
            (top, left), (bottom, right) = missing // 2, missing - missing // 2
            image = as_input(radiograph)
            square = pad(image, (int(left), int(right), int(top), int(bottom)))
            assert square.shape[2] == square.shape[3] != min(image.shape[2:])
            expected = score(trained.model, pre_process(trained.model, image))
            found = score(trained.model, pre_process(trained.model, square))
            for name, values in expected.scores.items():
                assert_same(found.scores[name], values, name)
            if found.anomaly_map is not None and expected.anomaly_map is not None:
                assert_same(found.anomaly_map, expected.anomaly_map, "map")

    def test_black_image_has_finite_scores(self, trained: Training) -> None:
        """An image without foreground is scored, with a map of zeros; the export traces the model with one."""
        black = torch.zeros(1, 3, 70, 50)
        output = score(trained.model, pre_process(trained.model, black))
        for name, values in output.scores.items():
            assert values.isfinite().all(), name
        assert output.anomaly_map is None or (output.anomaly_map == 0).all()
        with torch.no_grad():
            assert trained.model(black).pred_score.isfinite().all()
