"""A website that comes as archives or as a folder, crawled as if it stood on the web.

Source archives from the Python package index and Debian's documentation packages carry whole manuals as linked HTML.
`serve` fetches them once, unpacks what a browser would ask for, and answers on a loopback port while a crawl runs.
"""

from __future__ import annotations

import errno
import html
import mimetypes
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from llmdata.config import Section
from llmdata.engine.session import Session, deaf_children
from llmdata.errors import ConfigError, InputError
from llmdata.storage.manifest import digest, sha256_of
from llmdata.storage.place import Place

SERVER = Path(__file__).with_name("site_server.py")
_TYPES = mimetypes.MimeTypes()  # Python's own table: what the machine calls a suffix must not decide what is served


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts:
        raise ValueError("this has to be a relative path without '..'")
    return "/".join(parts)


InsidePath = Annotated[str, AfterValidator(_inside)]


class SitePackage(Section):
    """One source archive of the Python package index that carries a built HTML manual."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name in the package index."""
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.!+_-]*$")
    """Exact version."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the source archive; another digest stops the run before anything in the archive is used."""
    html: InsidePath
    """Folder to serve, as it lies below the archive's top folder, e.g. `docs`."""
    at: InsidePath
    """Path on the site under which the folder appears, e.g. `alembic`."""


class SiteConfig(Section):
    """A website to serve on this machine while it is crawled: packages, a Debian package, or a folder."""

    packages: list[SitePackage] = Field(default_factory=list)
    """Source archives from the Python package index, fetched with pip."""
    debian: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9.+*?-]*$")
    """Name of a Debian documentation package, or a pattern such as `postgresql-doc-*`, of which the newest is taken."""
    folder: Path | None = None
    """A folder of HTML files, served as it is."""
    port: int = Field(default=8723, ge=1, le=65535)
    """Port on 127.0.0.1; where it is taken a new crawl gets a free one, and a resumed crawl stops with an error."""

    @model_validator(mode="after")
    def _one_source(self) -> SiteConfig:
        given = [bool(self.packages), self.debian is not None, self.folder is not None]
        if sum(given) != 1:
            raise ValueError("give exactly one of packages, debian and folder")
        prefixes = [package.at for package in self.packages]
        if len(set(prefixes)) < len(prefixes):
            raise ValueError("two packages have the same `at`")
        return self


