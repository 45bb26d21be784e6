"""Generate a catalog of Backstage YAML files: `python tests/perf/generate.py FOLDER COUNT`.

The mix is that of a company of its size: for every hundred entities 62 components, 12 APIs, 10 resources, 5 systems,
1 domain, 3 groups, 7 users. Deterministic: the same count gives the same bytes.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

LANGUAGES = ["java", "go", "python", "typescript", "rust", "kotlin"]
TYPES = ["service", "service", "service", "library", "website"]
LIFECYCLES = ["production", "production", "production", "experimental", "deprecated"]
WORDS = [
    "order",
    "cart",
    "ledger",
    "price",
    "stock",
    "route",
    "label",
    "invoice",
    "refund",
    "user",
    "session",
    "token",
    "audit",
    "mail",
    "search",
    "feed",
]
DOCUMENTS_A_FILE = 50


def documents(count: int, *, seed: int = 7) -> list[str]:
    """The documents of a catalog of `count` entities."""
    rng = random.Random(seed)
    groups = max(count * 3 // 100, 1)
    users = max(count * 7 // 100, 1)
    systems = max(count * 5 // 100, 1)
    domains = max(count // 100, 1)
    apis = count * 12 // 100
    resources = count * 10 // 100
    components = count - groups - users - systems - domains - apis - resources
    found = []
    for n in range(domains):
        found.append(document("Domain", f"domain-{n}", f"  owner: team-{n % groups}\n"))
    for n in range(groups):
        parent = f"  parent: team-{(n - 1) // 4}\n" if n else ""
        found.append(document("Group", f"team-{n}", f"  type: team\n{parent}  children: []\n"))
    for n in range(users):
        found.append(
            document(
                "User",
                f"person-{n}",
                f"  profile:\n    displayName: Person {n}\n    email: person-{n}@acme.example\n"
                f"  memberOf: [team-{rng.randrange(groups)}]\n",
            )
        )
    for n in range(systems):
        found.append(
            document("System", f"system-{n}", f"  owner: team-{n % groups}\n  domain: domain-{n % domains}\n")
        )
    for n in range(apis):
        found.append(
            document(
                "API",
                f"api-{n}",
                f"  type: openapi\n  lifecycle: production\n  owner: team-{rng.randrange(groups)}\n"
                f"  system: system-{rng.randrange(systems)}\n  definition: |\n    openapi: 3.0.0\n"
                f"    info: {{title: API {n}, version: 1.0.0}}\n    paths: {{}}\n",
            )
        )
    for n in range(resources):
        found.append(
            document(
                "Resource",
                f"resource-{n}",
                f"  type: database\n  owner: team-{rng.randrange(groups)}\n  system: system-{rng.randrange(systems)}\n",
            )
        )
    for n in range(components):
        depends = "".join(
            f"    - component:component-{rng.randrange(components)}\n" for _ in range(rng.randrange(1, 4))
        )
        if resources:
            depends += f"    - resource:resource-{rng.randrange(resources)}\n"
        provides = f"  providesApis: [api-{rng.randrange(apis)}]\n" if apis and rng.random() < 0.3 else ""
        found.append(
            document(
                "Component",
                f"component-{n}",
                f"  type: {rng.choice(TYPES)}\n  lifecycle: {rng.choice(LIFECYCLES)}\n"
                f"  owner: team-{rng.randrange(groups)}\n  system: system-{rng.randrange(systems)}\n"
                f"{provides}  dependsOn:\n{depends}",
                description=f"Does the {rng.choice(WORDS)} and the {rng.choice(WORDS)} of part {n}.",
                extra=(
                    f"  title: {rng.choice(WORDS).capitalize()} {rng.choice(WORDS)} {n}\n"
                    f"  tags: [{', '.join(sorted(rng.sample(LANGUAGES, 2)))}]\n"
                    f"  labels: {{tier: '{rng.randrange(4)}'}}\n"
                    f"  annotations:\n    github.com/project-slug: acme/component-{n}\n"
                    f"  links:\n    - {{url: 'https://wiki.acme.example/component-{n}', title: Wiki}}\n"
                ),
            )
        )
    return found


def document(kind: str, name: str, spec: str, *, description: str = "", extra: str = "") -> str:
    """One document.

    :param spec: as YAML, indented; so is `extra`, which stands in the metadata.
    """
    text = f"apiVersion: backstage.io/v1alpha1\nkind: {kind}\nmetadata:\n  name: {name}\n"
    if description:
        text += f"  description: {description}\n"
    return f"{text}{extra}spec:\n{spec}"


def write(folder: Path, count: int, *, seed: int = 7) -> int:
    """Write the catalog as files of some documents each.

    :returns: how many files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = documents(count, seed=seed)
    files = 0
    for start in range(0, len(found), DOCUMENTS_A_FILE):
        (folder / f"part-{files:05}.yaml").write_text("---\n".join(found[start : start + DOCUMENTS_A_FILE]))
        files += 1
    return files


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]))
