import pytest
from django.core.management import CommandError, call_command

from access.models import ApiToken, AuditEvent
from access.permissions import can
from access.services import authenticate_token, find_sign_in_link

pytestmark = pytest.mark.urls("tests.access.urls")


def run(capsys, *arguments):
    call_command(*arguments)
    return capsys.readouterr()


def test_create_token_prints_the_token_alone(ana, capsys):
    printed = run(capsys, "create_token", "--user", "Ana", "--role", "viewer")
    user = authenticate_token(printed.out.removesuffix("\n"))
    assert (user, user.token.role.name) == (ana, "viewer")
    assert (user.token.expires_at - user.token.created_at).days == 90
    assert not can(user, "entity.write")
    assert printed.err == ""
    assert AuditEvent.objects.get(verb="token.create").actor_label == "create_token"


def test_create_token_that_never_expires(vic, capsys):
    user = authenticate_token(
        run(capsys, "create_token", "--user", "vic", "--expires-in", "never").out.strip()
    )
    assert (user.token.expires_at, user.token.role) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--user", "vic", "--role", "administrator"], "allows more than Vic Lind may do"),
        (["--user", "vic", "--role", "emperor"], "administrator, editor, viewer"),
        (["--user", "nobody"], "no account “nobody”"),
        (["--user", "vic", "--expires-in", "soon"], "90d"),
    ],
)
def test_create_token_refuses_in_a_sentence(vic, capsys, arguments, sentence):
    with pytest.raises(CommandError, match=sentence):
        call_command("create_token", *arguments)
    assert capsys.readouterr().out == ""
    assert not ApiToken.objects.exists()


def test_sign_in_link_prints_an_address(vic, capsys, settings):
    settings.PORTICO_URL = "https://portal.acme.example/"
    address = run(capsys, "sign_in_link", "--user", "vic").out.strip()
    assert address.startswith("https://portal.acme.example/sign-in/")
    assert find_sign_in_link(address.rstrip("/").rpartition("/")[2]).user == vic
    with pytest.raises(CommandError, match="no account"):
        call_command("sign_in_link", "--user", "nobody")
