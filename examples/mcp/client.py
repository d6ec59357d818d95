"""An MCP client that a user lets in: registered at AuthService, it finds all else from the server's address.

CLIENT_INFO=<the answer of POST /register, a file> python examples/mcp/client.py http://127.0.0.1:8000/mcp
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import webbrowser
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp import ClientSession
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken

INFO = json.loads(Path(os.environ["CLIENT_INFO"]).read_text())


class Memory:
    """Remembers the registration, and tokens while this runs."""

    def __init__(self) -> None:
        """Start without tokens."""
        self._tokens: OAuthToken | None = None
        self._client = OAuthClientInformationFull.model_validate(INFO)

    async def get_tokens(self) -> OAuthToken | None:
        """Return the tokens."""
        return self._tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        """Keep the tokens."""
        self._tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        """Return the registration."""
        return self._client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """Keep the registration."""
        self._client = client_info


class Loopback:
    """Where the browser comes back to."""

    def __init__(self) -> None:
        """Nothing has come yet."""
        self._answer: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take the answer."""
        target = (await reader.readline()).split(b" ")[1].decode()
        query = parse_qs(urlsplit(target).query)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\nSigned in")
        await writer.drain()
        writer.close()
        if not self._answer.done():
            self._answer.set_result({name: values[0] for name, values in query.items()})

    async def answer(self) -> AuthorizationCodeResult:
        """Return the code."""
        given = await self._answer
        return AuthorizationCodeResult(code=given["code"], state=given["state"], iss=given.get("iss"))


async def open_browser(url: str) -> None:
    """Let the user decide."""
    await asyncio.to_thread(webbrowser.open, url)


async def main(url: str) -> None:
    """Call the server's tool."""
    loopback = Loopback()
    redirect = urlsplit(INFO["redirect_uris"][0])
    listening = await asyncio.start_server(loopback.serve, redirect.hostname, redirect.port)
    auth = OAuthClientProvider(
        url,
        OAuthClientMetadata.model_validate({"redirect_uris": INFO["redirect_uris"]}),
        Memory(),
        redirect_handler=open_browser,
        callback_handler=loopback.answer,
    )
    async with (
        listening,
        httpx2.AsyncClient(auth=auth) as http,
        streamable_http_client(url, http_client=http) as streams,
        ClientSession(streams[0], streams[1]) as session,
    ):
        await session.initialize()
        result = await session.call_tool("whoami", {})
        print(result.content[0].text)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
