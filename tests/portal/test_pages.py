"""Pages are definitions: replaced by packs, refused when broken, served with a fallback, each card on its own; and
what they cost the database."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from access import definitions, permissions
from access.models import AuditEvent, User
from access.services import tie_account
from base.errors import InvalidInput
from base.limits import LimitExceeded
from catalog import queries
from catalog.models import Activity, Entity, Rank
from catalog.services.activity import ActivityIn, apply_activity
from catalog.services.render import render_dirty
from integrations.models import Connection
from portal.models import Page
from portal.packs import apply_pack, apply_packs, edit_definition, plan, read_pack
from portal.pages import check_page, forget_pages, page_for
from portal.widgets import base as widgets
from portal.widgets.base import NothingToShow, PageContext, Widget, WidgetConfig, register
from tests.cast import PASSWORD
from tests.catalog.saying import claim, component, entity, say
from tests.catalog_data import CORE, forget_definitions

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]

PAY = "/catalog/default/component/pay"


@pytest.fixture
def viewer(vic: User) -> Client:
    """Vic, signed in."""
    client = Client()
    assert client.login(username=vic.username, password=PASSWORD)
    return client


@pytest.fixture
def pack(tmp_path: Path) -> Callable[..., Path]:
    """Write a pack outside of the tree: `pack({"home": {...spec}})`."""

    def write(pages: dict[str, Any], *, name: str = "acme-pack", text: str = "") -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        documents = [
            {"apiVersion": "portico/v1", "kind": "Page", "metadata": {"name": page}, "spec": spec}
            for page, spec in pages.items()
        ]
        (folder / "pages.yaml").write_text(text or yaml.safe_dump_all(documents))
        return folder

    return write


def page(slot: str, *widget_specs: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A page of one tab."""
    return {"slot": slot, "tabs": [{"widgets": list(widget_specs)}], **more}


@pytest.fixture
def shouting() -> Iterator[None]:
    """Widgets of a plugin: one that says a word, one that breaks, one that is of something nobody delivered."""

    class WordConfig(WidgetConfig):
        word: str = "hello"

    class Word(Widget[WordConfig]):
        slug, label, template = "test-word", "Word", "widgets/count.html"

        def data(self, context: PageContext) -> dict[str, Any]:
            raise NothingToShow(self.config.word)

    class Broken(Widget[WidgetConfig]):
        slug, label, template = "test-broken", "Broken card", "widgets/count.html"

        def data(self, context: PageContext) -> dict[str, Any]:
            raise RuntimeError("secret detail")

    class BrokenTemplate(Widget[WidgetConfig]):
        slug, label, template = "test-broken-template", "Broken print", "widgets/there_is_none.html"

        def data(self, context: PageContext) -> dict[str, Any]:
            return {}

    class Alerts(Word):
        slug, label, needs = "test-alerts", "Alerts", frozenset({"alert"})

    for widget in (Word, Broken, BrokenTemplate, Alerts):
        register(widget)
    yield
    for widget in (Word, Broken, BrokenTemplate, Alerts):
        del widgets._widgets[widget.slug]


def word(text: str, **more: Any) -> dict[str, Any]:
    return {"id": re.sub(r"[^a-z]", "-", text), "type": "test-word", "config": {"word": text}, **more}


def corrupt(name: str, **columns: Any) -> None:
    """Damage a stored row, past all checks."""
    Page.objects.filter(name=name).update(**columns)
    forget_pages()


SLOTS = {"home": "/", "list": "/catalog", "entity": PAY, "activity": "/activity", "problems": "/problems"}


