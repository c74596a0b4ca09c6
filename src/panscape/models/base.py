"""What every model is: a network with four verbs, `encode`, `forward`, `loss` and `decode`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError, UnknownNameError
from panscape.geometry import Size, padded_size, size_with_longest_side
from panscape.images import resize_images, to_image_tensor
from panscape.labels import LabelSpace
from panscape.ops.cropped_masks import Detections
from panscape.panoptic import PanopticMap
from panscape.representations.decoding_options import replace_options

MAX_TEST_SCALE = 8.0


class InputNormalization(NamedTuple):
    """In which numbers a network takes pixels: which mean is taken off, by what the rest is divided, in which order.

    Attributes:
        mean: of red, green and blue, for pixels in 0..1.
        std: what the rest is divided by.
        is_bgr: the network takes blue first.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    is_bgr: bool = False


INPUT_NORMALIZATIONS: Mapping[str, InputNormalization] = {
    "imagenet": InputNormalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    # Caffe's, and that of networks which began from its weights: 0..255, less a mean, not divided.
    "caffe": InputNormalization(
        (122.7717 / 255, 115.9465 / 255, 102.9801 / 255), (1 / 255, 1 / 255, 1 / 255), is_bgr=True
    ),
}
"""The formats that :attr:`PanopticModel.normalization` can name."""


class ModelSpec(NamedTuple):
    """How :func:`panscape.create_model` was called, so that saved weights can be rebuilt into a model."""

    name: str
    options: dict[str, Any]


