"""`/api/v1/why/`: why something that somebody expects is not here."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.http import HttpResponse
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from access.api.permissions import View
from base.answers import one_answer
from base.errors import BadRequest, FieldError
from base.openapi import FIELDS, IF_NONE_MATCH, part_of
from integrations.why import STATES, why


class PlaceOut(serializers.Serializer[Any]):
    file = serializers.CharField()
    document = serializers.IntegerField(help_text="0: not known; so are line and column.")
    line = serializers.IntegerField()
    column = serializers.IntegerField()


class FindingOut(serializers.Serializer[Any]):
    state = serializers.ChoiceField(STATES)
    message = serializers.CharField()
    place = PlaceOut(allow_null=True)
    entity = serializers.CharField(allow_null=True, help_text="Ref.")
    connection = serializers.CharField(allow_null=True, help_text="Slug of the connection that knows more.")
    location = serializers.IntegerField(allow_null=True, help_text="Id of the catalog files.")


class WhyOut(serializers.Serializer[Any]):
    of = serializers.CharField()
    ref = serializers.CharField(allow_null=True, help_text="What it was understood as, if that is an entity.")
    is_seen = serializers.BooleanField()
    findings = FindingOut(many=True)


class Why(View):
    """Why something is not here."""

    @extend_schema(
        parameters=[
            OpenApiParameter(
                "of", str, required=True, description="What is expected: a ref, a name, a file, an address."
            ),
            FIELDS,
            IF_NONE_MATCH,
        ],
        responses={200: part_of(WhyOut), 304: None},
        operation_id="why",
        description="What is known of something that one expects, what explains most first. What one may not see looks "
        "like what is not there.",
    )
    def get(self, request: Request) -> HttpResponse:
        text = request.query_params.get("of", "").strip()
        if not text:
            raise BadRequest(
                _("`of` says what is expected: a ref, a name, a file or an address."),
                errors=[FieldError("of", _("Expected a text."), expected="component:default/pay")],
            )
        answer = why(request.user, text)
        return one_answer(
            request,
            {
                "of": answer.expected.text,
                "ref": answer.expected.ref or None,
                "is_seen": answer.is_seen,
                "findings": [
                    {
                        "state": finding.state,
                        "message": finding.message,
                        "place": asdict(finding.place) if finding.place else None,
                        "entity": finding.entity.ref if finding.entity else None,
                        "connection": finding.connection or None,
                        "location": finding.location,
                    }
                    for finding in answer.findings
                ],
            },
        )
