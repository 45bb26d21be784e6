"""The Django project and all that people see."""

from portal.celery import app as celery_app

__all__ = ["celery_app"]  # Django loads it, so that a task is sent to the right broker from everywhere
