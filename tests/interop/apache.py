"""Apache with mod_auth_openidc, in a folder of its own, as whoever runs the tests."""

from __future__ import annotations

import secrets
from pathlib import Path

_MODULES = Path("/usr/lib/apache2/modules")
_LOADED = (
    "mpm_event",
    "authn_core",
    "authz_core",
    "authz_user",
    "alias",
    "dir",
    "env",
    "headers",
    "mime",
    "auth_openidc",
)


def is_installed() -> bool:
    """Whether the module is on this machine."""
    return (_MODULES / "mod_auth_openidc.so").exists()


class Apache:
    """One server on one port, with a page that only who has logged in may see."""

    def __init__(self, folder: Path, port: int) -> None:
        """Take an empty folder."""
        self._folder = folder
        self._port = port

    def configured(self, issuer: str, client_id: str, client_secret: str) -> list[str]:
        """Write the configuration and return the command that serves by it."""
        for name in ("public", "public/secure", "public/bye"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
            (self._folder / name / "index.html").write_text("<p>seen</p>")
        # As root Apache would serve as another user, who must get to the pages.
        for folder in (self._folder, *self._folder.parents):
            if folder.owner() == self._folder.owner() and folder != Path("/"):
                folder.chmod(folder.stat().st_mode | 0o011)
        own = f"http://127.0.0.1:{self._port}"
        lines = [
            f"ServerRoot {self._folder}",
            "ServerName 127.0.0.1",
            f"Listen 127.0.0.1:{self._port}",
            f"PidFile {self._folder}/pid",
            "User www-data",
            "Group www-data",
            "ErrorLog /dev/stderr",
            *(f"LoadModule {name}_module {_MODULES}/mod_{name}.so" for name in _LOADED),
            f"DocumentRoot {self._folder}/public",
            "TypesConfig /dev/null",
            "AddType text/html .html",
            "DirectoryIndex index.html",
            f"OIDCProviderMetadataURL {issuer}/.well-known/openid-configuration",
            f"OIDCClientID {client_id}",
            f"OIDCClientSecret {client_secret}",
            f"OIDCRedirectURI {own}/secure/redirect",
            f"OIDCCryptoPassphrase {secrets.token_hex(16)}",
            'OIDCScope "openid profile email offline_access"',
            "OIDCPKCEMethod S256",
            "OIDCAuthRequestParams prompt=consent",
            "OIDCInfoHook iat access_token id_token userinfo session",
            "OIDCCookieSameSite On",
            "<Location /secure>",
            "  AuthType openid-connect",
            "  Require valid-user",
            '  Header set X-Seen-Sub "expr=%{reqenv:OIDC_CLAIM_sub}"',
            '  Header set X-Seen-Email "expr=%{reqenv:OIDC_CLAIM_email}"',
            "</Location>",
            "<Location /bye>",
            "  Require all granted",
            "</Location>",
        ]
        file = self._folder / "apache.conf"
        file.write_text("\n".join(lines) + "\n")
        return ["apache2", "-X", "-f", str(file)]
