"""What an access token is for: the values of its `token_use` claim."""

from __future__ import annotations

from typing import Final

ACCESS: Final = "access"
"""A user's token; what a customer's service accepts."""

ENROLLMENT: Final = "enrollment"
"""Opens nothing but the set-up of a second factor; no customer's service accepts it."""

CLIENT_CREDENTIALS: Final = "client_credentials"
"""A service account's token; a customer's service says whether it accepts machines."""

OAUTH: Final = "oauth"
"""A user's token that an app got by OAuth: good for what its scope says, not for the account."""

USER_TOKENS: Final = frozenset({ACCESS, ENROLLMENT})
"""What the gateway takes from a user; which routes an enrolling one may call is the contract's to say."""

ISSUED: Final = USER_TOKENS | {CLIENT_CREDENTIALS, OAUTH}
"""Everything that `token` signs."""

IMPERSONATION_ACR: Final = "urn:authservice:acr:impersonation"
"""`acr` of a session that an admin opened in a user's name: the user has proven nothing."""
