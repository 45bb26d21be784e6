"""The one form engine: a pydantic model in, fields for `components/field.html` and validated data out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import QueryDict
from pydantic import BaseModel, ValidationError


class Form:
    """A form made from a model.

    :ivar values: what was typed, or the model's defaults.
    :ivar errors: messages by field name.
    """

    def __init__(
        self, model: type[BaseModel], data: QueryDict | None = None, initial: Mapping[str, Any] | None = None
    ) -> None:
        self.model = model
        self.errors: dict[str, list[str]] = {}
        self.schema = model.model_json_schema()
        self.values: dict[str, Any] = dict(initial or {})
        if data is not None:
            self.values = {name: self._read(name, data) for name in model.model_fields}
            self.values = {name: value for name, value in self.values.items() if value is not None}

    def _kind(self, name: str) -> dict[str, Any]:
        schema = self.schema["properties"][name]
        for option in schema.get("anyOf", []):
            if option.get("type") != "null":
                schema = {**option, **{k: v for k, v in schema.items() if k != "anyOf"}}
        if "$ref" in schema:
            schema = {**self.schema["$defs"][schema["$ref"].rpartition("/")[2]], **schema}
        return schema

    def _read(self, name: str, data: QueryDict) -> Any:
        schema = self._kind(name)
        if schema.get("type") == "boolean":
            return name in data
        if schema.get("type") == "array":
            lines = [line.strip() for value in data.getlist(name) for line in value.splitlines()]
            return [line for line in lines if line]
        value = data.get(name, "").strip()
        return value if value else None

    def is_valid(self) -> bool:
        """Whether the model takes the values; fills `errors` if not, else `values` with the model's own."""
        try:
            found = self.model.model_validate(self.values)
        except ValidationError as error:
            for item in error.errors(include_url=False):
                name = str(item["loc"][0]) if item["loc"] else ""
                self.errors.setdefault(name, []).append(item["msg"].removeprefix("Value error, "))
            return False
        self.values = found.model_dump()
        return True

    @property
    def fields(self) -> list[dict[str, Any]]:
        """The fields as the component prints them."""
        required = set(self.schema.get("required", []))
        found = []
        for name in self.model.model_fields:
            schema = self._kind(name)
            value = self.values.get(name, schema.get("default"))
            found.append(
                {
                    "name": name,
                    "label": schema.get("title") or name.replace("_", " ").capitalize(),
                    "help": schema.get("description", ""),
                    "type": self._type(schema),
                    "value": "" if value is None else value,
                    "required": name in required,
                    "errors": self.errors.get(name, []),
                    "choices": [{"value": c, "label": str(c).capitalize()} for c in schema.get("enum", [])],
                }
            )
        return found

    @staticmethod
    def _type(schema: Mapping[str, Any]) -> str:
        if schema.get("format") == "password":
            return "secret"
        if schema.get("enum"):
            return "segments" if len(schema["enum"]) <= 4 else "select"
        return {"boolean": "bool", "integer": "number", "number": "number", "array": "list"}.get(
            str(schema.get("type")), "text"
        )

    @property
    def summary(self) -> list[dict[str, str]]:
        """All errors in a row, for the summary above the form."""
        return [
            {"name": name, "text": message} for name, messages in self.errors.items() for message in messages
        ]


