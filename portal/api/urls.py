"""Routes of pages below `/api/v1/`."""

from django.urls import path

from portal.api import views

urlpatterns = [
    path("pages/", views.PageList.as_view(), name="pages"),
    path("pages/<str:name>/", views.PageDetail.as_view(), name="page"),
]
