"""A PostgreSQL server in a folder: initialised once, password demanded, unprivileged also when we are root.

PostgreSQL refuses to run as root. As root, its files go to an unprivileged user, and a folder that this
user cannot reach (below /root, say) is replaced by one in /var/tmp, to which our folder then has a link.
"""

import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from local.binaries import find_postgres
from local.errors import LocalError
from local.processes import ManagedProcess, Unprivileged, program_of

SUPERUSER = "postgres"
_UNPRIVILEGED_NAMES = ("postgres", "nobody")
_REACHABLE_PARENT = Path("/var/tmp")  # noqa: S108  mkdtemp makes a folder of our own in it
_HOME_PREFIX = "authservice-"
_LINK_NOTE = "linked-from"
_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    # No socket file: its path may be too long, and TCP with a password is how production connects.
    "unix_socket_directories": "",
    "max_connections": "300",
    "shared_buffers": "128MB",
    "wal_level": "replica",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "log_min_duration_statement": "1s",
    "log_timezone": "UTC",
    "timezone": "UTC",
}
_DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
# Still committed before the answer: what was answered survives the end of the process, not of the machine.
_DISPOSABLE = {"fsync": "off", "synchronous_commit": "on", "full_page_writes": "off"}


class PostgresServer(ManagedProcess):
    """The server process of one data folder."""

    def __init__(self, folder: Path, *, port: int, password: str, durable: bool = True) -> None:
        """Describe the server; `prepare` must have run before `start`.

        Args:
            folder: the system's folder.
            port: where to listen on 127.0.0.1.
            password: the superuser's; holds from the first `prepare` on.
            durable: False trades safety against power loss for speed, for data that a test run throws away.
        """
        self.port = port
        self._password = password
        self._programs = find_postgres()
        self._account = _unprivileged() if os.geteuid() == 0 else None
        self._home = folder / "postgres"
        if self._account is not None:
            self._home = _reachable_home(self._home, self._account)
            if not _can_reach(self._programs.bin, self._account):
                self._programs = self._programs.copied_to(self._home)
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = {**_SETTINGS, **(_DURABLE if durable else _DISPOSABLE), "port": str(port)}
        super().__init__(
            "postgres",
            [
                str(self._programs.postgres),
                "-D",
                str(self.data),
                *(f"--{name}={value}" for name, value in settings.items()),
            ],
            folder=folder,
            env=_ENVIRONMENT,
            cwd=self._home,
            # "Fast" shutdown: sessions are ended, the write-ahead log is flushed.
            stop_signal=signal.SIGINT,
            death_signal=signal.SIGINT,
            user=self._account,
        )

    @property
    def data(self) -> Path:
        """The data folder."""
        return self._home / "data"

    @property
    def url(self) -> str:
        """The superuser's URL."""
        return f"postgresql://{SUPERUSER}:{self._password}@127.0.0.1:{self.port}/postgres"

    def prepare(self) -> None:
        """Create the data folder when there is none; LocalError when another major version made it."""
        version = self.data / "PG_VERSION"
        if not version.exists():
            self._initialise()
        elif (made_by := version.read_text().strip()) != str(self._programs.major):
            raise LocalError(
                f"{self.data} was made by PostgreSQL {made_by}, this is {self._programs.version}: "
                "move the data folder away, or install the older version"
            )
        self._forget_stranger()

    def _forget_stranger(self) -> None:
        """Remove a lock file whose pid belongs to another program by now, as after a crash of the machine.

        PostgreSQL would take that program for a running server. All other leftovers it judges better itself.
        """
        lock = self.data / "postmaster.pid"
        if lock.exists():
            pid = int(lock.read_text().split()[0])
            if program_of(pid) not in {None, "postgres"}:
                lock.unlink()

    def _initialise(self) -> None:
        # Renamed when complete: an interrupted initdb never looks like a data folder.
        partial = self._home / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        secret = self._home / "password"
        secret.touch(mode=0o600)
        secret.write_text(self._password)
        if self._account is not None:
            os.chown(self._home, self._account.uid, self._account.gid)
            os.chown(secret, self._account.uid, self._account.gid)
        locale = (
            ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if self._programs.major >= 17 else []
        )
        arguments = [
            f"--pgdata={partial}",
            f"--username={SUPERUSER}",
            f"--pwfile={secret}",
            "--encoding=UTF8",
            "--locale=C",
        ]
        try:
            done = _run_as(
                self._account,
                [
                    str(self._programs.initdb),
                    *arguments,
                    *locale,
                    "--auth=scram-sha-256",
                    "--no-instructions",
                ],
                cwd=self._home,
            )
        finally:
            secret.unlink()
        if done.returncode != 0:
            reason = (done.stderr or done.stdout).strip().splitlines()[-1]
            raise LocalError(f"initdb could not create {self.data}: {reason}")
        partial.rename(self.data)

    def is_ready(self) -> bool:
        """Whether it accepts connections, by the status line that PostgreSQL itself keeps for pg_ctl."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"


def _run_as(
    account: Unprivileged | None, command: Sequence[str], cwd: Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env=_ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


def _unprivileged() -> Unprivileged:
    for name in _UNPRIVILEGED_NAMES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Unprivileged(entry.pw_uid, entry.pw_gid)
    raise LocalError(
        "PostgreSQL does not run as root and there is no user `nobody`: "
        "run as an ordinary user, or set DATABASE_URL"
    )


def _can_reach(path: Path, account: Unprivileged) -> bool:
    """Whether the user may enter the folder, asked as that user: modes alone do not tell (ACLs, mounts)."""
    return _run_as(account, ["test", "-x", str(path)], cwd=Path("/")).returncode == 0


def delete_home(folder: Path) -> None:
    """Delete the data of the server in `folder`, wherever it is; the server must not run."""
    home = folder / "postgres"
    if home.is_symlink():
        shutil.rmtree(home.readlink(), ignore_errors=True)
        home.unlink()
    else:
        shutil.rmtree(home, ignore_errors=True)


def _delete_orphans() -> None:
    """Delete homes in /var/tmp whose folder was deleted by hand: nothing links to them any more."""
    for home in _REACHABLE_PARENT.glob(f"{_HOME_PREFIX}*"):
        note = home / _LINK_NOTE
        if home.is_symlink() or not note.is_file():
            continue
        link = Path(note.read_text())
        if not link.is_symlink() or link.readlink() != home:
            shutil.rmtree(home, ignore_errors=True)


def _reachable_home(wanted: Path, account: Unprivileged) -> Path:
    """`wanted`, or the folder it links to, made in /var/tmp when the user cannot reach `wanted` itself."""
    if wanted.is_symlink():
        home = wanted.readlink()
        if home.is_dir() and stat.S_IMODE(home.lstat().st_mode) == 0o700 and not home.is_symlink():
            return home
        wanted.unlink()
    if not wanted.exists():
        wanted.parent.mkdir(parents=True, exist_ok=True)
        if not _can_reach(wanted.parent, account):
            # A name nobody can guess, made by us: others may write in the parent as well.
            _delete_orphans()
            home = Path(tempfile.mkdtemp(prefix=_HOME_PREFIX, dir=_REACHABLE_PARENT))
            os.chown(home, account.uid, account.gid)
            wanted.symlink_to(home)
            (home / _LINK_NOTE).write_text(str(wanted))
            return home
        wanted.mkdir(mode=0o700)
        os.chown(wanted, account.uid, account.gid)
    elif not _can_reach(wanted, account):
        raise LocalError(
            f"{wanted} is closed to uid {account.uid}, who runs PostgreSQL: chmod +x its parent folders"
        )
    return wanted
