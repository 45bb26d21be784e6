"""The one way to Git repositories: the `git` program, kept from all that a repository could make it do."""

from integrations.git.client import Credentials, GitClient
from integrations.git.clone import Clone, CommitInfo, Committer, TagInfo, TreeFile
from integrations.git.program import GitLimits

__all__ = [
    "Clone",
    "CommitInfo",
    "Committer",
    "Credentials",
    "GitClient",
    "GitLimits",
    "TagInfo",
    "TreeFile",
]
