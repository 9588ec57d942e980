"""Who may do what with a hub that is served: principals, roles, grants, tokens, and the audit log.

The order of reading: `roles` (verbs and the roles that have them), `grants` (a role on a part of
the hub), `principals` (who has grants), `decision` (what follows from them); `keys` and `tokens`
(how a principal proves who it is); `access` (all of that of one hub); `audit` (what was done and
refused).

Nothing here knows of gRPC. Embedded use is not guarded: the file system does that.
"""

from ehub.access.access import Access, require_key
from ehub.access.administration import Administration
from ehub.access.audit import AuditLog
from ehub.access.audit_check import AuditReport, check, entries
from ehub.access.decision import Decision, Rights
from ehub.access.grants import Grant, Resource
from ehub.access.keys import ApiKey
from ehub.access.principals import Principal
from ehub.access.roles import ROLES, VERBS
from ehub.access.settings import AuthSettings, read_settings
from ehub.access.tokens import JwtVerifier, NotAuthenticated

__all__ = [
    "ROLES",
    "VERBS",
    "Access",
    "Administration",
    "ApiKey",
    "AuditLog",
    "AuditReport",
    "AuthSettings",
    "Decision",
    "Grant",
    "JwtVerifier",
    "NotAuthenticated",
    "Principal",
    "Resource",
    "Rights",
    "check",
    "entries",
    "read_settings",
    "require_key",
]
