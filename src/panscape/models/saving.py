"""Methods of models that save, load and publish them.

The work is that of :mod:`panscape.zoo`, which is imported only by these methods, as it needs the models itself.
"""

# mypy: disable-error-code="misc"
# (the only subclass is PanopticModel, so that `self` is one)

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace

if TYPE_CHECKING:
    from panscape.models.base import PanopticModel


class Saving:
    """The methods of :class:`~panscape.models.base.PanopticModel` that save and load it.

    They have the names of the Hugging Face hub's mixin, which does not fit: see decision 0021.

    Attributes:
        card: facts that are saved with the weights, as plain JSON values: data, licence, measured results.
        provenance: what the predicted maps state about the weights, as plain JSON values: ``weights`` (name or path),
            ``network``, and if known ``data``, ``licence``, ``source`` (address or file that they were converted from)
            and ``source_sha256``; None for a model that :func:`panscape.load` has not loaded.
    """

    card: dict[str, Any]
    provenance: dict[str, Any] | None
    saving_hint: ClassVar[str] = ""
    """What to do with models of a class that cannot be saved, for the error message."""

    def save(self: PanopticModel, path: str | os.PathLike[str], card: Mapping[str, Any] | None = None) -> None:
        """Save the model into one file for :func:`panscape.load`; see :func:`panscape.save`."""
        from panscape import zoo

        zoo.save(self, path, card)

    def save_pretrained(self: PanopticModel, folder: str | os.PathLike[str]) -> None:
        """Write ``model.safetensors``, ``config.json`` and a model card, ``README.md``, into a folder.

        Args:
            folder: created if it does not exist.

        Raises:
            InvalidArgumentError: the model was not created by :func:`panscape.create_model`.
            UnwritableFileError: a file cannot be written.
        """
        from panscape import zoo

        zoo.save_pretrained(self, folder)

    def load_backbone(self: PanopticModel, path: str | os.PathLike[str]) -> None:
        """Load ImageNet weights into the backbone, strictly; all other weights stay unchanged.

        Args:
            path: a file of a classification network as for :func:`panscape.load_published`.

        Raises:
            PanscapeError: the file cannot be read, is of another network than the backbone, or not of a backbone.
        """
        from panscape import zoo

        zoo.load_backbone(self, path)

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike[str], labels: LabelSpace | str | None = None) -> Self:
        """Load a model; as :func:`panscape.load`, and the model must be of this class.

        Raises:
            InvalidArgumentError: the model is of another class.
            PanscapeError: as :func:`panscape.load`.
        """
        from panscape import zoo

        model = zoo.load(name_or_path, labels)
        if not isinstance(model, cls):
            raise InvalidArgumentError(
                f"expected {name_or_path} to be a {cls.__name__}, got a {type(model).__name__}; use panscape.load"
            )
        return model

    def push_to_hub(
        self: PanopticModel,
        repository: str,
        *,
        private: bool = False,
        token: str | None = None,
        message: str = "Upload a model of panscape",
    ) -> str:
        """Upload the files of :meth:`save_pretrained` to the Hugging Face hub; :func:`panscape.load` takes its id.

        Args:
            repository: its id, "owner/name"; created if it does not exist.
            private: create it as a private one.
            token: access token; None for the one of ``hf auth login`` or of the environment.
            message: commit message.

        Returns:
            The URL of the commit.

        Raises:
            InvalidArgumentError: the model was not created by :func:`panscape.create_model`.
            UnwritableFileError: the hub cannot be reached or refuses the files.
        """
        from panscape import zoo

        return zoo.push_to_hub(self, repository, private=private, token=token, message=message)
