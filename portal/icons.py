"""The icon sprite: one file with the icons that the pages use, drawn from Tabler's set.

To add an icon, write its name into `static/portico/icons.txt` (a name that ends in `-filled` means the filled
drawing) and run this file with the folder of an unpacked `@tabler/icons` package::

    python -m portal.icons node_modules/@tabler/icons

The sprite is committed, so neither set-up nor a running portal needs that package.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "static" / "portico"
LICENCE = "Icons: Tabler Icons, MIT License, (c) Paweł Kuna; see NOTICE. The mark `portico` is ours."
# The product's own mark: a roof on three columns.
MARK = (
    '<symbol id="portico" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" '
    'stroke-linecap="round" stroke-linejoin="round">'
    '<path d="M3 9l9-6 9 6M6 12v6M12 12v6M18 12v6M3 21h18"/></symbol>'
)


@cache
def icon_names() -> frozenset[str]:
    """The names of all icons in the sprite."""
    return frozenset((FOLDER / "icons.txt").read_text().split()) | {"portico"}


def build_sprite(package: Path) -> str:
    """The sprite's text: a symbol for each listed icon, taken from the package's folder.

    :raises FileNotFoundError: if the package has no icon of a listed name.
    """
    symbols = [MARK]
    for name in sorted(icon_names() - {"portico"}):
        filled = name.endswith("-filled")
        folder = "filled" if filled else "outline"
        svg = (package / "icons" / folder / f"{name.removesuffix('-filled')}.svg").read_text()
        shapes = re.sub(r"\s*<path stroke=\"none\" d=\"M0 0h24v24H0z\" fill=\"none\" />", "", svg)
        shapes = re.sub(r"\s*\n\s*", "", shapes[shapes.index(">") + 1 : shapes.index("</svg>")]).replace(
            " />", "/>"
        )
        look = (
            'fill="currentColor"'
            if filled
            else 'fill="none" stroke="currentColor" stroke-width="1.75" '
            'stroke-linecap="round" stroke-linejoin="round"'
        )
        symbols.append(f'<symbol id="{name}" viewBox="0 0 24 24" {look}>{shapes}</symbol>')
    body = "\n".join(symbols)
    return f'<svg xmlns="http://www.w3.org/2000/svg">\n<!-- {LICENCE} -->\n{body}\n</svg>\n'


if __name__ == "__main__":
    (FOLDER / "icons.svg").write_text(build_sprite(Path(sys.argv[1])))
