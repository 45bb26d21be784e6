"""Routes of the connections pages."""

urlpatterns: list = []
