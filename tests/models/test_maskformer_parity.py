"""MaskFormer against transformers' implementation, with the same weights in float64.

transformers differs from the published model in three ways. Its auxiliary predictions start at the zero query
and, but for the last, lack the shared layer norm: here the norm is applied to its states. ``auxiliary_loss``
of its decoder would feed normalised states on: it is off. Its semantic post-processing merges masks at stride
4 and resizes the result: merging is not compared here.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import DetrConfig, MaskFormerForInstanceSegmentation, SwinConfig
from transformers import MaskFormerConfig as PeerConfig
from transformers.models.maskformer.modeling_maskformer import MaskFormerHungarianMatcher, MaskFormerLoss

from segsweep.losses.mask_matching import (
    MaskPrediction,
    MaskTargets,
    MaskWeights,
    mask_terms,
    match_queries,
    semantic_targets,
)
from segsweep.losses.per_pixel import LossTerm
from segsweep.models.backbones.swin import Swin, SwinShape
from segsweep.models.backbones.swin_weights import load_swin_weights
from segsweep.models.heads.mask_classification import MaskClassificationHead, MaskOutput
from segsweep.models.heads.query_decoder import QueryDecoder
from segsweep.models.necks.pixel_decoder import PixelDecoder, TransformerShape
from segsweep.models.padded_segmenter import PaddedSegmenter

CLASSES, QUERIES, LAYERS, WIDTH, HIDDEN = 21, 17, 4, 64, 128
SHAPE = SwinShape(dim=24, depths=(2, 2, 2, 2), heads=(1, 2, 4, 8), window=7, drop_path=0.0)
LEVELS = (2, 3, 4, 5)
SIZE = (288, 352)  # maps of 72x88 to 9x11: no window divides them, each is larger than a window


def make_peer() -> MaskFormerForInstanceSegmentation:
    backbone = SwinConfig(
        embed_dim=SHAPE.dim,
        depths=list(SHAPE.depths),
        num_heads=list(SHAPE.heads),
        window_size=SHAPE.window,
        drop_path_rate=0.0,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    decoder = DetrConfig(
        decoder_layers=LAYERS,
        num_queries=QUERIES,
        d_model=WIDTH,
        decoder_ffn_dim=HIDDEN,
        decoder_attention_heads=8,
        dropout=0.0,
        auxiliary_loss=False,
    )
    config = PeerConfig(
        backbone_config=backbone,
        decoder_config=decoder,
        num_labels=CLASSES,
        fpn_feature_size=WIDTH,
        mask_feature_size=WIDTH,
    )
    torch.manual_seed(0)
    peer = MaskFormerForInstanceSegmentation(config).double().eval()
    for parameter in peer.parameters():  # biases of zero and norms of one would hide mistakes
        if parameter.ndim == 1:
            nn.init.normal_(parameter, mean=float(parameter.mean() > 0.5), std=0.3)
    return peer


def make_ours() -> PaddedSegmenter:
    backbone = Swin(SHAPE, levels=LEVELS)
    neck = PixelDecoder(backbone.channels, channels=WIDTH)
    shape = TransformerShape(channels=WIDTH, num_heads=8, hidden=HIDDEN, dropout=0.0, num_layers=LAYERS)
    decoder = QueryDecoder(backbone.channels[5], num_queries=QUERIES, shape=shape)
    head = MaskClassificationHead(decoder, channels=WIDTH, mask_channels=WIDTH, num_classes=CLASSES)
    return PaddedSegmenter(backbone, neck, head, levels=(2, 5), num_classes=CLASSES).double()


BACKBONE_NAMES = (
    ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
    ("embeddings.norm", "patch_embed.norm"),
    ("encoder.layers", "layers"),
    ("layernorm_before", "norm1"),
    ("layernorm_after", "norm2"),
    ("attention.self.relative", "attn.relative"),
    ("attention.output.dense", "attn.proj"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
    ("hidden_states_norms.", "norm"),
)
HEAD_NAMES = (
    (r"model\.pixel_level_module\.decoder\.fpn\.stem\.", "neck.top."),
    (r"model\.pixel_level_module\.decoder\.mask_projection\.", "neck.mask_features."),
    (r"model\.transformer_module\.input_projection\.", "head.decoder.project."),
    (r"model\.transformer_module\.queries_embedder\.weight", "head.decoder.queries"),
    (r"model\.transformer_module\.decoder\.layernorm\.", "head.decoder.norm."),
    (r"model\.transformer_module\.decoder\.layers\.", "head.decoder.layers."),
    (r"\.self_attn_layer_norm\.", ".norm1."),
    (r"\.encoder_attn_layer_norm\.", ".norm2."),
    (r"\.final_layer_norm\.", ".norm3."),
    (r"\.self_attn\.", ".attention."),
    (r"\.encoder_attn\.", ".cross_attention."),
    (r"\.q_proj\.", ".to_query."),
    (r"\.k_proj\.", ".to_key."),
    (r"\.v_proj\.", ".to_value."),
    (r"\.o_proj\.", ".proj."),
    (r"\.mlp\.", ".feed_forward."),
    (r"class_predictor\.", "head.classifier."),
)


def fpn_name(name: str) -> str:
    """The peer's pyramid layer 0 is level 4; its perceptron counts layers, ours modules with the ReLUs."""
    pattern = r"model\.pixel_level_module\.decoder\.fpn\.layers\.(\d)\.(proj|block)\."
    parts = {"proj": "laterals", "block": "outputs"}
    name = re.sub(pattern, lambda m: f"neck.{parts[m[2]]}.{4 - int(m[1])}.", name)
    return re.sub(r"mask_embedder\.(\d)\.0\.", lambda m: f"head.mask_embedding.{2 * int(m[1])}.", name)


