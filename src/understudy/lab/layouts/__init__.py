"""The layouts, one file each."""

from understudy.errors import UsageError
from understudy.lab.layout import Layout
from understudy.lab.layouts.cluster import Cluster
from understudy.lab.layouts.enterprise import Enterprise
from understudy.lab.layouts.sentinel import Sentinel
from understudy.lab.layouts.standalone import Standalone

LAYOUTS: dict[str, Layout] = {
    layout.name: layout for layout in (Standalone(), Sentinel(), Cluster(), Enterprise())
}


def find_layout(name: str) -> Layout:
    """Return a layout by its name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in LAYOUTS:
        raise UsageError(
            f"looking for the layout {name!r}", "there is none of that name", f"One of: {', '.join(LAYOUTS)}."
        )
    return LAYOUTS[name]
