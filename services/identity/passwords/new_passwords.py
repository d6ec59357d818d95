"""Whether a new password is acceptable to a client: every way to set one asks here."""

from __future__ import annotations

from uuid import UUID

from chassis.errors import FieldError
from contracts.clients import ClientDirectory
from contracts.password_policy import password_policy_of
from services.identity.errors import WeakPassword
from services.identity.passwords.breaches import LeakedPasswords
from services.identity.passwords.hasher import normalize
from services.identity.passwords.policy import PasswordPolicy
from services.identity.users.email import Email


class NewPasswords:
    """Applies the installation's policy, what the client's own adds to it, and the list of leaked ones."""

    def __init__(
        self, policy: PasswordPolicy, clients: ClientDirectory, leaked: LeakedPasswords, *, block_leaked: bool
    ) -> None:
        """Take the parts; `block_leaked` asks for every client, whatever its own policy says."""
        self._policy = policy
        self._clients = clients
        self._leaked = leaked
        self._block_leaked = block_leaked

    async def check(
        self, client_id: UUID, password: str, *, email: Email, display_name: str, field: str
    ) -> None:
        """Check a new password; `field` is the request's name for it. Never called inside a transaction.

        Raises:
            WeakPassword: with every rule it breaks.
        """
        own = password_policy_of((await self._clients.get(client_id)).settings)
        self._policy.check(password, email=email, display_name=display_name, field=field, own=own)
        if (self._block_leaked or own.block_breached) and await self._leaked.has(normalize(password)):
            detail = "It is in a collection of leaked passwords. Choose another, and change it elsewhere too."
            raise WeakPassword(errors=(FieldError(field, "password_breached", detail),))
