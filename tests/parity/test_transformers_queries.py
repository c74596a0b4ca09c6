"""Merging of queries against the image processors of transformers 5.24: equal where they follow the authors' codes.

EoMT's processor does; those of the others deviate in several ways, each of which is shown here and absent from ours.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from panscape.representations.queries import merge_queries

transformers = pytest.importorskip("transformers", reason="transformers is not a dependency; install it to compare")

THINGS, NUM_CATEGORIES = (1, 2), 4
STUFF = [0, 3]


def outputs(queries, masks):
    """Return outputs as of transformers, of one image: categories with probabilities, and mask logits."""
    prob = torch.full((len(queries), NUM_CATEGORIES + 1), 1e-6)
    for row, (category, score) in enumerate(queries):
        prob[row] = (1 - score) / NUM_CATEGORIES
        prob[row, category] = score
    return SimpleNamespace(class_queries_logits=prob.log()[None], masks_queries_logits=masks[None])


def ours(given, size, rule, b=0, **options):
    return merge_queries(
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
        assert [one["id"] + 1 for one in expected["segments_info"]] == list(range(1, len(result.query) + 1))
        assert [one["label_id"] for one in expected["segments_info"]] == result.category.tolist()
        differing += int((expected["segmentation"] + 1 != result.ids).sum())
    assert differing <= 2


@pytest.mark.parametrize("family", ["MaskFormer", "Mask2Former", "OneFormer"])
class TestDeviations:
    """What the processors of three families do otherwise than the authors' codes."""

    def rule(self, family):
        return family.lower()

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
        assert result.ids.sum(1).tolist() == [96] * 24 + [2 * 96] * 24
        found = theirs(family, given, [(48, 96)])[0]["segmentation"]
        assert (found[13:23] == 2).all()  # stretched by the padding

    def test_mask2former_and_oneformer_paint_where_no_mask_is(self, family):
        mask = torch.full((1, 96, 96), 2.2)
        mask[:, :, 48:] = -1
        given = outputs([(1, 0.95)], mask)
        found = theirs(family, given, [(96, 96)])[0]["segmentation"]
        assert int((found == 1).sum()) == 96 * 96
        num_painted = int((ours(given, (96, 96), self.rule(family)).ids == 1).sum())
        assert num_painted == {"MaskFormer": 96 * 96}.get(family, 96 * 48)


def test_mask2former_loses_lines_in_a_detour_over_384_pixels():
    masks = torch.full((2, 64, 768), -12.0)
    masks[0, :, 1::4] = 12  # a pixel in four, and 384 columns are one in two
    masks[1] = -masks[0]
    given = outputs([(1, 0.95), (2, 0.95)], masks)
    result = ours(given, (64, 768), "mask2former")
    assert (result.ids == 1).sum() == 64 * 192
    found = theirs("Mask2Former", given, [(64, 768)])[0]["segmentation"]
    assert int(((found == 1) != (result.ids == 1)).sum()) > 64 * 100