@pytest.mark.usefixtures("shouting")
class TestPacks:
    def test_a_pack_outside_of_the_tree_replaces_every_page_of_the_core(
        self, pack: Callable[..., Path], viewer: Client, settings: Any
    ) -> None:
        say("yaml:a", component("pay"), claim("group:team", {"type": "team", "children": []}))
        core = {path.stem: yaml.safe_load(path.read_text()) for path in (CORE / "pages").glob("*.yaml")}
        assert {document["spec"]["slot"] for document in core.values()} == set(SLOTS)
        pages = {}
        for document in core.values():
            name, spec = document["metadata"]["name"], document["spec"]
            pages[name] = page(spec["slot"], word(f"acme {name}"), kinds=spec.get("kinds", []))
        settings.PORTICO_PACKS = [pack(pages)]
        apply_packs([CORE, *settings.PORTICO_PACKS], by="tests")
        forget_definitions()
        shown = {slot: viewer.get(url).content.decode() for slot, url in SLOTS.items()}
        shown["team"] = viewer.get("/catalog/default/group/team").content.decode()
        for slot, html in shown.items():
            name = {"entity": "component"}.get(slot, slot)
            assert f"acme {name}" in html
            assert len(re.findall(r'<section[^>]* id="w-', html)) == 1, slot  # and nothing of the core's
        assert {row.pack for row in Page.objects.all()} == {"acme-pack"}

    def test_a_page_of_another_name_stands_before_the_cores(
        self, pack: Callable[..., Path], viewer: Client
    ) -> None:
        apply_pack(pack({"zz": page("home", word("ours"))}), by="tests")
        forget_definitions()
        assert "ours" in viewer.get("/").content.decode()

    def test_of_two_packs_the_one_that_is_loaded_last_counts_and_neither_before_what_people_composed(
        self, pack: Callable[..., Path], viewer: Client, settings: Any
    ) -> None:
        ours = pack({"zz": page("home", word("ours"))}, name="ours")
        theirs = pack({"bb": page("home", word("theirs"))}, name="theirs")
        apply_pack(pack({"aa": page("home", word("loaded no more"))}, name="gone"), by="tests")
        for packs, shown in (([theirs, ours], "ours"), ([ours, theirs], "theirs")):
            settings.PORTICO_PACKS = packs
            apply_packs([CORE, *packs], by="tests")
            forget_definitions()
            assert shown in viewer.get("/").content.decode()
        edit_definition(kind="Page", name="zzz", spec=page("home", word("composed")), by="ana")
        forget_definitions()
        assert "composed" in viewer.get("/").content.decode()

    def test_a_page_for_a_kind_is_for_that_kind_alone(
        self, pack: Callable[..., Path], viewer: Client
    ) -> None:
        say("yaml:a", component("pay"), claim("domain:shop", {"owner": "team"}))
        apply_pack(pack({"x": page("entity", word("domains only"), kinds=["domain"])}), by="tests")
        forget_definitions()
        assert "domains only" in viewer.get("/catalog/default/domain/shop").content.decode()
        assert "domains only" not in viewer.get(PAY).content.decode()

    @pytest.mark.parametrize(
        ("spec", "place"),
        [
            ({"slot": "moon", "tabs": [{"widgets": [word("a")]}]}, "/spec/slot"),
            (page("home"), "/spec/tabs/0/widgets"),
            (page("home", word("a"), word("a")), "/spec"),
            (
                page("home", {"id": "x", "type": "test-word", "config": {"wort": "x"}}),
                "/spec/tabs/0/widgets/0",
            ),
            (page("home", {"id": "x", "type": "entities", "width": 13}), "/spec/tabs/0/widgets/0/width"),
            (page("home", {"id": "X y", "type": "entities"}), "/spec/tabs/0/widgets/0/id"),
            (page("home", word("a", onlyIf="entity.kind ==")), "/spec/tabs/0/widgets/0"),
            (page("home", word("a", onlyIf="nobody.kind == 'x'")), "/spec/tabs/0/widgets/0"),
            (page("home", word("a"), colour="red"), "/spec/colour"),
            (
                page("home", {"id": "x", "type": "entities", "config": {"query": "kind:component owner:"}}),
                "/spec/tabs/0/widgets/0/config/query",
            ),
            ("nonsense", "/spec/"),
        ],
    )
    def test_a_broken_page_is_refused_with_its_place_and_the_old_one_stands(
        self, pack: Callable[..., Path], viewer: Client, spec: Any, place: str
    ) -> None:
        before = list(Page.objects.order_by("name").values("name", "spec", "pack", "revision"))
        with pytest.raises(InvalidInput) as error:
            apply_pack(pack({"home": spec, "fine": page("home", word("fine"))}), by="tests")
        assert all(item.path.startswith("pages.yaml, document 1") for item in error.value.errors)
        assert any(item.path.partition("document 1")[2].startswith(place) for item in error.value.errors)
        assert list(Page.objects.order_by("name").values("name", "spec", "pack", "revision")) == before
        assert viewer.get("/").status_code == 200

    @pytest.mark.parametrize("name", ["../x y", "Home", "a" * 64])
    def test_a_page_has_a_name_that_can_stand_in_an_address(
        self, pack: Callable[..., Path], name: str
    ) -> None:
        with pytest.raises(InvalidInput) as error:
            apply_pack(pack({name: page("home", word("a"))}), by="tests")
        assert [item.path for item in error.value.errors] == ["pages.yaml, document 1/metadata/name"]

    def test_all_faults_of_a_pack_are_told_at_once_and_counted(self, pack: Callable[..., Path]) -> None:
        folder = pack({"a": page("moon", word("a")), "b": page("home"), "c": page("home", word("c"))})
        (folder / "deep").mkdir()
        (folder / "deep" / "other.yaml").write_text("kind: [\n---\napiVersion: v1\nkind: Page\n")
        (folder / "deep" / "bytes.yaml").write_bytes(b"a: \xff\n")
        with pytest.raises(InvalidInput) as error:
            read_pack(folder)
        assert "5 of its documents" in error.value.message
        places = {item.path.partition("/spec")[0] for item in error.value.errors}
        assert places == {
            "pages.yaml, document 1", "pages.yaml, document 2", "deep/bytes.yaml, document 1",
            "deep/other.yaml, document 1", "deep/other.yaml, document 2",
        }  # fmt: skip

    def test_a_plan_says_what_would_happen_and_writes_nothing(self, pack: Callable[..., Path]) -> None:
        documents = read_pack(pack({"home": page("home", word("a")), "new": page("home", word("b"))}))
        before = Page.objects.count()
        assert {s.document.name: s.action for s in plan(documents)} == {"home": "change", "new": "create"}
        assert Page.objects.count() == before

    def test_applying_is_on_record_and_again_changes_nothing(self, pack: Callable[..., Path]) -> None:
        folder = pack({"home": page("home", word("a"))})
        apply_pack(folder, by="ana")
        revision = Page.objects.get(name="home").revision
        events = AuditEvent.objects.filter(verb="pack.apply").count()
        assert [step.action for step in apply_pack(folder, by="ana")] == ["leave"]
        assert Page.objects.get(name="home").revision == revision
        assert AuditEvent.objects.filter(verb="pack.apply").count() == events

    def test_a_type_that_is_not_installed_stays_as_a_note(
        self, pack: Callable[..., Path], viewer: Client
    ) -> None:
        gone = {"id": "gone", "type": "of-a-plugin-that-went", "config": {"any": "thing"}}
        apply_pack(pack({"home": page("home", gone, word("beside it"))}), by="tests")
        forget_definitions()
        html = viewer.get("/").content.decode()
        assert "of-a-plugin-that-went" in html
        assert "beside it" in html


