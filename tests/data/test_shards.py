from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from data_trees import write_camvid_tree, write_folder_tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from segsweep.data.shards import ShardSet, open_shards, prepare
from segsweep.data.sources import open_source
from segsweep.errors import DataError


@pytest.fixture
def shards(tmp_path: Path) -> ShardSet:
    write_camvid_tree(tmp_path / "camvid")
    return prepare(open_source("camvid", root=tmp_path / "camvid"), tmp_path / "shards")


def damaged_copy(shards: ShardSet, folder: Path, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    for name in ("index.json", "val.arrow"):
        (folder / name).write_bytes((shards.path / name).read_bytes())
    (folder / "train.arrow").write_bytes(content)
    return folder


def test_samples_come_back_bit_equal_and_in_order(tmp_path: Path) -> None:
    written = write_camvid_tree(tmp_path / "camvid")
    shards = prepare(open_source("camvid", root=tmp_path / "camvid"), tmp_path / "shards")
    assert (shards.counts, shards.size) == ({"train": 3, "val": 2}, (24, 32))
    for split, pairs in written.items():
        dataset = shards.dataset(split)
        for row, (key, (image, ids)) in enumerate(pairs.items()):
            pixels, labels = dataset[row]
            assert dataset.key(row) == key
            np.testing.assert_array_equal(pixels.permute(1, 2, 0), image)
            np.testing.assert_array_equal(labels, np.where(ids == 11, 255, ids))


def test_class_histogram_counts_every_pixel(tmp_path: Path) -> None:
    written = write_camvid_tree(tmp_path / "camvid")
    shards = prepare(open_source("camvid", root=tmp_path / "camvid"), tmp_path / "shards")
    for split, pairs in written.items():
        counts = np.bincount(np.concatenate([ids.ravel() for _, ids in pairs.values()]), minlength=12)
        assert shards.class_histogram[split] == tuple(counts[:11])
        assert shards.ignored_pixels[split] == counts[11]


def test_resizing_is_pillows(tmp_path: Path) -> None:
    written = write_camvid_tree(tmp_path / "camvid", size=(30, 50))
    shards = prepare(open_source("camvid", root=tmp_path / "camvid"), tmp_path / "shards", size=(16, 20))
    image, ids = written["train"]["0001TP_000000"]
    pixels, labels = shards.dataset("train")[0]
    expected = Image.fromarray(image).resize((20, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(pixels.permute(1, 2, 0), np.asarray(expected))
    nearest = np.asarray(Image.fromarray(ids.astype(np.uint8)).resize((20, 16), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(labels, np.where(nearest == 11, 255, nearest))


def test_samples_may_keep_their_own_sizes(tmp_path: Path) -> None:
    write_camvid_tree(tmp_path / "camvid", counts={"train": 2, "val": 1}, size=(20, 30))
    for name in ("train", "trainannot"):
        path = tmp_path / "camvid" / name / "0001TP_000001.png"
        Image.open(path).resize((7, 9), Image.Resampling.NEAREST).save(path)
    shards = prepare(open_source("camvid", root=tmp_path / "camvid"), tmp_path / "shards")
    assert [shards.dataset("train")[row][0].shape for row in range(2)] == [(3, 20, 30), (3, 9, 7)]
    assert (shards.size, shards.dataset("train").size, shards.dataset("val").size) == (None, None, (20, 30))


def test_sixteen_bit_labels_survive(tmp_path: Path) -> None:
    names = ", ".join(f"c{index}" for index in range(300))
    description = f"classes: [{names}]\nvoid: [65535]\n"
    written = write_folder_tree(tmp_path / "data", ids=(0, 255, 299, 65535), description=description)
    shards = prepare(open_source("folder", root=tmp_path / "data"), tmp_path / "shards")
    labels = shards.dataset("val").arrays(1)[1]
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels, written["val"]["scene1"][1])


def test_loading_copies_nothing(shards: ShardSet) -> None:
    dataset = shards.dataset("train")
    (first, labels), (again, _) = dataset[1], dataset[1]
    assert first.data_ptr() == again.data_ptr()  # both are the mapped file's pages
    maps = Path("/proc/self/maps").read_text()
    spans = [line.split()[0].split("-") for line in maps.splitlines() if line.endswith("train.arrow")]
    for tensor in (first, labels):
        assert any(int(low, 16) <= tensor.data_ptr() < int(high, 16) for low, high in spans)


def test_writing_to_a_sample_leaves_the_file_alone(shards: ShardSet) -> None:
    before = (shards.path / "train.arrow").read_bytes()
    image, _ = shards.dataset("train")[0]
    image.zero_()
    assert (shards.path / "train.arrow").read_bytes() == before
    assert int(shards.dataset("train")[0][0].sum()) > 0


def test_dataset_and_set_survive_pickling(shards: ShardSet) -> None:
    dataset = shards.dataset("train")
    expected = dataset[2][0]
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy[2][0].equal(expected)
    assert len(pickle.dumps(dataset)) < 1000
    assert pickle.loads(pickle.dumps(shards)) == shards


def test_rows_outside_the_split_are_refused(shards: ShardSet) -> None:
    for row in (-1, 3):
        with pytest.raises(IndexError, match=rf"row {row} is outside 0\.\.2"):
            shards.dataset("train")[row]
    with pytest.raises(DataError, match="has no split 'test'; it has train, val"):
        shards.dataset("test")


def test_digest_follows_the_pixels_and_not_the_place(tmp_path: Path) -> None:
    def digest(name: str, **tree: int) -> str:
        write_camvid_tree(tmp_path / name, **tree)
        return prepare(open_source("camvid", root=tmp_path / name), tmp_path / f"{name}-shards").digest

    assert digest("one") == digest("two")
    assert digest("three", seed=1) != digest("four")


def test_preparing_again_reuses_equal_shards_and_refuses_other_contents(tmp_path: Path) -> None:
    write_camvid_tree(tmp_path / "camvid")
    source = open_source("camvid", root=tmp_path / "camvid")
    first = prepare(source, tmp_path / "shards")
    modified = (first.path / "train.arrow").stat().st_mtime_ns
    assert prepare(source, tmp_path / "shards") == first
    assert (first.path / "train.arrow").stat().st_mtime_ns == modified
    with pytest.raises(DataError, match="shards of other data or another size; give another folder"):
        prepare(source, tmp_path / "shards", size=(8, 8))
    with pytest.raises(DataError, match="files that are not shards"):
        prepare(source, tmp_path / "camvid")


def test_progress_counts_every_sample(tmp_path: Path) -> None:
    write_camvid_tree(tmp_path / "camvid")
    calls: list[tuple[int, int]] = []
    prepare(
        open_source("camvid", root=tmp_path / "camvid"),
        tmp_path / "shards",
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(done, 5) for done in range(1, 6)]


@given(share=st.floats(0, 1, exclude_max=True))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
def test_file_cut_anywhere_is_refused(shards: ShardSet, tmp_path: Path, share: float) -> None:
    whole = (shards.path / "train.arrow").read_bytes()
    folder = damaged_copy(shards, tmp_path / "cut", whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"train.arrow: has \d+ bytes instead of \d+.*segsweep data prepare"):
        open_shards(folder)


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
def test_any_changed_bit_is_found_or_harmless(
    shards: ShardSet, tmp_path: Path, place: float, bit: int
) -> None:
    content = bytearray((shards.path / "train.arrow").read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    folder = damaged_copy(shards, tmp_path / "flipped", bytes(content))
    try:
        opened = open_shards(folder)
        opened.verify()
    except DataError as error:
        assert "train.arrow" in str(error)
        return
    for row in range(3):  # padding or unused metadata: the samples are those that were written
        for found, expected in zip(opened.dataset("train")[row], shards.dataset("train")[row], strict=True):
            assert found.equal(expected)


def empty_arrow_file(metadata: dict[str, str]) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, pa.schema([("x", pa.int64())], metadata=metadata)):
        pass
    return bytes(sink.getvalue().to_pybytes())


def test_foreign_files_are_refused(shards: ShardSet, tmp_path: Path) -> None:
    size = (shards.path / "train.arrow").stat().st_size
    for content, found in (
        (b"\x00" * size, "not a complete Arrow file"),
        (b"ARROW1" + b"\xff" * (size - 12) + b"ARROW1", "not a readable Arrow file"),
        ((shards.path / "val.arrow").read_bytes(), "belongs to other shards"),
        (empty_arrow_file({}), "not one of segsweep's shards"),
        (empty_arrow_file({"segsweep.schema_version": "two"}), "not a readable Arrow file"),
        (empty_arrow_file({"segsweep.schema_version": "9"}), "written by a newer segsweep"),
    ):
        folder = damaged_copy(shards, tmp_path / "foreign", content)
        index = json.loads((folder / "index.json").read_text())
        index["splits"]["train"]["bytes"] = len(content)
        (folder / "index.json").write_text(json.dumps(index))
        with pytest.raises(DataError, match=f"train.arrow: .*{found}"):
            open_shards(folder)


def test_newer_schema_asks_for_an_update(shards: ShardSet) -> None:
    path = shards.path / "index.json"
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    with pytest.raises(DataError, match=r"index.json: written by a newer segsweep \(schema version 2"):
        open_shards(shards.path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"schema_version": 1}', b"\xff\xfe", b'{"schema_version": "x"}']
)
def test_damaged_index_is_refused(shards: ShardSet, content: bytes) -> None:
    (shards.path / "index.json").write_bytes(content)
    with pytest.raises(DataError, match=r"index\.json: not an index of shards"):
        open_shards(shards.path)


@pytest.mark.parametrize("name", ["index.json", "val.arrow"])
def test_missing_file_is_named(shards: ShardSet, name: str) -> None:
    (shards.path / name).unlink()
    with pytest.raises(DataError, match=f"{name}: file is missing"):
        open_shards(shards.path)


def test_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no complete shards"):
        open_shards(tmp_path / "nowhere")


def test_interrupted_preparation_leaves_nothing(tmp_path: Path) -> None:
    write_camvid_tree(tmp_path / "camvid")

    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(
            open_source("camvid", root=tmp_path / "camvid"), tmp_path / "out" / "shards", progress=interrupt
        )
    assert list((tmp_path / "out").iterdir()) == []


def test_too_small_a_disk_is_found_before_the_work(tmp_path: Path) -> None:
    source = open_source("synthetic", root=None, options={"train": 10**5})
    with pytest.raises(DataError, match=r"samples of 4096x8192 need \d+\.\d GB but the disk has"):
        prepare(source, tmp_path / "shards", size=(4096, 8192))


def run_python(code: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


PREPARE = """
from pathlib import Path
from segsweep.data.shards import prepare
from segsweep.data.sources import open_source
from segsweep.errors import DataError
def attempt(out, **options):
    try:
        prepare(open_source("synthetic", root=None, options=options), Path(out))
    except DataError as error:
        print(error)
"""


def test_full_disk_is_explained_and_leaves_nothing(tmp_path: Path) -> None:
    # a limit on the size of files makes write() fail in the middle, as a full disk does
    code = f"""{PREPARE}
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
attempt({str(tmp_path / "out" / "shards")!r}, train=5)
"""
    output = run_python(code)
    assert "shards: cannot be written (File too large)" in output
    assert list((tmp_path / "out").iterdir()) == []


def test_folder_without_write_permission_is_explained(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    for folder in tmp_path.parents[:3]:
        folder.chmod(folder.stat().st_mode | 0o055)
    drop = "import os\nif os.getuid() == 0: os.setuid(65534)  # root may write everywhere\n"
    output = run_python(f"{PREPARE}{drop}attempt({str(tmp_path / 'shards')!r}, train=1)")
    tmp_path.chmod(0o755)
    assert "shards: cannot be written (Permission denied); choose a folder you may write to" in output


def test_folder_below_a_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    source = open_source("synthetic", root=None, options={"train": 1, "val": 1})
    with pytest.raises(DataError, match=r"cannot be written \(.*\); "):
        prepare(source, tmp_path / "file" / "shards")


def test_memory_does_not_grow_with_the_data_set(tmp_path: Path) -> None:
    code = f"""{PREPARE}
import resource
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
attempt({str(tmp_path / "warm")!r}, height=512, width=1024, train=8, val=1)
before = peak()
attempt({str(tmp_path / "shards")!r}, height=512, width=1024, train=40, val=1)
print(peak() - before)
"""
    assert int(run_python(code)) < 30  # MB; the shards hold 86
