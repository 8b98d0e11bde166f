"""Initial weights: whose they are is found out, what does not fit is listed, and nothing is unpickled."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from segsweep.errors import DataError
from segsweep.models.backbones import build_backbone
from segsweep.models.backbones.beit import Beit, BeitShape
from segsweep.models.backbones.swin import Swin, SwinShape
from segsweep.models.methods import METHODS
from segsweep.models.weights import load_weights
from segsweep.torchvision_compat import ensure_torchvision

ensure_torchvision()
import timm  # noqa: E402
from timm.models.beit import Beit as TimmBeit  # noqa: E402
from timm.models.swin_transformer import SwinTransformer  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

SWIN = SwinShape(dim=8, depths=(1, 1, 2, 1), heads=(1, 2, 2, 4), window=2)
TINY = {"backbone": {"name": "efficientnet_tiny"}, "neck": {"channels": 8, "repeats": 1, "top_level": 5}}


class WithBackbone(nn.Module):
    """A backbone where models have it."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Conv2d(1, 1, 1)


def eseg(num_classes: int = 4) -> nn.Module:
    return METHODS["eseg"].model_validate(TINY).build(num_classes)


def drawn(model: nn.Module, seed: int = 1) -> nn.Module:
    """The model with weights and buffers that no initialisation gives."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return model.eval()


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("name", "classifier"),
    [
        ("resnet18", {"fc.weight", "fc.bias"}),
        ("convnext_atto", {"head.fc.weight", "head.fc.bias", "head.norm.weight", "head.norm.bias"}),
        ("tf_efficientnet_b0", {"classifier.weight", "classifier.bias", "conv_head.weight"}),
    ],
)
def test_weights_of_a_timm_network_give_its_features(tmp_path: Path, name: str, classifier: set[str]) -> None:
    theirs = drawn(timm.create_model(name, pretrained=False))
    model = WithBackbone(build_backbone(name, levels=(2, 3, 4, 5))).eval()
    report = load_weights(model, saved(tmp_path / "w.pth", theirs.state_dict()), part="backbone")
    assert set(report.unexpected) >= classifier and not report.missing and not report.other_shape
    assert len(report.loaded) == report.wanted
    features = timm.create_model(name, pretrained=False, features_only=True, out_indices=(-1,)).eval()
    own = features.state_dict()
    by_plain_name = {key.replace("_", "."): value for key, value in theirs.state_dict().items()}
    features.load_state_dict({key: by_plain_name[key.replace("_", ".")] for key in own})
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model.backbone(images)[5], features(images)[0])


def test_the_first_release_of_convnext_is_read_as_timm_reads_it(tmp_path: Path) -> None:
    theirs = drawn(timm.create_model("convnext_atto", pretrained=False)).state_dict()
    renames = (
        (r"^stem\.", "downsample_layers.0."),
        (r"^stages\.(\d+)\.downsample\.", r"downsample_layers.\1."),
        (r"^stages\.(\d+)\.blocks\.(\d+)\.", r"stages.\1.\2."),
        (r"conv_dw", "dwconv"),
        (r"mlp\.fc", "pwconv"),
        (r"^head\.norm", "norm"),
        (r"^head\.fc", "head"),
    )
    released = {}
    for name, value in theirs.items():
        for pattern, replacement in renames:
            name = re.sub(pattern, replacement, name)  # noqa: PLW2901
        released[name] = value[:, :, 0, 0] if "pwconv" in name and value.ndim == 4 else value
    first, second = (WithBackbone(build_backbone("convnext_atto", levels=(2, 5))) for _ in range(2))
    load_weights(first, saved(tmp_path / "timm.pth", theirs))
    report = load_weights(second, saved(tmp_path / "fb.pth", {"model": released}))
    assert report.origin == "official"
    for name, value in first.backbone.state_dict().items():
        assert torch.equal(value, second.backbone.state_dict()[name]), name


def timm_swin(window: int = 2) -> dict[str, Tensor]:
    network = SwinTransformer(
        img_size=(128, 192), embed_dim=8, depths=SWIN.depths, num_heads=SWIN.heads, window_size=window
    )
    return dict(drawn(network).state_dict())


def microsoft_swin() -> dict[str, Tensor]:
    return {
        re.sub(r"layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", name): value
        for name, value in timm_swin().items()
    }


def test_whose_swin_it_is_is_found_out(tmp_path: Path) -> None:
    loaded = []
    for origin, state in (("timm", timm_swin()), ("microsoft", microsoft_swin())):
        model = WithBackbone(Swin(SWIN, levels=(2, 3, 4, 5)))
        report = load_weights(model, saved(tmp_path / f"{origin}.pth", {"model": state}), part="backbone")
        assert report.origin == origin
        assert all(".norms." in name for name in report.missing)  # classifiers have none
        loaded.append({name: value for name, value in model.state_dict().items() if name in report.loaded})
    assert all(torch.equal(value, loaded[1][name]) for name, value in loaded[0].items())
    own = saved(tmp_path / "own.pt", {"format": 2, "model": drawn(model).state_dict()})
    fresh = WithBackbone(Swin(SWIN, levels=(2, 3, 4, 5)))
    assert load_weights(fresh, own).origin == "segsweep"
    for name, value in model.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[name]), name


def test_bias_tables_of_another_window_are_resized_and_listed(tmp_path: Path) -> None:
    model = WithBackbone(Swin(SWIN, levels=(2, 3, 4, 5)))
    report = load_weights(model, saved(tmp_path / "w.pth", timm_swin(window=3)), part="backbone")
    tables = [name for name in model.state_dict() if name.endswith("relative_position_bias_table")]
    assert list(report.resized) == tables and not report.other_shape


def test_positions_of_a_vit_fit_another_crop(tmp_path: Path) -> None:
    theirs = drawn(VisionTransformer(img_size=64, patch_size=16, embed_dim=96, depth=4, num_heads=3))
    values = {"backbone": {"name": "vit_nano"}, "host": "segmenter_linear", "crop": (64, 96)}
    model = METHODS["cts"].model_validate({**values, "sharing": {"reduction": 0.0}}).build(4)
    report = load_weights(model, saved(tmp_path / "w.pth", theirs.state_dict()), part="backbone")
    assert report.resized == ("encoder.backbone.pos_embed",)
    assert set(report.unexpected) == {"head.weight", "head.bias"} and not report.missing
    grid = theirs.pos_embed[:, 1:].reshape(1, 4, 4, 96).permute(0, 3, 1, 2)
    expected = nn.functional.interpolate(grid, (4, 6), mode="bilinear").flatten(2).transpose(1, 2)
    found = model.state_dict()["encoder.backbone.pos_embed"]
    torch.testing.assert_close(found[:, 1:], expected)
    torch.testing.assert_close(found[:, :1], theirs.pos_embed[:, :1])


def test_a_bias_table_that_blocks_share_is_given_to_each(tmp_path: Path) -> None:
    shape = BeitShape(dim=32, depth=2, heads=2)
    theirs = TimmBeit(
        img_size=64, embed_dim=32, depth=2, num_heads=2, use_shared_rel_pos_bias=True, init_values=0.1
    )
    state = drawn(theirs).state_dict()
    table = state["rel_pos_bias.relative_position_bias_table"]
    model = WithBackbone(Beit(shape, grid=(4, 4)))
    report = load_weights(model, saved(tmp_path / "w.pth", state), part="backbone")
    assert not report.missing and not report.other_shape
    for block in model.backbone.blocks:
        assert torch.equal(block.attn.relative_position_bias_table, table)


def test_a_classifier_of_other_classes_is_left_out_and_the_rest_is_the_average(tmp_path: Path) -> None:
    source, average = drawn(eseg(65), seed=1), drawn(eseg(65), seed=2)
    state = {"format": 2, "model": source.state_dict(), "average": average.state_dict(), "epoch": 3}
    model = eseg(19)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = load_weights(model, saved(tmp_path / "checkpoint.pt", state))
    assert [line.split(":")[0] for line in report.other_shape] == [
        "head.classifier.weight",
        "head.classifier.bias",
    ]
    assert "(65, 8, 1, 1) in the file, (19, 8, 1, 1) in the model" in report.other_shape[0]
    for name, value in model.state_dict().items():
        other = before if "classifier" in name else average.state_dict()
        assert torch.equal(value, other[name]), name


def test_the_backbone_alone_leaves_the_other_parts_as_they_were(tmp_path: Path) -> None:
    path = saved(tmp_path / "checkpoint.pt", {"format": 2, "model": drawn(eseg()).state_dict()})
    model, whole = eseg(), eseg()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = load_weights(model, path, part="backbone")
    load_weights(whole, path)
    assert len(report.loaded) == report.wanted == sum(name.startswith("backbone.") for name in before)
    for name, value in model.state_dict().items():
        source = whole.state_dict() if name.startswith("backbone.") else before
        assert torch.equal(value, source[name]), name


def test_names_in_wrappers_and_safetensors_are_read(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = {name: value.contiguous() for name, value in drawn(eseg()).state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    wrapped = {f"module._orig_mod.{name}": value for name, value in state.items()}
    for path in (tmp_path / "w.safetensors", saved(tmp_path / "w.pt", {"state_dict": wrapped})):
        model = eseg()
        assert load_weights(model, path).missing == ()
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_the_list_names_everything_that_did_not_fit(tmp_path: Path) -> None:
    state = dict(drawn(eseg()).state_dict())
    del state["head.classifier.bias"]
    state["decode_head.weight"] = torch.zeros(3)
    state["head.classifier.weight"] = torch.zeros(65, 8, 1, 1)
    report = load_weights(eseg(), saved(tmp_path / "w.pth", state))
    assert (report.missing, report.unexpected) == (("head.classifier.bias",), ("decode_head.weight",))
    names = [line.strip().split(":")[0] for line in report.text().splitlines()]
    assert {"head.classifier.bias", "decode_head.weight", "head.classifier.weight", *report.loaded} <= {
        *names
    }
    assert "1 missing, 1 of another shape, 1 of the file not used" in report.summary


def test_weights_of_another_network_are_refused_with_the_names_of_both(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pth", {"encoder.layer.0.query.weight": torch.zeros(2, 2)})
    with pytest.raises(DataError, match=r"encoder\.layer\.0\.query\.weight.*backbone\.conv_stem\.weight"):
        load_weights(eseg(), path)


class Planted:
    """Runs a command where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def test_a_file_that_would_run_code_is_refused_and_named(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    path = saved(tmp_path / "w.pth", {"model": eseg().state_dict(), "args": Planted(mark)})
    with pytest.raises(DataError, match=r"Python objects \(.*system.*\).*save its state dict alone"):
        load_weights(eseg(), path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file of weights"),
        (b"not weights", "not a readable file of weights"),
        ({"epoch": 3}, "holds no tensors by name"),
    ],
)
def test_what_holds_no_weights_is_refused(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(DataError, match=message):
        load_weights(eseg(), path)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    state = drawn(eseg()).state_dict()
    state["head.classifier.bias"].fill_(float("nan"))
    model = eseg()
    before = model.state_dict()["head.classifier.weight"].clone()
    with pytest.raises(DataError, match=r"head\.classifier\.bias holds values that are not finite"):
        load_weights(model, saved(tmp_path / "w.pth", state))
    assert torch.equal(model.state_dict()["head.classifier.weight"], before)
