"""A mail server for tests: it speaks SMTP on a socket of its own, keeps what it is given, and fails when told to."""

from __future__ import annotations

import email
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.policy import default


class MailServer(socketserver.ThreadingTCPServer):
    """One that listens on loopback.

    :ivar mails: what it took, in order.
    :ivar answers: what it says instead of 250, by the command: `{"RCPT": "550 no such person"}`.
    :ivar hold: while it is clear, the end of a mail is not acknowledged.
    :ivar asked: set when the end of a mail has come.
    """

    allow_reuse_address = daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.mails: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.answers: dict[str, str] = {}
        self.hold = threading.Event()
        self.hold.set()
        self.asked = threading.Event()

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Session(socketserver.StreamRequestHandler):
    server: MailServer

    def _say(self, line: str) -> None:
        self.wfile.write(line.encode() + b"\r\n")

    def handle(self) -> None:
        self._say("220 mail.example")
        recipients: list[str] = []
        while line := self.rfile.readline():
            command = line.split(b" ")[0].strip().upper().decode()
            refusal = self.server.answers.get(command)
            if refusal:
                self._say(refusal)
            elif command == "DATA":
                self._say("354 go on")
                self._take(recipients)
            elif command == "QUIT":
                self._say("221 bye")
                return
            else:
                if command == "RCPT":
                    recipients.append(line.decode().partition(":")[2].strip().strip("<>"))
                self._say("250 mail.example")

    def _take(self, recipients: list[str]) -> None:
        text = b""
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            text += line.removeprefix(b".")
        self.server.asked.set()
        if not self.server.hold.wait(20):
            return
        mail = email.message_from_bytes(text, policy=default)
        assert isinstance(mail, EmailMessage)
        self.server.mails.append(mail)
        self.server.recipients += recipients
        self._say("250 taken")


@contextmanager
def mail_server() -> Iterator[MailServer]:
    """A server for as long as the block lasts."""
    with MailServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.hold.set()
            server.shutdown()
            thread.join()
