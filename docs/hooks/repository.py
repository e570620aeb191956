"""Files beside docs/ as pages of the site: the tables and plots of results/, CONTRIBUTING.md, CHANGELOG.md.

Links are written as GitHub follows them, from file to file of the repository (`../results/digits/tables.md`);
on the site they lead to the same pages. The links of README.md, which is no page, are checked here.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)")

log = logging.getLogger("mkdocs.hooks.repository")  # warnings of "mkdocs" fail a strict build


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """The site's files and those beside docs/."""
    found = [ROOT / name for name in PAGES]
    found += sorted([*ROOT.glob("results/*/tables.md"), *ROOT.glob("results/*/*.png")])
    for path in found:
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    for target in LINK.findall((ROOT / "README.md").read_text(encoding="utf-8")):
        if not (ROOT / target).exists():
            log.warning(f"README.md links to {target}, which does not exist")
    return files


def on_page_markdown(markdown: str, page: Any, files: Any, **_: Any) -> str:
    """The page with its links as the site has them; below an experiment's tables also its plots."""
    here = page.file.src_uri
    source = here if page.file.generated_by else f"docs/{here}"
    if here.startswith("results/"):
        page.meta["hide"] = ["toc"]  # its tables are wide
        markdown += _plots(ROOT / here)

    def on_site(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[0]))
        target = path.removeprefix("docs/")
        if files.get_file_from_path(target) is None:
            return link[0]  # MkDocs says what is wrong with it
        if not (ROOT / path).is_file():
            log.warning(f"{source} links to {link[0]}, which is no file of the repository")
        return posixpath.relpath(target, posixpath.dirname(here) or ".")

    return LINK.sub(on_site, markdown)


def _plots(tables: Path) -> str:
    """The plots beside a file of tables."""
    shown = [f"![{path.stem.replace('_', ' ')}]({path.name})" for path in sorted(tables.parent.glob("*.png"))]
    return "\n\n".join(["\n\n## Plots", *shown]) + "\n" if shown else ""
