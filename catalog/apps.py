"""The Django app of this floor."""

from django.apps import AppConfig


class CatalogConfig(AppConfig):
    name = "catalog"