def copy_weights(peer: nn.Module, ours: PaddedSegmenter) -> None:
    prefix = "model.pixel_level_module.encoder."
    state = peer.state_dict()
    backbone = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
    load_swin_weights(ours.backbone, swin_state(backbone), origin="microsoft")  # type: ignore[arg-type]
    head = {}
    for name, value in state.items():
        if name.startswith((prefix, "criterion")):
            continue
        ours_name = fpn_name(name)
        for pattern, replacement in HEAD_NAMES:
            ours_name = re.sub(pattern, replacement, ours_name)
        head[ours_name] = value
    missing, unexpected = ours.load_state_dict(head, strict=False)
    assert not unexpected
    assert all(name.startswith("backbone.") for name in missing)


def swin_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, value in state.items():
        microsoft = name.removeprefix("model.")
        for theirs, replacement in BACKBONE_NAMES:
            microsoft = microsoft.replace(theirs, replacement)
        renamed[microsoft] = value
    joined = {}
    for name, value in renamed.items():
        if ".self.query." in name:
            parts = [renamed[name.replace("query", part)] for part in ("query", "key", "value")]
            joined[name.replace("attention.self.query", "attn.qkv")] = torch.cat(parts)
        elif ".self.key." not in name and ".self.value." not in name:
            joined[name] = value
    return joined


@pytest.fixture(scope="module")
def pair() -> tuple[Any, PaddedSegmenter]:
    peer, ours = make_peer(), make_ours()
    copy_weights(peer, ours)
    return peer, ours


