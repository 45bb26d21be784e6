"""Routes of the portal's own below `/api/v1/`."""

from django.urls import path

from catalog.api.urls import NAMES
from portal.api import kinds, own, saved, views, watches, whole

urlpatterns = [
    path("pages/", views.PageList.as_view(), name="pages"),
    path("views/", saved.SavedViewList.as_view(), name="views"),
    path("views/<int:view_id>/", saved.SavedViewDetail.as_view(), name="view"),
    path("views/<int:view_id>/restore/", saved.SavedViewRestore.as_view(), name="view-restore"),
    path("watches/", watches.WatchList.as_view(), name="watches"),
    path("watches/<int:watch_id>/", watches.WatchDetail.as_view(), name="watch"),
    path("watches/<int:watch_id>/restore/", watches.WatchRestore.as_view(), name="watch-restore"),
    path("notices/", watches.NoticeList.as_view(), name="notices"),
    path("notices/read/", watches.NoticesRead.as_view(), name="notices-read"),
    path("notices/<int:notice_id>/", watches.NoticeDetail.as_view(), name="notice"),
    path("pages/<str:name>/", views.PageDetail.as_view(), name="page"),
    path("fields/", kinds.FieldList.as_view(), name="fields"),
    path("fields/<str:name>/", kinds.FieldDetail.as_view(), name="field"),
    path("fields/<str:name>/impact/", kinds.FieldImpact.as_view(), name="field-impact"),
    path("relations/<str:name>/", kinds.RelationTypeDetail.as_view(), name="relation-type"),
    path("kinds/<str:kind>/changes/", kinds.KindChanges.as_view(), name="kind-changes"),
    path("kind-changes/<int:change_id>/", kinds.KindChangeDetail.as_view(), name="kind-change"),
    path("kind-changes/<int:change_id>/check/", kinds.KindChangeCheck.as_view(), name="kind-change-check"),
    path("kind-changes/<int:change_id>/apply/", kinds.KindChangeApply.as_view(), name="kind-change-apply"),
    path("kinds/<str:kind>/fields/", kinds.KindFields.as_view(), name="kind-fields"),
    path("favourites/", own.FavouriteList.as_view(), name="favourites"),
    path(f"favourites/{NAMES}", own.Favourite.as_view(), name="favourite"),
    path("definitions/", whole.DefinitionList.as_view(), name="definitions"),
    path(
        "definitions/<str:kind>/<str:name>/restore/",
        whole.DefinitionRestore.as_view(),
        name="definition-restore",
    ),
    path("sample/", whole.Sample.as_view(), name="sample"),
]