@contextmanager
def serve(config: SiteConfig, folder: Path, session: Session | None = None) -> Iterator[str]:
    """Fetch and unpack the site into `folder` (once), serve it, and give its address `http://127.0.0.1:PORT/`.

    The port is remembered in `folder`, so that a crawl that goes on sees the same URLs. The server is a process of its
    own, so that it does not share the crawler's interpreter lock, and never outlives this one.

    Raises InputError if the site cannot be fetched or is not what the config says, ConfigError if the port is taken.
    """
    pages = _pages(config, folder, session or Session())
    memory = Place.of(folder) / "site.json"
    remembered: int | None = memory.read_json()["port"] if memory.exists() else None
    with _listen(config.port, remembered) as listener:
        port = listener.getsockname()[1]
        if port != remembered:
            memory.write_json({"port": port})
        # -I: neither the environment nor the folder of the script may change what the server imports.
        command = [sys.executable, "-I", str(SERVER), str(listener.fileno()), str(os.getpid()), str(pages)]
        with deaf_children():
            server = subprocess.Popen(command, pass_fds=[listener.fileno()], stdin=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.kill()  # it holds nothing that wants saving
        server.wait()


def _listen(wanted: int, remembered: int | None) -> socket.socket:
    listener = socket.socket()
    # A port whose last connections are still in TIME_WAIT is free; one that another process listens on is not.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", remembered or wanted))
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            listener.close()
            raise
        if remembered is not None:
            listener.close()
            raise ConfigError(
                f"port {remembered} on 127.0.0.1, from which the first part of this crawl came, is now taken by "
                "another program. Stop that program, or start the crawl anew in another folder."
            ) from None
        listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


def _pages(config: SiteConfig, folder: Path, session: Session) -> Path:
    """The folder to serve; made anew when the config names another site than the one unpacked there."""
    if config.folder is not None:
        if not config.folder.is_dir():
            raise ConfigError(f"{config.folder}: there is no such folder to serve")
        return config.folder.resolve()
    pages = folder / f"pages-{digest(config.model_dump(mode='json', exclude={'port'}))[:12]}"
    if not pages.exists():
        what = config.debian or ", ".join(f"{item.name} {item.version}" for item in config.packages)
        session.progress.note(f"crawl: fetching {what}, the site to crawl")
        partial = pages.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            _fetch(config, folder / "archives", partial)
        except InputError:
            session.stop.check()  # Ctrl-C reaches pip and apt-get too, and they fail of it
            raise
        partial.rename(pages)
    return pages


def _fetch(config: SiteConfig, archives: Path, pages: Path) -> None:
    if config.debian is not None:
        _unpack_debian(_fetch_debian(config.debian, archives), pages)
        return
    for package, archive in _fetch_packages(config.packages, archives):
        _unpack_package(package, archive, pages)
    _write_index(config.packages, pages)


def _write_index(packages: list[SitePackage], pages: Path) -> None:
    links = "\n".join(
        f'<li><a href="{html.escape(package.at)}/index.html">{html.escape(package.name)} {package.version}</a></li>'
        for package in packages
    )
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>Manuals</title></head>\n'
        f"<body>\n<h1>Manuals</h1>\n<ul>\n{links}\n</ul>\n</body>\n</html>\n"
    )
    (pages / "index.html").write_text(page, encoding="utf-8")


def _fetch_packages(packages: list[SitePackage], archives: Path) -> list[tuple[SitePackage, Path]]:
    """The packages with their archives, which are recognised by digest, so that what is there is not fetched again."""
    there = _by_digest(archives)
    missing = [package for package in packages if package.sha256 not in there]
    if missing:
        _pip_download(missing, archives)
        there = _by_digest(archives)
    for package in packages:
        if package.sha256 not in there:
            raise InputError(
                f"{package.name} {package.version}: the archive that came does not have the sha256 "
                f"{package.sha256} of the recipe"
            )
    return [(package, there[package.sha256]) for package in packages]


def _by_digest(archives: Path) -> dict[str, Path]:
    found = sorted(path for path in archives.glob("*") if path.is_file()) if archives.is_dir() else []
    return {sha256_of(Place.of(path)): path for path in found}


def _pip_download(packages: list[SitePackage], archives: Path) -> None:
    archives.mkdir(parents=True, exist_ok=True)
    wanted = archives.parent / "requirements.txt"
    # With digests in the requirements pip checks them before it runs the archive's own set-up code for its metadata.
    wanted.write_text("".join(f"{item.name}=={item.version} --hash=sha256:{item.sha256}\n" for item in packages))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--require-hashes"]
    done = _run([*command, "--requirement", str(wanted), "--dest", str(archives)])
    if done.returncode:
        names = ", ".join(f"{item.name} {item.version}" for item in packages)
        if "DO NOT MATCH THE HASHES" in done.stderr:
            got = re.search(r"Got\s+([0-9a-f]{64})", done.stderr)
            raise InputError(
                f"{names}: an archive from the package index has the sha256 {got[1] if got else '(unknown)'}, which is "
                "not the recipe's. If it was published anew, look at it, then correct `sha256`; else do not use it."
            )
        raise InputError(
            f"cannot fetch {names} with pip (is the package index within reach?): {_last_error(done.stderr)}"
        )


