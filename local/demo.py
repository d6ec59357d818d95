"""The demo tenant: made once through the public API, as a customer's administrator would."""

import http.client
import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from local.credentials import write_private
from local.errors import LocalError

_EMAIL = "demo@example.com"
_TIMEOUT = 15.0


@dataclass(slots=True)
class Demo:
    """What one needs to use the demo tenant."""

    client_id: str
    api_key: str
    publishable_key: str
    email: str
    password: str
    has_user: bool = False


def seed(folder: Path, port: int, admin_key: str) -> Demo:
    """Return the folder's demo tenant, created through the gateway at `port` unless it is there already.

    Raises:
        LocalError: the gateway refused; says what it answered.
    """
    file = folder / "demo.json"
    demo = Demo(**json.loads(file.read_text())) if file.exists() else None
    if demo is None or not _exists(port, admin_key, demo.client_id):
        demo = _create_client(port, admin_key)
        write_private(file, json.dumps(asdict(demo), indent=2))
    if not demo.has_user:
        signup = {"email": demo.email, "password": demo.password, "display_name": "Demo"}
        # 409: an earlier start was interrupted between the signup and our note of it.
        _call(port, "POST", "/api/auth/signup", {"X-API-Key": demo.api_key}, signup, accepts=(201, 409))
        demo.has_user = True
        write_private(file, json.dumps(asdict(demo), indent=2))
    return demo


def _exists(port: int, admin_key: str, client_id: str) -> bool:
    headers = {"X-Admin-Key": admin_key}
    status, _ = _call(port, "GET", f"/api/admin/clients/{client_id}", headers, accepts=(200, 404))
    return status == http.client.OK


def _create_client(port: int, admin_key: str) -> Demo:
    headers = {"X-Admin-Key": admin_key}
    wanted = {"name": "Demo", "slug": "demo"}
    status, answer = _call(port, "POST", "/api/admin/clients", headers, wanted, accepts=(201, 409))
    if status == http.client.CONFLICT:
        # The database knows a demo tenant whose keys this folder does not: its keys are not ours to replace.
        wanted["slug"] = f"demo-{secrets.token_hex(3)}"
        _, answer = _call(port, "POST", "/api/admin/clients", headers, wanted, accepts=(201,))
    return Demo(
        client_id=answer["client"]["id"],
        api_key=answer["api_key"],
        publishable_key=answer["publishable_key"],
        email=_EMAIL,
        # The policy wants several kinds of characters and no part of the address, which hex cannot spell.
        password=f"Local-{secrets.token_hex(8)}-7",
    )


def _call(
    port: int,
    method: str,
    path: str,
    headers: dict[str, str],
    body: dict[str, str] | None = None,
    *,
    accepts: tuple[int, ...],
) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)
    content = None if body is None else json.dumps(body)
    try:
        connection.request(method, path, content, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise LocalError(f"{method} {path} for the demo tenant failed: {error}") from error
    finally:
        connection.close()
    if answer.status not in accepts:
        raise LocalError(f"{method} {path} for the demo tenant answered {answer.status}: {text[:500]}")
    return answer.status, json.loads(text)
