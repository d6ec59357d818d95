"""What an error of an OAuth endpoint looks like, for the tests of every one of them."""

from __future__ import annotations

import re

from tests.harness import Answer

REGISTERED = {
    # RFC 6749 §5.2, and what is general in §4.1.2.1.
    *("invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type"),
    *("invalid_scope", "access_denied", "server_error", "temporarily_unavailable"),
    # RFC 6750 §3.1, RFC 7009 §2.2.1, RFC 7591 §3.2.2, RFC 8628 §3.5, RFC 8707 §2, RFC 9449.
    *("invalid_token", "insufficient_scope", "unsupported_token_type", "invalid_redirect_uri"),
    *("invalid_client_metadata", "invalid_software_statement", "unapproved_software_statement"),
    *("authorization_pending", "slow_down", "expired_token", "invalid_target"),
    *("invalid_dpop_proof", "use_dpop_nonce"),
    # Of the authorization endpoint, and so of RFC 9126 §2.3: RFC 6749 §4.1.2.1, OpenID Connect Core §3.1.2.6.
    *("unsupported_response_type", "request_not_supported", "request_uri_not_supported"),
    *("registration_not_supported", "invalid_request_uri", "invalid_request_object"),
}
"""The codes in the registry of OAuth extension errors that these endpoints can have a use for."""

DESCRIPTION = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+")


def check_oauth_error(answer: Answer) -> None:
    """O-35, RFC 6749 §5.2: a refusal is JSON that nobody keeps, with a registered code and plain words."""
    if answer.status < 400:
        return
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    document = answer.json
    assert set(document) == {"error", "error_description"}, document
    assert document["error"] in REGISTERED
    assert DESCRIPTION.fullmatch(document["error_description"]), document
    assert (answer.status == 401) == ("www-authenticate" in answer.headers)
