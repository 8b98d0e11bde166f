"""Stores of checkpoints: a folder, and a real S3 server that speaks over HTTP."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from segsweep.errors import DataError, EnvironmentProblem, InvalidInput
from segsweep.training.checkpoint import load_checkpoint, save_checkpoint
from segsweep.training.checkpoint_settings import CheckpointSettings
from segsweep.training.checkpoint_store import CheckpointStore, FolderStore, ObjectStore, open_store
from segsweep.training.step_checkpoints import StepCheckpoints

WEIGHTS = torch.arange(2_000_000.0)  # 8 MB: more than one part of an S3 upload


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """An S3 server on a free port with the bucket ``models``; credentials are in the environment."""
    from moto import server as moto
    from pyarrow import fs

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        try:
            address = "{}:{}".format(*server.get_host_and_port())
            s3 = fs.S3FileSystem(endpoint_override=address, scheme="http", allow_bucket_creation=True)
            s3.create_dir("models")
            yield address
        finally:
            server.stop()


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> CheckpointStore:
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    endpoint = request.getfixturevalue("endpoint")
    return ObjectStore(
        f"s3://models/{tmp_path.name}?endpoint_override={endpoint}&scheme=http", "run", pauses=()
    )


def _state(step: int) -> dict[str, object]:
    return {"step": step, "weights": WEIGHTS + step}


def test_checkpoints_come_back_newest_first(store: CheckpointStore) -> None:
    assert store.steps() == []
    for step in (9, 10, 2):
        store.write(step, _state(step))
    assert store.steps() == [10, 9, 2]
    assert store.read(9)["step"] == 9
    assert torch.equal(store.read(10)["weights"], WEIGHTS + 10)


def test_a_file_can_be_added_and_taken_out(store: CheckpointStore, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint.pt", _state(5))
    store.add(5, tmp_path / "checkpoint.pt")
    store.add(5, tmp_path / "checkpoint.pt")
    save_checkpoint(tmp_path / "checkpoint.pt", _state(6))
    assert store.read(5)["step"] == 5
    store.copy_to(5, tmp_path / "back.pt")
    assert load_checkpoint(tmp_path / "back.pt")["step"] == 5
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == ["back.pt", "checkpoint.pt"]


def test_removed_and_damaged_ones_are_no_longer_listed(store: CheckpointStore) -> None:
    for step in (1, 2, 3):
        store.write(step, {"step": step})
    store.remove(1)
    store.remove(1)
    store.set_aside(3)
    assert store.steps() == [2]
    with pytest.raises(DataError, match="step-000000001"):
        store.read(1)


def test_small_texts_lie_beside_them(store: CheckpointStore) -> None:
    assert store.read_text("job.json") is None
    store.write_text("job.json", '{"name": "grün"}')
    assert store.read_text("job.json") == '{"name": "grün"}'
    assert store.steps() == []


def test_folder_without_links_gets_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    save_checkpoint(tmp_path / "checkpoint.pt", {"step": 4})
    synchronised: list[str] = []
    synchronise = os.fsync

    def fsync(descriptor: int) -> None:
        synchronised.append(Path(f"/proc/self/fd/{descriptor}").resolve().name)
        synchronise(descriptor)

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(os, "fsync", fsync)
    store = FolderStore(tmp_path / "store")
    store.add(4, tmp_path / "checkpoint.pt")
    assert store.read(4)["step"] == 4
    assert synchronised == [f".step-000000004.pt.{os.getpid()}", "store"], "data first, then the rename"


def test_what_a_killed_writer_left_is_no_checkpoint(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    (tmp_path / ".step-000000004.pt.123").write_bytes(b"half")
    store.write(3, {"step": 3})
    assert store.steps() == [3]
    store.tidy()
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000003.pt"]


def test_half_an_object_is_noticed(endpoint: str, tmp_path: Path) -> None:
    from pyarrow import fs

    s3 = fs.S3FileSystem(endpoint_override=endpoint, scheme="http")
    store = ObjectStore(f"s3://models/half?endpoint_override={endpoint}&scheme=http", "run", pauses=())
    store.write(1, _state(1))
    path = "models/half/run/step-000000001.pt"
    with s3.open_input_stream(path) as stream:
        data = stream.read()
    with s3.open_output_stream(path) as stream:
        stream.write(data[: len(data) // 2])
    with pytest.raises(
        DataError, match=r"s3://models/half/run/step-000000001\.pt: not a readable checkpoint"
    ):
        store.read(1)


def test_a_restart_from_a_server_takes_the_newest_that_is_whole(endpoint: str, tmp_path: Path) -> None:
    from pyarrow import fs

    settings = CheckpointSettings(
        store=f"s3://models/restart?endpoint_override={endpoint}&scheme=http", keep=3
    )
    store = open_store(settings, tmp_path / "run")
    said: list[str] = []
    checkpoints = StepCheckpoints(store, settings, published=tmp_path / "checkpoint.pt", say=said.append)
    for step in (1, 2, 3, 4):
        checkpoints.write(step, lambda step=step: {"step": step, "epoch": 0, "losses": []})  # type: ignore[misc]
    s3 = fs.S3FileSystem(endpoint_override=endpoint, scheme="http")
    with s3.open_output_stream("models/restart/run/step-000000004.pt") as stream:
        stream.write(b"no checkpoint")
    state = checkpoints.newest()
    assert state is not None and state["step"] == 3
    assert store.steps() == [3, 2]
    assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == 3
    assert said[-1].endswith("the newest that is whole: s3://models/restart/run/step-000000003.pt")


def test_an_absent_bucket_is_named(endpoint: str) -> None:
    store = ObjectStore(f"s3://no-such/x?endpoint_override={endpoint}&scheme=http", "run", pauses=())
    with pytest.raises(EnvironmentProblem, match=r"s3://no-such/x/run: cannot write to the checkpoint store"):
        store.write(1, {"step": 1})


class _Refuses(http.server.BaseHTTPRequestHandler):
    """Answers as S3 does to a key that it does not know."""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b"<Error><Code>InvalidAccessKeyId</Code><Message>no such key</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_PUT()

    def log_message(self, *_: object) -> None: ...


def test_refused_credentials_are_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-tell")
    with http.server.HTTPServer(("127.0.0.1", 0), _Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"s3://models/x?endpoint_override=127.0.0.1:{server.server_port}&scheme=http"
        store = ObjectStore(address, "run", pauses=(0.0,))
        with pytest.raises(EnvironmentProblem, match=r"AWS_ACCESS_KEY_ID.* go on with --resume") as caught:
            store.write(1, {"step": 1})
        server.shutdown()
    assert "do-not-tell" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "folder"),
    [
        (None, "/out/trainings/run-1/checkpoints"),
        ("/mnt/shared", "/mnt/shared/run-1"),
        ("file:///mnt/a%20b", "/mnt/a b/run-1"),
    ],
)
def test_where_the_checkpoints_of_a_training_lie(address: str | None, folder: str) -> None:
    store = open_store(CheckpointSettings(store=address), Path("/out/trainings/run-1"))
    assert isinstance(store, FolderStore)
    assert store.folder == Path(folder)


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"checkpoints\.store"):
        open_store(CheckpointSettings(store="s3://models/x?no_such_option=1"), Path("run"))
