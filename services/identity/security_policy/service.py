"""Reads and changes the security policy of a client, which `orgs` stores among its settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from chassis.context import CallerContext
from chassis.merge_patch import merge_patched
from chassis.rpc import Channel
from contracts.clients import ClientDirectory
from contracts.gen.internal.orgs.v1 import clients_pb2
from contracts.gen.internal.orgs.v1.clients_pb2_grpc import SettingsServiceStub
from contracts.origins import origin_of
from contracts.security_policy import SETTING, check_policy

Document = Mapping[str, Any]


class SecurityPolicyService:
    """The rules of the routes; `orgs` checks the policy again where it stores it, and audits the change."""

    def __init__(self, clients: ClientDirectory, orgs: Channel) -> None:
        """Take who knows clients, and the way to who stores them."""
        self._clients = clients
        self._settings = SettingsServiceStub(orgs.for_stubs)

    async def get(self, client_id: UUID) -> Document:
        """Return the policy as it was put; empty without one.

        Raises:
            ClientNotFound: there is no such client.
        """
        self._clients.drop(client_id)
        return _stored((await self._clients.get(client_id)).settings)

    async def put(self, caller: CallerContext, client_id: UUID, policy: object) -> Document:
        """Replace the policy and return it.

        Raises:
            UnprocessableRequest: it breaks a rule; `errors` names the path of each fault.
            ClientNotFound: there is no such client.
        """
        check_policy(policy, where="")
        return await self._send(caller, client_id, policy, merges=False)

    async def patch(self, caller: CallerContext, client_id: UUID, patch: Document) -> Document:
        """Merge a patch into the policy by RFC 7396, and return the whole.

        The merge is judged here for the sake of its words, and again where it is stored: two patches at once
        both count.

        Raises:
            UnprocessableRequest, ClientNotFound: as `put`.
        """
        check_policy(merge_patched(await self.get(client_id), patch), where="")
        return await self._send(caller, client_id, patch, merges=True)

    async def _send(self, caller: CallerContext, client_id: UUID, value: object, *, merges: bool) -> Document:
        request = clients_pb2.PutSettingRequest(
            client_id=str(client_id),
            name=SETTING,
            value_json=json.dumps(value),
            merges=merges,
            origin=origin_of(caller),
        )
        changed = await self._settings.PutSetting(request)
        self._clients.drop(client_id)
        return _stored(json.loads(changed.settings_json or "{}"))


def _stored(settings: Document) -> Document:
    policy = settings.get(SETTING)
    return policy if isinstance(policy, dict) else {}
