"""What a person should see to."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

# Every type of problem, with what a list of them is called.
PROBLEM_TYPES = {
    "ambiguous-key": _("Ambiguous"),
    "ambiguous-tie": _("Unclear ties"),
    "computed": _("Computed fields"),
    "conflict": _("Disagreements"),
    "delivery": _("Deliveries"),
    "incomplete": _("Gaps"),
    "missing-target": _("Missing targets"),
    "name-taken": _("Names taken"),
    "relation": _("Relations not allowed"),
    "too-many": _("Too many relations"),
    "refused-document": _("Refused documents"),
    "refused-record": _("Refused records"),
    "rule": _("Rules"),
    "shadowed": _("Declared twice"),
    "stale": _("Stale"),
    "sync": _("Connections"),
}


# Where only a person can say which things are one, or whose a thing is: one list to go through.
UNCLEAR = ("ambiguous-key", "ambiguous-tie", "name-taken", "shadowed")


class Severity(models.TextChoices):
    FAIL = "fail", "Error"
    WARN = "warn", "Warning"


class Problem(models.Model):
    """Something wrong: what, where, since when, how to mend it.

    One row for each cause: `fingerprint` names it, and what raises it again finds the row. The subject is held by
    type, uid and label, for the problem outlives it.

    :ivar type: one of `PROBLEM_TYPES`.
    :ivar raised_by: who keeps it up to date (`catalog`, `connection:git-main`); it resolves what it no longer sees.
    :ivar detail: facts for the page: place (file, document, line, path), values, refs.
    """

    fingerprint = models.TextField(unique=True)
    type = models.TextField(help_text="Code, such as missing-target, refused-document, ambiguous-key.")
    severity = models.TextField(choices=Severity.choices)
    raised_by = models.TextField()
    subject_type = models.TextField()
    subject_uid = models.UUIDField(null=True)
    subject_label = models.TextField()
    namespace = models.TextField(blank=True, help_text="The subject's, for permission.")
    cause = models.TextField(help_text="Groups equal problems of many subjects.")
    message = models.TextField()
    remedy = models.TextField(blank=True)
    detail = models.JSONField(default=dict)
    first_seen_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True)
    snoozed_until = models.DateTimeField(null=True)
    snoozed_by = models.TextField(blank=True)

    class Meta:
        indexes = [
            models.Index(
                fields=["type", "first_seen_at"], name="problem_open", condition=models.Q(resolved_at=None)
            ),
            models.Index(fields=["subject_uid"], name="problem_subject"),
            models.Index(fields=["raised_by", "type"], name="problem_raised_by"),
        ]

    def __str__(self) -> str:
        return self.message
