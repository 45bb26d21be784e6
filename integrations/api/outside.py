"""What lies outside of the portal: hosts that calls may reach, and the provider through which people sign in."""

from __future__ import annotations

from functools import partial

from django.http import HttpResponse
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from access.api.permissions import View, person_of
from access.services import etag_of_provider, identity_provider, provider_secret, remove_provider
from access.verbs import EVERYTHING
from base.answers import given, if_match, one_answer, plain
from base.errors import NotFound
from base.openapi import IF_MATCH, IF_NONE_MATCH, PAGE
from base.pagination import rows_answer
from integrations.api import serializers as shapes
from integrations.openid import connect_provider
from integrations.services import network

_host = partial(plain, shapes.HostOut)


class HostList(View):
    """Hosts inside the network that calls may reach."""

    verbs = {"GET": EVERYTHING, "POST": EVERYTHING}

    @extend_schema(
        parameters=PAGE, responses={200: shapes.HostListOut, 304: None}, operation_id="allowed_hosts_list"
    )
    def get(self, request: Request) -> HttpResponse:
        return rows_answer(request, network.allowed_hosts(), ("host",), _host)

    @extend_schema(
        request=shapes.HostIn,
        responses={201: shapes.HostOut},
        operation_id="allowed_hosts_allow",
        description="Let calls reach a host that is private, or one port of this machine itself.",
    )
    def post(self, request: Request) -> Response:
        row = network.allow_host(**given(request, shapes.HostIn), by=person_of(request).label)
        return Response(_host(row), status=201)


class HostDetail(View):
    """One host that calls may reach."""

    verbs = {"DELETE": EVERYTHING}

    @extend_schema(
        request=None,
        responses={204: None},
        operation_id="allowed_hosts_withdraw",
        description="Close a host again; what is being read now is read to its end.",
    )
    def delete(self, request: Request, host_id: int) -> Response:
        row = network.allowed_hosts().filter(pk=host_id).first()
        if row is None:
            raise NotFound(_("There is no such host here."))
        network.withdraw_host(host=row)
        return Response(status=204)


def _provider(request: Request) -> HttpResponse:
    row = identity_provider()
    if row is None:
        raise NotFound(_("Nobody signs in through an identity provider here."))
    shown = shapes.provider(row, has_secret=bool(provider_secret()))
    return one_answer(request, shown, state=etag_of_provider(row))


class Provider(View):
    """The identity provider through which people sign in."""

    # Who says which provider is believed can sign in as anybody.
    verbs = {"GET": EVERYTHING, "PUT": EVERYTHING, "DELETE": EVERYTHING}

    @extend_schema(
        parameters=[IF_NONE_MATCH],
        responses={200: shapes.ProviderOut, 304: None},
        operation_id="identity_provider_retrieve",
        description="The identity provider, without its secret; its ETag is for If-Match.",
    )
    def get(self, request: Request) -> HttpResponse:
        return _provider(request)

    @extend_schema(
        request=shapes.ProviderIn,
        responses=shapes.ProviderOut,
        parameters=[IF_MATCH],
        operation_id="identity_provider_connect",
        description="Say through which provider people sign in, and what its groups give. It must answer.",
    )
    def put(self, request: Request) -> HttpResponse:
        facts = given(request, shapes.ProviderIn)
        secret = facts.pop("client_secret", None)
        connect_provider(facts, secret=secret, by=person_of(request), expected=if_match(request))
        return _provider(request)

    @extend_schema(
        request=None,
        responses={204: None},
        operation_id="identity_provider_remove",
        description="Let nobody sign in through the provider any more; accounts stay.",
    )
    def delete(self, request: Request) -> Response:
        remove_provider(by=person_of(request))
        return Response(status=204)