@pytest.fixture(scope="module")
def outputs(pair: tuple[Any, PaddedSegmenter]) -> tuple[Any, MaskOutput]:
    """The peer's output with hidden states, and ours in training mode: all layers; there is no dropout."""
    peer, ours = pair
    images = torch.randn(2, 3, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return peer(images, output_hidden_states=True), ours.train()(images)


def labels() -> Tensor:
    """Blocks of seven classes, the ignored label among them; the second image has another set."""
    generator = torch.Generator().manual_seed(2)
    drawn = torch.randint(0, 7, (2, SIZE[0] // 32, SIZE[1] // 32), generator=generator) * 3
    drawn[1] += 1
    drawn = drawn.repeat_interleave(32, 1).repeat_interleave(32, 2)
    drawn[:, :17, :35] = 255
    return drawn


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


def test_swin_pads_then_rolls(pair: tuple[Any, PaddedSegmenter]) -> None:
    peer, ours = pair
    images = torch.randn(1, 3, *SIZE, dtype=torch.float64)
    with torch.no_grad():
        expected = peer.model.pixel_level_module.encoder(images).feature_maps
        pyramid = ours.backbone(images)
    for level, features in zip(LEVELS, expected, strict=True):
        close(pyramid[level], features)


def test_mask_features_and_last_state(pair: tuple[Any, PaddedSegmenter]) -> None:
    peer, ours = pair
    images = torch.randn(1, 3, *SIZE, dtype=torch.float64)
    with torch.no_grad():
        expected = peer.model(images)
        pyramid = ours.neck(ours.backbone(images))
        state = ours.head.decoder(pyramid[5], every_layer=False)[-1]  # type: ignore[operator]
    close(pyramid[2], expected.pixel_decoder_last_hidden_state)
    close(state, expected.transformer_decoder_last_hidden_state)


def test_classes_and_masks_of_the_last_layer(outputs: tuple[Any, MaskOutput]) -> None:
    expected, output = outputs
    close(output.prediction.class_logits, expected.class_queries_logits)
    close(output.mask_logits, expected.masks_queries_logits)
    assert output.mask_logits.abs().mean() > 1


def test_classes_of_the_other_layers(
    pair: tuple[Any, PaddedSegmenter], outputs: tuple[Any, MaskOutput]
) -> None:
    (peer, _), (expected, output) = pair, outputs
    states = expected.transformer_decoder_hidden_states[1:LAYERS]  # after the layers 1 to L - 1
    assert output.auxiliary is not None
    assert len(output.auxiliary) == len(states) == LAYERS - 1
    with torch.no_grad():
        for layer, state in zip(output.auxiliary, states, strict=True):
            normed = peer.model.transformer_module.decoder.layernorm(state)
            close(layer.class_logits, peer.class_predictor(normed))
            masks = torch.einsum(
                "bqc,bchw->bqhw", peer.mask_embedder(normed), expected.pixel_decoder_last_hidden_state
            )
            close(layer.mask_logits, masks)


def test_evaluation_gives_the_last_layer_alone(
    pair: tuple[Any, PaddedSegmenter], outputs: tuple[Any, MaskOutput]
) -> None:
    images = torch.randn(2, 3, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        output = pair[1].eval()(images)
    assert output.auxiliary is None
    close(output.mask_logits, outputs[1].mask_logits)


def peer_loss() -> MaskFormerLoss:
    matcher = MaskFormerHungarianMatcher(cost_class=1.0, cost_mask=20.0, cost_dice=1.0)
    weights = {"loss_cross_entropy": 1.0, "loss_mask": 20.0, "loss_dice": 1.0}
    return MaskFormerLoss(CLASSES, matcher, weights, 0.1).double()


def value(term: LossTerm) -> float:
    return float(term.loss.total.detach() / term.loss.count)


def targets_of(drawn: Tensor) -> tuple[list[MaskTargets], list[Tensor], list[Tensor]]:
    targets = semantic_targets(drawn, num_classes=CLASSES, ignore_index=255)
    return targets, [target.masks.double() for target in targets], [target.classes for target in targets]


def test_matching_is_equal(outputs: tuple[Any, MaskOutput]) -> None:
    prediction = outputs[1].prediction
    targets, masks, classes = targets_of(labels())
    expected = peer_loss().matcher(prediction.mask_logits, prediction.class_logits, masks, classes)
    (matches,) = match_queries([prediction], targets, weights=MaskWeights())
    for match, (queries, objects) in zip(matches, expected, strict=True):
        assert torch.equal(match.queries, queries)
        assert torch.equal(match.targets, objects)


@pytest.mark.parametrize("queries", [QUERIES, 3])
def test_losses_are_equal(outputs: tuple[Any, MaskOutput], queries: int) -> None:
    """Also where there are more objects than queries: the number of objects divides, not that of pairs."""
    whole = outputs[1].prediction
    prediction = MaskPrediction(whole.class_logits[:, :queries], whole.mask_logits[:, :queries])
    targets, masks, classes = targets_of(labels())
    assert min(len(found) for found in classes) > 3
    loss = peer_loss()
    expected = loss(prediction.mask_logits, prediction.class_logits, masks, classes)
    terms = mask_terms([prediction], targets, weights=MaskWeights())
    assert value(terms["focal"]) == pytest.approx(float(expected["loss_mask"]), rel=1e-12)
    assert value(terms["dice"]) == pytest.approx(float(expected["loss_dice"]), rel=1e-12)
    # transformers keeps 0.1 in float32
    assert value(terms["classification"]) == pytest.approx(float(expected["loss_cross_entropy"]), rel=1e-8)
    assert [term.weight for term in terms.values()] == [1.0, 20.0, 1.0]


def test_loss_is_the_sum_over_the_layers(outputs: tuple[Any, MaskOutput]) -> None:
    output = outputs[1]
    layers = [*(output.auxiliary or ()), output.prediction]
    targets, _, _ = targets_of(labels())
    together = mask_terms(layers, targets, weights=MaskWeights())
    for name, term in together.items():
        alone = sum(value(mask_terms([layer], targets, weights=MaskWeights())[name]) for layer in layers)
        assert value(term) == pytest.approx(alone, rel=1e-12)
