"""A real slapd with a small company in it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ldap3

from tests.integrations.conftest import make_certificate
from tests.integrations.servers import free_port, program, run

BASE = "dc=acme,dc=example"
READER, PASSWORD = f"cn=reader,{BASE}", "read me if you can"
CONFIG = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {folder}/slapd.pid
sizelimit {limit}
TLSCertificateFile {folder}/cert.pem
TLSCertificateKeyFile {folder}/key.pem
database mdb
suffix "{base}"
rootdn "cn=root,{base}"
rootpw root
directory {folder}/data
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{reader}" read by dn.exact="cn=weak,{base}" auth by anonymous auth by * none
"""
SEED = """\
dn: dc=acme,dc=example
objectClass: dcObject
objectClass: organization
o: Acme
dc: acme

dn: cn=reader,dc=acme,dc=example
objectClass: simpleSecurityObject
objectClass: organizationalRole
userPassword: read me if you can

dn: cn=weak,dc=acme,dc=example
objectClass: simpleSecurityObject
objectClass: organizationalRole
userPassword: weak

dn: ou=People,dc=acme,dc=example
objectClass: organizationalUnit

dn: ou=Groups,dc=acme,dc=example
objectClass: organizationalUnit

dn: cn=Ana Ruiz,ou=People,dc=acme,dc=example
objectClass: inetOrgPerson
cn: Ana Ruiz
sn: Ruiz
uid: Ana.Ruiz
mail: ana@acme.example
title: Engineer
jpegPhoto:: /9j/4AAQ

dn: uid=ben,ou=People,dc=acme,dc=example
objectClass: inetOrgPerson
cn: Ben Okafor
sn: Okafor
displayName: Ben O.
uid: ben

dn: cn=Platform Team,ou=Groups,dc=acme,dc=example
objectClass: groupOfNames
cn: Platform Team
description: Runs what others stand on.
member: cn=ana ruiz, ou=people, DC=acme,dc=example
member: cn=payments,ou=Groups,dc=acme,dc=example
member: cn=gone,ou=People,dc=acme,dc=example

dn: cn=payments,ou=Groups,dc=acme,dc=example
objectClass: groupOfUniqueNames
cn: payments
uniqueMember: uid=ben,ou=People,dc=acme,dc=example

dn: cn=unix,ou=Groups,dc=acme,dc=example
objectClass: posixGroup
cn: unix
gidNumber: 100
memberUid: ben
"""


@dataclass(frozen=True)
class Slapd:
    """A running directory.

    :ivar certificate: that it shows, in PEM.
    """

    url: str
    tls_url: str
    certificate: str

    def change(self, do: Callable[[ldap3.Connection], object]) -> None:
        """Change it as its root."""
        link = ldap3.Connection(self.url, f"cn=root,{BASE}", "root", auto_bind=True, raise_exceptions=True)
        try:
            do(link)
        finally:
            link.unbind()


@contextmanager
def run_slapd(folder: Path, slapd: str, *, limit: str = "unlimited", people: int = 0) -> Iterator[Slapd]:
    """Run one, with so many more people than the two."""
    (folder / "data").mkdir()
    make_certificate("127.0.0.1", folder / "key.pem", folder / "cert.pem")
    more = "".join(
        f"\ndn: uid=p{n},ou=People,{BASE}\nobjectClass: inetOrgPerson\ncn: P {n}\nsn: {n}\nuid: p{n}\n"
        for n in range(people)
    )
    (folder / "seed.ldif").write_text(SEED + more)
    config = folder / "slapd.conf"
    config.write_text(CONFIG.format(folder=folder, base=BASE, reader=READER, limit=limit))
    run([slapd, "-T", "add", "-f", config, "-l", folder / "seed.ldif"])
    plain, tls = free_port(), free_port()
    urls = f"ldap://127.0.0.1:{plain}", f"ldaps://127.0.0.1:{tls}"
    with program(
        [slapd, "-f", config, "-h", " ".join(urls), "-d", "0"], folder=folder, ready=lambda: _listens(tls)
    ):
        yield Slapd(*urls, (folder / "cert.pem").read_text())


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
