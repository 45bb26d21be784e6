"""The one form engine: what a model becomes, and what comes back."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

import pytest
from django.http import QueryDict
from django.template.loader import render_to_string
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr, field_validator, model_validator

from base.errors import FieldError, InvalidInput
from integrations.contract import SELDOM
from integrations.registry import connectors
from portal.forms import Form


class Size(StrEnum):
    SMALL = "small"
    VERY_LARGE = "very-large"


class Inner(BaseModel):
    """Who is asked."""

    user: str = Field(min_length=2, description="A login.")
    password: SecretStr | None = Field(None, description="Theirs.")


class Everything(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    base_url: HttpUrl = Field(title="Address", description="Where it is.")
    token: SecretStr = Field(description="To get in.")
    names: list[str] = Field(
        default_factory=lambda: ["main"], min_length=1, max_length=3, description="Names."
    )
    days: int = Field(14, ge=1, le=30, description="How many.")
    share: float | None = Field(None, gt=0, description="A part.")
    is_deep: bool = Field(False, description="All of it.")
    is_known: bool | None = Field(None, description="If one knows.")
    size: Size = Field(Size.SMALL, description="How large.")
    way: Literal["a", "b", "c", "d", "e"] = Field(
        "a", description="Which way.", json_schema_extra={"labels": {"a": "The first"}}
    )
    ways: list[Literal["x", "y"]] = Field(default_factory=list, description="Several.")
    labels: dict[str, str] = Field(default_factory=dict, description="Pairs.")
    rules: list[dict[str, int]] = Field(default_factory=list, description="As YAML.")
    note: str = Field("hello", max_length=20, description="Words.")
    text: str = Field("", max_length=10_000, description="Many words.")
    login: Inner | None = Field(None, description="Optional as a whole.")

    @field_validator("names")
    @classmethod
    def _no_spaces(cls, names: list[str]) -> list[str]:
        if any(" " in name for name in names):
            raise ValueError("a name has no blanks")
        return names

    @model_validator(mode="after")
    def _together(self) -> Everything:
        if self.is_deep and self.days > 20:
            raise ValueError("not so many days of all of it")
        return self


GOOD = "base_url=https://tool.example&token=s3cret&names=main&days=7&note=hi&size=small&way=b"


def typed(text: str) -> QueryDict:
    return QueryDict(text)


def fields(form: Form) -> dict[str, dict[str, Any]]:
    return {field["name"]: field for field in form.fields}


def test_a_model_becomes_fields_with_help_and_defaults() -> None:
    found = fields(Form(Everything))
    types = {name: field["type"] for name, field in found.items()}
    assert types == {
        "base_url": "url",
        "token": "secret",
        "names": "list",
        "days": "number",
        "share": "number",
        "is_deep": "bool",
        "is_known": "select",
        "size": "segments",
        "way": "select",
        "ways": "multiple",
        "labels": "map",
        "rules": "yaml",
        "note": "text",
        "text": "textarea",
        "login.user": "text",
        "login.password": "secret",
    }
    assert found["base_url"]["label"] == "Address"
    assert found["base_url"]["help"] == "Where it is."
    assert found["base_url"]["required"]
    assert found["is_deep"]["label"] == "Is deep"
    assert found["names"]["value"] == ["main"]
    assert (found["days"]["value"], found["days"]["min"], found["days"]["max"], found["days"]["step"]) == (
        14,
        1,
        30,
        "1",
    )
    assert found["note"]["value"] == "hello"
    assert found["size"]["choices"] == [
        {"value": "small", "label": "Small"},
        {"value": "very-large", "label": "Very large"},
    ]
    assert found["way"]["choices"][0] == {"value": "a", "label": "The first"}
    assert not found["login.user"]["required"], "a group that may be left out asks for nothing"


def test_nested_models_are_groups_after_the_models_own_fields() -> None:
    groups = Form(Everything).groups
    assert [group["label"] for group in groups] == ["", "Login"]
    assert groups[1]["help"] == "Optional as a whole."


class Seldom(BaseModel):
    """Few of these are changed."""

    address: str = Field(description="Where.")
    days: int = Field(14, ge=1, description="How many.", json_schema_extra=SELDOM)
    tags: list[str] = Field(default_factory=lambda: ["main"], description="Which.", json_schema_extra=SELDOM)
    note: str | None = Field(None, description="What.", json_schema_extra=SELDOM)
    login: Inner | None = Field(None, description="Who.")


def folded(form: Form) -> dict[str, Any]:
    (group,) = [group for group in form.groups if group["is_folded"]]
    return group


def test_what_is_seldom_changed_is_folded_after_the_models_own_fields() -> None:
    groups = Form(Seldom).groups
    assert [(group["label"], group["is_folded"]) for group in groups] == [
        ("", False),
        ("More settings", True),
        ("Login", False),
    ]
    assert [field["name"] for field in groups[1]["fields"]] == ["days", "tags", "note"]
    page = render_to_string("components/form_fields.html", {"groups": groups})
    assert '<details class="po-fold"><summary>More settings</summary>' in page


@pytest.mark.parametrize("changed", [{"days": 15}, {"tags": []}, {"note": "x"}])
def test_the_fold_is_open_when_something_in_it_is_not_as_by_default(changed: dict[str, Any]) -> None:
    assert not folded(Form(Seldom, initial={"address": "a", "days": 14, "tags": ["main"]}))["is_open"]
    assert folded(Form(Seldom, initial={"address": "a", **changed}))["is_open"]
    page = render_to_string("components/form_fields.html", {"groups": Form(Seldom, initial=changed).groups})
    assert '<details class="po-fold" open>' in page


def test_the_fold_is_open_when_an_error_stands_in_it() -> None:
    typed = {"address": "a", "tags": "main", "note": ""}
    wrong = Form(Seldom, QueryDict.fromkeys(["days"], "0", mutable=True))
    assert not wrong.is_valid()
    assert folded(wrong)["is_open"]
    elsewhere = QueryDict(mutable=True)
    elsewhere.update({**typed, "address": "", "days": "14"})
    elsewhere_wrong = Form(Seldom, elsewhere)
    elsewhere_wrong.is_valid()
    assert not folded(elsewhere_wrong)["is_open"]


def test_what_was_typed_comes_back_validated_with_secrets_apart() -> None:
    data = typed(
        GOOD + "&names=next&names=&is_deep=true&is_known=false&ways=x&ways=y&labels__key=a&labels__value=1"
        "&labels__key=&labels__value=2&rules=-%20%7Bn%3A%201%7D&share=0.5&login.user=ana&login.password=pw"
    )
    form = Form(Everything, data)
    assert form.is_valid(), form.errors
    assert form.values == {
        "base_url": "https://tool.example/",
        "names": ["main", "next"],
        "days": 7,
        "share": 0.5,
        "is_deep": True,
        "is_known": False,
        "size": "small",
        "way": "b",
        "ways": ["x", "y"],
        "labels": {"a": "1"},
        "rules": [{"n": 1}],
        "note": "hi",
        "text": "",
        "login": {"user": "ana"},
    }
    assert form.secrets == {"token": "s3cret", "login.password": "pw"}


def test_several_lines_in_one_row_are_several_rows() -> None:
    form = Form(Everything, typed(GOOD.replace("names=main", "names=a%0Ab%0D%0A%0Ac")))
    assert form.is_valid(), form.errors
    assert form.values["names"] == ["a", "b", "c"]


def test_an_empty_word_is_a_value_and_an_empty_number_is_the_default() -> None:
    form = Form(Everything, typed(GOOD.replace("note=hi", "note=").replace("days=7", "days=")))
    assert form.is_valid(), form.errors
    assert form.values["note"] == ""
    assert form.values["days"] == 14


def test_a_group_that_may_be_left_out_is_left_out_when_empty() -> None:
    form = Form(Everything, typed(GOOD + "&login.user=&login.password="))
    assert form.is_valid(), form.errors
    assert form.values["login"] is None


def test_a_group_that_was_begun_is_checked() -> None:
    form = Form(Everything, typed(GOOD + "&login.user=a"))
    assert not form.is_valid()
    assert form.errors == {"login.user": ["At least 2 characters."]}


@pytest.mark.parametrize(
    ("change", "name", "message"),
    [
        (("base_url=https://tool.example", "base_url="), "base_url", "Enter a value."),
        (("base_url=https://tool.example", "base_url=tool"), "base_url", "Enter a whole address, such as https://tool.example."),
        (("base_url=https://tool.example", "base_url=ftp://tool.example"), "base_url", "Enter a whole address, such as https://tool.example."),
        (("token=s3cret", "token="), "token", "Enter a value."),
        (("days=7", "days=soon"), "days", "Enter a whole number."),
        (("days=7", "days=0"), "days", "Enter 1 or more."),
        (("days=7", "days=31"), "days", "Enter 30 or less."),
        (("names=main", "names="), "names", "Add at least one."),
        (("names=main", "names=a&names=b&names=c&names=d"), "names", "At most 3."),
        (("names=main", "names=two+words"), "names", "A name has no blanks."),
        (("way=b", "way=z"), "way", "Choose one of 'a', 'b', 'c', 'd' or 'e'."),
        (("size=small", "size=huge"), "size", "Choose one of 'small' or 'very-large'."),
        (("note=hi", f"note={'x' * 21}"), "note", "At most 20 characters."),
        (("note=hi", "note=hi&share=-1"), "share", "Enter more than 0."),
        (("note=hi", "note=hi&rules=%5B"), "rules", None),
        (("note=hi", "note=hi&rules=-+n%3A+one"), "rules", "0.n: Enter a whole number."),
        (("days=7", "days=25&is_deep=true"), "", "Not so many days of all of it."),
    ],
)  # fmt: skip
def test_an_error_stands_at_its_field_in_plain_words(
    change: tuple[str, str], name: str, message: str | None
) -> None:
    form = Form(Everything, typed(GOOD.replace(*change)))
    assert not form.is_valid()
    assert list(form.errors) == [name]
    if message:
        assert form.errors[name] == [message]
    assert form.summary[0]["name"] == name
    assert form.summary[0]["text"]


def test_what_was_typed_wrong_is_still_there() -> None:
    form = Form(Everything, typed("base_url=tool&days=soon&names=a&rules=%5Bx"))
    assert not form.is_valid()
    found = fields(form)
    assert found["base_url"]["value"] == "tool"
    assert found["days"]["value"] == "soon"
    assert found["rules"]["value"] == "[x"


class TestSecrets:
    def test_a_kept_one_is_used_when_its_field_comes_back_empty(self) -> None:
        form = Form(Everything, typed(GOOD.replace("token=s3cret", "token=")), secrets={"token": "kept"})
        assert form.is_valid(), form.errors
        assert form.secrets == {"token": "kept"}

    def test_a_new_one_replaces_it(self) -> None:
        form = Form(Everything, typed(GOOD), secrets={"token": "kept"})
        assert form.is_valid()
        assert form.secrets == {"token": "s3cret"}

    def test_it_is_shown_as_set_and_never_with_its_value(self) -> None:
        for form in (
            Form(Everything, secrets={"token": "kept-one"}, initial={"token": "kept-one"}),
            Form(
                Everything,
                typed(GOOD.replace("s3cret", "typed-one").replace("days=7", "days=x")),
                secrets={"token": "kept-one"},
            ),
        ):
            form.is_valid()
            field = fields(form)["token"]
            assert field["is_set"]
            page = render_to_string("components/form_fields.html", {"groups": form.groups})
            assert "kept-one" not in page
            assert "typed-one" not in page

    def test_an_error_does_not_repeat_it(self) -> None:
        class Strict(BaseModel):
            token: SecretStr = Field(min_length=20, description="Long.")

        form = Form(Strict, typed("token=short-one"))
        assert not form.is_valid()
        assert "short-one" not in repr(form.errors)
        assert form.errors == {"token": ["At least 20 characters."]}


def test_errors_of_a_service_go_to_their_fields() -> None:
    form = Form(Everything)
    form.add_errors(
        InvalidInput(
            "No.", errors=[FieldError("/names/2", "Row is bad."), FieldError("/other", "Elsewhere.")]
        )
    )
    form.add_errors(InvalidInput("As a whole."))
    assert form.errors == {"names": ["Row is bad."], "": ["Elsewhere.", "As a whole."]}


def test_every_field_has_a_label_and_help_that_belong_to_it() -> None:
    form = Form(Everything, typed("base_url="))
    form.is_valid()
    page = render_to_string("components/form_fields.html", {"groups": form.groups})
    for name in ("base_url", "days", "note", "login.user"):
        assert f'for="{name}"' in page
        assert f'id="{name}"' in page
    assert 'aria-describedby="base_url-error base_url-help"' in page
    assert 'aria-invalid="true"' in page


@pytest.mark.parametrize("slug", sorted(connectors()))
def test_the_settings_of_every_connector_make_a_form(slug: str) -> None:
    found = fields(Form(connectors()[slug].Config))
    assert found
    for field in found.values():
        assert field["help"], f"{slug}: {field['name']} has no help text"
        assert field["type"] != "yaml", f"{slug}: {field['name']} has no field of its own"