DAMAGED: list[Any] = [
    {"slot": "home"},
    {},
    [],
    "nonsense",
    {"slot": "moon", "tabs": []},
    {"slot": "home", "tabs": [{"widgets": 5}]},
]


@pytest.mark.usefixtures("shouting")
class TestDamage:
    @pytest.mark.parametrize("spec", DAMAGED)
    def test_the_shipped_copy_is_served_with_a_notice(self, viewer: Client, spec: Any) -> None:
        whole = viewer.get("/").content.decode()
        assert "is damaged" not in whole
        corrupt("home", spec=spec)
        html = viewer.get("/").content.decode()
        assert "is damaged" in html
        assert set(re.findall(r'id="(w-[\w-]+)"', html)) == set(re.findall(r'id="(w-[\w-]+)"', whole))

    @pytest.mark.parametrize("name", ["home", "list", "entity", "activity", "problems", "component"])
    @pytest.mark.parametrize("pristine", [None, {"slot": "moon"}, "x"])
    def test_with_the_copy_damaged_too_the_file_is_served(
        self, viewer: Client, name: str, pristine: Any
    ) -> None:
        say("yaml:a", component("pay"), claim("resource:db", {"type": "x"}))
        corrupt(name, spec={"tabs": 1}, pristine=pristine)
        url = {**SLOTS, "entity": "/catalog/default/resource/db", "component": PAY}[name]
        answer = viewer.get(url)
        assert answer.status_code == 200
        html = answer.content.decode()
        assert f"“{name}” is damaged" in html
        assert 'id="w-' in html

    def test_a_damaged_page_of_a_pack_gives_way_to_its_own_file(
        self, pack: Callable[..., Path], viewer: Client, settings: Any
    ) -> None:
        settings.PORTICO_PACKS = [pack({"acme-home": page("home", word("acme"))})]
        apply_packs([CORE, *settings.PORTICO_PACKS], by="tests")
        corrupt("acme-home", spec={}, pristine={})
        html = viewer.get("/").content.decode()
        assert "acme" in html
        assert "is damaged" in html

    @pytest.mark.parametrize("remains", [{}, {"slot": "home"}, {"slot": "entity", "kinds": ["domain"]}])
    def test_a_damaged_page_that_nobody_ships_any_more_hijacks_no_other(
        self, pack: Callable[..., Path], viewer: Client, remains: dict[str, Any]
    ) -> None:
        say(
            "yaml:a",
            component("pay"),
            claim("domain:shop", {"owner": "team"}),
            claim("resource:db", {"type": "x"}),
        )
        apply_pack(pack({"aa": page("home", word("acme"))}), by="tests")
        corrupt("aa", spec=remains, pristine=None)
        damaged = {
            url
            for url in (*SLOTS.values(), "/catalog/default/domain/shop", "/catalog/default/resource/db")
            if "is damaged" in viewer.get(url).content.decode()
        }
        assert damaged == {
            "": set(), "home": {"/"}, "entity": {"/catalog/default/domain/shop"},
        }[remains.get("slot", "")]  # fmt: skip

    def test_a_row_that_is_gone_is_no_end(self, viewer: Client) -> None:
        Page.objects.all().delete()
        forget_pages()
        say("yaml:a", component("pay"))
        for url in SLOTS.values():
            assert viewer.get(url).status_code == 200

    def test_what_is_checked_can_be_stored_and_read(self) -> None:
        for row in Page.objects.all():
            assert check_page(row.name, row.spec) == row.spec
        assert page_for("home").notice == ""


