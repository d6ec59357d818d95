"""HTTP face of the security policy of a client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, SkipValidation

from chassis.context import Access
from chassis.http import Caller, Router
from chassis.models import AnswerModel
from contracts.security_policy import SETTING, SecurityPolicy
from services.identity.security_policy.service import SecurityPolicyService

PolicyBody = Annotated[SecurityPolicy, SkipValidation]
"""A policy as it came: it is judged by the rule, so that every fault is named by its path."""

_REFUSALS: dict[int | str, dict[str, Any]] = {
    404: {"description": "`client_not_found`"},
    422: {"description": "`validation_failed`: an unknown field, or a combination that has no effect"},
}


class PolicyAnswer(AnswerModel):
    """A client's policy."""

    policy: dict[str, Any] = Field(description="What was put.")
    effective: SecurityPolicy = Field(description="The same with every default filled in.")

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> PolicyAnswer:
        """Show a stored policy."""
        effective = SecurityPolicy.of({SETTING: stored}).resolved()
        return cls(policy=dict(stored), effective=effective)


def routes(policies: SecurityPolicyService) -> Router:
    """The slice's routes."""
    router = Router(tag="Administration: security policy")
    path = "/api/admin/clients/{client_id}/security-policy"

    @router.get(
        path, access=Access.ADMIN, permission="security:read", limit="admin", responses={404: _REFUSALS[404]}
    )
    async def get_security_policy(client_id: UUID) -> PolicyAnswer:
        """Answer when logins of the client need a second factor, what is risky, and what actions ask for."""
        return PolicyAnswer.of(await policies.get(client_id))

    @router.put(path, access=Access.ADMIN, permission="security:write", limit="admin", responses=_REFUSALS)
    async def put_security_policy(client_id: UUID, policy: PolicyBody, caller: Caller) -> PolicyAnswer:
        """Replace the policy of a client; it holds from the next login on.

        Unknown fields and combinations without an effect, such as a challenge level above the block level,
        are 422 with the path of the fault in `errors`.
        """
        return PolicyAnswer.of(await policies.put(caller, client_id, policy))

    @router.patch(path, access=Access.ADMIN, permission="security:write", limit="admin", responses=_REFUSALS)
    async def patch_security_policy(client_id: UUID, patch: dict[str, Any], caller: Caller) -> PolicyAnswer:
        """Change parts of the policy of a client by a merge patch (RFC 7396): null removes a member."""
        return PolicyAnswer.of(await policies.patch(caller, client_id, patch))

    return router
