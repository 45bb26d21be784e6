"""State and invariants of the catalog: what exists, what was said of it, and what happened."""

from catalog.models.activity import Activity, AsideActivity, Transition
from catalog.models.bulk import BulkChange
from catalog.models.claims import (
    AsideClaim,
    Audience,
    Claim,
    ClaimMode,
    EntityKey,
    FormerKey,
    Rank,
    RedirectedClaim,
    Source,
    SourceType,
)
from catalog.models.entities import (
    Alias,
    ComputedValues,
    DirtyEntity,
    Entity,
    Redirect,
    Relation,
    Served,
    Tie,
    TieState,
)
from catalog.models.history import FeedItem, News, Revision
from catalog.models.kinds import Kind, KindChange, KindField, RelationType
from catalog.models.passages import Passage, PassageSort
from catalog.models.problems import PROBLEM_TYPES, UNCLEAR, Problem, Severity
from catalog.models.read import PassagesRead
from catalog.models.touched import Touched

__all__ = [
    "PROBLEM_TYPES",
    "UNCLEAR",
    "Activity",
    "Alias",
    "AsideActivity",
    "AsideClaim",
    "Audience",
    "BulkChange",
    "Claim",
    "ClaimMode",
    "ComputedValues",
    "DirtyEntity",
    "Entity",
    "EntityKey",
    "FeedItem",
    "FormerKey",
    "Kind",
    "KindChange",
    "KindField",
    "News",
    "Passage",
    "PassageSort",
    "PassagesRead",
    "Problem",
    "Rank",
    "Redirect",
    "RedirectedClaim",
    "Relation",
    "RelationType",
    "Revision",
    "Served",
    "Severity",
    "Source",
    "SourceType",
    "Tie",
    "TieState",
    "Touched",
    "Transition",
]
