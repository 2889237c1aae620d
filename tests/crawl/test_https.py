"""HTTPS, alone and through a proxy's tunnel (CONNECT)."""

import contextlib
import ipaddress
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from llmdata.crawl import CrawlConfig, CrawlResult, crawl
from llmdata.engine.session import Session
from llmdata.errors import InputError
from llmdata.storage.place import Place
from tests.crawl import archives
from tests.crawl.server import Page, page, serving

PAGES: dict[str, Page] = {"/": page("/b"), "/b": page(text="b")}


def run(folder: Path, seed: str, **settings: Any) -> CrawlResult:
    config = CrawlConfig.model_validate({"seeds": [seed], "retries": 0, "backoff": 0.01, **settings})
    return crawl(config, Place.of(folder), Session())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1, signed by itself, and its key, in one file."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(alternative, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    path.write_bytes(private + signed.public_bytes(pem))
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@contextmanager
def tunnelling() -> Iterator[tuple[str, list[str]]]:
    """A proxy that knows CONNECT alone; its address, and what it was asked for."""
    asked: list[str] = []

    class Proxy(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            asked.append(self.path)
            host, _, port = self.path.partition(":")
            with socket.create_connection((host, int(port))) as far:
                self.send_response(200)
                self.end_headers()
                back = threading.Thread(target=self.copy, args=(far, self.connection))
                back.start()
                self.copy(self.connection, far)
                back.join()
            self.close_connection = True

        def copy(self, source: socket.socket, target: socket.socket) -> None:
            with source.makefile("rb", buffering=0) as incoming, target.makefile("wb", buffering=0) as outgoing:
                shutil.copyfileobj(incoming, outgoing)
            with contextlib.suppress(OSError):  # the other side was faster
                target.shutdown(socket.SHUT_WR)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()


def test_https_directly_and_through_a_tunnel_only_when_asked_for(
    tmp_path: Path, certificate: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with serving(PAGES, tls=tls) as server, tunnelling() as (proxy, asked):
        monkeypatch.setenv("https_proxy", proxy)
        monkeypatch.setenv("no_proxy", "")
        assert run(tmp_path / "direct", server.url("/")).pages == 2
        assert asked == []
        assert run(tmp_path / "proxy", server.url("/"), use_proxies=True).pages == 2
        assert set(asked) == {server.address.removeprefix("https://")}
    for folder in ("direct", "proxy"):
        assert archives.captured(tmp_path / folder) == [server.url("/"), server.url("/b")]
        archives.check(tmp_path / folder)


def test_a_certificate_that_nobody_vouches_for_is_an_error_by_name(
    tmp_path: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    with serving(PAGES, tls=tls) as server, pytest.raises(InputError, match=r"robots_tls"):
        run(tmp_path, server.url("/"))


def test_a_proxy_that_refuses_is_an_error_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving({}) as proxy:
        monkeypatch.setenv("https_proxy", proxy.address)
        monkeypatch.setenv("no_proxy", "")
        with pytest.raises(InputError, match=r"robots_proxy"):
            run(tmp_path, "https://127.0.0.1:9/", use_proxies=True)


def test_redirects_lead_from_one_scheme_to_the_other_and_back(
    tmp_path: Path, certificate: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    plain: dict[str, Page] = {"/end": page()}
    secure: dict[str, Page] = {}
    with serving(plain) as http, serving(secure, tls=tls) as https:
        plain["/"] = (302, {"Location": https.url("/x")}, "")
        secure["/x"] = (307, {"Location": http.url("/end")}, "")
        result = run(tmp_path, http.url("/"), scope="any", contact="a@example.org", allow_private=True)
    assert (result.pages, result.redirects, result.errors) == (1, 2, {})
    archives.check(tmp_path)
