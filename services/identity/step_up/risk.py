"""How risky a protected action looks: as logins are judged, but for the device, which only logins show."""

from __future__ import annotations

from chassis.context import CallerContext
from chassis.database import Database
from contracts.actions import Action
from contracts.security_policy import RiskLevel, SecurityPolicy
from services.identity.risk.service import RiskService
from services.identity.users.models import User


class ActionRisk:
    """Asks the risk rules about an action."""

    def __init__(self, db: Database, risk: RiskService) -> None:
        """Take who judges."""
        self._db = db
        self._risk = risk

    async def level(
        self, caller: CallerContext, user: User, policy: SecurityPolicy, action: Action
    ) -> RiskLevel:
        """Return the level."""
        async with self._db.tenant(user.client_id) as tx:
            background = await self._risk.background(tx, user, own_attempts=0)
        assessment = await self._risk.assess(
            caller, user, policy, background, is_known_device=None, action=f"action.{action}"
        )
        return assessment.level
