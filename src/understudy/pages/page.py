"""Make a page: one HTML file that needs nothing else, from a template that extends `base.html`."""

from __future__ import annotations

import secrets
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from understudy import __version__
from understudy.errors import UnreachableError
from understudy.pages import charts, figures

TEMPLATES = Path(__file__).parent / "templates"


@cache
def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader([folder, TEMPLATES]), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"size": figures.size, "seconds": figures.seconds, "precise": figures.precise}
    environment.globals |= {
        "count": figures.count,
        "rate": figures.rate,
        "bars": charts.bars,
        "timeline": charts.timeline,
        "strip": charts.strip,
        "version": __version__,
    }
    return environment


def render(template: Path, **values: Any) -> str:
    """Return the page that a template makes of these values; everything but markup of ours is escaped.

    Beside its own folder the template finds `base.html`, `parts.html` and `dom.js` of this one. A value that it names
    and nobody gave is an error, not a gap in the page.
    """
    return _environment(template.parent).get_template(template.name).render(**values)


def write(path: Path, page: str) -> None:
    """Put a page where `path` says, replacing an older one in a single step; a link, device or pipe is written through.

    Raises:
        UnreachableError: it cannot be written there.
    """
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):  # `/dev/stdout` must stay what it is
            path.write_text(page, encoding="utf-8")
            return
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise UnreachableError(
            f"writing {path}", error.strerror or str(error), "Check the directory's rights and space."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
