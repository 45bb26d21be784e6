"""A grant whose scope is a query."""

import pytest

from access.services import grant
from base.errors import DomainError


@pytest.mark.parametrize("query", ["", "  ", "(", "kind:", 'name:"open'])
def test_a_wrong_query_is_refused_when_it_is_granted(no_access, query):
    with pytest.raises(DomainError):
        grant(role="viewer", user=no_access, scope_type="query", scope=query)
    assert not no_access.grants.exists()


def test_a_query_is_granted_as_it_was_typed(no_access):
    made = grant(role="viewer", user=no_access, scope_type="query", scope=" kind:component tag:java ")
    assert made.scope == "kind:component tag:java"
