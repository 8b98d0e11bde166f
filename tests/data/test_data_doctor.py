"""One injected fault of each kind is found and named; clean data are passed over in silence."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from clean_labels import clean_image, clean_mask, write_clean_camvid
from data_trees import save_grey_mask, save_image, write_folder_tree
from dataset_trees import (
    write_ade20k_tree,
    write_cityscapes_tree,
    write_coco_stuff_10k_tree,
    write_coco_stuff_164k_tree,
    write_mapillary_tree,
    write_pascal_context_tree,
)
from PIL import Image

from segsweep.data.doctor import Finding, FindingKind, check_source
from segsweep.data.interface import Source
from segsweep.data.sources import open_source
from segsweep.data.sources.ade20k import open_ade20k
from segsweep.data.sources.camvid import CAMVID
from segsweep.data.sources.cityscapes import open_cityscapes
from segsweep.data.sources.coco_stuff_10k import open_coco_stuff_10k
from segsweep.data.sources.coco_stuff_164k import open_coco_stuff_164k
from segsweep.data.sources.mapillary import open_mapillary
from segsweep.data.sources.pascal_context import open_pascal_context
from segsweep.errors import DataError

MASKS = ("trainannot/a0.png", "trainannot/a1.png", "trainannot/a2.png", "trainannot/a3.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_clean_camvid(tmp_path / "camvid")


def camvid_findings(root: Path) -> list[Finding]:
    return check_source(open_source("camvid", root=root))


def only(findings: list[Finding], kind: FindingKind) -> Finding:
    """The one finding there must be."""
    assert [finding.kind for finding in findings] == [kind], "\n".join(map(str, findings))
    return findings[0]


def mask_of(root: Path, name: str) -> np.ndarray:
    return np.array(Image.open(root / name))


def change(root: Path, name: str, changed: Callable[[np.ndarray], np.ndarray]) -> None:
    Image.fromarray(changed(mask_of(root, name))).save(root / name, format="PNG")


def change_all(root: Path, changed: Callable[[np.ndarray], np.ndarray]) -> None:
    for path in sorted(root.glob("*annot/*.png")):
        change(root, str(path.relative_to(root)), changed)


def test_clean_data_give_no_finding(root: Path) -> None:
    assert camvid_findings(root) == []


def test_real_camvid_is_clean(camvid_root: Path) -> None:
    assert camvid_findings(camvid_root) == []


def test_made_up_scenes_are_clean() -> None:
    source = open_source("synthetic", root=None, options={"train": 30, "val": 15})
    assert check_source(source) == []


@pytest.mark.parametrize(
    ("write", "opener"),
    [
        (write_ade20k_tree, open_ade20k),
        (write_cityscapes_tree, open_cityscapes),
        (write_mapillary_tree, open_mapillary),
        (write_coco_stuff_164k_tree, open_coco_stuff_164k),
        (lambda root: write_coco_stuff_10k_tree(root, release="v1.1"), open_coco_stuff_10k),
        (lambda root: write_pascal_context_tree(root, form="mat"), open_pascal_context),
    ],
)
def test_published_layouts_have_no_error(
    tmp_path: Path, write: Callable[[Path], object], opener: Callable[[Path], Source]
) -> None:
    write(tmp_path)
    errors = [str(item) for item in check_source(opener(tmp_path)) if item.severity == "error"]
    assert errors == []


def test_ids_outside_the_classes(root: Path) -> None:
    change(root, MASKS[2], lambda ids: np.where(ids == 4, 37, ids).astype(np.uint8))
    finding = only(camvid_findings(root), FindingKind.IDS_OUTSIDE)
    assert (finding.severity, finding.split, finding.count) == ("error", "train", 1)
    assert finding.files == (str(root / MASKS[2]),)
    assert (
        "ids that no class declares: 37 (first file: 8.33% of its pixels)" in finding.found
    )  # 1 of 12 squares


def test_an_undeclared_void_value_is_told_from_a_class(root: Path) -> None:
    change(root, MASKS[0], lambda ids: np.where(ids == 11, 255, ids).astype(np.uint8))
    finding = only(camvid_findings(root), FindingKind.IDS_OUTSIDE)
    assert "255 marks pixels without a class" in finding.cause and "void: [255]" in finding.fix


def test_ids_spread_for_viewing(root: Path) -> None:
    change(root, MASKS[0], lambda ids: (20 * ids).astype(np.uint8))
    finding = only(camvid_findings(root), FindingKind.IDS_OUTSIDE)
    assert finding.fix == "divide the ids by 20"


def coloured(ids: np.ndarray) -> np.ndarray:
    return np.array([*CAMVID.palette, (0, 0, 0)], np.uint8)[ids]


def test_colour_masks(root: Path) -> None:
    change(root, MASKS[1], coloured)
    finding = only(camvid_findings(root), FindingKind.COLOUR_MASK)
    assert "11 of its 12 colours are the palette's" in finding.cause
    assert finding.files == (str(root / MASKS[1]),)


def test_colour_masks_that_were_made_grey(root: Path) -> None:
    change(root, MASKS[1], lambda ids: np.array(Image.fromarray(coloured(ids)).convert("L")))
    assert "brightness" in only(camvid_findings(root), FindingKind.COLOUR_MASK).cause


def test_ids_saved_in_three_channels(root: Path) -> None:
    change(root, MASKS[3], lambda ids: np.stack([ids] * 3, axis=-1))
    assert "saved three times" in only(camvid_findings(root), FindingKind.COLOUR_MASK).cause


@pytest.mark.parametrize("with_void", [True, False])
def test_labels_one_too_high(root: Path, with_void: bool) -> None:
    change_all(
        root, lambda ids: np.where((ids == 11) & (not with_void), 4, ids).astype(np.uint8) + np.uint8(1)
    )
    finding = only(camvid_findings(root), FindingKind.OFF_BY_ONE)
    assert "0 never does; classes are 0..10" in finding.found and "take 1 off" in finding.fix


@pytest.mark.parametrize("reduced", [True, False])
def test_labels_one_too_low(tmp_path: Path, reduced: bool) -> None:
    """ADE20K declares 0 void and 1..150; ``reduce_zero_label`` applied to the files gives 0..149 and 255."""
    description = "classes: {1: wall, 2: sky, 3: tree, 4: road}\nvoid: [0]\n"
    ids = (0, 1, 2, 3, 255) if reduced else (0, 1, 2, 3)
    if not reduced:
        description = description.replace("[0]", "[255]")
    write_folder_tree(tmp_path, ids=ids, description=description)
    finding = check_source(open_source("folder", root=tmp_path))[0]
    assert finding.kind is FindingKind.OFF_BY_ONE
    assert "ids 0..3 occur and 4 never does; classes are 1..4" in finding.found


def test_a_rare_first_class_is_no_shift(root: Path) -> None:
    change_all(root, lambda ids: np.where(np.isin(ids, (0, 7)), 3, ids).astype(np.uint8))
    assert {item.kind for item in camvid_findings(root)} == {FindingKind.ABSENT_CLASS}


def test_all_void_images(root: Path) -> None:
    change(root, MASKS[3], lambda ids: np.full_like(ids, 11))
    finding = only(camvid_findings(root), FindingKind.ALL_VOID)
    assert finding.found == "1 of 4 masks hold no class at all"
    assert finding.files == (str(root / MASKS[3]),)


def test_withheld_test_labels_are_no_fault(tmp_path: Path) -> None:
    root = write_clean_camvid(tmp_path)
    for index in range(2):
        save_image(root / "test" / f"b{index}.png", clean_image(20 + index))
        save_grey_mask(root / "testannot" / f"b{index}.png", np.full((48, 64), 11, np.uint16))
    assert camvid_findings(root) == []


@pytest.mark.parametrize(("name", "missing"), [("train/a1.png", "image"), (MASKS[1], "mask")])
def test_files_without_a_partner(root: Path, name: str, missing: str) -> None:
    (root / name).unlink()
    finding = only(camvid_findings(root), FindingKind.PAIRS)
    assert f"1 of 4 files have no {missing}" in finding.found and "a1.png" in finding.found


def test_a_missing_folder(root: Path) -> None:
    for path in (root / "valannot").iterdir():
        path.unlink()
    (root / "valannot").rmdir()
    assert camvid_findings(root)[0].files == (str(root / "valannot"),)


@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        (lambda ids: ids.T, "turned by 90 degrees"),
        (lambda ids: ids[::2, ::2], "one of the two was resized"),
        (lambda ids: ids[:40], "cropped"),
    ],
)
def test_masks_of_another_size(root: Path, changed: Callable[[np.ndarray], np.ndarray], cause: str) -> None:
    change(root, MASKS[0], lambda ids: np.ascontiguousarray(changed(ids)))
    finding = only(camvid_findings(root), FindingKind.SIZE_MISMATCH)
    assert cause in finding.cause and "image 64x48" in finding.found


@pytest.mark.parametrize(
    ("split", "consequence"), [("train", "cannot learn"), ("val", "their IoU says nothing")]
)
def test_classes_absent_from_a_split(root: Path, split: str, consequence: str) -> None:
    for path in (root / f"{split}annot").iterdir():
        change(root, f"{split}annot/{path.name}", lambda ids: np.where(ids == 9, 3, ids).astype(np.uint8))
    finding = only(camvid_findings(root), FindingKind.ABSENT_CLASS)
    assert (finding.split, finding.severity) == (split, "warning")
    assert "no pixel of pedestrian:" in finding.found and consequence in finding.found


def test_copies_in_another_split(root: Path) -> None:
    for train, val in (("train", "val"), ("trainannot", "valannot")):
        (root / val / "copy.png").write_bytes((root / train / "a2.png").read_bytes())
    finding = only(camvid_findings(root), FindingKind.DUPLICATE)
    assert finding.split == "train+val"
    assert finding.files == (f"{root / 'train' / 'a2.png'} = {root / 'val' / 'copy.png'}",)


def test_copies_that_were_encoded_anew(root: Path) -> None:
    (root / "valannot" / "copy.png").write_bytes((root / MASKS[2]).read_bytes())
    Image.open(root / "train" / "a2.png").save(root / "val" / "copy.jpg", quality=60)
    assert only(camvid_findings(root), FindingKind.DUPLICATE).count == 1


def test_equal_masks_of_different_images_are_no_copies(root: Path) -> None:
    (root / "valannot" / "other.png").write_bytes((root / MASKS[2]).read_bytes())
    save_image(root / "val" / "other.png", clean_image(50))
    assert camvid_findings(root) == []


@pytest.mark.parametrize(
    ("factor", "cause"), [(257, "stretched to 16 bits"), (256, "bytes of each id were swapped")]
)
def test_sixteen_bit_masks_with_spread_ids(root: Path, factor: int, cause: str) -> None:
    change(root, MASKS[0], lambda ids: ids.astype(np.uint16) * np.uint16(factor))
    assert cause in only(camvid_findings(root), FindingKind.SIXTEEN_BIT).cause


def test_instance_ids(root: Path) -> None:
    change(root, MASKS[0], lambda ids: ids.astype(np.uint16) * np.uint16(1000) + np.uint16(3))
    finding = only(camvid_findings(root), FindingKind.SIXTEEN_BIT)
    assert "class times 1000" in finding.cause and "_labelIds" in finding.fix


def test_sixteen_bit_masks_of_small_ids_are_no_fault(root: Path) -> None:
    change(root, MASKS[0], lambda ids: ids.astype(np.uint16))
    assert camvid_findings(root) == []


def test_eight_bits_for_more_classes_than_they_hold(tmp_path: Path) -> None:
    names = ", ".join(f"c{index}" for index in range(300))
    write_folder_tree(tmp_path, ids=range(200), description=f"classes: [{names}]\nvoid: [65535]\n")
    kinds = [
        item.kind for item in check_source(open_source("folder", root=tmp_path)) if item.severity == "error"
    ]
    assert kinds == [FindingKind.SIXTEEN_BIT]


def jpeg(ids: np.ndarray, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(ids.astype(np.uint8)).save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


def test_jpeg_masks_by_name(root: Path) -> None:
    (root / MASKS[0]).rename(root / "trainannot" / "a0.jpg")
    kinds = {item.kind for item in camvid_findings(root)}
    assert kinds == {FindingKind.JPEG_MASK, FindingKind.PAIRS}  # and so its image has no mask


def test_jpeg_masks_under_another_name(root: Path) -> None:
    (root / MASKS[0]).write_bytes(jpeg(clean_mask(0), 90))
    assert "stored as JPEG" in only(camvid_findings(root), FindingKind.JPEG_MASK).found


@pytest.mark.parametrize("quality", [50, 75, 90])
def test_masks_that_once_were_jpeg(root: Path, quality: int) -> None:
    """CamVid's ids are few and low: the hardest case, noise mostly falls on other declared ids."""
    generator = np.random.default_rng(1)
    ids = clean_mask(0)
    for _ in range(12):  # small things, as in real masks
        top, left = generator.integers(44), generator.integers(58)
        ids[top : top + 4, left : left + 3] = generator.choice((10, 11))
    Image.open(io.BytesIO(jpeg(ids, quality))).save(root / MASKS[0])
    assert only(camvid_findings(root), FindingKind.JPEG_MASK).cause.startswith("JPEG compression")


