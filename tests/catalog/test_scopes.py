"""A grant whose scope is a query."""

import pytest

from access.permissions import changing_access
from access.services import grant
from base.errors import DomainError
from tests.catalog.saying import component, say


@pytest.mark.parametrize("query", ["", "  ", "(", "kind:", 'name:"open'])
def test_a_wrong_query_is_refused_when_it_is_granted(no_access, query):
    with pytest.raises(DomainError):
        grant(role="viewer", user=no_access, scope_type="query", scope=query)
    assert not no_access.grants.exists()


def test_a_query_is_granted_as_it_was_typed(no_access):
    made = grant(role="viewer", user=no_access, scope_type="query", scope=" kind:component tag:java ")
    assert made.scope == "kind:component tag:java"


def test_a_query_that_makes_no_sense_any_more_reaches_nothing(core_pack, no_access, client):
    say("yaml:a", component("pay"))
    made = grant(role="viewer", user=no_access, scope_type="query", scope="kind:component")
    client.force_login(no_access)
    assert client.get("/api/v1/entities/").json()["total"] == 1
    for text in ("kind:gone", "-goneTo:pay"):
        with changing_access():  # as if its kind or relation had been taken away since
            type(made).objects.filter(pk=made.pk).update(scope=text)
        answer = client.get("/api/v1/entities/")
        assert (answer.status_code, answer.json()["total"]) == (200, 0), text
