import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from maps import a_map, generated_map
from scipy.ndimage import gaussian_filter
from torch import Generator, Tensor
from torchvision.transforms.v2 import functional as oracle

from panscape import PanopticMap
from panscape.errors import InvalidArgumentError
from panscape.geometry import Size
from panscape.transforms import (
    ColorJitter,
    Compose,
    GaussianBlur,
    RandomCrop,
    RandomFlip,
    RandomSizeCrop,
    RareCategoryCrop,
    Resize,
    ResizeShortestEdge,
    Rotation,
    ScaleJitter,
    adjust_color,
)

VOID_COLOR = (250, 250, 250)


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def painted(truth: PanopticMap) -> Tensor:
    """Draw a map as an image in which every segment and void has its own, clearly different color."""
    palette = torch.tensor([VOID_COLOR] + [(20 * (s % 12), 20 * (s // 12), 60) for s in range(truth.num_segments)])
    return palette[truth.ids.long()].permute(2, 0, 1).to(torch.uint8)


def identified(truth: PanopticMap) -> PanopticMap:
    """Give every segment its own category, which identifies it after other segments were removed."""
    return PanopticMap(truth.ids, torch.arange(truth.num_segments))


def a_photo(height: int, width: int, seed: int = 0) -> Tensor:
    noise = torch.rand(1, 3, 12, 12, generator=seeded(seed)) * 255
    smooth = torch.nn.functional.interpolate(noise, (height, width), mode="bicubic")[0]
    return smooth.clamp(0, 255).to(torch.uint8)


EVERY_GEOMETRY = [
    Resize((60, 100)),
    Resize((200, 170)),
    ScaleJitter(0.4, 2.5),
    ResizeShortestEdge((48, 120, 200), 300),
    RandomCrop((64, 80), fill=VOID_COLOR),
    RandomCrop((150, 100), fill=VOID_COLOR),
    RareCategoryCrop((64, 80), (1, 1, 3, 1) * 4, probability=1, fill=VOID_COLOR),
    RandomSizeCrop(1.0, (80, 120), 64, 150),
    RandomFlip(1.0),
    Rotation("right_angles"),
    Rotation("any", fill=VOID_COLOR),
    Rotation("any", 10, fill=VOID_COLOR),
    Compose((ScaleJitter(0.4, 2.5), RandomCrop((96, 96), fill=VOID_COLOR), RandomFlip())),
    Compose((ScaleJitter(0.4, 2.5), RareCategoryCrop((96, 96), (1, 1, 3, 1) * 4, probability=1, fill=VOID_COLOR))),
    Compose((RandomFlip(), ResizeShortestEdge((60, 150), 220), RandomCrop((80, 160), fill=VOID_COLOR))),
]


@pytest.mark.parametrize("transform", EVERY_GEOMETRY, ids=repr)
def test_image_and_map_stay_together(transform: Any) -> None:
    for seed in range(6):
        truth = identified(generated_map(seed, (96, 128)))
        image, moved = transform(painted(truth), truth, seeded(seed))
        assert tuple(image.shape[1:]) == tuple(moved.size)
        assert image.is_contiguous()
        assert (moved.areas() > 0).all()
        # Where a whole neighbourhood is one segment, interpolation has nothing to blend: the colour must be exact.
        semantic = moved.semantic(void=-1)
        around = torch.nn.functional.unfold(semantic[None, None].float(), 7)
        inside = torch.zeros_like(semantic, dtype=torch.bool)
        inside[3:-3, 3:-3] = (around.amin(1) == around.amax(1)).reshape(inside[3:-3, 3:-3].shape)
        assert inside.float().mean() > 0.2
        palette = torch.tensor([VOID_COLOR] + [(20 * (s % 12), 20 * (s // 12), 60) for s in range(truth.num_segments)])
        expected = palette[semantic + 1].permute(2, 0, 1).to(torch.uint8)
        assert torch.equal(image[:, inside], expected[:, inside])


@pytest.mark.parametrize("transform", [*EVERY_GEOMETRY, ColorJitter(), GaussianBlur(probability=1)], ids=repr)
def test_the_seed_decides_everything(transform: Any) -> None:
    truth, image = generated_map(1, (96, 128)), a_photo(96, 128)
    results = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        results.append(transform(image.clone(), truth, seeded(7)))
    (first, first_map), (second, second_map) = results
    assert torch.equal(first, second)
    assert torch.equal(first_map.ids, second_map.ids)


@pytest.mark.parametrize(
    "transform", [ScaleJitter(0.3, 3), RandomCrop((40, 40)), RandomFlip(), Rotation("any"), ColorJitter()], ids=repr
)
def test_another_seed_gives_another_result(transform: Any) -> None:
    truth, image = generated_map(1, (96, 128)), a_photo(96, 128)
    results = [transform(image, truth, seeded(seed))[0] for seed in range(8)]
    assert any(a.shape != b.shape or not torch.equal(a, b) for a, b in itertools.pairwise(results))


def test_inputs_are_left_as_they_were() -> None:
    truth, image = generated_map(1, (96, 128)), a_photo(96, 128)
    ids, before = truth.ids.clone(), image.clone()
    for transform in [*EVERY_GEOMETRY, ColorJitter(), GaussianBlur(probability=1)]:
        transform(image, truth, seeded(3))
    assert torch.equal(truth.ids, ids)
    assert torch.equal(image, before)


@pytest.mark.parametrize("transform", [ScaleJitter(1, 1), Resize((96, 128)), RandomFlip(0), Rotation("none")], ids=repr)
def test_identity(transform: Any) -> None:
    truth, image = generated_map(1, (96, 128)), a_photo(96, 128)
    same_image, same = transform(image, truth, seeded(0))
    assert torch.equal(same_image, image)
    assert torch.equal(same.ids, truth.ids)


def test_resizing_images_is_antialiased_as_in_torchvision() -> None:
    truth, image = generated_map(1, (96, 128)), a_photo(96, 128)
    for size in ((41, 77), (200, 131)):
        resized, _ = Resize(size)(image, truth, seeded(0))
        assert torch.equal(resized, oracle.resize(image, list(size), antialias=True))


@pytest.mark.parametrize("source", [(96, 128), (1, 2), (2, 1), (300, 1), (1, 300)])
def test_resizing_to_a_few_pixels(source: tuple[int, int]) -> None:
    truth = PanopticMap(torch.ones(source, dtype=torch.int32), torch.tensor([0]))
    column = torch.tensor([0, 100, 255], dtype=torch.uint8)
    image = column[:, None, None].expand(3, *source)
    for size in ((1, 1), (1, 2), (2, 1), (1, 250), (250, 1)):
        resized, smaller = Resize(size)(image, truth, seeded(0))
        assert torch.equal(resized, column[:, None, None].expand(3, *size))
        assert smaller.ids.tolist() == torch.ones(size).int().tolist()
    pixel, _ = Resize((1, 1))(torch.tensor([0, 255], dtype=torch.uint8).expand(3, 1, 2), truth.resize(1, 2), seeded(0))
    assert pixel.flatten().tolist() == [128] * 3  # rounded, as the others


def test_resizing_maps_takes_the_pixel_under_the_middle() -> None:
    truth = a_map("AABBCCDD")
    _, smaller = Resize((1, 4))(painted(truth), truth, seeded(0))
    assert smaller.ids.tolist() == [[1, 2, 3, 4]]
    row = PanopticMap(torch.arange(1, 10, dtype=torch.int32)[None], torch.arange(9))
    _, thirds = Resize((1, 3))(painted(row), row, seeded(0))
    assert thirds.category.tolist() == [1, 4, 7]  # the middles of 0-2, 3-5, 6-8


def test_scale_jitter_covers_its_range_uniformly() -> None:
    generator = seeded(0)
    heights = torch.tensor([ScaleJitter(0.5, 2).new_size(Size(100, 200), generator).height for _ in range(2000)])
    assert heights.min() >= 50
    assert heights.max() <= 200
    assert heights.float().mean().item() == pytest.approx(125, abs=3)
    assert (heights < 87).float().mean().item() == pytest.approx(0.25, abs=0.03)


def test_log_uniform_scales_draw_each_octave_equally_often() -> None:
    generator, jitter = seeded(0), ScaleJitter(0.25, 4, "log_uniform")
    widths = torch.tensor([jitter.new_size(Size(100, 1000), generator).width for _ in range(2000)])
    assert widths.min() >= 250
    assert widths.max() <= 4000
    for low in (250, 500, 1000, 2000):
        assert ((widths >= low) & (widths < 2 * low)).float().mean().item() == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_blur_agrees_with_scipy_and_keeps_the_map(sigma: float) -> None:
    truth, image = generated_map(1, (40, 56)), a_photo(40, 56)
    blurred, same = GaussianBlur((sigma, sigma), 1)(image, truth, seeded(0))
    assert same is truth
    expected = np.stack(  # 2 pixels in each direction; scipy's "mirror" does not repeat the border, as torchvision
        [gaussian_filter(channel, sigma, mode="mirror", radius=2) for channel in image.numpy().astype(float)]
    )
    assert np.abs(blurred.numpy() - expected).max() <= 0.51
    assert torch.equal(GaussianBlur((sigma, sigma), 0)(image, truth, seeded(0))[0], image)


def test_blur_has_its_probability_and_range() -> None:
    truth = PanopticMap.empty((1, 5)).pad(5, 5)
    image = torch.zeros(3, 5, 5, dtype=torch.uint8)
    image[:, 2, 2] = 255
    generator = seeded(0)
    peaks = [int(GaussianBlur((0.1, 2.0), 0.3)(image, truth, generator)[0][0, 2, 2]) for _ in range(1000)]
    # Of sigma 2, the middle of 5 x 5 has (1 / (1 + 2 exp(-1/8) + 2 exp(-1/2)))^2 = 0.0632; below 0.27 pixels, all.
    assert 16 <= min(peaks) < 20
    kept = sum(peak == 255 for peak in peaks) / 1000
    assert kept == pytest.approx(0.7 + 0.3 * (0.27 - 0.1) / 1.9, abs=0.04)


def test_shortest_side_and_its_cap() -> None:
    generator = seeded(0)
    sizes = {ResizeShortestEdge((512, 1024, 1536), 4096).new_size(Size(1024, 2048), generator) for _ in range(50)}
    assert sizes == {(512, 1024), (1024, 2048), (1536, 3072)}
    assert ResizeShortestEdge((800,), 1333).new_size(Size(480, 640), generator) == (800, 1067)
    assert ResizeShortestEdge((800,), 1333).new_size(Size(300, 900), generator) == (444, 1333)


def test_crops_of_random_size() -> None:
    truth, image, generator = generated_map(0, (60, 150)), a_photo(60, 150), seeded(0)
    crop = RandomSizeCrop(0.5, sides=(40, 50), smallest=38, largest=60)  # resized to 40x100 or 50x125
    sizes = [tuple(crop(image, truth, generator)[1].size) for _ in range(400)]
    cropped = [size for size in sizes if size != (60, 150)]
    assert 150 < len(cropped) < 250
    heights, widths = ({size[axis] for size in cropped} for axis in (0, 1))
    assert heights == set(range(38, 51))
    assert widths == set(range(38, 61))
    assert sum(size[0] <= 40 for size in cropped) / len(cropped) == pytest.approx((1 + 3 / 13) / 2, abs=0.1)
    # Images that are narrower than the smallest crop are not padded.
    assert RandomSizeCrop(1.0, (30,), 38, 60)(image, truth, generator)[1].size.height == 30
    with pytest.raises(InvalidArgumentError, match="expected smallest <= largest, got smallest 61 and largest 60"):
        RandomSizeCrop(1.0, (30,), 61, 60)


def test_a_small_image_is_extended_with_void_and_the_fill() -> None:
    truth = a_map("AA\nAB")
    image, padded = RandomCrop((3, 4), fill=(1, 2, 3))(painted(truth), truth, seeded(0))
    assert padded.ids.tolist() == [[1, 1, 0, 0], [1, 2, 0, 0], [0, 0, 0, 0]]
    assert torch.equal(image[:, :2, :2], painted(truth))
    assert image[:, 2].tolist() == [[1] * 4, [2] * 4, [3] * 4]
    assert image[:, :2, 2:].unique().tolist() == [1, 2, 3]


def test_a_crop_drops_what_it_cuts_away_and_reaches_every_position() -> None:
    truth = a_map("ABCD")
    seen = set()
    for seed in range(40):
        _, cut = RandomCrop((1, 2))(painted(truth), truth, seeded(seed))
        assert cut.num_segments == 2
        seen.add(tuple(cut.category.tolist()))
    assert seen == {(0, 1), (1, 2), (2, 3)}


def test_one_step_equals_resize_then_crop_up_to_a_source_pixel() -> None:
    ramp = (torch.arange(120)[None, :, None] + torch.arange(160)[None, None] / 2).expand(3, 120, 160).to(torch.uint8)
    truth = PanopticMap(
        (torch.arange(120 * 160, dtype=torch.int32) + 1).reshape(120, 160), torch.arange(120 * 160)
    )  # every pixel is known again by its category
    for seed in range(10):
        jitter, crop = ScaleJitter(0.5, 2), RandomCrop((48, 56))
        image, cut = Compose((jitter, crop))(ramp, truth, seeded(seed))
        generator = seeded(seed)
        slow_image, slow = crop(*jitter(ramp, truth, generator), generator)
        for fast, exact in (
            (cut.semantic(void=0) // 160, slow.semantic(void=0) // 160),
            (cut.semantic(void=0) % 160, slow.semantic(void=0) % 160),
        ):
            assert (fast - exact).abs().max() <= 1
        assert (image.int() - slow_image.int()).abs().max() <= 2  # the ramp rises by 1.5 a pixel


def test_one_step_at_scale_one_is_exact() -> None:
    truth, image = generated_map(2, (96, 128)), a_photo(96, 128)
    for seed in range(5):
        generator = seeded(seed)
        expected = RandomCrop((48, 56))(*ScaleJitter(1, 1)(image, truth, generator), generator)
        came = Compose((ScaleJitter(1, 1), RandomCrop((48, 56))))(image, truth, seeded(seed))
        assert torch.equal(came[0], expected[0])
        assert torch.equal(came[1].ids, expected[1].ids)


def test_resizing_twice_before_a_crop_resizes_once_to_the_last_size() -> None:
    truth, image = generated_map(2, (96, 128)), a_photo(96, 128)
    came, _ = Compose((Resize((48, 64)), Resize((96, 128)), RandomCrop((96, 128))))(image, truth, seeded(0))
    assert torch.equal(came, image)


def test_flip() -> None:
    truth, image = a_map("AAB\n.BB"), a_photo(2, 3)
    flipped_image, flipped = RandomFlip(1)(image, truth, seeded(0))
    assert flipped.ids.tolist() == [[2, 1, 1], [2, 2, 0]]
    assert torch.equal(flipped_image, oracle.horizontal_flip(image))
    generator = seeded(0)
    share = sum(RandomFlip(0.3)(image, truth, generator)[1].ids[1, 2] == 0 for _ in range(1000)) / 1000
    assert share == pytest.approx(0.3, abs=0.05)


def test_right_angles_are_exact_and_can_be_undone() -> None:
    truth, image = a_map("AB\nCD\n.D"), a_photo(3, 2)
    quarter = {  # counter-clockwise
        0: [[1, 2], [3, 4], [0, 4]],
        1: [[2, 4, 4], [1, 3, 0]],
        2: [[4, 0], [4, 3], [2, 1]],
        3: [[0, 3, 1], [4, 4, 2]],
    }
    seen = set()
    for seed in range(40):
        turned_image, turned = Rotation("right_angles")(image, truth, seeded(seed))
        turns = next(t for t, ids in quarter.items() if ids == turned.ids.tolist())
        seen.add(turns)
        assert torch.equal(turned_image.rot90(-turns, (1, 2)), image)
        assert torch.equal(turned.ids.rot90(-turns, (0, 1)), truth.ids)
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize("max_angle", [180, 10])
def test_any_angle_agrees_with_torchvision(max_angle: float) -> None:
    truth, image = generated_map(3, (61, 61), void=False), a_photo(61, 61)
    for seed in range(5):
        degrees = max_angle * (2 * float(torch.rand((), generator=seeded(seed), dtype=torch.float64)) - 1)
        turned_image, turned = Rotation("any", max_angle)(image, identified(truth), seeded(seed))
        expected_ids = oracle.rotate(truth.ids[None].float(), degrees)[0]
        came_ids = (turned.semantic(void=-1) + 1).float()
        assert (came_ids != expected_ids).float().mean() < 0.01  # pixels exactly between two
        expected = oracle.rotate(image, degrees, oracle.InterpolationMode.BILINEAR)
        margin = torch.nn.functional.pad((came_ids[None] == 0).float(), (2, 2, 2, 2), value=1)
        inside = torch.nn.functional.max_pool2d(margin, 5, 1)[0] == 0
        assert (turned_image.int() - expected.int()).abs()[:, inside].max() <= 1
        outside = came_ids == 0
        assert abs(degrees) < 5 or 0.01 < outside.float().mean() < 0.3
        assert set(turned_image[:, outside].unique().tolist()) <= {104, 116, 124}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"brightness": 1.3}, lambda i: oracle.adjust_brightness(i, 1.3)),
        ({"brightness": 0.6}, lambda i: oracle.adjust_brightness(i, 0.6)),
        ({"contrast": 1.4}, lambda i: oracle.adjust_contrast(i, 1.4)),
        ({"contrast": 0.5}, lambda i: oracle.adjust_contrast(i, 0.5)),
        ({"saturation": 1.5}, lambda i: oracle.adjust_saturation(i, 1.5)),
        ({"saturation": 0.0}, lambda i: oracle.adjust_saturation(i, 0.0)),
        (
            {"brightness": 0.7, "contrast": 0.8, "saturation": 0.6},
            lambda i: oracle.adjust_contrast(oracle.adjust_brightness(oracle.adjust_saturation(i, 0.6), 0.7), 0.8),
        ),
    ],
)
def test_colours_agree_with_torchvision(ours: dict[str, float], theirs: Callable[[Tensor], Tensor]) -> None:
    image = a_photo(64, 80)
    # One level of rounding for each of the steps, of which torchvision truncates every one.
    assert (adjust_color(image, **ours).int() - theirs(image).int()).abs().max() <= max(1, len(ours))


def test_hue_keeps_grey_and_luma_and_comes_back_after_a_full_turn() -> None:
    grey = torch.arange(256, dtype=torch.uint8).expand(3, 1, 256)
    assert torch.equal(adjust_color(grey, hue=0.3), grey)
    muted = (a_photo(40, 40) // 4 + 96).to(torch.uint8)  # far from the ends, nothing is clipped
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    turned = adjust_color(muted, hue=0.25)
    assert ((turned * weights).sum(0) - (muted * weights).sum(0)).abs().max() <= 1
    assert (turned.int() - muted.int()).abs().max() > 10
    assert torch.equal(adjust_color(muted, hue=1), muted)
    assert torch.equal(adjust_color(muted), muted)
    # The direction in which torchvision turns: red over yellow to green.
    red = torch.tensor([160, 100, 100], dtype=torch.uint8)[:, None, None]
    assert adjust_color(red, hue=0.1)[1] > adjust_color(red, hue=0.1)[2]
    assert oracle.adjust_hue(red, 0.1)[1] > oracle.adjust_hue(red, 0.1)[2]


def test_photometric_changes_colours_only_and_with_its_probability() -> None:
    truth, image = generated_map(1, (96, 128)), a_photo(96, 128)
    changed_image, same = ColorJitter()(image, truth, seeded(0))
    assert same is truth
    assert not torch.equal(changed_image, image)
    assert torch.equal(ColorJitter(probability=0)(image, truth, seeded(0))[0], image)
    assert torch.equal(ColorJitter(0, 0, 0, 0)(image, truth, seeded(0))[0], image)


def test_crowds_and_categories_follow_their_segments() -> None:
    truth = a_map("AABB\nAABB", {"A": 3, "B": 2}, crowd="B")
    for seed in range(10):
        _, cut = RandomCrop((2, 1))(painted(truth), truth, seeded(seed))
        assert cut.crowd is not None
        assert (cut.category.item(), cut.crowd.item()) in {(3, False), (2, True)}
        assert cut.ids.tolist() == [[1], [1]]


@pytest.mark.parametrize("transform", [*EVERY_GEOMETRY, ColorJitter(), GaussianBlur(probability=1)], ids=repr)
def test_void_alone_is_carried_through(transform: Any) -> None:
    _, truth = transform(a_photo(96, 128), PanopticMap.empty((96, 128)), seeded(0))
    assert truth.num_segments == 0
    assert truth.ids.max() == 0


@pytest.mark.parametrize("transform", [*EVERY_GEOMETRY, Rotation("none"), ColorJitter()], ids=repr)
def test_pairs_that_do_not_belong_together(transform: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"same size, got an image of 96x128 and a ground truth of 96x127"):
        transform(a_photo(96, 128), PanopticMap.empty((96, 127)), seeded(0))
    with pytest.raises(InvalidArgumentError, match=r"uint8 \[3, H, W\], got torch.float32 \[3, 96, 128\]"):
        transform(a_photo(96, 128).float(), PanopticMap.empty((96, 128)), seeded(0))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ScaleJitter(0, 2), "low above 0, got 0"),
        (lambda: ScaleJitter(2, 1), "low <= high, got low 2 and high 1"),
        (lambda: ResizeShortestEdge((), 10), "at least one length as sides"),
        (lambda: ResizeShortestEdge((0,), 10), r"sides\[0\] of 1 or more, got 0"),
        (lambda: RandomCrop((0, 3)), r"size\[0\] of 1 or more, got 0"),
        (lambda: RandomCrop((3, 3), fill=(0, 0, 256)), r"0..255"),
        (lambda: RandomFlip(1.5), "probability"),
        (lambda: Rotation("sometimes"), '"none", "right_angles" or "any", got \'sometimes\''),  # type: ignore[arg-type]
        (lambda: Rotation("any", 181), r"max_angle in \(0, 180\], got 181"),
        (lambda: ScaleJitter(1, 2, "log"), '"uniform" or "log_uniform", got'),  # type: ignore[arg-type]
        (lambda: GaussianBlur((2, 1)), r"a sigma as smallest and largest value, got \(2, 1\)"),
        (lambda: GaussianBlur(kernel_size=4), "kernel_size as an odd number"),
        (
            lambda: GaussianBlur(probability=1)(a_photo(2, 9), PanopticMap.empty((2, 9)), seeded(0)),
            "at least 3x3 pixels to blur, got 2x9; use larger crops or no blur",
        ),
        (lambda: ColorJitter(brightness=-1), "brightness of 0 or more, got -1"),
        (lambda: ColorJitter(hue=0.6), r"0..0.5"),
    ],
)
def test_settings_that_make_no_sense(build: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        build()
