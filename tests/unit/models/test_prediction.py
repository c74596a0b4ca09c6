from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from color_model import ColorModel, painted
from maps import generated_map

import panscape
from panscape import PanopticMap
from panscape.datasets.town import Town
from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry, Size
from panscape.images import resize_images
from panscape.models.prediction import batches_of_one_size, network_input, run_network


def test_batches_give_the_maps_of_single_images_in_their_order() -> None:
    model = ColorModel()
    truths = [generated_map(i, (32, 40 + 8 * (i % 3)), void=False) for i in range(8)]
    found = model.predict([painted(truth) for truth in truths], batch_size=2)
    assert [shape[0] for _, shape, _ in model.seen] == [2, 2, 2, 1, 1]
    for prediction, truth in zip(found, truths, strict=True):
        assert torch.equal(prediction.semantic(void=-1), truth.semantic(void=-1))
    assert model.predict([], batch_size=2) == []
    assert isinstance(model.predict(painted(truths[0]), batch_size=2), PanopticMap)
    assert len(model.predict(tuple(painted(truth) for truth in truths[:2]))) == 2


def test_a_bundled_model_gives_equal_maps_in_batches() -> None:
    model = panscape.load("town")
    scenes = [Town(3, size, seed=1)[i].image for i, size in enumerate((Size(96, 128), Size(128, 96), Size(96, 128)))]
    for found, image in zip(model.predict(scenes, batch_size=8), scenes, strict=True):
        alone = model.predict(image)
        assert found.equals(alone)
        torch.testing.assert_close(found.score, alone.score, rtol=0, atol=1e-5)


def test_images_are_read_when_they_are_needed() -> None:
    read = []

    def images() -> Iterator[torch.Tensor]:
        for number in range(6):
            read.append(number)
            yield torch.zeros(3, 8 + number % 2, 8, dtype=torch.uint8)

    first = next(batches_of_one_size(images(), ImageGeometry.of, 2))
    assert first.numbers == (0, 2)
    assert [image.shape[1] for image in first.images] == [8, 8]
    assert read == [0, 1, 2]


@pytest.mark.parametrize("batch_size", [0, -3])
def test_a_batch_has_at_least_one_image(batch_size: int) -> None:
    with pytest.raises(InvalidArgumentError, match=f"batch_size as an integer of at least 1, got {batch_size}"):
        ColorModel().predict([torch.zeros(3, 4, 4, dtype=torch.uint8)], batch_size=batch_size)


@pytest.mark.parametrize("size", [(30, 40), (90, 120), (45, 77)])
def test_the_input_on_the_cpu_is_that_of_other_devices(size: tuple[int, int]) -> None:
    image = Town(1, Size(60, 80), seed=0)[0].image
    found = network_input([image], [ImageGeometry.of((60, 80), size)], torch.device("cpu"))
    expected = resize_images(image[None].float() / 255, size)  # as on other devices, whose positions are in float32
    torch.testing.assert_close(found, expected, rtol=0, atol=3e-5)
    by_pixel = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert torch.equal(network_input([by_pixel], [ImageGeometry.of((60, 80), size)], torch.device("cpu")), found)
    last = network_input([image], [ImageGeometry.of((60, 80), size)], torch.device("cpu"), torch.channels_last)
    assert last.is_contiguous(memory_format=torch.channels_last)


def test_images_of_one_batch_may_have_different_sizes_of_their_own() -> None:
    images = [torch.full((3, 8, 8), 51, dtype=torch.uint8), torch.full((3, 16, 16), 255, dtype=torch.uint8)]
    geometries = [ImageGeometry.of((8, 8)), ImageGeometry.of((16, 16), (8, 8))]
    batch, outputs = run_network(torch.nn.Identity(), images, geometries, torch.device("cpu"))
    torch.testing.assert_close(batch, torch.stack([torch.full((3, 8, 8), 0.2), torch.ones(3, 8, 8)]), rtol=0, atol=1e-6)
    assert outputs is batch
