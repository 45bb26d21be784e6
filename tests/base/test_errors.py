"""Errors become problem details, and nothing of a bug leaks."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import orjson
import pytest
from django.http import Http404
from django.utils.translation import gettext_lazy
from rest_framework import exceptions, serializers
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory
from rest_framework.views import APIView

from base import limits
from base.api import JSONParser, JSONRenderer, dump_json
from base.errors import BadRequest, Conflict, DomainError, FieldError, InvalidInput


def answer(act: Callable[..., Any], *, body: Any = None, **headers: str) -> Response:
    class View(APIView):
        authentication_classes = ()
        permission_classes = ()

        def post(self, request: Any) -> Response:
            return Response(act(request))

    request = APIRequestFactory().post(
        "/x",
        data=body if isinstance(body, bytes) else orjson.dumps(body),
        content_type="application/json",
        **headers,
    )
    response = View.as_view()(request)
    response.render()
    return response


def raising(error: Exception) -> Callable[..., Any]:
    def act(request: Any) -> Any:
        raise error

    return act


def test_an_expected_failure_keeps_its_code_sentence_and_places() -> None:
    error = InvalidInput(
        "Two fields are wrong.", errors=[FieldError("spec.owner", "Missing.", "text")], ref="a:b/c"
    )
    response = answer(raising(error))
    assert response.status_code == 422
    assert response["Content-Type"] == "application/problem+json"
    assert orjson.loads(response.content) == {
        "type": "urn:portico:problem:invalid-input",
        "title": "The input is not valid",
        "status": 422,
        "detail": "Two fields are wrong.",
        "code": "invalid-input",
        "errors": [{"path": "spec.owner", "message": "Missing.", "expected": "text"}],
        "ref": "a:b/c",
    }


def test_extras_cannot_replace_the_members_of_the_standard() -> None:
    assert Conflict("No.", status=200, code="fine").as_problem()["status"] == 409


def test_without_a_sentence_the_title_speaks() -> None:
    assert str(Conflict()) == "This conflicts with the present state"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Http404(), 404, "not-found"),
        (exceptions.PermissionDenied(), 403, "permission-denied"),
        (exceptions.NotAuthenticated(), 403, "not-authenticated"),
        (exceptions.MethodNotAllowed("POST"), 405, "method-not-allowed"),
        (exceptions.UnsupportedMediaType("a/b"), 415, "unsupported-media-type"),
        (limits.LimitExceeded("Too much."), 413, "limit-exceeded"),
    ],
)
def test_the_frameworks_failures_have_the_same_shape(error: Exception, status: int, code: str) -> None:
    response = answer(raising(error))
    problem = orjson.loads(response.content)
    assert (response.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["detail"]
    assert "{" not in problem["title"] + problem["detail"]


def test_a_serializers_errors_carry_paths() -> None:
    class Item(serializers.Serializer[Any]):
        size = serializers.IntegerField()

    class Order(serializers.Serializer[Any]):
        name = serializers.CharField()
        items = Item(many=True)

    def act(request: Any) -> Any:
        Order(data=request.data).is_valid(raise_exception=True)

    problem = orjson.loads(answer(act, body={"items": [{"size": 1}, {"size": "x"}]}).content)
    assert problem["status"] == 422
    assert {error["path"] for error in problem["errors"]} == {"name", "items[1].size"}


def test_throttling_says_when_to_come_back() -> None:
    response = answer(raising(exceptions.Throttled(wait=2.5)))
    assert (response.status_code, response["Retry-After"]) == (429, "3")


def test_a_bug_is_logged_once_with_its_id_and_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        response = answer(raising(RuntimeError("the password is hunter2")), HTTP_X_REQUEST_ID="abcdef-123456")
    assert response.status_code == 500
    assert b"hunter2" not in response.content
    assert orjson.loads(response.content)["request_id"] == "abcdef-123456"
    (record,) = caplog.records
    assert "abcdef-123456" in record.getMessage()
    assert record.exc_info


def test_a_strange_request_id_is_not_taken_over(caplog: pytest.LogCaptureFixture) -> None:
    response = answer(raising(RuntimeError()), HTTP_X_REQUEST_ID="x\ny <script>")
    assert "script" not in orjson.loads(response.content)["request_id"]


def parse(body: bytes) -> Any:
    return JSONParser().parse(io.BytesIO(body))


def test_broken_json_says_where() -> None:
    with pytest.raises(BadRequest, match="line 2, column 8"):
        parse(b'{"a": 1,\n "b": 1x}')


def test_a_request_with_broken_json_is_answered_with_400() -> None:
    assert answer(lambda request: request.data, body=b"{").status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 70 + b"]" * 70,
        b'{"a":' * 70 + b"1" + b"}" * 70,
        b'{"a": "x\\u0000y"}',
        b'{"x\\u0000y": 1}',
        b"[" + b"1," * limits.MAX_NODES + b"1]",
        b" " * (limits.MAX_BODY_BYTES + 1),
    ],
    ids=["lists", "objects", "NUL", "NUL in a key", "count", "size"],
)
def test_json_beyond_a_limit_is_refused(body: bytes) -> None:
    with pytest.raises(limits.LimitExceeded):
        parse(body)


def test_json_within_the_limits_passes() -> None:
    assert parse(b"[" * 60 + b"]" * 60)


def test_ready_made_json_passes_unchanged() -> None:
    assert JSONRenderer().render(b'{"a" : 1}') == b'{"a" : 1}'
    assert JSONRenderer().render([orjson.Fragment(b'{"a" : 1}')]) == b'[{"a" : 1}]'
    assert JSONRenderer().render(None) == b""


def test_what_json_has_no_type_for_is_written_sensibly() -> None:
    assert dump_json({1: gettext_lazy("text"), "d": Decimal("1.10"), "s": {"b", "a"}}) == (
        b'{"1":"text","d":"1.10","s":["a","b"]}'
    )
    with pytest.raises(TypeError):
        dump_json(object())


def test_every_error_of_the_floor_has_a_code_of_its_own() -> None:
    def below(error: type[DomainError]) -> list[type[DomainError]]:
        return [error, *(inner for direct in error.__subclasses__() for inner in below(direct))]

    ours = [error for error in below(DomainError) if error.__module__.startswith("base.errors")]
    codes = [error.code for error in ours]
    assert len(set(codes)) == len(codes) > 5
