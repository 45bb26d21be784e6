"""The paths of Backstage's catalog API that read files: locations, refresh, analysis, validation.

See `catalog.api.backstage` for those that read entities.
"""