@pytest.mark.usefixtures("shouting")
class TestWidgets:
    @pytest.fixture
    def three(self, core_pack: None, shouting: None, pack: Callable[..., Path]) -> None:
        broken = {"id": "broken", "type": "test-broken"}, {"id": "print", "type": "test-broken-template"}
        alerts = {"id": "alerts", "type": "test-alerts", "config": {"word": "alarm"}}
        apply_pack(pack({"home": page("home", word("before"), *broken, alerts, word("after"))}), by="tests")
        forget_definitions()

    @pytest.mark.usefixtures("three")
    def test_one_that_fails_shows_it_in_its_own_frame(self, viewer: Client, caplog: Any) -> None:
        html = viewer.get("/").content.decode()
        assert "before" in html
        assert "after" in html
        frames = Frames(html)
        for id in ("w-broken", "w-print"):
            assert "could not be shown" in frames.of(id)
        for id in ("w-before", "w-after"):
            assert "could not be shown" not in frames.of(id)
        assert "secret detail" not in html
        assert "secret detail" in caplog.text

    @pytest.mark.usefixtures("three")
    def test_one_of_whose_records_nobody_delivered_any_is_absent(self, viewer: Client) -> None:
        html = viewer.get("/").content.decode()
        assert 'id="w-alerts"' not in html
        assert "alarm" not in html
        now = timezone.now()
        item = ActivityIn(
            type="alert",
            external_id="1",
            event="incident.detected",
            at=now,
            as_of=now,
            about=("repo:x.example/y",),
        )
        apply_activity(connection_slug="x", connector="records", items=[item])
        forget_pages()
        assert "alarm" in viewer.get("/").content.decode()

    def test_one_stands_only_where_its_condition_holds(
        self, pack: Callable[..., Path], viewer: Client
    ) -> None:
        say("yaml:a", component("pay", type="service"), component("lib", type="library"))
        services = word("only services", onlyIf="entity.spec.type == 'service'")
        missing = word("never", onlyIf="entity.spec.nothing == 1")
        apply_pack(
            pack({"component": page("entity", services, missing, word("always"), kinds=["component"])}),
            by="tests",
        )
        forget_definitions()
        service = viewer.get(PAY).content.decode()
        library = viewer.get("/catalog/default/component/lib").content.decode()
        assert ("only services" in service, "only services" in library) == (True, False)
        assert "never" not in service
        assert "always" in library

    def test_one_that_loads_later_comes_alone(self, pack: Callable[..., Path], viewer: Client) -> None:
        apply_pack(pack({"home": page("home", word("later on", deferred=True))}), by="tests")
        forget_definitions()
        html = viewer.get("/").content.decode()
        assert "later on" not in html
        (url,) = re.findall(r'hx-get="(/widgets/[^"]+)"', html)
        fragment = viewer.get(url).content.decode()
        assert "later on" in fragment
        assert "<html" not in fragment
        assert viewer.get("/widgets/home/none").status_code == 404

    def test_none_is_told_to_those_who_are_not_signed_in(self) -> None:
        for url in (*SLOTS.values(), "/widgets/home/counts"):
            assert "/sign-in" in Client().get(url).headers["Location"]


