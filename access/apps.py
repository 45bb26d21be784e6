"""The Django app of this floor."""

from django.apps import AppConfig


class AccessConfig(AppConfig):
    name = "access"
