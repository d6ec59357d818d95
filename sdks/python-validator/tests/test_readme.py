"""The README's examples run as printed."""

from pathlib import Path
from typing import Any

import httpx

from authservice_validator import JwksKeys
from authservice_validator.testing import LocalIssuer

README = Path(__file__).resolve().parents[1] / "README.md"


async def test_readme_when_its_example_is_run_then_it_protects_the_route() -> None:
    blocks = [block.split("```")[0] for block in README.read_text().split("```python\n")[1:]]
    (strong,) = [block for block in blocks if "ProtectedResource(" in block]
    code = blocks[0] + strong
    remote = 'JwksKeys("http://localhost:8080/.well-known/jwks.json")'
    assert remote in code
    issuer = LocalIssuer("http://localhost:8080")
    names: dict[str, Any] = {"fetch": issuer.fetch}
    exec(compile(code.replace(remote, "JwksKeys(fetch)"), "README.md", "exec"), names)
    assert isinstance(names["keys"], JwksKeys)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(names["app"]), base_url="http://test"
    ) as client:
        refused = await client.get("/hello")
        bearer = {"Authorization": f"Bearer {issuer.token()}"}
        answer = await client.get("/hello", headers=bearer)
        weak = await client.post("/transfers", headers=bearer)
        metadata = await client.get("/.well-known/oauth-protected-resource")
    assert (refused.status_code, refused.json()["code"]) == (401, "missing_token")
    assert (answer.status_code, answer.json()) == (200, "hello u1")
    assert (weak.status_code, weak.json()["code"]) == (403, "insufficient_scope")
    assert metadata.json()["authorization_servers"] == ["http://localhost:8080"]
