"""`/api/catalog/`: Backstage's catalog API, served by us, for clients that were written for Backstage.

What it says and how it answers follows `@backstage/plugin-catalog-backend` 4.0.5 and its OpenAPI description. Where
that is a plain fault we answer better; `docs/backstage-api.md` lists how.
"""
