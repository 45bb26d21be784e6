"""Routes of the settings pages."""

urlpatterns: list = []
