"""The run of a single training, read back with MLflow's own client."""

from __future__ import annotations

from pathlib import Path

import pytest

from segsweep.records import TrialStatus
from segsweep.tracking.run_logger import MlflowRunLogger
from segsweep.tracking.store import open_client


def test_a_training_is_one_run_with_metrics_by_epoch(store_uri: str, tmp_path: Path) -> None:
    weights = tmp_path / "best.txt"
    weights.write_text("weights")
    logger = MlflowRunLogger(store_uri, experiment="train-camvid")
    logger.start_run(
        "eseg-s",
        params={"lr": 0.01},
        tags={"segsweep.method": "eseg"},
        artifacts={"job.yaml": "kind: train\n"},
    )
    for epoch in (1, 2):
        logger.log(epoch, {"val_miou": epoch / 10, "train_loss": 1 / epoch})
    logger.attach({"checkpoints/best": weights})
    logger.finish(TrialStatus.COMPLETE)
    link = logger.close()

    client = open_client(store_uri)
    run = client.get_run(link.parent_run_id)
    assert (run.info.run_name, run.info.status) == ("eseg-s", "FINISHED")
    assert run.data.params == {"lr": "0.01"}
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "val_miou")] == [
        (1, 0.1),
        (2, 0.2),
    ]
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"job.yaml", "checkpoints"}
    assert link.parent_run_id in link.url


@pytest.mark.parametrize(("status", "expected"), [(TrialStatus.FAILED, "FAILED"), (None, "KILLED")])
def test_a_training_that_did_not_complete_says_so(
    store_uri: str, status: TrialStatus | None, expected: str
) -> None:
    logger = MlflowRunLogger(store_uri, experiment="train-camvid")
    logger.start_run("eseg-s", params={}, tags={}, artifacts={})
    if status is not None:
        logger.finish(status, "TrainingDiverged: NaN")
    run = open_client(store_uri).get_run(logger.close().parent_run_id)
    assert run.info.status == expected
    assert run.data.tags["segsweep.status"] == (status or "interrupted")
