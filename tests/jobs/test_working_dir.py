"""What goes along to a cluster, and what stays."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from segsweep.errors import InvalidInput
from segsweep.jobs.working_dir import collect, write_archive

ROOT = Path(__file__).parents[2]


def _tree(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}")


def _names(root: Path) -> list[str]:
    return [file.path for file in collect(root).files]


def test_code_goes_along_and_environments_runs_data_and_secrets_stay(tmp_path: Path) -> None:
    kept = ["job.yaml", "platform/segsweep/data/loader.py", "src/a.py", "docs/keys.md"]
    stay = [".git/config", ".venv/bin/python", "segsweep-runs/x/journal.jsonl", "data/image.png"]
    stay += ["datasets/b.png", "src/__pycache__/a.pyc", ".env", "certs/server.pem", "keys/id_ed25519"]
    stay += ["home/.aws/credentials", "deep/segsweep-runs/c", "ray/auth_token", "a.egg-info/PKG-INFO"]
    _tree(tmp_path, *kept, *stay)
    assert _names(tmp_path) == sorted(kept)
    assert {".git/", ".venv/", "data/", "segsweep-runs/", ".env"} <= set(collect(tmp_path).excluded)


def test_ignore_files_are_read_as_git_reads_them(tmp_path: Path) -> None:
    names = ["a.log", "keep.log", "src/b.log", "src/c.py", "src/local/d.py", "build/e.py", "src/build/f.py"]
    names += [
        "notes/g.txt",
        "notes/deep/h.txt",
        "src/keep/i.tmp",
        "src/keep/j.py",
        "weird name.log",
        "src/#k",
    ]
    _tree(tmp_path, *names)
    (tmp_path / ".gitignore").write_text("# logs\n*.log\n!keep.log\n/build/\nnotes/**\n*.tmp\n\\#k\n")
    (tmp_path / "src" / ".gitignore").write_text("local/\n!b.log\n")
    (tmp_path / "src" / "keep" / ".gitignore").write_text("!i.tmp\n")
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    listed = subprocess.run(
        ["git", "-C", str(tmp_path), "ls-files", "--others", "--exclude-standard", "-z"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert _names(tmp_path) == sorted(name for name in listed.stdout.split("\0") if name)


def test_rayignore_takes_out_more_and_brings_back_what_is_left_out_by_default(tmp_path: Path) -> None:
    _tree(tmp_path, "data/small.png", "models/large.pt", "job.yaml")
    (tmp_path / ".rayignore").write_text("!/data/\n/models/\n")
    assert _names(tmp_path) == [".rayignore", "data/small.png", "job.yaml"]


def test_too_much_is_refused_with_the_largest_files_named(tmp_path: Path) -> None:
    for number in range(1, 8):
        with (tmp_path / f"weights{number}.bin").open("wb") as file:
            file.truncate(number * 20_000_000)  # sparse: takes no room on the disk
    with pytest.raises(InvalidInput, match=r"holds 560\.0 MB, allowed are 500\.0 MB") as refused:
        collect(tmp_path)
    message = str(refused.value)
    assert "weights7.bin (140.0 MB), weights6.bin (120.0 MB)" in message
    assert "weights2.bin" not in message and ".rayignore" in message


def test_links_to_folders_are_not_followed_and_odd_files_stay(tmp_path: Path) -> None:
    _tree(tmp_path / "outside", "secret.txt")
    _tree(tmp_path / "project", "job.yaml")
    (tmp_path / "project" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "project" / "loop").symlink_to(tmp_path / "project")
    (tmp_path / "project" / "broken").symlink_to(tmp_path / "nowhere")
    assert _names(tmp_path / "project") == ["job.yaml"]


def test_a_link_to_a_file_goes_along_only_if_the_file_does(tmp_path: Path) -> None:
    _tree(tmp_path, "home/credentials", "project/job.yaml", "project/.env")
    project = tmp_path / "project"
    (project / "same.yaml").symlink_to("job.yaml")
    assert _names(project) == ["job.yaml", "same.yaml"]
    (project / "outside.txt").symlink_to(tmp_path / "home" / "credentials")
    (project / "inside.txt").symlink_to(project / ".env")
    with pytest.raises(InvalidInput) as refused:
        collect(project)
    told = [(problem.where, problem.message.partition(",")[0]) for problem in refused.value.problems]
    assert told == [
        ("inside.txt", f"leads to {project / '.env'}"),
        ("outside.txt", f"leads to {tmp_path / 'home' / 'credentials'}"),
    ]
    (project / ".rayignore").write_text("/inside.txt\n/outside.txt\n")
    assert _names(project) == [".rayignore", "job.yaml", "same.yaml"]


def test_equal_files_make_an_equal_archive(tmp_path: Path) -> None:
    for name in ("one", "two"):
        _tree(tmp_path / name, "job.yaml", "src/a.py")
        (tmp_path / name / "src" / "a.py").chmod(0o755)
        write_archive(collect(tmp_path / name), tmp_path / f"{name}.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert archive.read("src/a.py") == b"content of src/a.py"
        assert archive.getinfo("src/a.py").external_attr >> 16 == 0o755


def test_of_this_project_the_code_and_the_jobs_go_along() -> None:
    package = collect(ROOT)
    assert package.holds(ROOT / "platform" / "segsweep" / "data" / "loader.py")
    assert package.holds(ROOT / "jobs" / "run.py") and package.holds(ROOT / "search_spaces")
    assert not package.holds(ROOT / ".git") and not package.holds(ROOT.parent)


def test_a_working_directory_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"--working-dir: .*nowhere is no folder"):
        collect(tmp_path / "nowhere")
