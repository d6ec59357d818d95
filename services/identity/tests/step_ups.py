"""The way of a protected request in tests: refused with a challenge, proven, sent again."""

from __future__ import annotations

from typing import Any

from chassis.context import CallerContext
from services.identity.tests.conftest import PASSWORD
from tests.harness import Answer, System


async def answer_challenge(
    system: System, caller: CallerContext, challenge_token: str, **shown: Any
) -> Answer:
    """Answer a challenge of a user, by the password unless told otherwise."""
    body = shown or {"factor": "password", "password": PASSWORD}
    return await system.call(
        "identity",
        "POST",
        "/api/auth/step-up/verify",
        caller=caller,
        json={"challenge_token": challenge_token, **body},
    )


async def proof(system: System, caller: CallerContext, refused: Answer, **shown: Any) -> str:
    """Return the step-up token for what was refused."""
    assert (refused.status, refused.code) == (403, "step_up_required"), refused.body
    answer = await answer_challenge(system, caller, refused.json["challenge_token"], **shown)
    assert answer.status == 200, answer.body
    return str(answer.json["step_up_token"])