def _unpack_package(package: SitePackage, archive: Path, pages: Path) -> None:
    """Unpack what the archive holds below `package.html` and a browser would ask for; nothing leaves `pages`."""
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                parts = PurePosixPath(member.name).parts[1:]
                inside = PurePosixPath(package.html).parts
                if (
                    not member.isfile()
                    or parts[: len(inside)] != inside
                    or not _is_web(PurePosixPath(*parts))
                    or ".." in parts
                ):
                    continue
                target = pages.joinpath(package.at, *parts[len(inside) :])
                stream = tar.extractfile(member)
                assert stream is not None
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as out:
                    shutil.copyfileobj(stream, out)
                os.utime(target, (member.mtime, member.mtime))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(f"{archive}: cannot unpack it: {error}") from None
    if not (pages / package.at / "index.html").exists():
        raise InputError(f"{package.name} {package.version}: there is no {package.html}/index.html in the archive")


def _is_web(path: PurePosixPath) -> bool:
    """Pages, and the styles, scripts, pictures and plain texts that they link to."""
    if "_sources" in path.parts:
        return True  # the text a page was made from, which Sphinx links from the page
    kind = _TYPES.guess_type(path.name)[0] or ""
    return kind.startswith(("image/", "font/")) or kind in {
        "text/html",
        "application/xhtml+xml",
        "text/css",
        "text/plain",
        "text/javascript",
        "application/javascript",
    }


def _fetch_debian(pattern: str, archives: Path) -> Path:
    """The newest package that fits `pattern`; one that is there is not fetched again."""
    there = sorted(path for path in archives.glob("*.deb") if fnmatch(path.name.split("_")[0], pattern))
    if there:
        return max(there, key=lambda path: _natural(path.name))
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise InputError("a `debian` site needs apt-get and dpkg-deb; use `packages` or `folder` on this machine")
    prefix = re.split(r"[*?]", pattern)[0]
    names = [name for name in _run(["apt-cache", "pkgnames", prefix]).stdout.split() if fnmatch(name, pattern)]
    if not names:
        raise InputError(f"{pattern}: Debian has no such package here; `apt-get update` fetches the list of packages")
    archives.mkdir(parents=True, exist_ok=True)
    # apt-get writes into the working folder under the final name: download beside, then move.
    partial = archives / "apt.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        done = _run(["apt-get", "download", "--quiet", max(names, key=_natural)], partial)
        found = next(partial.glob("*.deb"), None)
        if done.returncode or found is None:
            raise InputError(f"apt-get download {max(names, key=_natural)}: {_last_error(done.stderr)}")
        return found.rename(archives / found.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _unpack_debian(archive: Path, pages: Path) -> None:
    """Unpack the package, and keep the pages below its outermost index.html (regular files alone, no links)."""
    whole = pages.with_name(pages.name + ".deb")
    shutil.rmtree(whole, ignore_errors=True)
    try:
        done = _run(["dpkg-deb", "-x", str(archive), str(whole)])
        if done.returncode:
            raise InputError(f"{archive}: cannot unpack it: {_last_error(done.stderr)}")
        files = sorted(path for path in whole.rglob("*") if path.is_file() and not path.is_symlink())
        indexes = [path for path in files if path.name in ("index.html", "index.htm")]
        if not indexes:
            raise InputError(f"{archive.name}: there is no index.html in this package, so no site to crawl")
        root = min(indexes, key=lambda path: (len(path.parts), path)).parent
        for path in files:
            if path.is_relative_to(root) and _is_web(PurePosixPath(path.relative_to(root))):
                target = pages / path.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)
    finally:
        shutil.rmtree(whole, ignore_errors=True)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key in which `doc-9` comes before `doc-15`."""
    return [(int(number or 0), text) for number, text in re.findall(r"(\d+)|(\D+)", name)]


def _run(command: list[str], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )
    except FileNotFoundError:
        raise InputError(f"{command[0]}: this program is needed and is not installed") from None


def _last_error(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR", "E:", "error"))]
    return (errors or lines or ["no reason given"])[-1]
