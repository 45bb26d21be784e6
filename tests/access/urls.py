"""The routes of this floor alone, and a stand-in for the portal's page of a sign-in link."""

from django.contrib import admin
from django.http import HttpResponse
from django.urls import include, path

portal = (
    [path("sign-in/<str:token>/", lambda request, token: HttpResponse(), name="sign-in-link")],
    "portal",
)

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/v1/", include("access.api.urls")),
    path("", include(portal)),
]
