"""The settings of a connection to GitHub, and the parameters of what can be done there."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr, model_validator

from integrations.connectors.github.app import read_key
from integrations.contract import SELDOM, ConnectionConfig, Days, Token, WebhookSecret
from integrations.contract import gettext as _
from integrations.repository_files import CATALOG_FILES, CatalogFiles, Exclude, Include


class Config(ConnectionConfig):
    """Where GitHub is, how to sign in, and what to read."""

    base_url: HttpUrl = Field(
        HttpUrl("https://api.github.com"),
        title="Address of the API",
        description="https://api.github.com, or of an Enterprise Server, such as https://ghe.acme.example/api/v3.",
    )
    token: Token = Field(
        None, description="A personal access token, fine-grained or classic. Empty with an App."
    )
    app_id: str = Field(
        "", max_length=50, title="App", description="App ID or client ID of a GitHub App, instead of a token."
    )
    private_key: SecretStr | None = Field(
        None, title="Private key", description="The whole text of the App's .pem file."
    )
    installation: int | None = Field(
        None,
        ge=1,
        title="Installation",
        description="The number at the end of the address of the installation's page.",
    )
    owners: list[str] = Field(
        [],
        max_length=50,
        title="Organisations and users",
        description="Whose repositories are read, such as acme. Empty for all that the token or the App reaches.",
    )
    include: Include = []
    exclude: Exclude = []
    topics: list[str] = Field(
        [], max_length=50, title="Topics", description="Only repositories with one of these. Empty for all."
    )
    archived: bool = Field(
        False, title="Archived ones too", description="Also read archived ones.", json_schema_extra=SELDOM
    )
    forks: bool = Field(False, title="Forks too", description="Also read forks.", json_schema_extra=SELDOM)
    people: bool = Field(
        True,
        title="Teams and members",
        description="Read the organisations' teams and members; needs read:org, or Members: read.",
        json_schema_extra=SELDOM,
    )
    catalog_files: CatalogFiles = CATALOG_FILES
    days: Days = 14
    webhook_secret: WebhookSecret = None

    @model_validator(mode="after")
    def _has_one_way_in(self) -> Self:
        of_app = [self.app_id, self.private_key, self.installation]
        if self.token and any(of_app):
            raise ValueError(_("Give a token or an App, not both."))
        if not self.token and not all(of_app):
            raise ValueError(_("Give a token, or an App with its private key and installation."))
        if self.private_key:
            read_key(self.private_key.get_secret_value())
        return self


class DispatchParams(BaseModel):
    """What to run."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    ref: str = Field("", max_length=500, description="Branch or tag. Leave empty for the default branch.")
    inputs: dict[str, str] = Field(
        default_factory=dict, max_length=25, description="The workflow's inputs by their names."
    )
