"""HTTP face of remembered devices."""

from __future__ import annotations

from typing import Annotated, Self
from uuid import UUID

from pydantic import Field, StringConstraints, model_validator

from chassis.context import Access, CallerContext
from chassis.geo import GeoDatabases
from chassis.http import Caller, Router
from chassis.models import AnswerModel, RequestModel
from contracts.session import Time
from services.identity.devices.cookie import DeviceCookie
from services.identity.devices.models import Device
from services.identity.devices.service import DeviceService, device_of

DeviceName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
"""A name that the owner gives a device."""


class DeviceView(AnswerModel):
    """A browser that the user has logged in with. `name` is the owner's, or what it says of itself."""

    id: UUID
    name: str
    trusted: bool = Field(description="Whether the second factor may be skipped there, if policy allows it.")
    trusted_until: Time | None
    ip: str = Field(description="The address of its last login.")
    place: str | None = Field(description="Where that is, approximately; null without a database.")
    user_agent: str
    created_at: Time
    last_seen_at: Time
    current: bool = Field(description="Whether it is the browser that asks, by its cookie or its session.")

    @classmethod
    def of(cls, device: Device, name: str, geo: GeoDatabases, *, is_current: bool) -> Self:
        """Show a device."""
        return cls(
            id=device.id,
            name=name,
            trusted=device.trusted_until is not None,
            trusted_until=device.trusted_until,
            ip=device.ip,
            place=geo.place(device.ip).name,
            user_agent=device.user_agent,
            created_at=device.created_at,
            last_seen_at=device.last_seen_at,
            current=is_current,
        )


class DeviceList(AnswerModel):
    """The user's devices, the last seen first; at most a hundred, so there is no next page."""

    items: list[DeviceView]
    next_cursor: None = None


class DeviceRequest(RequestModel):
    """What to change; at least one member. A null `name` brings back what the browser says of itself."""

    name: DeviceName | None = None
    trusted: bool = Field(default_factory=bool)

    @model_validator(mode="after")
    def _refuse_empty(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("name or trusted must be given")
        return self


def routes(devices: DeviceService, geo: GeoDatabases) -> Router:
    """The slice's routes."""
    router = Router(tag="Devices")

    def view(device: Device, name: str, caller: CallerContext, token: str) -> DeviceView:
        is_current = device.id == device_of(token) or device.session_id == caller.session_id
        return DeviceView.of(device, name, geo, is_current=is_current)

    @router.get("/api/auth/devices", access=Access.USER)
    async def list_devices(caller: Caller, device_token: DeviceCookie) -> DeviceList:
        """List the browsers that the user has logged in with and that are remembered."""
        found = await devices.listed(caller)
        return DeviceList(items=[view(device, name, caller, device_token) for device, name in found])

    @router.patch(
        "/api/auth/devices/{device_id}",
        access=Access.USER,
        responses={
            403: {"description": "`mfa_session_required`: trust needs a session with a second factor"},
            404: {"description": "`not_found`"},
            409: {"description": "`device_trust_off`: the client trusts no devices"},
        },
    )
    async def change_device(
        device_id: UUID, body: DeviceRequest, caller: Caller, device_token: DeviceCookie
    ) -> DeviceView:
        """Rename a remembered device, trust it, or end its trust.

        Logins from a trusted device skip the second factor where the client's policy has
        `trusted_device_bypass` and the risk is not high. Trust ends by itself after the policy's
        `remember_device_days`, and with a changed password.
        """
        device, name = await devices.change(
            caller,
            device_id,
            fields=frozenset(body.model_fields_set),
            name=body.name,
            trusted=body.trusted,
        )
        return view(device, name, caller, device_token)

    @router.delete(
        "/api/auth/devices/{device_id}",
        access=Access.USER,
        status_code=204,
        responses={404: {"description": "`not_found`"}},
    )
    async def forget_device(device_id: UUID, caller: Caller) -> None:
        """Forget a device: it is not trusted any more, and its next login is one from a new device."""
        await devices.forget(caller, device_id)

    return router