class PanopticModel(nn.Module, ABC):
    """Base of all models. What a verb returns depends neither on train or eval mode nor on the length of its input.

    One exception: networks of two stages show the first one in training, see decision 0018.

    Attributes:
        labels: the label space of its maps.
        stride: images are padded to multiples of this many pixels before they enter the network.
        longest_side: images with a longer side are shrunk to it for prediction, and their maps enlarged; None if the
            network takes images of any size. Set it to what the network was trained for.
        test_scale: factor by which images are resized for prediction before ``longest_side`` is applied, more than
            1 for a network that was trained on enlarged images to see small things.
        normalization: name of the numbers that :meth:`preprocess` makes of pixels, of :data:`INPUT_NORMALIZATIONS`; see
            set_pixels.
        spec: how it was created; None if its class was instantiated directly.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        labels: LabelSpace,
        stride: int,
        longest_side: int | None = None,
        test_scale: float = 1.0,
        normalization: str = "imagenet",
    ) -> None:
        super().__init__()
        if longest_side is not None and longest_side < 1:
            raise InvalidArgumentError(f"expected a longest side of at least 1 pixel, got {longest_side}")
        if not 0 < test_scale <= MAX_TEST_SCALE:
            raise InvalidArgumentError(
                f"expected a test scale above 0 and of at most {MAX_TEST_SCALE:g}, got {test_scale:g}"
            )
        self.labels = labels
        self.stride = stride
        self.longest_side = longest_side
        self.test_scale = test_scale
        self.spec: ModelSpec | None = None
        self.register_buffer("mean", torch.zeros(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.ones(3, 1, 1), persistent=False)
        self.set_input_normalization(normalization)

    @property
    def backbones(self) -> tuple[str, ...]:
        """Names of the submodules that are the backbone: one, or more that are copies; none if it has none.

        Where their tensors have the names and shapes of another model's backbone, they can be taken over from it.
        """
        return ()

    @property
    def weight_copies(self) -> Mapping[str, str]:
        """Names of submodules that begin as copies of others, by theirs; of the same shapes. None by default.

        Weights to start from that lack such a submodule fill it with what they fill the other one with.
        """
        return {}

    @abstractmethod
    def encode(self, truth: PanopticMap) -> NamedTuple:
        """Turn one truth into what :meth:`loss` compares outputs with; runs on the CPU, in loader workers."""

    @abstractmethod
    def forward(self, images: Tensor) -> NamedTuple:
        """Map images, float [B, 3, H, W] in 0..1, RGB, to outputs. Normalises and pads them itself."""

    @abstractmethod
    def loss(self, outputs: Any, targets: Any) -> dict[str, Tensor]:
        """Return named scalar losses, already weighted: the total is their sum."""

    @abstractmethod
    def decode(self, outputs: Any, sizes: Sequence[tuple[int, int]]) -> list[PanopticMap]:
        """Recover one map per image.

        Args:
            outputs: what :meth:`forward` returned for a batch.
            sizes: height and width of each image before padding.
        """

    @property
    def decoding(self) -> Any:
        """How maps are made of outputs: a frozen dataclass of the system's options; None if it has none."""
        return None

    def replace_decoding(self, decoding: Any) -> None:
        """Take another decoding; :func:`panscape.zoo.save` keeps it.

        Args:
            decoding: of the class of :attr:`decoding`.

        Raises:
            InvalidArgumentError: it is of another class, or this model has none.
        """
        if decoding is None or type(decoding) is not type(self.decoding):
            expected = "no decoding" if self.decoding is None else f"a {type(self.decoding).__name__}"
            raise InvalidArgumentError(
                f"expected {expected} as decoding of {type(self).__name__}, got {type(decoding).__name__}"
            )

    def set_decoding(self, **options: Any) -> None:
        """Change options of post-processing by name; :func:`panscape.zoo.save` keeps them.

        Args:
            **options: values by the names of :func:`~panscape.representations.decoding_options.decoding_options` of
                :attr:`decoding`, such as ``min_score=0.3``.

        Raises:
            UnknownNameError: this model has no such option; the nearest are suggested and all are listed.
            InvalidArgumentError: a value is of another type or out of its range.
        """
        if options:
            self.replace_decoding(replace_options(self.decoding, options))

    def score_instances(self, outputs: Any, maps: Sequence[PanopticMap]) -> list[PanopticMap]:
        """Return maps with the scores by which this system's average precision ranks objects.

        Decoding leaves this out, as it takes longer than the decoding itself. By default the maps stay as they are: for
        systems whose decoding gives these very scores.

        Args:
            outputs: what :meth:`forward` returned for a batch.
            maps: what :meth:`decode` made of it.
        """
        return list(maps)

    def postprocess(
        self,
        outputs: Any,
        inference_sizes: Sequence[tuple[int, int]],
        sizes: Sequence[tuple[int, int]],
        *,
        scored: bool = False,
    ) -> list[PanopticMap]:
        """Recover one map per image at the image's own size, which may not be that at which it entered the network.

        Where the two differ, maps are resized to the nearest pixel, unless a system says otherwise; where they are
        equal, this is :meth:`decode`.

        Args:
            outputs: what :meth:`forward` returned for a batch.
            inference_sizes: height and width of each image as it entered the network, before padding.
            sizes: height and width of each image itself.
            scored: give scores for average precision, see :meth:`score_instances`.

        Returns:
            Maps on the device of the outputs.

        Raises:
            InvalidArgumentError: there are not as many sizes as images, or one of them is impossible.
        """
        if len(inference_sizes) != len(sizes):
            raise InvalidArgumentError(
                f"expected one size for each of the {len(inference_sizes)} images that entered the network, got "
                f"{len(sizes)}"
            )
        for size in sizes:
            if min(size) < 1:
                raise InvalidArgumentError(f"expected images of at least 1x1 pixels, got {size[0]}x{size[1]}")
        maps = self.decode(outputs, inference_sizes)
        if scored:
            maps = self.score_instances(outputs, maps)
        return [m if m.size == tuple(size) else m.resize(*size).compact() for m, size in zip(maps, sizes, strict=True)]

    def respecify(self, **options: Any) -> None:
        """Note options that differ from those this model was created with, so that it is saved as it is now."""
        if self.spec is not None:
            self.spec = self.spec._replace(options={**self.spec.options, **options})

    @abstractmethod
    def decode_semantic(
        self, outputs: Any, inference_sizes: Sequence[tuple[int, int]], sizes: Sequence[tuple[int, int]]
    ) -> list[Tensor]:
        """Return what the semantic head alone predicts for each image, before objects and categories become one map.

        The papers' mIoU and iIoU are measured on this, not on the map.

        Args:
            outputs: what :meth:`forward` returned for a batch.
            inference_sizes: height and width of each image as it entered the network, before padding.
            sizes: height and width of each image itself.

        Returns:
            Category ids, integers [H, W] of each image's own size, on the device of the outputs.

        Raises:
            InvalidArgumentError: there are not as many sizes as images.
        """

    @property
    def has_detections(self) -> bool:
        """Whether this system detects objects one by one before it makes a map of them; see :meth:`detect`."""
        return False

    def detect(
        self, outputs: Any, inference_sizes: Sequence[tuple[int, int]], sizes: Sequence[tuple[int, int]]
    ) -> list[Detections]:
        """Return the objects of each image before they become parts of a map: they may overlap, and unsure ones stay.

        Papers of systems that detect objects measure average precision on these.

        Args:
            outputs: what :meth:`forward` returned for a batch.
            inference_sizes: height and width of each image as it entered the network, before padding.
            sizes: height and width of each image itself, which is the size of the masks.

        Raises:
            InvalidArgumentError: this system does not detect objects (:attr:`has_detections`), or there are not as many
                sizes as images.
        """
        raise InvalidArgumentError(
            f"expected a model that detects objects before it makes a map, but {type(self).__name__} does not; take "
            "the objects of its map"
        )

    @property
    def oracles(self) -> tuple[str, ...]:
        """Names of the parts of its outputs that :meth:`decode_with_truth` can take from the truth; none by default."""
        return ()

    def decode_with_truth(self, outputs: Any, truth: PanopticMap, parts: Collection[str]) -> PanopticMap:
        """Recover the map of one image as if some parts of the outputs were perfect: how much does each cost?

        Args:
            outputs: what :meth:`forward` returned for a batch of one.
            truth: of the image, at the size at which it entered the network, on any device.
            parts: which parts to replace, of :attr:`oracles`; without any, this is :meth:`decode`.

        Raises:
            UnknownNameError: a part is none of :attr:`oracles`; the nearest are suggested.
        """
        self.require_oracles(parts)
        return self.decode(outputs, [truth.size])[0]

    def require_oracles(self, parts: Collection[str]) -> None:
        """Check names of :attr:`oracles`.

        Raises:
            UnknownNameError: this model has no such part; the nearest are suggested.
        """
        for part in parts:
            if part not in self.oracles:
                raise UnknownNameError("oracle", part, self.oracles)

    @abstractmethod
    def visualize(self, outputs: Any, size: tuple[int, int]) -> dict[str, Tensor]:
        """Draw the outputs of one image (a batch of one) as uint8 [3, H, W] images by name."""

    def visualize_features(self, images: Tensor, size: tuple[int, int], categories: Sequence[int]) -> dict[str, Tensor]:
        """Draw what lies in the features behind the outputs of one image; none unless a system has something to show.

        It costs a forward pass of its own where there is something.

        Args:
            images: of one image, as for :meth:`forward`.
            size: height and width of the images to draw.
            categories: ids of those that are to be shown.

        Returns:
            Images uint8 [3, H, W] by name; the name is also the title.
        """
        return {}

    def preprocess(self, images: Tensor) -> Tensor:
        """Normalise images and pad them with the mean colour, right and bottom, to a multiple of ``stride``."""
        height, width = images.shape[-2:]
        rows, columns = padded_size((height, width), self.stride)
        images = (images - self.mean) / self.std
        if INPUT_NORMALIZATIONS[self.normalization].is_bgr:
            images = images.flip(-3)
        return F.pad(images, (0, columns - width, 0, rows - height))

    def set_input_normalization(self, name: str) -> None:
        """Let the network take pixels in another format, that of its weights.

        Args:
            name: of :data:`INPUT_NORMALIZATIONS`.

        Raises:
            UnknownNameError: there is no such format; the nearest are suggested.
        """
        if name not in INPUT_NORMALIZATIONS:
            raise UnknownNameError("pixel format", name, INPUT_NORMALIZATIONS)
        self.normalization = name
        self.mean.copy_(torch.tensor(INPUT_NORMALIZATIONS[name].mean)[:, None, None])
        self.std.copy_(torch.tensor(INPUT_NORMALIZATIONS[name].std)[:, None, None])

    def inference_size(self, size: tuple[int, int]) -> Size:
        """Return the size at which the network sees an image of ``size``; see test_scale and longest_side."""
        longest = max(1, round(max(size) * self.test_scale))
        if self.longest_side is not None:
            longest = min(longest, self.longest_side)
        return size_with_longest_side(size, longest)

    def predict(self, source: Any) -> Any:
        """Predict the map of an image, or a list of maps for a list of images.

        Args:
            source: a path, PIL image, array [H, W, 3] or tensor uint8 [3, H, W]; or a list of these, each of its own
                size, predicted one by one.

        Returns:
            One :class:`PanopticMap` on the CPU, or a list of them.
        """
        if isinstance(source, (list, tuple)):
            return [self.predict(one) for one in source]
        image = to_image_tensor(source)
        with in_eval_mode(self), torch.inference_mode():
            size = Size(*image.shape[-2:])
            inference_size = self.inference_size(size)
            images = resize_images(image[None].to(self.mean.device).float() / 255, inference_size)
            return self.postprocess(self(images), [inference_size], [size])[0].to("cpu")


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode for a while; then every module has its own mode again, as some may differ."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, is_training in modes:
            module.training = is_training
