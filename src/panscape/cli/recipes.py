"""`panscape recipes`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from panscape.cli.printing import print_json, say, terminal_columns, wrapped
from panscape.errors import InvalidArgumentError
from panscape.serialization import to_plain

if TYPE_CHECKING:
    from panscape.recipes import RecipeInfo

_WIDE = 100  # columns of a terminal from which on the summaries stand in a column of their own


@dataclass(frozen=True)
class Recipes:
    """List the recipes for "panscape train", grouped by system and dataset, with the published PQ."""

    search: Annotated[str | None, arg(metavar="WORD")] = None
    """List only recipes with this word in their name, system, dataset or summary; case is ignored."""

    json: bool = False
    """Print one JSON object per recipe, with all published results."""

    def run(self) -> int:
        """List the recipes.

        Raises:
            InvalidArgumentError: no recipe contains the word.
        """
        from panscape.recipes import describe_recipes

        infos = [info for info in describe_recipes() if self.search is None or info.contains(self.search)]
        if not infos:
            raise InvalidArgumentError(f"no recipe contains {self.search!r}; omit --search to list all recipes")
        if self.json:
            for info in infos:
                print_json(_plain(info))
            return 0
        columns = terminal_columns()
        width = max(len(info.name) for info in infos) if columns is None or columns >= _WIDE else 0
        for system, of_system in groupby(infos, lambda info: info.system):
            say(system)
            for data, of_data in groupby(of_system, lambda info: info.data):
                say(f"  {data}")
                for info in of_data:
                    published = next(
                        (f" Published: PQ {one.metrics['PQ']}." for one in info.published if "PQ" in one.metrics), ""
                    )
                    line = f"    {info.name:<{width}}  {info.summary}{published}"
                    say(wrapped(line, hanging=width + 6))
        return 0


def _plain(info: RecipeInfo) -> dict[str, Any]:
    """Return a recipe under the keys of all commands, where "data" is a folder."""
    published = [_renamed(to_plain(result), data="dataset") for result in info.published]
    return _renamed(to_plain(info), name="recipe", data="dataset") | {"published": published}


def _renamed(content: Mapping[str, Any], **names: str) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in content.items()}
