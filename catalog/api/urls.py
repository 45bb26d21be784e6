"""Routes of the catalog below `/api/v1/`."""

from django.urls import path

from catalog.api import graph, people, search, views

NAMES = "<str:namespace>/<str:kind>/<str:name>/"

urlpatterns = [
    path("entities/", views.EntityList.as_view(), name="entities"),
    path("entities/fields/", views.EntityFields.as_view(), name="entity-fields"),
    path("entities/owners/", views.EntityOwners.as_view(), name="entity-owners"),
    path("entities/<uuid:uid>/", views.EntityByUid.as_view(), name="entity-by-uid"),
    path(f"entities/{NAMES}", views.EntityDetail.as_view(), name="entity"),
    path(f"entities/{NAMES}history/", views.EntityHistory.as_view(), name="entity-history"),
    path(
        f"entities/{NAMES}history/<int:number>/restore/",
        views.EntityRestore.as_view(),
        name="entity-restore",
    ),
    path("history/", views.HistoryList.as_view(), name="history"),
    path(f"entities/{NAMES}failing/", views.EntityFailing.as_view(), name="entity-failing"),
    path(f"entities/{NAMES}provenance/", views.EntityProvenance.as_view(), name="entity-provenance"),
    path(f"entities/{NAMES}deletion/", views.EntityDeletion.as_view(), name="entity-deletion"),
    path(f"entities/{NAMES}merge/", views.EntityMerge.as_view(), name="entity-merge"),
    path(f"entities/{NAMES}impact/", graph.EntityImpact.as_view(), name="entity-impact"),
    path("graph/", graph.Graph.as_view(), name="graph"),
    path("graph/cycles/", graph.Cycles.as_view(), name="graph-cycles"),
    path("graph/orphans/", graph.Orphans.as_view(), name="graph-orphans"),
    path("names/", views.NameList.as_view(), name="names"),
    path(f"names/{NAMES}", views.NameDetail.as_view(), name="name"),
    path(f"names/{NAMES}owner/", views.NameOwner.as_view(), name="name-owner"),
    path("kinds/", views.KindList.as_view(), name="kinds"),
    path("relations/", views.RelationTypeList.as_view(), name="relations"),
    path("ties/", views.TieList.as_view(), name="ties"),
    path("ties/<int:tie_id>/", views.TieDetail.as_view(), name="tie"),
    path("activity/", views.ActivityList.as_view(), name="activity"),
    path("activity/<int:activity_id>/", views.ActivityDetail.as_view(), name="activity-detail"),
    path("problems/", views.ProblemList.as_view(), name="problems"),
    path("problems/snooze/", views.ProblemSnooze.as_view(), name="problems-snooze"),
    path("me/person/", people.OwnPerson.as_view(), name="own-person"),
    path("users/<str:username>/person/", people.PersonOfUser.as_view(), name="user-person"),
    path("person-claims/", people.PersonClaimList.as_view(), name="person-claims"),
    path("person-claims/<str:username>/", people.PersonClaim.as_view(), name="person-claim"),
    path("search", search.Search.as_view(), name="search"),
    path("feed", views.Feed.as_view(), name="feed"),
    path("feed/events", views.FeedEvents.as_view(), name="feed-events"),
]
