"""The connector for LDAP directories."""
