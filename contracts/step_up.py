"""The step-up guard: one answer, for every service, to whether a protected action needs a fresh proof.

A route that is protected calls `check` before it changes anything. What is refused with `step_up_required`
may be tried again with the proof that `POST /api/auth/step-up/verify` (for admins
`POST /api/admin/step-up/verify`) gives for the challenge in the refusal. `docs/step-up.md` shows the way.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol
from uuid import UUID

from chassis.context import CallerContext
from chassis.errors import Forbidden
from chassis.rpc import Channel
from contracts.actions import Action
from contracts.gen.internal.identity.v1 import step_up_pb2
from contracts.gen.internal.identity.v1.step_up_pb2_grpc import StepUpServiceStub
from contracts.origins import origin_of
from contracts.security_policy import ActionMode, ActionPolicy, RiskLevel, SecurityPolicy

_MAX_AGE_SECONDS = 300

_ALWAYS: Final = ActionPolicy(mode=ActionMode.CHALLENGE, max_age_seconds=_MAX_AGE_SECONDS)
_WHEN_RISKY: Final = ActionPolicy(
    mode=ActionMode.NOTIFY, risk_challenge_level=RiskLevel.MEDIUM, max_age_seconds=_MAX_AGE_SECONDS
)
_WHEN_VERY_RISKY: Final = ActionPolicy(
    mode=ActionMode.NOTIFY, risk_challenge_level=RiskLevel.HIGH, max_age_seconds=_MAX_AGE_SECONDS
)

DEFAULTS: Final[Mapping[Action, ActionPolicy]] = MappingProxyType(
    {
        Action.ORGANIZATION_UPDATE: _WHEN_RISKY,
        Action.ORGANIZATION_DELETE: _ALWAYS,
        Action.MEMBER_ROLE_CHANGE: _ALWAYS,
        Action.MEMBER_REMOVE: _ALWAYS,
        Action.ORGANIZATION_TOKEN: _WHEN_VERY_RISKY,
        Action.CLIENT_KEY_ROTATE: _ALWAYS,
        Action.SERVICE_ACCOUNT_KEY_ROTATE: _ALWAYS,
        Action.APP_CHANGE: _ALWAYS,
        Action.SCIM_TOKEN_ROTATE: _ALWAYS,
        Action.AUDIT_EXPORT: _ALWAYS,
        Action.BILLING_CHANGE: _ALWAYS,
        Action.DATA_EXPORT: _ALWAYS,
        Action.ACCOUNT_DELETE: _ALWAYS,
        Action.EMAIL_CHANGE: _ALWAYS,
        Action.MFA_SETUP: _ALWAYS,
        Action.MFA_DISABLE: _ALWAYS,
        Action.PASSKEY_REMOVE: _ALWAYS,
        Action.RECOVERY_CODES_ROTATE: _ALWAYS,
        Action.USER_IMPERSONATE: _ALWAYS,
        Action.SESSION_REVOKE_ALL: _WHEN_RISKY,
    }
)
"""What an action asks for where the client's policy does not say."""

_ALWAYS_PROVEN: Final = frozenset(
    {
        Action.ACCOUNT_DELETE,
        Action.EMAIL_CHANGE,
        Action.MFA_SETUP,
        Action.MFA_DISABLE,
        Action.PASSKEY_REMOVE,
        Action.RECOVERY_CODES_ROTATE,
    }
)
"""Actions that take an account away, or what protects it: no policy lets a session alone do them."""


class StepUpRequired(Forbidden):
    """The action needs a fresh proof; the answer has `challenge_token`, `factors`, `action`, `expires_in`."""

    code = "step_up_required"
    detail = "This needs a fresh proof. Answer the challenge and send the request again with the proof."

    @classmethod
    def of(
        cls, *, challenge_token: str, factors: tuple[str, ...], action: Action, expires_in: int
    ) -> StepUpRequired:
        """Say what proves it; `expires_in` is in seconds. Without a factor only a fresh login does."""
        return cls(
            extra={
                "challenge_token": challenge_token,
                "factors": list(factors),
                "action": str(action),
                "expires_in": expires_in,
            }
        )


class ActionBlocked(Forbidden):
    """The client's policy, or the risk, refuses the action whatever the proof."""

    code = "action_blocked"
    detail = "This is not allowed here, or not from where you are."

    @classmethod
    def of(cls, action: Action) -> ActionBlocked:
        """Say which action."""
        return cls(extra={"action": str(action)})


REFUSALS: Final[Mapping[int | str, dict[str, Any]]] = MappingProxyType(
    {
        403: {
            "description": "`step_up_required`: see `challenge_token`, `factors`, `action`, `expires_in` of "
            "the answer, and try again with `X-Step-Up-Token`; `action_blocked`: policy or risk forbids it"
        }
    }
)
"""For the documentation of a protected route."""


class StepUpGuard(Protocol):
    """Stands before protected actions: in identity the rules themselves, elsewhere a call to them."""

    async def check(
        self,
        caller: CallerContext,
        action: Action,
        *,
        token: str | None,
        resource: UUID | str | None = None,
        client_id: UUID | None = None,
    ) -> None:
        """Return when the caller, a user or an admin, may go on; a proof that was needed is used up then.

        `token` is the route's `StepUpToken`. `resource` is what the action is done to, where that is not the
        caller itself (an organization, a client, another user): a proof for one is none for another.
        `client_id` is whose policy counts, for admins, who are of no client; a user's own otherwise.
        The break-glass key has no factor to show and passes; its use is audited as such.

        Raises:
            StepUpRequired: a proof is needed and none was given, or one that is of something else, too old
                or used.
            ActionBlocked: policy or risk forbids it.
            FeatureUnavailable: a proof is needed and Redis is away.
        """
        ...


class RemoteStepUpGuard:
    """The guard, asked at identity; whatever it refuses arrives as a `RemoteError` with the same members."""

    def __init__(self, identity: Channel) -> None:
        """Take the way to identity."""
        self._stub = StepUpServiceStub(identity.for_stubs)

    async def check(
        self,
        caller: CallerContext,
        action: Action,
        *,
        token: str | None,
        resource: UUID | str | None = None,
        client_id: UUID | None = None,
    ) -> None:
        """See `StepUpGuard.check`; also raises `Unavailable` when identity is away: nothing is unguarded."""
        if caller.is_break_glass:
            return
        await self._stub.Check(
            step_up_pb2.CheckStepUpRequest(
                client_id=str(client_id or caller.client_id or ""),
                action=action,
                resource=str(resource or ""),
                step_up_token=token or "",
                auth_time=caller.auth_time or 0,
                amr=caller.amr,
                origin=origin_of(caller),
            )
        )


def action_policy(policy: SecurityPolicy, action: Action) -> ActionPolicy:
    """Return what an action asks for: the client's word where it has one, else the default, else the risk's.

    An action that is off has no levels. Those that take an account away are challenged at least.
    """
    default, own = DEFAULTS[action], policy.actions.get(action) or ActionPolicy()
    mode = own.mode or default.mode
    if action in _ALWAYS_PROVEN and mode is not ActionMode.BLOCK:
        mode = ActionMode.CHALLENGE
    if mode is ActionMode.OFF:
        return ActionPolicy(mode=mode)
    block = own.risk_block_level or default.risk_block_level or policy.risk.block_level
    challenge = own.risk_challenge_level or default.risk_challenge_level or policy.risk.challenge_level
    return ActionPolicy.model_construct(
        mode=mode,
        risk_challenge_level=challenge,
        risk_block_level=block,
        max_age_seconds=own.max_age_seconds or default.max_age_seconds,
    )
