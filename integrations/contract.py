"""The connector contract: all that a connector needs to know, in one file.

A connector is a class with a settings model and a few decorated async methods::

    class Config(ConnectionConfig):
        base_url: HttpUrl = Field(description="Address of the tool.")
        token: SecretStr | None = Field(None, description="Leave empty for anonymous reading.")

    class Acme(Connector[Config]):
        slug, label, category = "acme", "Acme CI", Category.CI

        async def checks(self) -> AsyncIterator[Check]: ...

        @resource(of=Pipeline)
        async def jobs(self) -> AsyncIterator[Pipeline]: ...

It turns a tool's API into records; the core alone decides what to write, retry and remove. It never builds
a client of its own, never touches the database, and does not catch the errors of `integrations.errors`, but to
raise them again in a clearer sentence.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import inspect
import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import wraps
from typing import Annotated, Any, ClassVar, Generic, ParamSpec, TypeVar, cast
from urllib.parse import urlsplit

import orjson
from django.utils.translation import gettext, gettext_noop, ngettext
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from base.text import printable
from integrations.errors import (
    AuthFailed,
    BadPayload,
    Misconfigured,
    NotThere,
    SourceError,
    SourceUnavailable,
)
from integrations.files import FileReader, has_glob, matches
from integrations.git import Clone, GitClient
from integrations.http import Answer, HttpClient
from integrations.ldap import Directory, Entry, LdapClient
from integrations.records import Record

__all__ = [
    "SELDOM",
    "Answer",
    "AuthFailed",
    "BadPayload",
    "Category",
    "Check",
    "Clone",
    "ConnectionConfig",
    "Connector",
    "Days",
    "Directory",
    "Entry",
    "Expect",
    "FileReader",
    "GitClient",
    "Gone",
    "Health",
    "HttpClient",
    "Known",
    "LdapClient",
    "Mark",
    "Misconfigured",
    "NotThere",
    "OperationResult",
    "Password",
    "Refused",
    "Risk",
    "SourceError",
    "SourceUnavailable",
    "Token",
    "Told",
    "Tools",
    "UserName",
    "WebhookRequest",
    "WebhookSecret",
    "bears_token",
    "gettext",
    "gettext_noop",
    "has_glob",
    "is_chosen",
    "keys",
    "matches",
    "ngettext",
    "once",
    "operation",
    "portions",
    "record_or_refusal",
    "resource",
    "signed_with_hmac",
    "webhook",
]


# A login name alone belongs to an SSH address, and tells nothing.
_CREDENTIALS = re.compile(r"(?!(?:git\+)?ssh://[^/?#:@]*@)[a-z][a-z0-9+.-]*://[^/?#]*@", re.IGNORECASE)


def is_secret(field: FieldInfo) -> bool:
    """Whether a setting is kept from people."""
    return "SecretStr" in str(field.annotation)


class ConnectionConfig(BaseModel):
    """Base of every connector's settings model.

    The model is the only description of the settings: form, validation, API and docs come from it. A
    `SecretStr` field is encrypted, masked and never logged. Every field needs a `description`, which is
    shown as help text.
    """

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    @field_validator("*", mode="before")
    @classmethod
    def _without_credentials(cls, value: Any, info: ValidationInfo) -> Any:
        """Settings are shown to people; only a `SecretStr` is kept from them."""
        if is_secret(cls.model_fields[info.field_name or ""]):
            return value
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str):
                continue
            if text.strip().lower().startswith(("http://", "https://")):
                urlsplit(text)  # raises a ValueError that says what is wrong
            if _CREDENTIALS.match(text.strip()):
                raise ValueError(
                    gettext("An address may not hold a user or a password; they have fields of their own.")
                )
        return value


SELDOM: dict[str, Any] = {"seldom": True}
"""For `json_schema_extra` of a setting with a default that few change: the form folds it under "More settings"."""

# Settings that many tools have; `token: Token = None` is all that a connector writes.
UserName = Annotated[str, Field(title="User name", description="Leave empty where everybody may read.")]
Password = Annotated[
    SecretStr | None,
    Field(title="Password", description="Password or token of this user, who needs to read, no more."),
]
Token = Annotated[
    SecretStr | None,
    Field(title="Token", description="A bearer token that may read. Empty where everybody may."),
]
WebhookSecret = Annotated[
    SecretStr | None,
    Field(
        title="Webhook secret",
        description="What the tool proves its deliveries with. While it is empty, none is taken.",
    ),
]
Days = Annotated[
    int,
    Field(
        ge=0,
        le=3_650,
        title="Days",
        description="How many days of the past the first sync reads.",
        json_schema_extra=SELDOM,
    ),
]


def is_chosen(name: str, only: Sequence[str], but_not: Sequence[str] = ()) -> bool:
    """Whether the patterns of two settings choose a name: any of `only`, or all if it is empty, less `but_not`."""
    return (not only or matches(name, only)) and not matches(name, but_not)


class Category(StrEnum):
    """The shelf in the gallery of connectors, and the colour of the monogram."""

    GIT = "git"
    CI = "ci"
    REGISTRY = "registry"
    PACKAGES = "packages"
    CLUSTER = "cluster"
    MONITORING = "monitoring"
    ISSUES = "issues"
    PEOPLE = "people"
    FILES = "files"


@dataclass(frozen=True)
class Check:
    """One line of a connection test.

    :ivar label: what was tried, as a fact: "Reached", "Signed in as ci-bot", "Can read builds".
    :ivar ok: whether it works.
    :ivar detail: what came instead, or a figure worth showing.
    :ivar remedy: what to do about it, naming the missing permission exactly.
    """

    label: str
    ok: bool = True
    detail: str = ""
    remedy: str = ""

    @classmethod
    def failed(cls, label: str, detail: str = "", remedy: str = "") -> Check:
        """A line that says what is wrong, and what to do about it."""
        return cls(label, False, detail, remedy)


@dataclass(frozen=True)
class Health:
    """The outcome of a test of the settings: what works and what is missing."""

    checks: list[Check]

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)


# What a resource may yield besides records.


@dataclass(frozen=True)
class Expect:
    """How many records are to come, if the tool says so: makes progress a fraction."""

    total: int


@dataclass(frozen=True)
class Mark:
    """All records before this one are safe to keep; an interrupted or later run may go on from `cursor`.

    The next call of the resource gets the cursor of the last mark as its `since` argument. Only resources
    declared `incremental=True` get one.
    """

    cursor: dict[str, Any]


@dataclass(frozen=True)
class Refused:
    """One item that could not be read; the others go on. Shown in the run's list of refused records."""

    external_id: str
    reason: str
    place: str = ""

    def __post_init__(self) -> None:
        for name, limit in (("external_id", 1_000), ("reason", 2_000), ("place", 1_000)):
            object.__setattr__(self, name, printable(getattr(self, name))[:limit])


