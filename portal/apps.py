"""The Django app of this floor."""

from django.apps import AppConfig


class PortalConfig(AppConfig):
    name = "portal"
