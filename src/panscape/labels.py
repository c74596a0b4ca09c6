"""Categories and the label spaces that order them.

A category's id is its index in its :class:`LabelSpace`, ``0 .. K-1``. The ids of a dataset's files (``source_id``) are
used only by :mod:`panscape.formats` and by readers of datasets.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any

from panscape.errors import InvalidArgumentError, InvalidLabelSpaceError, UnknownNameError, shown
from panscape.input_files import is_flag, load_json, to_integer, to_path

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
        checks: tuple[tuple[bool, str, object], ...] = (
            (isinstance(self.name, str) and self.name != "", "a name as text", self.name),
            (self.is_thing in (False, True), "is_thing as True or False", self.is_thing),
            (isinstance(self.source_id, Integral), "an integer source_id", self.source_id),
            (_is_color(self.color), "a color of three integers in 0..255", self.color),
        )
        for is_valid, what, value in checks:
            if not is_valid:
                raise InvalidLabelSpaceError(f"category {shown(self.name)}: expected {what}, got {shown(value)}")


@dataclass(frozen=True)
class LabelSpace:
    """An ordered set of categories; a category's id is its index.

    ``labels["car"]`` and ``labels[13]`` are a category, ``"car" in labels`` and ``13 in labels`` are whether there is
    one of this name or id, and iterating yields the categories in id order.

    Attributes:
        name: name of the label space, for example "cityscapes".
        categories: in id order; any sequence is stored as a tuple.

    Raises:
        InvalidLabelSpaceError: the name is no text, there is no category, one is not a :class:`Category`, or a name or
            source id occurs twice.
    """

    name: str
    categories: tuple[Category, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not isinstance(self.categories, Iterable):
            raise InvalidLabelSpaceError(
                f"expected a name and a sequence of categories, got {shown(self.name)} and {shown(self.categories)}"
            )
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
        """Return whether a category, or one of this name or id, is in the label space."""
        if isinstance(category, Integral):
            return 0 <= int(category) < len(self)
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

    @cached_property
    def same_colors(self) -> tuple[tuple[str, ...], ...]:
        """Names of the categories that share a color, in groups."""
        names_of: dict[tuple[int, int, int], list[str]] = {}
        for category in self.categories:
            names_of.setdefault(category.color, []).append(category.name)
        return tuple(tuple(names) for names in names_of.values() if len(names) > 1)

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

        Args:
            name: of the label space.
            things: names of the thing categories.
            stuff: names of the stuff categories.

        Raises:
            InvalidLabelSpaceError: there is no name, or a name is empty, no text, or occurs twice.
        """
        are_sequences = all(isinstance(n, Iterable) and not isinstance(n, str) for n in (things, stuff))
        if not isinstance(name, str) or not are_sequences:
            raise InvalidLabelSpaceError(
                "expected the name of the label space and sequences of category names, as in "
                f"from_names('mine', things=['car'], stuff=['road']), got {shown(name)}, things={shown(things)} and "
                f"stuff={shown(stuff)}"
            )
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

        COCO's names of the fields, ``id`` and ``isthing``, are accepted too.

        Raises:
            InvalidLabelSpaceError: a field is missing or of the wrong kind.
        """
        return _from_json(description, None)

    @classmethod
    def load(cls, name_or_path: str | Path) -> LabelSpace:
        """Load a bundled label space by name, or one from a JSON file.

        A file contains the result of :meth:`to_dict`, or something simpler: categories with COCO's names of the fields
        (``id``, ``name``, ``isthing``), alone or as ``categories`` of an object; or names only, in a list (source ids
        from 0 on) or by source id (``{"0": "road", "7": "car"}``). Names alone are stuff.

        Args:
            name_or_path: a name from :meth:`bundled`, or a path that ends in ``.json``.

        Raises:
            UnknownNameError: no bundled label space has this name.
            UnreadableFileError: the file is missing or is not JSON.
            InvalidArgumentError: ``name_or_path`` is empty, or neither text nor a path.
            InvalidLabelSpaceError: the JSON does not describe a label space.
        """
        path = to_path(name_or_path, "a label space's name or path")
        if path.suffix.lower() != ".json":
            path = _BUNDLED / f"{name_or_path}.json"
            if not path.is_file():
                raise UnknownNameError("label space", str(name_or_path), cls.bundled())
        description = load_json(path)
        try:
            return _from_json(description, path.stem)
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


_EXPECTED = (
    "expected {'name', 'categories': [{'name', 'is_thing', 'source_id'}, ...]}, a color of each category is optional; "
    'or a list of such categories or of names; or {"0": name, ...}'
)
_COCO_FIELD = {"source_id": "id", "is_thing": "isthing"}


def _from_json(description: object, name: str | None) -> LabelSpace:
    """Return the label space in a JSON; ``name`` is used if the JSON has none, and allows the simpler forms."""
    fields = description if isinstance(description, Mapping) else {"categories": description}
    if name is not None and "categories" not in fields and all(str(key).isdecimal() for key in fields):
        fields = {"categories": [_numbered(int(number), text) for number, text in fields.items()]}
    given, categories = fields.get("name", name), fields.get("categories")
    if not isinstance(given, str) or not isinstance(categories, list | tuple):
        raise InvalidLabelSpaceError(f"{_EXPECTED}; got {shown(description)}")
    return LabelSpace(given, tuple(_category(i, c, is_name_enough=name is not None) for i, c in enumerate(categories)))


def _numbered(number: int, name: object) -> dict[str, object]:
    return {"name": name, "is_thing": False, "source_id": number}


def _category(position: int, description: object, *, is_name_enough: bool) -> Category:
    if is_name_enough and isinstance(description, str):
        description = _numbered(position, description)
    if not isinstance(description, Mapping):
        raise InvalidLabelSpaceError(f"{_EXPECTED}; got {shown(description)} as category {position}")
    source = to_integer(_field(description, "source_id"))
    if source is None:
        raise _wrong_field(description, "source_id", "an integer")
    if not is_flag(_field(description, "is_thing")):
        raise _wrong_field(description, "is_thing", "true for countable objects, else false")
    if not isinstance(description.get("name"), str):
        raise _wrong_field(description, "name", "text")
    color = description.get("color")
    if color is None:
        color = generated_color(position)
    elif isinstance(color, list | tuple):
        color = tuple(to_integer(value) for value in color)
    return Category(description["name"], bool(_field(description, "is_thing")), source, color)


def _field(description: Mapping[str, Any], key: str) -> object:
    return description.get(key, description.get(_COCO_FIELD[key]))


def _wrong_field(description: Mapping[str, Any], key: str, expected: str) -> InvalidLabelSpaceError:
    value = description.get(key, description.get(_COCO_FIELD.get(key, key)))
    got = "it is missing" if value is None else f"got {shown(value)}"
    return InvalidLabelSpaceError(
        f"expected {key!r} of every category as {expected}, {got} in {shown(dict(description))}"
    )


def _is_color(value: object) -> bool:
    return (
        isinstance(value, tuple | list)
        and len(value) == 3
        and all(isinstance(c, int) and not isinstance(c, bool) and 0 <= c <= 255 for c in value)
    )
