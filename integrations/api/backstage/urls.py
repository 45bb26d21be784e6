"""Routes below `/api/catalog/` that read files."""

from django.urls import path

from integrations.api.backstage import views

urlpatterns = [
    path("locations", views.Locations.as_view()),
    path("locations/by-query", views.LocationsByQuery.as_view()),
    path("locations/by-entity/<str:kind>/<str:namespace>/<str:name>", views.LocationByEntity.as_view()),
    path("locations/<str:uid>", views.LocationById.as_view()),
    path("refresh", views.Refresh.as_view()),
    path("analyze-location", views.AnalyzeLocation.as_view()),
    path("validate-entity", views.ValidateEntity.as_view()),
]
