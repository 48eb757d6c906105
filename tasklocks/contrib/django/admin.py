"""The admin page: which limits are in use, who holds and waits, what a task waits for, and the release of a lease.

It shows what the project's backend knows, whichever that is, not the rows of the tables. Seeing it needs the permission
`tasklocks.view_limit`, releasing `tasklocks.release_limit`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse

from tasklocks.backends import Backend
from tasklocks.cli.elsewhere import find_elsewhere
from tasklocks.cli.listing import COLUMNS, busiest, cells
from tasklocks.cli.output import ago, when
from tasklocks.cli.sentences import why_text
from tasklocks.contrib.django import project
from tasklocks.contrib.django.models import Limit
from tasklocks.errors import TaskLocksError
from tasklocks.overview import find, look, rows
from tasklocks.views import HolderView, LimitView, WaiterView

__all__ = ["LimitAdmin"]

_SHOWN = 200
_PATIENCE = 0.5  # seconds that workers have to answer
_WHOLE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TEMPLATES = "admin/tasklocks/limit"

_logger = logging.getLogger("tasklocks")

View = Callable[[HttpRequest, Backend], HttpResponse]


@admin.register(Limit)
class LimitAdmin(admin.ModelAdmin):
    """Limits, for people who look and steer."""

    def has_add_permission(self, request: HttpRequest, obj: Limit | None = None) -> bool:
        """Limits come by being used."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Limit | None = None) -> bool:
        """What a limit is, the code says."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Limit | None = None) -> bool:
        """They are forgotten when they are not used any more."""
        return False

    def get_urls(self) -> list[Any]:
        """Return the pages: a list, one limit, and the release of a lease."""
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(self._page(self._list)), name="tasklocks_limit_changelist"),
            path("show/", wrap(self._page(self._show)), name="tasklocks_limit_show"),
            path("release/", wrap(self._page(self._release)), name="tasklocks_limit_release"),
        ]

    def _page(self, view: View) -> Callable[[HttpRequest], HttpResponse]:
        """Return a view of the project's backend; an error of its is shown on the page."""

        def answer(request: HttpRequest) -> HttpResponse:
            if not self.has_view_permission(request):
                raise PermissionDenied
            try:
                return view(request, project.backend())
            except TaskLocksError as error:
                return self._shown(request, "list.html", error=str(error), columns=COLUMNS, limits=[])

        return answer

    def _list(self, request: HttpRequest, backend: Backend) -> HttpResponse:
        wanted = request.GET.get("q", "").strip()
        found = [row for row in busiest(rows(backend, idle="all" in request.GET), 0) if wanted in row.name]
        limits = [{"name": row.name, "cells": cells(row), "rate": row.kind == "rate"} for row in found[:_SHOWN]]
        why = _why(backend, wanted) if wanted else []
        return self._shown(
            request, "list.html", limits=limits, more=len(found) - len(limits), why=why, q=wanted, columns=COLUMNS
        )

    def _show(self, request: HttpRequest, backend: Backend) -> HttpResponse:
        name = request.GET.get("name", "")
        limit = look(backend, name)
        return self._shown(
            request,
            "show.html",
            name=name,
            limit=limit,
            usual=ago(limit.usual_hold) if limit else "",
            holders=[_holder(each) for each in limit.holders] if limit else [],
            waiters=[_waiter(limit, each) for each in limit.waiters] if limit else [],
            may_release=_may_release(request),
        )

    def _release(self, request: HttpRequest, backend: Backend) -> HttpResponse:
        if not _may_release(request):
            raise PermissionDenied
        asked = request.POST if request.method == "POST" else request.GET
        name, owner = asked.get("name", ""), asked.get("owner", "")
        if request.method != "POST":
            return self._shown(request, "release.html", name=name, owner=owner, who=_who(backend, name, owner))
        if owner and backend.force_release(name, owner):
            _logger.warning("limit %r: the lease of %s was ended in the admin by %s", name, owner, request.user)
            messages.success(request, f"{owner} does not hold {name!r} any more; its task is told within its lease.")
        else:
            messages.warning(request, f"{owner} did not hold {name!r} any more.")
        shown = reverse("admin:tasklocks_limit_show", current_app=self.admin_site.name)
        return HttpResponseRedirect(f"{shown}?{urlencode({'name': name})}")

    def _shown(self, request: HttpRequest, template: str, **facts: Any) -> TemplateResponse:
        # A project may have an admin site of another name.
        request.current_app = self.admin_site.name
        common = {**self.admin_site.each_context(request), "opts": self.opts, "title": "Task locks"}
        return TemplateResponse(request, f"{_TEMPLATES}/{template}", {**common, **facts})


def _why(backend: Backend, wanted: str) -> list[str]:
    """Say what a task waits for; workers, broker and results are asked only by a whole id: it takes a moment."""
    found = [why_text(limit, place) for limit, place in find(backend, wanted)]
    if found or not _WHOLE_ID.fullmatch(wanted):
        return found
    return [each["sentence"] for each in find_elsewhere(backend, project.celery_app(), wanted, _PATIENCE)]


def _may_release(request: HttpRequest) -> bool:
    return bool(request.user.has_perm("tasklocks.release_limit"))


def _who(backend: Backend, name: str, owner: str) -> HolderView | None:
    limit = look(backend, name)
    return next((each for each in limit.holders if each.owner == owner), None) if limit else None


def _holder(each: HolderView) -> dict[str, object]:
    return {
        "who": str(each.who),
        "owner": each.owner,
        "permits": each.permits,
        "since": when(each.since),
        "held_for": ago(each.held_for),
        "lease_left": ago(each.lease_left),
        "token": each.fencing_token,
    }


def _waiter(limit: LimitView, each: WaiterView) -> dict[str, object]:
    return {
        "place": each.place,
        "who": str(each.who),
        "permits": each.permits,
        "waited_for": ago(each.waited_for),
        "expected_in": ago(each.expected_in),
        "why": why_text(limit, each),
    }
