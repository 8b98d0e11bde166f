"""``check``: what a job names is looked at before any worker starts, and everything is told at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_trees import save_grey_mask, write_camvid_tree, write_folder_tree
from job_files import TINY_SPACE, write_tiny_sweep, write_tiny_training

from segsweep.data.shards import open_shards
from segsweep.errors import DataError, InvalidInput, Problem
from segsweep.jobs.builtin import builtin_folder
from segsweep.jobs.check import check_paths
from segsweep.jobs.common import prepared
from segsweep.jobs.load import load_job
from segsweep.jobs.run_sweep import run_sweep_job
from segsweep.jobs.spec import DataSettings, SweepJob

REPOSITORY = Path(__file__).parents[2]
CAMVID = REPOSITORY / "../shared/data/camvid"  # as the shipped jobs name it
SHIPPED = sorted([*builtin_folder("search_spaces").glob("*.yaml"), *builtin_folder("jobs").glob("*.yaml")])
NEEDS_OWN_DATA = {
    "chain_mapillary_cityscapes": 2
}  # data sets of its user: all that is wrong is where they lie


def _check(path: Path) -> tuple[Problem, ...]:
    found = check_paths([path])
    assert list(found) == [path]
    return found[path]


def _only(path: Path) -> str:
    (problem,) = _check(path)
    return str(problem)


def _prepare_job(path: Path, source: str, root: Path) -> Path:
    text = f"{{kind: prepare, name: x, data: {{source: {source}, root: {root}}}, out: {path.parent}/out}}\n"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_shipped_space_and_job_is_right(path: Path) -> None:
    missing = NEEDS_OWN_DATA.get(path.stem, 0)
    if "data/camvid" in path.read_text() and not CAMVID.is_dir():
        missing = 1  # CamVid does not ship with the package: all that is wrong is where it lies
    if missing:
        found = {problem.message.split(": ")[1] for problem in _check(path)}
        assert len(found) == missing and all("data root of" in message for message in found)
        return
    assert _check(path) == ()


def test_the_shipped_files_are_found() -> None:
    assert {path.stem for path in SHIPPED} >= {"demo", "sweep_camvid_eseg", "smoke", "eseg", "eseg_camvid"}


def test_tiny_jobs_are_right(tmp_path: Path) -> None:
    write_tiny_sweep(tmp_path)
    write_tiny_training(tmp_path)
    found = check_paths([tmp_path])
    assert {path.name: problems for path, problems in found.items()} == {
        "tiny_space.yaml": (),
        "tiny_sweep.yaml": (),
        "tiny_training.yaml": (),
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [(Path.mkdir, "the folder holds no *.yaml file"), (lambda path: None, "no such file or folder")],
)
def test_nothing_to_check_is_a_problem(tmp_path: Path, make, message: str) -> None:  # type: ignore[no-untyped-def]
    make(tmp_path / "place")
    assert message in _only(tmp_path / "place")


def test_a_binary_file_is_a_problem_and_no_crash(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_bytes(b"\xff\xfe\x00")
    assert "not a text file" in _only(tmp_path / "job.yaml")


def test_problems_of_job_space_and_data_are_told_together(tmp_path: Path) -> None:
    path = write_tiny_sweep(
        tmp_path,
        ("space: tiny_space.yaml", "space: nowhere"),
        ("batch_size: 4", "batch_size: 0"),
        ("source: synthetic", "source: camvid\n  root: no-pictures"),
        ("  options: {train: 8, val: 4, height: 64, width: 128}\n", ""),
    )
    text = "\n".join(map(str, _check(path)))
    assert f"{path}:3 space: found no space 'nowhere'" in text
    assert f"{path}:8 recipe.batch_size:" in text
    assert f"{tmp_path / 'no-pictures'}: data root of 'camvid' does not exist" in text


def test_problems_of_data_folder_space_and_point_are_told_together(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = write_tiny_sweep(
        tmp_path,
        ("name: tiny", f"name: tiny\nout: {tmp_path / 'file' / 'runs'}"),
        ("train: 8", "trian: 8"),
    )
    space = tmp_path / "tiny_space.yaml"
    space.write_text(TINY_SPACE.replace("int: [1, 2]", "int: [2, 1]"))
    text = "\n".join(map(str, _check(path)))
    assert "options.trian" in text
    assert "tiny_space.yaml:7 axes.neck.repeats" in text
    assert f"{tmp_path / 'file'} is a file; set out: to a folder of yours" in text


def test_a_missing_data_root_is_told_with_the_layout_that_is_wanted(tmp_path: Path) -> None:
    message = _only(_prepare_job(tmp_path / "j.yaml", "camvid", tmp_path / "none"))
    assert f"{tmp_path / 'none'}: data root of 'camvid' does not exist" in message
    assert "trainannot/" in message


def test_a_source_on_disk_without_a_root_asks_for_one(tmp_path: Path) -> None:
    (tmp_path / "j.yaml").write_text("{kind: prepare, name: x, data: {source: camvid}}\n")
    assert "give its folder as root" in _only(tmp_path / "j.yaml")


def test_an_unknown_source_lists_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "j.yaml").write_text("{kind: prepare, name: x, data: {source: coco}}\n")
    assert "found data set 'coco'; allowed are synthetic, camvid, folder" in _only(tmp_path / "j.yaml")


def test_images_and_masks_that_do_not_match_are_named(tmp_path: Path) -> None:
    root = tmp_path / "camvid"
    write_camvid_tree(root)
    (root / "trainannot" / "0001TP_000001.png").unlink()
    save_grey_mask(root / "valannot" / "0001TP_000000.png", np.zeros((24, 30), np.uint16))
    text = "\n".join(map(str, _check(_prepare_job(tmp_path / "j.yaml", "camvid", root))))
    assert "0001TP_000001.png" in text and "have no mask" in text
    assert "mask is 30x24 but its image" in text


def test_an_empty_split_is_told(tmp_path: Path) -> None:
    root = tmp_path / "camvid"
    write_camvid_tree(root)
    for picture in [*root.glob("val/*.png"), *root.glob("valannot/*.png")]:
        picture.unlink()
    message = _only(_prepare_job(tmp_path / "j.yaml", "camvid", root))
    assert f"{root / 'val'}: the split is empty" in message


def test_an_unreadable_picture_is_named_without_hiding_others(tmp_path: Path) -> None:
    root = tmp_path / "camvid"
    write_camvid_tree(root)
    names = ["train/0001TP_000000.png", "valannot/0001TP_000001.png"]
    for name in names:
        (root / name).write_bytes((root / name).read_bytes()[:12])
    problems = _check(_prepare_job(tmp_path / "j.yaml", "camvid", root))
    assert [problem.where.split("data: ")[1] for problem in problems] == [str(root / name) for name in names]
    assert all("cannot be read as a picture" in problem.message for problem in problems)


def test_a_picture_cut_in_half_stops_the_preparation_and_leaves_nothing(tmp_path: Path) -> None:
    root = tmp_path / "camvid"
    write_camvid_tree(root)
    cut = root / "train" / "0001TP_000001.png"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    with pytest.raises(DataError, match=cut.name):
        prepared(DataSettings(source="camvid", root=root), tmp_path / "out", say=lambda line: None)
    assert not list((tmp_path / "out").rglob("*.arrow"))


def test_ids_outside_the_classes_stop_the_preparation_with_file_and_ids(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    write_folder_tree(root, ids=(0, 1, 2, 7, 255))
    with pytest.raises(DataError, match=r"scene0\.png: mask holds ids 7 .* ids 0\.\.2 are classes"):
        prepared(DataSettings(source="folder", root=root), tmp_path / "out", say=lambda line: None)


def test_a_shard_cut_in_half_is_told_and_the_cache_makes_it_anew(tmp_path: Path) -> None:
    data = DataSettings(source="synthetic", size=(32, 64), options={"train": 3, "val": 2})
    shards = prepared(data, tmp_path, say=lambda line: None)
    cut = next(shards.path.glob("train*.arrow"))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    with pytest.raises(DataError, match=r"train.*\.arrow: has \d+ bytes instead of \d+: it was cut"):
        open_shards(shards.path)
    again = prepared(data, tmp_path, say=lambda line: None)
    assert (again.path, again.digest) == (shards.path, shards.digest)
    again.verify()


@pytest.mark.parametrize(
    ("before", "after", "place", "message"),
    [
        ("neck.channels:", "neck.chanels:", "axes", "chanels"),
        ("int: [1, 2]", "int: [2, 1]", "tiny_space.yaml:7 axes.neck.repeats", "empty range: 2"),
        ("choice: [8, 16, 24]", "choice: []", "tiny_space.yaml:6 axes.neck.channels", "[]"),
        ("choice: [0.02, 0.08]", "choice: [0.02, -1]", "recipe", "greater than 0, found -1"),
        ("method: eseg", "method: esegg", "method", "found 'esegg', allowed: ["),
        (
            "[efficientnet_tiny]",
            "[efficientnet_tiny, resnet5]",
            "design",
            "backbone.name='resnet5' is neither",
        ),
    ],
)
def test_a_wrong_space_is_told_by_axis(
    tmp_path: Path, before: str, after: str, place: str, message: str
) -> None:
    path = tmp_path / "tiny_space.yaml"
    path.write_text(TINY_SPACE.replace(before, after))
    text = "\n".join(map(str, _check(path)))
    assert place in text and message in text


def test_a_sweep_over_images_that_are_too_small_for_an_axis_is_told(tmp_path: Path) -> None:
    path = write_tiny_sweep(tmp_path, ("size: [64, 128]", "size: [32, 32]"))
    message = _only(path)
    assert "reached by the axes" in message and "level 6" in message and "raise data.size" in message


def test_a_wrong_constraint_of_a_job_is_told(tmp_path: Path) -> None:
    constraint = '\nconstraints: [{name: budget, require: "cost.mac <= 1", why: "a test"}]\n'
    path = write_tiny_sweep(tmp_path, ("name: tiny\n", f"name: tiny{constraint}"))
    assert "cost.mac" in _only(path)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("method: eseg", "method: eseg\npreset: eseg-xl", "preset: found 'eseg-xl', allowed: eseg-l"),
        ("method: eseg", "method: esg", "method: found 'esg', allowed: "),
        (
            "neck.top_level: 5",
            "neck.top_level: 12",
            "neck.top_level: Input should be less than or equal to 9",
        ),
        ("neck.repeats: 1", "neck.repeat: 1", "neck.repeat"),
        ("efficientnet_tiny", "resnet5", "backbone.name='resnet5' is neither"),
        ("size: [64, 128]", "size: [16, 16]", "less than one pixel"),
    ],
)
def test_a_wrong_design_of_a_training_is_told(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert message in _only(write_tiny_training(tmp_path, (before, after)))


def test_a_wrong_job_starts_nothing_and_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "runs"
    job = load_job(write_tiny_sweep(tmp_path, ("name: tiny", f"name: tiny\nout: {out}")))
    assert isinstance(job, SweepJob)
    wrong = job.model_copy(update={"data": DataSettings(source="camvid", root=tmp_path / "none")})
    with pytest.raises(InvalidInput, match="does not exist"):
        run_sweep_job(wrong)
    assert not out.exists()
