"""Django's backend for PostgreSQL, whose shared connections survive a restart of the server."""
