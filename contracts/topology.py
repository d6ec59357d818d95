"""Which process may call which, and which RPC: the one list that keys, servers and NetworkPolicies follow.

`python -m contracts.topology <service>` prints a service's `INTERNAL_KEYS`, derived from `INTERNAL_AUTH_KEY`.
"""

from __future__ import annotations

import os
import sys

from chassis.internal_keys import InternalKeys

GATEWAY = "gateway"
SERVICES = ("identity", "token", "orgs", "federation", "audit")

CALLS: dict[str, frozenset[str]] = {
    "gateway": frozenset(SERVICES),
    "identity": frozenset({"token", "orgs"}),
    "token": frozenset({"identity", "orgs"}),
    "orgs": frozenset({"identity", "token"}),
    "federation": frozenset({"identity", "token", "orgs"}),
    "audit": frozenset({"identity", "orgs"}),
}
"""Caller → callees."""

RPC_CALLERS: dict[str, frozenset[str]] = {
    "auth.v1.AuthService": frozenset({GATEWAY}),
    "auth.v1.TokenService": frozenset({GATEWAY}),
    "auth.v1.AdminService": frozenset({GATEWAY}),
    "internal.orgs.v1.ClientService": frozenset({"gateway", "identity", "token", "federation", "audit"}),
    "internal.orgs.v1.SettingsService": frozenset({"identity"}),
    "internal.orgs.v1.AppService": frozenset({"token", "federation"}),
    "internal.orgs.v1.RegistrationService": frozenset({"federation"}),
    "internal.identity.v1.AdminDirectoryService": frozenset({GATEWAY}),
    "internal.identity.v1.LoginService": frozenset({"federation"}),
    "internal.identity.v1.UserService": frozenset({"token"}),
    "internal.identity.v1.StepUpService": frozenset({"token", "orgs", "audit"}),
    "internal.token.v1.SessionService": frozenset({"identity"}),
    "internal.token.v1.ExchangeService": frozenset({"identity"}),
    "internal.token.v1.GrantService": frozenset({"federation"}),
    "internal.token.v1.VerificationService": frozenset({"gateway", "identity"}),
    "internal.token.v1.SecretService": frozenset({"orgs"}),
    "internal.audit.v1.IngestService": frozenset({GATEWAY}),
}
"""RPC service → callers it accepts."""

RELAYS: dict[str, frozenset[str]] = {"audit": frozenset({GATEWAY})}
"""Service → processes without an outbox whose events it publishes for them, beside its own."""

PUBLIC_RPC_OWNERS: dict[str, str] = {
    "auth.v1.AuthService": "identity",
    "auth.v1.TokenService": "token",
    "auth.v1.AdminService": "orgs",
}
"""Public RPC service → the service that the gateway passes it through to."""


def pairs_of(process: str) -> list[tuple[str, str]]:
    """Return the (caller, callee) pairs a process is part of."""
    return [
        (caller, callee)
        for caller, callees in CALLS.items()
        for callee in callees
        if process in (caller, callee)
    ]


def main() -> int:
    """Print the keys of the service named in the arguments."""
    if len(sys.argv) != 2 or sys.argv[1] not in SERVICES or not os.environ.get("INTERNAL_AUTH_KEY"):
        sys.stderr.write(
            f"usage: INTERNAL_AUTH_KEY=… python -m contracts.topology {{{'|'.join(SERVICES)}}}\n"
        )
        return 2
    keys = InternalKeys.derive(os.environ["INTERNAL_AUTH_KEY"], pairs_of(sys.argv[1]))
    sys.stdout.write(keys.render() + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
