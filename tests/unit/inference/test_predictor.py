from __future__ import annotations

import pytest
import torch
from color_model import ColorModel, painted
from maps import SHAPES, a_map, generated_map
from processes import TORCH, Process, run_code

from panscape import PanopticMap
from panscape.errors import InvalidArgumentError
from panscape.geometry import Size
from panscape.inference.device import choose_device
from panscape.inference.predictor import Predictor, largest_categories


def connected(seed: int, size=(96, 128)):
    """Ground truth whose things are connected components, as the model predicts them."""
    image = painted(generated_map(seed, size))
    model = ColorModel().eval()
    return image, model.decode(model(image[None].float() / 255), [size])[0]


@pytest.mark.parametrize("options", [{}, {"channels_last": True}, {"longest_side": 128}, {"device": "cpu"}])
def test_an_image_becomes_its_map(options):
    image, truth = connected(0)
    prediction = Predictor(ColorModel(), **options).predict(image)
    assert prediction.map.equals(truth)
    assert prediction.network_ms > 0
    assert prediction.postprocess_ms > 0


@pytest.mark.parametrize("longest_side", [32, 64, 200, 512])
def test_another_working_size_gives_a_map_of_the_images_size(longest_side):
    image, truth = connected(1)
    model = ColorModel()
    prediction = Predictor(model, longest_side=longest_side).predict(image)
    assert model.seen[-1][1] == (1, 3, longest_side * 96 // 128, longest_side)
    assert prediction.map.size == (96, 128)
    assert (prediction.map.areas() > 0).all()
    agreement = prediction.map.semantic(void=-1) == truth.semantic(void=-1)
    # All pixels but those near a boundary, which blend with their neighbours.
    assert agreement.float().mean() > (0.85 if longest_side < 64 else 0.93)


def test_the_image_enters_in_fractions_of_one():
    model = ColorModel()
    Predictor(model).predict(torch.full((3, 4, 4), 255, dtype=torch.uint8))
    assert model.seen == [(torch.float32, (1, 3, 4, 4), False)]


def test_bf16_runs_the_network_under_autocast_and_nothing_else():
    model = ColorModel()
    image, truth = connected(2)
    assert Predictor(model, precision="bf16").predict(image).map.equals(truth)
    assert model.seen[-1][2]
    assert not torch.is_autocast_enabled("cpu")


def test_panels_have_the_images_size_whatever_the_network_saw():
    image, _ = connected(3)
    predictor = Predictor(ColorModel(), longest_side=40)
    panels = predictor.visualize(predictor.predict(image))
    assert {name: tuple(p.shape) for name, p in panels.items()} == {"semantic": (3, 96, 128)}
    assert panels["semantic"].dtype == torch.uint8


class ShowsFeatures(ColorModel):
    """Records the calls for its features."""

    def visualize_features(self, images, size, categories):
        self.asked = (images, tuple(size), list(categories), torch.is_autocast_enabled("cpu"))
        return {f"features of {c}": torch.full((3, *size), c, dtype=torch.uint8) for c in categories}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_features_are_shown_of_the_two_largest_categories_things_first(precision):
    image, _ = connected(3)
    model = ShowsFeatures()
    predictor = Predictor(model, longest_side=64, precision=precision)
    prediction = predictor.predict(image)
    assert len(model.seen) == 1
    panels = predictor.visualize(prediction)
    images, size, categories, is_autocast = model.asked
    expected = torch.nn.functional.interpolate(image[None] / 255, (48, 64), mode="bilinear", antialias=True)
    torch.testing.assert_close(images, expected, atol=1e-6, rtol=0)
    assert size == (96, 128)
    shown = prediction.map.semantic(void=-1)
    areas = [int((shown == c).sum()) for c in range(4)]
    assert categories == ([2, 3] if areas[2] > areas[3] else [3, 2])
    assert min(areas[2:]) > 0
    assert is_autocast == (precision == "bf16")
    assert list(panels) == ["semantic", *(f"features of {c}" for c in categories)]


def test_categories_are_sorted_things_first_by_their_pixels():
    # Two discs together cover more than the box, the ground more than the sky.
    drawing = """
        AABBBBBB
        CCDDD.EE
    """
    result = a_map(drawing, {"A": 0, "B": 1, "C": 2, "D": 3, "E": 2})
    assert largest_categories(result, SHAPES) == [2, 3, 1, 0]
    without = PanopticMap(result.ids.clamp(max=2), result.category)  # the others are described but have no pixels
    assert largest_categories(without, SHAPES) == [1, 0]
    assert largest_categories(PanopticMap.empty((2, 3)), SHAPES) == []


def test_features_that_do_not_fit_into_memory_say_what_to_do(monkeypatch):
    model = ColorModel()
    predictor = Predictor(model, device="cpu")
    prediction = predictor.predict(connected(0)[0])

    def burst(images, size, categories):
        raise torch.OutOfMemoryError("tried to allocate 9 PiB")

    monkeypatch.setattr(model, "visualize_features", burst)
    with pytest.raises(InvalidArgumentError, match="96x128 does not fit into the memory of cpu"):
        predictor.visualize(prediction)


def test_a_model_in_training_is_put_to_work():
    model = ColorModel().train()
    Predictor(model).predict(connected(0)[0])
    assert not model.training


def test_too_large_an_image_raises_an_error_with_a_remedy(monkeypatch):
    model = ColorModel()

    def burst(images):
        raise torch.OutOfMemoryError("tried to allocate 9 PiB")

    monkeypatch.setattr(model, "forward", burst)
    with pytest.raises(
        InvalidArgumentError,
        match=r"4x5 does not fit into the memory of cpu \(cannot allocate 9 PiB\); give a smaller longest side",
    ):
        Predictor(model, device="cpu").predict(torch.zeros(3, 4, 5, dtype=torch.uint8))


def test_too_large_an_image_for_the_cpu_raises_an_error_with_a_remedy(monkeypatch):
    model = ColorModel()
    # More than any processor can address: torch refuses at once, in its own words.
    monkeypatch.setattr(model, "forward", lambda images: torch.empty(2**58, dtype=torch.uint8))
    with pytest.raises(InvalidArgumentError, match="4x5 does not fit into the memory of cpu") as refusal:
        Predictor(model, device="cpu").predict(torch.zeros(3, 4, 5, dtype=torch.uint8))
    assert type(refusal.value.__cause__) is RuntimeError


def test_other_errors_of_the_network_stay_what_they_are(monkeypatch):
    model = ColorModel()
    monkeypatch.setattr(model, "forward", lambda images: images @ torch.zeros(7, 7))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        Predictor(model, device="cpu").predict(torch.zeros(3, 4, 5, dtype=torch.uint8))


@pytest.mark.parametrize("longest_side", [None, 4096])
def test_warming_up_runs_everything_on_a_small_image(longest_side):
    model = ColorModel()
    Predictor(model, longest_side=longest_side).warm_up()
    assert [shape for _, shape, _ in model.seen] == [(1, 3, 64, 64)]


@pytest.mark.parametrize(("runtime", "expected"), [("torch", (64, 64)), ("OpenVINO 1.0, bf16", (20, 30))])
def test_runtimes_that_prepare_for_a_size_warm_up_with_that_of_the_image(runtime, expected):
    model = ColorModel()
    model.runtime = runtime
    Predictor(model, longest_side=30).warm_up(Size(40, 60))
    assert [shape for _, shape, _ in model.seen] == [(1, 3, *expected)]


def test_after_warming_up_no_library_is_left_to_load(tmp_path):
    script = """
import sys, torch, panscape
from panscape.inference.predictor import Predictor
model = panscape.create_model("swiftnet", "town", backbone="residual_xs", width=8)
predictor = Predictor(model, device="cpu")
assert "numba" not in sys.modules
predictor.warm_up()
before = set(sys.modules)
predictor.predict(torch.zeros(3, 96, 128, dtype=torch.uint8))
assert "numba" in before
print(sorted(set(sys.modules) - before))
"""
    process = Process(tmp_path / "out", run_code, script, err=tmp_path / "err", imported=TORCH)
    assert (process.end(), process.text) == (0, "[]\n"), (tmp_path / "err").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "half"}, "precision as one of fp32, bf16, fp16, got 'half'"),
        ({"precision": "fp16", "device": "cpu"}, "fp16 needs an accelerator such as CUDA; use bf16 or fp32 on the CPU"),
        ({"longest_side": 0}, "at least 1 pixel, got 0"),
        ({"device": "gpu"}, "got 'gpu'"),
        ({"device": "cuda:64"}, 'cuda:64 is not available.*finds cpu.*use one of these, or "auto"'),
        ({"device": "cpu:3"}, "cpu:3 is not available"),
        ({"device": "vulkan"}, "vulkan is not available"),
        ({"device": "hpu"}, "hpu is not available"),
        ({"device": "meta"}, "meta is not available"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        Predictor(ColorModel(), **options)


@pytest.mark.parametrize("kind", ["mps", "xpu"])
def test_a_device_is_taken_only_where_it_is(monkeypatch, kind):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    with pytest.raises(InvalidArgumentError, match=f"device {kind} is not available: torch .* finds cpu; use one"):
        choose_device(kind)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device(kind))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    assert choose_device(kind).type == kind
    with pytest.raises(
        InvalidArgumentError, match=f"device {kind}:1 is not available: torch .* finds cpu, {kind}:0; use"
    ):
        choose_device(f"{kind}:1")


def test_auto_is_cuda_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == "cpu"
