"""Categories and the label spaces that order them.

A category's id is its index in its :class:`LabelSpace`, ``0 .. K-1``. The ids of a dataset's files (``source_id``) are
used only by :mod:`panscape.formats` and by readers of datasets.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from panscape.errors import InvalidArgumentError, InvalidLabelSpaceError, UnknownNameError, shown
from panscape.input_files import is_flag, load_json, to_integer

_BUNDLED = Path(__file__).parent / "datasets" / "labels"


@dataclass(frozen=True, slots=True)
class Category:
    """A category (class) of pixels.

    Attributes:
        name: display name, unique within a label space.
        is_thing: whether its pixels belong to countable objects (a thing) or not (stuff).
        source_id: its id in the dataset's files.
        color: red, green, blue in 0..255, for visualisation.
    """

    name: str
    is_thing: bool
    source_id: int
    color: tuple[int, int, int]

    def __post_init__(self) -> None:
        if not self.name:
            raise InvalidLabelSpaceError("a category needs a name, got an empty one")
        if len(self.color) != 3 or not all(isinstance(c, int) and 0 <= c <= 255 for c in self.color):
            raise InvalidLabelSpaceError(
                f"category {self.name!r}: expected a color of three integers in 0..255, got {self.color!r}"
            )


@dataclass(frozen=True)
class LabelSpace:
    """An ordered set of categories; a category's id is its index.

    ``labels["car"]`` and ``labels[13]`` are a category, ``"car" in labels`` is whether there is one of this name, and
    iterating yields the categories in id order.

    Attributes:
        name: name of the label space, for example "cityscapes".
        categories: in id order; any sequence is stored as a tuple.

    Raises:
        InvalidLabelSpaceError: there is no category, one is not a :class:`Category`, or a name or source id occurs
            twice.
    """

    name: str
    categories: tuple[Category, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "categories", tuple(self.categories))
        for category in self.categories:
            if not isinstance(category, Category):
                raise InvalidLabelSpaceError(
                    f"label space {self.name!r}: expected categories as panscape.Category, got "
                    f"{type(category).__name__}; LabelSpace.from_names builds one from names"
                )
        if not self.categories:
            raise InvalidLabelSpaceError(f"label space {self.name!r} has no category; it needs at least one")
        for what, values in (
            ("name", [c.name for c in self.categories]),
            ("source_id", [str(c.source_id) for c in self.categories]),
        ):
            twice = sorted(value for value, times in Counter(values).items() if times > 1)
            if twice:
                raise InvalidLabelSpaceError(
                    f"label space {self.name!r}: each category needs its own {what}, given twice: {', '.join(twice)}"
                )

    def __len__(self) -> int:
        return len(self.categories)

    def __iter__(self) -> Iterator[Category]:
        return iter(self.categories)

    def __getitem__(self, category: int | str) -> Category:
        return self.categories[self.index(category) if isinstance(category, str) else category]

    def __contains__(self, category: object) -> bool:
        """Return whether a category, or one of this name, is in the label space."""
        return category in (self.names if isinstance(category, str) else self.categories)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the categories, in id order."""
        return tuple(c.name for c in self.categories)

    @property
    def things(self) -> tuple[Category, ...]:
        """The thing categories, in id order."""
        return tuple(c for c in self.categories if c.is_thing)

    @property
    def stuff(self) -> tuple[Category, ...]:
        """The stuff categories, in id order."""
        return tuple(c for c in self.categories if not c.is_thing)

    @cached_property
    def thing_ids(self) -> tuple[int, ...]:
        """Ids of the thing categories, ascending."""
        return tuple(i for i, c in enumerate(self.categories) if c.is_thing)

    @cached_property
    def stuff_ids(self) -> tuple[int, ...]:
        """Ids of the stuff categories, ascending."""
        return tuple(i for i, c in enumerate(self.categories) if not c.is_thing)

    @cached_property
    def id_of_source(self) -> Mapping[int, int]:
        """The category id for each id in the dataset's files."""
        return {c.source_id: i for i, c in enumerate(self.categories)}

    def index(self, name: str) -> int:
        """Return the id of the category called ``name``.

        Raises:
            UnknownNameError: no category has this name; the message suggests the closest names.
        """
        if name not in self.names:
            raise UnknownNameError(f"category of {self.name}", name, self.names)
        return self.names.index(name)

    def __repr__(self) -> str:
        return f"LabelSpace({self.name!r}, {len(self.things)} thing and {len(self.stuff)} stuff categories)"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{i}</td><td><span style='background:rgb{c.color};padding:0 0.8em'></span></td>"
            f"<td style='text-align:left'>{html.escape(c.name)}</td><td>{'thing' if c.is_thing else 'stuff'}</td>"
            f"<td>{c.source_id}</td></tr>"
            for i, c in enumerate(self.categories)
        )
        head = "<tr><th>id</th><th>color</th><th>name</th><th>kind</th><th>source id</th></tr>"
        return f"<p>{html.escape(repr(self))}</p><table>{head}{rows}</table>"

    @classmethod
    def from_names(cls, name: str, *, things: Sequence[str], stuff: Sequence[str] = ()) -> LabelSpace:
        """Build a label space from names: things first, source ids from 1 on, distinct colors.

        Raises:
            InvalidLabelSpaceError: there is no name, or a name is empty or occurs twice.
        """
        names = [*things, *stuff]
        return cls(name, tuple(Category(n, i < len(things), i + 1, generated_color(i)) for i, n in enumerate(names)))

    @classmethod
    def from_coco(cls, categories: Sequence[Mapping[str, Any]], name: str = "coco") -> LabelSpace:
        """Build a label space from the ``categories`` of a COCO panoptic JSON.

        Args:
            categories: ``id``, ``name`` and ``isthing`` of each, optionally ``color``.
            name: name of the label space.

        Raises:
            InvalidLabelSpaceError: a field is missing or of the wrong kind.
        """
        from panscape.formats import labels_from_coco

        return labels_from_coco(name, categories)

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists and dicts for JSON; :meth:`from_dict` reads them back."""
        return {"name": self.name, "categories": [asdict(c) for c in self.categories]}

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> LabelSpace:
        """Build a label space from the result of :meth:`to_dict`; a missing ``color`` is generated.

        Raises:
            InvalidLabelSpaceError: a field is missing or of the wrong kind.
        """
        try:
            categories = tuple(
                Category(
                    _text(c, "name"),
                    _flag(c, "is_thing"),
                    _integer(c, "source_id"),
                    _color(c["color"]) if "color" in c else generated_color(i),
                )
                for i, c in enumerate(description["categories"])
            )
            return cls(_text(description, "name"), categories)
        except InvalidLabelSpaceError:
            raise  # it is a ValueError too, with its own message
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidLabelSpaceError(
                "expected {'name', 'categories': [{'name', 'is_thing', 'source_id', 'color'}]}, "
                f"but {type(error).__name__}: {error}"
            ) from error

    @classmethod
    def load(cls, name_or_path: str | Path) -> LabelSpace:
        """Load a bundled label space by name, or one from a JSON file.

        Args:
            name_or_path: a name from :meth:`bundled`, or a path that ends in ``.json``.

        Raises:
            UnknownNameError: no bundled label space has this name.
            UnreadableFileError: the file is missing or is not JSON.
            InvalidLabelSpaceError: the JSON does not describe a label space.
        """
        path = Path(name_or_path)
        if path.suffix != ".json":
            path = _BUNDLED / f"{name_or_path}.json"
            if not path.is_file():
                raise UnknownNameError("label space", str(name_or_path), cls.bundled())
        description = load_json(path)
        try:
            return cls.from_dict(description)
        except InvalidLabelSpaceError as error:
            raise InvalidLabelSpaceError(f"{path}: {error}") from error

    @classmethod
    def of(cls, labels: LabelSpace | str | Path) -> LabelSpace:
        """Return a label space as it is, or :meth:`load` one by its name or path.

        Raises:
            InvalidArgumentError: it is neither.
            UnknownNameError: as :meth:`load`.
        """
        if isinstance(labels, LabelSpace):
            return labels
        if isinstance(labels, str | Path):
            return cls.load(labels)
        raise InvalidArgumentError(
            f"expected a LabelSpace, or the name of a bundled one such as 'cityscapes', got {shown(labels)}; "
            "LabelSpace.from_names builds one from names"
        )

    @staticmethod
    def bundled() -> list[str]:
        """Return the names of the bundled label spaces."""
        return sorted(p.stem for p in _BUNDLED.glob("*.json"))


def generated_color(index: int) -> tuple[int, int, int]:
    """Return a color for the category at ``index`` of a label space without colors."""
    # Multiples of the golden ratio modulo 2^24 are far apart for any count; the offset avoids black.
    number = (index + 1) * 10368889 % 2**24
    return 32 + (number >> 16) * 7 // 8, 32 + (number >> 8 & 255) * 7 // 8, 32 + (number & 255) * 7 // 8


def _text(fields: Mapping[str, Any], key: str) -> str:
    if not isinstance(fields[key], str):
        raise TypeError(f"{key!r} is {shown(fields[key])} instead of text")
    text: str = fields[key]
    return text


def _flag(fields: Mapping[str, Any], key: str) -> bool:
    if not is_flag(fields[key]):
        raise TypeError(f"{key!r} of {shown(fields.get('name'))} is {shown(fields[key])} instead of true or false")
    return bool(fields[key])


def _integer(fields: Mapping[str, Any], key: str) -> int:
    number = to_integer(fields[key])
    if number is None:
        raise TypeError(f"{key!r} of {shown(fields.get('name'))} is {shown(fields[key])} instead of an integer")
    return number


def _color(values: Sequence[Any]) -> tuple[int, int, int]:
    red, green, blue = (to_integer(value) for value in values)
    if red is None or green is None or blue is None:
        raise TypeError(f"'color' is {shown(values)} instead of three integers")
    return red, green, blue