Yielded = Record | Expect | Mark | Refused


class Known:
    """The cursor of an incremental list of things that each have a state: those whose state is known are passed over.

    :param since: what the resource was given.
    """

    def __init__(self, since: dict[str, Any] | None, *, names: Iterable[str]) -> None:
        kept = since["known"] if since else {}
        self._states = {name: kept[name] for name in names if name in kept}

    def has(self, name: str, state: object) -> bool:
        """Whether a thing had this state when it was marked last.

        :param state: whatever is the same, and written the same, while nothing has changed.
        """
        return self._states.get(name) == self._digest(state)

    def mark(self, name: str, state: object) -> Mark:
        """The mark after all records of a thing."""
        self._states[name] = self._digest(state)
        return Mark({"known": {**self._states}})

    @staticmethod
    def _digest(state: object) -> str:
        return hashlib.sha256(repr(state).encode()).hexdigest()[:16]


T = TypeVar("T")


P = ParamSpec("P")


def once(method: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Mark an async method whose answer holds as long as the connector lives, a run: it is asked once for the same."""

    @wraps(method)
    async def kept(*args: P.args, **kwargs: P.kwargs) -> T:
        connector, *given = args
        answers = vars(connector).setdefault(f"_{method.__name__}_once", {})
        key = (*given, *sorted(kwargs.items()))
        if key not in answers:
            answers[key] = await method(*args, **kwargs)
        return answers[key]

    return kept


def portions(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """A few at a time, to ask for together."""
    given = list(items)
    for start in range(0, len(given), size):
        yield given[start : start + size]


def keys(scheme: str, *values: object) -> list[str]:
    """The identity keys that a tool's words make, each once; what is empty or no such word is passed over."""
    words = (value for value in values if isinstance(value, str) and re.fullmatch(r"\S{3,900}", value))
    return list(dict.fromkeys(f"{scheme}:{word}" for word in words))


INFERRED = "components"
"""The list under which the core keeps the components that it infers: no connector may have one of this name."""

R = TypeVar("R", bound=Record)


def record_or_refusal(
    of: type[R], external_id: str, written_at: datetime | None = None, /, **fields: Any
) -> R | Refused:
    """Make a record of what a tool said, or say why it cannot be one: an odd item must not stop the list.

    :param written_at: what relative times count from, if there may be such.
    :param fields: the record's fields, with the tool's values as they came.
    """
    try:
        return of.model_validate({"external_id": external_id, **fields}, context={"written_at": written_at})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return Refused(
            external_id=external_id[:1000], reason=first["msg"], place=".".join(map(str, first["loc"]))
        )


@dataclass(frozen=True)
class ResourceSpec:
    """What `@resource` notes of a method."""

    name: str
    of: tuple[type[Record], ...]
    label: str
    incremental: bool
    method: str
    often: bool = False


def resource(
    *,
    of: type[Record] | tuple[type[Record], ...],
    label: str = "",
    incremental: bool = False,
    often: bool = False,
    scope: tuple[str, ...] = (),
) -> Callable[[Callable[..., AsyncIterator[Yielded]]], Callable[..., AsyncIterator[Yielded]]]:
    """Mark an async generator as one of the connector's lists.

    :param of: the record type or types it yields.
    :param label: plural name for people; default from the method's name.
    :param incremental: the method takes `since: dict | None` and yields `Mark`s; it lists what is new, so its
        records are never swept. A resource that is not incremental is a complete list: what a complete pass
        no longer shows is swept, unless the guard holds it.
    :param often: read every two minutes too, whatever the connection's interval: for what people wait for, such as
        runs. It must be cheap where nothing is new, and ask nothing of the lists before it.
    :param scope: of an incremental list, the settings that decide what is read: with other values it begins anew.
    :raises TypeError: for a name that is the core's own.
    """

    def decorate(method: Callable[..., AsyncIterator[Yielded]]) -> Callable[..., AsyncIterator[Yielded]]:
        name = method.__name__
        if name.replace("_", "-") == INFERRED:
            raise TypeError(
                f"A connector cannot have a list named {INFERRED!r}: Portico keeps the components that it infers "
                f"under this name. Rename the method {method.__qualname__}."
            )
        spec = ResourceSpec(
            name=name.replace("_", "-"),
            of=of if isinstance(of, tuple) else (of,),
            label=label or name.replace("_", " ").capitalize(),
            incremental=incremental,
            method=name,
            often=often,
        )
        marked = _within(scope, method) if scope else method
        marked.__portico_resource__ = spec  # type: ignore[attr-defined]
        return marked

    return decorate


def _within(
    scope: tuple[str, ...], method: Callable[..., AsyncIterator[Yielded]]
) -> Callable[..., AsyncIterator[Yielded]]:
    """An incremental list that keeps the settings of its scope in its cursor, and heeds no cursor of others."""

    @wraps(method)
    async def read(self: Connector[Any], since: dict[str, Any] | None) -> AsyncIterator[Yielded]:
        present = self.config.model_dump(mode="json", include=set(scope))
        known = since if since and since.get("scope") == present else None
        async with aclosing(cast("AsyncGenerator[Yielded]", method(self, known))) as items:
            async for item in items:
                yield Mark({**item.cursor, "scope": present}) if isinstance(item, Mark) else item

    return read


class Risk(StrEnum):
    """How much an operation can harm: decides who may run it and what is asked first."""

    READ = "read"
    LOW = "low"
    HIGH = "high"


@dataclass(frozen=True)
class OperationSpec:
    """What `@operation` notes of a method."""

    name: str
    label: str
    risk: Risk
    on: tuple[type[Record], ...]
    params: type[BaseModel]
    method: str
    statuses: tuple[str, ...] = ()

    def fits(self, type_: str, status: str) -> bool:
        """Whether it can be done to a record of this type, as its status is now."""
        return type_ in {of.type for of in self.on} and (not self.statuses or status in self.statuses)


@dataclass(frozen=True, kw_only=True)
class OperationResult:
    """What an operation did: a sentence, the thing's page, and records that it brought about."""

    message: str
    url: str = ""
    records: list[Record] = field(default_factory=list)


class NoParams(BaseModel):
    """Parameters of an operation that needs none."""

    model_config = ConfigDict(extra="forbid")


def operation(
    *,
    label: str,
    on: type[Record] | tuple[type[Record], ...],
    risk: Risk = Risk.LOW,
    statuses: tuple[str, ...] = (),
) -> Callable[[Callable[..., Awaitable[OperationResult]]], Callable[..., Awaitable[OperationResult]]]:
    """Mark a method `async def name(self, target: Record, params: SomeModel) -> OperationResult`.

    :param on: the record types it can be done to; the record is the one that the connector yielded.
    :param statuses: only while the record has one of these statuses, such as a run that is over; empty for any.
    The parameter model is taken from the annotation of `params`; without such an argument there are none.
    """

    def decorate(
        method: Callable[..., Awaitable[OperationResult]],
    ) -> Callable[..., Awaitable[OperationResult]]:
        annotated = inspect.get_annotations(method, eval_str=True).get("params", NoParams)
        method.__portico_operation__ = OperationSpec(  # type: ignore[attr-defined]
            name=method.__name__.replace("_", "-"),
            label=label,
            risk=risk,
            on=on if isinstance(on, tuple) else (on,),
            params=annotated,
            method=method.__name__,
            statuses=tuple(map(str, statuses)),
        )
        return method

    return decorate


@dataclass(frozen=True)
class WebhookRequest:
    """A delivery as it came in.

    :ivar headers: names in lower case; what a handler gets has those only that `@webhook` names.
    :ivar body: the exact bytes, for the signature.
    :ivar received_at: when it came: nothing in it is newer.
    """

    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    received_at: datetime

    def json(self) -> Any:
        """The body as JSON.

        :raises BadPayload: if it is none.
        """
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise BadPayload(gettext("The delivery is no JSON: %(why)s.") % {"why": error}) from None


@dataclass(frozen=True, kw_only=True)
class Gone:
    """A delivery says that a thing was deleted. It leaves a tombstone: older word does not bring it back.

    :ivar of: the type of the record that it was.
    """

    of: type[Record]
    external_id: str
    as_of: datetime


Told = Record | Refused | Gone

WEBHOOK_SECRET = "webhook_secret"  # noqa: S105 - the name of a setting
"""The setting that holds what a tool's deliveries are proved by: a `SecretStr | None` of the connector's config.
While it is empty, the connection takes no deliveries."""

Verify = Callable[[WebhookRequest, str], bool]
Handler = Callable[..., AsyncIterator[Told]]


@dataclass(frozen=True)
class WebhookSpec:
    """What `@webhook` notes of a method."""

    method: str
    verify: Verify
    headers: tuple[str, ...]
    id_header: str
    event_header: str
    asking: frozenset[str]


def webhook(
    *,
    verify: Verify,
    headers: tuple[str, ...] = (),
    id_header: str = "",
    event_header: str = "",
    asking: Collection[str] = (),
) -> Callable[[Handler], Handler]:
    """Mark an async generator `async def name(self, request: WebhookRequest)` that turns a delivery into records.

    It yields records of the types that the connector's resources list, `Gone` and `Refused`, and belongs to the
    resource that lists them; what it does not care for, it passes over in silence.

    :param verify: `(request, secret) -> bool`, the proof of who sends it, before anything is parsed.
    :param headers: names of the headers that the handler reads, in lower case.
    :param id_header: the header with the delivery's own id, for the list of deliveries. What comes twice is known by
        its body, since that alone is proved.
    :param event_header: the header that says what happened, for the list of deliveries.
    :param asking: events that bear no time, of which the handler believes nothing and asks the tool how it is now.
        Their bodies say the same again when the same happens again, so they come in once for each id.
    """

    def decorate(method: Handler) -> Handler:
        method.__portico_webhook__ = WebhookSpec(  # type: ignore[attr-defined]
            method=method.__name__,
            verify=verify,
            headers=headers,
            id_header=id_header,
            event_header=event_header,
            asking=frozenset(asking),
        )
        return method

    return decorate


def signed_with_hmac(request: WebhookRequest, secret: str, *, header: str, prefix: str = "sha256=") -> bool:
    """Whether a header holds the HMAC-SHA256 of the body in hexadecimal: how many tools sign."""
    given = request.headers.get(header, "")
    right = hmac.new(secret.encode(), request.body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(given.encode(), f"{prefix}{right}".encode())


def bears_token(request: WebhookRequest, secret: str) -> bool:
    """Whether `Authorization` holds the secret, as a bearer token or as the password of any user: how tools prove
    themselves that cannot sign."""
    scheme, _space, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode().partition(":")[2]
        except ValueError:
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(given.encode(), secret.encode())


@dataclass(frozen=True)
class Tools:
    """What a connector is handed: every way out of the house, each under the same guard."""

    http: HttpClient
    git: GitClient
    files: FileReader
    ldap: LdapClient


C = TypeVar("C", bound=ConnectionConfig)


class Connector(Generic[C]):
    """One tool's adapter. Subclass it as `Connector[YourConfig]`.

    :cvar slug: short name, as in the folder's name and the entry point.
    :cvar label: the tool's name, for people.
    :cvar monogram: two letters for the badge.
    :cvar brings: one line for the gallery: what it brings into the catalog.
    :cvar named: the tool in a sentence, where that is another word than the label: "the registry".
    :cvar if_refused: what to do when it does not let us read.
    :cvar if_elsewhere: what to do when something else answers.
    :cvar if_misconfigured: what to do when the settings cannot work, unless the error itself knows.
    """

    slug: ClassVar[str]
    label: ClassVar[str]
    monogram: ClassVar[str]
    category: ClassVar[Category]
    brings: ClassVar[str]
    named: ClassVar[str] = ""
    if_refused: ClassVar[str] = gettext_noop("Give credentials that may read this.")
    if_elsewhere: ClassVar[str] = gettext_noop("Correct the address: give that of the tool itself.")
    if_misconfigured: ClassVar[str] = gettext_noop("Correct the address and the selection.")
    Config: ClassVar[type[ConnectionConfig]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in getattr(cls, "__orig_bases__", ()):
            args = getattr(base, "__args__", ())
            if args and isinstance(args[0], type) and issubclass(args[0], ConnectionConfig):
                cls.Config = args[0]

    def __init__(self, config: C, tools: Tools) -> None:
        self.config = config
        self.http = tools.http
        self.git = tools.git
        self.files = tools.files
        self.ldap = tools.ldap

    def checks(self) -> AsyncIterator[Check]:
        """Make the cheapest calls that prove the settings, and say which permission is missing.

        An error ends it, and is told to the person as one check more.
        """
        raise NotImplementedError

    async def check(self) -> Health:
        """What the settings let us do."""
        found: list[Check] = []
        try:
            async for one in self.checks():
                found.append(one)
        except SourceError as error:
            found.append(self.failed(error, is_first=not found))
        return Health(found)

    def failed(self, error: SourceError, *, is_first: bool) -> Check:
        """What an error says of the settings, and what to do about it."""
        shown = {"tool": gettext(self.named) or self.label}
        match error:
            case AuthFailed():
                label, remedy = gettext("Not permitted"), gettext(self.if_refused)
            case BadPayload() | NotThere():
                label, remedy = gettext("This is not %(tool)s") % shown, gettext(self.if_elsewhere)
            case Misconfigured():
                label, remedy = gettext("Not reached"), gettext(self.if_misconfigured)
            case _:
                label = gettext("Not reached")
                remedy = gettext("See that %(tool)s runs, and that this machine can reach it.") % shown
        remedy = str(error.remedy) or remedy
        label = label if is_first else gettext("Not everything can be read")
        return Check.failed(label, error.message, remedy)

    @classmethod
    def _specs(cls, attribute: str) -> list[Any]:
        found = {}
        for klass in reversed(cls.__mro__):
            for name, member in vars(klass).items():
                if hasattr(member, attribute):
                    found[name] = getattr(member, attribute)
        return list(found.values())

    @classmethod
    def resources(cls) -> list[ResourceSpec]:
        """The connector's lists, in the order of the class body: the order in which they are synced."""
        return cls._specs("__portico_resource__")

    @classmethod
    def operations(cls) -> list[OperationSpec]:
        """What the connector can do to its tool."""
        return cls._specs("__portico_operation__")

    @classmethod
    def webhook(cls) -> WebhookSpec | None:
        """How the connector takes deliveries, if it does."""
        return next(iter(cls._specs("__portico_webhook__")), None)

    @classmethod
    def resource_of(cls, of: type[Record]) -> ResourceSpec | None:
        """The list that records of a type belong to: the first that has them."""
        return next((spec for spec in cls.resources() if of in spec.of), None)
