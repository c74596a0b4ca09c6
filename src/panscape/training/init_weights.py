"""Where a training may start instead of from random weights: a saved model, an unfinished run, a backbone's weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from panscape import zoo
from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.models import PanopticModel
from panscape.nn.pretrained import BackboneWeights, load_pretrained, weights_of
from panscape.training.checkpoints import load_newest
from panscape.training.config import ModelOptions
from panscape.training.run_folder import RunFolder
from panscape.zoo.published.backbones import load_backbone
from panscape.zoo.published.read import read_checkpoint
from panscape.zoo.transfer import unique_state_dict


def start_from(model: PanopticModel, source: str | Path, warn: Callable[[str], None] | None = None) -> zoo.Taken:
    """Copy the weights that have a place in a model, and leave the others as they are.

    Args:
        model: to be trained; it may have other categories or parts.
        source: as for :func:`panscape.zoo.load`; or the folder of a run without a model, whose newest whole checkpoint
            is taken: the averaged weights if it has them.
        warn: is told in a line of each damaged checkpoint that is passed over; by default it is printed to stderr.

    Returns:
        What was copied.

    Raises:
        UnknownNameError: no bundled model has this name.
        UnreadableFileError: the file is missing or damaged, or all checkpoints are.
        CheckpointMismatchError: nothing fits.
    """
    has_model = (Path(source) / zoo.WEIGHTS_IN_FOLDER).exists()
    found = None if has_model else load_newest(RunFolder(Path(source)).checkpoints, warn)
    if found is None:
        return zoo.load_partial(model, source)
    step, state = found
    taken = zoo.load_matching(model, state["average"] or state["model"], Path(source))
    return taken._replace(line=f"{taken.line}, as of step {step}")


class Beginning:
    """The network of a training, and what its backbone still needs before the first step.

    It is built with random weights. The weights to start from are copied in, and only if these do not fill the backbone
    are ImageNet weights needed: a run that goes on from a checkpoint, or that starts from a whole model, asks for none.

    Args:
        options: of the network.
        labels: its label space.
        start: weights to start from, as for :func:`load_partial`; None for none.
        backbone_weights: a file for the backbone; None if timm's weights are to be fetched where the options want them.
        resumes: the run goes on from a checkpoint, which holds every weight.
        say: receives lines for people.

    Raises:
        InvalidArgumentError: a file for the backbone is given, and ``start`` fills it; or as ``options.create``.
        PanscapeError: as :func:`load_partial`.

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
        say: Callable[[str], None],
    ) -> None:
        is_pretrained = bool(getattr(options, "pretrained", False))
        plain: Any = options
        self.model = (replace(plain, pretrained=False) if is_pretrained else options).create(labels)
        self.is_complete = resumes or not (is_pretrained or backbone_weights is not None)
        self._start, self._file, self._say = start, backbone_weights, say
        if start is None or resumes:
            return
        taken = start_from(self.model, start, say)
        say(taken.line)
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
        """What has to be fetched before :meth:`complete`; None for nothing.

        Raises:
            InvalidArgumentError: there are no such weights.
        """
        return None if self.is_complete or self._file is not None else weights_of(self._backbones()[0])

    def complete(self) -> None:
        """Fill the backbone with its weights, from the file or from the hub's cache, and then what ``start`` has of it.

        Raises:
            PanscapeError: the file cannot be read or is of another network; or as :meth:`BackboneWeights.fetch`.
        """
        if self.is_complete:
            return
        if self._file is None:
            load_pretrained(self._backbones(), say=self._say)
        else:
            load_backbone(self.model, read_checkpoint(self._file), self._file)
            self._say(f"backbone from {self._file}")
        if self._start is not None:
            start_from(self.model, self._start, lambda _: None)
        self.is_complete = True

    def _prefixes(self) -> tuple[str, ...]:
        return tuple(f"{name}." for name in self.model.backbones)

    def _backbones(self) -> list[nn.Module]:
        found = [self.model.get_submodule(name) for name in self.model.backbones]
        if not found:
            raise InvalidArgumentError(f"expected a network with a backbone to fill, got {type(self.model).__name__}")
        return found
