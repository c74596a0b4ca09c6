"""Hooks of the documentation build: pages made from other files, and checks of the API reference."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
OUTSIDE = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}  # pages made from files of the root
log = logging.getLogger("mkdocs.plugins.panscape")  # a warning stops a strict build


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are files outside the folder of the documentation."""
    for page, name in OUTSIDE.items():
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: MkDocsConfig, **_: Any) -> str:
    """Replace ``<!-- names of PACKAGE -->`` by a table of the package's public names."""
    if page.file.src_uri.startswith("api/"):
        page.meta["search"] = {"boost": 0.5}  # results from prose come first
    return re.sub(r"<!-- names of (\S+) -->", lambda match: table_of_names(match[1], config), markdown)


def table_of_names(package: str, config: MkDocsConfig) -> str:
    """Return a table of the public names of a package with the first line of their docstrings."""
    handler = config.plugins["mkdocstrings"].get_handler("python")
    module = handler.collect(package, handler.get_options({}))
    rows = ["| name | |", "|---|---|"]
    for name in module.exports:
        item = module[name]
        if item.is_module:  # has a page of its own
            continue
        summary = item.docstring.value.split("\n\n")[0].replace("\n", " ") if item.docstring else ""
        rows.append(f"| [`{name}`][{item.canonical_path}] | {summary} |")
    return "\n".join(rows)


def on_post_page(output: str, *, page: Any, **_: Any) -> str:
    """Warn of markup that was not translated."""
    for raw in re.findall(r":(?:attr|class|data|exc|func|meth|mod|obj):<?[`c]\S*", output):
        log.warning("%s shows the role %s; see docs/plugins/docstrings.py", page.file.src_uri, raw)
    return output


def on_env(env: Any, *, config: MkDocsConfig, **_: Any) -> Any:
    """Warn of public names that no page of the API reference documents."""
    handler = config.plugins["mkdocstrings"].get_handler("python")
    autorefs = config.plugins["autorefs"]
    root = handler.collect("panscape", handler.get_options({}))
    for module in (root, *root.modules.values()):
        if not module.is_init_module or module.name == "cli":
            continue
        for name in module.exports:
            if module[name].is_module:
                continue
            try:
                autorefs.get_item_url(module[name].canonical_path)
            except KeyError:
                log.warning("%s.%s is public, but has no docstring or no page below docs/api/", module.path, name)
    return env
