"""`checkpoints:` in a job file."""

from __future__ import annotations

from pathlib import Path

import pytest
from job_files import write_tiny_training
from pydantic import ValidationError

from segsweep.errors import InvalidJob
from segsweep.jobs.load import load_job
from segsweep.jobs.spec import TrainJob
from segsweep.training.checkpoint_settings import CheckpointSettings


def test_by_default_every_five_minutes_and_two_are_kept() -> None:
    settings = CheckpointSettings()
    assert (settings.every_minutes, settings.every_steps, settings.keep, settings.store) == (
        5.0,
        None,
        2,
        None,
    )


@pytest.mark.parametrize("wrong", [{"every_minutes": 0}, {"every_steps": 0}, {"keep": 0}, {"store": ""}])
def test_values_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CheckpointSettings.model_validate(wrong)


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ("ftp://host/x", "store begins with ftp://, allowed: a path, s3://, gs://"),
        ("s3:///x", "store names no bucket; write s3://BUCKET/PREFIX"),
    ],
)
def test_other_addresses_are_refused(store: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CheckpointSettings(store=store)


@pytest.mark.parametrize(
    "store", ["s3://AKIA:planted-secret@bucket/x", "s3://bucket/x?secret_key=planted-secret"]
)
def test_credentials_in_a_job_are_refused_without_repeating_them(store: str, tmp_path: Path) -> None:
    job = write_tiny_training(tmp_path, ("scaling:", f'checkpoints: {{store: "{store}"}}\nscaling:'))
    with pytest.raises(InvalidJob, match="set them in the environment") as caught:
        load_job(job)
    assert "planted-secret" not in str(caught.value)


def test_relative_folders_are_those_of_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert CheckpointSettings(store="shared").absolute().store == str(tmp_path / "shared")
    for elsewhere in (None, "s3://bucket/x?region=eu-west-1"):
        assert CheckpointSettings(store=elsewhere).absolute().store == elsewhere


def test_a_train_job_takes_them(tmp_path: Path) -> None:
    job = load_job(write_tiny_training(tmp_path, ("scaling:", "checkpoints: {every_steps: 3}\nscaling:")))
    assert isinstance(job, TrainJob)
    assert job.checkpoints.every_steps == 3
