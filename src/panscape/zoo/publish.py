"""A model as a repository of the Hugging Face hub: weights, config and model card."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from panscape.atomic_io import atomic_write, write_json
from panscape.hub import upload_folder
from panscape.input_files import to_path
from panscape.models import PanopticModel
from panscape.zoo.description import describe_model
from panscape.zoo.save_load import WEIGHTS_IN_FOLDER, save

_LICENCE_ID = re.compile(r"[a-z0-9.-]+")  # of the hub, such as "apache-2.0"; other terms are text


def save_pretrained(model: PanopticModel, folder: str | os.PathLike[str], name: str | None = None) -> None:
    """Write ``model.safetensors``, ``config.json`` and a model card into a folder.

    :func:`panscape.load` reads only the first, which describes itself; the hub reads the others.

    Args:
        model: created by :func:`panscape.create_model`.
        folder: created if it does not exist.
        name: name of the model in its card; by default that of the folder.

    Raises:
        InvalidArgumentError: the model was not created by ``create_model``, or ``folder`` is no path.
        UnwritableFileError: a file cannot be written.
    """
    folder = to_path(folder)
    description = describe_model(model)
    folder.mkdir(parents=True, exist_ok=True)
    save(model, folder / WEIGHTS_IN_FOLDER)
    write_json(folder / "config.json", {"library_name": "panscape", **description})
    with atomic_write(folder / "README.md") as temporary:
        temporary.write_text(model_card(model, name or folder.resolve().name), encoding="utf-8")


def push_to_hub(
    model: PanopticModel, repository: str, *, private: bool = False, token: str | None = None, message: str
) -> str:
    """Upload a model; see :meth:`PanopticModel.push_to_hub <panscape.models.saving.Saving.push_to_hub>`."""
    with TemporaryDirectory() as folder:
        save_pretrained(model, folder, repository)
        return upload_folder(repository, Path(folder), private=private, token=token, message=message)


def model_card(model: PanopticModel, name: str) -> str:
    """Return the model card, Markdown with the hub's metadata, from the ``card`` of the model.

    Args:
        model: created by :func:`panscape.create_model`.
        name: name of the model for :func:`panscape.load`.
    """
    labels, facts = model.labels, dict(model.card)
    licence = str(facts.get("licence", ""))
    header = ["library_name: panscape", "pipeline_tag: image-segmentation", "tags:", "- panoptic-segmentation"]
    if licence:
        is_id = _LICENCE_ID.fullmatch(licence.lower())
        header += [f"license: {licence.lower()}"] if is_id else ["license: other", "license_name: see-model-card"]
    things, stuff = (", ".join(c.name for c in part) or "none" for part in (labels.things, labels.stuff))
    system = "" if model.spec is None else f" by `{model.spec.name}`"
    lines = ["---", *header, "---", "", f"# {name}", ""]
    lines += [f"Panoptic segmentation{system}, for panscape (`pip install panscape`).", ""]
    lines += [f"- things: {things}", f"- stuff: {stuff}", "", "```python", "import panscape", ""]
    lines += [f'model = panscape.load("{name}")', 'result = model.predict("photo.jpg")  # a file, or an RGB image']
    lines += ['result.save("map.png")', 'overlay = result.draw("photo.jpg")', "```", ""]
    return "\n".join([*lines, *_facts(facts)])


def _facts(facts: Mapping[str, Any]) -> Iterator[str]:
    """Render facts: values as a list, mappings as tables below it, under their own headings."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            continue
        if isinstance(value, list | tuple):
            yield f"- {name}:"
            yield from (f"    - `{one}`" for one in value)
        else:
            yield f"- {name}: {value}"
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from ("", f"## {name}", "", *_table(value))
    yield ""


def _table(rows: Mapping[str, Any]) -> Iterator[str]:
    """Render a mapping of numbers as two columns, or one of mappings as a column for each of their names."""
    columns = {key: None for row in rows.values() if isinstance(row, Mapping) for key in row}
    names = list(columns) or ["value"]
    yield f"| | {' | '.join(names)} |"
    yield f"|---|{'---:|' * len(names)}"
    for name, row in rows.items():
        values = [row.get(column, "") for column in names] if isinstance(row, Mapping) else [row]
        yield f"| {name} | {' | '.join(map(str, values))} |"
