"""What each process may say and hear on NATS: the one list that local and deployed servers are set up from.

A broken service can then speak in its own name only, and the gateway, which faces the world, in nobody's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from chassis.bus import STREAM, inbox_prefix
from contracts.topology import GATEWAY, RELAYS, SERVICES

CONSUMERS: dict[str, tuple[str, ...]] = {
    "audit": ("audit",),
    "federation": (
        "federation-withdrawn-consents",
        "federation-deleted-users",
        "federation-deleted-apps",
        "federation-logouts",
    ),
    "identity": ("identity-token-reuse", "identity-mail"),
    "token": (
        "token-new-clients",
        "token-suspended-clients",
        "token-key-periods",
        "token-disabled-apps",
        "token-deleted-apps",
    ),
}
"""Service → the durable consumers it may create, read and acknowledge; no other service's."""

ADMIN = "admin"
"""A user without limits, for operators and tests; no process uses it."""


@dataclass(frozen=True, slots=True)
class NatsPermissions:
    """The subjects one user may publish to and subscribe to; nothing else."""

    publish: Sequence[str]
    subscribe: Sequence[str]

    @classmethod
    def of_service(cls, service: str) -> NatsPermissions:
        """A service: its own events and invalidations out; everybody's in, through its own consumers.

        It may create the stream, and never change, purge or delete it: what all said is not its to erase.
        """
        speaks_for = (service, *sorted(RELAYS.get(service, ())))
        return cls(
            publish=[
                *(f"events.{name}.>" for name in speaks_for),
                "invalidate.>",
                f"$JS.API.STREAM.INFO.{STREAM}",
                f"$JS.API.STREAM.CREATE.{STREAM}",
                *(subject for name in CONSUMERS.get(service, ()) for subject in _of_consumer(name)),
            ],
            subscribe=["invalidate.>", f"{inbox_prefix(service)}.>"],
        )

    @classmethod
    def of_gateway(cls) -> NatsPermissions:
        """The gateway listens, and answers when asked: it says nothing that could pass for an event."""
        return cls(publish=[], subscribe=["invalidate.>", f"{inbox_prefix(GATEWAY)}.>"])

    def render(self) -> dict[str, object]:
        """Write the permissions as NATS's configuration has them."""
        return {
            # An empty allow list would allow everything.
            "publish": {"allow": list(self.publish)} if self.publish else {"deny": [">"]},
            "subscribe": {"allow": list(self.subscribe)},
            # One answer to each message that asks for one: that a cache was dropped.
            "allow_responses": True,
        }


def _of_consumer(name: str) -> list[str]:
    """The subjects by which a durable consumer is created, read and acknowledged."""
    return [
        f"$JS.API.CONSUMER.CREATE.{STREAM}.{name}",
        f"$JS.API.CONSUMER.CREATE.{STREAM}.{name}.>",
        f"$JS.API.CONSUMER.DURABLE.CREATE.{STREAM}.{name}",
        f"$JS.API.CONSUMER.INFO.{STREAM}.{name}",
        f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{name}",
        f"$JS.ACK.{STREAM}.{name}.>",
    ]


def permissions_of_all(services: Iterable[str] = SERVICES) -> dict[str, NatsPermissions]:
    """Return the permissions of the gateway and each of `services`, by user name."""
    return {GATEWAY: NatsPermissions.of_gateway()} | {
        service: NatsPermissions.of_service(service) for service in services
    }


def authorization(
    passwords: Mapping[str, str], permissions: Mapping[str, NatsPermissions]
) -> dict[str, object]:
    """Return the `authorization` section of a NATS configuration.

    Args:
        passwords: of each user, `ADMIN` perhaps among them.
        permissions: of each user except `ADMIN`; KeyError for a user who has none.
    """
    users: list[dict[str, object]] = []
    for user, password in passwords.items():
        entry: dict[str, object] = {"user": user, "password": password}
        if user != ADMIN:
            entry["permissions"] = permissions[user].render()
        users.append(entry)
    return {"users": users}
