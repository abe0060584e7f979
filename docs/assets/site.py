"""What the site adds to the pages: repository files that they link to, the commands, and each page's twin.

The pages are written for the repository, where `../deploy/grafana/waitingroom.json` leads to a file. On the site such a
link leads to a copy of that file under `files/` (of a folder: to a list of its files), and `../README.md` to the README
as a page.
"""

from __future__ import annotations

import os
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))
from commands import page as commands_page

ROOT = Path(__file__).parents[2]
_LISTING = "files-of-this-folder.md"
PROJECT = ("README.md", "README.ko.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE")
_WIDE = {"settings.md", "drills.md"}  # tables of five columns, and terminals
_SECTIONS = {
    "Start": "시작", "Tutorial": "튜토리얼", "How-to": "하는 법", "Looking after a stack": "스택 돌보기",
    "Reference": "참조", "Explanation": "설명", "Project": "프로젝트",
}  # fmt: skip
_FENCE = re.compile(r"^(```|~~~).*?^\1$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s]+)(?=\))")
_UNSEEN = re.compile(r"^<!--.*?-->\n", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that stand outside docs/, and every file of the repository that some page links to."""
    for name in PROJECT:
        if name.endswith(".md"):
            files.append(File.generated(config, _on_site(name), abs_src_path=str(ROOT / name)))
    files.append(File.generated(config, "reference/commands.md", content=commands_page()))
    for linked in _all_linked():
        for file in _files(ROOT / linked):
            name = _on_site(str(file.relative_to(ROOT)))
            if not files.get_file_from_path(name):
                files.append(File.generated(config, name, abs_src_path=str(file)))
        if (ROOT / linked).is_dir():
            files.append(File.generated(config, _on_site(linked), content=_listing(linked)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Have links of a page lead to where their goals are on the site; leave out what only the tests read."""
    if page.file.src_uri.endswith(f"/{_LISTING}"):
        return markdown
    here = _in_repository(page.file.src_uri)

    def moved(match: re.Match[str]) -> str:
        path, hash_, anchor = match[1].partition("#")
        goal = posixpath.normpath(posixpath.join(posixpath.dirname(here), path)) if path else here
        return posixpath.relpath(_on_site(goal), posixpath.dirname(page.file.src_uri) or ".") + hash_ + anchor

    parts, end = [], 0
    for fence in _FENCE.finditer(markdown):
        parts += [_LINK.sub(moved, _UNSEEN.sub("", markdown[end : fence.start()])), fence[0]]
        end = fence.end()
    return "".join([*parts, _LINK.sub(moved, _UNSEEN.sub("", markdown[end:]))])


def on_page_context(context: Any, page: Any, config: Any, **_: Any) -> Any:
    """Have the language switch lead to this page's twin, or to the front page where it has none."""
    english = page.file.src_uri.replace(".ko.md", ".md")
    twin = english.replace(".md", ".ko.md")
    links = {"en": english, "ko": twin if (ROOT / _in_repository(twin)).exists() else "index.ko.md"}
    for one in config.extra["alternate"]:
        one["link"] = links[one["lang"]].replace(".md", ".html")
    korean = ".ko." in page.file.src_uri
    config.theme["language"] = "ko" if korean else "en"
    _name(context["nav"].items, korean=korean)
    return context


def _name(items: Any, *, korean: bool) -> None:
    """Name the navigation's sections in a page's language; the pages that they lead to keep their titles."""
    for one in items:
        if one.is_section:
            one.title = (_SECTIONS if korean else {said: name for name, said in _SECTIONS.items()}).get(
                one.title, one.title
            )
            _name(one.children, korean=korean)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Say of a Korean page that it is one, for fonts, line breaks and readers; and of a wide one."""
    output = output.replace('<html lang="en"', '<html lang="ko"', 1) if ".ko." in page.file.src_uri else output
    name = page.file.src_uri
    return output.replace("<body ", f'<body class="wide {name.removesuffix(".md")}" ', 1) if name in _WIDE else output


def _pages() -> list[Path]:
    return [*(ROOT / name for name in PROJECT if name.endswith(".md")), *(ROOT / "docs").rglob("*.md")]


def _linked(page: Path) -> set[str]:
    """Return what a page links to that is neither in docs/ nor one of the project's pages."""
    text = _FENCE.sub("", page.read_text())
    goals = {os.path.relpath(page.parent / found.partition("#")[0], ROOT) for found in _LINK.findall(text)}
    return {goal for goal in goals if _on_site(goal).startswith("files/") and (ROOT / goal).exists()}


def _all_linked() -> list[str]:
    """Return what the pages link to, and what pages among that link to in turn."""
    found: set[str] = set()
    asked = _pages()
    while asked:
        new = set().union(*(_linked(page) for page in asked)) - found
        found |= new
        asked = [file for linked in new for file in _files(ROOT / linked) if file.suffix == ".md"]
    return sorted(found)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)


def _listing(folder: str) -> str:
    names = [str(file.relative_to(ROOT / folder)) for file in _files(ROOT / folder)]
    return f"# {folder}\n\nFiles of the repository:\n\n" + "".join(f"- [{name}]({_readme(name)})\n" for name in names)


def _on_site(repository_path: str) -> str:
    """Return where a file of the repository is on the site."""
    if repository_path.startswith("docs/"):
        return repository_path.removeprefix("docs/")
    if repository_path in PROJECT and repository_path.endswith(".md"):
        return f"project/{repository_path.lower()}"
    return f"files/{_readme(repository_path)}" + (f"/{_LISTING}" if (ROOT / repository_path).is_dir() else "")


def _readme(path: str) -> str:
    """Return a name that is no index page: a README stands beside a list of its folder."""
    return re.sub(r"README\.md$", "readme.md", path)


def _in_repository(site_path: str) -> str:
    if site_path.startswith("files/"):
        return re.sub(r"readme\.md$", "README.md", site_path.removeprefix("files/"))
    found = [name for name in PROJECT if _on_site(name) == site_path]
    return found[0] if found else f"docs/{site_path}"