class Frames(HTMLParser):
    """The text and markup of each widget's card."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self._open: list[str | None] = []
        self.feed(html)

    def of(self, id: str) -> str:
        return self.found[id]

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag in {"meta", "link", "input", "img", "br", "hr", "path", "use", "circle", "line", "rect"}:
            return
        id_ = dict(attrs).get("id") or ""
        self._open.append(id_ if id_.startswith("w-") else (self._open[-1] if self._open else None))

    def handle_endtag(self, tag: str) -> None:
        if tag not in {"path", "use", "circle", "line", "rect"} and self._open:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1]:
            self.found[self._open[-1]] = self.found.get(self._open[-1], "") + data


# --- what pages cost --------------------------------------------------------------------------------------------

LIST, ENTITY, OTHER = 12, 25, 25


def company(count: int) -> None:
    """A catalog of components with repositories, pipelines, runs, versions, commits, relations and problems."""
    tool, now = {"rank": Rank.CONNECTION}, timezone.now()
    for start in range(0, count, 500):
        numbers = range(start, min(start + 500, count))
        say(
            "yaml:a",
            *[
                claim(
                    f"component:c{n}",
                    {"type": "service", "lifecycle": ("production", "old")[n % 2], "owner": f"team-{n % 8}"}
                    | {
                        "system": f"s{n % 5}",
                        "dependsOn": [f"component:c{(n * 7 + i) % count}" for i in range(3)],
                    },
                    metadata={"tags": [f"t{n % 9}"], "links": [{"url": "https://x.example/"}]},
                    about=(f"repo:h.example/r{n}",),
                )
                for n in numbers
            ],
            *(
                [claim(f"group:team-{n}", {"type": "team", "children": []}) for n in range(8)]
                if not start
                else []
            ),
            render=False,
        )
        say(
            "connection:git/repositories",
            *[
                claim(
                    f"repository:r{n}", {"path": f"a/r{n}"}, id=str(n), keys=(f"repo:h.example/r{n}",), **tool
                )
                for n in numbers
            ],
            render=False,
        )
        say(
            "connection:ci/builders",
            *[
                claim(
                    f"pipeline:p{n}",
                    {},
                    id=str(n),
                    keys=(f"pipeline:ci.example/{n}",),
                    about=(f"repo:h.example/r{n}",),
                    **tool,
                )
                for n in numbers
            ],
            render=False,
        )
        items = []
        for n in numbers:
            facts = {"at": now, "as_of": now}
            for i in range(3):
                items.append(
                    ActivityIn(
                        type="run",
                        external_id=f"{n}.{i}",
                        event="pipelinerun.finished",
                        status=("passed", "failed")[(i + n // 2) % 2],
                        number=str(i),
                        about=(f"pipeline:ci.example/{n}",),
                        at=now - timedelta(minutes=3 - i),
                        as_of=now,
                    )
                )
            items.append(
                ActivityIn(
                    type="version",
                    external_id=f"{n}",
                    event="artifact.published",
                    version=f"1.{n}",
                    about=(f"repo:h.example/r{n}",),
                    **facts,
                )
            )
            items.append(
                ActivityIn(
                    type="commit",
                    external_id=f"{n}",
                    event="change.merged",
                    commit=f"{n:040x}",
                    title="c",
                    about=(f"repo:h.example/r{n}",),
                    **facts,
                )
            )
        apply_activity(connection_slug="ci", connector="buildbot", items=items)
        if start % 4_000 == 0 or numbers.stop == count:
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")  # as the server does by itself, but never within a transaction
    render_dirty(at=now)


BELL = "/notices/bell"


def cost(client: Client, url: str) -> int:
    """Queries of a page as a browser opens it: the session's too, and those of all that it loads by itself.

    The bell is on every page, asks after it and every minute, and has a budget of its own.
    """
    definitions.forget_stamps()  # what a process keeps is there, and due to be compared with what is stored
    permissions.cache._checked_at = float("-inf")
    with CaptureQueriesContext(connection) as captured:
        answer = client.get(url)
        assert answer.status_code == 200
        html = answer.content.decode()
        for later in re.findall(r'hx-get="([^"]+)"[^>]*hx-trigger="(?:load|revealed|intersect)', html):
            if later == BELL:
                continue
            assert client.get(later.replace("&amp;", "&")).status_code == 200
    return len(captured)


PAGES = {
    "/catalog": LIST,
    "/catalog?q=kind:component": LIST,
    "/catalog?q=kind:component+owner:group:default/team-1+-lifecycle:old": LIST,
    "/catalog?q=kind:component&order=-changed&limit=100": LIST,
    "/catalog/default/component/c1": ENTITY,
    "/catalog/default/component/c2": ENTITY,  # which fails
    "/catalog/default/component/c1?tab=activity": ENTITY,
    "/catalog/default/component/c1?tab=relations": ENTITY,
    "/catalog/default/component/c1?tab=history": ENTITY,
    "/catalog/default/component/c1?tab=source": ENTITY,
    "/catalog/default/component/c1?tab=problems": ENTITY,
    "/catalog/default/repository/r1": ENTITY,
    "/catalog/default/pipeline/p1": ENTITY,
    "/catalog/default/group/team-1": ENTITY,
    "/": OTHER,
    "/activity": OTHER,
    "/problems": OTHER,
    BELL: 4,  # the session, the account, the count, the favourites' row
}


class TestCost:
    @pytest.fixture(autouse=True)
    def _once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each page asks once whether what the process keeps is still true, however slow the machine is."""
        monkeypatch.setattr(definitions, "STAMP_SECONDS", 3_600)
        monkeypatch.setattr(permissions.cache, "seconds", 3_600)
        monkeypatch.setattr(queries._Delivered, "SECONDS", 3_600)
        queries.forget_delivered_types()

    def check(self, viewer: Client, only: Callable[[str], bool] = lambda url: True) -> None:
        viewer.get("/")  # what a process keeps between requests is there
        found = {url: (cost(viewer, url), budget) for url, budget in PAGES.items() if only(url)}
        over = {url: pair for url, pair in found.items() if pair[0] > pair[1]}
        assert not over, f"(queries, budget): {over}"

    def test_pages_of_a_catalog_of_60_components(self, viewer: Client) -> None:
        company(60)
        assert entity("component:default/c1").last_run == "passed"
        assert Activity.objects.exclude(subject_uid=None).count() == 60 * 5
        self.check(viewer)

    def test_home_of_somebody_who_owns_much(self, viewer: Client, vic: User) -> None:
        company(60)
        say("yaml:people", claim("user:vic", {"memberOf": ["team-1"]}))
        tie_account(vic, entity_uid=entity("user:default/vic").uid)
        items = [
            ActivityIn(
                type="change", external_id=str(n), event="change.created", status="open", title="c",
                about=(f"repo:h.example/r{n}",), at=timezone.now(), as_of=timezone.now(),
            )
            for n in range(60)
        ]  # fmt: skip
        apply_activity(connection_slug="git", connector="git", items=items)
        queries.forget_delivered_types()
        Connection.objects.create(slug="git", label="Git", connector="git")
        html = viewer.get("/").content.decode()
        for title in ("My services", "Changes waiting for me", "To see to", "Failing now"):
            assert title in html
        self.check(viewer, lambda url: url == "/")

    def test_pages_cost_the_same_however_much_there_is(self, viewer: Client) -> None:
        company(20)
        urls = ["/catalog?q=kind:component", "/catalog/default/component/c1", "/", "/activity", "/problems"]
        viewer.get("/")
        few = [cost(viewer, url) for url in urls]
        company(40)
        many = [cost(viewer, url) for url in urls]
        more = {url: pair for url, *pair in zip(urls, few, many, strict=True) if pair[1] > pair[0]}
        assert not more, f"queries, of few and of many: {more}"

    @pytest.mark.full
    def test_pages_of_a_catalog_of_50000_entities(self, viewer: Client) -> None:
        company(16_700)
        assert Entity.objects.count() >= 50_000
        self.check(viewer)


