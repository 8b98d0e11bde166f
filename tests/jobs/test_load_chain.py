"""Chains as a user writes them: every step is checked before the first one starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from dataset_trees import write_cityscapes_tree, write_mapillary_tree
from job_files import TINY_TRAINING, write_tiny_training

from segsweep.errors import InvalidJob
from segsweep.jobs.builtin import builtin_folder
from segsweep.jobs.check import check_job, check_paths
from segsweep.jobs.load import load_job
from segsweep.jobs.load_chain import planned_steps
from segsweep.jobs.spec import ChainJob, PseudoLabelsJob, TrainJob

DATA = "{source: synthetic, size: [64, 128], options: {train: 8, val: 4, height: 64, width: 128}}"
POINT = "{backbone.name: efficientnet_tiny, neck.channels: 8, neck.repeats: 1, neck.top_level: 5}"
CHAIN = f"""\
kind: chain
name: tiny-chain
steps:
  teacher:
    job: tiny_training.yaml
    set: {{recipe.epochs: 3, recipe: {{lr: 0.05}}}}
  pseudo:
    kind: pseudo_labels
    teacher: ${{steps.teacher.run}}
    data: {DATA}
  student:
    kind: train
    method: eseg
    point: {POINT}
    data: {DATA}
    weights: ${{steps.teacher.checkpoint}}
    pseudo_labels: {{shards: "${{steps.pseudo.shards}}"}}
    recipe: {{epochs: 2, batch_size: 4, ema_decay: 0.5}}