def test_masks_resized_with_interpolation(tmp_path: Path) -> None:
    description = "classes: {0: a, 40: b, 80: c, 120: d, 160: e, 200: f}\n"
    write_folder_tree(tmp_path, ids=(0, 40, 80, 120, 160, 200), description=description)
    path = tmp_path / "masks" / "train" / "scene0.png"
    Image.open(path).resize((64, 48)).resize((32, 24), Image.Resampling.BILINEAR).save(path)
    kinds = {item.kind for item in check_source(open_source("folder", root=tmp_path))}
    assert FindingKind.JPEG_MASK in kinds and FindingKind.IDS_OUTSIDE not in kinds


def test_damaged_masks(root: Path) -> None:
    content = (root / MASKS[1]).read_bytes()
    (root / MASKS[1]).write_bytes(content[: len(content) // 2])
    finding = only(camvid_findings(root), FindingKind.UNREADABLE)
    assert finding.files == (str(root / MASKS[1]),) and "masks that cannot be read" in finding.found


def test_damaged_images_are_named_and_not_their_masks(root: Path) -> None:
    (root / "train" / "a1.png").write_bytes(b"no picture")
    finding = only(camvid_findings(root), FindingKind.UNREADABLE)
    assert finding.files == (str(root / "train" / "a1.png"),)


def test_a_fault_in_every_file_is_one_finding_with_ten_names(tmp_path: Path) -> None:
    root = write_clean_camvid(tmp_path, train=14, val=2)
    for path in (root / "trainannot").iterdir():
        change(root, f"trainannot/{path.name}", lambda ids: np.where(ids == 4, 99, ids).astype(np.uint8))
    finding = camvid_findings(root)[0]
    assert (finding.count, len(finding.files)) == (14, 10)
    assert str(finding).endswith("and 4 more")


def test_progress_and_choice_of_splits(root: Path) -> None:
    calls: list[tuple[int, int]] = []
    source = open_source("camvid", root=root)
    change(root, MASKS[0], coloured)
    found = check_source(source, splits=["val"], progress=lambda done, total: calls.append((done, total)))
    assert (found, calls) == ([], [(1, 3), (2, 3), (3, 3)])
    with pytest.raises(DataError, match="has no split 'all'; allowed are train, val"):
        check_source(source, splits=["all"])
