"""What files say of a repository: its languages, its build files, its owners, what it is for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import Field

from integrations.contract import SELDOM, matches

# Settings of what reads repositories.
Include = Annotated[
    list[str],
    Field(
        max_length=200,
        title="Only these",
        description="Patterns over paths such as acme/pay-*; ** crosses slashes. Empty for all.",
    ),
]
Exclude = Annotated[
    list[str],
    Field(
        max_length=200,
        title="Not these",
        description="Patterns over paths, such as archive/** or */sandbox-*.",
    ),
]
CatalogFiles = Annotated[
    list[str],
    Field(
        max_length=50,
        title="Catalog files",
        description="Patterns over the files of a repository that declare entities. Empty for none.",
        json_schema_extra=SELDOM,
    ),
]
CATALOG_FILES = ["**/catalog-info.{yaml,yml}", ".backstage/*.{yaml,yml}"]
README_LIMIT = 200_000

# By the end of the file's name; texts and data are no languages.
_LANGUAGES = {
    "Ada": "adb ads", "Assembly": "asm s", "Astro": "astro", "C": "c h", "C#": "cs",
    "C++": "cc cpp cxx hh hpp hxx", "Clojure": "clj cljc cljs", "CSS": "css less sass scss",
    "Dart": "dart", "Elixir": "ex exs", "Elm": "elm", "Erlang": "erl hrl", "F#": "fs fsx",
    "Fortran": "f90 f95 for", "Go": "go", "GraphQL": "gql graphql", "Groovy": "gradle groovy",
    "Haskell": "hs", "HCL": "hcl tf", "HTML": "htm html", "Java": "java", "JavaScript": "cjs js jsx mjs",
    "Julia": "jl", "Kotlin": "kt kts", "Lua": "lua", "MATLAB": "m", "Nix": "nix", "Objective-C": "mm",
    "OCaml": "ml mli", "Perl": "pl pm", "PHP": "php", "PL/SQL": "plsql", "PowerShell": "ps1",
    "Protocol Buffer": "proto", "Puppet": "pp", "Python": "py pyi", "R": "r", "Ruby": "rb rake",
    "Rust": "rs", "Scala": "sbt scala", "Shell": "bash sh zsh", "SQL": "sql", "Svelte": "svelte",
    "Swift": "swift", "TypeScript": "cts mts ts tsx", "Visual Basic": "vb", "Vue": "vue", "Zig": "zig",
}  # fmt: skip
LANGUAGES = {end: language for language, ends in _LANGUAGES.items() for end in ends.split()}
_NAMED = {
    "Containerfile": "Dockerfile",
    "Dockerfile": "Dockerfile",
    "Jenkinsfile": "Groovy",
    "Makefile": "Makefile",
}
# What somebody else wrote, or a program.
_FOREIGN = re.compile(
    r"(^|/)(node_modules|bower_components|vendor|third[-_]party|site-packages|\.?venv|dist|build|target|generated|"
    r"__pycache__|\.git|\.next|\.yarn|Pods)/"
    r"|(\.min\.(js|css)|_pb2(_grpc)?\.pyi?|\.pb\.go|\.generated\.\w+|\.g\.dart|\.designer\.cs)$",
    re.IGNORECASE,
)
BUILD_FILES = {
    "BUILD", "BUILD.bazel", "build.gradle", "build.gradle.kts", "build.sbt", "build.xml", "Cargo.toml",
    "CMakeLists.txt", "composer.json", "Containerfile", "deno.json", "Dockerfile", "Gemfile", "go.mod",
    "Makefile", "meson.build", "mix.exs", "MODULE.bazel", "package.json", "Package.swift", "Pipfile",
    "pom.xml", "pubspec.yaml", "pyproject.toml", "setup.cfg", "setup.py", "shard.yml", "stack.yaml",
}  # fmt: skip
_BUILD_ENDS = (".csproj", ".fsproj", ".vbproj", ".sln", ".cabal", ".gemspec")
CODEOWNERS = (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS")
CODEOWNERS_OF_GITLAB = ".gitlab/CODEOWNERS"
_README = re.compile(
    r"(?:(?:\.github|docs)/)?readme(?:\.(?:md|markdown|mdown|rst|adoc|asciidoc|org|txt))?", re.IGNORECASE
)
_EVERYTHING = {"*", "**", "/**", "**/*", "/**/*"}
_SECTION = re.compile(r"(\^?)\[[^\]]+\](?:\[\d+\])?(?=\s|$)")
# A role of GitLab's, such as `@@maintainers`, is neither person nor team; a word without @ is a mistake.
_OWNER = re.compile(r"@[^@\s]+|[^@\s]+@[^@\s]+")


def is_foreign(path: str) -> bool:
    """Whether a path is that of vendored or generated files."""
    return _FOREIGN.search(path) is not None


def catalog_files_of(paths: Iterable[str], patterns: list[str]) -> list[str]:
    """The files that may declare entities."""
    return [path for path in paths if matches(path, patterns) and not is_foreign(path)]


async def facts_of(
    sizes: Mapping[str, int], read: Callable[[set[str]], Awaitable[Mapping[str, bytes]]], *, readme: bool
) -> dict[str, Any]:
    """What the files of a repository say of it, as fields of its record.

    :param sizes: of all plain files, by path.
    :param read: gives those of some files that are there.
    :param readme: whether its text is read too.
    """
    readme_path = readme_of(sizes)
    codeowners = next((path for path in CODEOWNERS if path in sizes), "")
    wanted = {codeowners, readme_path if readme else ""} - {""}
    found = await read(wanted) if wanted else {}
    texts = {path: text.decode("utf-8", "replace") for path, text in found.items()}
    owners, line = owners_of(texts.get(codeowners, ""))
    return {
        "languages": languages_of(sizes),
        "build_files": build_files_of(sizes, limit=500),
        "readme": texts.get(readme_path, "").replace("\0", "")[:README_LIMIT],
        "readme_path": readme_path,
        "owners": owners,
        "owners_from": f"{codeowners}:{line}" if owners else "",
    }


def languages_of(sizes: Mapping[str, int]) -> dict[str, int]:
    """Bytes by language, most first.

    :param sizes: of all files, by path; a negative one is not known.
    """
    found: Counter[str] = Counter()
    for path, size in sizes.items():
        name = PurePosixPath(path)
        language = LANGUAGES.get(name.suffix[1:].lower()) or _NAMED.get(name.name)
        if language and size > 0 and not is_foreign(path):
            found[language] += size
    return dict(found.most_common())


def build_files_of(paths: Iterable[str], *, limit: int) -> list[str]:
    """The manifests of what is built, the topmost first."""
    named = [path for path in paths if _is_build_file(path.rpartition("/")[2])]
    found = [path for path in named if not is_foreign(path)]
    return sorted(found, key=lambda path: (path.count("/"), path))[:limit]


def _is_build_file(name: str) -> bool:
    return name in BUILD_FILES or name.endswith(_BUILD_ENDS)


def readme_of(paths: Iterable[str]) -> str:
    """The path of the README: the topmost, a Markdown one before others; empty if there is none."""
    found = [path for path in paths if _README.fullmatch(path)]
    return min(found, key=lambda path: (path.count("/"), not path.lower().endswith(".md"), path), default="")


def owners_of(codeowners: str) -> tuple[list[str], int]:
    """The owners of the whole repository and the line that names them: the last rule that matches everything.

    Sections with owners of their own, as GitLab has them, are understood; one whose approval is optional counts
    only where no other rule does. No such rule: ([], 0).
    """
    found: dict[bool, tuple[list[str], int]] = {}
    of_section: list[str] = []
    is_optional = False
    for number, line in enumerate(codeowners.removeprefix("\ufeff").splitlines(), start=1):
        text = re.sub(r"(^|\s)#.*", "", line).strip()
        if section := _SECTION.match(text):
            of_section, is_optional = text[section.end() :].split(), bool(section[1])
            continue
        pattern, *named = text.split() or [""]
        if pattern in _EVERYTHING:
            owners = [name for name in named or of_section if _OWNER.fullmatch(name)]
            found[is_optional] = owners, number
    return found.get(False) or found.get(True) or ([], 0)


def summary_of(readme: str, *, limit: int = 300) -> str:
    """The first paragraph of a README as plain text; empty if it begins with something else than prose."""
    text = re.sub(r"<!--.*?-->", "", readme[:20_000], flags=re.DOTALL)
    for paragraph in re.split(r"\n\s*\n", text):
        lines = paragraph.strip().splitlines()
        if len(lines) > 1 and re.fullmatch(r"[=\-~^]{3,}\s*", lines[1]):
            lines = lines[2:]  # a heading, underlined
        plain = " ".join(line.strip() for line in lines if not line.startswith("#"))
        plain = re.sub(r"!\[[^\]]*\](\([^)]*\)|\[[^\]]*\])", "", plain)  # pictures
        plain = re.sub(r"\[([^\]]+)\](\([^)]*\)|\[[^\]]*\])?", r"\1", plain)  # links
        plain = " ".join(re.sub(r"[*_`]+|<[^>]+>", "", plain).split())
        if plain and re.match(r"[^\W_]", plain):
            return plain if len(plain) <= limit else plain[:limit].rpartition(" ")[0] + "…"
    return ""
