"""Maps from queries against the image processors of transformers 5.24: equal where they follow the authors' codes.

EoMT's processor does; those of the others deviate in several ways, each of which is shown here and absent from ours.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import transformers
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError
from panscape.postprocess import map_from_queries

THINGS, NUM_CATEGORIES = (1, 2), 4
STUFF = [0, 3]


def outputs(queries, masks):
    """Return outputs as of transformers, of one image: categories with probabilities, and mask logits."""
    prob = torch.full((len(queries), NUM_CATEGORIES + 1), 1e-6)
    for row, (category, score) in enumerate(queries):
        prob[row] = (1 - score) / NUM_CATEGORIES
        prob[row, category] = score
    logits, masks = prob.log()[None], masks[None]
    # DETR names them otherwise.
    return SimpleNamespace(class_queries_logits=logits, masks_queries_logits=masks, logits=logits, pred_masks=masks)


def ours(given, size, rule, b=0, **options):
    return map_from_queries(
        given.class_queries_logits[b], given.masks_queries_logits[b], size, rule=rule, things=THINGS, **options
    )


def processor(family):
    if family != "OneFormer":
        return getattr(transformers, f"{family}ImageProcessor")()
    # Its class asks the hub for names of classes, which post-processing does not read.
    return object.__new__(transformers.OneFormerImageProcessor)


def theirs(family, given, sizes, **options):
    return processor(family).post_process_panoptic_segmentation(
        given, label_ids_to_fuse=set(STUFF), target_sizes=sizes, threshold=0.8, **options
    )


def columns(*spans, width=96):
    """Return masks of 96 rows: each query is sure of the columns of its spans and of no other one."""
    masks = torch.full((len(spans), 96, width), -12.0)
    for mask, span in zip(masks, spans, strict=True):
        mask[:, span[0] : span[1]] = 12
    return masks


@pytest.mark.parametrize("size", [(64, 64), (40, 64), (90, 57)])
def test_eomt_is_equal(size):
    g = torch.Generator().manual_seed(0)
    eomt = transformers.EomtImageProcessor(size={"shortest_edge": 64, "longest_edge": 64})
    height, width = transformers.models.eomt.image_processing_eomt.get_size_with_aspect_ratio(size, 64, 64)
    differing = 0
    for _ in range(6):
        masks = F.interpolate(6 * torch.randn(1, 12, 4, 4, generator=g) - 2, (16, 16), mode="bicubic")[0]
        category = torch.randint(0, NUM_CATEGORIES + 1, (12,), generator=g).tolist()
        score = (0.5 + torch.rand(12, generator=g) / 2).tolist()
        given = outputs(list(zip(category, score, strict=True)), masks)
        expected = eomt.post_process_panoptic_segmentation(
            given, [size], threshold=0.6, overlap_mask_area_threshold=0.4, stuff_classes=STUFF
        )[0]
        result = ours(
            given, size, "eomt", inference_size=(height, width), padded_size=(64, 64),
            score_threshold=0.6, overlap_threshold=0.4,
        )  # fmt: skip
        assert [one["id"] + 1 for one in expected["segments_info"]] == list(range(1, len(result) + 1))
        assert [one["label_id"] for one in expected["segments_info"]] == result.category.tolist()
        differing += int((expected["segmentation"] + 1 != result.ids).sum())
    assert differing <= 2


@pytest.mark.parametrize("family", ["MaskFormer", "Mask2Former", "OneFormer", "Detr", "ConditionalDetr"])
class TestDeviations:
    """What the processors of five families do otherwise than the authors' codes."""

    def rule(self, family):
        return "detr" if family.endswith("Detr") else family.lower()

    def test_ids_collide_after_a_fused_category(self, family):
        given = outputs(
            [(0, 0.95), (1, 0.9), (2, 0.9), (0, 0.9), (1, 0.9)],
            columns((0, 20), (20, 40), (40, 60), (60, 80), (80, 96)),
        )
        segments = theirs(family, given, [(96, 96)])[0]
        assert [one["id"] for one in segments["segments_info"]] == [1, 2, 3, 1, 2]
        assert segments["segmentation"][0, [30, 90]].tolist() == [2, 2]  # two objects
        result = ours(given, (96, 96), self.rule(family))
        assert result.ids[0, [10, 30, 50, 70, 90]].tolist() == [1, 2, 3, 1, 4]
        again = result.to_transformers()
        assert [(one["id"], one["label_id"]) for one in again["segments_info"]] == [(1, 0), (2, 1), (3, 2), (4, 1)]

    def test_a_sure_mask_of_a_score_of_one_half_is_lost(self, family):
        given = outputs([(1, 0.52)], torch.full((1, 96, 96), 2.2))
        found = processor(family).post_process_panoptic_segmentation(
            given, label_ids_to_fuse=set(), target_sizes=[(96, 96)], threshold=0.5
        )[0]
        assert found["segments_info"] == []
        assert ours(given, (96, 96), self.rule(family), score_threshold=0.5).ids.unique().tolist() == [1]

    def test_padding_is_not_removed(self, family):
        # The image is the upper half of the network's input: one object above, another one below.
        masks = torch.full((2, 96, 96), -12.0)
        masks[0, :24], masks[1, 24:48] = 12, 12
        given = outputs([(1, 0.95), (2, 0.94)], masks)
        result = ours(given, (48, 96), self.rule(family), padded_size=(96, 96))
        with pytest.raises(InvalidArgumentError, match=r"give inference_size .* and padded_size if it was padded"):
            ours(given, (48, 96), self.rule(family))
        assert result.ids.sum(1).tolist() == [96] * 24 + [2 * 96] * 24
        found = theirs(family, given, [(48, 96)])[0]["segmentation"]
        assert (found[13:23] == 2).all()  # stretched by the padding

    def test_nothing_found_is_of_the_same_type(self, family):
        given = outputs([(1, 0.3)], torch.full((1, 96, 96), 2.2))
        found = theirs(family, given, [(96, 96)])[0]["segmentation"]
        assert (found.dtype, found.unique().tolist()) == (torch.float32, [-1])
        result = ours(given, (96, 96), self.rule(family))
        assert (result.ids.dtype, result.ids.unique().tolist(), len(result)) == (torch.int32, [0], 0)

    def test_mask2former_and_oneformer_paint_where_no_mask_is(self, family):
        mask = torch.full((1, 96, 96), 2.2)
        mask[:, :, 48:] = -1
        given = outputs([(1, 0.95)], mask)
        found = theirs(family, given, [(96, 96)])[0]["segmentation"]
        assert int((found == 1).sum()) == 96 * 96
        num_painted = int((ours(given, (96, 96), self.rule(family)).ids == 1).sum())
        assert num_painted == 96 * (96 if self.rule(family) in ("maskformer", "detr") else 48)


