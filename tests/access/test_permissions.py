from types import SimpleNamespace

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db.models import Q

from access import permissions
from access.models import AccessVersion, ApiToken, AuditEvent, Grant, Group, ScopeType, SignInLink, User
from access.permissions import Scope, can, covers, register_scope, register_thing, require, visible
from access.services import (
    authenticate_token,
    change_user,
    create_group,
    create_token,
    create_user,
    grant,
    revoke,
    set_members,
)
from access.verbs import VERBS, Verb, register_verb
from base.errors import Forbidden


def in_namespaces(scopes):
    return Q(name__in=[scope.text for scope in scopes if scope.type == ScopeType.NAMESPACE])


@pytest.fixture
def places(db, monkeypatch):
    """Rows that lie in a namespace, for which access groups stand in: one in `here`, one in `elsewhere`."""
    monkeypatch.setitem(permissions._limits, Group, permissions._Limit(in_namespaces, "entity.read", None))
    return {name: Group.objects.create(name=name) for name in ("here", "elsewhere")}


def seen(user, queryset=None):
    return [row.name for row in visible(user, Group.objects.order_by("id") if queryset is None else queryset)]


def with_token(user, **more):
    return authenticate_token(create_token(user=user, name="test", **more).text)


def test_each_role_may_what_it_says_and_no_more(ana, ben, vic, no_access):
    assert all(can(ana, verb) for verb in VERBS)
    assert can(ben, "entity.write")
    assert not can(ben, "connection.write")
    assert can(vic, "entity.read")
    assert not can(vic, "entity.write")
    assert not any(can(no_access, verb) for verb in VERBS)
    assert not any(can(AnonymousUser(), verb) for verb in VERBS)


def test_a_verb_that_does_not_exist_is_a_bug(ana):
    with pytest.raises(KeyError):
        can(ana, "entity.raed")


def test_the_reach_of_a_grant(places, vic, cleo, no_access):
    assert seen(vic) == ["here", "elsewhere"]
    assert seen(cleo) == ["elsewhere"]
    assert seen(no_access) == seen(AnonymousUser()) == []
    assert can(cleo, "entity.read", places["elsewhere"])
    assert not can(cleo, "entity.read", places["here"])
    assert can(vic, "entity.read", places["here"])


def test_grants_add_up(places, cleo):
    grant(role="viewer", user=cleo, scope_type="namespace", scope="Here")
    assert seen(cleo) == ["here", "elsewhere"]


def test_reach_is_kept_per_verb(places, cleo):
    grant(role="editor", user=cleo, scope_type="namespace", scope="here")
    assert can(cleo, "entity.write", places["here"])
    assert not can(cleo, "entity.write", places["elsewhere"])
    assert seen(cleo) == ["here", "elsewhere"]
    assert [row.name for row in visible(cleo, Group.objects.all(), "entity.write")] == ["here"]


def test_an_unrestricted_query_is_left_alone(places, vic):
    queryset = Group.objects.order_by("id")
    assert visible(vic, queryset) is queryset


def test_a_model_that_nobody_registered_is_hidden_from_the_limited(places, vic, cleo):
    assert AccessVersion not in permissions._limits
    assert visible(vic, AccessVersion.objects.all()).exists()
    assert not visible(cleo, AccessVersion.objects.all()).exists()
    assert not can(cleo, "entity.read", AccessVersion.objects.get())


def test_what_concerns_the_whole_portal_takes_a_grant_for_everything(places, cleo):
    grant(role="administrator", user=cleo, scope_type="namespace", scope="elsewhere")
    assert can(cleo, "entity.write", places["elsewhere"])
    for verb in ("user.write", "connection.write", "pack.write", "audit.read", "*"):
        assert not can(cleo, verb)
        assert not can(cleo, verb, places["elsewhere"])
    assert not visible(cleo, AuditEvent.objects.all()).exists()
    assert not cleo.is_staff


def test_sensitive_rows_take_verbs_of_their_own(ana, ben, vic):
    with_token(ana)
    assert list(visible(vic, User.objects.all())) == [vic]
    assert not visible(ben, ApiToken.objects.all()).exists()
    assert not visible(ben, AuditEvent.objects.all()).exists()
    assert not visible(ben, SignInLink.objects.all()).exists()
    assert visible(ana, AuditEvent.objects.all()).exists()
    assert visible(ana, User.objects.all()).count() == 3


def test_things_that_are_no_rows(vic, cleo, monkeypatch):
    class Place(SimpleNamespace):
        pass

    monkeypatch.setattr(permissions, "_things", {})
    assert can(vic, "entity.read", Place(namespace="here"))
    assert not can(cleo, "entity.read", Place(namespace="elsewhere"))
    register_thing(Place, lambda place, scopes: any(place.namespace == scope.text for scope in scopes))
    assert can(cleo, "entity.read", Place(namespace="elsewhere"))
    assert not can(cleo, "entity.read", Place(namespace="here"))


def test_groups_grant(roles, no_access):
    group = create_group(name="builders", members=[no_access])
    held = grant(role="editor", group=group)
    assert can(no_access, "entity.write")
    set_members(group, members=[])
    assert not can(no_access, "entity.write")
    set_members(group, members=[no_access])
    revoke(held)
    assert not can(no_access, "entity.write")


def test_an_inactive_account_may_nothing(ana, ben):
    assert can(ben, "entity.write")
    change_user(ben, is_active=False, by=ana)
    assert not can(ben, "entity.write")


