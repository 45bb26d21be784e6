"""The Django app of this floor."""

from django.apps import AppConfig


class AccessConfig(AppConfig):
    name = "access"

    def ready(self) -> None:
        """Register what other floors find by name."""
        from access import roles  # noqa: F401 - needs the models, which are loaded by now
