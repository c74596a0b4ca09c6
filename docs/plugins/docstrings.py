"""Prepare docstrings for the API reference: a Griffe extension that translates Sphinx roles and finds public names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

import griffe

ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod|obj):`(~?)(?:([^`<]+) <)?([^`>]+)>?`")


class Docstrings(griffe.Extension):
    """Translate roles and literal blocks to Markdown, and export the names that a package imports ``as`` themselves."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Change every docstring below the package, and the public names of its packages."""
        for item in walk(pkg):
            if item.docstring is not None:
                item.docstring.value = to_markdown(item.docstring.value, item)
            if isinstance(item, griffe.Module) and item.is_init_module:
                item.exports = public_names(item)


def walk(item: griffe.Object) -> Iterator[griffe.Object]:
    """Yield an object and all that are defined below it."""
    yield item
    for member in item.members.values():
        if isinstance(member, griffe.Object):
            yield from walk(member)


def public_names(module: griffe.Module) -> list[str]:
    """Return what a package defines in public or imports ``as`` itself; an ``__all__`` may be computed."""
    source = "\n".join(module.lines_collection[module.filepath])
    imported = [
        alias.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    ]
    declared = [name for name in module.exports or () if isinstance(name, str) and not name.startswith("__")]
    defined = [
        name
        for name, member in module.members.items()
        if isinstance(member, griffe.Function | griffe.Class) and not name.startswith("_")
    ]
    return sorted({*imported, *declared, *defined})


def to_markdown(text: str, scope: griffe.Object) -> str:
    """Return a docstring in Markdown.

    A role becomes code that links to its target if that is on a page, and the ``::`` before a literal block one colon.
    """

    def link(match: re.Match[str]) -> str:
        is_short, title, target = match.groups()
        title = title or (target.rsplit(".", 1)[-1] if is_short else target)
        return f'<autoref optional identifier="{full_path(target, scope)}"><code>{title}</code></autoref>'

    return re.sub(r"(?<=\S)::(?=\n\s*\n)", ":", ROLE.sub(link, text))


def full_path(target: str, scope: griffe.Object) -> str:
    """Return the path where the target of a role is defined; the target itself if it is not of this package."""
    first = target.split(".")[0]
    place: Any = scope
    while place is not None and first not in place.all_members:
        place = place.parent
    path = target if place is None or first == scope.package.name else f"{place.path}.{target}"
    try:
        return scope.modules_collection[path].canonical_path
    except (KeyError, griffe.AliasResolutionError):
        return path
