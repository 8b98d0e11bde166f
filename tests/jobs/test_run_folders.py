"""What a run's folder and its store remember: whole files, the same job, the same data, one training."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from job_files import write_tiny_training

from segsweep.errors import InvalidInput, InvalidJob
from segsweep.files import PRIVATE, write_whole
from segsweep.jobs.folders import JOB, remember, run_folder
from segsweep.jobs.initial_weights import FITTING, LISTING, lay_out
from segsweep.jobs.load import load_job
from segsweep.jobs.run_chain import run_chain_job
from segsweep.jobs.run_eval import choose_protocol
from segsweep.jobs.run_train import run_train_job
from segsweep.jobs.spec import ChainJob, TrainJob, WeightsSettings
from segsweep.models.methods import METHODS
from segsweep.training.checkpoint_store import FolderStore

MINE = {"name": "mine", "seed": 0}
SECRET = "Tr0ub4dor-and-3"


def stored_training(tmp_path: Path, *overrides: str) -> TrainJob:
    out, store = f"out={tmp_path / 'out'}", f"checkpoints.store={tmp_path / 'store'}"
    job = load_job(write_tiny_training(tmp_path), overrides=[out, store, *overrides])
    assert isinstance(job, TrainJob)
    return job


def test_a_text_is_replaced_whole_and_nothing_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "text"
    write_whole(path, "old")
    write_whole(path, "nëw", mode=PRIVATE)
    assert path.read_bytes() == "nëw".encode() and path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "\ud800")
    assert path.read_bytes() == "nëw".encode() and list(tmp_path.iterdir()) == [path]


def test_an_unchanged_job_is_not_written_again_and_is_the_latest(tmp_path: Path) -> None:
    for run in ("old", "new"):
        remember(tmp_path / run, MINE, may_change=())
    os.utime(tmp_path / "old" / JOB, (1, 1))
    inode = (tmp_path / "old" / JOB).stat().st_ino
    remember(tmp_path / "old", MINE, may_change=())
    assert (tmp_path / "old" / JOB).stat().st_ino == inode
    assert run_folder(tmp_path, "mine", resume="latest", new_id=None) == tmp_path / "old"


def test_a_torn_job_beside_others_does_not_stop_the_latest(tmp_path: Path) -> None:
    remember(tmp_path / "good", MINE, may_change=())
    for number, text in enumerate(('{"job": {"na', "", "[]", '{"job": null}')):
        (tmp_path / f"torn-{number}").mkdir()
        (tmp_path / f"torn-{number}" / JOB).write_text(text)
    assert run_folder(tmp_path, "mine", resume="latest", new_id=None) == tmp_path / "good"
    with pytest.raises(InvalidJob, match=r"torn-0/job\.json: not the job of a run"):
        remember(tmp_path / "torn-0", MINE, may_change=())


def test_torn_steps_of_a_chain_are_named(tmp_path: Path) -> None:
    write_tiny_training(tmp_path)
    (tmp_path / "chain.yaml").write_text("kind: chain\nname: torn\nsteps: {one: tiny_training.yaml}\n")
    job = load_job(tmp_path / "chain.yaml", overrides=[f"out={tmp_path / 'out'}"])
    assert isinstance(job, ChainJob)
    folder = tmp_path / "out" / "chains" / "torn-1"
    remember(folder, job.model_dump(mode="json"), may_change=())
    (folder / "chain.json").write_text('{"steps": [{"na')
    with pytest.raises(InvalidJob, match=r"chain\.json: not the finished steps"):
        run_chain_job(job, resume="torn-1")


@pytest.mark.parametrize("where", ["step", "set"])
def test_no_chain_keeps_the_password_of_its_mlflow_server(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    tracking = f"tracking: {{uri: 'http://me:{SECRET}@host:5000'}}"
    path = write_tiny_training(tmp_path)
    settings = f", set: {{{tracking}}}" if where == "set" else ""
    path.write_text(path.read_text() + (f"{tracking}\n" if where == "step" else ""))
    (tmp_path / "chain.yaml").write_text(
        f"kind: chain\nname: kept\nsteps:\n  one: {{job: tiny_training.yaml{settings}}}\n"
    )
    job = load_job(tmp_path / "chain.yaml")
    remember(tmp_path / "run", job.model_dump(mode="json"), may_change=())
    kept = (tmp_path / "run" / JOB).read_text()
    assert SECRET not in kept and "http://host:5000" in kept
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == SECRET


def test_a_new_training_does_not_go_on_with_another_of_its_name_in_the_store(tmp_path: Path) -> None:
    job = stored_training(tmp_path)
    begun = json.dumps({"job": {**job.model_dump(mode="json"), "seed": 7}})
    store = FolderStore(tmp_path / "store" / "taken")
    store.write_text(JOB, begun)
    with pytest.raises(InvalidJob, match=r"holds a training 'taken' already.*--resume taken"):
        run_train_job(job, run_id="taken")
    assert store.read_text(JOB) == begun and not (tmp_path / "out/trainings/taken" / JOB).exists()
    remember(tmp_path / "out/trainings/taken", job.model_dump(mode="json"), may_change=())
    with pytest.raises(InvalidJob, match="seed: was 7 when it began, is 0 now"):
        run_train_job(job, resume="taken")
    assert store.read_text(JOB) == begun


def test_a_resume_notices_other_data(tmp_path: Path) -> None:
    job = stored_training(tmp_path)
    folder = tmp_path / "out" / "trainings" / "mine"
    remember(folder, job.model_dump(mode="json"), may_change=(), data_digest="0123456789ab")
    with pytest.raises(InvalidJob, match=r"data_digest: was '0123456789ab' when it began, is '[0-9a-f]{12}'"):
        run_train_job(job, resume="mine")


def test_a_run_of_an_earlier_version_is_told_its_data_once(tmp_path: Path) -> None:
    remember(tmp_path, MINE, may_change=())
    remember(tmp_path, MINE, may_change=(), data_digest="a")
    remember(tmp_path, MINE, may_change=())
    with pytest.raises(InvalidJob, match="data_digest: was 'a'"):
        remember(tmp_path, MINE, may_change=(), data_digest="b")


def test_initial_weights_and_their_list_are_written_where_missing(tmp_path: Path) -> None:
    neck = {"channels": 8, "repeats": 1, "top_level": 5}
    config = METHODS["eseg"].model_validate({"backbone": {"name": "efficientnet_tiny"}, "neck": neck})
    torch.save(config.build(6).state_dict(), tmp_path / "weights.pth")
    settings = WeightsSettings(path=tmp_path / "weights.pth")
    said: list[str] = []
    run = tmp_path / "run"
    run.mkdir()

    def again() -> None:
        lay_out(settings, config, num_classes=6, folder=run, say=said.append)

    again()
    listed, tensors = (run / LISTING).read_text(), torch.load(run / FITTING, weights_only=True)["weights"]
    assert tensors and len(said) == 1
    (run / LISTING).unlink()  # a kill between the two
    again()
    assert (run / LISTING).read_text() == listed
    (run / FITTING).unlink()  # a complete training
    again()
    assert torch.load(run / FITTING, weights_only=True)["weights"].keys() == tensors.keys()


def test_a_protocol_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "protocol.yaml").write_bytes("scales: [1]  # größer".encode("latin-1"))
    with pytest.raises(InvalidInput, match=r"protocol\.yaml: not a text file; a protocol is YAML in UTF-8"):
        choose_protocol(str(tmp_path / "protocol.yaml"), size=None)
