"""The command line: results on standard output, everything else on standard error, clear exit codes."""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cli_process import Ran, run_segsweep
from data_trees import write_camvid_tree, write_folder_tree
from job_files import write_tiny_sweep, write_tiny_training

from segsweep.cli import main
from segsweep.data.shards import open_shards

GOLDEN = json.loads((Path(__file__).parent / "golden" / "eseg.json").read_text())
Cli = Callable[..., Ran]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """The entry point of the command in this process, with an empty working directory."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["segsweep", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        code = ended.value.code
        return Ran(code=code if isinstance(code, int) else 0, out=out, err=err)

    return run


def _refused(ran: Ran, *parts: str, code: int = 2) -> None:
    assert (ran.code, ran.out) == (code, ""), ran.err
    assert "Traceback" not in ran.err
    for part in parts:
        assert part in ran.err


def _is_one_line(ran: Ran) -> bool:
    return ran.err.startswith("error: ") and ran.err.count("\n") == 1


def test_help_names_every_command(cli: Cli) -> None:
    ran = cli("--help")
    assert ran.code == 0
    for command in (
        "demo",
        "sweep",
        "train",
        "run",
        "check",
        "points",
        "cost",
        "paper",
        "doctor",
        "ui",
        "data",
    ):
        assert re.search(rf"^\W*{command}\s", ran.out, re.MULTILINE), command


def test_cost_prints_one_document_with_the_exact_integers(tmp_path: Path) -> None:
    ran = run_segsweep("cost", "--method", "eseg", "--preset", "eseg-s", "--json", folder=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    document = ran.document()
    assert document["num_params"] == GOLDEN["num_params"]["eseg-s"] == 6_866_691
    assert document["flops"] == 2 * document["macs"]
    assert document["macs"] / 1e9 == pytest.approx(GOLDEN["giga_macs_1024x2048"]["eseg-s"], abs=0.005)
    assert (document["size"], document["num_classes"]) == ([1024, 2048], 19)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("preset", ["eseg-m", "eseg-lite-s", "eseg-s-p5"])
def test_cost_of_other_presets(cli: Cli, preset: str) -> None:
    document = cli("cost", "--method", "eseg", "--preset", preset, "--json").document()
    assert document["num_params"] == GOLDEN["num_params"][preset]


def test_a_point_goes_over_the_preset(cli: Cli) -> None:
    ran = cli("cost", "--method", "eseg", "--preset", "eseg-s", "--point", "neck.top_level=7", "--json")
    assert ran.document()["num_params"] == GOLDEN["num_params_by_top_level"]["7"]


def test_cost_in_words(cli: Cli) -> None:
    ran = cli("cost", "--method", "eseg", "--preset", "eseg-s", "--size", "512x1024")
    assert re.fullmatch(r"6,866,691 parameters, [\d,]+ MACs, [\d,]+ FLOPs at 512x1024\n", ran.out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--preset", "eseg-xs"), "found 'eseg-xs', allowed: eseg-l, "),
        (
            ("--point", "neck.top_level=99"),
            "neck.top_level: Input should be less than or equal to 9, found 99",
        ),
        (("--point", "neck.width=9"), "neck.width"),
        (("--point", "backbone.name=resnet5"), "backbone.name='resnet5' is neither"),
        (("--point", "neck.top_level"), "write key=value"),
        (("--size", "1024"), "--size 1024: write HEIGHTxWIDTH"),
        (("--size", "0x2048"), "write HEIGHTxWIDTH"),
        (("--size", "10x10"), "less than one pixel"),
    ],
)
def test_cost_refuses_with_one_line(cli: Cli, arguments: tuple[str, ...], message: str) -> None:
    ran = cli("cost", "--method", "eseg", *arguments)
    _refused(ran, message)
    assert _is_one_line(ran)


@pytest.mark.parametrize("command", ["cost", "paper"])
def test_an_unknown_method_is_refused_with_one_line(cli: Cli, command: str) -> None:
    ran = cli(command, "--method", "esegg")
    _refused(ran, "found 'esegg', allowed: ")
    assert _is_one_line(ran)


def test_all_wrong_values_of_a_point_are_told_at_once(cli: Cli) -> None:
    ran = cli("cost", "--method", "eseg", "--point", "neck.top_level=99", "--point", "neck.repeats=0")
    _refused(ran, "neck.top_level", "neck.repeats")
    assert ran.err.count("error: ") == 2


def test_paper_prints_published_beside_computed(cli: Cli) -> None:
    rows = cli("paper", "--method", "eseg", "--json").document()["rows"]
    keys = {
        "method",
        "source",
        "item",
        "quantity",
        "published",
        "computed",
        "ratio",
        "convention",
        "unexplained",
    }
    assert all(row.keys() >= keys for row in rows)
    assert {row["quantity"] for row in rows} == {"params", "macs"}
    assert all(row["ratio"] == pytest.approx(row["computed"] / row["published"]) for row in rows)
    assert all(row["convention"] and "ESeg" in row["source"] for row in rows)
    items = {row["item"]: row["computed"] for row in rows if row["quantity"] == "params"}
    assert items["ESeg-S"] == GOLDEN["num_params"]["eseg-s"]


def test_paper_prints_reductions_in_per_cent(cli: Cli) -> None:
    ran = cli("paper", "--method", "cts")
    assert ran.code == 0 and "38.2 %" in ran.out and "0.00M" not in ran.out


def test_paper_as_a_table(cli: Cli) -> None:
    ran = cli("paper", "--method", "eseg")
    assert ran.code == 0 and "published" in ran.out and "ESeg-L" in ran.out


def test_points_are_valid_and_distinct(cli: Cli) -> None:
    from segsweep.jobs.builtin import builtin_folder
    from segsweep.search.load import load_space

    points = cli("points", "eseg", "-n", 5, "--json").document()
    assert len({json.dumps(point, sort_keys=True) for point in points}) == len(points) == 5
    space = load_space(builtin_folder("search_spaces") / "eseg.yaml")
    for point in points:
        space.check_point(point)


def test_points_depend_on_the_seed_alone(cli: Cli) -> None:
    first, same, other = (cli("points", "smoke", "--seed", seed, "--json").out for seed in (3, 3, 4))
    assert first == same != other


def test_points_in_words_have_one_line_each(cli: Cli) -> None:
    lines = cli("points", "smoke", "-n", 3).out.splitlines()
    assert len(lines) == 3 and all("backbone.name=efficientnet_" in line for line in lines)


def test_points_beyond_the_space_are_refused(cli: Cli, tmp_path: Path) -> None:
    write_tiny_sweep(tmp_path)
    _refused(cli("points", tmp_path / "tiny_space.yaml", "-n", 1000), "24")


def test_an_unknown_space_lists_the_known(cli: Cli) -> None:
    _refused(cli("points", "nowhere"), "no such space", "eseg, eseg_camvid, hfgd")


def test_check_prints_one_document(cli: Cli, tmp_path: Path) -> None:
    good = write_tiny_sweep(tmp_path)
    ran = cli("check", good, tmp_path / "tiny_space.yaml", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.document() == {
        "ok": True,
        "files": [
            {"path": str(good), "problems": []},
            {"path": str(tmp_path / "tiny_space.yaml"), "problems": []},
        ],
    }


def test_check_of_wrong_files_tells_all_and_exits_with_one(cli: Cli, tmp_path: Path) -> None:
    bad = write_tiny_sweep(tmp_path, ("trials: 3", "trials: 0"), ("epochs: 2", "epoch: 2"))
    other = write_tiny_training(tmp_path, ("method: eseg", "method: esg"))
    ran = cli("check", tmp_path, "--json")
    assert ran.code == 1
    document = ran.document()
    found = {file["path"]: len(file["problems"]) for file in document["files"]}
    assert not document["ok"]
    assert found == {str(bad): 2, str(other): 1, str(tmp_path / "tiny_space.yaml"): 0}
    assert all(
        problem.keys() == {"where", "message"} for file in document["files"] for problem in file["problems"]
    )


def test_check_in_words_names_file_line_and_suggestion(cli: Cli, tmp_path: Path) -> None:
    bad = write_tiny_sweep(tmp_path, ("epochs: 2", "epoch: 2"))
    ran = cli("check", bad)
    assert ran.code == 1
    assert f"{bad}:8 recipe.epoch: unknown key 'epoch'; did you mean 'epochs'?" in ran.out


@pytest.mark.parametrize("command", ["sweep", "train", "run"])
def test_an_unknown_job_lists_the_known(cli: Cli, command: str) -> None:
    _refused(cli(command, "nowhere"), "no such job file", "demo")


def test_a_job_of_another_kind_is_refused(cli: Cli, tmp_path: Path) -> None:
    _refused(cli("train", write_tiny_sweep(tmp_path)), "kind is 'sweep'", "segsweep run")
    _refused(cli("sweep", write_tiny_training(tmp_path)), "kind is 'train'", "segsweep run")


@pytest.mark.parametrize("json_flag", [(), ("--json",)])
def test_a_wrong_sweep_tells_every_mistake_and_starts_nothing(
    cli: Cli, tmp_path: Path, json_flag: tuple[str, ...]
) -> None:
    job = write_tiny_sweep(tmp_path, ("trials: 3", "trials: 0"))
    ran = cli("sweep", job, *json_flag, "--set", "recipe.epoch=3", "--set", "sweep.eta")
    _refused(ran, f"{job}:10 sweep.trials", "--set recipe.epoch=3: unknown key", "--set sweep.eta: write key")
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("command", ["sweep", "train"])
def test_an_out_folder_that_cannot_be_written_is_refused(cli: Cli, tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("")
    job = write_tiny_sweep(tmp_path) if command == "sweep" else write_tiny_training(tmp_path)
    ran = cli(command, job, "--set", f"out={tmp_path / 'file' / 'runs'}")
    _refused(ran, f"{tmp_path / 'file'} is a file; set out:")
    assert _is_one_line(ran)


@pytest.mark.parametrize("command", ["sweep", "train"])
@pytest.mark.parametrize("identity", ["latest", "tiny-20200101-000000"])
def test_there_must_be_something_to_resume(cli: Cli, tmp_path: Path, command: str, identity: str) -> None:
    job = write_tiny_sweep(tmp_path) if command == "sweep" else write_tiny_training(tmp_path)
    _refused(cli(command, job, "--resume", identity), "--resume")


def test_data_prepare_prints_one_document(tmp_path: Path) -> None:
    written = write_camvid_tree(tmp_path / "camvid")
    ran = run_segsweep(
        *("data", "prepare", "camvid", "--root", "camvid", "--out", "shards", "--json"), folder=tmp_path
    )
    assert ran.code == 0, ran.err
    document = ran.document()
    assert document.keys() == {"path", "counts", "class_names", "class_histogram", "digest"}
    assert document["counts"] == {split: len(pairs) for split, pairs in written.items()}
    road = sum(int((ids == 3).sum()) for _, ids in written["train"].values())
    assert document["class_histogram"]["train"][document["class_names"].index("road")] == road
    assert open_shards(Path(document["path"])).digest == document["digest"]


def test_data_prepare_in_words(cli: Cli) -> None:
    ran = cli(
        *("data", "prepare", "synthetic", "--out", "shards", "--size", "32x64"),
        *("--option", "train=2", "--option", "val=1"),
    )
    assert "2 train, 1 val images, 9 classes" in ran.out and "road" in ran.out
    assert open_shards(Path("shards")).size == (32, 64)


def _wrong_ids(root: Path) -> None:
    write_folder_tree(root, ids=(0, 1, 2, 9, 255))


def _empty_split(root: Path) -> None:
    write_folder_tree(root)
    for path in [*root.glob("images/val/*"), *root.glob("masks/val/*")]:
        path.unlink()


def _lost_mask(root: Path) -> None:
    write_folder_tree(root)
    (root / "masks/train/scene1.png").unlink()


def _cut_picture(root: Path) -> None:
    write_folder_tree(root)
    path = root / "images/train/scene2.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: None, "data root of 'folder' does not exist"),
        (_wrong_ids, "mask holds ids 9"),
        (_empty_split, "the split is empty"),
        (_lost_mask, "scene1.png"),
        (_cut_picture, "scene2.png"),
    ],
)
def test_bad_data_is_refused_and_leaves_nothing(
    cli: Cli, tmp_path: Path, spoil: Callable[[Path], Any], message: str
) -> None:
    spoil(tmp_path / "data")
    _refused(cli("data", "prepare", "folder", "--root", tmp_path / "data", "--out", "shards"), message)
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("coco", "--out", "x"), "found data set 'coco'; allowed are synthetic, camvid, folder"),
        (("camvid", "--out", "x"), "give its folder as root"),
        (("synthetic", "--out", "x", "--option", "trian=2"), "trian"),
        (("synthetic", "--out", "x", "--size", "32"), "write HEIGHTxWIDTH"),
    ],
)
def test_data_prepare_refuses_what_it_does_not_know(
    cli: Cli, arguments: tuple[str, ...], message: str
) -> None:
    _refused(cli("data", "prepare", *arguments), message)


def test_a_prepare_job_runs_with_the_general_command(cli: Cli, tmp_path: Path) -> None:
    write_camvid_tree(tmp_path / "camvid")
    job = tmp_path / "job.yaml"
    job.write_text("{kind: prepare, name: x, data: {source: camvid, root: camvid, size: [16, 24]}}\n")
    ran = cli("run", job, "--json", "--set", "out=runs")
    assert ran.document()["counts"] == {"train": 3, "val": 2}
    assert Path(ran.document()["path"]).parent == Path.cwd() / "runs" / "data"


def test_doctor_in_words_and_as_a_document(cli: Cli, tmp_path: Path) -> None:
    words, document = cli("doctor"), cli("doctor", "--json").document()
    assert len(words.out.splitlines()) == len(document["findings"])
    assert all(item.keys() == {"name", "ok", "found", "remedy"} for item in document["findings"])


def test_doctor_exits_with_one_where_something_is_bad(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = cli("doctor", "--out", tmp_path / "file" / "runs")
    assert ran.code == 1
    assert re.search(r"^BAD  runs folder: .*not writable.* -> set out:", ran.out, re.MULTILINE)


def test_ui_on_a_taken_port_names_a_free_one(tmp_path: Path) -> None:
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        ran = run_segsweep("ui", "--port", str(port), folder=tmp_path, seconds=60)
    _refused(ran, f"port {port} of 127.0.0.1 is in use")
    assert re.search(r"port \d+ is free", ran.err)


def test_ui_is_not_shown_to_the_network(tmp_path: Path) -> None:
    _refused(run_segsweep("ui", "--host", "0.0.0.0", folder=tmp_path, seconds=60), "without a password")


@pytest.mark.parametrize(
    "arguments",
    [("--resume",), ("--resume", "latest"), ("--resume", "--json")],
    ids=["bare", "latest", "before another option"],
)
def test_a_bare_resume_means_the_latest(cli: Cli, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    _refused(cli("sweep", write_tiny_sweep(tmp_path), *arguments), "--resume latest: ")


def test_a_usage_error_exits_with_two(cli: Cli) -> None:
    _refused(cli("cost"), "--method")
    _refused(cli("points", "smoke", "-n", "0"), "-n")
