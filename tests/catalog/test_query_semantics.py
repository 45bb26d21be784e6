"""What queries find, on PostgreSQL, against an evaluator that knows nothing of the compiler."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from django.db import connection
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_django.plugin import DjangoDbBlocker

from catalog.models import Entity
from catalog.query import QueryError, compile_query, format_query, mine, parse, sight
from catalog.query.nodes import And, Filter, Node, Not, Or, Value, Words, terms
from tests.catalog.query_samples import MINE, NOW, Evaluator, Sample, in_database

VIEWER = object()

# Terms, each with a trap in it; the tests combine them.
TERMS = r"""
kind:component kind:COMPONENT,group kind:comp* kind:* namespace:other namespace:store,default
name:web name:pay* name:*pay* name:pay_* name:"pay*" name:b*-1* name:*
type:service type:LIBRARY type:library,team type:web* type:"" type:*
lifecycle:production,experimental lifecycle:""
owner:group:default/payments owner:group:payments owner:payments owner:other/payments owner:pay*
owner:"" owner:*
owner:g*:d*/w* owner:user:default/ana owner:@me owner:"group:default/web",@me owner:GROUP:DEFAULT/PAYMENTS
system:checkout system:system:default/checkout system:*
tag:java tag:JAVA,t1 tag:ja* tag:"" tag:* tag:nothing source:git-main source:GIT* source:"" source:oci,yaml
run:failed run:failed,passed run:* run:"" version:2.1.0 version:v2 version:2.* version:*
title:card title:"card payments" title:*s title:of% title:"of%" title:* description:back\slash
description:"100%"
description:*
card pay "card pay" PAYMENTS under_score r_s 100% back\ "\\" b*t ö OR* "or" number*1 *
changed:7d changed:<7d changed:<=7d changed:>7d changed:>=7d changed:1d..7d changed:7d.. changed:2026-01-31
changed:>2026-01-31 changed:>=2026-01-31 changed:<2026-01-31 changed:<=2026-01-31 changed:2026-01
changed:>2026-01
changed:2026 changed:2026-01-31..2026-06-12 changed:..2026-01-31 changed:today changed:>=yesterday
changed:>2026-06-15T11:30 changed:2026-06-15T13:30+02:00 created:2026 created:>2026-01-31
ran:<7d ran:>7d ran:* ran:1d..7d
ref:component:default/web ref:web ref:component:web ref:default/web ref:w* ref:"w*" ref:component:*/*e*
has:owner has:tag has:type has:run has:ran has:problem has:conflict has:dependsOn has:dependencyOf has:title
has:description has:spec.replicas has:label.tier has:system has:lifecycle has:linkedTo has:sourceOf
has:spec.nothing has:spec.ports has:spec.profile has:metadata.labels has:spec.languages
title:"" description:"" ran:"" changed:"" problem:"" conflict:"" dependsOn:"" sourceOf:"" label.tier:""
spec.ports:"" spec.ports:* spec.replicas:"" dependsOn:"",ledger ran:"",<7d
problem:missing-target problem:miss* problem:ambiguous-key problem:*
conflict:owner conflict:spec.owner conflict:type conflict:*
is:mine is:stale is:inferred
dependsOn:ledger dependsOn:component:default/web dependsOn:resource:other/missing dependsOn:missing
dependsOn:*
dependsOn:bucket* dependencyOf:card-payments dependencyOf:resource:default/bucket-1 dependencyOf:b*
ownerOf:ledger
ownedBy:@me ownedBy:payments,web partOf:checkout hasPart:component:default/card-payments
hasSource:pay sourceOf:component:default/web sourceOf:ledger sourceOf:card* linkedTo:web
linkedTo:card-payments
relations.dependsOn:ledger RELATIONS.DEPENDSON:LEDGER
spec.type:Service spec.replicas:3 spec.replicas:>=3 spec.replicas:>3 spec.replicas:<10 spec.replicas:2..5
spec.replicas:-5..-1 spec.replicas:<-3 spec.replicas:..10 spec.replicas:20 spec.size:14..70 spec.size:>14,<=7
spec.ports.port:80 spec.ports.port:>=80 spec.ports.name:h* spec.enabled:true spec.flags.beta:true
spec.flags:"dark mode" spec.flags:dark* spec.languages.c:2 SPEC.Languages.GO:>9 spec.note:""
spec.note:* spec.nothing:""
spec.definition:* spec.definition:xxx* spec.day:2026-06-10 spec.day:>2026-06-10
spec.day:<=2026-06-15 spec.day:<7d
spec.day:>7d spec.made:2026-02-01..2026-04-30 spec.made:>=2026-05-15 spec.profile.email:p@acme.example
label.tier:1 label.tier:>1 label.team.name:blue metadata.labels.Team.Name:BLUE label.te*:x label.zone:z1,z2
metadata.tags:java metadata.name:web metadata.namespace:default
metadata.annotations.github.com/project-slug:acme/pay
annotation.github.com/project-slug:acme/* annotation.example.com/a.b:x annotation.example.com/size:12..13
annotation.example.com/size:12.5 apiVersion:backstage.io/v1alpha1 apiVersion:backstage.io/*
"""


pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def catalog(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[list[Sample]]:
    """The samples, in the database for this module."""
    with in_database(django_db_blocker) as found, pytest.MonkeyPatch.context() as patch:
        patch.setattr(mine, "_resolvers", [lambda viewer: MINE if viewer is VIEWER else ()])
        patch.setattr(sight, "_sights", [])
        yield found


def find(query: str | Node) -> set[str]:
    rows = list(
        Entity.objects.filter(compile_query(query, viewer=VIEWER, now=NOW)).values_list("ref", flat=True)
    )
    assert len(rows) == len(set(rows))
    return set(rows)


ALL = [format_query(term) for line in TERMS.strip().splitlines() for term in terms(parse(line))]


@pytest.mark.parametrize("text", ALL)
def test_each_term_finds_what_it_means(catalog: list[Sample], text: str) -> None:
    expected = Evaluator(catalog).find(parse(text))
    assert find(text) == expected
    everything = {sample.ref for sample in catalog}
    assert find(f"-{text}") == everything - expected


def test_the_terms_tell_entities_apart(catalog: list[Sample]) -> None:
    """Most terms find some entities and not others, else the tests above would show little."""
    found = [len(find(text)) for text in ALL]
    assert sum(0 < count < len(catalog) for count in found) > 0.85 * len(ALL)


trees = st.recursive(
    st.sampled_from(ALL).map(parse),
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=2, max_size=4).map(lambda items: And(tuple(items))),
        st.lists(inner, min_size=2, max_size=3).map(lambda items: Or(tuple(items))),
    ),
    max_leaves=8,
)


@given(trees)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_combinations_find_what_they_mean(catalog: list[Sample], tree: Node) -> None:
    assert find(tree) == Evaluator(catalog).find(tree)


hostile = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12
) | st.sampled_from(
    [
        "'",
        "';--",
        '"',
        "\\",
        "%",
        "_",
        "%s",
        "{}",
        "$1",
        ") OR TRUE --",
        "*",
        "@me",
        "''",
        "\\'",
        "1e9",
        "..",
        "9" * 30,
        "-1",
    ]
)
fields = st.sampled_from(
    [
        "kind",
        "type",
        "owner",
        "tag",
        "title",
        "run",
        "version",
        "name",
        "ref",
        "uid",
        "changed",
        "ran",
        "has",
        "is",
        "problem",
        "conflict",
        "dependsOn",
        "dependencyOf",
        "spec.replicas",
        "label.tier",
        "spec.made",
        "apiVersion",
    ]
)


@given(
    fields,
    st.builds(Value, hostile, st.sampled_from(["=", "<", ">=", ".."]), hostile, st.booleans()),
    hostile,
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_value_reaches_the_statement(catalog: list[Sample], field: str, value: Value, word: str) -> None:
    """Whatever is asked is answered or refused; the database never sees a broken statement."""
    for term in (Filter(field, (value,)), Words(Value(word)), Words(Value(word, is_quoted=True))):
        try:
            find(term)
        except QueryError:
            continue
    assert Entity.objects.count() == len(catalog)


@pytest.mark.parametrize(
    ("text", "position", "length", "words"),
    [
        ("kind:api onwer:x", 9, 5, "Did you mean one of “owner”"),
        ("dependOn:x", 0, 8, "“dependsOn”"),
        ("http://x", 0, 4, "quote it"),
        ("spek.type:x", 0, 9, "“spec.type”"),
        ("spec.:x", 0, 5, "no field “spec.”. A path begins"),
        ("kind:>a", 5, 2, "cannot be compared"),
        ("kind:a..b", 5, 4, "quote the value"),
        ("uid:x", 4, 1, "no uid"),
        ("changed:soon", 8, 4, "2026-01-31"),
        ("changed:2026-02-30", 8, 10, "no time"),
        ("changed:7d..2026-01-01", 8, 14, "no time"),
        ("changed:>99999y", 8, 7, "no time"),
        ("spec.x:>many", 7, 5, "a number"),
        ("is:good", 3, 4, "mine, failing, unknown-owner, stale or inferred"),
        ("has:onwer", 4, 5, "owner"),
        ("has:is", 4, 2, "means nothing"),
        ("conflict:kind", 9, 4, "cannot disagree"),
        ("owner:a/b/c", 6, 5, "no reference"),
        ("run:success", 4, 7, "queued, running, passed, unstable, failed, cancelled, skipped"),
        ("-problem:mising-target", 9, 13, "Did you mean “missing-target”"),
        ("(a OR nope:x)", 6, 4, "no field"),
    ],
)
def test_wrong_fields_and_values(
    catalog: list[Sample], text: str, position: int, length: int, words: str
) -> None:
    with pytest.raises(QueryError) as caught:
        find(text)
    assert (caught.value.position, caught.value.length) == (position, length)
    assert words in caught.value.sentence


def test_without_a_viewer_nothing_is_mine(catalog: list[Sample]) -> None:
    for text in ("is:mine", "owner:@me", "ownedBy:@me"):
        condition = compile_query(text, now=NOW)
        assert not Entity.objects.filter(condition).exists()
        assert Entity.objects.filter(~condition).count() == len(catalog)


def test_relations_end_where_the_viewer_s_sight_ends(
    catalog: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    blind = object()

    def sight_of(viewer: object) -> QuerySet[Entity]:
        return Entity.objects.exclude(name="card-payments") if viewer is blind else Entity.objects.all()

    monkeypatch.setattr(sight, "_sights", [sight_of])

    def seen(text: str, viewer: object) -> set[str]:
        found = Entity.objects.filter(compile_query(text, viewer=viewer, now=NOW))
        return set(found.values_list("ref", flat=True))

    for text in ("dependencyOf:card-payments", "linkedTo:card-payments", "hasPart:card-payments"):
        assert seen(text, VIEWER) == seen(text, None) != set()
        assert seen(text, blind) == set()
        assert len(seen(f"-{text}", blind)) == len(catalog)
    assert "system:default/checkout" in seen("has:hasPart", VIEWER) - seen("has:hasPart", blind)
    assert seen("sourceOf:*", blind) == {"repository:default/pay"}
    assert seen("dependsOn:missing", blind) == {"component:default/card-payments"}


def test_equal_tokens_share_one_look_into_the_index(catalog: list[Sample]) -> None:
    condition = compile_query("type:service tag:java lifecycle:production -label.tier:2 -tag:x,y", now=NOW)
    sql = str(Entity.objects.filter(condition).query)
    assert sql.count("@>") == 1
    assert sql.count("&&") == 1


def test_a_query_is_one_statement_and_joins_nothing(catalog: list[Sample]) -> None:
    text = "card dependsOn:ledger,b* -dependencyOf:x spec.replicas:>2 has:problem is:stale owner:@me"
    costs = []
    for _time in range(3):
        with CaptureQueriesContext(connection) as asked:
            rows = Entity.objects.filter(compile_query(text, viewer=VIEWER, now=NOW))
            list(rows)
        costs.append(len(asked))
    assert (
        min(costs) == 1
    )  # the entities; once a second also whether the names of relations are the same still
    assert list(rows.query.alias_map) == ["catalog_entity"]


def test_ages_count_from_the_given_time(catalog: list[Sample]) -> None:
    later = datetime(2027, 1, 1, tzinfo=UTC)
    assert not Entity.objects.filter(compile_query("changed:<7d", now=later)).exists()
