"""Routes below `/api/catalog/`."""

from django.urls import path

from catalog.api.backstage import views

_NAMED = "entities/by-name/<str:kind>/<str:namespace>/<str:name>"

urlpatterns = [
    path("entities", views.Entities.as_view()),
    path("entities/by-uid/<str:uid>", views.EntityByUid.as_view()),
    path(_NAMED, views.EntityByName.as_view()),
    path(f"{_NAMED}/ancestry", views.Ancestry.as_view()),
    path("entities/by-refs", views.EntitiesByRefs.as_view()),
    path("entities/by-query", views.EntitiesByQuery.as_view()),
    path("entity-facets", views.EntityFacets.as_view()),
    path("openapi.json", views.Description.as_view()),
    path("<path:rest>", views.not_here),
]
