"""Notifications arrive at real local servers, and no broken channel stops another or shows a secret."""

import base64
import email
import json
import logging
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from resources.notifications import ENVIRONMENT, Notifier

SECRET = "s3cret-pa55word"


class WebhookServer:
    """Keeps what is posted to it; answers `status`, sending a redirect to `location`."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, Any]] = []
        self.gets = 0
        self.status = 200
        self.location = ""
        self.silent = False
        self.closing = threading.Event()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Quiet."""

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sink.posts.append((self.headers["Content-Type"], json.loads(body)))
                if sink.silent:
                    sink.closing.wait()
                    return
                self.send_response(sink.status)
                if sink.location:
                    self.send_header("Location", sink.location)
                self.end_headers()

            def do_GET(self) -> None:
                sink.gets += 1
                self.send_response(200)
                self.end_headers()

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/hook/{SECRET}"


class MailServer(socketserver.ThreadingTCPServer):
    """Speaks just enough SMTP to take mail; refuses recipients in `refused`, offers STARTTLS where `tls` is set."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), MailSession)
        self.port = self.server_address[1]
        self.tls: ssl.SSLContext | None = None
        self.refused: set[str] = set()
        self.commands: list[str] = []
        self.mails: list[EmailMessage] = []


class MailSession(socketserver.BaseRequestHandler):
    server: MailServer

    def handle(self) -> None:
        self.stream, secure = self.request.makefile("rwb"), False
        self.reply("220 here")
        while line := self.stream.readline().decode().strip():
            self.server.commands.append(line)
            match line.split()[0].upper():
                case "EHLO":
                    offers = ["AUTH PLAIN"] if secure else ["STARTTLS"] if self.server.tls else []
                    self.reply(*(f"250-{offer}" for offer in ["here", *offers]), "250 8BITMIME")
                case "STARTTLS" if self.server.tls:
                    self.reply("220 go on")
                    self.stream = self.server.tls.wrap_socket(self.request, server_side=True).makefile("rwb")
                    secure = True
                case "AUTH":
                    good = base64.b64encode(f"\0me\0{SECRET}".encode()).decode()
                    self.reply("235 welcome" if line.split()[2] == good else f"535 wrong password {SECRET}")
                case "RCPT":
                    refused = line.partition("<")[2].partition(">")[0] in self.server.refused
                    self.reply("550 no such user" if refused else "250 ok")
                case "DATA":
                    self.reply("354 go on")
                    body = b"".join(iter(self.stream.readline, b".\r\n"))
                    self.server.mails.append(email.message_from_bytes(body, policy=default))
                    self.reply("250 taken")
                case "QUIT":
                    self.reply("221 bye")
                    return
                case _:
                    self.reply("250 ok")

    def reply(self, *lines: str) -> None:
        self.stream.write("".join(f"{line}\r\n" for line in lines).encode())
        self.stream.flush()


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for variable in ENVIRONMENT.values():
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def webhook() -> Iterator[WebhookServer]:
    server = WebhookServer()
    yield from _running(server.http, server)
    server.closing.set()


@pytest.fixture
def mailbox() -> Iterator[MailServer]:
    server = MailServer()
    yield from _running(server, server)


def _running(server: socketserver.BaseServer, value: Any) -> Iterator[Any]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield value
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    return caplog


def mail_settings(mailbox: MailServer, **settings: Any) -> dict[str, Any]:
    return {
        "smtp_host": "127.0.0.1",
        "smtp_port": mailbox.port,
        "mail_from": "views@example.org",
        "mail_to": "duty@example.org, lead@example.org",
        **settings,
    }


def errors(log: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in log.records if record.levelno >= logging.ERROR]


def test_all_channels_get_the_message(
    webhook: WebhookServer, mailbox: MailServer, log: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier(ui_url="http://ui/", webhook_url=webhook.url, **mail_settings(mailbox))
    lines = ["sb_best: 91 %", "was 80 %, naïvely"]
    notifier.notify("warning", "Zeros rose\nin 2024-01", lines, run_id="r1")

    text = "[warning] Zeros rose in 2024-01\nsb_best: 91 %\nwas 80 %, naïvely\nhttp://ui/runs/r1"
    assert [(record.levelno, record.getMessage()) for record in log.records] == [(logging.WARNING, text)]
    content_type, message = webhook.posts[0]
    assert content_type == "application/json"
    assert message == {
        "text": text,
        "severity": "warning",
        "title": "Zeros rose in 2024-01",
        "lines": lines,
        "link": "http://ui/runs/r1",
        "run_id": "r1",
    }
    (mail,) = mailbox.mails
    assert mail["Subject"] == "[warning] Zeros rose in 2024-01"
    assert mail["From"] == "views@example.org"
    assert mail["To"] == "duty@example.org, lead@example.org"
    assert mail.get_content().splitlines() == text.splitlines()
    recipients = [command.partition(":")[2] for command in mailbox.commands if command.upper().startswith("RCPT")]
    assert recipients == ["<duty@example.org>", "<lead@example.org>"]


@pytest.mark.parametrize(
    ("severity", "level"), [("failure", logging.ERROR), ("warning", logging.WARNING), ("info", logging.INFO)]
)
def test_without_settings_only_the_log_speaks(log: pytest.LogCaptureFixture, severity: Any, level: int) -> None:
    Notifier().notify(severity, "The month is late")
    assert [(record.levelno, record.getMessage()) for record in log.records] == [
        (level, f"[{severity}] The month is late")
    ]


@pytest.mark.parametrize("status", [400, 404, 500])
def test_a_webhook_that_fails_stops_nothing(
    webhook: WebhookServer, mailbox: MailServer, log: pytest.LogCaptureFixture, status: int
) -> None:
    webhook.status = status
    Notifier(webhook_url=webhook.url, **mail_settings(mailbox)).notify("info", "Released")
    assert errors(log) == [f"notification 'Released' was not sent by webhook: the server answered {status}"]
    assert len(webhook.posts) == len(mailbox.mails) == 1


def test_a_webhook_is_not_redirected(webhook: WebhookServer, log: pytest.LogCaptureFixture) -> None:
    webhook.status, webhook.location = 302, webhook.url
    Notifier(webhook_url=webhook.url).notify("info", "Released")
    assert errors(log) == ["notification 'Released' was not sent by webhook: the server answered 302"]
    assert webhook.gets == 0


@pytest.mark.parametrize("url", [f"file:///etc/{SECRET}", f"{SECRET}", f"http://[{SECRET}", f"http://h:{SECRET}/"])
def test_a_url_that_cannot_work_is_reported_unseen(
    mailbox: MailServer, log: pytest.LogCaptureFixture, url: str
) -> None:
    Notifier(webhook_url=url, **mail_settings(mailbox)).notify("info", "Released")
    assert [error.startswith("notification 'Released' was not sent by webhook: ") for error in errors(log)] == [True]
    assert SECRET not in log.text
    assert len(mailbox.mails) == 1


def test_a_server_that_stays_silent_is_given_up(webhook: WebhookServer, log: pytest.LogCaptureFixture) -> None:
    webhook.silent = True
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mute = {"smtp_host": "127.0.0.1", "smtp_port": silent.getsockname()[1], "mail_from": "a@b", "mail_to": "c@d"}
        Notifier(webhook_url=webhook.url, timeout_s=0.1, **mute).notify("info", "Released")
    assert errors(log) == [
        "notification 'Released' was not sent by webhook: TimeoutError",
        "notification 'Released' was not sent by e-mail: SMTPServerDisconnected",
    ]


def test_no_server_at_all(webhook: WebhookServer, log: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    Notifier(webhook_url=webhook.url, smtp_host="127.0.0.1", smtp_port=port, mail_from="a@b", mail_to="c@d").notify(
        "info", "Released"
    )
    assert errors(log) == ["notification 'Released' was not sent by e-mail: ConnectionRefusedError"]
    assert len(webhook.posts) == 1


@pytest.mark.parametrize("missing", ["smtp_host", "mail_from", "mail_to"])
def test_half_an_e_mail_configuration_is_reported(
    mailbox: MailServer, log: pytest.LogCaptureFixture, missing: str
) -> None:
    Notifier(**mail_settings(mailbox, **{missing: ""})).notify("info", "Released")
    assert errors(log) == ["notification 'Released' was not sent by e-mail: it needs smtp_host, mail_from and mail_to"]


def test_a_refused_recipient_is_reported_and_the_others_get_the_mail(
    mailbox: MailServer, log: pytest.LogCaptureFixture
) -> None:
    mailbox.refused = {"lead@example.org"}
    Notifier(**mail_settings(mailbox)).notify("info", "Released")
    assert errors(log) == ["notification 'Released' was not sent by e-mail: the server refused 1 of 2 recipients"]
    assert len(mailbox.mails) == 1


def test_no_password_without_encryption(mailbox: MailServer, log: pytest.LogCaptureFixture) -> None:
    Notifier(**mail_settings(mailbox, smtp_user="me", smtp_password=SECRET)).notify("info", "Released")
    assert errors(log) == ["notification 'Released' was not sent by e-mail: SMTPNotSupportedError"]
    assert {command.split()[0].upper() for command in mailbox.commands} <= {"EHLO", "QUIT"}


@pytest.mark.parametrize(("password", "outcome"), [(SECRET, []), ("wrong-" + SECRET, ["the server answered 535"])])
def test_login_over_tls(
    mailbox: MailServer,
    log: pytest.LogCaptureFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    password: str,
    outcome: list[str],
) -> None:
    certificate = self_signed(tmp_path)
    mailbox.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    mailbox.tls.load_cert_chain(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    Notifier(**mail_settings(mailbox, smtp_user="me", smtp_password=password)).notify("info", "Released")
    assert errors(log) == [f"notification 'Released' was not sent by e-mail: {text}" for text in outcome]
    assert len(mailbox.mails) == 1 - len(outcome)
    assert SECRET not in log.text


def test_a_certificate_nobody_vouches_for_is_refused(
    mailbox: MailServer, log: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    mailbox.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    mailbox.tls.load_cert_chain(self_signed(tmp_path))
    Notifier(**mail_settings(mailbox, smtp_starttls=True)).notify("info", "Released")
    assert errors(log) == ["notification 'Released' was not sent by e-mail: SSLCertVerificationError"]
    assert mailbox.mails == []


def self_signed(folder: Path) -> Path:
    """A key and certificate for 127.0.0.1, as one PEM file."""
    pytest.importorskip("cryptography")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "server.pem"
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path


def test_from_environment_works_in_a_run_and_shows_no_secret(
    webhook: WebhookServer, mailbox: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"webhook_url": webhook.url, **mail_settings(mailbox), "smtp_user": ""}
    for name, value in settings.items():
        monkeypatch.setenv(ENVIRONMENT[name], str(value))

    @dg.asset
    def teller(context: dg.AssetExecutionContext, notifier: Notifier) -> None:
        notifier.notify("failure", "It broke", ["here"], run_id=context.run_id)

    notifier = Notifier.from_environment()
    result = dg.materialize([teller], resources={"notifier": notifier})
    assert result.success
    assert webhook.posts[0][1]["run_id"] == result.run_id
    assert mailbox.mails[0]["Subject"] == "[failure] It broke"
    assert SECRET not in repr(notifier)
    assert [entry.user_message for entry in result.all_events if SECRET in str(entry)] == []


def test_from_an_empty_environment_only_the_log_speaks(log: pytest.LogCaptureFixture) -> None:
    Notifier.from_environment().notify("info", "Released")
    assert [record.getMessage() for record in log.records] == ["[info] Released"]


@pytest.mark.parametrize("variable", ENVIRONMENT.values())
def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "")
    assert Notifier.from_environment() == Notifier()
