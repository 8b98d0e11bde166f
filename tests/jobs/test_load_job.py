"""Job files: what a user writes wrong is told at once, each with its line and a remedy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from job_files import write_tiny_sweep, write_tiny_training

from segsweep.errors import InvalidJob
from segsweep.jobs.load import load_job
from segsweep.jobs.spec import PrepareJob, SweepJob, TrainJob


def _problems(path: Path, overrides: Sequence[str] = ()) -> dict[str, str]:
    with pytest.raises(InvalidJob) as caught:
        load_job(path, overrides=overrides)
    return {problem.where: problem.message for problem in caught.value.problems}


def _job(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_every_mistake_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    path = _job(
        tmp_path / "job.yaml",
        "kind: sweep\n"
        "name: two words\n"
        "space: no-such-space\n"
        "data: {source: synthetic}\n"
        "recpie: {}\n"
        "recipe:\n"
        "  epoch: 3\n"
        "  lr: -1\n"
        "sweep:\n"
        "  trials: 0\n"
        "  rungs: [1, zwei]\n"
        "  objectives:\n"
        "    - {metric: miou, direction: maximize}\n"
        "    - {metric: macs, direction: minimize}\n"
        "    - {metric: speed, direction: maximize}\n",
    )
    assert _problems(path).keys() == {
        f"{path}:2 name",
        f"{path}:3 space",
        f"{path}:5 recpie",
        f"{path}:7 recipe.epoch",
        f"{path}:8 recipe.lr",
        f"{path}:10 sweep.trials",
        f"{path}:11 sweep.rungs.1",
        f"{path}:15 sweep.objectives.2.metric",
    }


def test_a_wrong_value_is_shown_with_what_is_allowed(tmp_path: Path) -> None:
    path = write_tiny_sweep(tmp_path, ("trials: 3", "trials: 0"))
    (message,) = _problems(path).values()
    assert message == "Input should be greater than or equal to 1, found 0"


@pytest.mark.parametrize(
    ("before", "after", "hint"),
    [
        ("recipe:", "recpie:", "unknown key 'recpie'; did you mean 'recipe'?"),
        ("epochs: 2", "epoch: 2", "unknown key 'epoch'; did you mean 'epochs'?"),
        ("trials: 3", "trials: 3\n  worker: 2", "unknown key 'worker'; did you mean 'workers'?"),
        ("warmup: 1", "warm: 1", "unknown key 'warm'; did you mean 'warmup'?"),
        (
            "source: synthetic",
            "source: synthetic\n  xyz: 1",
            "unknown key 'xyz'; allowed: options, root, size, source",
        ),
    ],
)
def test_an_unknown_key_gets_a_suggestion(tmp_path: Path, before: str, after: str, hint: str) -> None:
    assert hint in _problems(write_tiny_sweep(tmp_path, (before, after))).values()


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    path = write_tiny_training(tmp_path, ("method: eseg\n", ""))
    assert _problems(path) == {f"{path}:1 method": "missing; add it"}


def test_a_duplicate_key_is_a_mistake(tmp_path: Path) -> None:
    path = write_tiny_training(tmp_path, ("method: eseg\n", "method: eseg\nmethod: other\n"))
    assert _problems(path) == {f"{path}:4": "key 'method' is already given in line 3; keep one"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"- kind: sweep\n", "a job is a mapping"),
        (b"kind: [sweep\n", "not YAML"),
        (b"kind: swep\n", "found 'swep', allowed: ['chain', 'prepare', 'pseudo_labels', 'sweep', 'train']"),
        (b"name: x\n", "found None, allowed: ['chain', 'prepare', 'pseudo_labels', 'sweep', 'train']"),
        (b"\xff\xfe\x00", "not a text file; a job is YAML in UTF-8"),
    ],
)
def test_what_is_not_a_job_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(content)
    problems = _problems(path)
    assert all(where.startswith(str(path)) for where in problems)
    assert message in "\n".join(problems.values())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert _problems(tmp_path / "none.yaml").keys() == {str(tmp_path / "none.yaml")}


def test_overrides_replace_settings_of_every_depth_and_type(tmp_path: Path) -> None:
    job = load_job(
        write_tiny_sweep(tmp_path),
        overrides=[
            "name=other",
            "sweep.rungs=[1, 3]",
            "recipe.epochs=5",
            "recipe.ema_decay=null",
            "recipe.augment.scale_range=[0.8, 1.2]",
            "speed=null",
        ],
    )
    assert isinstance(job, SweepJob)
    assert (job.name, job.sweep.rungs, job.speed) == ("other", (1, 3), None)
    assert (job.recipe.epochs, job.recipe.ema_decay, job.recipe.batch_size) == (5, None, 4)
    assert job.recipe.augment.scale_range == (0.8, 1.2)


def test_the_last_of_equal_overrides_counts(tmp_path: Path) -> None:
    job = load_job(write_tiny_training(tmp_path), overrides=["seed=1", "seed=2"])
    assert isinstance(job, TrainJob) and job.seed == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("recipe.epochs", "write key.path=value, for example sweep.trials=8"),
        ("=3", "write key.path=value, for example sweep.trials=8"),
        ("name.first=x", "'name' holds 'tiny', not a mapping"),
        ("recipe.epochs=0", "Input should be greater than or equal to 1, found 0"),
        ("recipe.epoch=9", "unknown key 'epoch'; did you mean 'epochs'?"),
        ("space=nowhere", "found no space 'nowhere'"),
        ("kind=swep", "found 'swep', allowed"),
    ],
)
def test_a_wrong_override_is_named_itself_and_not_a_line_of_the_file(
    tmp_path: Path, override: str, message: str
) -> None:
    problems = _problems(write_tiny_sweep(tmp_path), [override])
    assert list(problems) == [f"--set {override}"]
    assert problems[f"--set {override}"].startswith(message)


def test_wrong_overrides_are_told_beside_the_mistakes_of_the_file(tmp_path: Path) -> None:
    path = write_tiny_sweep(tmp_path, ("batch_size: 4", "batch_size: none"))
    assert _problems(path, ["sweep.trials", "sweep.seed=x"]).keys() == {
        "--set sweep.trials",
        "--set sweep.seed=x",
        f"{path}:8 recipe.batch_size",
    }


@pytest.mark.parametrize("root", ["pictures", "../elsewhere/pictures"])
def test_a_relative_data_root_is_relative_to_the_job_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    folder = tmp_path / "jobs"
    folder.mkdir()
    path = _job(folder / "j.yaml", f"{{kind: prepare, name: x, data: {{source: folder, root: {root}}}}}\n")
    monkeypatch.chdir(tmp_path)
    job = load_job(Path("jobs/j.yaml"))
    assert isinstance(job, PrepareJob)
    assert job.data.root == (folder / root).resolve() == load_job(path).data.root


def test_an_absolute_data_root_stays(tmp_path: Path) -> None:
    path = _job(tmp_path / "j.yaml", "{kind: prepare, name: x, data: {source: folder, root: /pictures}}\n")
    assert load_job(path).data.root == Path("/pictures")


def test_a_space_is_found_beside_the_job_or_among_the_built_in_ones(tmp_path: Path) -> None:
    beside = load_job(write_tiny_sweep(tmp_path))
    builtin = load_job(write_tiny_sweep(tmp_path, ("space: tiny_space.yaml", "space: smoke")))
    assert isinstance(beside, SweepJob) and isinstance(builtin, SweepJob)
    assert Path(beside.space) == (tmp_path / "tiny_space.yaml").resolve()
    assert Path(builtin.space).name == "smoke.yaml" and Path(builtin.space).is_file()


def test_an_unknown_space_lists_the_built_in_ones(tmp_path: Path) -> None:
    path = write_tiny_sweep(tmp_path, ("space: tiny_space.yaml", "space: smok"))
    (message,) = _problems(path).values()
    assert "found no space 'smok'" in message and "eseg, eseg_camvid, " in message


@pytest.mark.parametrize("late", ["[2]", "[1, 3]"])
def test_rungs_must_lie_below_the_last_epoch(tmp_path: Path, late: str) -> None:
    (message,) = _problems(write_tiny_sweep(tmp_path, ("rungs: [1]", f"rungs: {late}"))).values()
    assert f"sweep.rungs [{late.strip('[]').split(', ')[-1]}] must lie below recipe.epochs = 2" in message


def test_rungs_must_rise(tmp_path: Path) -> None:
    path = write_tiny_sweep(tmp_path, ("rungs: [1]", "rungs: [1, 1]"))
    (message,) = _problems(path).values()
    assert "rungs [1, 1] must rise without repeats" in message


def test_objectives_of_speed_need_its_measurement(tmp_path: Path) -> None:
    path = write_tiny_sweep(
        tmp_path,
        ("metric: macs, direction: minimize", "metric: latency_ms_p50, direction: minimize"),
        ("speed: {warmup: 1, min_samples: 2, min_seconds: 0.0}", "speed: null"),
    )
    (message,) = _problems(path).values()
    assert message == "objectives ['latency_ms_p50'] need `speed:` conditions; remove `speed: null`"


def test_one_objective_is_too_few(tmp_path: Path) -> None:
    path = write_tiny_sweep(tmp_path, ("    - {metric: macs, direction: minimize}\n", ""))
    assert list(_problems(path)) == [f"{path}:16 sweep.objectives"]
