"""Hooks of mkdocs.yml: pages keep their paths in the repository, so that relative links also work on the site, and the
finished site may load nothing from other hosts."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "LICENSE",
    "scoring/guards/README.md",
    "scoring/adapters/support-tickets/README.md",
)
LOADED = re.compile(r"""(?:\bsrc=|<link\b[^>]*\bhref=|url\()["']?(?:https?:)?//[^"')>\s]*|class="mermaid[^>]*""")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages of the site: PAGES, examples/ and docs/, under their paths in the repository."""
    pages = [ROOT / name for name in PAGES if (ROOT / name).exists()]
    pages += sorted((ROOT / "examples").glob("*.*"))
    pages += [path for path in sorted((ROOT / "docs").rglob("*")) if path.is_file() and path.suffix != ".py"]
    own = Path(config.docs_dir)
    theme_files = [file for file in files if not Path(file.abs_src_path or "/").is_relative_to(own)]
    page_files = [
        File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path))
        for path in pages
        if "__pycache__" not in path.parts
    ]
    return Files([*theme_files, *page_files])


def on_post_build(config: MkDocsConfig) -> None:
    """Raises PluginError if a page or style sheet loads anything from another host."""
    for path in sorted(Path(config.site_dir).rglob("*")):
        if path.suffix in (".html", ".css") and (match := LOADED.search(path.read_text("utf-8"))) is not None:
            raise PluginError(f"{path}: loads {match[0]}")
