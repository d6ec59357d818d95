"""An account from the gateway's side: what a session alone cannot do, and the end of everything."""

from __future__ import annotations

from tests.e2e.stack import PASSWORD, Stack, eventually

WITHIN_SECONDS = 1.0
"""What a gateway may take to hear that a session has ended."""


async def test_account_is_copied_and_deleted_by_proof_only_and_is_gone_at_every_gateway(stack: Stack) -> None:
    login = await stack.sign_up(await stack.tenant())

    async def proven(method: str, path: str) -> int:
        refused = await stack.call(method, path, login)
        assert (refused.status_code, refused.json()["code"]) == (403, "step_up_required")
        body = {
            "challenge_token": refused.json()["challenge_token"],
            "factor": "password",
            "password": PASSWORD,
        }
        answer = await stack.call("POST", "/api/auth/step-up/verify", login, json=body)
        assert answer.status_code == 200, answer.text
        token = answer.json()["step_up_token"]
        in_query = await stack.call(method, f"{path}?step_up_token={token}", login)
        assert in_query.status_code == 403
        done = await stack.call(method, path, login, headers={"x-step-up-token": token})
        return done.status_code

    assert (await stack.call("GET", "/api/auth/me", login)).status_code == 200
    assert await proven("GET", "/api/auth/me/export") == 200
    assert await proven("DELETE", "/api/auth/me") == 204
    assert (await stack.call("GET", "/api/auth/me", login)).status_code == 401

    async def is_refused() -> bool:
        return (await stack.call("GET", "/api/auth/sessions", login)).status_code == 401

    await eventually(is_refused, within=WITHIN_SECONDS, what="the session of the deleted account is refused")
