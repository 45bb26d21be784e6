"""Routes of this floor below `/api/v1/`."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from access.api import views

router = SimpleRouter()
router.register("users", views.UserViewSet, basename="user")
router.register(r"users/(?P<username>[^/]+)/tokens", views.UserTokenViewSet, basename="user-token")
router.register(r"users/(?P<username>[^/]+)/identities", views.UserIdentityViewSet, basename="user-identity")
router.register("invitations", views.InvitationViewSet, basename="invitation")
router.register("groups", views.GroupViewSet, basename="group")
router.register("roles", views.RoleViewSet, basename="role")
router.register("grants", views.GrantViewSet, basename="grant")
router.register("tokens", views.TokenViewSet, basename="token")
router.register("changes", views.ChangeViewSet, basename="change")
router.register("audit", views.AuditViewSet, basename="audit")

urlpatterns = [path("me/", views.MeView.as_view(), name="me"), *router.urls]
