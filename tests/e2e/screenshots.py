"""Pictures of every page, for people to look at: `bin/test tests/e2e/screenshots.py` writes them to build/screens/."""

from __future__ import annotations

from itertools import product

import pytest

from tests.e2e.site import PLACES, SHOTS, THEMES, Visitors, screenshot, settle

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("who", ["admin", "viewer", "nobody"])
@pytest.mark.parametrize(("theme", "width"), list(product(THEMES, (1440, 390))))
def test_pictures_are_taken(visitors: Visitors, who: str, theme: str, width: int) -> None:
    with visitors.context(who, theme=theme, width=width) as context:
        tab = context.new_page()
        for place in PLACES:
            if place.who != who:
                continue
            answer = tab.goto(visitors.path(place))
            settle(tab)
            assert answer is not None
            assert answer.status == place.status, place.name
            screenshot(tab, SHOTS / f"{place.name}-{theme}-{width}.png")
