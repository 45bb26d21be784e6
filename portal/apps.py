"""The Django app of this floor."""

from django.apps import AppConfig


class PortalConfig(AppConfig):
    name = "portal"

    def ready(self) -> None:
        from portal import pack_undo, pages, saved_views
        from portal.sample import undo
        from portal.widgets import load_widgets

        load_widgets()
        pages.register_pages()
        saved_views.register_views()
        undo.register()
        pack_undo.register()
