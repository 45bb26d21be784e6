"""Answers to a deletion that can be taken back: the row goes and a toast says so, or the list is shown anew."""

from __future__ import annotations

import json

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect


def deleted(request: HttpRequest, said: str, *, undo: str, back: str) -> HttpResponse:
    """After a deletion.

    :param undo: the address that takes it back.
    :param back: that of the list.
    """
    if not request.headers.get("HX-Request"):
        messages.success(request, said)
        return redirect(back)
    return HttpResponse("", headers={"HX-Trigger": json.dumps({"toast": {"text": said, "undo": undo}})})


def restored(request: HttpRequest, *, back: str) -> HttpResponse:
    """After a deletion was taken back.

    :param back: the address of the list.
    """
    if request.headers.get("HX-Request"):
        return HttpResponse("", headers={"HX-Redirect": back})
    return redirect(back)