"""


def write(folder: Path, *changes: tuple[str, str]) -> Path:
    write_tiny_training(folder)
    text = CHAIN
    for before, after in changes:
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    (folder / "chain.yaml").write_text(text)
    return folder / "chain.yaml"


def problems(path: Path) -> dict[str, str]:
    found = check_paths([path])[path]
    return {problem.where: problem.message for problem in found}


def test_a_good_chain_has_no_problems(tmp_path: Path) -> None:
    assert problems(write(tmp_path)) == {}


def test_steps_get_the_paths_of_what_earlier_ones_will_make(tmp_path: Path) -> None:
    job = load_job(write(tmp_path), overrides=[f"out={tmp_path / 'out'}", "steps.student.recipe.epochs=7"])
    assert isinstance(job, ChainJob)
    teacher, pseudo, student = planned_steps(job, where="chain")
    assert isinstance(teacher.job, TrainJob) and isinstance(pseudo.job, PseudoLabelsJob)
    assert isinstance(student.job, TrainJob)
    assert (teacher.job.recipe.epochs, teacher.job.recipe.lr, teacher.job.recipe.batch_size) == (3, 0.05, 4)
    assert student.job.recipe.epochs == 7
    runs = tmp_path / "out" / "trainings" / "planned-teacher"
    assert pseudo.job.teacher == str(runs)
    assert student.job.weights is not None and student.job.weights.path == runs / "checkpoint.pt"
    shards = tmp_path / "out" / "pseudo_labels" / "planned-pseudo" / "shards"
    assert student.job.pseudo_labels is not None and student.job.pseudo_labels.shards == shards
    assert {step.job.out for step in (pseudo, student)} == {tmp_path / "out"}
    assert (teacher.job.name, student.job.name) == ("tiny", "tiny-chain-student")


def test_mistakes_of_all_steps_and_files_are_told_with_their_lines(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        ("    data: " + DATA + "\n  student:", "    data: " + DATA + "\n    treshold: 0.5\n  student:"),
        ("{recipe.epochs: 3,", "{recipe.epochs: none,"),
        ("{steps.teacher.checkpoint}", "{steps.teachr.checkpoint}"),
        ("{steps.pseudo.shards}", "{steps.pseudo.shard}"),
        ("ema_decay: 0.5", "ema_decay: 2"),
    )
    step = tmp_path / "tiny_training.yaml"
    step.write_text(step.read_text().replace("batch_size: 4", "batch_size: 0"))
    found = problems(path)
    assert found.keys() == {
        f"{path}:6 steps.teacher.set.recipe.epochs",
        f"{step}:9 recipe.batch_size",
        f"{path}:11 steps.pseudo.treshold",
        f"{path}:17 steps.student.weights",
        f"{path}:18 steps.student.pseudo_labels.shards",
        f"{path}:19 steps.student.recipe.ema_decay",
    }
    text = "\n".join(found.values())
    assert "did you mean 'threshold'?" in text
    assert "no step before this one is called 'teachr'; earlier steps: teacher, pseudo" in text
    assert "step 'pseudo' makes run, shards" in text


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("tiny_training.yaml", "gone.yaml", "found no job file 'gone.yaml'"),
        (
            "    job: tiny_training.yaml\n",
            "    job: tiny_training.yaml\n    seed: 3\n",
            "put it under `set:`",
        ),
        ("set: {recipe.epochs: 3, recipe: {lr: 0.05}}", "set: 3", "found 3; write a mapping"),
        (
            "kind: pseudo_labels",
            "kind: chain",
            "found 'chain', allowed: ['prepare', 'pseudo_labels', 'sweep'",
        ),
        ("${steps.teacher.run}", "${teacher.run}", "write ${steps.NAME.OUTPUT}"),
        ("${steps.teacher.run}", "${steps.student.run}", "no step before this one is called 'student'"),
        ("name: tiny-chain\n", "name: tiny-chain\nstep: 1\n", "unknown key 'step'; did you mean 'steps'?"),
    ],
)
def test_a_wrong_chain_is_told(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert message in "\n".join(problems(write(tmp_path, (before, after))).values())


def test_a_chain_without_steps_is_refused(tmp_path: Path) -> None:
    for steps in ("", "steps: {}\n", "steps: [a]\n"):
        (tmp_path / "chain.yaml").write_text(f"kind: chain\nname: x\n{steps}")
        with pytest.raises(InvalidJob, match="steps"):
            load_job(tmp_path / "chain.yaml")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (f"{DATA}\n    weights", "{source: synthetic, size: [32, 64]}\n    weights", "give both one size"),
        ("    kind: train\n    method: eseg\n", "    kind: train\n    method: esegg\n", "found 'esegg'"),
    ],
)
def test_what_would_only_show_after_the_teacher_is_told_before(
    tmp_path: Path, before: str, after: str, message: str
) -> None:
    assert message in "\n".join(problems(write(tmp_path, (before, after))).values())


def test_a_teacher_of_other_classes_is_told_before_it_is_trained(tmp_path: Path) -> None:
    from data_trees import write_folder_tree

    write_folder_tree(tmp_path / "mine", size=(64, 64))
    path = write(tmp_path)
    step = tmp_path / "tiny_training.yaml"
    options = (
        "  source: synthetic\n  size: [64, 128]\n  options: {train: 8, val: 4, height: 64, width: 128}\n"
    )
    assert options in TINY_TRAINING
    step.write_text(TINY_TRAINING.replace(options, "  source: folder\n  root: mine\n  size: [64, 128]\n"))
    (message,) = problems(path).values()
    assert "the teacher: labels 3 classes (road, building, sky), the images that they join have" in message


def test_weights_of_a_training_are_looked_at_before_it_starts(tmp_path: Path) -> None:
    torch.save({"some.other.weight": torch.zeros(2)}, tmp_path / "w.pth")
    for name, message in (("gone.pth", "no such file of weights"), ("w.pth", "none of its 1 tensors fits")):
        path = write_tiny_training(tmp_path, ("method: eseg\n", f"method: eseg\nweights: {name}\n"))
        (found,) = problems(path).items()
        assert found[0] == f"{path} weights" and message in found[1]
    path = write_tiny_training(
        tmp_path, ("method: eseg\n", "method: eseg\nweights: {path: w.pth, parts: all}\n")
    )
    assert "unknown key 'parts'; did you mean 'part'?" in problems(path).values()


def test_pseudo_labels_of_a_training_are_looked_at_before_it_starts(tmp_path: Path) -> None:
    path = write_tiny_training(tmp_path, ("method: eseg\n", "method: eseg\npseudo_labels: {shards: gone}\n"))
    ((where, message),) = problems(path).items()
    assert where == f"{path} pseudo_labels.shards" and "holds no complete shards" in message


def test_the_shipped_chain_of_mapillary_and_cityscapes_is_right_once_the_data_are_there(
    tmp_path: Path,
) -> None:
    write_mapillary_tree(tmp_path / "mapillary")
    write_cityscapes_tree(tmp_path / "cityscapes")
    roots = {"pretrain": "mapillary", **dict.fromkeys(("finetune", "pseudo", "student"), "cityscapes")}
    job = load_job(
        builtin_folder("jobs") / "chain_mapillary_cityscapes.yaml",
        overrides=[f"steps.{step}.data.root={tmp_path / root}" for step, root in roots.items()],
    )
    check_job(job, where="chain")
    assert isinstance(job, ChainJob)
    pretrain, finetune, _, student = (step.job for step in planned_steps(job, where="chain"))
    assert isinstance(pretrain, TrainJob) and isinstance(finetune, TrainJob) and isinstance(student, TrainJob)
    # ESeg, Sec. 4.4 and 4.1: 0.08, 0.01 and 0.16 at batches of 16, 16 and 128; 500, 200 and 1000 epochs
    assert [item.recipe.lr for item in (pretrain, finetune, student)] == [0.08, 0.01, 0.16]
    assert [item.recipe.batch_size for item in (pretrain, finetune, student)] == [16, 16, 128]
    assert [item.recipe.epochs for item in (pretrain, finetune, student)] == [500, 200, 1000]
    assert student.pseudo_labels is not None and student.pseudo_labels.share == 0.5
