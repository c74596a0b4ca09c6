"""Variants of models as data: a family's options are one frozen value, and a variant is such a value with a name."""

from __future__ import annotations

import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Concatenate, Generic, Literal, ParamSpec, TypeVar, cast

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.models.base import PanopticModel
from panscape.nn.backbones import Backbone, create_backbone

Model = TypeVar("Model", bound=PanopticModel, covariant=True)
Options = ParamSpec("Options")


@dataclass(frozen=True, kw_only=True)
class ModelConfig(ABC, Generic[Model]):
    """All options of a family of models, except the label space. Each family adds its own.

    Attributes:
        backbone: A name for :func:`~panscape.nn.backbones.create_backbone`, or a module that implements its protocol.
        pretrained: Initialise the backbone with timm's ImageNet weights.
        longest_side: Maximum side of images in inference, pixels; larger ones are downscaled.
        test_scale: Factor by which images are resized in inference.
    """

    backbone: str | Backbone
    pretrained: bool = False
    longest_side: int | None = None
    test_scale: float = 1.0

    @abstractmethod
    def build(self, labels: LabelSpace) -> Model:
        """Build the model for a label space, with random weights except those of a pretrained backbone.

        Raises:
            InvalidArgumentError: the backbone lacks a stride, or an option does not fit the backbone or the labels.
            UnknownNameError: no backbone has this name.
        """

    def create_backbone(
        self, *, after_relu: bool = False, output_stride: Literal[16, 32] = 32, negative_slope: float = 0.0
    ) -> Backbone:
        """Return the backbone: a new one if :attr:`backbone` is a name, otherwise the module itself.

        Args:
            after_relu: take features after the last ReLU of their stage.
            output_stride: stride of the coarsest features.
            negative_slope: slope of the activations of ResNets below 0.
        """
        if not isinstance(self.backbone, str):
            return self.backbone
        return create_backbone(
            self.backbone,
            pretrained=self.pretrained,
            after_relu=after_relu,
            output_stride=output_stride,
            negative_slope=negative_slope,
        )


_WEIGHTS_PARAMETER = inspect.Parameter(
    "backbone_weights", inspect.Parameter.KEYWORD_ONLY, default=None, annotation="str | os.PathLike[str] | None"
)


def variant(
    name: str,
    summary: str,
    config: Callable[Options, ModelConfig[Model]],
    *args: Options.args,
    **options: Options.kwargs,
) -> Callable[Concatenate[LabelSpace, Options], Model]:
    """Return the factory of a variant: a function of the label space and of options that replace the variant's.

    Args:
        name: name of the factory.
        summary: its docstring.
        config: the family's options.
        *args: none, as configurations take keywords only.
        **options: options of the variant that differ from the family's defaults.
    """
    defaults = config(*args, **options)
    known = {field.name: field for field in fields(defaults)}

    def factory(labels: LabelSpace, *, backbone_weights: str | os.PathLike[str] | None = None, **options: Any) -> Model:
        for option in options:
            if option not in known:
                raise InvalidArgumentError(f"{name} has no option {option!r}; it has {', '.join(known)}")
        if backbone_weights is not None:
            options["pretrained"] = False
        model = replace(defaults, **options).build(labels)
        if any(getattr(model.get_submodule(name), "normalization", None) == "inception" for name in model.backbones):
            model.set_input_normalization("inception")
        if backbone_weights is not None:
            model.load_backbone(backbone_weights)
        return model

    parameters = [inspect.Parameter("labels", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation="LabelSpace")]
    parameters += [_WEIGHTS_PARAMETER]
    parameters += [
        inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=getattr(defaults, n), annotation=field.type)
        for n, field in known.items()
    ]
    factory.__name__ = factory.__qualname__ = name
    factory.__module__ = config.__module__
    factory.__doc__ = (
        f"{inspect.cleandoc(summary)}\n\nFor the options see :class:`{type(defaults).__name__}`; ``backbone_weights`` "
        "is the path of ImageNet weights, see :meth:`PanopticModel.load_backbone`."
    )
    result: Any = factory
    result.__signature__ = inspect.Signature(parameters)
    return cast(Callable[Concatenate[LabelSpace, Options], Model], result)
