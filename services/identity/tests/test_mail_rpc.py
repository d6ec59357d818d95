"""Mailed links over gRPC: the same rules as over HTTP."""

from __future__ import annotations

from typing import Any

from contracts.gen.auth.v1 import auth_pb2
from services.identity.tests.conftest import PASSWORD, address
from services.identity.tests.test_rpc import auth, gateway, refusal
from tests.harness import ORIGIN, System, Tenant

__all__ = ["auth", "gateway"]


async def test_mailed_links_over_grpc(system: System, tenant: Tenant, auth: Any) -> None:
    other, email, key = await system.tenant(), address(), tenant.api_key
    opened = await auth.Signup(auth_pb2.SignupRequest(api_key=key, email=email, password=PASSWORD))
    await auth.ResendVerification(
        auth_pb2.ResendVerificationRequest(api_key=key, access_token=opened.access_token)
    )
    replaced, mail = await system.mails(email, "verify_email", count=2)

    def verification(token: str, api_key: str = key) -> auth_pb2.VerifyEmailRequest:
        return auth_pb2.VerifyEmailRequest(api_key=api_key, token=token)

    for wrong in (verification(replaced.token), verification(mail.token, other.api_key), verification("x")):
        assert (await refusal(auth.VerifyEmail(wrong))).code == "invalid_link"
    assert (await refusal(auth.VerifyEmail(verification("")))).code == "validation_failed"
    assert (await auth.VerifyEmail(verification(mail.token))).email == email

    await auth.ForgotPassword(auth_pb2.ForgotPasswordRequest(api_key=key, email=address()))
    await auth.ForgotPassword(auth_pb2.ForgotPasswordRequest(api_key=key, email=email))
    (mail,) = await system.mails(email, "reset_password")

    def reset(api_key: str, password: str) -> auth_pb2.ResetPasswordRequest:
        return auth_pb2.ResetPasswordRequest(api_key=api_key, token=mail.token, password=password)

    assert (await refusal(auth.ResetPassword(reset(other.api_key, "x" * 12)))).code == "invalid_link"
    assert (await refusal(auth.ResetPassword(reset(key, "short")))).code == "weak_password"
    done = await auth.ResetPassword(reset(key, "another long password 7"))
    assert done.revoked_sessions == 1
    assert (await refusal(auth.ResetPassword(reset(key, "another long password 7")))).code == "invalid_link"

    evil = auth_pb2.SendMagicLinkRequest(api_key=key, email=email, redirect_url="https://evil.example/")
    assert (await refusal(auth.SendMagicLink(evil))).code == "redirect_not_allowed"
    await auth.SendMagicLink(
        auth_pb2.SendMagicLinkRequest(api_key=key, email=email, redirect_url=f"{ORIGIN}/")
    )
    (mail,) = await system.mails(email, "magic_link")

    def link(api_key: str) -> auth_pb2.VerifyMagicLinkRequest:
        return auth_pb2.VerifyMagicLinkRequest(api_key=api_key, token=mail.token)

    assert (await refusal(auth.VerifyMagicLink(link(other.api_key)))).code == "invalid_link"
    assert (await auth.VerifyMagicLink(link(key))).user.email == email
    assert (await refusal(auth.VerifyMagicLink(link(key)))).code == "invalid_link"
    for unknown in (link("ask_unknown"), link("")):
        assert (await refusal(auth.VerifyMagicLink(unknown))).code == "invalid_api_key"
