"""Identity keys: what makes records of several tools one thing.

A key is `scheme:value`. Schemes:

=================  =====================================================================
`repo:`            `<host>/<path>` of a repository; in an `about` key also `#folder/inside`
`image:`           `<registry>/<name>` of a container image, without tag
`image-digest:`    `sha256:...` of one image
`npm:`, `pypi:`    name of a package
`pipeline:`        `<host>/<id>` of what runs
`commit:`          a full commit id
`env:`             an environment
`team:`            `<host>/<organisation>/<team>`
`user:`            an e-mail address
`kubernetes:`      `<scope>:<label>=<value>` by which a catalog file names workloads; of `about` only
`component:`       what a connection's rule inferred a component from: a `repo:` value with its folder
`ref:`             of activity's `about` only: an entity by its ref, where a setting says that a label names one
=================  =====================================================================

Values are normalised here, once: every spelling of an address gives one key. What is plainly no address (a
placeholder, a host without a path) gives none, for such a key would tie everything to everything.
"""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

MAX_LENGTH = 1000
_SCP = re.compile(r"^(?:[\w.+-]+@)?([\w.-]+):(?!/|\d+/)(.+)$")
_PLACEHOLDER = re.compile(
    r"\$\{|\{\{|<%|%7B%7B|<[^>]+>|\b(?:example|your)[-_]?(?:org|repo|project|company)\b", re.I
)
# Hosts that answer under a second name too, for SSH where its own port is closed.
_SAME_HOST = {
    "www.github.com": "github.com",
    "ssh.github.com": "github.com",
    "altssh.gitlab.com": "gitlab.com",
    "altssh.bitbucket.org": "bitbucket.org",
}
_NOT_A_HOST = {"localhost", "unknown", "none", "null", "undefined", "n/a", "todo", "tbd"}
# Between repository and folder in a web address, on the hosts people use.
_IN_REPOSITORY = re.compile(r"/(?:-/)?(?:tree|blob|src|raw|edit|blame|commits?)(?:/branch|/tag|/commit)?/")
_SHA = re.compile(r"^[0-9a-f]{40}(?:[0-9a-f]{24})?$")
_DOCKER_HUB = {"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}


def split_folder(key: str) -> tuple[str, str]:
    """Cut `repo:host/path#folder` into key and folder."""
    base, _, folder = key.partition("#")
    return base, folder.strip("/")


def repo_key(address: str) -> str | None:
    """The key of the repository at a web or clone address, with `#folder` when the address names one.

    :param address: `https://host/org/repo`, `git@host:org/repo.git`, `ssh://`, `git+https://`, a tree address,
        or `url:`-prefixed as Backstage's annotations are.
    :returns: None for what names no repository.
    """
    text = (
        address.strip()
        .removeprefix("url:")
        .removeprefix("git+")
        .removeprefix("scm:git:")
        .removeprefix("scm:")
    )
    if not text or len(text) > MAX_LENGTH or _PLACEHOLDER.search(text):
        return None
    if "://" in text:
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            return None
        if parts.scheme == "file":
            return _local_key(parts.path)
        if parts.scheme not in {"http", "https", "ssh", "git"}:
            return None
        host = (parts.hostname or "").lower()
        if port and port not in {22, 80, 443, 9418}:
            host = f"{host}:{port}"
        path = unquote(parts.path)
    elif match := _SCP.match(text):
        host, path = match[1].lower(), match[2]
    elif re.match(r"^[\w-]+(\.[\w-]+)+(:\d+)?/", text):
        host, _, path = text.partition("/")
        host = host.lower()
    elif text.startswith("/"):
        return _local_key(text)
    else:
        return None
    host = _SAME_HOST.get(host, host)
    folder = ""
    if inside := _IN_REPOSITORY.search(path + "/"):
        rest = path[inside.end() :].strip("/")
        path = path[: inside.start()]
        folder = "/".join(rest.split("/")[1:])  # the first part is the branch
    path = re.sub(r"\.git$", "", path.strip("/"))
    path = re.sub(r"/+", "/", path).lower()
    if not path or not _is_host(host) or ".." in path.split("/"):
        return None
    if _needs_two_parts(host) and "/" not in path:
        return None
    if _needs_two_parts(host):
        path = "/".join(path.split("/")[:2])
    key = f"repo:{host}/{path}"
    return f"{key}#{folder}" if folder else key


def _needs_two_parts(host: str) -> bool:
    """Hosts whose repositories always are organisation and name, so that more of a path is a page of theirs."""
    return host in {"github.com", "bitbucket.org", "codeberg.org"} or host.startswith(("github.", "ghe."))


def _is_host(host: str) -> bool:
    name = host.split(":")[0]
    return bool(name) and name not in _NOT_A_HOST and ("." in name or ":" in host)


def _local_key(path: str) -> str | None:
    path = re.sub(r"/+", "/", path).rstrip("/")
    path = re.sub(r"(/\.git|\.git)$", "", path)
    return f"repo:file{path}" if path else None


def image_key(reference: str) -> str | None:
    """The key of a container image: registry and name, without tag and digest."""
    text = re.sub(r"^(?:docker|docker-pullable|oci)://", "", reference.strip().lower())
    text = text.split("@")[0]
    if not text or len(text) > MAX_LENGTH or _PLACEHOLDER.search(text) or " " in text:
        return None
    first, slash, rest = text.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry, name = first, rest
    else:
        registry, name = "docker.io", text if slash else f"library/{text}"
    registry = registry.removesuffix(":443")
    if registry in _DOCKER_HUB:
        registry = "docker.io"
        name = name if "/" in name else f"library/{name}"
    name = re.sub(r":[^/]*$", "", name).strip("/")
    return f"image:{registry}/{name}" if name else None


def digest_key(digest: str) -> str | None:
    """The key of one image by its digest."""
    text = digest.strip().lower().rpartition("@")[2]
    return f"image-digest:{text}" if re.fullmatch(r"sha(?:256|512):[0-9a-f]{64,128}", text) else None


def commit_key(sha: str) -> str | None:
    """The key of a commit; only a full id is one."""
    text = sha.strip().lower()
    return f"commit:{text}" if _SHA.match(text) and set(text) != {"0"} else None


def npm_key(name: str) -> str | None:
    """The key of an npm package."""
    text = name.strip().lower()
    return f"npm:{text}" if re.fullmatch(r"(?:@[\w.~-]+/)?[\w.~-]+", text) else None


def pypi_key(name: str) -> str | None:
    """The key of a Python package, as PEP 503 normalises its name."""
    text = re.sub(r"[-_.]+", "-", name.strip().lower())
    return f"pypi:{text}" if re.fullmatch(r"[a-z0-9][a-z0-9-]*", text) else None


def user_key(email: str) -> str | None:
    """The key of a person."""
    text = email.strip().lower()
    return f"user:{text}" if re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", text) else None


def selectors_of_document(document: dict) -> list[str]:
    """The key of the workloads that a Backstage document's annotations name, as Backstage's own plugin reads them.

    A selector of several labels is none that a key could hold.
    """
    annotations = (document.get("metadata") or {}).get("annotations") or {}
    if not isinstance(annotations, dict):
        return []
    said = {
        name: value.strip()
        for name in ("id", "label-selector", "namespace", "cluster")
        if isinstance(value := annotations.get(f"backstage.io/kubernetes-{name}"), str)
    }
    selector = re.fullmatch(r"([\w./-]+)\s*==?\s*([\w.-]+)", said.get("label-selector", ""))
    if selector:
        chosen = f"{selector[1]}={selector[2]}"
    elif said.get("id") and not said.get("label-selector"):
        chosen = f"backstage.io/kubernetes-id={said['id']}"
    else:
        return []
    return [selector_key(chosen, namespace=said.get("namespace", ""), cluster=said.get("cluster", ""))]


def selector_key(chosen: str, *, namespace: str = "", cluster: str = "") -> str:
    """The key of what bears a label, `label=value`, everywhere or within a namespace, a cluster, or both."""
    return f"kubernetes:{cluster}/{namespace}:{chosen}"


def normalise(key: str) -> str | None:
    """A key in its one spelling; None when it names nothing, or is longer than an index can hold."""
    found = _normalise(key)
    return found if found and len(found.encode()) <= 2 * MAX_LENGTH else None


def _normalise(key: str) -> str | None:
    scheme, _, value = key.partition(":")
    match scheme:
        case "repo":
            base, folder = split_folder(value)
            if base.startswith("file/"):
                found = _local_key(base[4:])
            else:
                found = repo_key(base if "://" in base or _SCP.match(base) else f"https://{base}")
            if found and folder and "#" not in found:
                found = f"{found}#{folder}"
            return found
        case "image":
            return image_key(value)
        case "image-digest":
            return digest_key(value)
        case "commit":
            return commit_key(value)
        case "npm":
            return npm_key(value)
        case "pypi":
            return pypi_key(value)
        case "user":
            return user_key(value)
        case "component":
            inner = normalise(f"repo:{value}")
            return f"component:{inner.removeprefix('repo:')}" if inner else None
        case _:
            value = value.strip()
            if (
                not value
                or len(value) > MAX_LENGTH
                or value.lower() in _NOT_A_HOST
                or _PLACEHOLDER.search(value)
            ):
                return None
            return f"{scheme}:{value.lower()}"


def keys_of_document(document: dict) -> list[str]:
    """The `about` keys that a Backstage document's own annotations and links give.

    Sources: the well-known annotations of Backstage (`backstage.io/source-location`, `github.com/project-slug`,
    `gitlab.com/project-slug`, `bitbucket.org/project-slug`).
    """
    annotations = (document.get("metadata") or {}).get("annotations") or {}
    if not isinstance(annotations, dict):
        return []
    found = []
    location = annotations.get("backstage.io/source-location")
    if isinstance(location, str) and (key := repo_key(location)):
        found.append(key)
    for host in ("github.com", "gitlab.com", "bitbucket.org"):
        slug = annotations.get(f"{host}/project-slug")
        if isinstance(slug, str) and (key := repo_key(f"https://{host}/{slug}")):
            found.append(key)
    # A location says more than a slug: with a folder it stands for the same repository.
    bases = {split_folder(key)[0] for key in found if "#" in key}
    return [key for key in dict.fromkeys(found) if "#" in key or key not in bases]
