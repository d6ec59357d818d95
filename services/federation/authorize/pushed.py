"""Requests that were sent ahead: an app's by PAR (RFC 9126), and those that came to `/authorize` as a form.

A form that another site's page sends comes without our cookies (`SameSite=Lax`); kept and fetched again by a
redirect, it has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from chassis.ids import new_secret
from chassis.one_time import OneTimeState
from contracts.apps import App
from services.federation.authorize.parameters import Parameters
from services.federation.errors import InvalidPushedRequest

TTL: Final = timedelta(seconds=90)
PREFIX: Final = "urn:ietf:params:oauth:request_uri:"
_KIND: Final = "par"


@dataclass(frozen=True, slots=True)
class Pushed:
    """A request's parameters; `dpop_jkt` is the thumbprint of the key that the app has proven to have.

    `is_pushed` says that the app itself sent it, and proved who it is.
    """

    parameters: Parameters
    dpop_jkt: str = ""
    is_pushed: bool = True


class PushedRequests:
    """Keeps requests for a minute and a half, each to be used once, by the app that sent it."""

    def __init__(self, one_time: OneTimeState) -> None:
        """Take where they are kept."""
        self._one_time = one_time

    async def keep(self, app: App, pushed: Pushed) -> str:
        """Return the `request_uri` that stands for a request.

        Raises:
            FeatureUnavailable: Redis is away; so of `take`.
        """
        members = {
            "app": app.id,
            "client": str(app.client.id),
            "parameters": pushed.parameters.encode(),
            "dpop_jkt": pushed.dpop_jkt,
            "is_pushed": pushed.is_pushed,
        }
        return PREFIX + await self._one_time.put(_KIND, members, ttl=TTL, token=new_secret(""))

    async def take(self, app_id: str, request_uri: str) -> tuple[UUID, Pushed]:
        """Return what a `request_uri` stands for, and at which tenant, and use it up, whoever brings it.

        Raises:
            InvalidPushedRequest: it stands for nothing, or not for a request of this app.
        """
        token = request_uri.removeprefix(PREFIX)
        members = None if token == request_uri else await self._one_time.take(_KIND, token)
        if members is None or members["app"] != app_id:
            raise InvalidPushedRequest
        return UUID(members["client"]), Pushed(
            Parameters.decode(members["parameters"]), members["dpop_jkt"], is_pushed=members["is_pushed"]
        )
