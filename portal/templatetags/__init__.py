"""Template tags of the portal's look; `docs/ui-components.md` lists them."""