def test_mask2former_loses_lines_in_a_detour_over_384_pixels():
    masks = torch.full((2, 64, 768), -12.0)
    masks[0, :, 1::4] = 12  # a pixel in four, and 384 columns are one in two
    masks[1] = -masks[0]
    given = outputs([(1, 0.95), (2, 0.95)], masks)
    result = ours(given, (64, 768), "mask2former")
    assert (result.ids == 1).sum() == 64 * 192
    found = theirs("Mask2Former", given, [(64, 768)])[0]["segmentation"]
    assert int(((found == 1) != (result.ids == 1)).sum()) > 64 * 100


def test_a_batch_of_a_network_and_its_processor():
    """Two images of different size, resized and padded by the processor: the lines of the documentation."""
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    torch.manual_seed(0)
    swin = SwinConfig(
        image_size=64, patch_size=4, embed_dim=16, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = Mask2FormerConfig(
        backbone_config=swin, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=32,
        dim_feedforward=32, encoder_layers=1, decoder_layers=2, num_attention_heads=2, num_queries=7,
        id2label={i: str(i) for i in range(NUM_CATEGORIES)},
    )  # fmt: skip
    network = Mask2FormerForUniversalSegmentation(config).eval()
    sizes = [(40, 90), (60, 60)]
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes]
    inputs = transformers.Mask2FormerImageProcessor(size={"shortest_edge": 64, "longest_edge": 128})(
        images, return_tensors="pt"
    )
    with torch.no_grad():
        result = network(**inputs)
    for i, size in enumerate(sizes):
        mask = inputs["pixel_mask"][i]
        seen = (int(mask[:, 0].sum()), int(mask[0].sum()))
        assert seen == [(64, 128), (64, 64)][i]  # the second one is padded
        found = map_from_queries(
            result.class_queries_logits[i], result.masks_queries_logits[i], size, rule="mask2former", things=THINGS,
            inference_size=seen, padded_size=inputs["pixel_values"].shape[-2:], score_threshold=0,
            overlap_threshold=0,
        )  # fmt: skip
        masks = F.interpolate(result.masks_queries_logits[i : i + 1], mask.shape, mode="bilinear")
        masks = F.interpolate(masks[..., : seen[0], : seen[1]], size, mode="bilinear")[0]
        score, category = result.class_queries_logits[i].softmax(1).max(1)
        masks, score = (part[category < NUM_CATEGORIES] for part in (masks, score))
        winner = (masks.sigmoid() * score[:, None, None]).argmax(0)
        inside = masks.gather(0, winner[None])[0] >= 0
        assert found.size == size
        assert (found.ids > 0).equal(inside)
        assert len(found) > 0
