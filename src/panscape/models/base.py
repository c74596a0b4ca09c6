"""Base class of all models: a network with four methods, `encode`, `forward`, `loss` and `decode`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError, UnknownNameError, listed
from panscape.geometry import ImageGeometry, Size, inference_geometry, padded_size, require_longest_side
from panscape.images import ImageSource, to_image_tensor
from panscape.labels import LabelSpace
from panscape.models.prediction import batches_of_one_size, require_network_input, run_network
from panscape.models.saving import Saving
from panscape.nn.region_pooling import LEVEL_SIDE
from panscape.ops.cropped_masks import Detections
from panscape.panoptic import PanopticMap
from panscape.representations.decoding_options import replace_options

MAX_TEST_SCALE = 8.0
_Source = TypeVar("_Source", bound=ImageSource)


class InputNormalization(NamedTuple):
    """Input normalisation of a network: mean, standard deviation and channel order.

    Attributes:
        mean: mean of red, green and blue, for pixels in 0..1, which is subtracted.
        std: standard deviation of red, green and blue, by which the difference is divided.
        is_bgr: whether the network expects the channel order BGR.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    is_bgr: bool = False


INPUT_NORMALIZATIONS: Mapping[str, InputNormalization] = {
    "imagenet": InputNormalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    # Google's, for Inception, EfficientNet-Lite and others: -1 to 1.
    "inception": InputNormalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    # Caffe's, and that of networks initialised from its weights: 0..255 minus a mean, not divided.
    "caffe": InputNormalization(
        (122.7717 / 255, 115.9465 / 255, 102.9801 / 255), (1 / 255, 1 / 255, 1 / 255), is_bgr=True
    ),
    # detectron2's, for the ResNets of Microsoft Research: 0..255 minus ImageNet's mean.
    "msra": InputNormalization((123.675 / 255, 116.28 / 255, 103.53 / 255), (1 / 255, 1 / 255, 1 / 255), is_bgr=True),
    # The means of Mapillary Vistas, which seamseg uses for all datasets.
    "vistas": InputNormalization((0.41738699, 0.45732192, 0.46886091), (0.25685097, 0.26509955, 0.29067996)),
    # Darknet's: pixels in 0..1.
    "unit": InputNormalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""The input normalisations by name, see :attr:`PanopticModel.normalization`."""


class ModelSpec(NamedTuple):
    """The arguments of :func:`panscape.create_model`, from which a saved model is rebuilt."""

    name: str
    options: dict[str, Any]


class PanopticModel(nn.Module, Saving, ABC):
    """Base of all models: :meth:`predict` takes images of any kind, calling the model takes the network's input.

    All images are red, green, blue; the order BGR of OpenCV cannot be detected and gives wrong maps, so convert such
    arrays (``image[..., ::-1]``). The weights may be in single, double or half precision, on any device: inputs follow
    them, after ``model.to("cuda")``, ``model.half()`` or ``model.to(torch.bfloat16)``.

    Return types of its methods depend neither on train or eval mode nor on the batch size.

    One exception: networks of two stages return the first stage's outputs in training, see decision 0018.

    Attributes:
        labels: the label space of its maps.
        stride: images are padded to multiples of this many pixels before they enter the network.
        longest_side: maximum side of images in inference; larger ones are downscaled, and their maps upscaled. None if
            the network takes images of any size. Set it to the size that the network was trained for.
        test_scale: factor by which images are resized in inference before ``longest_side`` is applied; above 1 for a
            network that was trained on upscaled images to detect small things.
        normalization: name of the input normalisation of :meth:`preprocess`, of :data:`INPUT_NORMALIZATIONS`; see
            :meth:`set_input_normalization`.
        representation: targets, losses and post-processing, a frozen dataclass of the system; None if it has none.
        spec: the arguments it was created with; None if its class was instantiated directly.
        card: facts that are saved with the weights: data, licence, measured results; replace it after more training.
        provenance: name or path of the loaded weights, with their data, licence and source; maps have it.
        exported_file: the file whose graph is the forward pass of an exported model, which has no weights and takes
            images on the CPU; None for all other models.
        file_digest: SHA-256 of that file.
        runtime: what runs the forward pass in inference: "torch", or the name, version and precision of another
            runtime, see :func:`panscape.export.on_runtime`.
    """

    mean: Tensor
    std: Tensor
    representation: Any = None
    takes_targets: ClassVar[bool] = False
    """Whether :meth:`forward` takes the stacked targets as a second argument in training, to sample regions."""

    def __init__(
        self,
        labels: LabelSpace,
        stride: int,
        longest_side: int | None = None,
        test_scale: float = 1.0,
        normalization: str = "imagenet",
    ) -> None:
        super().__init__()
        require_longest_side(longest_side)
        if not 0 < test_scale <= MAX_TEST_SCALE:
            raise InvalidArgumentError(
                f"expected a test scale above 0 and of at most {MAX_TEST_SCALE:g}, got {test_scale:g}"
            )
        self.labels = labels
        self.stride = stride
        self.longest_side = longest_side
        self.test_scale = test_scale
        self.spec: ModelSpec | None = None
        self.card = {}
        self.provenance = None
        self.exported_file: Path | None = None
        self.file_digest: str | None = None
        self.runtime = "torch"
        self.register_buffer("mean", torch.zeros(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.ones(3, 1, 1), persistent=False)
        self.set_input_normalization(normalization)

    @property
    def backbones(self) -> tuple[str, ...]:
        """Names of the submodules that are the backbone: one, or several that are copies; empty without a backbone.

        If their tensors have the names and shapes of another model's backbone, its weights can be loaded into them.
        """
        return ()

    @property
    def weight_copies(self) -> Mapping[str, str]:
        """Maps names of submodules to the submodules of the same shapes that they are copied from; empty by default.

        If the weights of a checkpoint to start from lack such a submodule, it receives the weights of the other one.
        """
        return {}

    @abstractmethod
    def encode(self, truth: PanopticMap) -> NamedTuple:
        """Encode one ground truth into the targets of :meth:`loss`; runs on the CPU, in loader workers."""

    @abstractmethod
    def forward(self, images: Tensor) -> NamedTuple:
        """Map images, float [B, 3, H, W] in 0..1, RGB, to outputs. Includes normalisation and padding."""

    @abstractmethod
    def loss(self, outputs: Any, targets: Any) -> dict[str, Tensor]:
        """Return named scalar losses, already weighted: the total is their sum."""

    @abstractmethod
    def decode(self, outputs: Any, sizes: Sequence[tuple[int, int]]) -> list[PanopticMap]:
        """Decode outputs into one map per image, with the labels of the model.

        Args:
            outputs: the result of :meth:`forward` for a batch.
            sizes: height and width of each image before padding.
        """

    @property
    def warm_up_size(self) -> Size:
        """Height and width of a small image that the network takes."""
        return Size(64, 64)

    @property
    def needs_cut_off(self) -> bool:
        """Whether the ground truth of :meth:`encode` must record at which sides crops cut segments off."""
        return False

    @property
    def level_side(self) -> float:
        """Side of a square object in pixels, from which on it takes the second level of a pyramid from stride 4.

        Scale-uniform sampling draws levels, also for networks without them.
        """
        return LEVEL_SIDE

    @property
    def decoding(self) -> Any:
        """Post-processing options: a frozen dataclass of the system; None if it has none."""
        return getattr(self.representation, "decoding", None)

    def replace_decoding(self, decoding: Any) -> None:
        """Replace the post-processing options; :func:`panscape.zoo.save` stores them.

        Args:
            decoding: new options, of the class of :attr:`decoding`.

        Raises:
            InvalidArgumentError: they are of another class, or this model has none.
        """
        if decoding is None or type(decoding) is not type(self.decoding):
            expected = "no decoding" if self.decoding is None else f"a {type(self.decoding).__name__}"
            raise InvalidArgumentError(
                f"expected {expected} as decoding of {type(self).__name__}, got {type(decoding).__name__}"
            )
        self.representation = replace(self.representation, decoding=decoding)
        self.respecify(representation=self.representation)

    def set_decoding(self, **options: Any) -> None:
        """Change post-processing options by name; :func:`panscape.zoo.save` stores them.

        Args:
            **options: values by the names of :func:`~panscape.representations.decoding_options.decoding_options` of
                :attr:`decoding`, such as ``min_score=0.3``.

        Raises:
            UnknownNameError: this model has no such option; the closest names are suggested and all are listed.
            InvalidArgumentError: a value has the wrong type or is out of range.
        """
        if options:
            self.replace_decoding(replace_options(self.decoding, options))

    def score_instances(self, outputs: Any, maps: Sequence[PanopticMap]) -> list[PanopticMap]:
        """Return maps with the scores by which this system's average precision ranks objects.

        Decoding does not compute them, as that takes longer than the decoding itself. By default the maps are returned
        unchanged, for systems whose decoding already assigns these scores.

        Args:
            outputs: the result of :meth:`forward` for a batch.
            maps: the result of :meth:`decode` for these outputs.
        """
        return list(maps)

    def postprocess(
        self, outputs: Any, geometries: Sequence[ImageGeometry], *, scored: bool = False
    ) -> list[PanopticMap]:
        """Decode outputs into one map per image at the image's own size, which may differ from the inference size.

        If the two differ, maps are resized by nearest neighbour, unless a system overrides this; if they are equal,
        this is :meth:`decode`.

        Args:
            outputs: the result of :meth:`forward` for a batch.
            geometries: sizes of each image, see :meth:`geometry`; the model itself knows the padded size.
            scored: compute scores for average precision, see :meth:`score_instances`.

        Returns:
            Maps on the device of the outputs.

        Raises:
            InvalidArgumentError: the number of geometries differs from the number of images, or an image is larger than
                the network's input.
        """
        maps = self.decode(outputs, [geometry.inference_size for geometry in geometries])
        if scored:
            maps = self.score_instances(outputs, maps)
        return [
            m.resize(*geometry.size).compact() if geometry.is_resized else m
            for m, geometry in zip(maps, geometries, strict=True)
        ]

    def respecify(self, **options: Any) -> None:
        """Update options in :attr:`spec` that changed since the model was created, so that they are saved."""
        if self.spec is not None:
            self.spec = self.spec._replace(options={**self.spec.options, **options})

    @abstractmethod
    def decode_semantic(self, outputs: Any, geometries: Sequence[ImageGeometry]) -> list[Tensor]:
        """Return the semantic segmentation of each image, from the semantic head alone, before fusion with objects.

        The papers' mIoU and iIoU are measured on it, not on the map.

        Args:
            outputs: the result of :meth:`forward` for a batch.
            geometries: as for :meth:`postprocess`.

        Returns:
            Category ids, integers [H, W] of each image's own size, on the device of the outputs.

        Raises:
            InvalidArgumentError: as for :meth:`postprocess`.
        """

    @property
    def has_detections(self) -> bool:
        """Whether this system detects individual objects before it merges them into a map; see :meth:`detect`."""
        return False

    def detect(self, outputs: Any, geometries: Sequence[ImageGeometry]) -> list[Detections]:
        """Return the objects of each image before fusion: they may overlap, and low scores are included.

        Papers of systems that detect objects measure average precision on these.

        Args:
            outputs: the result of :meth:`forward` for a batch.
            geometries: as for :meth:`postprocess`; masks have the image's own size.

        Raises:
            InvalidArgumentError: this system does not detect objects (:attr:`has_detections`), or as for
                :meth:`postprocess`.
        """
        raise InvalidArgumentError(
            f"expected a model that detects objects before it makes a map, but {type(self).__name__} does not; use "
            "the objects of its map"
        )

    @property
    def oracles(self) -> tuple[str, ...]:
        """Names of the parts of the outputs that :meth:`decode_with_truth` can replace; empty by default."""
        return ()

    def decode_with_truth(self, outputs: Any, truth: PanopticMap, parts: Collection[str]) -> PanopticMap:
        """Decode the map of one image with parts of the outputs replaced by ground truth, to measure their errors.

        Args:
            outputs: the result of :meth:`forward` for a batch of one.
            truth: ground truth of the image, at the size at which it entered the network, on any device.
            parts: the parts to replace, of :attr:`oracles`; if empty, this is :meth:`decode`.

        Raises:
            UnknownNameError: a part is not one of :attr:`oracles`; the closest names are suggested.
        """
        self.require_oracles(parts)
        return self.decode(outputs, [truth.size])[0]

    def require_oracles(self, parts: Collection[str]) -> None:
        """Check names of :attr:`oracles`.

        Raises:
            UnknownNameError: this model has no such part; the closest names are suggested.
            InvalidArgumentError: it has none at all.
        """
        if parts and not self.oracles:
            raise InvalidArgumentError(
                f"expected no oracles, as {type(self).__name__} has none, got {listed(list(parts))}"
            )
        for part in parts:
            if part not in self.oracles:
                raise UnknownNameError("oracle", part, self.oracles)

    @abstractmethod
    def visualize(self, outputs: Any, size: tuple[int, int]) -> dict[str, Tensor]:
        """Visualise the outputs of one image (a batch of one), as uint8 [3, H, W] by name."""

    def visualize_features(self, images: Tensor, size: tuple[int, int], categories: Sequence[int]) -> dict[str, Tensor]:
        """Visualise intermediate features of one image; empty unless a system overrides this.

        It takes an additional forward pass if it is overridden.

        Args:
            images: one image, as for :meth:`forward`.
            size: height and width of the visualisations.
            categories: ids of the categories to show.

        Returns:
            Visualisations uint8 [3, H, W] by name; the name is also the title.
        """
        return {}

    def visualize_training(self, images: Tensor, targets: Any) -> dict[str, Tensor]:
        """Visualise what training teaches on the first of some crops; empty unless a system overrides this.

        It takes an additional forward pass if it is overridden, which may draw random numbers.

        Args:
            images: as for :meth:`forward`.
            targets: stacked targets of the images.

        Returns:
            Visualisations uint8 [3, H, W], of any size, by title.
        """
        return {}

    def preprocess(self, images: Tensor) -> Tensor:
        """Normalise images and pad them with the mean colour, at the right and bottom, to a multiple of ``stride``.

        Args:
            images: float [B, 3, H, W] in 0..1, red, green, blue.

        Returns:
            The images, in the precision of the weights.

        Raises:
            InvalidArgumentError: it is something else, such as a path, for which there is :meth:`predict`.
        """
        require_network_input(images)
        height, width = images.shape[-2:]
        rows, columns = padded_size((height, width), self.stride)
        images = (images - self.mean) / self.std
        if INPUT_NORMALIZATIONS[self.normalization].is_bgr:
            images = images.flip(-3)
        return F.pad(images, (0, columns - width, 0, rows - height)).to(self.mean.dtype)

    def set_input_normalization(self, name: str) -> None:
        """Set the input normalisation that the network's weights expect.

        Args:
            name: one of :data:`INPUT_NORMALIZATIONS`.

        Raises:
            UnknownNameError: there is no such normalisation; the closest names are suggested.
        """
        if name not in INPUT_NORMALIZATIONS:
            raise UnknownNameError("input normalization", name, INPUT_NORMALIZATIONS)
        self.normalization = name
        self.mean.copy_(torch.tensor(INPUT_NORMALIZATIONS[name].mean)[:, None, None])
        self.std.copy_(torch.tensor(INPUT_NORMALIZATIONS[name].std)[:, None, None])

    def inference_size(self, size: tuple[int, int]) -> Size:
        """Return the size at which an image of ``size`` enters the network; see ``test_scale`` and ``longest_side``."""
        return self.geometry(size).inference_size

    def geometry(self, size: tuple[int, int], longest_side: int | None = None) -> ImageGeometry:
        """Return the sizes of an image in inference; its padded size is not known before the forward pass.

        Args:
            size: height and width of the image.
            longest_side: resize the image so that its longer side has this many pixels; None for
                :meth:`inference_size`.
        """
        return inference_geometry(size, self.longest_side, self.test_scale, longest_side)

    @overload
    def predict(self, source: ImageSource, *, batch_size: int = 1) -> PanopticMap: ...

    @overload
    def predict(self, source: list[_Source] | tuple[_Source, ...], *, batch_size: int = 1) -> list[PanopticMap]: ...

    def predict(
        self, source: ImageSource | list[_Source] | tuple[_Source, ...], *, batch_size: int = 1
    ) -> PanopticMap | list[PanopticMap]:
        """Predict the map of an image, or a list of maps for a list of images.

        Args:
            source: a path, PIL image, uint8 array [H, W, 3] or tensor [3, H, W], uint8 or floating in 0..1; or a list
                of these, each of its own size. Arrays and tensors are red, green, blue, not OpenCV's BGR.
            batch_size: maximum number of images of a list in one forward pass; images of equal inference size share
                one. Outputs of larger batches may differ by rounding (the tests allow 1e-4), and with them single
                pixels on the border of two segments; with 1, maps are those of single images exactly.

        Returns:
            One :class:`PanopticMap` on the CPU with the labels of the model, or a list of them in the order of the
            images.

        Raises:
            InvalidArgumentError: a source is not an image, or the batch size is below 1.
            UnreadableFileError: a path cannot be read, or is a URL.
        """
        if not isinstance(source, (list, tuple)):
            return self.predict([source])[0]
        maps: dict[int, PanopticMap] = {}
        with in_eval_mode(self), torch.inference_mode():
            for batch in batches_of_one_size(map(to_image_tensor, source), self.geometry, batch_size):
                _, outputs = run_network(self, batch.images, batch.geometries, self.mean.device)
                for number, found in zip(batch.numbers, self.postprocess(outputs, batch.geometries), strict=True):
                    maps[number] = found.to("cpu").with_provenance(self.provenance)
        return [maps[number] for number in range(len(source))]


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Switch a model to eval mode within a context; afterwards each module's own mode is restored."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, is_training in modes:
            module.training = is_training
