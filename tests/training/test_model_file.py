"""A trained network in a file: it comes back the same, and nothing in the file is run."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from small_designs import LEARNS, SMALL_DESIGNS

from segsweep.data.interface import DatasetInfo
from segsweep.errors import DataError
from segsweep.training.checkpoint import load_checkpoint, save_checkpoint
from segsweep.training.model_file import TrialModel, load_model, save_model

SIZE = (128, 128)
INFO = DatasetInfo(
    name="test",
    class_names=("road", "sky", "tree"),
    palette=((1, 2, 3), (4, 5, 6), (7, 8, 9)),
    ignore_index=255,
)


def _saved(path: Path, design: str) -> TrialModel:
    torch.manual_seed(0)
    config = SMALL_DESIGNS[design]
    trained = TrialModel(
        model=config.build(INFO.num_classes).eval(),
        config=config,
        info=INFO,
        size=SIZE,
        facts={"trial_id": "0001-abc", "point": {"neck.channels": 8}},
    )
    save_model(path, trained)
    return trained


@pytest.mark.parametrize("design", LEARNS)
def test_a_network_of_every_method_comes_back_with_the_same_logits(tmp_path: Path, design: str) -> None:
    trained = _saved(tmp_path / "net.pt", design)
    found = load_model(tmp_path / "net.pt")
    images = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = trained.model.to(memory_format=torch.channels_last)(images).semantic_logits(SIZE)
        assert torch.equal(found.model(images).semantic_logits(SIZE), expected)
    assert (found.config, found.info, found.size, found.facts) == (
        trained.config,
        INFO,
        SIZE,
        trained.facts,
    )
    assert found.num_classes == trained.num_classes and not found.model.training


def test_code_in_a_file_is_never_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (tmp_path / "evil",)

    (tmp_path / "net.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(DataError, match=r"net\.pt"):
        load_model(tmp_path / "net.pt")
    torch.save({"format": 1, "method": Evil()}, tmp_path / "net.pt")
    with pytest.raises(DataError, match=r"net\.pt"):
        load_model(tmp_path / "net.pt")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("method", "unheard-of"),
        ("config", {"neck": {"kind": "unheard-of"}}),
        ("num_classes", 7),
        ("classes", None),
    ],
)
def test_a_file_that_fits_no_method_is_refused_by_name(tmp_path: Path, key: str, value: object) -> None:
    _saved(tmp_path / "net.pt", LEARNS[0])
    state = load_checkpoint(tmp_path / "net.pt")
    del state["format"]
    save_checkpoint(tmp_path / "net.pt", {**state, key: value})
    with pytest.raises(DataError, match=r"net\.pt: not a network that this version can build"):
        load_model(tmp_path / "net.pt")


def test_a_damaged_or_missing_file_is_refused(tmp_path: Path) -> None:
    _saved(tmp_path / "net.pt", LEARNS[0])
    content = bytearray((tmp_path / "net.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "net.pt").write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        load_model(tmp_path / "net.pt")
    with pytest.raises(DataError, match="was kept"):
        load_model(tmp_path / "none.pt")