def test_a_definition_stands_once_in_a_pack(pack: Callable[..., Path]) -> None:
    spec = page("home", {"id": "problems", "type": "problem-list"})
    text = yaml.safe_dump(
        {"apiVersion": "portico/v1", "kind": "Page", "metadata": {"name": "ours"}, "spec": spec}
    )
    folder = pack({}, text=f"{text}---\n{text}")
    with pytest.raises(InvalidInput) as caught:
        apply_pack(folder, by="tests")
    (error,) = caught.value.errors
    assert (error.path, error.message) == (
        "pages.yaml, document 2",
        "Page “ours” stands in pages.yaml, document 1 already.",
    )


def test_limits_hold_for_packs_too(pack: Callable[..., Path]) -> None:
    folder = pack({}, text="a: " + "[" * 500 + "]" * 500)
    with pytest.raises((InvalidInput, LimitExceeded)):
        apply_pack(folder, by="tests")


def test_a_list_of_some_kinds_has_its_page_s_title(pack: Callable[..., Path], viewer: Client) -> None:
    listed = {"id": "list", "type": "entity-list"}
    pages = {
        "list": page("list", listed, title="Everything"),
        "interfaces": page("list", listed, title="Interfaces", kinds=["api"]),
    }
    apply_pack(pack(pages), by="tests")
    forget_pages()
    titles = {
        url: viewer.get(url).content.decode().split("<title>")[1].split("</title>")[0].strip()
        for url in ("/catalog", "/catalog?q=kind:api", "/catalog?q=kind:component")
    }
    assert list(titles.values()) == ["Everything · Portico", "Interfaces · Portico", "Components · Portico"]
