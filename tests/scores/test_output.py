from __future__ import annotations

import torch

from anomalib_xray.scores import ScoredBatch


def test_the_chosen_score_becomes_the_predicted_one() -> None:
    scores = {"mse": torch.rand(3), "l1": torch.rand(3)}
    anomaly_map = torch.rand(3, 4, 4)
    output = ScoredBatch.of(scores, "l1", anomaly_map)
    assert output.pred_score is scores["l1"]
    assert output.anomaly_map is anomaly_map
    assert output.scores is scores
    assert output.pred_label is None
    assert output.pred_mask is None
