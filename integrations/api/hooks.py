"""`/hooks/<connection>`: where tools deliver what happens."""

from __future__ import annotations

import logging

from django.core.exceptions import RequestDataTooBig
from django.utils import timezone
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from base.limits import LimitExceeded
from integrations.services.deliveries import accept_delivery, is_awaited
from integrations.tasks import start_processing

logger = logging.getLogger(__name__)


class Hook(APIView):
    """Takes a delivery: proved by its signature before anything is read, stored, then acknowledged with 202."""

    authentication_classes = ()
    permission_classes = ()

    @extend_schema(exclude=True)
    def post(self, request: Request, slug: str) -> Response:
        try:
            body = request.body
        except RequestDataTooBig:
            raise LimitExceeded(_("A delivery may have at most 10 MB.")) from None
        headers = {name.lower(): value for name, value in request.headers.items()}
        delivery, is_fresh = accept_delivery(slug=slug, headers=headers, body=body, now=timezone.now())
        if is_fresh and not is_awaited(delivery):
            start_processing(delivery.connection_id)
        return Response(
            {"delivery": delivery.delivery_id or delivery.digest, "repeated": not is_fresh}, status=202
        )
