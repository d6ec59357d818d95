"""Why a token was not accepted.

    ValidatorError
    ├── TokenError            the token is at fault: answer 401
    │   ├── TokenInvalid      invalid_token
    │   ├── TokenExpired      token_expired
    │   └── TokenRevoked      token_revoked
    ├── KeysUnavailable       keys_unavailable: nothing is known about the token, answer 503
    └── RevocationsUnavailable   revocations_unavailable: nobody knows whether it still holds, answer 503

`code` is stable and safe to show to a caller. The message says which check refused the token; it holds no
part of the token, and is meant for logs: a caller who learns which check failed learns how to get past it.
"""

from typing import ClassVar


class ValidatorError(Exception):
    """Every refusal of this package; `code` is the stable name of the reason."""

    code: ClassVar[str] = "validator_error"


class TokenError(ValidatorError):
    """The token must not be believed."""

    code: ClassVar[str] = "invalid_token"


class TokenInvalid(TokenError):
    """The token is malformed, forged, not yet valid, or meant for somebody else."""


class TokenExpired(TokenError):
    """The token was good and its time is over."""

    code: ClassVar[str] = "token_expired"


class TokenRevoked(TokenError):
    """The token is in its time, and was revoked."""

    code: ClassVar[str] = "token_revoked"


class KeysUnavailable(ValidatorError):
    """The issuer's keys could not be loaded, so the token can be neither accepted nor refused."""

    code: ClassVar[str] = "keys_unavailable"


class RevocationsUnavailable(ValidatorError):
    """Which tokens were revoked is not known, so the token can be neither accepted nor refused."""

    code: ClassVar[str] = "revocations_unavailable"
