"""The one query language: lists, API, widgets and permission scopes use it. See docs/query-language.md."""
