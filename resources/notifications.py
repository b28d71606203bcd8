"""Telling people: a message goes to the log, and to a webhook and by e-mail where these are configured.

What is worth telling, and when, is decided by those who call `notify`.
"""

import json
import logging
import os
import smtplib
import ssl
import urllib.request
from collections.abc import Callable, Sequence
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from http.client import HTTPException, HTTPMessage, InvalidURL
from typing import IO, Any, Final, Literal, Self
from urllib.error import HTTPError
from urllib.parse import urlsplit

from dagster import ConfigurableResource, EnvVar, get_dagster_logger
from pydantic import Field

Severity = Literal["failure", "warning", "info"]

LOG_LEVELS: Final[dict[Severity, int]] = {
    "failure": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
}
ENVIRONMENT: Final = {
    "ui_url": "VIEWS_UI_URL",
    "webhook_url": "VIEWS_WEBHOOK_URL",
    "smtp_host": "VIEWS_SMTP_HOST",
    "smtp_port": "VIEWS_SMTP_PORT",
    "mail_from": "VIEWS_MAIL_FROM",
    "mail_to": "VIEWS_MAIL_TO",
    "smtp_user": "VIEWS_SMTP_USER",
    "smtp_password": "VIEWS_SMTP_PASSWORD",
}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A message goes to the configured host or nowhere."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


class Notifier(ConfigurableResource["Notifier"]):
    """Sends messages to every channel that is configured; a channel without settings is off, the log never is.

    Attributes:
        ui_url: where people open the UI; messages about a run then link to its page.
        webhook_url: receives a POST of JSON `{text, severity, title, lines, link, run_id}`; `text` is the whole of it,
            which chat systems show. Treated as a secret, because chat systems put one into it.
        smtp_host, smtp_port: the mail server.
        smtp_starttls: encrypt the connection before anything is sent; always done where there is a user to log in.
        smtp_user, smtp_password: log in, where the server asks for it.
        mail_from: the sender's address.
        mail_to: the recipients' addresses, separated by commas.
        timeout_s: seconds that a server may stay silent.
    """

    ui_url: str = ""
    webhook_url: str = Field(default="", repr=False)
    smtp_host: str = ""
    smtp_port: int = 25
    smtp_starttls: bool = False
    smtp_user: str = ""
    smtp_password: str = Field(default="", repr=False)
    mail_from: str = ""
    mail_to: str = ""
    timeout_s: float = Field(default=10.0, gt=0)

    @classmethod
    def from_environment(cls) -> Self:
        """The notifier that the variables in `ENVIRONMENT` describe; one that is unset or empty turns nothing on.

        Values are read when a run starts, so that the UI shows the names of the variables and no secret.
        """
        settings: dict[str, Any] = {
            name: EnvVar.int(variable) if name == "smtp_port" else EnvVar(variable)
            for name, variable in ENVIRONMENT.items()
            if os.environ.get(variable)
        }
        return cls(**settings)

    def notify(
        self,
        severity: Severity,
        title: str,
        lines: Sequence[str] = (),
        *,
        run_id: str | None = None,
    ) -> None:
        """Send one message to every channel. A channel that fails is logged as an error; nothing is raised.

        Args:
            severity: how bad it is; sets the level of the log entry and is named in the message.
            title: one line, the mail's subject.
            lines: the body, a line each.
            run_id: the Dagster run that the message is about.
        """
        log = get_dagster_logger("notifications")
        title = " ".join(title.split())
        heading = f"[{severity}] {title}"
        link = f"{self.ui_url.rstrip('/')}/runs/{run_id}" if self.ui_url and run_id else None
        text = "\n".join([heading, *lines, *([link] if link else [])])
        log.log(LOG_LEVELS[severity], text)
        channels: dict[str, Callable[[], None]] = {}
        if self.webhook_url:
            message = {"severity": severity, "title": title, "lines": list(lines), "link": link, "run_id": run_id}
            channels["webhook"] = lambda: self._post({"text": text, **message})
        if self.smtp_host or self.mail_to:
            channels["e-mail"] = lambda: self._mail(heading, text)
        for channel, send in channels.items():
            try:
                send()
            # ValueError: an address or URL that cannot be written. Its text, and HTTPError's, may quote a secret.
            except (OSError, HTTPException, smtplib.SMTPException, ValueError) as error:
                log.error("notification %r was not sent by %s: %s", title, channel, _described(error))

    def _post(self, message: dict[str, object]) -> None:
        if urlsplit(self.webhook_url).scheme not in ("http", "https"):
            raise _Misconfigured("webhook_url is no http(s) URL")
        # Not httpx: it logs the URLs it asks, and this one is a secret.
        request = urllib.request.Request(
            self.webhook_url, json.dumps(message).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=self.timeout_s):
            pass

    def _mail(self, subject: str, text: str) -> None:
        recipients = [address.strip() for address in self.mail_to.split(",") if address.strip()]
        if not (self.smtp_host and self.mail_from and recipients):
            raise _Misconfigured("it needs smtp_host, mail_from and mail_to")
        mail = EmailMessage()
        mail["Subject"], mail["From"], mail["To"] = subject, self.mail_from, ", ".join(recipients)
        mail["Date"], mail["Message-ID"] = formatdate(), make_msgid(domain="views-dagster")
        mail.set_content(text)
        with smtplib.SMTP(self.smtp_host, self.smtp_port, timeout=self.timeout_s) as server:
            if self.smtp_starttls or self.smtp_user:
                server.starttls(context=ssl.create_default_context())
            if self.smtp_user:
                server.login(self.smtp_user, self.smtp_password)
            refused = server.send_message(mail, to_addrs=recipients)
        if refused:
            raise _Misconfigured(f"the server refused {len(refused)} of {len(recipients)} recipients")


class _Misconfigured(ValueError):
    """A setting that cannot work; its text quotes no setting."""


def _described(error: Exception) -> str:
    """What went wrong in words that hold no setting's value."""
    if isinstance(error, _Misconfigured):
        return str(error)
    if isinstance(error, HTTPError):
        return f"the server answered {error.code}"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"the server answered {error.smtp_code}"
    if isinstance(error, ValueError | InvalidURL) and not isinstance(error, OSError):
        return "a setting is not a valid URL or address"
    reason = getattr(error, "reason", None)
    return type(reason if isinstance(reason, Exception) else error).__name__
