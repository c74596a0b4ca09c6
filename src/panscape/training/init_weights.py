"""Initial weights of a training: a saved model, an unfinished run, or pretrained weights of the backbone."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from panscape import zoo
from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.nn.darknet import Darknet
from panscape.nn.pretrained import BackboneWeights, load_pretrained, weights_of
from panscape.training.config import ModelOptions
from panscape.training.optimizer import freeze_backbone
from panscape.zoo.published.backbones import load_backbone
from panscape.zoo.published.darknet import fill_from_darknet, is_darknet_file
from panscape.zoo.published.read import read_checkpoint
from panscape.zoo.transfer import unique_state_dict

_logger = logging.getLogger(__name__)


class WeightInitializer:
    """The network of a training, and the weights that its backbone still needs before the first step.

    The network is built with random weights. The initial weights are copied in. ImageNet weights are needed only if
    these do not fill the backbone: a run that resumes from a checkpoint, or that starts from a whole model, needs none.

    Args:
        options: the options of the network.
        labels: its label space.
        start: initial weights, as the path or name for :func:`panscape.zoo.load_partial`; None for none.
        backbone_weights: a file for the backbone; None to fetch timm's weights if the options ask for them.
        resumes: whether the run resumes from a checkpoint, which holds every weight.
        freezes_backbone: whether the training leaves the backbone unchanged.

    Raises:
        InvalidArgumentError: a file for the backbone is given, and ``start`` fills it; frozen layers get no weights, or
            ``start`` is for another input normalisation; or as ``options.create``.
        PanscapeError: as :func:`panscape.zoo.load_partial`.

    Attributes:
        model: the network.
        is_complete: whether the backbone needs no more weights.
    """

    def __init__(
        self,
        options: ModelOptions,
        labels: LabelSpace,
        *,
        start: str | None,
        backbone_weights: Path | None,
        resumes: bool,
        freezes_backbone: bool = False,
    ) -> None:
        is_pretrained = bool(getattr(options, "pretrained", False))
        plain: Any = options
        self.model = (replace(plain, pretrained=False) if is_pretrained else options).create(labels)
        if freezes_backbone:
            freeze_backbone(self.model)
        self.is_complete = resumes or not (is_pretrained or backbone_weights is not None)
        self._start, self._file, self._taken = start, backbone_weights, frozenset[str]()
        if not resumes:
            self._take(start)
            if self._file is None:
                self._require_frozen(self._taken.union([] if self.is_complete else self._backbone_names()))

    def _take(self, start: str | None) -> None:
        if start is None:
            return
        taken = zoo.load_partial(self.model, start)
        self._taken = taken.names
        _logger.info(taken.line)
        if taken.normalization not in (None, self.model.normalization) and self._frozen():
            raise InvalidArgumentError(
                f'expected weights for input normalization "{self.model.normalization}", since layers are frozen, got '
                f'{start} for "{taken.normalization}"; build the network for that one, or do not freeze layers'
            )
        needed = self._backbone_names()
        if needed and taken.names.issuperset(needed):
            if self._file is not None:
                raise InvalidArgumentError(
                    f"expected --init-from or --backbone-weights, got both, and {start} fills the whole backbone; "
                    "give one"
                )
            self.is_complete = True

    @property
    def weights(self) -> BackboneWeights | None:
        """The weights to fetch before :meth:`complete`; None for none.

        Raises:
            InvalidArgumentError: the backbone has no pretrained weights.
        """
        return None if self.is_complete or self._file is not None else weights_of(self._backbones()[0])

    def complete(self) -> None:
        """Load the backbone's weights from the file or from the hub's cache, except those that ``start`` has.

        Raises:
            InvalidArgumentError: the file lacks weights of frozen layers.
            PanscapeError: the file cannot be read or belongs to another network; or as :meth:`BackboneWeights.fetch`.
        """
        if self.is_complete:
            return
        filled = self._taken.union(self._backbone_names())
        kept = {name: tensor.clone() for name, tensor in unique_state_dict(self.model).items() if name in self._taken}
        if self._file is None:
            _logger.info(load_pretrained(self._backbones()))
        else:
            if is_darknet_file(self._file):
                copied = {id(tensor) for tensor in fill_from_darknet(self.model, self._file, with_predictors=None)}
                filled |= {name for name, tensor in unique_state_dict(self.model).items() if id(tensor) in copied}
                _logger.info("backbone from %s", self._file)
            else:
                _logger.info(load_backbone(self.model, read_checkpoint(self._file), self._file))
            self._require_frozen(filled)
        with torch.no_grad():
            for name, tensor in unique_state_dict(self.model).items():
                if name in kept:
                    tensor.copy_(kept[name])
        self.is_complete = True

    def _require_frozen(self, filled: frozenset[str]) -> None:
        """Require weights for all layers that the training does not change, as random ones would stay random."""
        missing = [name for name in self._frozen() if name not in filled]
        if not missing:
            return
        given = self._start or self._file
        source = "" if given is None else f" in {given}"
        parts = ", ".join(dict.fromkeys(name.partition(".")[0] for name in missing))
        remedy = "give a model that has them (--init-from MODEL, or --backbone-weights FILE), or do not freeze them"
        if any(isinstance(module, Darknet) for module in self.model.modules()):
            remedy = remedy.replace("MODEL", "MODEL, yolov3.weights for darknet53")
        if given is not None and is_darknet_file(Path(given)) and all(".predictor." in name for name in missing):
            remedy = (
                "choose the categories of the file (--model.detector coco_panoptic for COCO's 80, None for the things "
                "of the dataset), or do not freeze them"
            )
        raise InvalidArgumentError(
            f"expected weights for all frozen layers, as they would stay random, got none{source} for {len(missing)} "
            f"tensors of {parts}, such as {missing[0]}; {remedy}"
        )

    def _frozen(self) -> list[str]:
        frozen = {name for name, parameter in self.model.named_parameters() if not parameter.requires_grad}
        return [name for name in unique_state_dict(self.model) if name in frozen]

    def _backbone_names(self) -> list[str]:
        prefixes = tuple(f"{name}." for name in self.model.backbones)
        return [name for name in unique_state_dict(self.model) if name.startswith(prefixes)]

    def _backbones(self) -> list[nn.Module]:
        found = [self.model.get_submodule(name) for name in self.model.backbones]
        if not found:
            raise InvalidArgumentError(f"expected a network with a backbone, got {type(self.model).__name__}")
        return found
