"""The user of the how-tos: opens a URL as `xdg-open` does, logs in and agrees.

    EMAIL=… PASSWORD=… python -m tests.interop.person URL

With `CHROMIUM` set, in that browser, whose page is then worked by hand: login, renewal, logout.
"""

from __future__ import annotations

import asyncio
import os
import sys

from playwright.async_api import async_playwright

from tests.interop.browser import Browser

EMAIL, PASSWORD = os.environ["EMAIL"], os.environ["PASSWORD"]
_CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


async def without_script(url: str) -> str:
    """Log in with a browser that runs no script; what the last page says."""
    async with Browser() as browser:
        page = await browser.log_in(await browser.open(url), EMAIL, PASSWORD)
        if page.answer.status_code != 200:
            raise SystemExit(f"{page.url}: {page.answer.status_code} {page.answer.text}")
        return page.answer.text


async def in_chromium(url: str, executable: str) -> str:
    """Press the buttons of the single-page app, and log in where it leads; what it said on the way."""
    said = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=_CHROMIUM)
        page = await browser.new_page()
        await page.goto(url)
        await page.click("#login")
        await page.fill("input[name=email]", EMAIL)
        await page.fill("input[name=password]", PASSWORD)
        await page.click("button[type=submit].first")
        await page.click("button[value=approve]")
        for button, expected in (("#refresh", "signed in as"), ("#logout", "still signed in as")):
            await page.wait_for_function(
                "text => document.getElementById('who')?.textContent.startsWith(text)", arg=expected
            )
            said.append(await page.text_content("#who") or "")
            await page.click(button)
        await page.wait_for_selector("#login:visible")
        said.append(await page.text_content("#who") or "")
        await browser.close()
    return "\n".join(said)


async def main(url: str) -> None:
    """Open the URL and print what was seen."""
    executable = os.environ.get("CHROMIUM")
    print(await in_chromium(url, executable) if executable else await without_script(url))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
