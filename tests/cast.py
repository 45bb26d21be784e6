"""The fixed cast of the tests: ana owns, ben is on her team, cleo may not see.

Ana is an administrator, ben an editor of everything, vic a viewer of everything, and cleo a viewer of the
namespace `elsewhere` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.cache import cache as django_cache
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from access import definitions as access_definitions
from access import permissions
from access.definitions import Definition
from access.models import Role, User
from access.roles import ROLES
from access.services import create_token, create_user, grant
from catalog import queries as catalog_queries

PASSWORD = "a green bicycle in the rain"
ROLES_FILE = Path(__file__).resolve().parent.parent / "packs" / "core" / "roles.yaml"


@pytest.fixture(autouse=True)
def access_cache() -> Iterator[permissions.AccessCache]:
    """Nothing that one test knows of who may do what, or of what was delivered, reaches the next one."""
    permissions.cache.clear()
    catalog_queries.forget_delivered_types()
    yield permissions.cache
    permissions.cache.clear()


class Definitions:
    """What packs bring, written by the statements that wrote it first: applying a pack is dear."""

    def __init__(self) -> None:
        self._statements: dict[str, str] = {}

    def write(self, what: str, apply: Callable[[], object], models: Sequence[type[Definition]]) -> None:
        """Write the definitions that something applies, but for those that are there."""
        if what not in self._statements:
            self._statements[what] = self._statements_of(apply, models)
        with connection.cursor() as cursor:
            cursor.execute(self._statements[what])

    def _statements_of(self, apply: Callable[[], object], models: Sequence[type[Definition]]) -> str:
        with transaction.atomic():
            apply()
            found = {model: list(model._default_manager.filter(pack="core")) for model in models}
            with CaptureQueriesContext(connection) as written:
                for model, rows in found.items():
                    for row in rows:
                        row.pk = None
                    model._default_manager.bulk_create(rows, ignore_conflicts=True)
            transaction.set_rollback(True)
        return ";".join(one["sql"] for one in written if one["sql"].startswith("INSERT"))


@pytest.fixture(scope="session")
def definitions() -> Definitions:
    return Definitions()


@pytest.fixture(scope="session", autouse=True)
def unhurried_counts() -> Iterator[None]:
    """What a process keeps for a second is kept for as long as statements are counted, however busy the machine is."""
    enter, leave = CaptureQueriesContext.__enter__, CaptureQueriesContext.__exit__
    kept = (
        (permissions.cache, "seconds"),
        (access_definitions, "STAMP_SECONDS"),
        (catalog_queries._Delivered, "SECONDS"),
    )

    def begin(self: Any) -> Any:
        self.seconds = [getattr(*one) for one in kept]
        for owner, name in kept:
            setattr(owner, name, 3600.0)
        return enter(self)

    def end(self: Any, *error: Any) -> None:
        for (owner, name), seconds in zip(kept, self.seconds, strict=True):
            setattr(owner, name, seconds)
        leave(self, *error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CaptureQueriesContext, "__enter__", begin)
        patch.setattr(CaptureQueriesContext, "__exit__", end)
        yield


@pytest.fixture
def roles(db: Any, definitions: Definitions) -> dict[str, Role]:
    """The roles that ship."""
    definitions.write("roles", _apply_roles, [Role])
    permissions.cache.clear()
    return {role.name: role for role in Role.objects.all()}


def _apply_roles() -> None:
    for document in yaml.safe_load_all(ROLES_FILE.read_text()):
        ROLES.apply(document["metadata"]["name"], document["spec"], pack="core", by="tests")


def _person(username: str, name: str) -> User:
    user = create_user(username=username, name=name, email=f"{username}@acme.example")
    user.set_password(PASSWORD)
    user.save()
    return user


@pytest.fixture
def ana(roles: dict[str, Role]) -> User:
    """Ana Ruiz, an administrator."""
    user = _person("ana", "Ana Ruiz")
    grant(role="administrator", user=user)
    return user


@pytest.fixture
def ben(roles: dict[str, Role]) -> User:
    """Ben Okafor, an editor of everything."""
    user = _person("ben", "Ben Okafor")
    grant(role="editor", user=user)
    return user


@pytest.fixture
def vic(roles: dict[str, Role]) -> User:
    """Vic Lind, a viewer of everything."""
    user = _person("vic", "Vic Lind")
    grant(role="viewer", user=user)
    return user


@pytest.fixture
def cleo(roles: dict[str, Role]) -> User:
    """Cleo Marsh, a viewer of the namespace `elsewhere` and of nothing else."""
    user = _person("cleo", "Cleo Marsh")
    grant(role="viewer", user=user, scope_type="namespace", scope="elsewhere")
    return user


@pytest.fixture
def no_access(roles: dict[str, Role]) -> User:
    """Somebody who has an account and no grant."""
    return _person("noor", "Noor Haddad")


@pytest.fixture
def as_token(db: Any) -> Callable[..., dict[str, str]]:
    """Headers of a request by a new token: `client.get(url, headers=as_token(ana, role="viewer"))`."""

    def headers(user: User, **more: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {create_token(user=user, name='test', **more).text}"}

    return headers


@pytest.fixture
def admin_user(ana: User) -> User:
    """What pytest-django's `admin_client` signs in."""
    return ana


@pytest.fixture
def fresh_cache() -> Iterator[None]:
    """An empty cache in Redis, as for counts of attempts to sign in."""
    django_cache.clear()
    yield
    django_cache.clear()


@pytest.fixture
def browse(db: Any) -> Callable[[User], Client]:
    """A browser in which somebody is signed in."""

    def sign_in(user: User) -> Client:
        client = Client()
        assert client.login(username=user.username, password=PASSWORD)
        return client

    return sign_in
