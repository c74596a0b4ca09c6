"""Programs of ``torch.export`` as graphs."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from panscape.errors import UnreadableFileError, in_one_line
from panscape.input_files import parse_json
from panscape.zoo.graphs import METADATA_KEY, REMEDY

Array = NDArray[Any]


class TorchGraph:
    """A program of ``torch.export`` in torch; see :class:`panscape.zoo.graphs.Graph`."""

    def __init__(self, path: Path) -> None:
        texts = {METADATA_KEY: ""}
        try:
            _require_no_pickles(path)
            self._program = torch.export.load(path, extra_files=texts)
        except (OSError, RuntimeError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise UnreadableFileError(path, f"torch cannot read it ({in_one_line(error)}); {REMEDY}") from error
        self.runtime = f"torch.export {torch.__version__}"
        self.metadata = {name: text for name, text in texts.items() if text}
        description = parse_json(path, (texts[METADATA_KEY] or "{}").encode())
        self.outputs = tuple(description.get("export", {}).get("outputs", ()))

    def compile(self, precision: str) -> None:
        """Do nothing: the precision is that of the file."""
        self._module = self._program.module()

    def prepare(self, size: tuple[int, int]) -> None:
        """Do nothing: the program takes images of any size."""

    def run(self, images: Array) -> list[Array]:
        """See :meth:`panscape.zoo.graphs.Graph.run`."""
        with torch.inference_mode():
            return [x.numpy() for x in self._module(torch.from_numpy(images))]


def _require_no_pickles(path: Path) -> None:
    """Check that torch reads a program without unpickling anything, as pickles can run any code.

    Raises:
        ValueError: it has tensors or objects that are pickled, as :func:`torch.export.save` writes only for kinds that
            no exported model has.
    """
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith("_config.json"):
                entries = json.loads(archive.read(name))["config"].values()
                if any(entry["use_pickle"] or "_obj_" in entry["path_name"] for entry in entries):
                    raise ValueError(f"{name} names pickled objects, which can run any code")
            elif name.endswith(".pt") and archive.getinfo(name).file_size > 0:
                raise ValueError(f"{name} may be a pickle, which can run any code")
