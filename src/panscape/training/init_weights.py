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
from panscape.nn.pretrained import BackboneWeights, load_pretrained, weights_of
from panscape.training.config import ModelOptions
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

    Raises:
        InvalidArgumentError: a file for the backbone is given, and ``start`` fills it; or as ``options.create``.
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
    ) -> None:
        is_pretrained = bool(getattr(options, "pretrained", False))
        plain: Any = options
        self.model = (replace(plain, pretrained=False) if is_pretrained else options).create(labels)
        self.is_complete = resumes or not (is_pretrained or backbone_weights is not None)
        self._file, self._taken = backbone_weights, frozenset[str]()
        if start is None or resumes:
            return
        taken = zoo.load_partial(self.model, start)
        self._taken = taken.names
        _logger.info(taken.line)
        needed = [name for name in unique_state_dict(self.model) if name.startswith(self._prefixes())]
        if needed and taken.names.issuperset(needed):
            if backbone_weights is not None:
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
            PanscapeError: the file cannot be read or belongs to another network; or as :meth:`BackboneWeights.fetch`.
        """
        if self.is_complete:
            return
        kept = {name: tensor.clone() for name, tensor in unique_state_dict(self.model).items() if name in self._taken}
        if self._file is None:
            load_pretrained(self._backbones())
        else:
            if is_darknet_file(self._file):
                fill_from_darknet(self.model, self._file, with_predictors=None)
            else:
                load_backbone(self.model, read_checkpoint(self._file), self._file)
            _logger.info("backbone from %s", self._file)
        with torch.no_grad():
            for name, tensor in unique_state_dict(self.model).items():
                if name in kept:
                    tensor.copy_(kept[name])
        self.is_complete = True

    def _prefixes(self) -> tuple[str, ...]:
        return tuple(f"{name}." for name in self.model.backbones)

    def _backbones(self) -> list[nn.Module]:
        found = [self.model.get_submodule(name) for name in self.model.backbones]
        if not found:
            raise InvalidArgumentError(f"expected a network with a backbone, got {type(self.model).__name__}")
        return found