class TestTokens:
    def test_an_administrators_viewer_token_is_a_viewer_everywhere(self, places, ana):
        user = with_token(ana, role="viewer")
        assert can(user, "entity.read", places["here"])
        assert not any(
            can(user, verb) for verb in ("entity.write", "user.write", "user.read", "audit.read", "*")
        )
        assert not visible(user, AuditEvent.objects.all()).exists()
        assert list(visible(user, User.objects.all())) == [ana]
        assert can(ana, "entity.write")

    def test_a_token_without_a_role_may_what_its_person_may(self, vic):
        user = with_token(vic)
        assert can(user, "entity.read")
        assert not can(user, "entity.write")

    def test_a_tokens_scope_narrows_what_the_person_reaches(self, places, vic, cleo):
        assert seen(with_token(vic, scope_type="namespace", scope="here")) == ["here"]
        assert seen(with_token(cleo, scope_type="namespace", scope="here")) == []
        assert seen(with_token(cleo)) == ["elsewhere"]

    def test_a_scoped_token_of_an_administrator_administers_nothing(self, ana):
        user = with_token(ana, scope_type="namespace", scope="here")
        assert can(user, "entity.write")
        assert not can(user, "user.write")

    def test_a_token_loses_what_its_person_loses(self, ana, ben):
        text = create_token(user=ben, name="ci", role="editor").text
        assert can(authenticate_token(text), "entity.write")
        revoke(ben.grants.get())
        assert not can(authenticate_token(text), "entity.read")

    def test_a_token_makes_no_tokens(self, ana):
        assert can(ana, "token.write")
        assert not can(with_token(ana), "token.write")

    def test_the_sentence_names_the_token(self, ana):
        user = with_token(ana, role="viewer")
        with pytest.raises(Forbidden, match=user.token.prefix):
            require(user, "entity.write")
        with pytest.raises(Forbidden, match="person who is signed in"):
            require(user, "token.write")


def test_the_sentence_says_what_is_missing_and_who_grants_it(ana, vic):
    with pytest.raises(Forbidden) as caught:
        require(vic, "entity.write")
    assert caught.value.extra == {"verb": "entity.write"}
    for word in ("entity.write", "“Administrator” or “Editor”", "Ana Ruiz can grant"):
        assert word in caught.value.message
    require(ana, "entity.write")


def test_covers_means_having_it_there(ana, ben, cleo):
    everywhere, elsewhere = Scope("all"), Scope("namespace", "elsewhere")
    assert covers(ana, ["*"], everywhere)
    assert covers(ben, ["entity.write"], elsewhere)
    assert not covers(ben, ["entity.write", "user.write"], elsewhere)
    assert covers(cleo, ["entity.read"], elsewhere)
    assert not covers(cleo, ["entity.read"], everywhere)
    assert covers(with_token(ana), ["token.write"], everywhere)


class TestMemory:
    def test_a_hot_question_costs_no_query(self, vic, django_assert_num_queries, monkeypatch):
        monkeypatch.setattr(permissions.cache, "seconds", 60)
        text = create_token(user=vic, name="hot").text
        can(authenticate_token(text), "entity.read")
        with django_assert_num_queries(0):
            for _ in range(20):
                assert can(authenticate_token(text), "entity.read")
                assert not can(vic, "entity.write")

    def test_a_cold_question_costs_two(self, vic, django_assert_num_queries):
        permissions.cache.clear()
        with django_assert_num_queries(2):  # 1 the version, 2 the grants
            can(vic, "entity.read")

    def test_another_processs_change_is_seen_when_the_version_is_looked_at(self, ben, monkeypatch):
        monkeypatch.setattr(permissions.cache, "seconds", 60)
        assert can(ben, "entity.write")
        with monkeypatch.context() as other:  # as another process: our own memory hears nothing
            other.setattr(permissions, "cache", permissions.AccessCache())
            revoke(ben.grants.get())
        assert can(ben, "entity.write")
        monkeypatch.setattr(permissions.cache, "seconds", 0)
        assert not can(ben, "entity.write")

    def test_a_change_that_is_taken_back_leaves_no_trace(self, vic):
        def change_and_fail():
            with permissions.changing_access():
                grant(role="editor", user=vic)
                assert can(vic, "entity.write")
                raise RuntimeError

        with pytest.raises(RuntimeError):
            change_and_fail()
        assert not can(vic, "entity.write")

    def test_what_was_loaded_before_a_change_is_not_kept(self, db):
        cache = permissions.AccessCache(seconds=60)

        def load():
            cache.clear()  # a change commits while we read
            return "old"

        assert cache.get("key", load) == "old"
        assert cache.get("key", lambda: "new") == "new"

    def test_the_memory_is_bounded(self, db):
        cache = permissions.AccessCache(seconds=60, size=3)
        for number in range(10):
            cache.get(number, lambda number=number: number)
        assert len(cache._entries) == 3

    def test_the_account_in_memory_is_not_the_requests(self, vic):
        text = create_token(user=vic, name="t").text
        authenticate_token(text).name = "changed"
        assert authenticate_token(text).name == "Vic Lind"


def test_registering(monkeypatch):
    monkeypatch.setattr(permissions, "_limits", {})
    register_scope(Group, in_namespaces)
    assert permissions._limits[Group].verb == "entity.read"
    known = VERBS["entity.read"]
    register_verb(known)
    with pytest.raises(ValueError, match="another verb"):
        register_verb(Verb("entity.read", "Something else"))
    assert VERBS["entity.read"] is known


def test_a_grant_of_a_plugins_verb_that_is_gone_hurts_nobody(ana, vic, roles):
    spec = {**roles["viewer"].spec, "verbs": ["entity.read", "gone.write"]}
    type(roles["viewer"]).objects.filter(name="viewer").update(spec=spec)
    permissions.cache.clear()
    assert can(vic, "entity.read")
    assert grant(role="viewer", user=create_user(username="dora"), by=ana)
    assert Grant.objects.count() == 3
